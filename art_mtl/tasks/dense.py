"""Maps of one real value: depth and disparity."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric, further
from art_mtl.tasks.colours import Array, value_picture
from art_mtl.tasks.drawing import missing_share
from art_mtl.tasks.elementwise import ErrorTask
from art_mtl.tasks.label_checks import check_finite, check_shape, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def depth(name: str, invalid: float = 0.0, output: OutputPicker = None) -> Depth:
    """Depth in metres: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where unmeasured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.

    Args:
        name: Name of the task.
        invalid: Label of pixels that do not count, a number, NaN or infinity.
        output: See :class:`art_mtl.tasks.Task`.

    Raises:
        TypeError: ``invalid`` is no number.
    """
    return Depth(name=name, invalid=invalid, output=output)


def disparity(name: str, invalid: float = -1.0, output: OutputPicker = None) -> Disparity:
    """Disparity: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where not measured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.

    Args:
        name: Name of the task.
        invalid: Label of pixels that do not count, a number, NaN or infinity.
        output: See :class:`art_mtl.tasks.Task`.

    Raises:
        TypeError: ``invalid`` is no number.
    """
    return Disparity(name=name, invalid=invalid, output=output)


@dataclass(frozen=True, kw_only=True)
class ValueMap(ErrorTask):
    """Base of depth and disparity: one value a pixel.

    Attributes:
        invalid: Label of pixels that do not count, a number, NaN or infinity.
    """

    is_map: ClassVar[bool] = True
    unit: ClassVar[str]

    invalid: float = field(compare=False)
    _invalid: str = field(init=False, repr=False)  # NaN does not equal itself, but tasks of one call do.

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.invalid, bool) or not isinstance(self.invalid, numbers.Real):
            raise TypeError(
                f"Parameter `invalid` of task {self.name!r} should be a number, NaN or infinity. "
                f"Found {self.invalid!r}."
            )
        object.__setattr__(self, "invalid", float(self.invalid))
        object.__setattr__(self, "_invalid", repr(float(self.invalid)))

    @cached_property
    def metric(self) -> Metric:
        """Mean absolute error."""
        return metrics.absolute_error("aErr", scale=100.0, unit=self.unit)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {
            "abs-err": self.metric,
            "rmse": further.root_mean_square(self.metric.scale, self.unit),
            "abs-rel": further.absolute_relative_error(),
            "delta-1.25": further.share_within_ratio(1),
            "delta-1.25-2": further.share_within_ratio(2),
            "delta-1.25-3": further.share_within_ratio(3),
        }

    def picture(self, label: Array, limits: tuple[float, float] | None = None, image: Array | None = None) -> Array:
        """Colours of viridis."""
        label = np.asarray(label, dtype=float).reshape(label.shape[-2:])
        low, high = self.limits(label) if limits is None else limits
        return value_picture(label, low, high)

    def error_map(self, label: Array, truth: Array) -> Array:
        """Absolute differences."""
        wrong: Array = np.abs(np.asarray(label, dtype=float) - truth)
        return wrong.reshape(truth.shape[-2:])

    def limits(self, label: Array) -> tuple[float, float]:
        """The least and the greatest value that is measured and finite; 0 and 1 where none is."""
        valid = label[np.isfinite(label)]
        return (float(valid.min()), float(valid.max())) if valid.size else (0.0, 1.0)

    def caption(self, label: Array, unit: str = "") -> str:
        """From which value to which, and how much is not measured."""
        missing = float(np.isnan(label).mean())
        if missing == 1:
            return "nothing measured"
        low, high = self.limits(label)
        return f"{low:.3g} to {high:.3g}{' ' * bool(unit)}{unit}{missing_share(missing, 'not measured')}"

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, 1, H, W)`` or ``(N, H, W)``."""
        if y.ndim == 3:
            y = y[:, None]
        if y.ndim != 4 or y.shape[1] != 1:
            raise shape_error(self.name, "(N, 1, H, W) or (N, H, W)", y)
        y = y.float()
        valid = ~self._unmeasured(y)[:, 0] & present.view(-1, 1, 1)
        return DenseTarget(torch.where(valid[:, None], y, torch.zeros_like(y)), valid)

    @property
    def missing_mark(self) -> float:
        """``invalid``."""
        return self.invalid

    def check_labels(self, y: Tensor) -> None:
        """Raise unless all labels are finite, but for those that are ``invalid``."""
        check_finite(self.name, torch.where(self._unmeasured(y), torch.zeros_like(y), y))

    def _unmeasured(self, y: Tensor) -> Tensor:
        return y.isnan() if math.isnan(self.invalid) else y == self.invalid

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, 1, H, W)`` of that or ``(B, H, W)``."""
        if output.ndim == 3:
            output = output[:, None]
        check_shape(self.name, output, tuple(target.value.shape))
        return output


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
