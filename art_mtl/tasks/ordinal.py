"""One of several ordered classes an image: age groups, grades, stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.colours import Array
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.label_checks import check_classes, check_count, integers, output_error, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget

if TYPE_CHECKING:
    import torchmetrics

UNKNOWN = -1
"""Label that is not known."""


def ordinal(name: str, num_classes: int, output: OutputPicker = None) -> Ordinal:
    """One of several ordered classes: logits ``(B, num_classes)``, labels ``(N,)`` of integers, −1 where not known.

    With ``(B, num_classes - 1)`` the logits are those of "greater than class k", as in CORAL (Cao et al., Pattern
    Recognition Letters 2020), and a class is predicted by how many of them are positive.

    Loss: cross-entropy; of "greater than" the binary one, summed. Error: the expected distance in classes,
    Σ p_c |c − y|. Metric (MAE): mean distance of the predicted class.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        output: See :class:`art_mtl.tasks.Task`.

    Raises:
        ValueError: ``num_classes`` is no integer of at least 2.

    Examples:
        >>> task = ordinal("age group", num_classes=3)
        >>> target = task.targets(torch.tensor([0, 2]))
        >>> task.score(torch.zeros(2, 3), target)
        tensor([1., 1.])
    """
    return Ordinal(name=name, num_classes=num_classes, output=output)


@dataclass(frozen=True, kw_only=True)
class Ordinal(ElementwiseTask):
    """See :func:`ordinal`."""

    kind: ClassVar[str] = "ordinal"

    num_classes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_classes", check_count("num_classes", self.num_classes, least=2))

    @cached_property
    def metric(self) -> Metric:
        """Mean distance of the predicted class."""
        distance = metrics.Bound(losses.class_distance, num_classes=self.num_classes)
        return metrics.mean_of("MAE", distance, higher_is_better=False)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        return {"mae": self.metric, "accuracy": self._within(0, "accuracy"), "within-1": self._within(1, "within 1")}

    def _within(self, distance: int, name: str) -> Metric:
        near = metrics.Bound(losses.is_class_near, num_classes=self.num_classes, most=distance)
        return metrics.mean_of(name, near, higher_is_better=True, scale=100.0, bounds=(0.0, 1.0))

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: predicted and true classes ``(M,)``."""
        return self.decode(output)[target.valid], target.value[target.valid]

    @property
    def score_floor(self) -> float:
        """In classes."""
        return 0.01

    @property
    def loss_floor(self) -> float:
        """In nats."""
        return 0.01

    def decode(self, output: Tensor) -> Tensor:
        """The predicted class."""
        return losses.ordinal_class(output, self.num_classes)

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N,)`` or ``(N, 1)`` of classes, or logits ``(N, C)`` or ``(N, C - 1)``, which are decoded."""
        if y.ndim == 2 and y.shape[1] == 1 and (self.num_classes > 2 or not y.is_floating_point()):
            y = y[:, 0]
        elif y.ndim == 2 and y.shape[1] in (self.num_classes, self.num_classes - 1):
            y = self.decode(y)
        if y.ndim != 1:
            raise shape_error(self.name, f"(N,), or (N, {self.num_classes}) for raw outputs", y)
        y = integers(self.name, y)
        valid = present & (y != UNKNOWN)
        classes = torch.where(valid, y, 0)
        check_classes(self.name, classes, self.num_classes, f", or {UNKNOWN} (not known)")
        return DenseTarget(classes, valid)

    @property
    def missing_mark(self) -> float:
        """−1."""
        return UNKNOWN

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C)`` or ``(B, C - 1)``."""
        if output.ndim != 2 or len(output) != len(target) or self.num_classes - output.shape[1] not in (0, 1):
            raise output_error(self.name, f"({len(target)}, {self.num_classes}) or one logit fewer", output)
        return output

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Cross-entropy, in nats."""
        if output.shape[1] == self.num_classes:
            return losses.cross_entropy(output, value)
        above = torch.arange(self.num_classes - 1, device=value.device) < value[:, None]
        return F.binary_cross_entropy_with_logits(output, above.to(output.dtype), reduction="none").sum(1)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Expected distance, in classes."""
        if output.shape[1] == self.num_classes:
            distance = (torch.arange(self.num_classes, device=value.device) - value[:, None]).abs()
            return (output.softmax(1) * distance).sum(1)
        above = torch.arange(self.num_classes - 1, device=value.device) < value[:, None]
        return (output.sigmoid() - above.to(output.dtype)).abs().sum(1)

    def shown(self, target: DenseTarget) -> Array:
        """Classes ``(N,)``, −1 where there is none."""
        return torch.where(target.valid, target.value, -1).cpu().numpy()

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """The class by name or number."""
        number = int(np.atleast_1d(label)[0])
        if number < 0:
            return "?"
        return class_names[number] if number < len(class_names) else str(number)

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether the class is the same."""
        return bool(np.array_equal(np.atleast_1d(label), np.atleast_1d(truth)))
