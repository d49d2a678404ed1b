"""Objectives: what is ascended for each task, and what the weights look at.

An objective is a small frozen object; :meth:`begin` binds it to one batch and returns a function of the step. In the
targeted mode every objective grows as the outputs come nearer to the targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, stack_columns
from art_mtl.tasks import Target, Task

Outputs = Sequence[Any]


@dataclass(frozen=True)
class ObjectiveValues:
    """What one forward pass is worth.

    Attributes:
        ascend: For each task the value whose gradient is taken, ``(B,)``, or ``(R,)`` where an objective pools its
            rows.
        weigh: ``(R, K)``, detached: what the weights look at; larger is more degraded.
        known: ``(R, K)``, boolean: where ``weigh`` means anything.
    """

    ascend: list[Tensor]
    weigh: Tensor
    known: Tensor


Run = Callable[[Outputs, int], ObjectiveValues]


class Objective(Protocol):
    """See the module's docstring."""

    @property
    def needs_clean(self) -> bool:
        """Whether :meth:`begin` needs the outputs on the clean inputs."""

    @property
    def saturates(self) -> bool:
        """Whether its values may be finite where an output is not."""

    def begin(self, problem: BatchContext, clean: Outputs | None) -> Run:
        """Bind to one batch; ``clean`` are the detached outputs on the clean inputs, or None."""


@dataclass(frozen=True)
class PerSample:
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

    def values(self, problem: BatchContext, outputs: Outputs, references: Sequence[Tensor | None]) -> list[Tensor]:
        """One ``(B,)`` a task, 0 where the task is out of play."""
        values = [
            self.value(task, output, target, reference, problem.targeted)
            for task, output, target, reference in zip(problem.tasks, outputs, problem.targets, references, strict=True)
        ]
        columns = problem.has_label.unbind(1)
        return [torch.where(play, v, torch.zeros_like(v)) for play, v in zip(columns, values, strict=True)]

    def references(self, problem: BatchContext, clean: Outputs | None) -> list[Tensor | None]:
        """The reference of each task, detached."""
        if self.reference is None or clean is None:
            return [None] * len(problem.tasks)
        items = zip(problem.tasks, clean, problem.targets, strict=True)
        return [self.reference(task, output, target).detach() for task, output, target in items]

    def begin(self, problem: BatchContext, clean: Outputs | None) -> Run:
        return self.against(problem, self.references(problem, clean))

    def against(self, problem: BatchContext, references: Sequence[Tensor | None]) -> Run:
        """Bind to one batch whose references are known."""

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            ascend = self.values(problem, outputs, references)
            seen = stack_columns(ascend)
            weigh, known = problem.row_mean(seen, problem.has_label & torch.isfinite(seen), step)
            return ObjectiveValues(ascend, weigh, known)

        return run


@dataclass(frozen=True)
class PooledLoss:
    """The objectives of the authors' published code: losses that are means over *all* valid places of a row of samples.

    Args:
        kind: "loss" is L_i; "normalized" is L_i / L_i⁰; "relative" is (L_i − L_i⁰) / L_i⁰.
    """

    kind: str
    saturates: bool = False

    @property
    def needs_clean(self) -> bool:
        return self.kind != "loss"

    def begin(self, problem: BatchContext, clean: Outputs | None) -> Run:
        floors = self._floors(problem, clean)
        sign = -1.0 if problem.targeted else 1.0
        known = problem.row_sum(problem.has_label.float()) > 0

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            losses = self._pool_all(problem, outputs)
            ascend = [sign * self._value(loss, floor) for loss, floor in zip(losses, floors, strict=True)]
            return ObjectiveValues(ascend, stack_columns(ascend), known)

        return run

    def _floors(self, problem: BatchContext, clean: Outputs | None) -> list[Tensor | None]:
        """L_i⁰ of each row, not below the floor of its task; None where the objective has no use for it."""
        if not self.needs_clean:
            return [None] * len(problem.tasks)
        if clean is None:
            raise ValueError(f"A pooled loss of kind {self.kind!r} needs the outputs on the clean inputs.")
        pairs = zip(self._pool_all(problem, clean), problem.tasks, strict=True)
        return [loss.detach().clamp(min=task.loss_floor) for loss, task in pairs]

    def _value(self, loss: Tensor, floor: Tensor | None) -> Tensor:
        if floor is None:
            return loss
        return (loss - floor) / floor if self.kind == "relative" else loss / floor

    def _pool_all(self, problem: BatchContext, outputs: Outputs) -> list[Tensor]:
        triples = zip(problem.tasks, outputs, problem.targets, strict=True)
        return [self._pool(problem, task, output, target) for task, output, target in triples]

    @staticmethod
    def _pool(problem: BatchContext, task: Task, output: Tensor, target: Target) -> Tensor:
        pooled, count = task.pool(output, target)
        total = problem.row_sum(pooled[:, None])[:, 0]
        return total / problem.row_sum(count[:, None].to(total.dtype))[:, 0].clamp(min=1)


def smooth_log(value: Tensor, floor: float) -> Tensor:
    """log(value) above ``floor``, its tangent below: the slope is 1 / max(value, floor) and never 0.

    Examples:
        >>> smooth_log(torch.tensor([1.0, 0.0]), floor=0.5)
        tensor([ 0.0000, -1.6931])
    """
    floor_log = torch.log(torch.tensor(floor)).item()
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
