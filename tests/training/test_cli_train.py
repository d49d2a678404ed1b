"""``art-mtl train``: from the arguments to the files."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from art_mtl import training
from art_mtl.cli import main
from art_mtl.training import EpochResult, NetworkResult, Recipe, TrainingResult, embedded


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing on standard output."""
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``train_network`` was called with; it reports one epoch."""
    arguments: dict[str, Any] = {}

    def fake(data: str, root: Path, out: Path, *, progress: Any, validated: Any, **settings: Any) -> NetworkResult:
        arguments.update(data=data, root=root, out=out, **settings)
        metrics = {"segmentation": 0.4656, "depth": 0.4057, "normals": 23.41}
        validated(EpochResult(1, 2, {}, metrics, 0.0, True))
        return NetworkResult(out, 2, metrics, 1, metrics, arguments.get("_resumed", 0), 8, 1.0)

    monkeypatch.setattr(training, "train_network", fake)
    return arguments


def test_the_options_reach_the_recipe(called: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "nyuv2", "--root", "r", "--out", "o"]) == 0
    assert called == {"data": "nyuv2", "root": Path("r"), "out": Path("o"), "recipe": Recipe()}
    captured = capsys.readouterr()
    units = "segmentation mIoU 46.56, depth aErr 40.57, normals mDist 23.41°"
    assert captured.out.startswith(f"epoch 1/2: {units}, best so far\n"), "the paper's units"
    assert f"val: {units} in o/last.safetensors; best, of epoch 1: {units} in o/best.safetensors" in captured.err
    called.clear()
    options = "--model split --trunk t --batch-size 8 --lr 0.05 --epochs 10 --seed 3 --precision bf16 --no-augment "
    options += "--limit 7 --validate-every 2 --workers 0 --checkpoint-minutes 5 --no-tensorboard --device cpu"
    assert main(["train", "--data", "nyuv2", "--root", "r", "--out", "o", *options.split()]) == 0
    recipe = Recipe(10, 8, 0.05, seed=3, precision="bf16", augment=False, limit=7, validate_every=2)
    assert called.pop("recipe") == recipe
    assert called == {
        "data": "nyuv2", "root": Path("r"), "out": Path("o"), "model": "split", "trunk": Path("t"), "workers": 0,
        "checkpoint_minutes": 5.0, "tensorboard": False, "device": "cpu",
    }  # fmt: skip
    assert main(["train", "--data", "nyuv2", "--root", "r", "--out", "o", "--crop", "96x128"]) == 0
    assert called["recipe"] == Recipe(crop=(96, 128))


def test_a_finished_run_says_so(called: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    called["_resumed"] = 8
    assert main(["train", "--data", "nyuv2", "--root", "r", "--out", "o"]) == 0
    assert "o was finished already" in capsys.readouterr().err


def test_an_interruption_tells_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_network", interrupt)
    assert main(["train", "--data", "nyuv2", "--root", "r", "--out", "o"]) == 130
    assert "interrupted; what was reached is in o, and the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--out o", "Expected --data .* Found neither"),
        ("rooms --data nyuv2 --out o", "Found both"),
        ("--data nyuv2 --out o", "--root should be the folder of the data"),
        ("rooms --out o --batch-size 3", "--batch-size should be given with --data only. Found it for rooms"),
        ("rooms --out o --lr 3", "--lr should be given with --data only"),
        ("digits --out o --no-augment", "--augment"),
        ("digits --out o --model mtan", "--model"),
        ("--data coco --out o", "Option --data should be one of .* Found 'coco'"),
        ("--data nyuv2 --root r --out o --lr 0", "Option --lr should be a finite number above 0. Found 0"),
        ("--data nyuv2 --root r --out o --lr nan", "Option --lr should be a finite number above 0. Found nan"),
        ("--data nyuv2 --root r --out o --crop 288", "--crop should be .* such as 288x384. Found '288'"),
        ("--data nyuv2 --root r --out o --batch-size 0", "--batch-size should be .*at least 1. Found 0"),
        ("--data nyuv2 --root r --out o --precision fp8", "--precision should be .* Found 'fp8'"),
        ("cats --out o", "The argument should be one of rooms, .* Found 'cats'"),
        ("rooms", "--out PATH"),
    ],
)
def test_bad_arguments_are_one_line(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments.split()]) == 2
    assert re.search(message, one_error(capsys))


def test_bad_folders_are_told_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "--data", "nyuv2", "--root", str(tmp_path / "none"), "--out", str(tmp_path / "o")]
    assert main([*arguments, "--device", "cpu"]) == 2
    assert re.search("error: .*none/train", " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "o").exists()


def test_small_victims(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: dict[str, Any] = {}

    def train(victim: str, out: Path, **settings: Any) -> TrainingResult:
        called.update(victim=victim, **{key: value for key, value in settings.items() if key != "progress"})
        return TrainingResult(victim, out, 3, 2, 1.0, {}, {"left": 0.9})

    monkeypatch.setattr(embedded, "train", train)
    assert main(["train", "digits", "--out", str(tmp_path / "w.safetensors"), "--epochs", "2", "--seed", "3"]) == 0
    assert called == {"victim": "digits", "seed": 3, "epochs": 2, "device": "cpu"}
    assert "left 0.9000" in capsys.readouterr().err
    assert main(["train", "digits", "--out", str(tmp_path)]) == 2
    assert "--out should be a file. Found the folder" in one_error(capsys)
    assert main(["train", "nyuv2", "--out", "w"]) == 2
    assert "--root should be" in one_error(capsys)
    assert main(["train", "rooms", "--out", "w", "--root", "r"]) == 2
    assert "--root should be" in one_error(capsys)


def test_a_memorised_net(tmp_path: Path, tiny: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.make_photographs(tmp_path, count=1)
    out = tmp_path / "w.safetensors"
    assert main(["train", "nyuv2", "--root", str(tmp_path), "--out", str(out), "--epochs", "1"]) == 0
    assert out.is_file() and f"wrote {out} after 1 epochs" in capsys.readouterr().err
