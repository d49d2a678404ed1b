"""From stored chunks to results: what is added up, and the intervals that go with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from art_mtl import tasks
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import MetricSpec, MetricState
from art_mtl.evaluation.results import Environment
from art_mtl.evaluation.statistics import degradation_intervals, degradations, resampled_metrics
from art_mtl.evaluation.summary import Heading, Summary
from art_mtl.evaluation.units import CLEAN, UnitResult
from art_mtl.metrics import SparseTensor

KINDS = [tasks.depth("a"), tasks.depth("b")]
SCALES = [MetricSpec.of(task, "auto-lambda") for task in KINDS]
HEADING = Heading("v", (0.0, 1.0), Environment({}, "cpu", "now", 0), None, "auto-lambda")


def chunk(size: int, error: float, seed: int, **cost) -> UnitResult:
    """Absolute errors of two depths about ``error``, of 10 places an image."""
    drawn = torch.rand(2, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + error
    rows = tuple(SparseTensor.of(torch.stack([10 * one, torch.full_like(one, 10)], 1)) for one in drawn)
    return UnitResult(MetricState(rows, torch.ones(size, 2, dtype=torch.bool), ({}, {})), **cost)


def test_costs_warnings_and_intervals_are_those_of_all_chunks() -> None:
    sizes = (12, 4)
    read = {
        CLEAN: [chunk(size, 1.0, seed=k) for k, size in enumerate(sizes)],
        1: [
            chunk(12, 2.0, 5, gradients=10.0, forwards=11.0, warnings=("slow", "odd"), seconds=1.0, perturbation=0.1),
            chunk(4, 2.0, 6, gradients=30.0, forwards=31.0, warnings=("odd", "late"), seconds=2.0, perturbation=0.2),
        ],
        2: [chunk(size, 3.0, seed=9 + k) for k, size in enumerate(sizes)],
        3: [chunk(size, 3.0, seed=9 + k) for k, size in enumerate(sizes)],
    }
    read[CLEAN][1] = replace(read[CLEAN][1], warnings=("dark",))
    infos = [AttackInfo(name, name, "linf", eps, None, 10) for name, eps in (("one", 0.1), ("two", 0.1), ("two", 0.2))]
    found = Summary(SCALES, lambda number: read[number]).results(HEADING, list(enumerate(infos, 1)))
    one, two, far = found.attacks
    assert (one.gradient_evaluations, one.forward_evaluations) == (15.0, 16.0)  # (12 · 10 + 4 · 30) / 16
    assert found.warnings == ("dark",)
    assert one.warnings == ("slow", "odd", "late") and (one.seconds, one.perturbation) == (3.0, 0.2)
    assert (two.gradient_evaluations, two.forward_evaluations, two.warnings) == (None, None, ())
    clean, attacked = (resampled_metrics(SCALES, [unit.part for unit in read[number]]) for number in (CLEAN, 1))
    expected = degradation_intervals(degradations(SCALES, attacked, clean))
    assert (one.delta_intervals, one.delta_mtl_interval, one.delta_wor_interval) == expected
    low, high = one.delta_wor_interval or (0.0, 0.0)
    assert low < (one.delta_wor or 0.0) < high
    assert low == max(ends[0] for ends in one.delta_intervals if ends)
    difference = found.difference(two, one)
    assert difference.delta_wor == pytest.approx((two.delta_wor or 0) - (one.delta_wor or 0))
    assert difference.stronger == "two" and len(found.differences) == 1, "no difference across radii"
    assert far.deltas == two.deltas
