"""Masks that may overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.binary_task import UNKNOWN, BinaryTask
from art_mtl.tasks.colours import Array, mask_picture
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.label_checks import check_count
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.spatial import AXES, check_spatial_dims, middle_slice


def multilabel_segmentation(
    name: str,
    num_labels: int,
    ignore_index: int | Sequence[int] = UNKNOWN,
    output: OutputPicker = None,
    *,
    spatial_dims: int = 2,
    probabilities: bool | None = None,
) -> MultilabelSegmentation:
    """Masks that may overlap: logits ``(B, num_labels, H, W)``, labels ``(N, num_labels, H, W)`` of 1 and 0.

    Loss: binary cross-entropy, the mean over labels and pixels. Score: probability of the true state. Metric: the mean
    over the labels of the IoU of their masks.

    Args:
        name: Name of the task.
        num_labels: At least 1.
        ignore_index: Label of pixels that do not count, other than 0 and 1, or several; of one mask or of all.
        output: See :class:`art_mtl.tasks.Task`.
        spatial_dims: 2 for images; 3 for volumes, ``(B, num_labels, D, H, W)``.
        probabilities: Whether the model returns probabilities, after a sigmoid of its own. None: it shows where a
            sample has at least 64 numbers, all of them in [0, 1].

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> task = multilabel_segmentation("parts", num_labels=2)
        >>> task.targets(np.array([[[[1, 0]], [[1, -1]]]])).valid.tolist()
        [[[[True, True]], [[True, False]]]]
    """
    return MultilabelSegmentation(
        name=name,
        num_labels=num_labels,
        ignore_index=ignore_index,
        output=output,
        spatial_dims=spatial_dims,
        probabilities=probabilities,
    )


@dataclass(frozen=True, kw_only=True)
class MultilabelSegmentation(BinaryTask):
    """See :func:`multilabel_segmentation`."""

    kind: ClassVar[str] = "multilabel_segmentation"
    is_map: ClassVar[bool] = True
    picture_key: ClassVar[str] = "colours mix where masks overlap"

    num_labels: int
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_labels", check_count("num_labels", self.num_labels, least=1))
        check_spatial_dims(self.name, self.spatial_dims)

    @property
    def num_masks(self) -> int:
        """L."""
        return self.num_labels

    @property
    def layout(self) -> str:
        """``(N, L, *S)``."""
        return f"(N, {self.num_labels}, {AXES[self.spatial_dims]})"

    @cached_property
    def metric(self) -> Metric:
        """Mean IoU of the masks."""
        return metrics.multilabel_iou(self.num_labels)

    def arrange(self, tensor: Tensor) -> Tensor | None:
        """``(N, L, *S)``."""
        fits = tensor.ndim == self.spatial_dims + 2 and tensor.shape[1] == self.num_labels
        return tensor if fits else None

    def classes_in(self, label: Array) -> Array:
        """The masks that are set somewhere."""
        return np.flatnonzero((label > 0.5).reshape(len(label), -1).any(1))

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """A colour for each label, mixed where masks overlap."""
        return mask_picture(middle_slice(np.asarray(label, dtype=float), self.spatial_dims))

    def caption(self, label: Array, unit: str = "") -> str:
        """How many masks there are, and how much is not labelled."""
        masks = (label > 0.5).reshape(len(label), -1).any(1).sum()
        return f"{masks} masks{missing_share(np.isnan(label).mean(), 'unlabelled')}"
