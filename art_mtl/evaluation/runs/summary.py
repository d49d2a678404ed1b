"""From stored chunks to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import Measured, MetricSpec, deltas, describe, total
from art_mtl.evaluation.results import (
    AttackResult,
    Environment,
    Number,
    Results,
    Rows,
    known,
    mean_least_degradation,
    summarise,
)
from art_mtl.evaluation.runs.records import CLEAN, UnitResult
from art_mtl.evaluation.samples import Inputs
from art_mtl.evaluation.step_recorder import mean_steps

Read = Callable[[int], Sequence[UnitResult]]
"""Number of an attack to what its chunks came to, in order."""
Listener = Callable[[AttackResult, Inputs], None]
"""Told each attack's result, and its adversarial inputs of the first samples (at most
:data:`art_mtl.evaluation.runs.records.PICTURED`)."""

__all__ = ["Heading", "Listener", "heading_of", "measured", "results_of"]


@dataclass(frozen=True)
class Heading:
    """What stands above the results of a run; see :class:`art_mtl.evaluation.Results`."""

    victim: str
    clip_values: tuple[float, float] | None
    environment: Environment
    command: str | None
    protocol: str


def heading_of(about: Mapping[str, Any]) -> Heading:
    """From what a run stores about itself."""
    clip = about["clip_values"]
    return Heading(
        victim=about["victim"],
        clip_values=None if clip is None else (clip[0], clip[1]),
        environment=Environment(**about["environment"]),
        command=about["command"],
        protocol=about["protocol"],
    )


def results_of(
    heading: Heading,
    scales: Sequence[MetricSpec],
    attacks: Sequence[tuple[int, AttackInfo]],
    read: Read,
    listener: Listener | None = None,
) -> Results:
    """The results of a run, or of those of its chunks that ``read`` gives.

    Args:
        heading: What stands above them.
        scales: One a task.
        attacks: Numbers and names of those to tell of.
        read: Called once an attack, so that no more than one is in memory.
        listener: Called for each attack.
    """
    clean = measured(scales, read(CLEAN), "on clean inputs")
    tasks = describe(scales, clean)
    results = []
    for number, info in attacks:
        finished = read(number)
        results.append(_attack_result(info, scales, finished, clean))
        if listener is not None and finished[0].shown is not None:
            shown = [part.shown for part in finished if part.shown is not None]
            listener(results[-1], np.concatenate(shown))
    return Results(
        victim=heading.victim,
        tasks=tasks,
        attacks=tuple(results),
        clip_values=heading.clip_values,
        environment=heading.environment,
        command=heading.command,
        protocol=heading.protocol,
    )


def measured(scales: Sequence[MetricSpec], finished: Sequence[UnitResult], when: str) -> Measured:
    """The metrics of what an attack left, chunks in order."""
    return total(scales, [one.part for one in finished], when)


def _attack_result(
    info: AttackInfo, scales: Sequence[MetricSpec], finished: Sequence[UnitResult], clean: Measured
) -> AttackResult:
    attacked = measured(scales, finished, f"under attack {info.name!r}")
    degradations = _numbers(deltas(scales, attacked.values, clean.values))
    sample_deltas = _rows(deltas(scales, attacked.samples, clean.samples))
    mean, least = summarise(degradations)
    weights, losses = mean_steps([one.steps for one in finished])
    return AttackResult(
        **info.to_json(),
        values=_numbers(attacked.values),
        deltas=degradations,
        delta_mtl=mean,
        delta_wor=least,
        least_degradation=mean_least_degradation(sample_deltas),
        sample_values=_rows(attacked.samples),
        sample_deltas=sample_deltas,
        perturbation=max(one.perturbation for one in finished),
        seconds=sum(one.seconds for one in finished),
        samples=len(attacked.samples),
        delta_intervals=(None,) * len(degradations),
        delta_mtl_interval=None,
        delta_wor_interval=None,
        gradient_evaluations=None,
        forward_evaluations=None,
        weights=weights,
        losses=losses,
    )


def _numbers(values: Tensor) -> tuple[Number, ...]:
    return tuple(known(value) for value in values.tolist())


def _rows(values: Tensor) -> Rows:
    return tuple(_numbers(row) for row in values)
