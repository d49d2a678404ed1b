"""Checkpoints: whole ones come back whole, and whatever else a file may be is told in one paragraph."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from art_mtl.data.paper import PAPER_DATA
from art_mtl.models import (
    MTAN,
    NETWORKS,
    Split,
    load_network,
    load_weights,
    network_from_state_dict,
    read_state_dict,
    save_weights,
)
from art_mtl.models.paper import _DATA

NYUV2 = {"segmentation": 13, "depth": 1, "normals": 3}
CITYSCAPES = {"segmentation": 19, "parts": 10, "disparity": 1}
LINEAR = {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.tensor([3.0])}


def numbered(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every tensor is one number of its own; they take no memory, and no space in a file of torch.save."""
    scale = 1 / 1024  # exact in half precision
    return {
        key: torch.tensor(i, dtype=torch.int64) if not shape else torch.tensor(i * scale, dtype=dtype).expand(shape)
        for i, (key, shape) in enumerate(shapes.items())
    }


def blank(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


def assert_same(net: nn.Module, state: dict[str, Tensor]) -> None:
    found = net.state_dict()
    assert set(found) == set(state)
    for key, tensor in state.items():
        assert torch.equal(found[key], tensor.to(found[key].dtype)), key


@pytest.mark.parametrize(("kind", "heads"), [("mtan", NYUV2), ("split", CITYSCAPES)])
def test_auto_lambdas_checkpoints_load(tmp_path, layout, kind, heads) -> None:
    state = numbered(layout(kind, tuple(heads.values())))
    torch.save(OrderedDict(state), tmp_path / "model.pth")
    net = load_network(tmp_path / "model.pth", heads)
    assert type(net) is NETWORKS[kind] and net.heads == heads
    assert not any(module.training for module in net.modules())
    assert all(p.requires_grad and p.dtype == torch.float32 and not p.is_meta for p in net.parameters())
    assert_same(net, state)


def test_networks_go_through_safetensors_and_come_back(tmp_path, layout) -> None:
    path, heads = tmp_path / "split.safetensors", {"depth": 1}
    state = numbered(layout("split", (1,)), torch.bfloat16)
    half = network_from_state_dict(state, heads).to(torch.bfloat16)
    save_weights(half, path, {"data": "nyuv2"})
    again = load_network(path, heads)
    assert type(again) is Split
    assert_same(again, half.state_dict())
    assert load_weights(half, path) == {"data": "nyuv2"}
    path.unlink()


def test_loading_copies_and_draws_no_random_numbers(layout) -> None:
    state = {key: tensor.clone() for key, tensor in numbered(layout("split", (1,))).items()}
    torch.manual_seed(3)
    before = torch.get_rng_state()
    net = network_from_state_dict(state, {"depth": 1})
    assert torch.equal(torch.get_rng_state(), before)
    assert net.shared_conv[0].weight.data_ptr() != state["shared_conv.0.weight"].data_ptr()


def test_known_channels_are_those_of_the_papers_data() -> None:
    assert {tuple(data.heads.values()): data.title for data in PAPER_DATA.values()} == _DATA


@pytest.mark.parametrize("kind", ["mtan", "split"])
def test_a_checkpoint_of_the_other_data_is_told(layout, kind) -> None:
    expected = (
        r"city\.pth: expected heads of channels 13, 1, 3, as for NYUv2 \(segmentation, depth, normals\)\. "
        r"Found 19, 10, 1, as for Cityscapes: choose"
    )
    with pytest.raises(ValueError, match=expected):
        network_from_state_dict(blank(layout(kind, (19, 10, 1))), NYUV2, "city.pth")
    with pytest.raises(ValueError, match=r"channels 13 \(segmentation\)\. Found 13, 1:"):
        network_from_state_dict(blank(layout(kind, (13, 1))), {"segmentation": 13})


def test_missing_and_unexpected_keys_are_listed_and_counted(layout) -> None:
    state = blank(layout("mtan", (1,)))
    gone = [key for key in state if key.startswith("encoder_block_att_2.")]
    for key in gone:
        del state[key]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(3)}
    state["decoders.0.1.weight"] = torch.zeros(256, 256, 1, 1)
    with pytest.raises(ValueError) as caught:
        network_from_state_dict(state, {"depth": 1}, "x.pth")
    message = str(caught.value)
    assert message.startswith("x.pth: expected the weights of MTAN. Found missing encoder_block_att_2.conv1.weight, ")
    listed = re.search(
        r"missing (.*) and (\d+) more \((\d+) in all\); unexpected extra\.0, extra\.1, extra\.2;", message
    )
    assert listed is not None
    assert (len(listed[1].split(", ")), int(listed[2]), int(listed[3])) == (8, len(gone) - 8, len(gone))
    assert "decoders.0.1.weight of shape (256, 256, 1, 1) where (256, 256, 3, 3) was expected" in message
    assert "\n" not in message


def test_missing_decoders_are_missing_keys(layout) -> None:
    state = blank(layout("split", (13, 1, 3)))
    for key in ("decoders.1.4.weight", "decoders.1.4.bias"):
        del state[key]
    with pytest.raises(ValueError, match=r"of Split\. Found missing decoders\.1\.4\.weight, decoders\.1\.4\.bias\.$"):
        network_from_state_dict(state, NYUV2)
    rest = {key: tensor for key, tensor in state.items() if not key.startswith("decoders.")}
    with pytest.raises(ValueError, match=r"missing decoders\.0\.0\.convs\.0\.0\.weight.* \(132 in all\)\.$"):
        network_from_state_dict(rest, NYUV2)


def test_other_networks_are_told() -> None:
    with pytest.raises(
        ValueError, match=r"net\.pth: expected the weights of MTAN.* or of Split.*Found 2 keys, such as w"
    ):
        network_from_state_dict(LINEAR, NYUV2, "net.pth")
    with pytest.raises(ValueError, match="Found 0 keys, such as none"):
        network_from_state_dict({}, NYUV2)


@pytest.mark.parametrize("wrap", ["model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_wrapped_and_prefixed_state_dicts_are_unwrapped(tmp_path, wrap, prefix) -> None:
    state = {prefix + key: tensor for key, tensor in LINEAR.items()}
    torch.save({wrap: state, "epoch": 7, "optimizer": {"lr": 0.1}}, tmp_path / "net.pth")
    found = read_state_dict(tmp_path / "net.pth")
    assert list(found) == list(LINEAR)
    assert all(torch.equal(found[key], LINEAR[key]) for key in LINEAR)


def test_a_prefix_that_only_some_keys_have_stays(tmp_path) -> None:
    torch.save({"module.weight": torch.zeros(1), "bias": torch.zeros(1)}, tmp_path / "net.pth")
    assert list(read_state_dict(tmp_path / "net.pth")) == ["module.weight", "bias"]


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net"])
def test_the_content_tells_the_format(tmp_path, name) -> None:
    """Whatever the file is called; among the headers is one whose length ends in 0x80, as old torch files begin."""
    path = tmp_path / name
    torch.save(LINEAR, path)
    assert torch.equal(read_state_dict(path)["weight"], LINEAR["weight"])
    torch.save(LINEAR, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_state_dict(path)["weight"], LINEAR["weight"])
    firsts = set()
    for length in range(0, 256, 8):
        save_file(LINEAR, path, metadata={"note": "x" * length})
        firsts.add(path.read_bytes()[0])
        assert torch.equal(read_state_dict(path)["weight"], LINEAR["weight"])
    assert 0x80 in firsts


class Trap:
    """Code that reading would run."""

    def __reduce__(self):
        return (os.mkdir, ("trapped",))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(tmp_path, monkeypatch, zipped) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "trap": Trap()}, "trap.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"trap\.pth: expected tensors alone\. Found \w+\.mkdir, code that reading"):
        read_state_dict("trap.pth")
    assert not Path("trapped").exists()
    torch.save(nn.Linear(2, 1), "whole.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"Found torch\.nn\.modules\.linear\.Linear, code.*model\.state_dict\(\)"):
        read_state_dict("whole.pth")


@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_truncated_files_are_told_wherever_they_end(tmp_path, form) -> None:
    path = tmp_path / f"net.{form}"
    state = {f"layer{i}.weight": torch.randn(3, 4) for i in range(4)}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for end in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:end])
        # An old file cut amid the name of a function looks as if it held another function.
        with pytest.raises(ValueError, match=rf"net\.{form}: expected .*(again\.$|tensors alone)") as caught:
            read_state_dict(path)
        assert form == "old" or "alone" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "begins with b'<!DOCTYPE html><'"),
        (b"version https://", "ver"),
    ],
    ids=["empty", "page", "pointer"],
)
def test_foreign_files_are_told(tmp_path, content, found) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"net\.pth: expected weights.*Found .*{re.escape(found)}"):
        read_state_dict(tmp_path / "net.pth")
    with pytest.raises(FileNotFoundError, match=r"absent\.pth: expected weights. Found no such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="expected weights. Found a folder"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([torch.zeros(1)], "expected a state dict. Found a list"),
        (torch.zeros(1), "expected a state dict. Found a Tensor"),
        ({}, "Found an empty one"),
        ({"model": {}}, "Found an empty one"),
        ({"epoch": 3, "weight": torch.zeros(1)}, "Found 'epoch' (int)"),
    ],
    ids=["list", "tensor", "empty", "empty model", "number"],
)
def test_files_of_something_else_are_told(tmp_path, content, found) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net\.pth: .*{re.escape(found)}"):
        read_state_dict(tmp_path / "net.pth")


def test_a_network_that_does_not_fit_stays_as_it_was(tmp_path) -> None:
    net = nn.Linear(2, 1)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    save_weights(nn.Linear(2, 1, bias=False), tmp_path / "other.safetensors", {})
    with pytest.raises(ValueError, match=r"of Linear\. Found missing bias\.$"):
        load_weights(net, tmp_path / "other.safetensors")
    assert all(torch.equal(net.state_dict()[key], tensor) for key, tensor in before.items())


def test_a_network_of_the_checkpoint_runs(layout) -> None:
    net = network_from_state_dict(numbered(layout("mtan", (2,))), {"segmentation": 2})
    assert isinstance(net, MTAN)
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 16, 16))["segmentation"].shape == (1, 2, 16, 16)
