"""What one batch poses: tasks, labels, who is in play, which samples share weights, and what earlier batches left
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from art_mtl.tasks import Target, Task

SCOPES = ("sample", "batch", "dataset")


@dataclass
class RunningStatistics:
    """Running sums over the batches of one chunk, for weights that are shared across batches.

    Every batch adds to each key once, so what :meth:`add` returns is "the earlier batches and this one".
    """

    samples: int = 0
    _sums: dict[tuple[object, ...], Tensor] = field(default_factory=dict)

    def copy(self) -> RunningStatistics:
        """The same sums, to go on from."""
        return RunningStatistics(self.samples, dict(self._sums))

    def add(self, key: tuple[object, ...], value: Tensor) -> Tensor:
        """Add ``value`` to the sum under ``key``; return the sum."""
        total = self._sums[key] + value if key in self._sums else value
        self._sums[key] = total
        return total


@dataclass(frozen=True)
class BatchContext:
    """One batch.

    Attributes:
        tasks: K of them.
        targets: Canonical labels, one for each task, B samples each.
        steps: T.
        targeted: Whether the labels are what the outputs should become.
        scope: "sample", "batch" or "dataset": which samples share a row of weights.
        group: With "batch", how many neighbouring samples share a row; None for all.
        carry: Sums of earlier batches, for "dataset".
    """

    tasks: tuple[Task, ...]
    targets: tuple[Target, ...]
    steps: int
    targeted: bool = False
    scope: str = "sample"
    group: int | None = None
    carry: RunningStatistics = field(default_factory=RunningStatistics)

    @property
    def size(self) -> int:
        """B, the number of samples."""
        return len(self.targets[0])

    @cached_property
    def has_label(self) -> Tensor:
        """``(B, K)``, boolean: which tasks have a valid label on which samples."""
        return torch.stack([target.has_label for target in self.targets], 1)

    @cached_property
    def row(self) -> Tensor:
        """``(B,)``: the row of weights of each sample."""
        sample = torch.arange(self.size, device=self.has_label.device)
        if self.scope == "sample":
            return sample
        if self.scope == "dataset" or self.group is None:
            return torch.zeros_like(sample)
        return sample // self.group

    @cached_property
    def num_groups(self) -> int:
        """How many rows of weights there are."""
        if self.scope == "sample":
            return self.size
        if self.scope == "dataset" or self.group is None:
            return 1
        return -(-self.size // self.group)

    @cached_property
    def _membership(self) -> Tensor:
        return torch.nn.functional.one_hot(self.row, self.num_groups).T

    def row_sum(self, values: Tensor) -> Tensor:
        """Sum over the samples of each row, ``(B, ...)`` to ``(R, ...)``."""
        if self.scope == "sample":
            return values
        sums = self._membership.to(values.dtype) @ values.flatten(1)
        return sums.view(-1, *values.shape[1:])

    def row_mean(self, values: Tensor, counted: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Means that the weights see, and where there is one.

        Args:
            values: ``(B, K)``, finite where counted.
            counted: ``(B, K)``, boolean.
            step: t; with scope "dataset" the sums of earlier batches at the same step are included.

        Returns:
            Means ``(R, K)``, 0 where nothing was counted, and whether anything was, ``(R, K)``.
        """
        values = torch.where(counted, values, torch.zeros_like(values))
        if self.scope == "sample":
            return values, counted
        total, count = self.row_sum(values), self.row_sum(counted.to(values.dtype))
        if self.scope == "dataset":
            total, count = self.carry.add(("value", step), total), self.carry.add(("count", step), count)
        return total / count.clamp(min=1), count > 0


@dataclass(frozen=True)
class StepRecord:
    """What an observer is told about one step; all tensors detached, on the device.

    Attributes:
        step: t, from 0.
        restart: Number of the restart, from 0.
        inputs: The iterate of this step, ``(B, ...)``.
        gradient: Ascent direction before momentum and normalisation, ``(B, ...)``.
        weights: ``(B, K)``; 0 where a task is out of play. They sum to 1 for weightings on the simplex, to K for equal
            ones.
        losses: Per-sample task losses, ``(B, K)``; computed from the step's own forward pass when first asked for.
    """

    step: int
    restart: int
    inputs: Tensor
    gradient: Tensor
    weights: Tensor
    compute_losses: Callable[[], Tensor] = field(repr=False)

    @cached_property
    def losses(self) -> Tensor:
        return self.compute_losses()


def stack_columns(columns: Sequence[Tensor]) -> Tensor:
    """K tensors ``(B,)`` to a detached ``(B, K)``."""
    return torch.stack([column.detach() for column in columns], 1)
