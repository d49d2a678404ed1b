"""From stored chunks to results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from torch import Tensor

from art_mtl.core.methods import spec_of
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.input_gradients import mean_cosines
from art_mtl.evaluation.measure import Measured, MetricSpec, deltas, describe, total
from art_mtl.evaluation.measure_specs import MeasureSpec, figures_of
from art_mtl.evaluation.results import (
    AttackResult,
    Difference,
    Environment,
    MeasureResult,
    Number,
    Results,
    Rows,
    known,
    mean_least_degradation,
    summarise,
)
from art_mtl.evaluation.statistics import (
    Resampled,
    degradation_intervals,
    degradations,
    difference_intervals,
    resampled_metrics,
)
from art_mtl.evaluation.step_recorder import mean_steps
from art_mtl.evaluation.units import CLEAN, UnitResult

Read = Callable[[int], Sequence[UnitResult]]
"""Number of an attack to what its chunks came to, in order."""

__all__ = ["Heading", "Summary", "heading_of", "measured"]


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


@dataclass(frozen=True)
class _Clean:
    """What is needed of the clean inputs."""

    measured: Measured
    resampled: Resampled
    warnings: tuple[str, ...]
    cosines: Rows | None
    measures: tuple[MeasureResult, ...]


class Summary:
    """The results of a run, attack by attack.

    Args:
        scales: One a task.
        read: Called once an attack, so that no more than one is in memory.
        measures: What stands beside the metrics of the tasks.
    """

    def __init__(self, scales: Sequence[MetricSpec], read: Read, measures: Sequence[MeasureSpec] = ()) -> None:
        self.scales, self.read, self.measures = scales, read, measures
        self._found: dict[int, tuple[AttackResult, Resampled]] = {}

    def add(self, number: int, info: AttackInfo) -> tuple[AttackResult, Examples | None]:
        """The result of an attack, and its adversarial inputs of the samples that it degrades least and most; None
        where they are not kept. All clean inputs should have been measured.
        """
        finished = self.read(number)
        attacked = measured(self.scales, finished, f"under attack {info.name!r}")
        degraded = degradations(self.scales, _resampled(self.scales, finished, attacked), self._clean.resampled)
        alone = deltas(self.scales, attacked.samples, self._clean.measured.samples)
        further = figures_of(self.measures, [one.part for one in finished])
        result = replace(
            _attack_result(info, finished, attacked, degraded, alone), measures=further[0], measure_intervals=further[1]
        )
        self._found[number] = result, degraded
        examples = [part.examples for part in finished if part.examples is not None]
        return result, Examples.joined(examples, alone.numpy()) if len(examples) == len(finished) else None

    def results(self, heading: Heading, attacks: Sequence[tuple[int, AttackInfo]]) -> Results:
        """All of them.

        Args:
            heading: What stands above them.
            attacks: Numbers and names of those to tell of; what was not added yet is added.
        """
        for number, info in attacks:
            if number not in self._found:
                self.add(number, info)
        results, degraded = [], []
        for number, _ in attacks:
            result, one = self._found[number]
            results.append(result)
            degraded.append(one)
        return Results(
            victim=heading.victim,
            tasks=describe(self.scales, self._clean.measured),
            attacks=tuple(results),
            clip_values=heading.clip_values,
            environment=heading.environment,
            command=heading.command,
            protocol=heading.protocol,
            differences=tuple(_differences(results, degraded)),
            warnings=self._clean.warnings,
            gradient_cosines=self._clean.cosines,
            measures=self._clean.measures,
        )

    @cached_property
    def _clean(self) -> _Clean:
        finished = self.read(CLEAN)
        found = measured(self.scales, finished, "on clean inputs")
        cosines = mean_cosines([one.cosines for one in finished])
        further = zip(self.measures, *figures_of(self.measures, [one.part for one in finished]), strict=True)
        measures = tuple(one.described(value, interval) for one, value, interval in further)
        return _Clean(found, _resampled(self.scales, finished, found), _warnings(finished), cosines, measures)


def _warnings(finished: Sequence[UnitResult]) -> tuple[str, ...]:
    """Of all chunks, each once."""
    return tuple(dict.fromkeys(text for one in finished for text in one.warnings))


def measured(scales: Sequence[MetricSpec], finished: Sequence[UnitResult], when: str) -> Measured:
    """The metrics of what an attack left, chunks in order."""
    return total(scales, [one.part for one in finished], when)


def _resampled(scales: Sequence[MetricSpec], finished: Sequence[UnitResult], found: Measured) -> Resampled:
    return resampled_metrics(scales, [one.part for one in finished]).around(found.values)


def _attack_result(
    info: AttackInfo, finished: Sequence[UnitResult], attacked: Measured, degraded: Resampled, alone: Tensor
) -> AttackResult:
    found, sample_deltas = _numbers(degraded.value), _rows(alone)
    mean, least = summarise(found)
    # A reference is made of one task of each single-task attack.
    intervals = degradation_intervals(degraded, union=spec_of(info.method).is_reference)
    weights, losses = mean_steps([one.steps for one in finished])
    return AttackResult(
        **info.to_json(),
        values=_numbers(attacked.values),
        deltas=found,
        delta_mtl=mean,
        delta_wor=least,
        least_degradation=mean_least_degradation(sample_deltas),
        sample_values=_rows(attacked.samples),
        sample_deltas=sample_deltas,
        perturbation=max(one.perturbation for one in finished),
        seconds=sum(one.seconds for one in finished),
        samples=len(attacked.samples),
        weights=weights,
        losses=losses,
        delta_intervals=intervals[0],
        delta_mtl_interval=intervals[1],
        delta_wor_interval=intervals[2],
        gradient_evaluations=_mean_cost(finished, [one.gradients for one in finished]),
        forward_evaluations=_mean_cost(finished, [one.forwards for one in finished]),
        warnings=_warnings(finished),
    )


def _mean_cost(finished: Sequence[UnitResult], costs: Sequence[float]) -> Number:
    """Evaluations for each sample; None where none was measured."""
    sizes = [len(one.part) for one in finished]
    total = sum(size * cost for size, cost in zip(sizes, costs, strict=True))
    measured = any(one.gradients or one.forwards for one in finished)
    return total / sum(sizes) if measured else None


def _differences(results: Sequence[AttackResult], degraded: Sequence[Resampled]) -> Iterator[Difference]:
    """Of each two attacks of one norm and radius."""
    for (attack, first), (other, second) in combinations(zip(results, degraded, strict=True), 2):
        if (attack.norm, attack.eps) == (other.norm, other.eps):
            yield Difference(attack.name, other.name, attack.norm, attack.eps, *difference_intervals(first, second))


def _numbers(values: Tensor) -> tuple[Number, ...]:
    return tuple(known(value) for value in values.tolist())


def _rows(values: Tensor) -> Rows:
    return tuple(_numbers(row) for row in values)
