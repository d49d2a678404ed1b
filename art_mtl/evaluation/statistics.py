"""Confidence intervals by bootstrap over the samples: the only copy in the package.

The samples of a data set are drawn with replacement, the clean inputs and every attack with the same draws, so that
what the choice of samples does to both drops out of a degradation and of a difference of two attacks. Metrics follow
from sums of additive statistics; a metric that has none of its own, such as an average precision, has the spread of the
statistics that stand for it.

Δ_Wor is a maximum, of which the percentiles of the resamples are no confidence interval: where tasks are balanced, the
maximum of estimates lies above the maximum of what they estimate, and the bootstrap repeats that error. Here the
degradations of all tasks get *simultaneous* intervals; wherever these hold, the maximum lies between the greatest of
the lower ends and the greatest of the upper ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.evaluation.measure import PROTOCOL_BATCH, MetricSpec, MetricState, deltas
from art_mtl.evaluation.results import Interval, Number, combined_interval, known
from art_mtl.metrics import SparseTensor

RESAMPLES = 1000
"""They give a standard error to 2 %."""
LEVEL = 0.95
_AT_ONCE = 50
"""Resamples that are drawn at a time: the weights of all would be as many numbers as resamples × samples."""
_NO_SPREAD = 1e-12
_ROUNDING = 1e-5

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Resampled",
    "bootstrap",
    "degradation_intervals",
    "degradations",
    "difference_intervals",
    "margin",
    "mean_degradation",
    "metric_intervals",
    "resampled_metrics",
    "unseen",
    "worst_degradation",
]

_OF_DELTAS: dict[str, Any] = {"stabilise": True, "span": (-1.0, 0.0)}
_OF_DIFFERENCES: dict[str, Any] = {"span": (-1.0, 1.0)}

Intervals = tuple[Interval, ...]


Statistics = Tensor | SparseTensor


@dataclass(frozen=True)
class Resampled:
    """Figures, and what resampling makes of them.

    Attributes:
        value: On the samples as they are, ``(...)``; NaN where undefined.
        draws: On each resample, ``(R, ...)``.
        count: Number of units that were drawn from: samples, or batches where a protocol averages over batches.
    """

    value: Tensor
    draws: Tensor
    count: int

    def __getitem__(self, task: int) -> Resampled:
        return Resampled(self.value[..., task], self.draws[..., task], self.count)

    def around(self, value: Tensor) -> Resampled:
        """The same spread about figures for which these stand; rounding to single precision is no other figure."""
        away = (value - self.value).abs() > _ROUNDING * self.value.abs()
        shift = torch.where(away, value - self.value, torch.zeros_like(self.value))
        return Resampled(self.value + shift, self.draws + shift, self.count)

    def __sub__(self, other: Resampled) -> Resampled:
        """The difference, resample by resample."""
        return Resampled(self.value - other.value, self.draws - other.draws, min(self.count, other.count))


def bootstrap(
    chunks: Sequence[Sequence[Statistics]], resamples: int = RESAMPLES, seed: int | Sequence[int] = 0
) -> Iterator[list[Tensor]]:
    """Sums of additive statistics over resamples of the samples (Efron 1979), a few resamples at a time.

    Args:
        chunks: Of each part of the data set in order, the statistics ``(n, S)`` of each task; dense or sparse.
        resamples: R.
        seed: The same seed draws the same samples of the same N, however they are cut into chunks.

    Yields:
        Of each task the sums ``(r, S)`` of the next r resamples.

    Examples:
        >>> [[sums]] = bootstrap([[torch.ones(3, 1)], [torch.ones(1, 1)]], resamples=3)
        >>> sums.flatten().tolist()
        [4.0, 4.0, 4.0]
    """
    count, generator = sum(len(chunk[0]) for chunk in chunks), np.random.default_rng(seed)
    share = np.full(count, 1 / count)
    for first in range(0, resamples, _AT_ONCE):
        drawn = torch.as_tensor(generator.multinomial(count, share, size=min(_AT_ONCE, resamples - first)))
        yield _sums(chunks, drawn)


def _sums(chunks: Sequence[Sequence[Statistics]], drawn: Tensor) -> list[Tensor]:
    """Of each task the sums ``(r, S)`` of samples that were each drawn ``(r, N)`` times."""
    sums: list[Tensor] = []
    first = 0
    for chunk in chunks:
        weights = drawn[:, first : first + len(chunk[0])].double()
        first += len(chunk[0])
        parts = [_weighted(rows, weights) for rows in chunk]
        sums = [total + part for total, part in zip(sums, parts, strict=True)] if sums else parts
    return sums


def resampled_metrics(
    scales: Sequence[MetricSpec],
    parts: Sequence[MetricState],
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Resampled:
    """The metrics ``(K,)`` of a data set from its parts, and of resamples of its samples.

    Where the protocol averages an error over batches, whole batches are drawn, for all other tasks too.

    Args:
        scales: One a task.
        parts: In the order of the data set.
        resamples: R.
        seed: As for :func:`bootstrap`: figures of the same samples and seed are paired.
    """
    chunks: Sequence[Sequence[Statistics]] = [part.statistics for part in parts]
    if any(scale.averages_batches for scale in scales):
        chunks = [[_batches(scale, rows) for scale, rows in zip(scales, _joined(chunks), strict=True)]]
    count = sum(len(chunk[0]) for chunk in chunks)
    whole = _sums(chunks, torch.ones(1, count))
    draws = torch.cat([_values(scales, sums) for sums in bootstrap(chunks, resamples, seed)])
    return Resampled(_values(scales, whole)[0], draws, count)


def _values(scales: Sequence[MetricSpec], sums: Sequence[Tensor]) -> Tensor:
    return torch.stack([scale.value(rows).double() for scale, rows in zip(scales, sums, strict=True)], -1)


def _weighted(rows: Statistics, weights: Tensor) -> Tensor:
    return weights @ rows.double().cpu() if isinstance(rows, Tensor) else rows.weighted(weights)


def _joined(chunks: Iterable[Sequence[Statistics]]) -> list[Tensor]:
    """Batches may straddle chunks, so of each task the rows of all, dense."""
    columns = zip(*chunks, strict=True)
    return [torch.cat([rows if isinstance(rows, Tensor) else rows.rows() for rows in column]) for column in columns]


def _batches(scale: MetricSpec, statistics: Tensor) -> Tensor:
    """Additive statistics of batches; where their means are averaged, of these means."""
    sums = torch.stack([batch.sum(0) for batch in torch.split(statistics.double(), PROTOCOL_BATCH)])
    if not scale.averages_batches:
        return sums
    lengths = [len(batch) for batch in torch.split(statistics, PROTOCOL_BATCH)]
    sizes = sums.new_tensor(lengths) * (sums[:, 1] > 0)
    return torch.stack([scale.value(sums) * sizes, sizes], 1)


def degradations(scales: Sequence[MetricSpec], attacked: Resampled, clean: Resampled) -> Resampled:
    """Signed degradations Δ ``(K,)`` of metrics that were resampled together."""
    value, draws = (deltas(scales, a, c) for a, c in ((attacked.value, clean.value), (attacked.draws, clean.draws)))
    return Resampled(value, draws, attacked.count)


def mean_degradation(found: Resampled) -> Resampled:
    """Δ_MTL of the tasks whose Δ is defined; undefined in a resample where one of these is."""
    defined = torch.isfinite(found.value)
    return Resampled(found.value[defined].mean(), found.draws[:, defined].mean(1), found.count)


def worst_degradation(found: Resampled) -> Resampled:
    """Δ_Wor, the greatest of the defined Δ. Its draws tell a spread; their percentiles are no interval."""
    return Resampled(_greatest(found.value), _greatest(found.draws), found.count)


def _greatest(values: Tensor) -> Tensor:
    greatest = torch.where(torch.isfinite(values), values, -math.inf).amax(-1)
    return torch.where(torch.isfinite(greatest), greatest, math.nan)


def degradation_intervals(
    found: Resampled, level: float = LEVEL, *, union: bool = False
) -> tuple[Intervals, Interval, Interval]:
    """Confidence intervals of the degradations of one attack.

    The intervals of the tasks hold *together* with probability ``level`` (max-\\|t\\| bootstrap: Efron & Tibshirani
    1993, section 12; Romano & Wolf 2005, section 4): Δ̂_k ± c · s_k, where s_k is the standard error and c the quantile
    of the greatest \\|Δ*_k − Δ̂_k\\| / s_k over the tasks. Wherever they hold, Δ_Wor = max Δ_k lies in [max low_k,
    max high_k] (Chernozhukov, Lee & Rosen 2013 call such bounds intersection bounds).

    - All of it happens on the scale asin √(1 + Δ) of what is left of a task: the variance of a share does not depend on
      the share there (Bartlett 1936), and the greatest task stays the greatest.
    - Resamples spread less than samples do by √((N − 1)/N), and the normal distribution less than Student's; both are
      made up for (Hesterberg 2015, section 3.1).
    - A figure that is the same in every resample, such as an accuracy of 0, says no more than that samples on which it
      differs are rare: as rare as 3.7 of N (the "rule of three": Hanley & Lippman-Hand 1983). On these the Δ may be
      anything from ruin, −1, to unharmed, 0.

    Args:
        found: Degradations ``(K,)``.
        level: Probability that the intervals hold.
        union: The intervals of this attack will stand beside those of other attacks, one task from each; they are then
            made wide enough for that (Bonferroni).

    Returns:
        Of the tasks, of Δ_MTL and of Δ_Wor. None where there is no Δ, or where it is undefined in more than 1 − level
        of the resamples.

    Examples:
        >>> hits = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).repeat(32, 1)
        >>> drawn = torch.cat([s[0] for s in bootstrap([[hits]])]) / 64 - 1
        >>> tasks, _, worst = degradation_intervals(Resampled(hits.mean(0) - 1, drawn, 64))
        >>> [[round(end, 1) for end in task] for task in tasks], [round(end, 1) for end in worst]
        ([[-0.1, 0.0], [-0.6, -0.4]], [-0.1, 0.0])
    """
    intervals = _as_intervals(*_simultaneous(found, level, union=union, **_OF_DELTAS))
    worst = combined_interval([known(delta) for delta in found.value.tolist()], intervals, max)
    return intervals, _single(mean_degradation(found), level, **_OF_DELTAS), worst


def difference_intervals(
    a: Resampled, b: Resampled, level: float = LEVEL
) -> tuple[tuple[Number, ...], Intervals, Number, Interval, Number, Interval]:
    """Differences of the degradations of two attacks, a − b, negative where a is the stronger, with their intervals.

    Those of the tasks hold together. Δ_Wor(a) − Δ_Wor(b) is max_i min_j (Δ_i(a) − Δ_j(b)), and the same with minimum
    and maximum exchanged. Both only grow with each of the K² differences, so simultaneous intervals of these bound it,
    as in :func:`degradation_intervals`: from min_j max_i of the lower ends to max_i min_j of the upper ends.

    Args:
        a: Degradations ``(K,)``.
        b: Of the other attack. Paired if both were resampled with one seed from the same samples.
        level: Probability that an interval holds.

    Returns:
        Differences of the tasks and their intervals, of Δ_MTL, and of Δ_Wor; None where undefined.
    """
    both = a - b
    own = _simultaneous(both, level, **_OF_DIFFERENCES)
    mean = mean_degradation(both)
    worst = float(_greatest(a.value) - _greatest(b.value))
    return (
        tuple(map(known, both.value.tolist())),
        _as_intervals(*own),
        known(float(mean.value)),
        _single(mean, level, **_OF_DIFFERENCES),
        known(worst),
        _worst_difference(a, b, level),
    )


def _worst_difference(a: Resampled, b: Resampled, level: float) -> Interval:
    kept_a, kept_b = torch.isfinite(a.value), torch.isfinite(b.value)
    if not kept_a.any() or not kept_b.any():
        return None
    first, second = a.value[kept_a], b.value[kept_b]
    value = (first[:, None] - second).flatten()
    draws = (a.draws[:, kept_a, None] - b.draws[:, None, kept_b]).flatten(1)
    ends = _simultaneous(Resampled(value, draws, min(a.count, b.count)), level, **_OF_DIFFERENCES)
    low, high = (end.view(len(first), len(second)) for end in ends)
    return _as_interval(low.amax(0).amin(), high.amin(1).amax())  # NaN if one of them is


def metric_intervals(
    scales: Sequence[MetricSpec], found: Resampled, level: float = LEVEL, *, differences: bool = False
) -> Intervals:
    """A confidence interval of each metric alone.

    A metric with bounds gets the interval of a degradation, on the scale that goes from one bound to the other; see
    :func:`degradation_intervals`. So one that is the same in every resample, such as an accuracy of 1, follows the rule
    of three, with anything between the bounds on samples that were not seen. Without bounds it has no interval then.

    Args:
        scales: One a task.
        found: Metrics ``(K,)``, or their differences.
        level: Probability that an interval holds.
        differences: These are differences of two runs' metrics.

    Returns:
        Of the tasks; None as for :func:`degradation_intervals`.

    Examples:
        >>> from art_mtl.tasks import classification
        >>> twelve_of_twelve = Resampled(torch.ones(1), torch.ones(1000, 1), 12)
        >>> [(low, high)] = metric_intervals([MetricSpec.of(classification("a", 3), "pooled")], twelve_of_twelve)
        >>> round(low, 3), high
        (0.735, 1.0)
    """
    return tuple(_metric_interval(scale.bounds, found[k], level, differences) for k, scale in enumerate(scales))


def _metric_interval(bounds: tuple[float, float] | None, found: Resampled, level: float, differences: bool) -> Interval:
    if bounds is None:
        return _single(found, level, span=(-math.inf, math.inf))
    low, high = bounds
    if differences:
        return _single(found, level, span=(low - high, high - low))
    # What is missing to the upper bound is a share, as a degradation is.
    missing = Resampled((found.value - high) / (high - low), (found.draws - high) / (high - low), found.count)
    interval = _single(missing, level, **_OF_DELTAS)
    return interval and (high + (high - low) * interval[0], min(high, high + (high - low) * interval[1]))


def margin(found: Resampled, sigmas: float) -> float:
    """How far a figure, a scalar, may be from that of the population: ``sigmas`` standard errors, with the corrections
    of :func:`degradation_intervals`; infinite where resamples do not tell.

    Examples:
        >>> values = torch.tensor([0.0, 1.0]).repeat(32)
        >>> drawn = torch.cat([s[0] for s in bootstrap([[values[:, None]]])])[:, 0] / 64
        >>> round(margin(Resampled(values.mean(), drawn, 64), 3.0) / (3 * 0.5 / 8), 1)
        1.0
    """
    level = 1 - 2 * NormalDist().cdf(-sigmas)
    interval = _single(found, level, critical=sigmas, **_OF_DIFFERENCES)
    if interval is None:
        return math.inf
    value = float(found.value)
    return max(interval[1] - value, value - interval[0])


def unseen(count: int, chance: float) -> float:
    """The share of a population of which ``count`` samples show none but with a small chance (the "rule of three").

    Examples:
        >>> round(unseen(100, 0.05), 3)
        0.03
    """
    return float(1 - chance ** (1 / count))


def _single(found: Resampled, level: float, **options: Any) -> Interval:
    """The interval of a scalar."""
    one = Resampled(found.value[None], found.draws[:, None], found.count)
    [interval] = _as_intervals(*_simultaneous(one, level, **options))
    return interval


def _simultaneous(
    found: Resampled,
    level: float,
    *,
    span: tuple[float, float],
    stabilise: bool = False,
    union: bool = False,
    critical: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower and upper ends ``(K,)`` of intervals that hold together; NaN where there is none.

    Args:
        found: Figures ``(K,)``.
        level: Probability that all hold.
        span: What a figure may be on samples that were not seen.
        stabilise: Work on the scale of :func:`_stabilised`.
        union: See :func:`degradation_intervals`.
        critical: Standard errors; None for those that the draws ask for.
    """
    lows, highs = (torch.full(found.value.shape, math.nan, dtype=torch.float64) for _ in range(2))
    finite = torch.isfinite(found.draws)
    kept = torch.isfinite(found.value) & (finite.double().mean(0) >= min(level, LEVEL))
    if found.count < 2 or not kept.any():
        return lows, highs
    count, size = int(kept.sum()), found.count
    centre = value = found.value[kept].double()
    draws = torch.where(finite[:, kept], found.draws[:, kept].double(), value)
    if stabilise:
        value, draws = _stabilised(value), _stabilised(draws)
    error = (draws - draws.mean(0)).square().mean(0).sqrt()
    spread = error > _NO_SPREAD * (1 + value.abs())
    scaled = torch.where(spread, (draws - value).abs() / torch.where(spread, error, 1.0), 0.0)
    if critical is None:
        critical = float(torch.quantile(scaled.amax(1), level))
        if union:
            critical = max(critical, float(torch.quantile(scaled, 1 - (1 - level) / count, dim=0).max()))
    reach = critical * _correction(size, 1 - (1 - level) / count) * error
    low, high = value - reach, value + reach
    if stabilise:
        low, high = _destabilised(low), _destabilised(high)
    share = unseen(size, (1 - level) / (2 * count))
    low = torch.where(spread, low, centre + share * (span[0] - centre).clamp(max=0))
    high = torch.where(spread, high, centre + share * (span[1] - centre).clamp(min=0))
    lows[kept], highs[kept] = torch.minimum(low, centre), torch.maximum(high, centre)
    return lows, highs


def _stabilised(deltas: Tensor) -> Tensor:
    """asin √r of what is left of a task, r = 1 + Δ; where an attack improved it, π/2 + asinh √(r − 1)."""
    left = (1 + deltas).clamp(min=0)
    return torch.asin(left.clamp(max=1).sqrt()) + torch.asinh((left - 1).clamp(min=0).sqrt())


def _destabilised(scaled: Tensor) -> Tensor:
    """The inverse of :func:`_stabilised`, −1 below its range."""
    left = torch.sin(scaled.clamp(0, math.pi / 2)).square()
    return left + torch.sinh((scaled - math.pi / 2).clamp(min=0)).square() - 1


def _correction(count: int, level: float) -> float:
    """By what the standard error of resamples of ``count`` values, and a normal quantile, are too small."""
    from scipy.special import stdtrit

    chance = (1 + level) / 2
    return math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, chance)) / NormalDist().inv_cdf(chance)


def _as_interval(low: Tensor, high: Tensor) -> Interval:
    ends = float(low), float(high)
    return ends if all(map(math.isfinite, ends)) else None


def _as_intervals(low: Tensor, high: Tensor) -> Intervals:
    return tuple(_as_interval(*ends) for ends in zip(low, high, strict=True))
