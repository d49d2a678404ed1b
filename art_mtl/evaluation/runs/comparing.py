"""Runs side by side, with confidence intervals by bootstrap over the samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import PROTOCOL_BATCH, MetricSpec, deltas
from art_mtl.evaluation.results import Number
from art_mtl.evaluation.runs.reading import Chunks, read_chains
from art_mtl.evaluation.runs.records import CLEAN
from art_mtl.evaluation.tables import MISSING, Cell, Row, Table, describe_eps, heading

RESAMPLES = 2000
LEVEL = 0.95
_AT_ONCE = 50
"""Resamples drawn at a time: all of them would be as many numbers as resamples × samples."""
_MARK = "*"

__all__ = ["LEVEL", "RESAMPLES", "Figure", "bootstrap", "compare_runs", "interval"]


@dataclass(frozen=True)
class Figure:
    """One figure of one run with what resampling makes of it.

    Attributes:
        value: On the samples as they are; NaN where it is undefined.
        draws: On each resample, ``(R,)``.
    """

    value: float
    draws: Tensor

    def minus(self, other: Figure) -> Figure:
        """The difference, resample by resample."""
        return Figure(self.value - other.value, self.draws - other.draws)


def interval(figure: Figure, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval (Efron 1979; Efron & Tibshirani 1993, section 13.3) of the resamples where it is defined.

    Examples:
        >>> low, high = interval(Figure(50.0, torch.arange(101.0)))
        >>> round(low, 6), round(high, 6)
        (2.5, 97.5)
    """
    known = figure.draws[torch.isfinite(figure.draws)].double()
    if len(known) == 0:
        return float("nan"), float("nan")
    low, high = torch.quantile(known, torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=known.dtype)).tolist()
    return low, high


def bootstrap(statistics: Sequence[Tensor], resamples: int, seed: int) -> list[Tensor]:
    """Sums over resamples of the samples, drawn with replacement.

    Args:
        statistics: Additive statistics, each ``(N, S)`` of the same N samples.
        resamples: R.
        seed: The same seed draws the same samples of the same N.

    Returns:
        Of each, ``(R, S)``.

    Examples:
        >>> [sums] = bootstrap([torch.ones(4, 1)], resamples=3, seed=0)
        >>> sums.flatten().tolist()
        [4.0, 4.0, 4.0]
    """
    count, generator = len(statistics[0]), np.random.default_rng(seed)
    share = np.full(count, 1 / count)
    sums: list[list[Tensor]] = [[] for _ in statistics]
    for first in range(0, resamples, _AT_ONCE):
        counts = generator.multinomial(count, share, size=min(_AT_ONCE, resamples - first))
        draws = torch.as_tensor(counts, dtype=torch.float64)
        for gathered, rows in zip(sums, statistics, strict=True):
            gathered.append(draws @ rows.double())
    return [torch.cat(gathered) for gathered in sums]


def compare_runs(
    folders: Sequence[str | Path], *, metrics: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Table:
    """Set runs side by side.

    Each figure has the interval in which it lies in 95 % of resamples of the data; each run after the first also the
    difference from the first, marked where the interval of the difference excludes 0. Runs on the same samples are
    resampled together, so that what the choice of samples does to both drops out of the difference.

    Args:
        folders: Of two runs or more, which may still go on; see :func:`art_mtl.evaluation.runs.read_run`.
        metrics: With the metric of every task, beside Δ_MTL and Δ_Wor.
        resamples: R, at least 100.
        seed: Of the resampling.

    Returns:
        A row for each attack, by norm and radius, that the first run and another have in common.

    Raises:
        ValueError: Fewer than two runs, other tasks, nothing in common, or as for :func:`read_run`.
        FileNotFoundError: There is no run.
    """
    if len(folders) < 2:
        raise ValueError(f"Parameter `folders` should be two runs or more. Found {len(folders)}.")
    if resamples < 100:
        raise ValueError(f"Parameter `resamples` should be at least 100. Found {resamples}.")
    runs = [_Run(folder, resamples, seed) for folder in folders]
    for run in runs[1:]:
        if run.tasks != runs[0].tasks:
            raise ValueError(
                f"{run.folder} should have the tasks of {runs[0].folder}, {runs[0].tasks}. Found {run.tasks}."
            )
    rows = list(_rows(runs, metrics))
    if len(rows) < 2:
        raise ValueError(
            f"The runs should have an attack, norm and radius in common. Found none in {list(map(str, folders))}."
        )
    names = _names(folders)
    columns = ["attack", "figure", names[0]]
    for name in names[1:]:
        columns += [name, f"{name} − {names[0]}"]
    return Table(tuple(columns), tuple(rows), _caption(runs, names, resamples), tuple(_notes(runs, names)))


class _Run:
    """One run, read and ready to be resampled."""

    def __init__(self, folder: str | Path, resamples: int, seed: int) -> None:
        self.folder, self.resamples, self.seed = folder, resamples, seed
        self.found: Chunks = read_chains(folder)
        if not self.found.chunks:
            raise ValueError(f"{folder}: expected a run with at least one finished chunk. Found none.")
        self.scales: list[MetricSpec] = self.found.scales
        self.clean = self._figures(CLEAN)

    @property
    def tasks(self) -> list[str]:
        """Names and metrics."""
        return [f"{scale.name} ({scale.metric})" for scale in self.scales]

    @property
    def samples(self) -> int:
        """That are compared."""
        return sum(len(one.part) for one in self.found.read[CLEAN])

    @property
    def data(self) -> Any:
        """By what the same samples are known."""
        return [one.data for one in self.found.read[CLEAN]], self.found.chunks

    def figures(self, key: tuple[Any, ...]) -> list[Figure] | None:
        """Metric of each task, Δ_MTL and Δ_Wor of an attack; None if there is no such attack."""
        number = next((number for number, info in self.found.attacks if _key(info) == key), None)
        if number is None:
            return None
        attacked = self._figures(number)
        value = deltas(self.scales, attacked[:1], self.clean[:1])[0]
        draws = deltas(self.scales, attacked[1:], self.clean[1:])
        summaries = [Figure(float(f(value)), f(draws)) for f in (_mean, _worst)]
        return [Figure(float(column[0]), column[1:]) for column in attacked.unbind(1)] + summaries

    def _figures(self, number: int) -> Tensor:
        """Metrics ``(1 + R, K)``: on the samples as they are, then on each resample."""
        parts = [one.part for one in self.found.read[number]]
        rows = [torch.cat([part.statistics[k].rows() for part in parts]) for k in range(len(self.scales))]
        if any(scale.averages_batches for scale in self.scales):
            # Means over batches are resampled as batches, and all other tasks with them.
            rows = [_batches(scale, statistics) for scale, statistics in zip(self.scales, rows, strict=True)]
        drawn = bootstrap(rows, self.resamples, self.seed)
        both = [torch.cat([row.double().sum(0, keepdim=True), sums]) for row, sums in zip(rows, drawn, strict=True)]
        return torch.stack([scale.value(sums) for scale, sums in zip(self.scales, both, strict=True)], 1)


def _batches(scale: MetricSpec, statistics: Tensor) -> Tensor:
    """Additive statistics of batches; where their means are averaged, of these means."""
    batches = torch.split(statistics, PROTOCOL_BATCH)
    sums = torch.stack([batch.sum(0) for batch in batches])
    if not scale.averages_batches:
        return sums
    sizes = sums.new_tensor([len(batch) for batch in batches]) * (sums[:, 1] > 0)
    return torch.stack([scale.value(sums) * sizes, sizes], 1)


def _rows(runs: Sequence[_Run], metrics: bool) -> Iterator[Row]:
    where = None
    for _, info in runs[0].found.attacks:
        found = [run.figures(_key(info)) for run in runs]
        if all(figures is None for figures in found[1:]):
            continue
        if (info.norm, info.eps) != where:
            where = info.norm, info.eps
            yield Row("block", (Cell(describe_eps(*where, runs[0].found.about["clip_values"])),))
        names = [*(heading(scale) for scale in runs[0].scales), "Δ_MTL (%)", "Δ_Wor (%)"]
        scales = [*(scale.scale for scale in runs[0].scales), 100.0, 100.0]
        for i, (name, scale) in enumerate(zip(names, scales, strict=True)):
            if metrics or i >= len(runs[0].scales):
                column = [None if figures is None else figures[i] for figures in found]
                yield _row(info, name, scale, column, runs)


def _row(info: AttackInfo, name: str, scale: float, figures: Sequence[Figure | None], runs: Sequence[_Run]) -> Row:
    first = figures[0]
    cells = [Cell(info.name), Cell(name), _cell(first, scale)]
    for run, figure in zip(runs[1:], figures[1:], strict=True):
        cells.append(_cell(figure, scale))
        if figure is None or first is None:
            cells.append(Cell(MISSING))
            continue
        paired = run.data == runs[0].data
        other = first if paired else Figure(first.value, first.draws.flip(0))  # other samples: no common resamples
        cells.append(_cell(figure.minus(other), scale, marked=True))
    return Row("attack", tuple(cells), info.norm, info.eps)


def _cell(figure: Figure | None, scale: float, marked: bool = False) -> Cell:
    if figure is None or not np.isfinite(figure.value):
        return Cell(MISSING)
    low, high = interval(figure)
    differs = marked and (low > 0 or high < 0)
    sign = "+" if marked else "-"
    text = f"{scale * figure.value:{sign}.2f} [{scale * low:.2f}, {scale * high:.2f}]"
    return Cell(f"{text} {_MARK}" if differs else text, figure.value, differs)


def _mean(values: Tensor) -> Tensor:
    return torch.nanmean(values, -1)


def _worst(values: Tensor) -> Tensor:
    """Δ_Wor: the greatest of the defined Δ; NaN where there is none."""
    greatest = torch.where(torch.isnan(values), float("-inf"), values).amax(-1)
    return torch.where(torch.isinf(greatest), float("nan"), greatest)


def _key(info: AttackInfo) -> tuple[str, str | None, Number]:
    return info.name, info.norm, info.eps


def _names(folders: Sequence[str | Path]) -> list[str]:
    """What the runs are called: the last part of their paths, or all of these where that is not enough."""
    short = [Path(folder).resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _caption(runs: Sequence[_Run], names: Sequence[str], resamples: int) -> str:
    parts = []
    for run, name in zip(runs, names, strict=True):
        of = run.found.about["samples"]
        count = f"{run.samples}" if run.samples == of else f"{run.samples} of {of}"
        parts.append(f"{name}: {run.found.about['victim']}, {count} samples")
    return (
        f"{'; '.join(parts)}. In brackets {LEVEL:.0%} percentile intervals of {resamples} bootstrap resamples. "
        f"{_MARK}: the interval of the difference excludes 0."
    )


def _notes(runs: Sequence[_Run], names: Sequence[str]) -> Iterator[str]:
    for run, name in zip(runs[1:], names[1:], strict=True):
        if run.data != runs[0].data:
            yield f"{name} and {names[0]} are on other samples and are resampled apart."
