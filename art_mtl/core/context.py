"""What the parts of a loop know of one batch: tasks, labels, which samples share weights, and what earlier batches left
behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.device import full_precision
from art_mtl.tasks import Target, Task

Key = tuple[object, ...]
Reduction = Callable[[Tensor, Tensor], Tensor]


class RunningStatistics:
    """What is known of a chunk: the batches before this one, reduced, and this one.

    A statistic is declared with its reduction. To update it is to say what *this* batch contributes: again, and the new
    value takes the place of the old one, so that nothing counts twice. To read it changes nothing. A batch counts for
    those that follow once :meth:`commit` is called; one that fails leaves no trace.

    Examples:
        >>> statistics = RunningStatistics()
        >>> statistics.declare("errors")
        >>> for _ in range(2):
        ...     statistics.update("errors", torch.tensor(3.0))
        >>> statistics.commit(samples=8)
        >>> statistics.update("errors", torch.tensor(1.0))
        >>> statistics.read("errors")
        tensor(4.)
    """

    def __init__(self) -> None:
        self.samples = 0
        self._reductions: dict[str, Reduction] = {}
        self._before: dict[Key, Tensor] = {}
        self._now: dict[Key, Tensor] = {}
        self._prefix: Key = ()

    def declare(self, name: str, reduction: Reduction = torch.add) -> None:
        """Say how a statistic of two batches becomes that of both."""
        self._reductions[name] = reduction

    def update(self, name: str, value: Tensor, *key: object) -> None:
        """What this batch contributes to a statistic; ``key`` tells those of one name apart, such as task and step."""
        if name not in self._reductions:
            raise KeyError(f"The statistic {name!r} should be declared before it is updated.")
        full = (*self._prefix, name, *key)
        self._now[full] = value

    def read(self, name: str, *key: object) -> Tensor:
        """The statistic over the batches before and this one."""
        full = (*self._prefix, name, *key)
        return self._reduce(full, self._now[full])

    def updated(self, name: str, value: Tensor, *key: object) -> Tensor:
        """:meth:`update`, then :meth:`read`."""
        self.update(name, value, *key)
        return self.read(name, *key)

    def commit(self, samples: int) -> None:
        """Count this batch, of so many samples, among those before."""
        for full, value in self._now.items():
            self._before[full] = self._reduce(full, value)
        self._now.clear()
        self.samples += samples

    def _reduce(self, full: Key, value: Tensor) -> Tensor:
        if full not in self._before:
            return value
        name = next(part for part in full if part in self._reductions)
        return self._reductions[str(name)](self._before[full], value)

    def discard(self) -> None:
        """Forget what this batch has contributed so far."""
        self._now.clear()

    def part(self, name: str) -> RunningStatistics:
        """The same statistics, in which every key begins with ``name``: for an objective inside another one."""
        view = RunningStatistics()
        view.samples, view._prefix = self.samples, (*self._prefix, f"part:{name}")
        view._reductions, view._before, view._now = self._reductions, self._before, self._now
        return view


@dataclass(frozen=True)
class BatchContext:
    """One batch.

    Attributes:
        tasks: K of them.
        targets: Canonical labels, one for each task, B samples each.
        steps: T.
        targeted: Whether the labels are what the outputs should become.
        scope: "sample", "batch" or "dataset": which samples share weights.
        group: With "batch", how many neighbouring samples share weights; None for all.
        statistics: Of the chunk, for "dataset".
    """

    tasks: tuple[Task, ...]
    targets: tuple[Target, ...]
    steps: int
    targeted: bool = False
    scope: str = "sample"
    group: int | None = None
    statistics: RunningStatistics = field(default_factory=RunningStatistics)

    @property
    def size(self) -> int:
        """B, the number of samples."""
        return len(self.targets[0])

    @cached_property
    def has_label(self) -> Tensor:
        """``(B, K)``, boolean: which tasks have a valid label on which samples."""
        return torch.stack([target.has_label for target in self.targets], 1)

    def finite(self, outputs: Sequence[Any]) -> Tensor:
        """Which samples have finite outputs of all tasks that have a label there, ``(B,)``, boolean."""
        pairs = zip(self.tasks, outputs, strict=True)
        finite = torch.stack([task.finite(output) for task, output in pairs], 1)
        return (finite | ~self.has_label.to(finite.device)).all(1)

    @cached_property
    def group_index(self) -> Tensor:
        """``(B,)``: the group of each sample, which shares weights."""
        sample = torch.arange(self.size, device=self.has_label.device)
        if self.scope == "sample":
            return sample
        if self.scope == "dataset" or self.group is None:
            return torch.zeros_like(sample)
        return sample // self.group

    @cached_property
    def num_groups(self) -> int:
        """How many groups of samples share weights."""
        if self.scope == "sample":
            return self.size
        if self.scope == "dataset" or self.group is None:
            return 1
        return -(-self.size // self.group)

    @cached_property
    def _membership(self) -> Tensor:
        return torch.nn.functional.one_hot(self.group_index, self.num_groups).T

    def group_sum(self, values: Tensor) -> Tensor:
        """Sum over the samples of each group, ``(B, ...)`` to ``(R, ...)``."""
        if self.scope == "sample":
            return values
        with full_precision(values.device):
            sums = self._membership.to(values.dtype) @ values.flatten(1)
        return sums.view(-1, *values.shape[1:])

    def group_mean(self, values: Tensor, counted: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Means that the weights look at, and where there is one.

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
        total, count = self.group_sum(values), self.group_sum(counted.to(values.dtype))
        if self.scope == "dataset":
            statistics = self.statistics
            statistics.declare("value")
            statistics.declare("count")
            total, count = statistics.updated("value", total, step), statistics.updated("count", count, step)
        return total / count.clamp(min=1), count > 0


@dataclass(frozen=True)
class StepRecord:
    """What an observer is told about one step; all tensors detached, on the device.

    Attributes:
        step: t, from 0.
        restart: Number of the restart, from 0.
        clean: Clean inputs, ``(B, ...)``.
        inputs: The iterate of this step, ``(B, ...)``.
        outputs: Raw outputs of the K tasks at the iterate.
        gradient: Ascent direction before momentum and normalisation, ``(B, ...)``.
        weights: ``(B, K)``; 0 where a task has no label. They sum to 1 for weightings on the simplex, to K for equal
            ones.
        losses: Per-sample task losses, ``(B, K)``; computed from the step's own forward pass when first asked for.
        member: Name of the attack that makes the step, where an ensemble runs several; None elsewhere.
    """

    step: int
    restart: int
    clean: Tensor
    inputs: Tensor
    outputs: Sequence[Any] = field(repr=False)
    gradient: Tensor
    weights: Tensor
    compute_losses: Callable[[], Tensor] = field(repr=False)
    member: str | None = None

    @cached_property
    def losses(self) -> Tensor:
        return self.compute_losses()


def stack_columns(columns: Sequence[Tensor]) -> Tensor:
    """K tensors ``(B,)`` to a detached ``(B, K)``."""
    return torch.stack([column.detach() for column in columns], 1)
