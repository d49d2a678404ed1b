"""Which of several attacks to keep for each sample, by the hard metrics that reports print."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from art_mtl.core.objectives.population import relative_degradation
from art_mtl.core.weightings import least_degradation
from art_mtl.tasks import Task

_SOFTNESS = (0.1, 0.03, 0.01, 0.003)
"""Degradations that far apart have weights e-fold apart; from all tasks at once to the worst one."""
_ROUNDS = 50
"""Most moves at one softness; each costs one pass over the statistics of all candidates."""


def sample_degradation(
    tasks: Sequence[Task], now: Sequence[Tensor], before: Sequence[Tensor], has_label: Tensor
) -> Tensor:
    """The least degradation of each sample, ``(N,)``, by its own hard metrics; −∞ where no task has a label.

    What was wrong on the clean input already counts as fully degraded as long as it is wrong, and as not degraded once
    an attack has corrected it.

    Args:
        tasks: K tasks.
        now: Statistics of each, ``(N, S)``.
        before: Those on the clean inputs.
        has_label: ``(N, K)``, boolean.
    """
    degradations = []
    for task, after, clean in zip(tasks, now, before, strict=True):
        metric, reference = task.metric.value(after), task.metric.value(clean)
        degradation = relative_degradation(task, metric, reference)
        corrected = (reference <= 0) & (metric > 0)
        degradations.append(
            torch.where(corrected, torch.zeros_like(degradation), degradation) if task.higher_is_better else degradation
        )
    return least_degradation(torch.stack(degradations, 1), has_label)


def population_degradation(tasks: Sequence[Task], now: Sequence[Tensor], before: Sequence[Tensor]) -> Tensor:
    """The degradation of each task over all samples, ``(K,)``, from summed statistics ``(S,)``."""
    return torch.stack(
        [
            relative_degradation(task, task.metric.value(after), task.metric.value(clean))
            for task, after, clean in zip(tasks, now, before, strict=True)
        ]
    )


def choose_by_population(
    tasks: Sequence[Task], statistics: Sequence[Tensor], known: Tensor, starts: Sequence[Tensor]
) -> Tensor:
    """The candidate of each sample so that the least degraded task of the whole population is degraded most.

    From the best of ``starts`` upwards. Task weights favour the less degraded tasks; by the slope of each task's
    degradation in its summed statistics they tell which samples gain how much by another candidate. Of those the half,
    quarter, … that gain most move, as long as the exact figure rises: the least degradation, or at equal least the
    mean.

    Args:
        tasks: K tasks.
        statistics: For each ``(C, N, S)``; candidate 0 is the clean input.
        known: ``(K,)``, boolean: tasks that have a label at all.
        starts: Choices to begin with, ``(N,)`` each; at least one. The result is not weaker than any of them.

    Returns:
        ``(N,)``, numbers of candidates.
    """
    before = [part[0].sum(0) for part in statistics]
    sample = torch.arange(statistics[0].shape[1], device=statistics[0].device)

    def totals(chosen: Tensor) -> list[Tensor]:
        return [part[chosen, sample].sum(0) for part in statistics]

    def figures(chosen: Tensor) -> tuple[float, float]:
        degradation = population_degradation(tasks, totals(chosen), before)[known]
        return (degradation.min().item(), degradation.mean().item()) if len(degradation) else (0.0, 0.0)

    def rise(chosen: Tensor, softness: float) -> Tensor | None:
        degradation, slopes = _slopes(tasks, totals(chosen), before)
        task_weights = torch.softmax((-degradation / softness).masked_fill(~known, float("-inf")), 0)
        weighted = [part @ (w * slope) for part, w, slope in zip(statistics, task_weights, slopes, strict=True)]
        worth = torch.stack(weighted).sum(0)
        wanted = (worth == worth.amax(0)).long().argmax(0)  # The first of equals.
        gain = worth[wanted, sample] - worth[chosen, sample]
        order, size = gain.argsort(descending=True, stable=True), int((gain > 0).sum())
        while size > 0:
            moved = chosen.clone()
            moved[order[:size]] = wanted[order[:size]]
            if figures(moved) > figures(chosen):
                return moved
            size //= 2
        return None

    chosen = max(starts, key=figures)  # The first of equals.
    for softness in _SOFTNESS if bool(known.any()) else ():
        for _ in range(_ROUNDS):
            moved = rise(chosen, softness)
            if moved is None:
                break
            chosen = moved
    return chosen


def _slopes(tasks: Sequence[Task], now: Sequence[Tensor], before: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Degradation of each task and its slope in the summed statistics; 0 where the metric has none."""
    leaves = [total.clone().requires_grad_(True) for total in now]
    with torch.enable_grad():
        degradation = population_degradation(tasks, leaves, before)
        slopes: Sequence[Tensor | None] = [None] * len(leaves)
        if degradation.requires_grad:
            slopes = torch.autograd.grad(degradation.sum(), leaves, allow_unused=True)
    return degradation.detach(), [torch.zeros_like(t) if s is None else s for s, t in zip(slopes, now, strict=True)]
