"""The objective of `worst-task`: degradation of the population, as reports will measure it.

Weights look at the degradation of each task's own *hard* metric over everything seen so far (accuracy, mIoU, mean
error); the gradient is taken of smooth stand-ins that stop paying where the metric saturates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl import losses
from art_mtl.core.context import BatchContext
from art_mtl.core.objectives.loss_objectives import LOG, Objective, ObjectiveRun, ObjectiveValues, Outputs
from art_mtl.tasks import Measures, Target, Task

_SMALLEST_SOFTNESS = 1e-4


@dataclass(frozen=True)
class PopulationDegradation(Objective):
    """Population degradation D_i of each task, and the stand-in q_i that is ascended.

    ``D_i = 1 − m_i/b_i`` where more is better, ``1 − b_i/m_i`` where less is, with m_i the metric now and b_i on clean
    inputs. At step 0 q_i = log L_i. Then, for errors, q_i = e_i / mean e(now); for decisions with margin M, q_i = 2
    σ(−M/s_t)/b_i with ``s_t = softness · ρ_i · (1 − t/T)`` and ρ_i the root mean square by which the first step moved
    this net's margins. Far from flipping σ's exponential lets each image work on its cheaper label; a label flipped by
    about s stops paying.

    Towards targets D_i is the share of the way: ``1 − m_i/b_i`` of an error, ``1 − (1 − m_i)/(1 − b_i)`` of a score in
    [0, 1], ``1 − b_i/m_i`` of one without bound.

    Args:
        softness: Width of the decision's σ, relative to ρ.
    """

    softness: float = 1.0
    needs_clean = True
    saturates = True
    pools = True
    needs_scope = "dataset"

    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        if clean is None:
            raise ValueError("Population degradation needs the outputs on the clean inputs.")
        views = [
            _TaskView(context, index, task, target, output, self.softness)
            for index, (task, target, output) in enumerate(zip(context.tasks, context.targets, clean, strict=True))
        ]

        def run(outputs: Outputs, step: int) -> ObjectiveValues:
            shown = [
                (view, view.measure(output, margins=step > 0)) for view, output in zip(views, outputs, strict=True)
            ]
            if step == 0:
                objectives = LOG.values(context, outputs, [None] * len(views))
            else:
                objectives = [view.stand_in(measures, step) for view, measures in shown]
            degradations = [view.degradation(measures, step) for view, measures in shown]
            weighting_inputs = torch.stack([degradation for degradation, _ in degradations])[None]
            mask = torch.stack([known for _, known in degradations])[None]
            return ObjectiveValues(objectives, weighting_inputs.to(objectives[0].dtype), mask)

        return run


class _TaskView:
    """One task over the population: this batch and the earlier ones of its chunk."""

    def __init__(
        self, context: BatchContext, index: int, task: Task, target: Target, clean: Tensor, softness: float
    ) -> None:
        self.context, self.index, self.task, self.target = context, index, task, target
        self.softness = softness
        self.sign = -1.0 if context.targeted else 1.0
        self.has_label = target.has_label
        measures = self.measure(clean)
        self.clean_margins = measures.margins
        statistics = self._add("clean", None, self._finite(measures.statistics))
        self.known = self._add("present", None, self.has_label.sum()) > 0
        self.baseline = task.metric.value(statistics)
        self.spread: Tensor | None = None

    def measure(self, output: Tensor, margins: bool = True) -> Measures:
        """What one pass over the output tells."""
        return self.task.measure(output, self.target, margins)

    def degradation(self, measures: Measures, step: int) -> tuple[Tensor, Tensor]:
        """D_i now, and whether the task has been seen at all; scalars."""
        now = self.task.metric.value(self._add("statistics", step, self._finite(measures.statistics)))
        return relative_degradation(self.task, now, self.baseline, self.context.targeted), self.known

    def stand_in(self, measures: Measures, step: int) -> Tensor:
        """q_i, ``(B,)`` with its graph."""
        if measures.margins is not None and measures.counted is not None:
            value = self._soft_flips(measures.margins, measures.counted, step)
        elif measures.score is not None:
            value = self._scaled_score(measures.score, step)
        else:
            raise ValueError(f"Task {self.task.name!r} should measure margins or a score. Found neither.")
        return torch.where(self.has_label, value, torch.zeros_like(value))

    def _soft_flips(self, margin: Tensor, valid: Tensor, step: int) -> Tensor:
        if self.spread is None:
            before = margin.detach() if self.clean_margins is None else self.clean_margins
            moved = (margin.detach() - before).square()
            counted = valid & torch.isfinite(moved)
            total = self._add("moved", None, torch.where(counted, moved, torch.zeros_like(moved)).double().sum())
            count = self._add("places", None, counted.sum())
            self.spread = (total / count.clamp(min=1)).sqrt().to(margin.dtype)
        width = (self.softness * self.spread * (1 - step / self.context.steps)).clamp(min=_SMALLEST_SOFTNESS)
        reference = 1 - self.baseline if self.context.targeted else self.baseline
        scale = 2 / reference.clamp(min=self.task.score_floor).to(margin.dtype)
        return self.sign * scale * losses.masked_mean(torch.sigmoid(-margin / width), valid)

    def _scaled_score(self, score: Tensor, step: int) -> Tensor:
        seen = score.detach().double()
        counted = self.has_label & torch.isfinite(seen)
        total = self._add("quality", step, torch.where(counted, seen, torch.zeros_like(seen)).sum())
        mean = total / self._add("qualities", step, counted.sum()).clamp(min=1)
        scale = mean.clamp(min=self.task.score_floor).to(score.dtype)
        return self.sign * (-score if self.task.higher_is_better else score) / scale

    @staticmethod
    def _finite(statistics: Tensor) -> Tensor:
        """Their sum over the samples for which all are finite."""
        finite = torch.isfinite(statistics).all(1, keepdim=True)
        return torch.where(finite, statistics, torch.zeros_like(statistics)).sum(0)

    def _add(self, name: str, step: int | None, value: Tensor) -> Tensor:
        statistics = self.context.statistics
        statistics.declare(name)
        return statistics.updated(name, value, self.index, step)


def relative_degradation(task: Task, now: Tensor, before: Tensor, targeted: bool = False) -> Tensor:
    """D of a task whose metric is ``now`` and was ``before`` on clean inputs; see :class:`PopulationDegradation`.

    Args:
        task: Direction of the metric, and the floor of its errors.
        now: Any shape.
        before: Same shape.
        targeted: Degradation is the share of the way to the targets.

    Returns:
        Same shape, in (−∞, 1]; 1 for a score that is 0.
    """
    floor = task.score_floor
    if not task.higher_is_better:
        now, before = now.clamp(min=floor), before.clamp(min=floor)
        return 1 - now / before if targeted else 1 - before / now
    if targeted and not task.metric.has_best:
        return 1 - before.clamp(min=floor) / now.clamp(min=floor)
    if targeted:
        now, before = 1 - now, 1 - before
    # A score that was 0 on clean inputs has nothing left to lose.
    return torch.where(before > 0, 1 - now / before.clamp(min=floor), torch.ones_like(before))
