"""StepRule: from what the loop knows of an iterate to the next one.

A move belongs to one run on one batch and may keep state. The loop asks it for every iterate; best iterates are the
loop's to keep.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from art_mtl.core.method import Method
from art_mtl.core.optimizers.apgd import AutoSteps, SparseAutoSteps
from art_mtl.core.optimizers.square import SquareSteps
from art_mtl.core.optimizers.steps import accumulate, default_step_size, direction, step_factor
from art_mtl.core.selection import BestIterate
from art_mtl.core.threat import FeasibleSet, Perturbation, RunConfig
from art_mtl.projections import project


class StepRule(Protocol):
    """See the module's docstring."""

    @property
    def needs_gradient(self) -> bool:
        """Whether a backward pass is of any use."""

    @property
    def needs_best_gradient(self) -> bool:
        """Whether gradients of the best iterates are wanted."""

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        """The next iterate, feasible, from that of ``step`` and its ascent direction ``gradient``, ``(B, ...)``."""


class ScheduledSteps:
    """Steps of a size that is fixed in advance, with momentum of the gradient.

    Args:
        region: Where the iterates may lie.
        method: Schedule and momentum.
        plan: How long, and with which first step.
    """

    needs_gradient = True
    needs_best_gradient = False

    def __init__(self, region: FeasibleSet, method: Method, plan: RunConfig) -> None:
        self.region, self.method, self.plan = region, method, plan
        self.size = _first_step(method, region, plan, plan.steps, method.momentum)
        self.momentum: Tensor | None = None

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        self.momentum = accumulate(self.momentum, gradient, self.method.momentum)
        unit = self.region.direction(self.momentum, x_adv, step, self.plan.l1_step)
        size = self.size * step_factor(self.method.schedule, step, self.plan.steps)
        return self.region.project((x_adv + size * unit) - self.region.x)


class SharedSteps:
    """Steps of one perturbation that all samples share, along the sum of their gradients.

    Args:
        region: Where the iterates may lie.
        method: Schedule and momentum.
        plan: What the steps are like.
        shared: The perturbation; it is changed.
    """

    needs_gradient = True
    needs_best_gradient = False

    def __init__(self, region: FeasibleSet, method: Method, plan: RunConfig, shared: Perturbation) -> None:
        self.region, self.method, self.plan, self.shared = region, method, plan, shared
        # Not 3 ε: momentum 0.9 over many short passes does not need it, and overshoots on large ε.
        self.size = _first_step(method, region, plan, shared.total)

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        shared, threat = self.shared, self.region.threat
        shared.momentum = accumulate(shared.momentum, gradient.sum(0, keepdim=True), self.method.momentum)
        nowhere = torch.zeros_like(shared.delta)
        # The ball alone: the box is each sample's own.
        no_box = (nowhere - math.inf, nowhere + math.inf)
        taken, l1_step = shared.taken, self.plan.l1_step
        unit = direction(shared.momentum, threat.norm, nowhere, shared.delta, no_box, taken, l1_step)
        size = self.size * step_factor(self.method.schedule, taken, shared.total)
        shared.delta = project(shared.delta + size * unit, nowhere, threat.eps, threat.norm, no_box)
        shared.taken += 1
        return shared.applied(self.region.x, threat.bounds)


def _first_step(method: Method, region: FeasibleSet, plan: RunConfig, steps: int, momentum: float = 0.0) -> Tensor:
    """Size of the first of ``steps`` steps."""
    if plan.step_size is not None:
        return plan.step_size
    threat = region.threat
    if method.first_step is not None:
        return method.first_step * threat.eps
    return default_step_size(method.schedule, threat.norm, threat.eps, steps, momentum)


def make_step_rule(method: Method, region: FeasibleSet, plan: RunConfig) -> StepRule:
    """The moves that a method's schedule names."""
    if plan.shared is not None:
        return SharedSteps(region, method, plan, plan.shared)
    if method.schedule == "square":
        return SquareSteps(region, plan)
    if method.schedule == "auto":
        return (SparseAutoSteps if region.threat.norm == 1 else AutoSteps)(region, plan.steps)
    return ScheduledSteps(region, method, plan)
