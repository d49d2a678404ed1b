"""Objectives: what is ascended for each task, and what the weights look at.

An objective is a small frozen object; :meth:`begin` binds it to one batch and returns a function of the step. In the
targeted mode every objective grows as the outputs come nearer to the targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, stack_columns
from art_mtl.tasks import Target, Task

Outputs = Sequence[Any]


@dataclass(frozen=True)
class ObjectiveValues:
    """What one forward pass is worth.

    Attributes:
        objectives: For each task the value whose gradient is taken, ``(B,)``, or ``(R,)`` where an objective pools the
            samples of a group.
        weighting_inputs: ``(R, K)``, detached: what the weights look at; larger is more degraded.
        mask: ``(R, K)``, boolean: where ``weighting_inputs`` means anything.
    """

    objectives: list[Tensor]
    weighting_inputs: Tensor
    mask: Tensor


ObjectiveRun = Callable[[Outputs, int], ObjectiveValues]


class Objective(ABC):
    """Base of the objectives; every method can be overridden, and :meth:`begin` has to be."""

    pools = False
    """Whether it looks at several samples together, so that it matters which ones."""
    needs_scope: str | None = None
    """The one scope of the weights that it works with, if there is but one."""

    @property
    def needs_clean(self) -> bool:
        """Whether :meth:`begin` needs the outputs on the clean inputs."""
        return False

    saturates = False
    """Whether its values may be finite where an output is not."""

    @property
    def per_sample(self) -> PerSample | None:
        """Itself, where it is one number a sample and task that lasts from step to step; else None."""
        return None

    def requires(self, task: int) -> bool:
        """Whether it cannot do without the labels of the task at a place."""
        return False

    def preserves(self, task: int) -> bool:
        """Whether the task at a place is not to change: its labels are true in the targeted mode too."""
        return False

    def restrict(self, kept: Sequence[int]) -> Objective:
        """The objective of some of the tasks, by their places in order."""
        return self

    @abstractmethod
    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        """Bind to one batch; ``clean`` are the detached outputs on the clean inputs, or None."""


@dataclass(frozen=True)
class PerSample(Objective):
    """Objectives that are one number a sample and task, and that the weights see as they are.

    Args:
        value: ``(task, output, target, reference, targeted) -> (B,)``.
        reference: ``(task, clean output, target) -> (B,)``, computed once on the clean inputs; None where none is
            needed.
        saturates: Whether the value may be finite where an output is not.
    """

    value: Callable[[Task, Tensor, Target, Tensor | None, bool], Tensor]
    reference: Callable[[Task, Tensor, Target], Tensor] | None = None
    saturates: bool = False

    @property
    def needs_clean(self) -> bool:
        return self.reference is not None

    @property
    def per_sample(self) -> PerSample:
        return self

    def values(self, context: BatchContext, outputs: Outputs, references: Sequence[Tensor | None]) -> list[Tensor]:
        """One ``(B,)`` a task, 0 where the task has no label."""
        values = [
            self.value(task, output, target, reference, context.targeted)
            for task, output, target, reference in zip(context.tasks, outputs, context.targets, references, strict=True)
        ]
        columns = context.has_label.unbind(1)
        return [torch.where(has, v, torch.zeros_like(v)) for has, v in zip(columns, values, strict=True)]

    def references(self, context: BatchContext, clean: Outputs | None) -> list[Tensor | None]:
        """The reference of each task, detached."""
        if self.reference is None or clean is None:
            return [None] * len(context.tasks)
        items = zip(context.tasks, clean, context.targets, strict=True)
        return [self.reference(task, output, target).detach() for task, output, target in items]

    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        return self.against(context, self.references(context, clean))

    def against(self, context: BatchContext, references: Sequence[Tensor | None]) -> ObjectiveRun:
        """Bind to one batch whose references are known."""

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            objectives = self.values(context, outputs, references)
            seen = stack_columns(objectives)
            return ObjectiveValues(
                objectives, *context.group_mean(seen, context.has_label & torch.isfinite(seen), step)
            )

        return run


@dataclass(frozen=True)
class PooledLoss(Objective):
    """The objectives of the authors' published code: losses that are means over *all* valid places of a row of samples.

    Args:
        kind: "loss" is L_i; "normalized" is L_i / L_i⁰; "relative" is (L_i − L_i⁰) / L_i⁰.
    """

    kind: str
    pools = True

    @property
    def needs_clean(self) -> bool:
        return self.kind != "loss"

    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        floors = self._floors(context, clean)
        sign = -1.0 if context.targeted else 1.0
        mask = context.group_sum(context.has_label.float()) > 0

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            losses = self._pool_all(context, outputs)
            objectives = [sign * self._value(loss, floor) for loss, floor in zip(losses, floors, strict=True)]
            return ObjectiveValues(objectives, stack_columns(objectives), mask)

        return run

    def _floors(self, context: BatchContext, clean: Outputs | None) -> list[Tensor | None]:
        """L_i⁰ of each row, not below the floor of its task; None where the objective has no use for it."""
        if not self.needs_clean:
            return [None] * len(context.tasks)
        if clean is None:
            raise ValueError(f"A pooled loss of kind {self.kind!r} needs the outputs on the clean inputs.")
        pairs = zip(self._pool_all(context, clean), context.tasks, strict=True)
        return [loss.detach().clamp(min=task.loss_floor) for loss, task in pairs]

    def _value(self, loss: Tensor, floor: Tensor | None) -> Tensor:
        if floor is None:
            return loss
        return (loss - floor) / floor if self.kind == "relative" else loss / floor

    def _pool_all(self, context: BatchContext, outputs: Outputs) -> list[Tensor]:
        triples = zip(context.tasks, outputs, context.targets, strict=True)
        return [self._pool(context, task, output, target) for task, output, target in triples]

    @staticmethod
    def _pool(context: BatchContext, task: Task, output: Tensor, target: Target) -> Tensor:
        pooled, count = task.pool(output, target)
        total = context.group_sum(pooled[:, None])[:, 0]
        return total / context.group_sum(count[:, None].to(total.dtype))[:, 0].clamp(min=1)


def smooth_log(value: Tensor, floor: float) -> Tensor:
    """log(value) above ``floor``, its tangent below: the slope is 1 / max(value, floor) and never 0.

    Examples:
        >>> smooth_log(torch.tensor([1.0, 0.0]), floor=0.5)
        tensor([ 0.0000, -1.6931])
    """
    floor_log = torch.log(torch.tensor(floor, dtype=torch.float32, device="cpu")).item()
    return torch.where(value > floor, value.clamp(min=floor).log(), floor_log + value / floor - 1)


def _loss(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    value = task.loss(output, target)
    return -value if targeted else value


def _log_loss(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    value = smooth_log(task.loss(output, target), task.loss_floor)
    return -value if targeted else value


def _normalized_loss(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    value = _loss(task, output, target, reference, targeted)
    return value if reference is None else value / reference


def _relative_loss(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    value = _normalized_loss(task, output, target, reference, targeted)
    return value + 1 if targeted else value - 1


def _clean_loss(task: Task, output: Tensor, target: Target) -> Tensor:
    return task.loss(output, target).clamp(min=task.loss_floor)


def _degradation(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    """1 − e⁰/e of an error, 1 − s/s⁰ of a score; towards a target the other way round. In (−∞, 1]."""
    score = task.score(output, target)
    before = torch.ones_like(score) if reference is None else reference
    if task.higher_is_better == targeted:
        # Below the floor, where the reference may lie too, the value is linear: a perfect output still has a slope.
        grown = 2 - score / task.score_floor
        return 1 - before * torch.where(
            score > task.score_floor, 1 / score.clamp(min=task.score_floor), grown / task.score_floor
        )
    return 1 - score / before


def _clean_score(task: Task, output: Tensor, target: Target) -> Tensor:
    return task.score(output, target).clamp(min=task.score_floor)


LOSS = PerSample(_loss)
"""L_i."""
LOG = PerSample(_log_loss)
"""log L_i: DGBA (Zhang et al. 2023), whose sign(Σ ∇L_i / L_i) is the ascent on Σ log L_i."""
NORMALIZED = PerSample(_normalized_loss, _clean_loss)
"""L_i / L_i⁰."""
RELATIVE = PerSample(_relative_loss, _clean_loss)
"""(L_i − L_i⁰) / L_i⁰."""
DEGRADATION = PerSample(_degradation, _clean_score, saturates=True)
"""A differentiable, per-sample stand-in for the degradation Δ_i that is reported."""
