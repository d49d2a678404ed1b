"""Runs side by side, with confidence intervals of their figures and of the differences."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from art_mtl.differences import differences, instead_of
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import MetricSpec, total
from art_mtl.evaluation.reading import Chunks, read_chunks
from art_mtl.evaluation.report.escape import csv_field
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.report.tables import MISSING, Cell, Row, ShowsTable, Table, describe_eps, heading
from art_mtl.evaluation.results import Interval, Number, known
from art_mtl.evaluation.statistics import (
    LEVEL,
    RESAMPLES,
    Resampled,
    degradation_intervals,
    degradations,
    difference_intervals,
    mean_degradation,
    metric_intervals,
    resampled_metrics,
    worst_degradation,
)
from art_mtl.evaluation.units import CLEAN

_MARK = "*"
_DELTAS = (("delta_mtl", "Δ_MTL (%)"), ("delta_wor", "Δ_Wor (%)"))
_OPTIONS = {name: name for name in ("victim", "seed", "chunk", "batch_size", "protocol", "threads", "device")} | {
    "attacks.*.max_iter": "steps",
    "attacks.*.num_random_init": "restarts",
}
"""Options of an experiment by what they are called where a run keeps its settings."""

__all__ = ["ComparedFigure", "Comparison", "compare_runs"]


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of one attack in one run, and how it differs from that of the first run.

    Attributes:
        attack: Name of the attack.
        norm: Of the attack.
        eps: Of the attack.
        figure: "delta_mtl", "delta_wor", or the name of a task, whose metric it is.
        run: Name of the run.
        value: In its own unit: Δ as a fraction, metrics without the scale of tables. None where it is undefined, or the
            run has no such attack.
        interval: Of the value, 95 %.
        difference: Value − that of the first run; None of the first run.
        difference_interval: Of the difference, 95 %.
        heading: As tables print the figure.
        scale: Tables print the value times this.
    """

    attack: str
    norm: str | None
    eps: Number
    figure: str
    run: str
    value: Number
    interval: Interval
    difference: Number
    difference_interval: Interval
    heading: str
    scale: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return self.difference_interval is not None and (
            self.difference_interval[0] > 0 or self.difference_interval[1] < 0
        )


@dataclass(frozen=True, repr=False)
class Comparison(ShowsTable):
    """Runs side by side.

    In a terminal and in a notebook it shows its table.

    Attributes:
        runs: Names of the runs; differences are from the first.
        paired: Of each run, whether it is on the samples of the first, with which it was then resampled together.
        figures: By attack, norm and radius, figure, and run.
        caption: What is compared.
        clip_values: Least and greatest value of the model's input; None if unbounded.
        settings: Of each run, the stored settings that differ from those of the first, by name: the first run's value
            and its own. None of a run whose settings are not stored, as one in memory, and where the first's are not.
        by_command: Whether all runs were made by the command, in whose words the settings are then told.
    """

    runs: tuple[str, ...]
    paired: tuple[bool, ...]
    figures: tuple[ComparedFigure, ...]
    caption: str
    clip_values: tuple[float, float] | None
    settings: tuple[Mapping[str, tuple[Any, Any]] | None, ...] = field(default=(), compare=False)
    by_command: bool = field(default=False, compare=False)
    _everything = "to_csv() has all figures"

    @property
    def _words(self) -> dict[str, str]:
        """What users call the settings."""
        return {name: f"--{word.replace('_', '-')}" if self.by_command else word for name, word in _OPTIONS.items()}

    @property
    def significant(self) -> tuple[ComparedFigure, ...]:
        """The figures that differ significantly from those of the first run."""
        return tuple(figure for figure in self.figures if figure.is_significant)

    def table(self) -> Table:
        """A row a figure, a column a run and a difference."""
        columns = ["attack", "figure", self.runs[0]]
        for name in self.runs[1:]:
            columns += [name, f"{name} − {self.runs[0]}"]
        rows: list[Row] = []
        where = None
        for _, group in groupby(self.figures, lambda one: (one.attack, one.norm, one.eps, one.figure)):
            found = list(group)
            first = found[0]
            if (first.norm, first.eps) != where:
                where = first.norm, first.eps
                rows.append(Row("block", (Cell(describe_eps(*where, self.clip_values)),)))
            cells = [Cell(first.attack), Cell(first.heading), _cell(first.value, first.interval, first.scale)]
            for one in found[1:]:
                cells.append(_cell(one.value, one.interval, one.scale))
                cells.append(_cell(one.difference, one.difference_interval, one.scale, "+", one.is_significant))
            rows.append(Row("attack", tuple(cells), first.norm, first.eps))
        pairs = zip(self.runs[1:], self.paired[1:], strict=True)
        notes = [
            f"{name} and {self.runs[0]} are on other samples and are resampled apart." for name, p in pairs if not p
        ]
        for name, found_settings in zip(self.runs, self.settings, strict=False):
            if found_settings:
                notes.append(f"Other than {self.runs[0]}, {name} ran with {instead_of(found_settings, self._words)}.")
        return Table(tuple(columns), tuple(rows), self.caption, tuple(notes), keys=2)

    def to_csv(self) -> str:
        """A line for each figure of each run: numbers unscaled in full precision, intervals in columns of their own."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        ends = ("value", "low", "high", "difference", "difference_low", "difference_high")
        writer.writerow(["norm", "eps", "attack", "figure", "run", *ends, "significant"])
        for one in self.figures:
            numbers = [one.value, *(one.interval or (None, None))]
            numbers += [one.difference, *(one.difference_interval or (None, None))]
            names = [csv_field(name) for name in (one.attack, one.figure, one.run)]
            written = ["" if number is None else repr(number) for number in numbers]
            eps = "" if one.eps is None else repr(one.eps)
            writer.writerow([one.norm or "", eps, *names, *written, "yes" if one.is_significant else ""])
        return out.getvalue()


def compare_runs(
    runs: Sequence[str | Path | Chunks],
    names: Sequence[str] | None = None,
    *,
    metrics: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Set runs side by side.

    Every figure and its difference from the first run have an interval that holds with a probability of 95 %; see
    :mod:`art_mtl.evaluation.statistics`. Runs on the same samples are resampled together, so that what the choice of
    samples does to both drops out of the difference; runs on other samples are resampled independently.

    Args:
        runs: Two or more: folders of runs, which may still go on, or what :func:`read_chunks` read of one.
        names: What the comparison calls them; None for the names of the folders.
        metrics: With the metric of every task, beside Δ_MTL and Δ_Wor.
        resamples: R, at least 100.
        seed: Of the resampling.

    Returns:
        The figures of each attack, by norm and radius, that the first run and another have in common.

    Raises:
        ValueError: Fewer than two runs, other tasks or another protocol, nothing in common, or as for
            :meth:`art_mtl.evaluation.Run.read`.
        FileNotFoundError: There is no run.
    """
    if len(runs) < 2:
        raise ValueError(f"Parameter `runs` should be two runs or more. Found {len(runs)}.")
    if resamples < 100:
        raise ValueError(f"Parameter `resamples` should be at least 100. Found {resamples}.")
    called = tuple(_names(runs) if names is None else names)
    if len(called) != len(runs) or len(set(called)) < len(called):
        raise ValueError(f"Parameter `names` should be {len(runs)} distinct names, one a run. Found {list(called)}.")
    read = [run if isinstance(run, Chunks) else read_chunks(run) for run in runs]
    for name, found in zip(called, read, strict=True):
        _check(name, found, called[0], read[0])
    paired = tuple(_is_paired(found, read[0]) for found in read)
    sides = [
        _Side(name, found, resamples, seed if together else (seed, place))
        for place, (name, found, together) in enumerate(zip(called, read, paired, strict=True))
    ]
    figures = tuple(_figures(sides, metrics))
    if not figures:
        raise ValueError(f"The runs should have an attack, norm and radius in common. Found none in {list(called)}.")
    clip = read[0].about["clip_values"]
    caption = _caption(sides, resamples)
    settings = tuple(_differing(read[0].about.get("settings"), found.about.get("settings")) for found in read)
    by_command = all(found.about.get("command") is not None for found in read)
    ends = None if clip is None else (clip[0], clip[1])
    return Comparison(called, paired, figures, caption, ends, settings, by_command)


def _differing(first: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> dict[str, tuple[Any, Any]] | None:
    return None if first is None or own is None else differences(first, own)


class _Side:
    """One run, ready to be resampled; no more than one of its attacks at a time."""

    def __init__(self, name: str, found: Chunks, resamples: int, seed: int | Sequence[int]) -> None:
        self.name, self.found, self.resamples, self.seed = name, found, resamples, seed
        self.scales: list[MetricSpec] = found.scales
        self.clean = self._resampled(CLEAN)

    def metrics(self, info: AttackInfo) -> Resampled | None:
        """Of an attack by name, norm and radius; None if there is no such attack."""
        number = next((number for number, own in self.found.attacks if _key(own) == _key(info)), None)
        return None if number is None else self._resampled(number)

    def _resampled(self, number: int) -> Resampled:
        parts = [one.part for one in self.found.read[number]]
        reported = total(self.scales, parts, f"in {self.name}").values
        return resampled_metrics(self.scales, parts, self.resamples, self.seed).around(reported)


_Entry = tuple[Number, Interval, Number, Interval]
"""Value, its interval, difference from the first run, its interval."""
_NOTHING: _Entry = (None, None, None, None)


def _figures(sides: Sequence[_Side], metrics: bool) -> Iterator[ComparedFigure]:
    scales = sides[0].scales
    headings = [(s.name, heading(s), s.scale) for s in scales] if metrics else []
    headings += [(figure, text, 100.0) for figure, text in _DELTAS]
    for _, info in sides[0].found.attacks:
        first, *others = [side.metrics(info) for side in sides]
        if first is None or not any(others):
            continue
        columns = [_own(sides[0], first, metrics)]
        columns += [_beside(sides[0], first, side, one, metrics) for side, one in zip(sides[1:], others, strict=True)]
        for place, (figure, text, scale) in enumerate(headings):
            for side, column in zip(sides, columns, strict=True):
                value, interval, change, of_change = column[place]
                yield ComparedFigure(*_key(info), figure, side.name, value, interval, change, of_change, text, scale)


def _own(side: _Side, found: Resampled, metrics: bool) -> list[_Entry]:
    """Figures without a difference."""
    degraded = degradations(side.scales, found, side.clean)
    _, of_mean, of_worst = degradation_intervals(degraded)
    figures = zip(found.value.tolist(), metric_intervals(side.scales, found), strict=True) if metrics else ()
    summaries = [(mean_degradation(degraded), of_mean), (worst_degradation(degraded), of_worst)]
    pairs = [*figures, *((float(summary.value), interval) for summary, interval in summaries)]
    return [(known(value), interval, None, None) for value, interval in pairs]


def _beside(first: _Side, own: Resampled, side: _Side, found: Resampled | None, metrics: bool) -> list[_Entry]:
    """Figures of another run, with their differences from the first."""
    if found is None:
        return [_NOTHING] * (len(_DELTAS) + (len(first.scales) if metrics else 0))
    a, b = degradations(side.scales, found, side.clean), degradations(first.scales, own, first.clean)
    _, _, mean, of_mean, worst, of_worst = difference_intervals(a, b)
    change = found - own
    intervals = metric_intervals(side.scales, change, differences=True)
    figures = zip(map(known, change.value.tolist()), intervals, strict=True) if metrics else ()
    differences = [*figures, (mean, of_mean), (worst, of_worst)]
    return [(*entry[:2], *pair) for entry, pair in zip(_own(side, found, metrics), differences, strict=True)]


def _check(name: str, found: Chunks, first_name: str, first: Chunks) -> None:
    if not found.chunks:
        raise ValueError(f"{name} should be a run with at least one finished chunk. Found none.")
    for what, own, expected in (
        ("tasks", _tasks(found), _tasks(first)),
        ("protocol", found.about["protocol"], first.about["protocol"]),
    ):
        if own != expected:
            raise ValueError(f"{name} should have the {what} of {first_name}, {expected}. Found {own}.")


def _tasks(found: Chunks) -> list[str]:
    return [f"{entry['name']} ({entry['metric']})" for entry in found.about["scales"]]


def _is_paired(found: Chunks, first: Chunks) -> bool:
    """Whether two runs are on the same samples, in the same order."""
    own, other = _samples(found), _samples(first)
    return own is not None and own == other


def _samples(found: Chunks) -> str | None:
    """By what the same samples are known, their hashes; None where there are none."""
    return "".join(one.data for one in found.read[CLEAN]) or None


def _key(info: AttackInfo) -> tuple[str, str | None, Number]:
    return info.name, info.norm, info.eps


def _names(runs: Sequence[str | Path | Chunks]) -> list[str]:
    """The last parts of their paths, or all of these where that is not enough; runs in memory are counted."""
    paths = [f"run {place}" if isinstance(run, Chunks) else str(run) for place, run in enumerate(runs, 1)]
    short = [
        path if isinstance(run, Chunks) else Path(path).resolve().name for path, run in zip(paths, runs, strict=True)
    ]
    names = paths if len(set(short)) < len(short) == len(set(paths)) else short
    counted = [f"{name} ({names[: place + 1].count(name)})" for place, name in enumerate(names)]
    return [own if names.count(name) > 1 else name for name, own in zip(names, counted, strict=True)]


def _caption(sides: Sequence[_Side], resamples: int) -> str:
    parts = []
    for side in sides:
        count, of = sum(len(one.part) for one in side.found.read[CLEAN]), side.found.about["samples"]
        some = f"{count}" if count == of else f"{count} of {of}"
        parts.append(f"{side.name}: {side.found.about['victim']}, {some} samples")
    return (
        f"{'; '.join(parts)}. In brackets {LEVEL:.0%} confidence intervals, from {resamples} bootstrap resamples. "
        f"{_MARK}: the interval of the difference excludes 0."
    )


def _cell(value: Number, interval: Interval, scale: float, sign: str = "-", differs: bool = False) -> Cell:
    if value is None:
        return Cell(MISSING)
    ends = MISSING if interval is None else ", ".join(decimals(scale * end) for end in interval)
    text = f"{decimals(scale * value, sign=sign)} [{ends}]"
    return Cell(f"{text} {_MARK}" if differs else text, value, differs)
