"""Which candidate is kept: against plain loops, and against every possible choice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.core.searches.population_choice import choose_by_population, population_degradation, sample_degradation
from art_mtl.core.selection import keep_best

JOBS = [tasks.classification("kind", 3), tasks.regression("size")]


def statistics(right, errors):
    """``(C, N)`` of 0 or 1 and of errors, as additive statistics."""
    right, errors = torch.as_tensor(right).double(), torch.as_tensor(errors).double()
    return [torch.stack([right, torch.ones_like(right)], -1), torch.stack([errors, torch.ones_like(errors)], -1)]


def drawn(rng, candidates, size):
    right = (rng.random((candidates, size)) < 0.5).astype(float)
    errors = rng.random((candidates, size)) + 0.5
    right[0], errors[0] = 1, 0.5
    return statistics(right, errors)


def worst(parts, chosen):
    """Least degradation of the two tasks over the population, by hand."""
    n = np.arange(len(chosen))
    accuracy, error = (part[..., 0].numpy()[chosen, n].mean() for part in parts)
    return min(1 - accuracy / parts[0][0, :, 0].mean().item(), 1 - parts[1][0, :, 0].mean().item() / error)


def test_sample_degradation_is_the_least_of_the_tasks_with_a_label():
    before = [part[0] for part in statistics([[1, 1, 0, 0, 1, 1]], [[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]])]
    after = [part[0] for part in statistics([[0, 1, 0, 1, 0, 0]], [[4.0, 4.0, 2.0, 2.0, 1.0, 4.0]])]
    play = torch.tensor([[True, True]] * 5 + [[False, False]])
    found = sample_degradation(JOBS, after, before, play)
    # Lost and quadrupled; not lost; wrong all along; corrected; lost but the error halved; no label at all.
    expected = torch.tensor([0.75, 0.0, 0.5, 0.0, -1.0, -torch.inf], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_population_degradation_is_that_of_reports():
    now, before = (
        [part[0].sum(0) for part in statistics(*values)]
        for values in (([[1, 0, 0, 0]], [[2.0, 3, 4, 1]]), ([[1, 1, 0, 0]], [[1.0, 1, 1, 1]]))
    )
    torch.testing.assert_close(
        population_degradation(JOBS, now, before), torch.tensor([0.5, 1 - 1 / 2.5], dtype=torch.float64)
    )


def test_by_sample_ties_go_to_the_smoother_then_to_the_first():
    least = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.0, 0.2, 0.5, 1.0], [0.0, 0.1, 0.5, 0.9]])
    smooth = torch.tensor([[0.1, 0.9, 0.3, 0.0], [0.4, 0.0, 0.3, 0.0], [0.3, 0.0, 0.2, 0.9]])
    inputs = torch.arange(3.0)[:, None, None].expand(3, 4, 1)
    kept = keep_best(zip(inputs, torch.stack([least, smooth], 2), strict=True))
    assert kept.winner.tolist() == [1, 1, 0, 0]
    assert kept.inputs[:, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(kept.score, torch.tensor([[0.0, 0.4], [0.2, 0.0], [0.5, 0.3], [1.0, 0.0]]))


@pytest.mark.parametrize("seed", range(12))
def test_by_population_is_close_to_the_best_of_all_choices(seed):
    rng, candidates, size = np.random.default_rng(seed), 3, 7
    parts = drawn(rng, candidates, size)
    alone = [torch.full((size,), c) for c in range(candidates)]
    found = worst(parts, choose_by_population(JOBS, parts, torch.tensor([True, True]), alone).numpy())
    every = max(worst(parts, np.array(choice)) for choice in itertools.product(range(candidates), repeat=size))
    singles = max(worst(parts, choice.numpy()) for choice in alone)
    assert singles <= found <= every + 1e-12
    assert found >= every - 1 / size, "no farther from it than one sample"


def test_members_that_degradation_one_task_each_are_shared_out():
    """Each of two attacks loses one label of every sample; half and half loses half of both."""
    jobs = [tasks.classification("a", 3), tasks.classification("b", 3)]
    ones, zeros = torch.ones(40), torch.zeros(40)
    parts = [
        torch.stack([torch.stack([row, ones], -1) for row in rows]).double()
        for rows in ([ones, zeros, ones], [ones, ones, zeros])
    ]
    chosen = choose_by_population(jobs, parts, torch.tensor([True, True]), [torch.full((40,), c) for c in range(3)])
    assert torch.bincount(chosen, minlength=3).tolist() == [0, 20, 20]


def test_a_metric_that_is_no_mean_and_a_task_without_labels():
    """mIoU: slopes are those of the counts of all samples. The second task never counts."""
    job, g = tasks.segmentation("seg", 3), torch.Generator().manual_seed(0)
    target = job.targets(torch.randint(0, 3, (8, 4, 4), generator=g))
    outputs = torch.nn.functional.one_hot(target.value, 3).movedim(-1, 1).float()
    shown = [outputs, *(outputs + torch.randn(outputs.shape, generator=g) for _ in range(4))]
    seg = torch.stack([job.statistics(output, target) for output in shown])
    nothing = torch.zeros(5, 8, 2, dtype=torch.float64)
    known = torch.tensor([True, False])
    starts = [torch.full((8,), c) for c in range(5)]
    chosen = choose_by_population([job, JOBS[1]], [seg, nothing], known, starts)

    def miou(choice):
        return job.metric.value(seg[choice, torch.arange(8)].sum(0)).item()

    assert miou(chosen) < min(miou(start) for start in starts) - 0.01
    nobody = torch.tensor([False, False])
    assert torch.equal(choose_by_population([job, JOBS[1]], [seg, nothing], nobody, starts), starts[0])
