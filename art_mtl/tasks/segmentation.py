"""Semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.classes import ClassTask
from art_mtl.tasks.colours import Array, class_picture
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.label_checks import (
    all_ignored,
    check_classes,
    check_ignored,
    check_shape,
    integers,
    is_ignored,
    one_hot_classes,
    shape_error,
)
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.spatial import AXES, check_spatial_dims, middle_slice, without_channel
from art_mtl.tasks.target import DenseTarget


def segmentation(
    name: str,
    num_classes: int,
    ignore_index: int | Sequence[int] = -1,
    output: OutputPicker = None,
    *,
    average_ignored: bool = False,
    spatial_dims: int = 2,
    probabilities: bool | None = None,
) -> Segmentation:
    """Semantic segmentation: logits ``(B, num_classes, H, W)``, labels ``(N, H, W)`` of integers.

    Loss: cross-entropy. Score: probability of the true class. Metric: mIoU.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        ignore_index: Label of pixels that do not count, or several. One may be one of the classes. Then the mean of
            mIoU is over the others, as in torchmetrics, and no attack is aimed at it; a pixel that is predicted so is
            still wrong.
        output: See :class:`art_mtl.tasks.Task`.
        average_ignored: Whether mIoU gives the ignored class an IoU of its own, 0, once it is predicted somewhere: the
            convention of code that takes a mean over all rows of the confusion matrix.
        spatial_dims: 2 for images; 3 for volumes: logits ``(B, num_classes, D, H, W)``, labels ``(N, D, H, W)``.
        probabilities: As of :func:`classification`.

    Raises:
        TypeError: ``ignore_index`` is no integer.
        ValueError: ``num_classes`` is no integer of at least 2, ``ignore_index`` holds several classes, or
            ``spatial_dims`` is neither 2 nor 3.

    Examples:
        >>> import numpy as np
        >>> task = segmentation("seg", num_classes=3)
        >>> target = task.targets(np.array([[[0, 1], [2, -1]]]))
        >>> target.valid
        tensor([[[ True,  True],
                 [ True, False]]])
    """
    return Segmentation(
        name=name,
        num_classes=num_classes,
        ignore_index=ignore_index,
        output=output,
        average_ignored=average_ignored,
        spatial_dims=spatial_dims,
        probabilities=probabilities,
    )


@dataclass(frozen=True, kw_only=True)
class Segmentation(ClassTask):
    """See :func:`segmentation`."""

    kind: ClassVar[str] = "segmentation"
    is_map: ClassVar[bool] = True

    ignore_index: int | Sequence[int] = -1
    average_ignored: bool = False
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_spatial_dims(self.name, self.spatial_dims)
        object.__setattr__(self, "ignore_index", check_ignored(self.name, self.ignore_index))
        if len(self._ignored_classes) > 1:
            raise ValueError(
                f"Parameter `ignore_index` of task {self.name!r} should hold at most one of the classes. "
                f"Found {self.ignore_index!r}."
            )

    @cached_property
    def metric(self) -> Metric:
        """mIoU."""
        return metrics.mean_iou(self.num_classes, None if self.average_ignored else self.ignored_class)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        accuracy = replace(metrics.accuracy(self.num_classes), name="pixel accuracy")
        return {"miou": self.metric, "pixel-accuracy": accuracy, **super().further_metrics}

    @property
    def ignored_class(self) -> int | None:
        """``ignore_index`` where it is one of the classes."""
        return self._ignored_classes[0] if self._ignored_classes else None

    @property
    def _ignored_classes(self) -> list[int]:
        return [mark for mark in all_ignored(self.ignore_index) if 0 <= mark < self.num_classes]

    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """Right, wrong and missed places of each class and image."""
        return metrics.class_counts(predicted, target.value, target.valid, self.num_classes)

    def shown(self, target: DenseTarget) -> Array:
        """Classes ``(N, *S)``, −1 where none counts."""
        return torch.where(target.valid, target.value, -1).cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """A colour for each class."""
        return class_picture(middle_slice(label, self.spatial_dims))

    def error_map(self, label: Array, truth: Array) -> Array:
        """1 where the class is wrong."""
        return middle_slice(np.where(truth < 0, np.nan, label != truth), self.spatial_dims)

    def caption(self, label: Array, unit: str = "") -> str:
        """How many classes there are, and how much is not labelled."""
        return f"{len(np.unique(label[label >= 0]))} classes{missing_share((label < 0).mean(), 'unlabelled')}"

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, *S)`` of classes, or logits ``(N, C, *S)``, which are decoded."""
        axes, named = AXES[self.spatial_dims], present.view(-1, *[1] * self.spatial_dims)
        if y.ndim == self.spatial_dims + 2 and y.shape[1] == self.num_classes:
            y, found = one_hot_classes(self.name, y)
            named = named & found
        arranged = without_channel(y, self.spatial_dims)
        if arranged is None:
            raise shape_error(self.name, f"(N, {axes}), or (N, {self.num_classes}, {axes}) for raw outputs", y)
        y = integers(self.name, arranged)
        valid = ~is_ignored(y, self.ignore_index) & named
        classes = torch.where(valid, y, 0)
        check_classes(self.name, classes, self.num_classes, f", or {self.ignore_index} to ignore")
        return DenseTarget(classes, valid)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C, *S)``."""
        check_shape(self.name, output, (len(target), self.num_classes, *target.value.shape[1:]))
        return output

    @property
    def missing_mark(self) -> float:
        """``ignore_index``, the first of several."""
        return all_ignored(self.ignore_index)[0]
