"""Measure every task of a model on one data set."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.evaluation.results import TaskResult, known
from art_mtl.labels import MultiTaskLabels
from art_mtl.metrics import delta
from art_mtl.tasks import Target, Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """Metrics over the data set, ``(K,)``, and of each sample, ``(N, K)``; NaN where there is none."""

    values: Tensor
    samples: Tensor


class Judge:
    """A model's tasks, measured on one data set."""

    def __init__(self, estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels, batch_size: int) -> None:
        self.estimator, self.x, self.y, self.batch_size = estimator, x, y, batch_size
        self.tasks: tuple[Task, ...] = tuple(estimator.tasks)
        self.targets = [task.targets(y[task.name], y.present(task.name)) for task in self.tasks]
        for task, target in zip(self.tasks, self.targets, strict=True):
            if not bool(target.valid.any()):
                raise ValueError(f"Task {task.name!r} should have a valid label in the data set. Found none.")

    def measure(self, x: Inputs, when: str) -> Measured:
        """Every task's metric on these inputs, of which there are as many as labels."""
        metrics = [task.metric.torchmetric() for task in self.tasks]
        rows = []
        for start in range(0, len(x), self.batch_size):
            part = slice(start, start + self.batch_size)
            raw = self.estimator.predict(x[part], batch_size=self.batch_size)
            columns = []
            for task, target, metric in zip(self.tasks, self.targets, metrics, strict=True):
                batch = target[part]
                output = task.check_output(torch.as_tensor(raw[task.name]), batch)
                if bool(batch.valid.any()):
                    metric.update(*task.metric.arguments(output, batch.value, batch.valid))
                columns.append(_per_sample(task, output, batch))
            rows.append(torch.stack(columns, 1))
        values = torch.stack([torch.as_tensor(metric.compute()).double().cpu() for metric in metrics])
        for task, value in zip(self.tasks, values.tolist(), strict=True):
            if not math.isfinite(value):
                _warn(f"The metric of task {task.name!r} is not finite {when}; it is left out.")
        return Measured(values, torch.cat(rows))

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


def _per_sample(task: Task, output: Tensor, target: Target) -> Tensor:
    values = task.metric.value(task.statistics(output, target)).double()
    return torch.where(target.in_play, values, torch.full_like(values, math.nan))


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
