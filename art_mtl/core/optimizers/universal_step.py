"""Steps of one perturbation that all samples share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_mtl.core.optimizers.schedules import StepSchedule
from art_mtl.core.optimizers.step_rule import StepRule
from art_mtl.core.optimizers.steps import accumulate
from art_mtl.core.selection import BestIterate
from art_mtl.core.threat import FeasibleSet, RunConfig


@dataclass(eq=False)
class Perturbation:
    """One perturbation for all samples, and how far the search for it has come.

    Attributes:
        delta: ``(1, ...)``, inside the ball; the box is each sample's own.
        total: Steps in all, over which the step size decays.
        taken: Steps so far.
        momentum: Of its gradient.
    """

    delta: Tensor
    total: int
    taken: int = 0
    momentum: Tensor | None = None

    def applied(self, x: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        """The samples ``(B, ...)``, perturbed, inside the box."""
        return (x + self.delta).clamp(*bounds)


@dataclass(frozen=True)
class SharedSchedule:
    """The steps of one perturbation, spread over all batches of a search.

    Args:
        perturbation: It is changed.
        inner: How the step size falls.
    """

    perturbation: Perturbation
    inner: StepSchedule
    rule_of_its_own = False

    def begin(self, feasible: FeasibleSet, config: RunConfig, momentum: float, first_step: float | None) -> SharedSteps:
        """Bind to one batch."""
        # Not 3 ε: momentum 0.9 over many short passes does not need it, and overshoots on large ε.
        size = self.inner.size(feasible.threat, config.step_size, self.perturbation.total, 0.0, first_step)
        return SharedSteps(feasible, self.perturbation, self.inner, size, momentum, config.l1_step)


class SharedSteps(StepRule):
    """Steps along the sum of the gradients of the samples.

    Args:
        feasible: Where the iterates may lie.
        shared: The perturbation; it is changed.
        schedule: How the step size falls over all steps of the search.
        first_step: Size of the first one.
        momentum: Decay of the gradient's momentum.
        l1_step: See :func:`art_mtl.core.optimizers.steps.direction`.
    """

    def __init__(
        self,
        feasible: FeasibleSet,
        shared: Perturbation,
        schedule: StepSchedule,
        first_step: Tensor,
        momentum: float,
        l1_step: str,
    ) -> None:
        self.feasible, self.shared, self.schedule = feasible, shared, schedule
        self.first_step, self.decay, self.l1_step = first_step, momentum, l1_step

    def start(self) -> Tensor:
        return self.shared.applied(self.feasible.x, self.feasible.threat.bounds)

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        shared, threat = self.shared, self.feasible.threat
        shared.momentum = accumulate(shared.momentum, gradient.sum(0, keepdim=True), self.decay)
        nowhere = torch.zeros_like(shared.delta)
        # The box is each sample's own.
        ball = FeasibleSet(nowhere, replace(threat, bounds=(nowhere - math.inf, nowhere + math.inf)))
        unit = ball.direction(shared.momentum, shared.delta, shared.taken, self.l1_step)
        size = self.first_step * self.schedule.factor(shared.taken, shared.total)
        shared.delta = ball.project(shared.delta + size * unit)
        shared.taken += 1
        return self.start()
