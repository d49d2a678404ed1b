"""Weightings: from what each task is worth now to the weight of its gradient.

A weighting is a small frozen object; :meth:`begin` binds it to one run and returns a function of the step. Rows are
samples or groups of samples that share their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from art_mtl.core.device import row_like
from art_mtl.projections import project_simplex

Run = Callable[[Tensor, Tensor, int], Tensor]
"""``(values (R, K), known (R, K), step) -> weights (R, K)``; 0 where not known."""


class Weighting(Protocol):
    """See the module's docstring."""

    def begin(self, steps: int) -> Run:
        """Bind to a run of ``steps`` steps."""


@dataclass(frozen=True)
class Uniform:
    """Every task counts 1."""

    def begin(self, steps: int) -> Run:
        return lambda values, known, step: known.to(values.dtype)


@dataclass(frozen=True)
class Fixed:
    """The same weights at every step.

    Args:
        weights: One a task.
    """

    weights: tuple[float, ...]

    def begin(self, steps: int) -> Run:
        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            return known * row_like(self.weights, values)

        return run


@dataclass(frozen=True)
class Alternating:
    """One task a step, in turn, over the tasks in play (Ghamizi et al. 2022)."""

    def begin(self, steps: int) -> Run:
        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            turn = step % known.sum(1, keepdim=True).clamp(min=1)
            return (known & (known.cumsum(1) - 1 == turn)).to(values.dtype)

        return run


@dataclass(frozen=True)
class MinMax:
    """Projected gradient descent on the weights: eq. 4 of Guo et al. (ICASSP 2025).

    ``w ← proj_simplex(w − weight_step · (v + γ (w − 1/K)))``, from 1/K. Weight moves to the task with the smallest
    value.

    Args:
        gamma: γ, pull towards equal weights, ≥ 0.
        weight_step: α₂, > 0.
        simultaneous: Use the values of the step *before* (the authors' published loop) instead of the newest ones
            (Algorithm 1).
    """

    gamma: float = 1.0
    weight_step: float = 1 / 30
    simultaneous: bool = False

    def begin(self, steps: int) -> Run:
        weights: Tensor | None = None
        previous: Tensor | None = None

        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            nonlocal weights, previous
            centre = equal_weights(known, values)
            if weights is None:
                weights, previous = centre, values
                return weights
            seen = previous if self.simultaneous and previous is not None else values
            gradient = seen + self.gamma * (weights - centre)
            weights, previous = project_simplex(weights - self.weight_step * gradient, known), values
            return weights

        return run


@dataclass(frozen=True)
class InnerMinimiser:
    """The exact minimiser of ``Σ w_i v_i + γ/2 ‖w − 1/K‖²`` at every step: ``proj_simplex(1/K − v/γ)``.

    Args:
        gamma: γ > 0. Small: all weight on the least degraded task. Large: equal weights.
    """

    gamma: float = 0.1

    def begin(self, steps: int) -> Run:
        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            centre = equal_weights(known, values)
            return centre if step == 0 else project_simplex(centre - values / self.gamma, known)

        return run


@dataclass(frozen=True)
class LogDegradationControl:
    """A proportional-integral controller on log degradation: prices ``p_i ∝ D_i^−g_t · Π_s D_{i,s}^(−g_s/T)``, with
    ``g_t = gain / (1 − t/T)``, and weights ``w ∝ (1 − γ) p + γ t/T · 1/K``.

    The prices balance the tasks over a population; ``values`` are degradations D in (−∞, 1]. The gain grows as a
    falling step shrinks: the same imbalance calls for a stronger answer the shorter the steps that are left. The even
    part grows with t: early steps go where the worst task is, late ones, which move little, take the others along.

    Args:
        gain: Of the first step, > 0.
        floor: Smallest degradation told apart.
        gamma: γ in [0, 1], between the worst task (0) and the mean of all (1). A little of it costs the worst task
            next to nothing, and keeps the mean degradation up where one task is the bottleneck.
    """

    gain: float = 5.0
    floor: float = 0.02
    gamma: float = 0.3

    def __post_init__(self) -> None:
        if self.gamma > 1:
            raise ValueError(f"Parameter `gamma` should be in [0, 1]. Found {self.gamma!r}.")

    def begin(self, steps: int) -> Run:
        integral: Tensor | float = 0.0

        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            nonlocal integral
            if step == 0:
                return equal_weights(known, values)
            log_degradation = values.clamp(min=self.floor).log()
            mean = (log_degradation * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
            time = step / steps
            gain = self.gain / (1 - time)
            integral = integral - (gain / steps) * (log_degradation - mean)
            logits = (integral - gain * log_degradation).masked_fill(~known, float("-inf"))
            prices = torch.softmax(logits, 1).nan_to_num(0.0)
            evenly = self.gamma * time * equal_weights(known, values)
            return ((1 - self.gamma) * prices + evenly) / (1 - self.gamma + self.gamma * time)

        return run


def equal_weights(known: Tensor, like: Tensor) -> Tensor:
    """1/K over the known tasks of each row, ``(R, K)``; 0 in a row without any."""
    return known.to(like.dtype) / known.sum(1, keepdim=True).clamp(min=1)
