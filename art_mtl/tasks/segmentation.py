"""Semantic segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.classes import ClassTask
from art_mtl.tasks.label_checks import check_classes, check_shape, integers, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def segmentation(name: str, num_classes: int, ignore_index: int = -1, output: OutputPicker = None) -> Segmentation:
    """Semantic segmentation: logits ``(B, num_classes, H, W)``, labels ``(N, H, W)`` of integers.

    Loss: cross-entropy. Score: probability of the true class. Metric: mIoU.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        ignore_index: Label of pixels that do not count.
        output: See :class:`art_mtl.tasks.Task`.

    Examples:
        >>> import numpy as np
        >>> task = segmentation("seg", num_classes=3)
        >>> target = task.targets(np.array([[[0, 1], [2, -1]]]))
        >>> target.valid
        tensor([[[ True,  True],
                 [ True, False]]])
    """
    return Segmentation(name=name, num_classes=num_classes, ignore_index=ignore_index, output=output)


@dataclass(frozen=True, kw_only=True)
class Segmentation(ClassTask):
    """See :func:`segmentation`."""

    kind: ClassVar[str] = "segmentation"

    ignore_index: int = -1

    @cached_property
    def metric(self) -> Metric:
        """mIoU."""
        return metrics.mean_iou(self.num_classes)

    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """The confusion matrix of each image."""
        return metrics.confusion_matrix(predicted, target.value, target.valid, self.num_classes)

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, H, W)`` of classes, or logits ``(N, C, H, W)``, which are decoded."""
        if y.ndim == 4 and y.shape[1] == self.num_classes:
            y = self.decode(y)
        elif y.ndim == 4 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 3:
            raise shape_error(self.name, f"(N, H, W), or (N, {self.num_classes}, H, W) for raw outputs", y)
        y = integers(self.name, y)
        valid = (y != self.ignore_index) & present.view(-1, 1, 1)
        classes = torch.where(valid, y, 0)
        check_classes(self.name, classes, self.num_classes, f", or {self.ignore_index} to ignore")
        return DenseTarget(classes, valid)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C, H, W)``."""
        check_shape(self.name, output, (len(target), self.num_classes, *target.value.shape[1:]))
        return output

    @property
    def _unlabelled(self) -> int:
        return self.ignore_index
