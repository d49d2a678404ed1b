"""The degradation figures Δ_i, Δ_MTL and Δ_Wor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def delta(attacked: Tensor, clean: Tensor, higher_is_better: bool) -> Tensor:
    """Signed degradation Δ_i of one task as the paper's tables print it: −1 is ruin, 0 is unharmed.

    Guo et al. (ICASSP 2025), eq. 6, in the form that reproduces their tables: ``(m − b) / b`` for a metric of which
    more is better, ``(b − m) / m`` otherwise. (As printed, the equation branches on ``m ≥ b`` and is positive.)

    Args:
        attacked: Metric under attack, m ≥ 0, any shape.
        clean: Metric on clean inputs, b ≥ 0, same shape.
        higher_is_better: Direction.

    Returns:
        Same shape. NaN where a higher-is-better metric is 0 on clean inputs: nothing is left to degrade. Where an error
        is 0 before and after, 0. An error that an attack lowers to almost nothing counts as 10⁶, so that a task that
        was improved is never taken for a degraded one.

    Examples:
        >>> delta(torch.tensor(18.63), torch.tensor(46.56), True)
        tensor(-0.5999)
        >>> delta(torch.tensor(84.43), torch.tensor(40.57), False)
        tensor(-0.5195)
    """
    if higher_is_better:
        return torch.where(clean > 0, (attacked - clean) / clean, torch.full_like(clean, float("nan")))
    degradation = (clean - attacked) / attacked.clamp(min=clean * 1e-6)
    return torch.where(attacked == clean, torch.zeros_like(clean), degradation)


def delta_mtl(deltas: Sequence[float]) -> float:
    """Δ_MTL, the mean of the Δ_i (eq. 5)."""
    return sum(deltas) / len(deltas)


def delta_wor(deltas: Sequence[float]) -> float:
    """Δ_Wor, the least degraded task: the *greatest* of the signed Δ_i (eq. 7 has ``min``, for positive degradations).

    NaN where a Δ_i is NaN.

    Examples:
        >>> delta_wor([-0.60, -0.52, -0.325])
        -0.325
    """
    return float("nan") if any(math.isnan(delta) for delta in deltas) else max(deltas)
