"""Degrade some tasks and hold others: what task-selective attacks ascend, and the multipliers that do the holding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, RunningStatistics
from art_mtl.core.objectives.loss_objectives import Objective, ObjectiveValues, Outputs, Run
from art_mtl.core.weightings import Run as WeightingRun

_LEAST_REMAINDER = 1e-6
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Roles:
    """Which tasks are to be degraded and which preserved; the others are left alone.

    Args:
        attacked: One a task: to be degraded.
        preserved: One a task: not to change. At no task are both true.
    """

    attacked: tuple[bool, ...]
    preserved: tuple[bool, ...]

    def only(self, kept: Sequence[int]) -> Roles:
        """The roles of some of the tasks."""
        return Roles(tuple(self.attacked[k] for k in kept), tuple(self.preserved[k] for k in kept))

    def columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Both as booleans ``(K,)`` on the device of ``like``."""
        return torch.tensor(self.attacked, device=like.device), torch.tensor(self.preserved, device=like.device)


@dataclass(frozen=True)
class ConstrainedObjective:
    """``q_i`` of the attacked tasks, ``−|q_j|`` of the preserved ones.

    The weights look at the degradation of the attacked tasks and at how far the preserved ones have moved, in both
    directions: the relative change of their metric (population), error or score (sample), ``|m/b − 1|``. Labels of
        preserved tasks are
    what is true of the clean input, also in the targeted mode.

    Args:
        roles: Who is attacked, who is preserved.
        inner: Measures tasks: a population's degradation, each sample's degradation or relative loss.
        degradations: ``inner`` measures degradations in (−∞, 1], ``1 − b/m`` of errors and ``1 − m/b`` of scores.
            False: relative changes.
    """

    roles: Roles
    inner: Objective
    degradations: bool = True
    saturates: bool = True

    @property
    def needs_clean(self) -> bool:
        return self.inner.needs_clean

    def begin(self, problem: BatchContext, clean: Outputs | None) -> Run:
        attacked = [k for k, is_held in enumerate(self.roles.preserved) if not is_held]
        preserved = [k for k, is_held in enumerate(self.roles.preserved) if is_held]
        aim = self._part(problem, clean, attacked, "attacked", problem.targeted)
        hold = self._part(problem, clean, preserved, "preserved", False)
        errors = torch.tensor([not problem.tasks[k].higher_is_better for k in preserved], device=problem.row.device)

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            found = aim(_pick(outputs, attacked), step)
            if not preserved:
                return found
            kept = hold(_pick(outputs, preserved), step)
            sign = torch.where(kept.weigh < 0, 1.0, -1.0).to(kept.weigh.dtype)
            if len(kept.ascend[0]) != len(sign):
                sign = sign[problem.row]
            still = [s.to(value.dtype) * value for s, value in zip(sign.unbind(1), kept.ascend, strict=True)]
            order = torch.tensor([*attacked, *preserved], device=sign.device).argsort()
            weigh = torch.cat([found.weigh, self._moved(kept.weigh, errors)], 1)[:, order]
            ascend = dict(zip([*attacked, *preserved], [*found.ascend, *still], strict=True))
            known = torch.cat([found.known, kept.known], 1)[:, order]
            return ObjectiveValues([ascend[k] for k in range(len(ascend))], weigh, known)

        return run

    def _part(self, problem: BatchContext, clean: Outputs | None, tasks: list[int], name: str, targeted: bool) -> Run:
        """The inner objective on some of the tasks."""
        if not tasks:
            return lambda outputs, step: ObjectiveValues([], torch.empty(0), torch.empty(0))
        part = replace(
            problem,
            tasks=tuple(_pick(problem.tasks, tasks)),
            targets=tuple(_pick(problem.targets, tasks)),
            targeted=targeted,
            carry=_Part(problem.carry, name),
        )
        return self.inner.begin(part, None if clean is None else _pick(clean, tasks))

    def _moved(self, values: Tensor, errors: Tensor) -> Tensor:
        """|m/b − 1| of what the inner objective measures."""
        return relative_change(values, errors) if self.degradations else values.abs()


@dataclass(frozen=True)
class Multipliers:
    """Weights of a task-selective attack: 1 in all for the attacked tasks, a multiplier for each preserved one.

    The dual ascent of ``max Σ q_i subject to |move_j| ≤ τ``, a row of multipliers for each row of samples: ``λ_j ←
    max(0, λ_j + rate · x_j)`` with ``x_j = (|move_j| − aim · τ)/τ``, and as in an augmented Lagrangian (Bertsekas,
    "Constrained Optimization and Lagrange Multiplier Methods", 1982, chapter 2) the weight is ``max(0, λ_j + penalty ·
    x_j)``.

    Args:
        roles: Who is attacked, who is preserved.
        tolerance: τ, in (0, 1): the largest relative change of a preserved task.
        rate: Step of the multipliers, in units of the tolerance.
        penalty: Weight of the quadratic penalty, in units of the tolerance.
        aim: Share of the tolerance that is aimed at, so that the last step still ends within.
    """

    roles: Roles
    tolerance: float
    rate: float = 0.03
    penalty: float = 5.0
    aim: float = 0.8

    def begin(self, steps: int) -> WeightingRun:
        multipliers: Tensor | None = None

        def run(values: Tensor, known: Tensor, step: int) -> Tensor:
            nonlocal multipliers
            attacked, preserved = self.roles.columns(values)
            before = torch.zeros_like(values) if multipliers is None else multipliers
            # Bounded, or one far-off step would leave multipliers that take the rest of the run to come down.
            excess = (values / self.tolerance - self.aim).clamp(-1, 6)
            multipliers = (before + self.rate * excess.clamp(max=3)).clamp(min=0)
            holding = (multipliers + self.penalty * excess).clamp(min=0) * preserved
            share = (known & attacked).to(values.dtype)
            return known * (share / share.sum(1, keepdim=True).clamp(min=1) + holding)

        return run


def relative_change(degradation: Tensor, errors: Tensor) -> Tensor:
    """|m/b − 1| from degradations ``(..., K)``: ``1 − b/m`` where ``errors`` is true, ``1 − m/b`` elsewhere.

    Examples:
        >>> relative_change(torch.tensor([0.2, 0.2, -1.0]), torch.tensor([True, False, True]))
        tensor([0.2500, 0.2000, 0.5000])
    """
    return torch.where(errors, degradation / (1 - degradation).clamp(min=_LEAST_REMAINDER), degradation).abs()


def stealthy_merit(degradation: Tensor, problem: BatchContext, weighting: Multipliers) -> Tensor:
    """By what iterates of a task-selective attack are compared, ``(B,)``: the degradation of the attacked tasks, in
    [−1, 1], where every preserved task is within the tolerance; else below −2, and the lower the farther they are out.

    Args:
        degradation: Degradation of each sample's tasks, ``(B, K)``.
        problem: The batch.
        weighting: Has the roles and the tolerance.
    """
    attacked, preserved = weighting.roles.columns(degradation)
    errors = torch.tensor([not task.higher_is_better for task in problem.tasks], device=degradation.device)
    beyond = (relative_change(degradation, errors) - weighting.tolerance).clamp(min=0) / weighting.tolerance
    beyond = torch.where(preserved & problem.has_label, beyond, torch.zeros_like(beyond)).sum(1)
    share = (attacked & problem.has_label).to(degradation.dtype)
    gain = (degradation.clamp(min=-1) * share).sum(1) / share.sum(1).clamp(min=1)
    return torch.where(beyond == 0, gain, -2 - beyond)


class _Part(RunningStatistics):
    """The running sums of some of the tasks, inside those of all."""

    def __init__(self, whole: RunningStatistics, name: str) -> None:
        super().__init__(whole.samples)
        self._whole, self._name = whole, name

    def add(self, key: tuple[object, ...], value: Tensor) -> Tensor:
        return self._whole.add((self._name, *key), value)


def _pick(items: Sequence[_Item], indices: Sequence[int]) -> list[_Item]:
    return [items[k] for k in indices]
