"""Maps of yes or no: edges, saliency, drivable area, lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.binary_task import UNKNOWN, BinaryTask
from art_mtl.tasks.colours import Array, class_picture
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.label_checks import check_choice
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.spatial import AXES, check_spatial_dims, middle_slice, without_channel
from art_mtl.tasks.target import DenseTarget

METRICS = {"iou": metrics.binary_iou, "max_f": metrics.max_f, "ods_f": metrics.ods_f}


def binary_segmentation(
    name: str,
    threshold: float = 0.5,
    ignore_index: int | Sequence[int] = UNKNOWN,
    output: OutputPicker = None,
    *,
    metric: str = "iou",
    spatial_dims: int = 2,
    probabilities: bool | None = None,
) -> BinarySegmentation:
    """Yes or no at each pixel: one logit ``(B, 1, H, W)`` or ``(B, H, W)``, labels of 1 and 0 in the same layout.

    Loss: binary cross-entropy. Score: probability of the true state. Metric: IoU of the pixels that are 1, or the best
    F over thresholds.

    Args:
        name: Name of the task.
        threshold: Probability above which a pixel is predicted to be 1. The best F does without.
        ignore_index: Label of pixels that do not count, other than 0 and 1, or several.
        output: See :class:`art_mtl.tasks.Task`.
        metric: "iou". "max_f": the greatest F, with β² = 0.3, over 99 thresholds of the whole data set, for saliency
            (Achanta et al., CVPR 2009). "ods_f": the same with β² = 1, for edges (Arbeláez et al., TPAMI 2011); a
            predicted edge has to lie on the very pixel, without their tolerance.
        spatial_dims: 2 for images; 3 for volumes, ``(B, 1, D, H, W)`` or ``(B, D, H, W)``.
        probabilities: Whether the model returns probabilities, after a sigmoid of its own. None: it shows where a
            sample has at least 64 numbers, all of them in [0, 1].

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> task = binary_segmentation("edges", ignore_index=255)
        >>> target = task.targets(np.array([[[1, 0, 255, 1]]], dtype=np.uint8))
        >>> output = torch.tensor([[[[3.0, -3.0, 3.0, -3.0]]]])
        >>> statistics = task.statistics(task.check_output(output, target), target)
        >>> task.metric.value(statistics.sum(0))
        tensor(0.5000, dtype=torch.float64)
    """
    return BinarySegmentation(
        name=name,
        threshold=threshold,
        ignore_index=ignore_index,
        output=output,
        reported=metric,
        spatial_dims=spatial_dims,
        probabilities=probabilities,
    )


@dataclass(frozen=True, kw_only=True)
class BinarySegmentation(BinaryTask):
    """See :func:`binary_segmentation`."""

    kind: ClassVar[str] = "binary_segmentation"
    is_map: ClassVar[bool] = True

    reported: str = "iou"
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "metric", self.reported, METRICS)
        check_spatial_dims(self.name, self.spatial_dims)

    @property
    def layout(self) -> str:
        """``(N, *S)``."""
        axes = AXES[self.spatial_dims]
        return f"(N, {axes}) or (N, 1, {axes})"

    @cached_property
    def metric(self) -> Metric:
        """IoU, or the best F."""
        return METRICS[self.reported]()

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        found = dict(super().further_metrics)
        best = {"max-f": metrics.max_f(), "ods-f": metrics.ods_f()}
        return {"pixel-accuracy": found.pop("accuracy"), **found, **best}

    def arrange(self, tensor: Tensor) -> Tensor | None:
        """``(N, *S)``."""
        return without_channel(tensor, self.spatial_dims)

    def _seen(self, output: Tensor) -> Tensor:
        return super()._seen(output) if self.reported == "iou" else output

    def shown(self, target: DenseTarget) -> Array:
        """``(N, *S)`` of 1, 0 and −1."""
        return torch.where(target.valid, target.value, -1).long().cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """A colour each for 1 and 0."""
        label = np.asarray(label).reshape(label.shape[-self.spatial_dims :])
        return class_picture(middle_slice(label, self.spatial_dims).astype(int))

    def caption(self, label: Array, unit: str = "") -> str:
        """How much of the map is 1."""
        known = label >= 0
        share = float((label[known] > 0).mean()) if known.any() else 0.0
        return f"{share:.0%} set{missing_share((~known).mean(), 'unlabelled')}"
