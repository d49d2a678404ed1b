"""A classification towards one wrong class: what the targeted members of the ensemble attack.

The margin to a *given* other class has no kink where another class overtakes, so that each target is a different climb;
the label is lost as soon as any of them succeeds (Croce & Hein 2020, section 4.1).
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from art_mtl.tasks import Target, Task


def is_classification(task: Task) -> bool:
    """Whether the task has one class an image, and more than one wrong one to choose from."""
    return task.kind == "classification" and getattr(task.format, "num_classes", 0) > 2


def towards(task: Task, target: Target, clean: Tensor, rank: int) -> tuple[Task, Target]:
    """The same task with the margin between the label and one other class.

    Args:
        task: A classification.
        target: Its labels, ``(B,)``.
        clean: Its logits on the clean inputs, ``(B, C)``.
        rank: 1 for the greatest other logit there, 2 for the next, …; the last one where there are fewer.

    Returns:
        The task, whose metric is still that of the label, and labels ``(B, 2)``: true class, other class.
    """
    others = clean.scatter(1, target.value[:, None], float("-inf"))
    chosen = others.topk(min(rank, clean.shape[1] - 1), dim=1).indices[:, -1]
    value = target.value[:, None].repeat(1, 2)
    value[:, 1] = chosen
    metric, quality = task.metric, task.quality_elements
    changed = replace(
        task,
        loss_elements=_pair_loss,
        margin_elements=_pair_margin,
        quality_elements=lambda output, pair: quality(output, pair[:, 0]),
        metric=replace(metric, statistics=lambda output, pair, valid: metric.statistics(output, pair[:, 0], valid)),
    )
    return changed, Target(value, target.valid)


def _pair_margin(output: Tensor, pair: Tensor) -> Tensor:
    chosen = output.gather(1, pair)
    return chosen[:, 0] - chosen[:, 1]


def _pair_loss(output: Tensor, pair: Tensor) -> Tensor:
    """Cross-entropy of the two classes alone."""
    return F.softplus(-_pair_margin(output, pair))
