"""Training the paper's networks: the recipe is followed, and nothing but settings decides what comes out."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from art_mtl.cli import main
from art_mtl.data import NYUv2
from art_mtl.data.paper import PAPER_DATA
from art_mtl.models import load_network, load_weights, read_metadata
from art_mtl.training import EpochResult, NetworkResult, Recipe, Step, clean_metrics, mean_log_quality, train_network
from art_mtl.training import folder as folder_module
from art_mtl.version import __version__

REAL = Path(os.environ.get("ART_MTL_NYUV2", Path(__file__).parents[3] / "shared" / "data" / "nyuv2_10"))
WHOLE: Mapping[str, Any] = {"epochs": 3, "batch_size": 2}


class Stop(Exception):
    """A kill, seen from inside."""


def same(a: Path, b: Path) -> bool:
    """Whether two runs left the same weights, bit for bit, and the same history. (Metadata have no order on disk.)"""
    for name in ("last.safetensors", "best.safetensors"):
        tensors, others = load_file(a / name), load_file(b / name)
        if read_metadata(a / name) != read_metadata(b / name) or tensors.keys() != others.keys():
            return False
        if not all(torch.equal(tensor, others[key]) for key, tensor in tensors.items()):
            return False
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in ("history.json", "settings.json"))


def test_a_run_from_end_to_end(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    steps: list[Step] = []
    epochs: list[EpochResult] = []
    out = tmp_path / "run"
    result = tiny.run(
        photographs, out, recipe={"epochs": 20, "batch_size": 3, "rate": 0.05, "augment": False},
        progress=steps.append, validated=epochs.append,
    )  # fmt: skip
    assert torch.equal(torch.rand(2), expected), "training should leave the global random state alone"
    assert [step.step for step in steps] == list(range(1, 41)), "seven images make two whole batches of three"
    assert (steps[-1].epoch, steps[-1].epochs, steps[-1].steps) == (20, 20, 40)
    assert sum(steps[-1].losses.values()) < 0.8 * sum(steps[0].losses.values()), "it learns"
    assert [epoch.epoch for epoch in epochs] == list(range(1, 21)) and epochs[0].best

    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "settings.json", "checkpoint.pt", "history.json", "best.safetensors", "last.safetensors",
    }  # fmt: skip
    history = json.loads((out / "history.json").read_text())
    assert [entry["metrics"] for entry in history] == [epoch.metrics for epoch in epochs]
    scores = [epoch.score for epoch in epochs]
    assert scores == [mean_log_quality(tiny.DATA.tasks(), epoch.metrics) for epoch in epochs]
    assert (
        result.best_epoch == 1 + scores.index(max(scores))
        and result.best_metrics == epochs[result.best_epoch - 1].metrics
    )
    assert result.metrics == epochs[-1].metrics and result.path == out and (result.resumed, result.steps) == (0, 40)

    for name, epoch in (("last", 20), ("best", result.best_epoch)):
        metadata = read_metadata(out / f"{name}.safetensors")
        assert metadata["epoch"] == str(epoch) and metadata["data"] == "nyuv2" and metadata["model"] == "tiny"
        assert metadata["art_mtl"] == __version__ and json.loads(metadata["clean_val"]) == epochs[epoch - 1].metrics
        net = tiny.TinyNet(tiny.DATA.heads)
        load_weights(net, out / f"{name}.safetensors")
        measured = clean_metrics(net, tiny.DATA.tasks(), *NYUv2(photographs, "val").arrays())
        assert measured == pytest.approx(epochs[epoch - 1].metrics, rel=1e-5)


def test_the_recipe_is_plain_sgd_on_batch_means(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    """A loop written out for all seven images at once, where the order does not matter."""
    recipe = {"epochs": 4, "batch_size": 7, "rate": 0.05, "augment": False, "seed": 3}
    tiny.run(photographs, tmp_path, recipe=recipe)
    torch.manual_seed(3)
    net = tiny.TinyNet(tiny.DATA.heads)
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    x, labels = (lambda arrays: (torch.from_numpy(arrays[0]), arrays[1]))(NYUv2(photographs, "train").arrays())
    seg, depth, normals = (torch.as_tensor(labels[name]) for name in ("segmentation", "depth", "normals"))
    measured, oriented = depth > 0, (normals != 0).any(1, keepdim=True)
    for epoch in range(4):
        out = net(x)
        loss = functional.cross_entropy(out["segmentation"], seg, ignore_index=-1)
        loss = loss + ((out["depth"] - depth).abs() * measured).sum() / measured.sum()
        loss = loss + ((out["normals"] - normals).abs() * oriented).sum() / oriented.sum()
        net.zero_grad()
        loss.backward()
        rate = 0.05 * (1 + math.cos(math.pi * epoch / 4)) / 2
        with torch.no_grad():
            for name, p in net.named_parameters():
                assert p.grad is not None
                velocity[name] = 0.9 * velocity[name] + p.grad + 1e-4 * p
                p -= rate * velocity[name]
    found = tiny.TinyNet(tiny.DATA.heads)
    load_weights(found, tmp_path / "last.safetensors")
    for (name, p), q in zip(net.named_parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_settings_alone_decide_the_weights(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    """Neither loading processes nor the state of random generators do; seed and augmentation do."""
    tiny.run(photographs, tmp_path / "a", network="noisy", recipe=WHOLE)
    torch.manual_seed(123)
    tiny.run(photographs, tmp_path / "b", network="noisy", recipe=WHOLE, workers=2, checkpoint_minutes=0)
    assert same(tmp_path / "a", tmp_path / "b")
    for name, change in (("seed", {"seed": 1}), ("augment", {"augment": False}), ("crop", {"crop": (16, 16)})):
        tiny.run(photographs, tmp_path / name, network="noisy", recipe={**WHOLE, **change})
        weights = [load_file(tmp_path / run / "last.safetensors")["first.weight"] for run in ("a", name)]
        assert not torch.equal(*weights)


@pytest.mark.parametrize("minutes", [0.0, math.inf])
def test_stopped_after_any_step_a_run_ends_the_same(
    tiny: ModuleType, photographs: Path, tmp_path: Path, minutes: float
) -> None:
    """With a checkpoint after every step, and with one after every epoch."""
    settings: dict[str, Any] = {"network": "noisy", "recipe": WHOLE, "checkpoint_minutes": minutes}
    tiny.run(photographs, tmp_path / "whole", **settings)
    for last in range(1, 9):

        def stop(step: Step, last: int = last) -> None:
            if step.step == last:
                raise Stop

        out = tmp_path / str(last)
        with pytest.raises(Stop):
            tiny.run(photographs, out, progress=stop, **settings)
        result = tiny.run(photographs, out, **settings)
        assert result.resumed == (last if minutes == 0 else 3 * ((last - 1) // 3))
        assert same(out, tmp_path / "whole"), f"stopped after step {last}"


def test_stopped_between_any_two_files_a_run_ends_the_same(
    tiny: ModuleType, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file is written by a rename, and any of them may be the last thing that a run does."""
    settings: dict[str, Any] = {"network": "noisy", "recipe": {"epochs": 2, "batch_size": 3}}
    renames: list[str] = []
    original, stop_at = Path.replace, math.inf

    def replace(self: Path, target: Any) -> Path:
        if len(renames) == stop_at:
            raise Stop
        renames.append(Path(target).name)
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    tiny.run(photographs, tmp_path / "whole", **settings)
    names = list(renames)
    assert names[:4] == ["settings.json", "best.safetensors", "last.safetensors", "history.json"]
    for place in range(len(names)):
        out = tmp_path / str(place)
        renames.clear()
        stop_at = place
        with pytest.raises(Stop):
            tiny.run(photographs, out, **settings)
        stop_at = math.inf
        tiny.run(photographs, out, **settings)
        assert same(out, tmp_path / "whole"), f"stopped before rename {place}, of {names[place]}"


def test_half_written_files_are_swept(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tiny.run(photographs, out, recipe={"epochs": 1})
    (out / ".best.safetensors.abc").write_bytes(b"half")
    (out / ".checkpoint.pt.99.part").write_bytes(b"half")
    result = tiny.run(photographs, out, recipe={"epochs": 1})
    assert (result.resumed, result.steps) == (1, 1), "a finished run has nothing left to do"
    assert not [path for path in out.iterdir() if path.name.endswith((".abc", ".part"))]


def test_other_settings_are_refused_with_the_difference(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    tiny.run(photographs, out, recipe={"epochs": 1})
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(
        ValueError, match=r"holds a training run with .*rate=0\.02.*; you asked for .*rate=0\.05"
    ) as caught:
        tiny.run(photographs, out, recipe={"epochs": 1, "rate": 0.05, "limit": 3, "batch_size": 3})
    there, here = str(caught.value).split("; you asked for ")
    assert "recipe.batch_size=4" in there and "recipe.batch_size=3" in here and str(out) in there
    assert "recipe.limit=None" in there and "recipe.limit=3" in here
    assert "seed" not in str(caught.value), "only what differs is told"
    with pytest.raises(ValueError, match="model=tiny; you asked for model=noisy"):
        tiny.run(photographs, out, network="noisy", recipe={"epochs": 1})
    tiny.make_photographs(tmp_path / "others", count=7)
    moved = tiny.run(tmp_path / "others", out, recipe={"epochs": 1})
    assert moved.resumed == moved.steps, "the same data elsewhere is the same data"
    image = tmp_path / "others" / "train" / "image" / "0.npy"
    np.save(image, np.load(image) / 2)
    with pytest.raises(ValueError, match="train_content=[0-9a-f]{16}; you asked for .*train_content=[0-9a-f]{16}"):
        tiny.run(tmp_path / "others", out, recipe={"epochs": 1})
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_other_people_s_folders_are_refused(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"new or empty folder.*'thesis\.tex'"):
        tiny.run(photographs, tmp_path, recipe={"epochs": 1})
    with pytest.raises(ValueError, match="Found a file at"):
        tiny.run(photographs, tmp_path / "thesis.tex", recipe={"epochs": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    out = tmp_path / "run"
    out.mkdir()
    (out / "settings.json").write_text('{"format": "another"}')
    with pytest.raises(ValueError, match=r"settings\.json: expected the settings of a training run"):
        tiny.run(photographs, out, recipe={"epochs": 1})


def test_a_damaged_checkpoint_is_named(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    tiny.run(photographs, tmp_path, recipe={"epochs": 1})
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.pt: expected the checkpoint.*damaged.*Delete"):
            tiny.run(photographs, tmp_path, recipe={"epochs": 1})


def test_two_runs_at_once_are_refused(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    def again(step: Step) -> None:
        tiny.run(photographs, tmp_path, recipe={"epochs": 1})

    with pytest.raises(BlockingIOError, match="another run at work"):
        tiny.run(photographs, tmp_path, recipe={"epochs": 1}, progress=again)


def test_a_full_disk_keeps_the_last_checkpoint(
    tiny: ModuleType, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"recipe": {"epochs": 2, "batch_size": 3}}
    tiny.run(photographs, tmp_path / "whole", **settings)
    original = folder_module.write_whole

    def full(path: Path, content: bytes) -> None:
        if path.name == "checkpoint.pt" and path.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, content)

    monkeypatch.setattr(folder_module, "write_whole", full)
    with pytest.raises(OSError, match=r"disk is full: .*checkpoint\.pt could not be written.*same command again"):
        tiny.run(photographs, tmp_path / "run", **settings)
    monkeypatch.undo()
    assert tiny.run(photographs, tmp_path / "run", **settings).resumed == 2
    assert same(tmp_path / "run", tmp_path / "whole")


def test_an_infinite_loss_stops_and_names_the_step(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    recipe = {"epochs": 30, "batch_size": 7, "rate": 1e12, "augment": False}
    with pytest.raises(ValueError, match=r"every loss finite. Found .* at step \d+ \(epoch \d+\).*Lower the learning"):
        tiny.run(photographs, tmp_path, recipe=recipe)
    state = folder_module.RunFolder(tmp_path).load()
    assert state is not None and state.epoch >= 1, "the last good checkpoint stays"
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.model.values())


def test_infinite_weights_are_never_written(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    def spoilt(heads: Mapping[str, int], trunk: Any = None) -> nn.Module:
        net: nn.Module = tiny.TinyNet(heads)
        net.register_buffer("unused", torch.tensor([math.nan]))
        return net

    with pytest.raises(ValueError, match=r"every weight finite. Found NaN or infinity in 'unused'"):
        train_network(
            tiny.DATA, photographs, tmp_path, model="spoilt", networks={"spoilt": spoilt}, recipe=Recipe(epochs=1),
            workers=0, tensorboard=False, device="cpu",
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["settings.json"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_faulty_file_is_named(tiny: ModuleType, tmp_path: Path, workers: int) -> None:
    tiny.make_photographs(tmp_path / "data", count=6)
    path = tmp_path / "data" / "train" / "label" / "1.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="expected a readable .npy array") as caught:
        tiny.run(tmp_path / "data", tmp_path / "run", recipe={"epochs": 1, "batch_size": 6}, workers=workers)
    assert str(path) in str(caught.value) and "Traceback" not in str(caught.value)


def test_wrong_parameters_are_named_before_any_work(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    def attempt(**settings: Any) -> NetworkResult:
        given: dict[str, Any] = {"recipe": {}, **settings}
        result: NetworkResult = tiny.run(photographs, tmp_path / "run", **given)
        return result

    for settings, message in (
        ({"network": "resnet"}, "`model` should be one of tiny, noisy. Found 'resnet'"),
        ({"workers": -1}, "`workers`.*Found -1"),
        ({"checkpoint_minutes": -1}, "`checkpoint_minutes`.*Found -1"),
        ({"device": "tpu"}, "`device`.*Found 'tpu'"),
        ({"recipe": {"batch_size": 8}}, "`batch_size` should be at least 1.* at most 7, the training images. Found 8"),
        ({"recipe": {"limit": 2}}, "at most 2, the training images. Found 4"),
        ({"recipe": {"crop": (33, 32)}}, "as large as their crop, 33x32. Found 32x48"),
        ({"recipe": {"precision": "fp16"}}, "fp16 needs a GPU"),
    ):
        with pytest.raises(ValueError, match=message):
            attempt(**settings)
    with pytest.raises(ValueError, match="`data` should be one of nyuv2, cityscapes. Found 'coco'"):
        train_network("coco", photographs, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tiny.run(tmp_path / "nowhere", tmp_path / "run", recipe={})
    with pytest.raises(FileNotFoundError, match=r"resnet50\.pth"):
        attempt(trunk=tmp_path / "resnet50.pth")
    assert not (tmp_path / "run").exists()


def test_a_task_without_any_label_is_named(tiny: ModuleType, tmp_path: Path) -> None:
    tiny.make_photographs(tmp_path / "data", count=4)
    for path in (tmp_path / "data" / "val" / "depth").iterdir():
        np.save(path, np.zeros((32, 48, 1)))
    with pytest.raises(ValueError, match="Task 'depth' should have a valid label"):
        tiny.run(tmp_path / "data", tmp_path / "run", recipe={"epochs": 1})


def test_bf16_trains_in_float32_weights(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    recipe = {"epochs": 1, "batch_size": 7, "augment": False}
    losses: dict[str, Mapping[str, float]] = {}
    for precision in ("fp32", "bf16"):
        tiny.run(photographs, tmp_path / precision, recipe={**recipe, "precision": precision},
                 progress=lambda step, name=precision: losses.update({name: step.losses}))  # fmt: skip
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02) and losses["bf16"] != losses["fp32"]
    state = folder_module.RunFolder(tmp_path / "bf16").load()
    assert state is not None and all(tensor.dtype == torch.float32 for tensor in state.model.values())


def test_some_epochs_are_validated_and_the_last_always(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    epochs: list[EpochResult] = []
    recipe = {"epochs": 5, "validate_every": 2}
    tiny.run(photographs, tmp_path, recipe=recipe, validated=epochs.append)
    assert [epoch.epoch for epoch in epochs] == [2, 4, 5]
    assert ["metrics" in entry for entry in json.loads((tmp_path / "history.json").read_text())] == [0, 1, 0, 1, 1]


def test_an_epoch_is_on_disk_before_it_is_told(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    """So that an output that nobody reads loses none."""

    def closed(epoch: EpochResult) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        tiny.run(photographs, tmp_path, recipe={"epochs": 3}, validated=closed)
    assert len(json.loads((tmp_path / "history.json").read_text())) == 1
    assert {"best.safetensors", "last.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    epochs: list[EpochResult] = []
    tiny.run(photographs, tmp_path, recipe={"epochs": 3}, validated=epochs.append)
    assert [epoch.epoch for epoch in epochs] == [2, 3]


def test_the_paper_s_victim_takes_a_step(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchvision")
    options = "--model mtan --epochs 1 --batch-size 2 --limit 2 --lr 0.01 --crop 24x32 --workers 0 --device cpu"
    arguments = ["train", "--data", "nyuv2", "--root", str(photographs), "--out", str(tmp_path), "--no-tensorboard"]
    assert main([*arguments, *options.split()]) == 0
    assert re.match(r"epoch 1/1: segmentation mIoU [\d.]+, depth aErr [\d.]+, normals mDist [\d.]+°, best so far\n",
                    capsys.readouterr().out)  # fmt: skip
    metadata = read_metadata(tmp_path / "best.safetensors")
    assert metadata["model"] == "mtan" and json.loads(metadata["recipe"])["crop"] == [24, 32]
    network = load_network(tmp_path / "best.safetensors", PAPER_DATA["nyuv2"].heads)
    measured = clean_metrics(network, PAPER_DATA["nyuv2"].tasks(), *NYUv2(photographs, "val").arrays(2))
    assert measured == pytest.approx(json.loads(metadata["clean_val"]), rel=1e-4)
    for path in tmp_path.iterdir():  # 1.5 GB
        path.unlink()


@pytest.mark.skipif(not REAL.is_dir(), reason="no NYUv2 images; set ART_MTL_NYUV2 to a folder of them")
def test_real_photographs_train(tiny: ModuleType, tmp_path: Path) -> None:
    losses: list[float] = []
    result = train_network(
        "nyuv2", REAL, tmp_path, model="tiny", networks=tiny.NETWORKS, workers=0, tensorboard=False, device="cpu",
        recipe=Recipe(epochs=4, batch_size=3, rate=0.02),
        progress=lambda step: losses.append(sum(step.losses.values())),
    )  # fmt: skip
    assert losses[-1] < losses[0] and 0 < result.metrics["normals"] < 90


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_descends_as_a_cpu_does(tiny: ModuleType, photographs: Path, tmp_path: Path, precision: str) -> None:
    recipe = {"epochs": 10, "batch_size": 3}
    cpu = tiny.run(photographs, tmp_path / "cpu", recipe=recipe)
    gpu = tiny.run(photographs, tmp_path / "gpu", recipe={**recipe, "precision": precision}, device="gpu", workers=2)
    assert gpu.metrics == pytest.approx(cpu.metrics, rel=0.05)
    again = tiny.run(photographs, tmp_path / "gpu", recipe={**recipe, "precision": precision}, device="gpu")
    assert again.resumed == again.steps
