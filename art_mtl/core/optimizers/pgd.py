"""Projected gradient ascent: steps of a size that is fixed in advance, with momentum of the gradient."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from art_mtl.core.optimizers.step_rule import StepRule
from art_mtl.core.optimizers.steps import accumulate
from art_mtl.core.selection import BestIterate
from art_mtl.core.threat import FeasibleSet


class ScheduledSteps(StepRule):
    """Steps of a size that is fixed in advance.

    Args:
        feasible: Where the iterates may lie.
        first_step: Size of the first step, broadcastable to the inputs.
        factor: ``step -> share of the first step``.
        momentum: Decay of the gradient's momentum; 0 for none.
        l1_step: See :func:`art_mtl.core.optimizers.steps.direction`.
    """

    def __init__(
        self,
        feasible: FeasibleSet,
        first_step: Tensor,
        factor: Callable[[int], float],
        momentum: float,
        l1_step: str,
    ) -> None:
        self.feasible, self.first_step, self.factor = feasible, first_step, factor
        self.decay, self.l1_step = momentum, l1_step
        self.momentum: Tensor | None = None

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        self.momentum = accumulate(self.momentum, gradient, self.decay)
        unit = self.feasible.direction(self.momentum, x_adv, step, self.l1_step)
        size = self.first_step * self.factor(step)
        return self.feasible.project((x_adv + size * unit) - self.feasible.x)
