"""A vector of real values an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric, further
from art_mtl.tasks.elementwise import ErrorTask
from art_mtl.tasks.label_checks import check_shape, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def regression(name: str, output: OutputPicker = None) -> Regression:
    """A vector an image: output ``(B, D)``, labels ``(N, D)`` or ``(N,)``.

    Loss, error and metric (MAE): mean absolute error.

    Args:
        name: Name of the task.
        output: See :class:`art_mtl.tasks.Task`.
    """
    return Regression(name=name, output=output)


@dataclass(frozen=True, kw_only=True)
class Regression(ErrorTask):
    """See :func:`regression`."""

    kind: ClassVar[str] = "regression"
    art_view: ClassVar[str | None] = "regressor"
    floor: ClassVar[float] = 1e-3

    @cached_property
    def metric(self) -> Metric:
        """Mean absolute error."""
        return metrics.absolute_error("MAE", scale=1.0)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {"mae": self.metric, "rmse": further.root_mean_square()}

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, D)`` or ``(N,)``."""
        if y.ndim == 1:
            y = y[:, None]
        if y.ndim != 2:
            raise shape_error(self.name, "(N, D) or (N,)", y)
        return DenseTarget(y.float(), present)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, D)`` of that or ``(B,)``."""
        if output.ndim == 1:
            output = output[:, None]
        check_shape(self.name, output, tuple(target.value.shape))
        return output
