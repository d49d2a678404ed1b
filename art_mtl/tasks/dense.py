"""Maps of real values: depth, disparity, surface normals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.label_checks import check_shape, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def depth(name: str, invalid: float = 0.0, output: OutputPicker = None) -> Depth:
    """Depth in metres: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where unmeasured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.

    Args:
        name: Name of the task.
        invalid: Label of pixels that do not count.
        output: See :class:`art_mtl.tasks.Task`.
    """
    return Depth(name=name, invalid=invalid, output=output)


def disparity(name: str, invalid: float = -1.0, output: OutputPicker = None) -> Disparity:
    """Disparity: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where not measured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.

    Args:
        name: Name of the task.
        invalid: Label of pixels that do not count.
        output: See :class:`art_mtl.tasks.Task`.
    """
    return Disparity(name=name, invalid=invalid, output=output)


def surface_normals(name: str, output: OutputPicker = None) -> SurfaceNormals:
    """Surface normals: output ``(B, 3, H, W)``, labels ``(N, 3, H, W)``, all-zero where not measured.

    Loss: absolute error summed over the channels, as in the paper's protocol (not the cosine). Error and metric
    (mDist): angle in degrees.

    Args:
        name: Name of the task.
        output: See :class:`art_mtl.tasks.Task`.
    """
    return SurfaceNormals(name=name, output=output)


@dataclass(frozen=True, kw_only=True)
class ValueMap(ElementwiseTask):
    """Base of depth and disparity: one value a pixel.

    Attributes:
        invalid: Label of pixels that do not count.
    """

    unit: ClassVar[str]
    floor: ClassVar[float]

    invalid: float

    @cached_property
    def metric(self) -> Metric:
        """Mean absolute error."""
        return metrics.absolute_error("aErr", scale=100.0, unit=self.unit)

    @property
    def score_floor(self) -> float:
        """In the unit of the labels."""
        return self.floor

    @property
    def loss_floor(self) -> float:
        """In the unit of the labels."""
        return self.floor

    @property
    def metric_is_mean_score(self) -> bool:
        """True."""
        return True

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, 1, H, W)`` or ``(N, H, W)``."""
        if y.ndim == 3:
            y = y[:, None]
        if y.ndim != 4 or y.shape[1] != 1:
            raise shape_error(self.name, "(N, 1, H, W) or (N, H, W)", y)
        return _encode(y, self.invalid, present)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, 1, H, W)`` of that or ``(B, H, W)``."""
        if output.ndim == 3:
            output = output[:, None]
        check_shape(self.name, output, tuple(target.value.shape))
        return output

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Absolute error."""
        return losses.absolute_error(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Absolute error."""
        return losses.absolute_error(output, value)


@dataclass(frozen=True, kw_only=True)
class Depth(ValueMap):
    """See :func:`depth`."""

    kind: ClassVar[str] = "depth"
    unit: ClassVar[str] = "m"
    floor: ClassVar[float] = 0.01


@dataclass(frozen=True, kw_only=True)
class Disparity(ValueMap):
    """See :func:`disparity`."""

    kind: ClassVar[str] = "disparity"
    unit: ClassVar[str] = ""
    floor: ClassVar[float] = 1e-4


@dataclass(frozen=True, kw_only=True)
class SurfaceNormals(ElementwiseTask):
    """See :func:`surface_normals`."""

    kind: ClassVar[str] = "surface_normals"

    @cached_property
    def metric(self) -> Metric:
        """Mean angle."""
        return metrics.mean_angle()

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

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, 3, H, W)``."""
        if y.ndim != 4 or y.shape[1] != 3:
            raise shape_error(self.name, "(N, 3, H, W)", y)
        return _encode(y, 0.0, present)

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


def _encode(y: Tensor, invalid: float, present: Tensor) -> DenseTarget:
    y = y.float()
    valid = (y != invalid).any(1) & present.view(-1, 1, 1)
    return DenseTarget(torch.where(valid[:, None], y, torch.zeros_like(y)), valid)
