"""Damage some tasks and hold others: what task-selective attacks ascend, and the multipliers that do the holding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from art_mtl.core.objectives import Objective, Outputs, Run, Valuation
from art_mtl.core.problem import Carry, Problem
from art_mtl.core.weightings import Run as WeightingRun

_LEAST_REMAINDER = 1e-6
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Roles:
    """Which tasks are to be damaged and which held; the others are left alone.

    Args:
        chosen: One a task: to be damaged.
        held: One a task: not to change. At no task are both true.
    """

    chosen: tuple[bool, ...]
    held: tuple[bool, ...]

    def only(self, kept: Sequence[int]) -> Roles:
        """The roles of some of the tasks."""
        return Roles(tuple(self.chosen[k] for k in kept), tuple(self.held[k] for k in kept))

    def columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Both as booleans ``(K,)`` on the device of ``like``."""
        return torch.tensor(self.chosen, device=like.device), torch.tensor(self.held, device=like.device)


@dataclass(frozen=True)
class Held:
    """``q_i`` of the chosen tasks, ``−|q_j|`` of the held ones.

    The weights look at the damage of the chosen tasks and at how far the held ones have moved, in both directions: the
    relative change of their metric (population), error or score (sample), ``|m/b − 1|``. Labels of held tasks are what
    is true of the clean input, also in the targeted mode.

    Args:
        roles: Who is chosen, who is held.
        inner: Measures tasks: a population's damage, each sample's degradation or relative loss.
        damages: ``inner`` measures damages in (−∞, 1], ``1 − b/m`` of errors and ``1 − m/b`` of scores. False: relative
            changes.
    """

    roles: Roles
    inner: Objective
    damages: bool = True
    saturates: bool = True

    @property
    def needs_clean(self) -> bool:
        return self.inner.needs_clean

    def begin(self, problem: Problem, clean: Outputs | None) -> Run:
        chosen = [k for k, is_held in enumerate(self.roles.held) if not is_held]
        held = [k for k, is_held in enumerate(self.roles.held) if is_held]
        aim = self._part(problem, clean, chosen, "chosen", problem.targeted)
        hold = self._part(problem, clean, held, "held", False)
        errors = torch.tensor([problem.tasks[k].is_error for k in held], device=problem.row.device)

        def run(outputs: Outputs, step: int) -> Valuation:
            found = aim(_pick(outputs, chosen), step)
            if not held:
                return found
            kept = hold(_pick(outputs, held), step)
            sign = torch.where(kept.weigh < 0, 1.0, -1.0).to(kept.weigh.dtype)
            if len(kept.ascend[0]) != len(sign):
                sign = sign[problem.row]
            still = [s.to(value.dtype) * value for s, value in zip(sign.unbind(1), kept.ascend, strict=True)]
            order = torch.tensor([*chosen, *held], device=sign.device).argsort()
            weigh = torch.cat([found.weigh, self._moved(kept.weigh, errors)], 1)[:, order]
            ascend = dict(zip([*chosen, *held], [*found.ascend, *still], strict=True))
            known = torch.cat([found.known, kept.known], 1)[:, order]
            return Valuation([ascend[k] for k in range(len(ascend))], weigh, known)

        return run

    def _part(self, problem: Problem, clean: Outputs | None, tasks: list[int], name: str, targeted: bool) -> Run:
        """The inner objective on some of the tasks."""
        if not tasks:
            return lambda outputs, step: Valuation([], torch.empty(0), torch.empty(0))
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
        return relative_change(values, errors) if self.damages else values.abs()


@dataclass(frozen=True)
class Multipliers:
    """Weights of a task-selective attack: 1 in all for the chosen tasks, a multiplier for each held one.

    The dual ascent of ``max Σ q_i subject to |move_j| ≤ τ``, a row of multipliers for each row of samples: ``λ_j ←
    max(0, λ_j + rate · x_j)`` with ``x_j = (|move_j| − aim · τ)/τ``, and as in an augmented Lagrangian (Bertsekas,
    "Constrained Optimization and Lagrange Multiplier Methods", 1982, chapter 2) the weight is ``max(0, λ_j + penalty ·
    x_j)``.

    Args:
        roles: Who is chosen, who is held.
        tolerance: τ, in (0, 1): the largest relative change of a held task.
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
            chosen, held = self.roles.columns(values)
            before = torch.zeros_like(values) if multipliers is None else multipliers
            # Bounded, or one far-off step would leave multipliers that take the rest of the run to come down.
            excess = (values / self.tolerance - self.aim).clamp(-1, 6)
            multipliers = (before + self.rate * excess.clamp(max=3)).clamp(min=0)
            holding = (multipliers + self.penalty * excess).clamp(min=0) * held
            share = (known & chosen).to(values.dtype)
            return known * (share / share.sum(1, keepdim=True).clamp(min=1) + holding)

        return run


def relative_change(damage: Tensor, errors: Tensor) -> Tensor:
    """|m/b − 1| from damages ``(..., K)``: ``1 − b/m`` where ``errors`` is true, ``1 − m/b`` elsewhere.

    Examples:
        >>> relative_change(torch.tensor([0.2, 0.2, -1.0]), torch.tensor([True, False, True]))
        tensor([0.2500, 0.2000, 0.5000])
    """
    return torch.where(errors, damage / (1 - damage).clamp(min=_LEAST_REMAINDER), damage).abs()


def stealthy_merit(damage: Tensor, problem: Problem, weighting: Multipliers) -> Tensor:
    """By what iterates of a task-selective attack are compared, ``(B,)``: the damage of the chosen tasks, in [−1, 1],
    where every held task is within the tolerance; else below −2, and the lower the farther they are out.

    Args:
        damage: Degradation of each sample's tasks, ``(B, K)``.
        problem: The batch.
        weighting: Has the roles and the tolerance.
    """
    chosen, held = weighting.roles.columns(damage)
    errors = torch.tensor([task.is_error for task in problem.tasks], device=damage.device)
    beyond = (relative_change(damage, errors) - weighting.tolerance).clamp(min=0) / weighting.tolerance
    beyond = torch.where(held & problem.in_play, beyond, torch.zeros_like(beyond)).sum(1)
    share = (chosen & problem.in_play).to(damage.dtype)
    gain = (damage.clamp(min=-1) * share).sum(1) / share.sum(1).clamp(min=1)
    return torch.where(beyond == 0, gain, -2 - beyond)


class _Part(Carry):
    """The running sums of some of the tasks, inside those of all."""

    def __init__(self, whole: Carry, name: str) -> None:
        super().__init__(whole.samples)
        self._whole, self._name = whole, name

    def add(self, key: tuple[object, ...], value: Tensor) -> Tensor:
        return self._whole.add((self._name, *key), value)


def _pick(items: Sequence[_Item], indices: Sequence[int]) -> list[_Item]:
    return [items[k] for k in indices]
