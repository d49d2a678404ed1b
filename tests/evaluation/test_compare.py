"""Runs side by side: paired where they are on the same samples and only there; figures as numbers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import Comparison, Run, compare_runs, evaluate, to_markdown
from art_mtl.evaluation.reading import read_chunks

SIZE = 40


class Net(torch.nn.Module):
    """A class and a value of 6 pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(6, 3), torch.nn.Linear(6, 1)])
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [head(x) for head in self.heads]


def estimator(names: tuple[str, str] = ("kind", "depth")) -> PyTorchMultiTaskEstimator:
    made = [tasks.classification(names[0], 3), tasks.regression(names[1])]
    return PyTorchMultiTaskEstimator(Net(), made, (6,), clip_values=(0, 1), device_type="cpu")


def data(shift: float = 0.0, size: int = SIZE) -> tuple[np.ndarray, MultiTaskLabels]:
    """Labels near the model's own answers; a shift of the inputs too small to change an answer."""
    x = np.random.default_rng(1).uniform(0.2, 0.8, (size, 6)).astype(np.float32)
    raw = estimator().predict(x)
    error = np.random.default_rng(2).normal(0.1, 0.05, (size, 1))
    return x + np.float32(shift), MultiTaskLabels({"kind": raw["kind"].argmax(1), "depth": raw["depth"] + error})


def run(folder: Path, eps: float = 0.1, given: Any = None, **changes: Any) -> Path:
    model = changes.pop("model", estimator())
    attack = MultiTaskPGD(model, "equal", eps=eps, max_iter=3, eps_step=changes.pop("step", eps), verbose=False)
    settings = {"seed": 0, "chunk": 12, "progress": False, **changes}
    evaluate(model, [attack], given or data(), out=folder, **settings)
    return folder


def figure(comparison: Comparison, name: str, run_name: str) -> Any:
    return next(one for one in comparison.figures if (one.figure, one.run) == (name, run_name))


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_the_same_samples_are_paired_and_others_are_not(tmp_path: Path) -> None:
    """A run on inputs that differ by nothing that matters, but differ, is another draw of samples: what the choice of
    samples does to each adds up. On the very same samples it drops out.
    """
    first = run(tmp_path / "first")
    same, other = run(tmp_path / "same", step=0.03), run(tmp_path / "other", step=0.03, given=data(1e-6))
    found = compare_runs([first, same, other], metrics=True)
    assert found.paired == (True, True, False)
    for name in ("kind", "depth", "delta_mtl", "delta_wor"):
        pair, apart = figure(found, name, "same"), figure(found, name, "other")
        assert pair.difference == pytest.approx(apart.difference, abs=1e-3)
        assert width(pair.difference_interval) < 0.75 * width(apart.difference_interval), name
        assert pair.interval == pytest.approx(apart.interval, abs=0.05)
    errors = [width(figure(found, "depth", name).interval) for name in ("first", "other")]
    assert width(figure(found, "depth", "other").difference_interval) == pytest.approx(np.hypot(*errors), rel=0.1)
    assert found.table().notes[0] == "other and first are on other samples and are resampled apart."


def test_runs_in_other_chunks_are_paired_and_part_of_a_run_is_not(tmp_path: Path) -> None:
    first, chunked = run(tmp_path / "first"), run(tmp_path / "chunked", chunk=8)
    part = run(tmp_path / "part", given=data(size=20))
    found = compare_runs([first, chunked, part])
    assert found.paired == (True, True, False)
    assert figure(found, "delta_wor", "chunked").difference == pytest.approx(0, abs=1e-6)


def test_a_difference_that_is_there_is_significant_and_one_that_is_not_is_not(tmp_path: Path) -> None:
    little, again = run(tmp_path / "little", eps=0.02), run(tmp_path / "again", eps=0.02)
    much = read_chunks(run(tmp_path / "much", eps=0.3))
    [(number, info)] = much.attacks
    renamed = type(much)(**{**vars(much), "attacks": ((number, type(info)(**{**vars(info), "eps": 0.02})),)})
    found = compare_runs([little, again, renamed], ["little", "=again", "much"])
    assert {(one.figure, one.run) for one in found.significant} == {("delta_mtl", "much"), ("delta_wor", "much")}
    stronger = figure(found, "delta_wor", "much")
    assert stronger.difference < 0 and stronger.difference_interval[1] < 0
    assert stronger.difference == pytest.approx(stronger.value - figure(found, "delta_wor", "little").value)
    table = found.table()
    assert table.columns == ("attack", "figure", "little", "=again", "=again − little", "much", "much − little")
    bold = [cell for row in table.rows for cell in row.cells if cell.bold]
    assert len(bold) == 2 and all(cell.text.endswith("*") for cell in bold) and "&#42;" in to_markdown(table)
    lines = list(csv.DictReader(found.to_csv().splitlines()))
    assert [line["run"] for line in lines] == ["little", "'=again", "much"] * 2
    last = lines[-1]
    assert (last["norm"], last["attack"], last["figure"], last["significant"]) == ("linf", "equal", "delta_wor", "yes")
    written = [
        float(last[name]) for name in ("value", "low", "high", "difference", "difference_low", "difference_high")
    ]
    assert written == [stronger.value, *stronger.interval, stronger.difference, *stronger.difference_interval]
    assert lines[0]["difference"] == "" and lines[1]["significant"] == ""


def test_intervals_are_those_of_the_results(tmp_path: Path) -> None:
    folder = run(tmp_path / "a")
    found = compare_runs([folder, folder], ["one", "two"])
    state = Run.read(folder)
    assert state.results is not None
    own = figure(found, "delta_wor", "one")
    assert (own.value, own.interval) == (
        state.results.attacks[0].delta_wor,
        state.results.attacks[0].delta_wor_interval,
    )
    low, high = figure(found, "delta_wor", "two").difference_interval
    # No sample differs: at most 3.7 of N do, on which anything may happen.
    assert (low, high) == pytest.approx((-(1 - (0.025 / 4) ** (1 / SIZE)), 1 - (0.025 / 4) ** (1 / SIZE)))


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    first, second = run(tmp_path / "first"), run(tmp_path / "second", seed=3, chunk=8)
    found = compare_runs([first, second, first], ["first", "second", "third"])
    assert found.settings == ({}, {"seed": (0, 3), "chunk": (12, 8)}, {})
    assert found.table().notes == ("Other than first, second ran with seed 3 instead of 0, chunk 8 instead of 12.",)
    other = compare_runs([first, run(tmp_path / "other", step=0.03)])
    [(name, (there, here))] = other.settings[1].items()
    assert name.endswith("eps_step") and (there, here) == (0.1, 0.03)


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    first = run(tmp_path / "first")
    with pytest.raises(ValueError, match="two runs or more. Found 1"):
        compare_runs([first])
    with pytest.raises(ValueError, match="at least 100. Found 9"):
        compare_runs([first, first], resamples=9)
    with pytest.raises(ValueError, match=r"2 distinct names, one a run. Found \['a', 'a'\]"):
        compare_runs([first, first], ["a", "a"])
    with pytest.raises(ValueError, match="in common. Found none"):
        compare_runs([first, run(tmp_path / "far", eps=0.2)])
    with pytest.raises(ValueError, match="averaged should have the protocol of first, pooled. Found auto-lambda"):
        compare_runs([first, run(tmp_path / "averaged", protocol="auto-lambda")])
    with pytest.raises(FileNotFoundError, match=r"Found no run.sqlite"):
        compare_runs([first, tmp_path])
    x, y = data()
    renamed = MultiTaskLabels({"kind": y["kind"], "tilt": y["depth"]})
    other = run(tmp_path / "other", given=(x, renamed), model=estimator(("kind", "tilt")))
    with pytest.raises(ValueError, match=r"other should have the tasks of first, \['kind \(accuracy\)'"):
        compare_runs([first, other])


def test_an_attack_that_one_run_lacks_leaves_its_place_empty(tmp_path: Path) -> None:
    first, second, third = run(tmp_path / "a"), run(tmp_path / "b"), run(tmp_path / "c", eps=0.2)
    found = compare_runs([first, second, third])
    missing = figure(found, "delta_wor", "c")
    assert (missing.value, missing.interval, missing.difference, missing.is_significant) == (None, None, None, False)
    assert found.table().rows[-1].cells[-1].text == "–"
