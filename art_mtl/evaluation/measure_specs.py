"""Further measures of a run: how they become figures, what a run stores of them, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from art_mtl.evaluation.further_measures import Measure
from art_mtl.evaluation.measure import MetricSpec, MetricState
from art_mtl.evaluation.results import Interval, MeasureResult, Number, known
from art_mtl.evaluation.statistics import metric_intervals, resampled_metrics

__all__ = ["MeasureSpec", "figures_of", "read_measures"]


@dataclass(frozen=True)
class MeasureSpec:
    """One further measure.

    Attributes:
        column: Its place among those of the run.
        name: As it was asked for.
        scale: How statistics become the measure.
        has_direction: Whether it is known which way is better.
    """

    column: int
    name: str
    scale: MetricSpec
    has_direction: bool = True

    @classmethod
    def of(cls, column: int, measure: Measure, scale: MetricSpec) -> MeasureSpec:
        """Of a measure."""
        return cls(column, measure.name, scale, measure.has_direction)

    def to_json(self) -> dict[str, Any]:
        """What is stored of it, as JSON values."""
        return {"name": self.name, "scale": self.scale.to_json()}

    def total(self, parts: Sequence[MetricState]) -> float:
        """The measure over all parts; NaN where it has no number.

        Raises:
            ValueError: It is no single number.
        """
        own = [part.of_measures([self.column]) for part in parts]
        return float(self.scale.total(own, 0)) if any(bool(part.has_label.any()) for part in own) else math.nan

    def described(self, clean: Number, interval: Interval) -> MeasureResult:
        """The measure with its figure on clean inputs."""
        s = self.scale
        better = s.higher_is_better if self.has_direction else None
        reason = "" if s.size else "its state is no sum over samples, so that none can be resampled"
        return MeasureResult(s.name, self.name, s.metric, better, s.scale, s.unit, clean, interval, reason)


def figures_of(
    measures: Sequence[MeasureSpec], parts: Sequence[MetricState]
) -> tuple[tuple[Number, ...], tuple[Interval, ...]]:
    """Every measure over all parts, and its interval; None where there is none."""
    if not measures:
        return (), ()
    scales, columns = [one.scale for one in measures], [one.column for one in measures]
    values = [one.total(parts) for one in measures]
    found = resampled_metrics(scales, [part.of_measures(columns) for part in parts])
    intervals = metric_intervals(scales, found.around(found.value.new_tensor(values)))
    return tuple(map(known, values)), intervals


def read_measures(
    entries: Sequence[Mapping[str, Any]], parts: Sequence[MetricState]
) -> tuple[list[MeasureSpec], list[str]]:
    """What a run stores of its measures, and names of those that only the program which made it has.

    Args:
        entries: As :meth:`MeasureSpec.to_json` makes them.
        parts: What was stored of them.

    Raises:
        ValueError: What is stored is not of these measures.
    """
    found, live = list[MeasureSpec](), list[str]()
    for column, entry in enumerate(entries):
        if entry["scale"]["document"] is None:
            live.append(f"{entry['scale']['name']}={entry['name']}")
            continue
        scale = MetricSpec.from_json(entry["scale"])
        scale.check([part.of_measures([column]) for part in parts], 0)
        found.append(MeasureSpec(column, str(entry["name"]), scale))
    return found, live
