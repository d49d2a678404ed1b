"""Semantic segmentation."""

from __future__ import annotations

from dataclasses import dataclass
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
from art_mtl.tasks.label_checks import check_classes, check_shape, integers, one_hot_classes, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def segmentation(
    name: str,
    num_classes: int,
    ignore_index: int = -1,
    output: OutputPicker = None,
    *,
    average_ignored: bool = False,
    probabilities: bool | None = None,
) -> Segmentation:
    """Semantic segmentation: logits ``(B, num_classes, H, W)``, labels ``(N, H, W)`` of integers.

    Loss: cross-entropy. Score: probability of the true class. Metric: mIoU.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        ignore_index: Label of pixels that do not count. It may be one of the classes. Then the mean of mIoU is over the
            others, as in torchmetrics, and no attack is aimed at it; a pixel that is predicted so is still wrong.
        output: See :class:`art_mtl.tasks.Task`.
        average_ignored: Whether mIoU gives the ignored class an IoU of its own, 0, once it is predicted somewhere: the
            convention of code that takes a mean over all rows of the confusion matrix.
        probabilities: As of :func:`classification`.

    Raises:
        TypeError: ``ignore_index`` is no integer.
        ValueError: ``num_classes`` is no integer of at least 2.

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
        probabilities=probabilities,
    )


@dataclass(frozen=True, kw_only=True)
class Segmentation(ClassTask):
    """See :func:`segmentation`."""

    kind: ClassVar[str] = "segmentation"
    is_map: ClassVar[bool] = True

    ignore_index: int = -1
    average_ignored: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.ignore_index, bool) or not isinstance(self.ignore_index, (int, np.integer)):
            raise TypeError(
                f"Parameter `ignore_index` should be an integer, -1 where every pixel counts. "
                f"Found {self.ignore_index!r}."
            )
        object.__setattr__(self, "ignore_index", int(self.ignore_index))

    @cached_property
    def metric(self) -> Metric:
        """mIoU."""
        return metrics.mean_iou(self.num_classes, None if self.average_ignored else self.ignored_class)

    @property
    def ignored_class(self) -> int | None:
        """``ignore_index`` where it is one of the classes."""
        return self.ignore_index if 0 <= self.ignore_index < self.num_classes else None

    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """The confusion matrix of each image."""
        return metrics.confusion_matrix(predicted, target.value, target.valid, self.num_classes)

    def shown(self, target: DenseTarget) -> Array:
        """Classes ``(N, H, W)``, −1 where none counts."""
        return torch.where(target.valid, target.value, -1).cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None) -> Array:
        """A colour for each class."""
        return class_picture(label)

    def caption(self, label: Array, unit: str = "") -> str:
        """How many classes there are, and how much is not labelled."""
        return f"{len(np.unique(label[label >= 0]))} classes{missing_share((label < 0).mean(), 'unlabelled')}"

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, H, W)`` of classes, or logits ``(N, C, H, W)``, which are decoded."""
        named = present.view(-1, 1, 1)
        if y.ndim == 4 and y.shape[1] == self.num_classes:
            y, found = one_hot_classes(self.name, y)
            named = named & found
        elif y.ndim == 4 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 3:
            raise shape_error(self.name, f"(N, H, W), or (N, {self.num_classes}, H, W) for raw outputs", y)
        y = integers(self.name, y)
        valid = (y != self.ignore_index) & named
        classes = torch.where(valid, y, 0)
        check_classes(self.name, classes, self.num_classes, f", or {self.ignore_index} to ignore")
        return DenseTarget(classes, valid)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C, H, W)``."""
        check_shape(self.name, output, (len(target), self.num_classes, *target.value.shape[1:]))
        return output

    @property
    def missing_mark(self) -> float:
        """``ignore_index``."""
        return self.ignore_index
