"""Weightings: from what each task is worth now to the weight of its gradient.

A weighting is a small frozen object; :meth:`Weighting.begin` binds it to one run and returns a function of the step.
Rows are samples or groups of samples that share their weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext
from art_mtl.core.device import row_like
from art_mtl.projections import project_simplex

WeightingRun = Callable[[Tensor, Tensor, int], Tensor]
"""``(values (R, K), mask (R, K), step) -> weights (R, K)``; 0 where the mask is false."""
SelectionScore = Callable[[Tensor, Tensor, BatchContext], Tensor]
"""``(values (B, K), weights (R, K), context) -> (B,)``: what iterates are worth, by the values of their tasks."""


def total(values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
    """The sum over the tasks."""
    return values.sum(1)


def least(values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
    """The least over the tasks that have a label; −∞ where none has."""
    return least_degradation(values, context.has_label)


def least_degradation(values: Tensor, has_label: Tensor) -> Tensor:
    """The least of the values ``(B, K)`` of each sample where it has a label, ``(B,)``; −∞ where it has none."""
    smallest = values.masked_fill(~has_label, float("inf")).amin(1)
    return torch.where(has_label.any(1), smallest, torch.full_like(smallest, float("-inf")))


def weighted(values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
    """The sum over the tasks at the weights of now."""
    return (values * weights[context.group_index]).sum(1)


class Weighting(ABC):
    """Base of the weightings; every method can be overridden, and :meth:`begin` has to be."""

    adapts = True
    """Whether weights follow the values, so that it matters which samples share them."""
    compares_objectives = False
    """Whether iterates are compared by the objective itself, where that is one number a sample; else by degradation."""

    @abstractmethod
    def begin(self, steps: int) -> WeightingRun:
        """Bind to a run of ``steps`` steps."""

    def selection_score(self, values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
        """What iterates are worth, ``(B,)``, by the values of their tasks, ``(B, K)``; greater is better."""
        return least(values, weights, context)

    def restrict(self, kept: Sequence[int]) -> Weighting:
        """The weighting of some of the tasks, by their places in order."""
        return self

    def uses(self, task: int) -> bool:
        """Whether the task at a place is attacked at all."""
        return True


@dataclass(frozen=True)
class Uniform(Weighting):
    """Every task counts 1."""

    adapts = False
    compares_objectives = True

    def begin(self, steps: int) -> WeightingRun:
        return lambda values, mask, step: mask.to(values.dtype)

    def selection_score(self, values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
        return total(values, weights, context)


@dataclass(frozen=True)
class Fixed(Weighting):
    """The same weights at every step.

    Args:
        weights: One a task.
    """

    weights: tuple[float, ...]
    adapts = False
    compares_objectives = True

    def begin(self, steps: int) -> WeightingRun:
        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            return mask * row_like(self.weights, values)

        return run

    def selection_score(self, values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
        return (values * row_like(self.weights, values)).sum(1)

    def restrict(self, kept: Sequence[int]) -> Fixed:
        return Fixed(tuple(self.weights[k] for k in kept))

    def uses(self, task: int) -> bool:
        return self.weights[task] > 0


@dataclass(frozen=True)
class Alternating(Uniform):
    """One task a step, in turn, over the tasks that have a label (Ghamizi et al. 2022)."""

    def begin(self, steps: int) -> WeightingRun:
        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            turn = step % mask.sum(1, keepdim=True).clamp(min=1)
            return (mask & (mask.cumsum(1) - 1 == turn)).to(values.dtype)

        return run


@dataclass(frozen=True)
class MinMax(Weighting):
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

    def begin(self, steps: int) -> WeightingRun:
        weights: Tensor | None = None
        previous: Tensor | None = None

        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            nonlocal weights, previous
            centre = equal_weights(mask, values)
            if weights is None:
                weights, previous = centre, values
                return weights
            seen = previous if self.simultaneous and previous is not None else values
            gradient = seen + self.gamma * (weights - centre)
            weights, previous = project_simplex(weights - self.weight_step * gradient, mask), values
            return weights

        return run


@dataclass(frozen=True)
class InnerMinimiser(Weighting):
    """The exact minimiser of ``Σ w_i v_i + γ/2 ‖w − 1/K‖²`` at every step: ``proj_simplex(1/K − v/γ)``.

    Args:
        gamma: γ > 0. Small: all weight on the least degraded task. Large: equal weights.
    """

    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(
                f"Parameter `gamma` should be above 0 for the exact inner minimiser. Found {self.gamma!r}."
            )

    def begin(self, steps: int) -> WeightingRun:
        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            centre = equal_weights(mask, values)
            return centre if step == 0 else project_simplex(centre - values / self.gamma, mask)

        return run


@dataclass(frozen=True)
class LogDegradationControl(Weighting):
    """A proportional-integral controller on log degradation: ``p_i ∝ D_i^−g_t · Π_s D_{i,s}^(−g_s/T)``, with
    ``g_t = gain / (1 − t/T)``, and the weights ``w ∝ (1 − γ) p + γ t/T · 1/K``.

    p balances the tasks over a population; ``values`` are degradations D in (−∞, 1]. The gain grows as a
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

    def selection_score(self, values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
        return weighted(values, weights, context)

    def begin(self, steps: int) -> WeightingRun:
        integral: Tensor | float = 0.0

        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            nonlocal integral
            if step == 0:
                return equal_weights(mask, values)
            log_degradation = values.clamp(min=self.floor).log()
            mean = (log_degradation * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
            time = step / steps
            gain = self.gain / (1 - time)
            integral = integral - (gain / steps) * (log_degradation - mean)
            logits = (integral - gain * log_degradation).masked_fill(~mask, float("-inf"))
            balanced = torch.softmax(logits, 1).nan_to_num(0.0)
            evenly = self.gamma * time * equal_weights(mask, values)
            return ((1 - self.gamma) * balanced + evenly) / (1 - self.gamma + self.gamma * time)

        return run


def equal_weights(mask: Tensor, like: Tensor) -> Tensor:
    """1/K over the tasks of each row for which the mask is true, ``(R, K)``; 0 in a row without any."""
    return mask.to(like.dtype) / mask.sum(1, keepdim=True).clamp(min=1)
