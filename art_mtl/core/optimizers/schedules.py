"""Schedules: each makes the step rule of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from torch import Tensor

from art_mtl.core.optimizers.apgd import AutoSteps, SparseAutoSteps
from art_mtl.core.optimizers.pgd import ScheduledSteps
from art_mtl.core.optimizers.square import SquareSteps
from art_mtl.core.optimizers.step_rule import StepRule
from art_mtl.core.threat import FeasibleSet, RunConfig, ThreatModel


class Schedule(Protocol):
    """Makes step rules."""

    @property
    def rule_of_its_own(self) -> bool:
        """Whether the rule has its own step size and momentum, and returns the best iterate."""

    def begin(self, feasible: FeasibleSet, config: RunConfig, momentum: float, first_step: float | None) -> StepRule:
        """Bind to one run on one batch.

        Args:
            feasible: Where the iterates may lie.
            config: How long, and with which first step.
            momentum: Decay of the gradient's momentum.
            first_step: Share of ε of the first step where the user gives none; None: by norm and schedule.
        """


@dataclass(frozen=True)
class StepSchedule:
    """Step sizes that are fixed in advance.

    Args:
        name: As options name it.
        share: ``(t, T)`` to the share of the first step that step t takes.
        falls: Whether the step falls, so that it may begin large.
    """

    name: str
    share: Callable[[int, int], float]
    falls: bool
    rule_of_its_own = False

    def factor(self, step: int, steps: int) -> float:
        """Share of the first step size that step t takes.

        Examples:
            >>> [LINEAR.factor(t, 4) for t in range(4)]
            [1.0, 0.75, 0.5, 0.25]
        """
        return self.share(step, steps)

    def size(
        self, threat: ThreatModel, given: Tensor | None, steps: int, momentum: float, first_step: float | None
    ) -> Tensor:
        """Size of the first of ``steps`` steps.

        Where the user gives none: 2.5 ε/T (L∞), 2 ε/T (L2), ε (L1) if constant; 2 ε if it falls, 3 ε with momentum,
        which takes longer to turn round.
        """
        if given is not None:
            return given
        if first_step is not None:
            return first_step * threat.eps
        if self.falls:
            return (3 if momentum else 2) * threat.eps
        if threat.norm == 1:
            return threat.eps
        return (2.5 if threat.norm == math.inf else 2.0) / steps * threat.eps

    def begin(
        self, feasible: FeasibleSet, config: RunConfig, momentum: float, first_step: float | None
    ) -> ScheduledSteps:
        """Bind to one run on one batch."""
        size = self.size(feasible.threat, config.step_size, config.steps, momentum, first_step)
        return ScheduledSteps(feasible, size, lambda t: self.factor(t, config.steps), momentum, config.l1_step)


@dataclass(frozen=True)
class AutoSchedule:
    """Auto-PGD's rule; see :mod:`art_mtl.core.optimizers.apgd`."""

    name: str = "auto"
    rule_of_its_own = True

    def begin(self, feasible: FeasibleSet, config: RunConfig, momentum: float, first_step: float | None) -> StepRule:
        """Bind to one run on one batch."""
        return (SparseAutoSteps if feasible.threat.norm == 1 else AutoSteps)(feasible, config.steps)


@dataclass(frozen=True)
class SquareSchedule:
    """Random squares; see :mod:`art_mtl.core.optimizers.square`."""

    name: str = "square"
    rule_of_its_own = True

    def begin(self, feasible: FeasibleSet, config: RunConfig, momentum: float, first_step: float | None) -> StepRule:
        """Bind to one run on one batch."""
        return SquareSteps(feasible, config)


def _constant(step: int, steps: int) -> float:
    return 1.0


def _linear(step: int, steps: int) -> float:
    return 1 - step / steps


def _cosine(step: int, steps: int) -> float:
    return (1 + math.cos(math.pi * step / steps)) / 2


CONSTANT = StepSchedule("constant", _constant, falls=False)
LINEAR = StepSchedule("linear", _linear, falls=True)
COSINE = StepSchedule("cosine", _cosine, falls=True)
AUTO_PGD = AutoSchedule()
SQUARE = SquareSchedule()
SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {schedule.name: schedule for schedule in (CONSTANT, LINEAR, COSINE, AUTO_PGD)}
)
