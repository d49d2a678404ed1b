"""What training descends: each task's loss as a mean over all valid places of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.tasks import Target, Task

__all__ = ["batch_mean_losses", "valid_counts"]


def valid_counts(targets: Sequence[Target]) -> Tensor:
    """How many places of each task count: (K,) float64."""
    return torch.stack([target.count.sum() for target in targets]).double()


def batch_mean_losses(
    tasks: Sequence[Task], outputs: Any, targets: Sequence[Target], counts: Tensor | None = None
) -> Tensor:
    """The paper's training losses: cross-entropy or summed L1, each a mean over all valid places of the batch.

    Unlike :meth:`art_mtl.Task.loss`, which divides each image by its own valid places.

    Args:
        tasks: K of them.
        outputs: whatever the model returned; computed with in float32.
        targets: of each task, on the same device.
        counts: (K,), by what to divide; None takes the valid places of these targets. Where a batch is shared among
            processes it is their sum, and then the losses add up to those of the whole batch.

    Returns:
        (K,); 0 where a task has no valid place.

    Raises:
        ValueError: An output does not fit its labels.

    Examples:
        >>> from art_mtl import tasks
        >>> task = tasks.depth("depth")
        >>> target = task.targets(torch.tensor([[[[1.0, 0.0]]], [[[2.0, 5.0]]]]))  # three of four pixels measured
        >>> batch_mean_losses([task], {"depth": torch.zeros(2, 1, 1, 2)}, [target])  # (1 + 2 + 5) / 3
        tensor([2.6667])
    """
    counts = valid_counts(targets) if counts is None else counts
    means = []
    for position, (task, target) in enumerate(zip(tasks, targets, strict=True)):
        output = task.check_output(task.select(outputs, position, len(tasks)), target)
        total = task.pool(output, target, finite=False)[0].sum()
        means.append(total / counts[position].to(total).clamp(min=1))
    return torch.stack(means)
