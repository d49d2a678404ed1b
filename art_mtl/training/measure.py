"""How good a network is on clean images: additive statistics, metrics, the paper's units, one figure for all tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Target, Task

__all__ = ["Metrics", "Tally", "clean_metrics", "mean_log_quality", "paper_units"]

Metrics = dict[str, float]
"""By task, its metric in its own unit (mIoU and accuracy in [0, 1], errors in metres or degrees)."""

_LEAST = 1e-6


class Tally:
    """Adds up what the metrics of some tasks need, batch by batch.

    Args:
        tasks: those to measure.

    Attributes:
        sums: by task, (S,) float64, the metric's additive statistics; the last number is how many places were valid.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, outputs: Any, targets: Sequence[Target]) -> None:
        """Count a batch.

        Args:
            outputs: whatever the model returned.
            targets: of each task, on the same device.
        """
        for position, (task, target) in enumerate(zip(self.tasks, targets, strict=True)):
            output = task.check_output(task.select(outputs, position, len(self.tasks)), target)
            statistics = task.statistics(output, target).sum(0)
            row = torch.cat([statistics, target.count.sum().to(statistics)[None]])
            self.sums[task.name] = self.sums[task.name] + row if task.name in self.sums else row

    def metrics(self) -> Metrics:
        """The metric of each task over everything counted.

        Raises:
            ValueError: A task had no valid label at all.
        """
        for task in self.tasks:
            if task.name not in self.sums or float(self.sums[task.name][-1]) == 0:
                raise ValueError(f"Task {task.name!r} should have a valid label among the images measured. Found none.")
        return {task.name: float(task.metric.value(self.sums[task.name][:-1])) for task in self.tasks}


@torch.no_grad()
def clean_metrics(
    model: nn.Module, tasks: Sequence[Task], x: NDArray[np.float32], labels: MultiTaskLabels, batch_size: int = 50
) -> Metrics:
    """The metric of each task over a whole data set that is in memory.

    Args:
        model: put into evaluation mode for the while.
        tasks: its tasks.
        x: inputs (N, ...).
        labels: of the same N samples.
        batch_size: samples at a time; the answer does not depend on it.

    Returns:
        By task, its metric in its own unit (mIoU and accuracy in [0, 1], errors in metres or degrees).

    Raises:
        ValueError: A task has no valid label at all.
    """
    device = next(model.parameters()).device
    tally = Tally(tasks)
    # Average precision is no sum over samples.
    whole = {k: task.metric.torchmetric() for k, task in enumerate(tasks) if task.metric.entry}
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(x), batch_size):
            outputs = model(torch.tensor(x[start : start + batch_size], device=device))
            part = labels[start : start + batch_size]
            targets = [task.targets(part[task.name]).to(device) for task in tasks]
            tally.add(outputs, targets)
            for k, metric in whole.items():
                output = tasks[k].check_output(tasks[k].select(outputs, k, len(tasks)), targets[k])
                metric.update(*tasks[k].metric_arguments(output, targets[k]))
    finally:
        model.train(was_training)
    found = {tasks[k].name: float(metric.compute()[tasks[k].metric.entry]) for k, metric in whole.items()}
    return {**tally.metrics(), **found}


def mean_log_quality(tasks: Iterable[Task], metrics: Mapping[str, float]) -> float:
    """One figure for several tasks, by which checkpoints are ranked: greater is better.

    The mean over the tasks of ± log(metric), with + where more is better. The difference of two such figures is the
    mean of the tasks' relative improvements, as logarithms: 0.01 is one percent better a task, whatever their units.

    Args:
        tasks: those to count.
        metrics: by task, its metric, at least 0.

    Examples:
        >>> from art_mtl import tasks
        >>> pair = [tasks.segmentation("seg", 13), tasks.depth("depth")]
        >>> before = mean_log_quality(pair, {"seg": 0.40, "depth": 0.50})
        >>> after = mean_log_quality(pair, {"seg": 0.44, "depth": 0.50})  # 10 % better on one of two
        >>> round(after - before, 4) == round(math.log(1.1) / 2, 4)
        True
    """
    logs = [math.log(max(metrics[task.name], _LEAST)) * (1 if task.metric.higher_is_better else -1) for task in tasks]
    return sum(logs) / len(logs)


def paper_units(tasks: Iterable[Task], metrics: Mapping[str, float]) -> str:
    """Metrics as the paper's tables print them: mIoU and aErr times 100, mDist in degrees.

    Examples:
        >>> from art_mtl import tasks
        >>> pair = [tasks.segmentation("segmentation", 13), tasks.surface_normals("normals")]
        >>> paper_units(pair, {"segmentation": 0.4656, "normals": 23.41})
        'segmentation mIoU 46.56, normals mDist 23.41°'
    """
    return ", ".join(
        f"{task.name} {task.metric.name} {metrics[task.name] * task.metric.scale:.2f}"
        f"{'°' if task.metric.unit == 'degrees' else ''}"
        for task in tasks
    )
