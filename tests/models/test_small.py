"""The small networks: their outputs keep their promises for any input, and weights survive the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from art_mtl.models import (
    DigitsNet,
    RoomsDetectionNet,
    RoomsNet,
    load_embedded,
    load_weights,
    read_metadata,
    save_weights,
)


@pytest.mark.parametrize("size", [(96, 128), (16, 16), (37, 51), (64, 96)])
def test_rooms_net_answers_at_the_size_of_its_input(size: tuple[int, int]) -> None:
    outputs = RoomsNet(num_classes=5).eval()(torch.rand(2, 3, *size) * 2 - 1)
    assert list(outputs) == ["segmentation", "depth", "normals"]
    assert outputs["segmentation"].shape == (2, 5, *size)
    assert outputs["depth"].shape == (2, 1, *size)
    assert outputs["normals"].shape == (2, 3, *size)


def test_rooms_net_gives_positive_depth_and_unit_normals() -> None:
    torch.manual_seed(0)
    outputs = RoomsNet().eval()(torch.randn(2, 3, 48, 64) * 5)
    assert (outputs["depth"] > 0).all()
    torch.testing.assert_close(outputs["normals"].norm(dim=1), torch.ones(2, 48, 64), atol=1e-4, rtol=0)


def test_a_dead_normals_head_gives_finite_output_and_gradient() -> None:
    net = RoomsNet().eval()
    torch.nn.init.zeros_(net.normals[1].weight)
    torch.nn.init.zeros_(net.normals[1].bias)
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    normals = net(x)["normals"]
    (gradient,) = torch.autograd.grad(normals.sum(), x)
    assert normals.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("size", [(96, 128), (16, 16), (37, 51)])
def test_each_candidate_contains_the_middle_of_its_cell(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = RoomsDetectionNet(num_classes=5, num_things=3).eval()
    outputs = net(torch.rand(2, 3, *size) * 2 - 1)
    assert list(outputs) == ["segmentation", "depth", "normals", "detection"]
    boxes, logits = outputs["detection"]["boxes"], outputs["detection"]["logits"]
    rows, columns = -(-size[0] // 4), -(-size[1] // 4)
    assert boxes.shape == (2, rows * columns, 4) and logits.shape == (2, rows * columns, 3)
    middle = torch.tensor([[4 * (k % columns) + 2.0, 4 * (k // columns) + 2.0] for k in range(rows * columns)])
    assert (boxes[..., :2] < middle).all() and (boxes[..., 2:] > middle).all()
    net.sides.weight.data.zero_()
    net.sides.bias.data = torch.tensor([1.0, 0.5, 0.25, 9.0]).log()
    boxes = net(torch.rand(1, 3, *size))["detection"]["boxes"]
    torch.testing.assert_close(
        boxes[0], torch.cat([middle - torch.tensor([8.0, 4.0]), middle + torch.tensor([2.0, 72.0])], 1)
    )


def test_the_other_heads_are_those_of_rooms_net() -> None:
    plain, net = RoomsNet().eval(), RoomsDetectionNet().eval()
    load_embedded(plain, "rooms")
    net.load_state_dict({**net.state_dict(), **plain.state_dict()})
    x = torch.rand(1, 3, 32, 48) * 2 - 1
    expected, outputs = plain(x), net(x)
    assert all(torch.equal(outputs[name], expected[name]) for name in expected)


def test_digits_net_has_three_heads() -> None:
    outputs = DigitsNet().eval()(torch.rand(3, 1, 28, 28))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "left": (3, 10),
        "right": (3, 10),
        "sum": (3, 1),
    }


@pytest.mark.parametrize(("net", "shape"), [(DigitsNet(), (1, 28, 28)), (RoomsNet(), (3, 32, 48))])
def test_every_head_sees_the_input_and_every_parameter_is_used(net: torch.nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.rand(2, *shape, requires_grad=True)
    outputs = net.train()(x)
    for output in outputs.values():
        (gradient,) = torch.autograd.grad(output.square().sum(), x, retain_graph=True)
        assert gradient.abs().sum() > 0
    sum(output.square().sum() for output in outputs.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_sample_does_not_depend_on_its_batch_mates() -> None:
    torch.manual_seed(0)
    net, x = RoomsNet().eval(), torch.randn(3, 3, 32, 48)
    together, alone = net(x), net(x[1:2])
    for name in together:
        torch.testing.assert_close(together[name][1:2], alone[name], atol=1e-5, rtol=1e-4)


def test_rooms_net_refuses_one_class() -> None:
    with pytest.raises(ValueError, match="`num_classes`.*Found 1"):
        RoomsNet(num_classes=1)
    with pytest.raises(ValueError, match="`num_things`.*Found 0"):
        RoomsDetectionNet(num_things=0)


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    net = DigitsNet()
    net(torch.rand(4, 1, 28, 28))  # moves the running statistics
    path = tmp_path / "new" / "net.safetensors"
    save_weights(net, path, {"seed": "7"})
    copy = DigitsNet()
    assert load_weights(copy, path) == read_metadata(path) == {"seed": "7"}
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name], tensor, atol=0, rtol=0)
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(DigitsNet(), path, {"seed": "1"})

    def broken(*args: object, **kwargs: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        save_weights(DigitsNet(), path, {"seed": "2"})
    assert read_metadata(path) == {"seed": "1"}
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_weights_that_do_not_fit_are_told_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(torch.nn.ModuleDict({"sum": torch.nn.Linear(2, 2)}), path, {})
    with pytest.raises(ValueError, match=r"DigitsNet.*missing trunk\.0\.0\.weight.*unexpected .*sum\.weight"):
        load_weights(DigitsNet(), path)
    save_weights(RoomsNet(num_classes=4), path, {})
    with pytest.raises(ValueError, match=r"segmentation\.1\.weight of shape \(4, 16, 1, 1\) where \(13, 16, 1, 1\)"):
        load_weights(RoomsNet(), path)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="expected a safetensors file"):
        load_weights(RoomsNet(), path)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_weights(RoomsNet(), tmp_path / "absent.safetensors")
