"""Tasks made of callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.precision import widen
from art_mtl.structure import map_tensors
from art_mtl.tasks.base import Task
from art_mtl.tasks.colours import Array
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.label_checks import output_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget

PerSample = Callable[[Any, Tensor], Tensor]
"""``(output, target) -> (B,)``"""


def custom(
    name: str,
    loss: PerSample,
    *,
    error: PerSample | None = None,
    score: PerSample | None = None,
    metric: Metric | None = None,
    decode: Callable[[Any], Any] | None = None,
    floor: float = 1e-3,
    output: OutputPicker = None,
) -> Custom:
    """A task of your own.

    Args:
        name: Name of the task.
        loss: ``(output, target) -> (B,)``, per sample, greater is worse, differentiable in ``output``. ``output`` is
            this task's part of what the model returned, a tensor or a nest of tensors; ``target`` is your label tensor.
        error: ``(output, target) -> (B,)``, differentiable, less is better. Or:
        score: ``(output, target) -> (B,)``, differentiable, more is better. Neither: the loss is the error.
        metric: What reports print; by default the mean of the error or score over the data set.
        decode: Raw output to labels, for attacks without labels; by default the output itself.
        floor: Smallest clean loss, error or score that a relative degradation is measured against.
        output: See :class:`art_mtl.tasks.Task`.

    Raises:
        ValueError: Both ``error`` and ``score`` are given, or ``floor`` ≤ 0, or ``metric`` points the other way.

    Examples:
        >>> import torch
        >>> task = custom("angle", loss=lambda output, target: 1 - torch.cos(output - target).mean(1))
        >>> task.metric.name
        'angle'
    """
    if error is not None and score is not None:
        raise ValueError(f"Task {name!r} should have an `error` or a `score`. Found both.")
    return Custom(
        name=name,
        output=output,
        loss_function=loss,
        score_function=score or error or loss,
        more_is_better=score is not None,
        own_metric=metric,
        decoder=decode,
        floor=floor,
    )


@dataclass(frozen=True, kw_only=True)
class Custom(ElementwiseTask):
    """See :func:`custom`."""

    kind: ClassVar[str] = "custom"

    loss_function: PerSample
    score_function: PerSample
    more_is_better: bool = False
    own_metric: Metric | None = None
    decoder: Callable[[Any], Any] | None = None
    floor: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.floor > 0:
            raise ValueError(f"Parameter `floor` of task {self.name!r} should be positive. Found {self.floor}.")
        if self.metric.higher_is_better != self.more_is_better:
            expected = "a higher" if self.more_is_better else "a lower"
            raise ValueError(
                f"The metric of task {self.name!r} should be one of which {expected} value is better, like its score "
                "or error."
            )

    @cached_property
    def metric(self) -> Metric:
        """The one given, or the mean score."""
        if self.own_metric is not None:
            return self.own_metric
        return metrics.mean_of(self.name, self.score_function, higher_is_better=self.more_is_better)

    @property
    def score_floor(self) -> float:
        """In the unit of the score."""
        return self.floor

    @property
    def loss_floor(self) -> float:
        """In the unit of the loss."""
        return self.floor

    @property
    def metric_is_mean_score(self) -> bool:
        """Where no other metric was given."""
        return self.metric.element is self.score_function

    def check_selected(self, output: Any) -> None:
        """Raise ValueError unless this part of the model's output holds tensors."""
        Task.check_selected(self, output)

    def check_output(self, output: Any, target: Any) -> Any:
        """See :meth:`Task.check_output`."""
        return map_tensors(output, lambda tensor: widen(self.lay_out(tensor, target)).contiguous())

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, ...)``."""
        if output.ndim == 0 or len(output) != len(target):
            raise output_error(self.name, f"({len(target)}, ...)", output)
        return output

    def decode(self, output: Any) -> Any:
        """What the user's function makes of it."""
        return super().decode(output) if self.decoder is None else self.decoder(output)

    def shown(self, target: DenseTarget) -> Array:
        """Labels as they are."""
        return target.value.cpu().numpy()

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """As it is; floats in float32."""
        return DenseTarget(y.float() if y.is_floating_point() else y, present)

    def loss_elements(self, output: Any, value: Tensor) -> Tensor:
        """What the user's function says, one number a sample."""
        return self.loss_function(output, value)

    def score_elements(self, output: Any, value: Tensor) -> Tensor:
        """What the user's function says, one number a sample."""
        return self.score_function(output, value)
