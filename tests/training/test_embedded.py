"""The training recipe: it learns, it can be repeated, and it says what it did."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_mtl import tasks
from art_mtl.labels import MultiTaskLabels
from art_mtl.models import DigitsNet, load_weights, read_metadata
from art_mtl.training import ProgressBar, Step, clean_metrics, memorise, train
from art_mtl.version import __version__
from art_mtl.zoo.victims import digit_tasks, load_victim


def test_training_learns_and_says_what_it_did(tmp_path: Path) -> None:
    steps: list[Step] = []
    out = tmp_path / "digits.safetensors"
    result = train("digits", out, seed=3, epochs=2, train_size=384, test_size=100, progress=steps.append)
    assert [step.step for step in steps] == list(range(1, 13)) and steps[-1].steps == 12
    assert [step.epoch for step in steps] == [1] * 6 + [2] * 6
    assert sum(steps[-1].losses.values()) < 0.97 * sum(steps[0].losses.values())
    metadata = read_metadata(out)
    assert metadata["victim"] == "digits" and metadata["seed"] == "3" and metadata["epochs"] == "2"
    assert metadata["art_mtl"] == __version__ and metadata["train_size"] == "384"
    assert json.loads(metadata["clean_test"]) == result.test and json.loads(metadata["clean_train"]) == result.train
    assert result.path == out and result.seconds > 0
    victim = load_victim("digits", checkpoint=out)
    assert clean_metrics(victim.model, victim.tasks, *victim.data("test", 100)) == pytest.approx(result.test, abs=1e-5)


def test_the_same_seed_gives_the_same_weights_and_disturbs_nothing(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("digits", tmp_path / name, seed=seed, epochs=1, train_size=128, test_size=8)
    assert torch.equal(torch.rand(3), expected), "training should leave the global random state alone"
    a, b, c = (DigitsNet() for _ in range(3))
    for net, name in ((a, "a"), (b, "b"), (c, "c")):
        load_weights(net, tmp_path / name)
    pairs = list(zip(a.parameters(), b.parameters(), c.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y, _ in pairs)
    assert not all(torch.equal(x, z) for x, _, z in pairs)


def test_rooms_train_by_the_same_recipe(tmp_path: Path) -> None:
    result = train("rooms", tmp_path / "rooms", epochs=1, train_size=17, test_size=2)
    assert set(result.test) == {"segmentation", "depth", "normals"}
    assert 0 <= result.test["segmentation"] <= 1 and 0 < result.test["normals"] < 180


def test_rooms_detection_goes_on_from_rooms(tmp_path: Path) -> None:
    losses: list[Step] = []
    result = train(
        "rooms-detection", tmp_path / "weights", epochs=4, train_size=16, test_size=2, progress=losses.append
    )
    assert set(result.test) == {"segmentation", "depth", "normals", "detection"}
    assert result.test["segmentation"] > 0.3, "the weights of rooms are the start"
    assert losses[-1].losses["detection"] < losses[0].losses["detection"]
    assert 0 <= result.train["detection"] <= 1


class Oracle(nn.Module):
    """Reads the answers from the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        left, right = x[:, 0].long(), x[:, 1].long()
        one_hot = nn.functional.one_hot
        return {
            "left": one_hot(left, 10).float(),
            "right": one_hot(right, 10).float(),
            "sum": x.sum(1, keepdim=True) + 1,
        }


def test_clean_metrics_are_those_of_the_whole_set() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 10, (23, 2)).astype(np.float32)
    right = x[:, 1].astype(int)
    right[:5] = (right[:5] + 1) % 10
    labels = MultiTaskLabels({"left": x[:, 0].astype(int), "right": right, "sum": x.sum(1)})
    oracle = Oracle().train()
    for batch_size in (1, 7, 50):
        found = clean_metrics(oracle, digit_tasks(), x, labels, batch_size=batch_size)
        assert found == pytest.approx({"left": 1.0, "right": 18 / 23, "sum": 1.0})
    assert oracle.training, "the model leaves as it came"


class Detector(nn.Module):
    """Finds the boxes that the picture holds; the second is of low score."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"boxes": x, "scores": torch.tensor([[0.9], [0.3]]).expand(len(x), 2, 1)}


def test_average_precision_is_that_of_the_whole_set_too() -> None:
    from torchmetrics.detection.mean_ap import MeanAveragePrecision

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (12, 2, 2))
    x = np.concatenate([low, low + rng.uniform(5, 20, (12, 2, 2))], 2).astype(np.float32)
    truth = [{"boxes": boxes[: 1 + k % 2] + k % 3, "labels": np.zeros(1 + k % 2, int)} for k, boxes in enumerate(x)]
    expected = MeanAveragePrecision()
    expected.update(
        [{"boxes": torch.tensor(b), "scores": torch.tensor([0.9, 0.3]), "labels": torch.zeros(2).long()} for b in x],
        [{name: torch.tensor(value) for name, value in row.items()} for row in truth],
    )
    task = tasks.detection("things", 1, output=lambda out: out)
    found = clean_metrics(Detector(), [task], x, MultiTaskLabels({"things": truth}), batch_size=5)
    assert found["things"] == pytest.approx(float(expected.compute()["map"])) and 0.1 < found["things"] < 0.99


def test_memorising_a_few_photographs(tmp_path: Path, tiny: ModuleType) -> None:
    tiny.make_photographs(tmp_path, count=2)
    out = tmp_path / "memorised.safetensors"
    result = memorise(tmp_path, out, size=(32, 48), epochs=30)
    assert result.victim == "nyuv2"
    assert result.train["segmentation"] > 1.2 * result.test["segmentation"]
    assert result.train["depth"] < result.test["depth"]
    victim = load_victim("nyuv2", root=tmp_path, checkpoint=out)
    assert victim.input_shape == (3, 32, 48) and victim.metadata["memorised"] == "true"
    assert "memorised" in victim.description
    seen = clean_metrics(victim.model, victim.tasks, *victim.data("train", None))
    assert seen == pytest.approx(result.train, rel=1e-3)
    assert victim.data("test", 1)[0].shape == (1, 3, 32, 48)


def test_one_photograph_is_enough(tmp_path: Path, tiny: ModuleType) -> None:
    tiny.make_photographs(tmp_path, count=1)
    assert memorise(tmp_path, tmp_path / "out", size=(32, 48), epochs=2).epochs == 2


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`victim` should be one of digits, rooms.*multilabel. Found 'cats'"):
        train("cats", tmp_path / "out")
    with pytest.raises(ValueError, match="`epochs`.*Found 0"):
        train("digits", tmp_path / "out", epochs=0)
    with pytest.raises(ValueError, match="`seed`.*Found -1"):
        train("digits", tmp_path / "out", seed=-1)
    with pytest.raises(ValueError, match="`size`"):
        memorise(tmp_path, tmp_path / "out", size=(8, 128))
    assert not list(tmp_path.iterdir())


def test_the_progress_bar_shows_losses(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("digits") as bar:
        bar(Step(epoch=1, epochs=2, step=1, steps=4, losses={"left": 1.25}))
        assert bar._progress is not None
        (task,) = bar._progress.tasks
        assert task.completed == 1 and task.total == 4 and "left 1.250" in task.fields["losses"]
        bar.say("epoch 1/2")
        assert capsys.readouterr().out.startswith("epoch 1/2\n")
        bar(Step(epoch=2, epochs=2, step=4, steps=4, losses={"left": 1.0}))
        assert task.completed == 4
    with pytest.raises(RuntimeError, match="`with` statement"):
        ProgressBar("digits")(Step(1, 1, 1, 1, {}))


def test_tasks_of_the_recipe_weigh_equally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss that is descended is the plain sum of the tasks' losses."""
    seen: list[Tensor] = []
    original = torch.autograd.backward

    def spy(tensor: Tensor) -> None:
        seen.append(tensor.detach())
        original(tensor)

    monkeypatch.setattr(torch.autograd, "backward", spy)
    steps: list[Step] = []
    train("digits", tmp_path / "out", epochs=1, train_size=64, test_size=4, progress=steps.append)
    assert float(seen[0]) == pytest.approx(sum(steps[0].losses.values()), rel=1e-5)
    assert tasks.check_tasks(digit_tasks())
