"""Measure every task of a model on one data set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.evaluation.results import TaskResult, known
from art_mtl.labels import MultiTaskLabels
from art_mtl.metrics import Metric, delta
from art_mtl.tasks import Target, Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

Inputs = npt.NDArray[np.float32]

PROTOCOLS = ("pooled", "auto-lambda")
"""How errors are averaged over a data set. "pooled": over all valid places of all images alike. "auto-lambda": over the
valid places of each batch of 4, then over the batches by their size, as Auto-Lambda (Liu et al., TMLR 2022) and with it
the paper's tables do; there a normal whose components sum to 0 counts as invalid. Scores are the same in both.
"""
PROTOCOL_BATCH = 4
"""Neighbours over whose valid places "auto-lambda" averages first."""


@dataclass(frozen=True)
class Measured:
    """Metrics over the data set, ``(K,)``, and of each sample, ``(N, K)``; NaN where there is none. Of each task the
    additive statistics behind its metric, ``(N, S)``.
    """

    values: Tensor
    samples: Tensor
    statistics: tuple[Tensor, ...]


def check_protocol(protocol: str) -> None:
    """Raise ValueError unless ``protocol`` is one of :data:`PROTOCOLS`."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"Parameter `protocol` should be one of {list(PROTOCOLS)}. Found {protocol!r}.")


def protocol_labels(tasks: Sequence[Task], y: MultiTaskLabels, protocol: str) -> MultiTaskLabels:
    """Labels in which every place that the protocol takes for invalid is marked so.

    "auto-lambda" tells validity by the sum of a label's channels, which loses normals such as (1, −1, 0)/√2 with the
    unmeasured ones. Attack and metrics both take these labels, so that they agree about what counts.

    Args:
        tasks: Whose labels these are.
        y: Labels of a data set.
        protocol: One of :data:`PROTOCOLS`.

    Returns:
        The same labels, or with a copy of the arrays that change.

    Examples:
        >>> from art_mtl.tasks import surface_normals
        >>> y = MultiTaskLabels({"n": np.array([[[[0.0, 1.0]], [[0.6, -1.0]], [[0.8, 0.0]]]])})
        >>> protocol_labels([surface_normals("n")], y, "auto-lambda")["n"][0, :, 0].tolist()
        [[0.0, 0.0], [0.6, 0.0], [0.8, 0.0]]
    """
    if protocol == "pooled":
        return y
    changed = {}
    for task in tasks:
        if task.kind != "surface_normals":
            continue
        vectors = np.asarray(y[task.name])
        lost = (vectors.sum(1, keepdims=True) == 0) & vectors.any(1, keepdims=True)
        if lost.any():
            changed[task.name] = np.where(lost, 0, vectors)
    if not changed:
        return y
    names = y.names
    return MultiTaskLabels({name: changed.get(name, y[name]) for name in names}, {n: y.present(n) for n in names})


def batch_average(metric: Metric, statistics: Tensor) -> Tensor:
    """An error by the protocol "auto-lambda".

    Args:
        metric: A mean over valid places.
        statistics: Its additive statistics of each sample, (sum, count): ``(N, 2)``.

    Returns:
        The mean over the batches of 4, weighted by their size, of their means over valid places. A batch without a
        valid place does not count; NaN where none has one.

    Examples:
        >>> from art_mtl.metrics import absolute_error
        >>> one_valid_place_beside_three_images_of_nine = torch.tensor([[8.0, 1]] + [[0.0, 9]] * 3 + [[5.0, 1]])
        >>> batch_average(absolute_error(), one_valid_place_beside_three_images_of_nine)
        tensor(1.2286)
    """
    batches = torch.split(statistics, PROTOCOL_BATCH)
    sums = torch.stack([batch.sum(0) for batch in batches])
    sizes = sums.new_tensor([len(batch) for batch in batches]) * (sums[:, 1] > 0)
    return (metric.value(sums) * sizes).sum() / sizes.sum()


class Judge:
    """A model's tasks, measured on one data set.

    Labels are checked once and made canonical batch by batch, each time anew: to keep a copy of all of them would take
    as much memory as the data set.
    """

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator,
        x: Inputs,
        y: MultiTaskLabels,
        batch_size: int,
        protocol: str = "pooled",
    ) -> None:
        check_protocol(protocol)
        self.estimator, self.batch_size, self.protocol = estimator, batch_size, protocol
        self.tasks: tuple[Task, ...] = tuple(estimator.tasks)
        self.x, self.y = x, protocol_labels(self.tasks, y, protocol)
        for task in self.tasks:
            if not bool(self._target(task, slice(None)).valid.any()):
                raise ValueError(f"Task {task.name!r} should have a valid label in the data set. Found none.")

    def measure(self, x: Inputs, when: str) -> Measured:
        """Every task's metric on these inputs, of which there are as many as labels."""
        metrics = [task.metric.torchmetric() for task in self.tasks]
        everything: list[list[Tensor]] = [[] for _ in self.tasks]
        rows = []
        for start in range(0, len(x), self.batch_size):
            part = slice(start, start + self.batch_size)
            raw = self.estimator.predict(x[part], batch_size=self.batch_size)
            columns = []
            for task, metric, kept in zip(self.tasks, metrics, everything, strict=True):
                batch = self._target(task, part)
                output = task.check_output(torch.as_tensor(raw[task.name]), batch)
                statistics = task.statistics(output, batch)
                kept.append(statistics)
                if not self._averages_batches(task) and bool(batch.valid.any()):
                    metric.update(*task.metric.arguments(output, batch.value, batch.valid))
                columns.append(_per_sample(task, statistics, batch))
            rows.append(torch.stack(columns, 1))
        gathered = tuple(torch.cat(kept) for kept in everything)
        values = [
            batch_average(task.metric, kept) if self._averages_batches(task) else torch.as_tensor(metric.compute())
            for task, metric, kept in zip(self.tasks, metrics, gathered, strict=True)
        ]
        for task, value in zip(self.tasks, values, strict=True):
            if not math.isfinite(value):
                _warn(f"The metric of task {task.name!r} is not finite {when}; it is left out.")
        return Measured(torch.stack([value.double().cpu() for value in values]), torch.cat(rows), gathered)

    def describe(self, clean: Measured) -> tuple[TaskResult, ...]:
        """The tasks with their clean metrics; a warning where damage to one is undefined."""
        described = []
        for i, task in enumerate(self.tasks):
            value, metric = float(clean.values[i]), task.metric
            if metric.higher_is_better and value == 0:
                _warn(
                    f"The {metric.name} of task {task.name!r} is 0 on clean inputs: its damage is undefined, and Δ_MTL "
                    "and Δ_Wor leave it out."
                )
            described.append(
                TaskResult(
                    name=task.name,
                    kind=task.kind,
                    metric=metric.name,
                    higher_is_better=metric.higher_is_better,
                    scale=metric.scale,
                    unit=metric.unit,
                    clean=known(value),
                    sample_clean=tuple(known(v) for v in clean.samples[:, i].tolist()),
                )
            )
        return tuple(described)

    def deltas(self, attacked: Tensor, clean: Tensor) -> Tensor:
        """Signed damages of metrics ``(..., K)``."""
        columns = zip(attacked.unbind(-1), clean.unbind(-1), self.tasks, strict=True)
        return torch.stack([delta(m, b, task.metric.higher_is_better) for m, b, task in columns], -1)

    def _averages_batches(self, task: Task) -> bool:
        return self.protocol == "auto-lambda" and task.metric.element is not None and task.is_error

    def _target(self, task: Task, part: slice) -> Target:
        """Canonical labels of some samples."""
        return task.targets(self.y[task.name][part], self.y.present(task.name)[part])


def _per_sample(task: Task, statistics: Tensor, target: Target) -> Tensor:
    values = task.metric.value(statistics).double()
    return torch.where(target.in_play, values, torch.full_like(values, math.nan))


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
