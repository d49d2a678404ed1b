"""Degrade some tasks and preserve others: what task-selective attacks ascend, and the multipliers that preserve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext
from art_mtl.core.device import row_like
from art_mtl.core.objectives.loss_objectives import Objective, ObjectiveRun, ObjectiveValues, Outputs
from art_mtl.core.weightings import Weighting, WeightingRun

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
        """Both as booleans ``(K,)`` on the device of ``like``; made there, so that nothing waits for a copy."""
        return _mask(self.attacked, like), _mask(self.preserved, like)


@dataclass(frozen=True)
class ConstrainedObjective(Objective):
    """``q_i`` of the attacked tasks, ``−|q_j|`` of the preserved ones.

    The weights look at the degradation of the attacked tasks and at how far the preserved ones have moved, in both
    directions: the relative change of their metric (population), error or score (sample), ``|m/b − 1|``. Labels of
    preserved tasks are what is true of the clean input, also in the targeted mode.

    Args:
        roles: Who is attacked, who is preserved.
        inner: Measures tasks: a population's degradation, each sample's degradation or relative loss.
        degradations: ``inner`` measures degradations in (−∞, 1], ``1 − b/m`` of errors and ``1 − m/b`` of scores.
            False: relative changes.
    """

    roles: Roles
    inner: Objective
    degradations: bool = True
    saturates = True

    @property
    def needs_clean(self) -> bool:  # type: ignore[override]
        return self.inner.needs_clean

    @property
    def pools(self) -> bool:  # type: ignore[override]
        return self.inner.pools

    @property
    def needs_scope(self) -> str | None:  # type: ignore[override]
        return self.inner.needs_scope

    def requires(self, task: int) -> bool:
        return self.roles.attacked[task] or self.roles.preserved[task]

    def preserves(self, task: int) -> bool:
        return self.roles.preserved[task]

    def restrict(self, kept: Sequence[int]) -> ConstrainedObjective:
        return replace(self, roles=self.roles.only(kept))

    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        attacked = [k for k, is_preserved in enumerate(self.roles.preserved) if not is_preserved]
        preserved = [k for k, is_preserved in enumerate(self.roles.preserved) if is_preserved]
        aim = self._part(context, clean, attacked, "attacked", context.targeted)
        if not preserved:
            return lambda outputs, step: aim(_pick(outputs, attacked), step)
        hold = self._part(context, clean, preserved, "preserved", False)
        errors = _mask([not context.tasks[k].higher_is_better for k in preserved], context.group_index)
        places = sorted(range(len(context.tasks)), key=[*attacked, *preserved].__getitem__)

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            found, kept = aim(_pick(outputs, attacked), step), hold(_pick(outputs, preserved), step)
            moved = self._moved(kept.weighting_inputs, errors)
            still = _downwards(kept, context)
            return ObjectiveValues(
                _pick([*found.objectives, *still], places),
                _columns([found.weighting_inputs, moved], places),
                _columns([found.mask, kept.mask], places),
            )

        return run

    def _part(
        self, context: BatchContext, clean: Outputs | None, tasks: list[int], name: str, targeted: bool
    ) -> ObjectiveRun:
        """The inner objective on some of the tasks."""
        part = replace(
            context,
            tasks=tuple(_pick(context.tasks, tasks)),
            targets=tuple(_pick(context.targets, tasks)),
            targeted=targeted,
            statistics=context.statistics.part(name),
        )
        return self.inner.begin(part, None if clean is None else _pick(clean, tasks))

    def _moved(self, values: Tensor, errors: Tensor) -> Tensor:
        """|m/b − 1| of what the inner objective measures."""
        return relative_change(values, errors) if self.degradations else values.abs()


def _downwards(found: ObjectiveValues, context: BatchContext) -> list[Tensor]:
    """The objectives with the sign that brings what has moved back."""
    sign = torch.where(found.weighting_inputs < 0, 1.0, -1.0).to(found.weighting_inputs.dtype)
    if len(found.objectives[0]) != len(sign):
        sign = sign[context.group_index]
    return [s.to(value.dtype) * value for s, value in zip(sign.unbind(1), found.objectives, strict=True)]


@dataclass(frozen=True)
class Multipliers(Weighting):
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
        columns: tuple[Tensor, Tensor] | None = None

        def run(values: Tensor, mask: Tensor, step: int) -> Tensor:
            nonlocal multipliers, columns
            columns = self.roles.columns(values) if columns is None else columns
            attacked, preserved = columns
            before = torch.zeros_like(values) if multipliers is None else multipliers
            # Bounded, or one far-off step would leave multipliers that take the rest of the run to come down.
            excess = (values / self.tolerance - self.aim).clamp(-1, 6)
            multipliers = (before + self.rate * excess.clamp(max=3)).clamp(min=0)
            holding = (multipliers + self.penalty * excess).clamp(min=0) * preserved
            share = (mask & attacked).to(values.dtype)
            return mask * (share / share.sum(1, keepdim=True).clamp(min=1) + holding)

        return run

    def selection_score(self, values: Tensor, weights: Tensor, context: BatchContext) -> Tensor:
        """The degradation of the attacked tasks, in [−1, 1], where every preserved task is within the tolerance; else
        below −2, and the lower the farther they are out. ``values`` are degradations.
        """
        attacked, preserved = self.roles.columns(values)
        errors = _mask([not task.higher_is_better for task in context.tasks], values)
        beyond = (relative_change(values, errors) - self.tolerance).clamp(min=0) / self.tolerance
        beyond = torch.where(preserved & context.has_label, beyond, torch.zeros_like(beyond)).sum(1)
        share = (attacked & context.has_label).to(values.dtype)
        gain = (values.clamp(min=-1) * share).sum(1) / share.sum(1).clamp(min=1)
        return torch.where(beyond == 0, gain, -2 - beyond)

    def restrict(self, kept: Sequence[int]) -> Multipliers:
        return replace(self, roles=self.roles.only(kept))

    def uses(self, task: int) -> bool:
        return self.roles.attacked[task] or self.roles.preserved[task]


def relative_change(degradation: Tensor, errors: Tensor) -> Tensor:
    """|m/b − 1| from degradations ``(..., K)``: ``1 − b/m`` where ``errors`` is true, ``1 − m/b`` elsewhere.

    Examples:
        >>> relative_change(torch.tensor([0.2, 0.2, -1.0]), torch.tensor([True, False, True]))
        tensor([0.2500, 0.2000, 0.5000])
    """
    return torch.where(errors, degradation / (1 - degradation).clamp(min=_LEAST_REMAINDER), degradation).abs()


def _pick(items: Sequence[_Item], indices: Sequence[int]) -> list[_Item]:
    return [items[k] for k in indices]


def _columns(parts: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """Columns of several matrices ``(R, ·)``, side by side in the order of ``places``."""
    columns = [column for part in parts for column in part.unbind(1)]
    return torch.stack(_pick(columns, places), 1)


def _mask(flags: Sequence[bool], like: Tensor) -> Tensor:
    """Booleans as a tensor ``(K,)`` beside ``like``, made there."""
    return row_like(tuple(float(flag) for flag in flags), like) != 0
