"""Dense maps of any number of channels: restoration, albedo, flow, reconstruction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric, further
from art_mtl.tasks.base import Measures
from art_mtl.tasks.colours import Array, value_picture
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.elementwise import ErrorTask
from art_mtl.tasks.label_checks import check_choice, check_count, check_positive, output_error, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.spatial import AXES, check_spatial_dims, middle_slice
from art_mtl.tasks.target import DenseTarget

METRICS = ("mae", "psnr", "ssim")


def image(
    name: str,
    channels: int,
    output: OutputPicker = None,
    *,
    metric: str = "mae",
    data_range: float = 1.0,
    spatial_dims: int = 2,
) -> Image:
    """A map of real values: output ``(B, channels, H, W)``, labels of the same shape, NaN where a pixel does not count.

    A pixel with NaN in any channel does not count. Loss: mean absolute error. Score and metric: that error, or the
    signal-to-noise ratio or the structural similarity of each image.

    Args:
        name: Name of the task.
        channels: C; with 1, ``(N, H, W)`` is taken too.
        output: See :class:`art_mtl.tasks.Task`.
        metric: "mae". "psnr": 10 log₁₀(range² / mean squared error), over all pixels of the data set, in dB. "ssim":
            the mean over images (Wang et al., TIP 2004), with a Gaussian window of 11 pixels; a pixel that does not
            count is taken for right.
        data_range: The difference of the greatest and the least possible value, for PSNR and SSIM.
        spatial_dims: 2 for images; 3 for volumes, ``(B, channels, D, H, W)``.

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> task = image("albedo", channels=3, metric="psnr")
        >>> target = task.targets(torch.zeros(1, 3, 2, 2))
        >>> task.score(torch.full((1, 3, 2, 2), 0.1), target)
        tensor([20.])
    """
    return Image(
        name=name,
        channels=channels,
        output=output,
        reported=metric,
        data_range=data_range,
        spatial_dims=spatial_dims,
    )


@dataclass(frozen=True, kw_only=True)
class Image(ErrorTask):
    """See :func:`image`."""

    kind: ClassVar[str] = "image"
    is_map: ClassVar[bool] = True
    floor: ClassVar[float] = 1e-3

    channels: int
    reported: str = "mae"
    data_range: float = 1.0
    spatial_dims: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "channels", check_count("channels", self.channels, least=1))
        check_choice(self.name, "metric", self.reported, METRICS)
        check_spatial_dims(self.name, self.spatial_dims)
        object.__setattr__(self, "data_range", check_positive(self.name, "data_range", self.data_range))

    @property
    def score_floor(self) -> float:
        """In the unit of the labels, in dB, or a similarity."""
        return {"mae": self.floor, "psnr": 0.1, "ssim": 0.01}[self.reported]

    @cached_property
    def metric(self) -> Metric:
        """Mean absolute error, PSNR or SSIM."""
        if self.reported == "mae":
            return metrics.absolute_error("MAE", scale=1.0)
        return metrics.psnr(self.data_range) if self.reported == "psnr" else metrics.ssim(self.data_range)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {
            "mae": metrics.absolute_error("MAE", scale=1.0),
            "rmse": further.root_mean_square(),
            "psnr": metrics.psnr(self.data_range),
            "ssim": metrics.ssim(self.data_range),
        }

    @property
    def metric_is_mean_score(self) -> bool:
        """Of the absolute error."""
        return self.reported == "mae"

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, C, *S)``."""
        if self.channels == 1 and y.ndim == self.spatial_dims + 1:
            y = y[:, None]
        if y.ndim != self.spatial_dims + 2 or y.shape[1] != self.channels:
            raise shape_error(self.name, f"(N, {self.channels}, {AXES[self.spatial_dims]})", y)
        y = y.float()
        valid = ~y.isnan().any(1) & present.view(-1, *[1] * self.spatial_dims)
        return DenseTarget(torch.where(valid[:, None], y, torch.zeros_like(y)), valid)

    @property
    def missing_mark(self) -> float:
        """NaN."""
        return float("nan")

    def check_labels(self, y: Tensor) -> None:
        """Raise ValueError unless all labels are finite, but for those that are NaN."""
        super().check_labels(y.nan_to_num(nan=0.0, posinf=float("inf"), neginf=float("-inf")))

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C, *S)``, which where a pixel does not count is that of the labels."""
        if self.channels == 1 and output.ndim == self.spatial_dims + 1:
            output = output[:, None]
        if output.shape != target.value.shape:
            raise output_error(self.name, str(tuple(target.value.shape)), output)
        return torch.where(target.valid[:, None], output, target.value.to(output.dtype))

    def score(self, output: Any, target: DenseTarget) -> Tensor:
        """See :func:`image`."""
        if self.reported == "mae":
            return super().score(output, target)
        value = (losses.psnr if self.reported == "psnr" else losses.mean_ssim)(
            output, target.value, target.valid, self.data_range
        )
        return torch.where(target.has_label, value, torch.zeros_like(value))

    def measure(self, output: Any, target: DenseTarget, margins: bool = True) -> Measures:
        """See :meth:`Task.measure`."""
        if self.reported == "mae":
            return super().measure(output, target, margins)
        return Measures(None, None, self.score(output, target), self.statistics(output, target))

    def shown(self, target: DenseTarget) -> Array:
        """``(N, C, *S)``, NaN where a pixel does not count."""
        return torch.where(target.valid[:, None], target.value, float("nan")).cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """Three channels as red, green and blue from 0 to ``data_range``; others by their length, in viridis."""
        ends = self.limits(label) if limits is None else limits
        label = middle_slice(self._channels(label), self.spatial_dims)
        if ends is not None:
            return value_picture(_length(label), *ends)
        colours = np.clip(np.moveaxis(label, 0, -1) / self.data_range, 0, 1)
        return np.where(np.isnan(colours).any(-1, keepdims=True), 1.0, colours)

    def limits(self, label: Array) -> tuple[float, float] | None:
        """The least and the greatest value that counts, of a vector its length; None for colours."""
        if self.channels == 3:
            return None
        values = _length(self._channels(label))
        values = values[~np.isnan(values)]
        return (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)

    def caption(self, label: Array, unit: str = "") -> str:
        """How much does not count."""
        return missing_share(np.isnan(label).mean(), "not measured").removeprefix(", ") or "all measured"

    def _channels(self, label: Array) -> Array:
        """``(C, *S)`` of a label that may lack the axis of one channel."""
        label = np.asarray(label, dtype=float)
        return label[None] if label.ndim == self.spatial_dims else label


def _length(label: Array) -> Array:
    """``(C, *S)`` to ``(*S)``: the value of one channel, the Euclidean length of several."""
    values: Array = label[0] if len(label) == 1 else np.sqrt(np.square(label).sum(0))
    return values
