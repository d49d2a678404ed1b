"""What the attacker may do, and how long."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.optimizers.steps import ROUNDING, direction
from art_mtl.projections import project


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do.

    Attributes:
        norm: ``math.inf``, 2 or 1.
        eps: Radius, in the unit of the inputs; a tensor broadcastable to them, of one value for each sample or, for L∞,
            for each pixel.
        bounds: Lower and upper bound of the inputs, tensors broadcastable to them.
        mask: 0 where nothing may change, broadcastable to the inputs; None: everywhere.
    """

    norm: float
    eps: Tensor
    bounds: tuple[Tensor, Tensor]
    mask: Tensor | None = None


@dataclass(frozen=True)
class RunConfig:
    """How long and from where.

    Attributes:
        steps: T ≥ 1.
        step_size: At step 0, broadcastable to the inputs; None for the default of the method's schedule.
        start: Share of ε of a random start; 0 starts at the clean input.
        restarts: Independent runs, the best of which is kept per sample.
        targeted: Labels are what the outputs should become.
        l1_step: See :func:`art_mtl.core.optimizers.steps.direction`.
        generator: Source of randomness; None for torch's global one.
        channels_first: Where the channels of images stand, for searches that look at height and width.
    """

    steps: int
    step_size: Tensor | None = None
    start: float = 0.0
    restarts: int = 1
    targeted: bool = False
    l1_step: str = "adaptive"
    generator: torch.Generator | None = None
    channels_first: bool = True


@dataclass(frozen=True)
class FeasibleSet:
    """The inputs that the attacker may reach from one batch.

    Attributes:
        x: Clean inputs, ``(B, ...)``, inside the bounds.
        threat: What is allowed.
        order: How to project; see :func:`art_mtl.projections.project`.
    """

    x: Tensor
    threat: ThreatModel
    order: str = "exact"

    def project(self, delta: Tensor) -> Tensor:
        """The nearest point to ``x + delta`` that can be reached."""
        threat = self.threat
        return project(delta, self.x, threat.eps, threat.norm, threat.bounds, self.order)

    def direction(self, ascent: Tensor, x_adv: Tensor, step: int, l1_step: str = "adaptive") -> Tensor:
        """Steepest ascent direction of unit norm; see :func:`art_mtl.core.optimizers.steps.direction`."""
        return direction(ascent, self.threat.norm, self.x, x_adv, self.threat.bounds, step, l1_step, self.slack)

    @property
    def slack(self) -> Tensor:
        """What rounding leaves undecided, broadcastable to the inputs."""
        return ROUNDING * self.threat.eps

    def masked(self, change: Tensor) -> Tensor:
        """``change``, 0 where nothing may change."""
        return change if self.threat.mask is None else torch.where(self.threat.mask == 0, 0.0, change)

    def each(self, values: Tensor) -> Tensor:
        """One value a sample, broadcastable to the inputs."""
        return values.view(-1, *[1] * (self.x.ndim - 1))
