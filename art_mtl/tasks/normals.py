"""Surface normals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric, further
from art_mtl.precision import widen
from art_mtl.tasks.colours import Array
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.label_checks import check_shape, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget

CODINGS = ("unit", "directions", "image", "as is")
LENGTH_SLACK = 0.05
"""By how much the length of a normal may differ from 1: labels are stored in 8 or 16 bits."""
IMAGE_SLACK = 0.25
"""The same for colours: black and white have length √3, grey 0."""


def surface_normals(name: str, output: OutputPicker = None, *, coding: str = "unit") -> SurfaceNormals:
    """Surface normals: output ``(B, 3, H, W)``, labels ``(N, 3, H, W)``, all-zero where not measured.

    Loss: absolute error summed over the channels, as in the paper's protocol (not the cosine). Error and metric
    (mDist): angle in degrees. An output of another length becomes a label by :meth:`SurfaceNormals.decode`.

    Args:
        name: Name of the task.
        output: See :class:`art_mtl.tasks.Task`.
        coding: What labels are. "unit": vectors of length 1 (to 0.05), all-zero where not measured; anything else is an
            error. "directions": vectors of any length, which are scaled to 1. "image": colours in [0, 255], 127.5 (1 +
            n); black, white and grey, which are no directions, are not measured. "as is": vectors of any length, taken
            as they are.

    Raises:
        ValueError: An unknown coding.

    Examples:
        >>> colours = torch.tensor([[[[255, 0]], [[128, 0]], [[128, 0]]]])  # to the right, and a hole
        >>> target = surface_normals("normals", coding="image").targets(colours)
        >>> target.value[0].round(decimals=2).tolist(), target.valid[0].tolist()
        ([[[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]], [[True, False]])
    """
    return SurfaceNormals(name=name, output=output, coding=coding)


@dataclass(frozen=True, kw_only=True)
class SurfaceNormals(ElementwiseTask):
    """See :func:`surface_normals`."""

    kind: ClassVar[str] = "surface_normals"
    is_map: ClassVar[bool] = True
    picture_key: ClassVar[str] = "red x, green y, blue z"

    coding: str = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coding not in CODINGS:
            raise ValueError(
                f"Parameter `coding` of task {self.name!r} should be one of {list(CODINGS)}. Found {self.coding!r}."
            )

    @cached_property
    def metric(self) -> Metric:
        """Mean angle."""
        return metrics.mean_angle()

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {
            "mean-angle": self.metric,
            "rmse": further.root_mean_of("RMSE", further.squared_angle, unit="degrees"),
            "within-11.25": further.share_within_angle(11.25),
            "within-22.5": further.share_within_angle(22.5),
            "within-30": further.share_within_angle(30.0),
        }

    @property
    def score_floor(self) -> float:
        """In degrees."""
        return 0.5

    @property
    def loss_floor(self) -> float:
        """Summed absolute error."""
        return 0.01

    @property
    def metric_is_mean_score(self) -> bool:
        """True."""
        return True

    def shown(self, target: DenseTarget) -> Array:
        """``(N, 3, H, W)``, all-zero where not measured."""
        return target.value.cpu().numpy()

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """Each component from −1 to 1 as a colour."""
        valid = (label != 0).any(0)[..., None]
        return np.where(valid, np.clip((np.moveaxis(label, 0, -1) + 1) / 2, 0, 1), 1)

    def error_map(self, label: Array, truth: Array) -> Array:
        """Angles in degrees."""
        angles = losses.angle(torch.as_tensor(label)[None].double(), torch.as_tensor(truth)[None].double())[0].numpy()
        return np.where((truth == 0).all(0), np.nan, angles)

    def caption(self, label: Array, unit: str = "") -> str:
        """How much is not measured."""
        return missing_share((label == 0).all(0).mean(), "not measured").removeprefix(", ") or "all measured"

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, 3, H, W)``."""
        if y.ndim != 4 or y.shape[1] != 3:
            raise shape_error(self.name, "(N, 3, H, W)", y)
        y = y.float() / 127.5 - 1 if self.coding == "image" else y.float()
        length, holes = _lengths(y), (y == 0).all(1)
        if self.coding == "image":
            holes = (length - 1).abs() > IMAGE_SLACK
        if self.coding == "unit":
            self._check_unit(torch.where(holes, 1.0, length))
        if self.coding in ("image", "directions"):
            y = y / length.clamp(min=torch.finfo(y.dtype).tiny)[:, None]
        valid = ~holes & present.view(-1, 1, 1)
        return DenseTarget(torch.where(valid[:, None], y, torch.zeros_like(y)), valid)

    def _check_unit(self, length: Tensor) -> None:
        off = (length - 1).abs() > LENGTH_SLACK
        if bool(off.any()):
            raise ValueError(
                f"The labels of task {self.name!r} should be unit vectors, or all-zero where there is none. Found "
                f"lengths in [{length.min():.3g}, {length.max():.3g}], {off.float().mean():.1%} of them not 1. Say how "
                "they are coded: coding='directions' scales them, coding='image' reads colours in [0, 255]; an output "
                "of a model is first decoded."
            )

    def hide_masked(self, y: Tensor, masked: Tensor) -> Tensor:
        """A normal any component of which is masked is missing."""
        return torch.where(masked.any(1, keepdim=True), 0, y)

    @property
    def missing_mark(self) -> float:
        """All components of a normal that is missing."""
        return 0.0

    def auto_lambda_labels(self, y: np.ndarray) -> np.ndarray:
        """Without normals whose components sum to 0: such as (1, −1, 0)/√2 are lost with the unmeasured ones."""
        lost = (y.sum(1, keepdims=True) == 0) & y.any(1, keepdims=True)
        return np.where(lost, 0, y) if lost.any() else y

    def decode(self, output: Tensor) -> Tensor:
        """The outputs; where their length is not 1, scaled to it."""
        output = widen(output)
        length = _lengths(output)[:, None]
        off = ((length - 1).abs() > LENGTH_SLACK) & (length > 0)
        return torch.where(off, output / length.clamp(min=torch.finfo(output.dtype).tiny), output)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, 3, H, W)``."""
        check_shape(self.name, output, tuple(target.value.shape))
        return output

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Absolute error summed over the channels."""
        return losses.l1_distance(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Angle, in degrees."""
        return losses.angle(output, value)


def _lengths(vectors: Tensor) -> Tensor:
    """``(N, 3, H, W)`` to ``(N, H, W)``."""
    return vectors.square().sum(1).sqrt()
