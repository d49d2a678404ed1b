"""Classification: one class an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric, further
from art_mtl.tasks.base import Measures
from art_mtl.tasks.classes import ClassTask
from art_mtl.tasks.colours import Array
from art_mtl.tasks.label_checks import check_classes, check_shape, integers, one_hot_classes, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget


def classification(
    name: str, num_classes: int, output: OutputPicker = None, *, probabilities: bool | None = None
) -> Classification:
    """One class an image: logits ``(B, num_classes)``, labels ``(N,)`` of integers or one-hot ``(N, num_classes)``.

    One-hot rows without a 1 are samples without a label. Loss: cross-entropy. Score: probability of the true class.
    Metric: accuracy.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        output: See :class:`art_mtl.tasks.Task`.
        probabilities: Whether the model returns probabilities, after a softmax of its own. None: it shows, as these are
            at least 0 and have a sum of 1.

    Examples:
        >>> import numpy as np
        >>> classification("digit", num_classes=10).targets(np.array([3, 7])).value
        tensor([3, 7])
    """
    return Classification(name=name, num_classes=num_classes, output=output, probabilities=probabilities)


@dataclass(frozen=True, kw_only=True)
class Classification(ClassTask):
    """See :func:`classification`."""

    kind: ClassVar[str] = "classification"
    art_view: ClassVar[str | None] = "classifier"

    @cached_property
    def metric(self) -> Metric:
        """Accuracy."""
        return metrics.accuracy(self.num_classes)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`; the label is among five guesses where there are more classes."""
        top = {"top-5-accuracy": further.top_accuracy(5)} if self.num_classes > 5 else {}
        return {"accuracy": metrics.accuracy(self.num_classes), **super().further_metrics, **top}

    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """Whether each image is right, and whether it counts."""
        return metrics.sum_and_count(predicted == target.value, target.valid)

    def shown(self, target: DenseTarget) -> Array:
        """Classes ``(N,)``, −1 where there is none."""
        return torch.where(target.valid, target.value, -1).cpu().numpy()

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """The class by name or number.

        Examples:
            >>> classification("digit", 10).answer(3), classification("pet", 2).answer(1, ["cat", "dog"])
            ('3', 'dog')
        """
        number = int(np.atleast_1d(label)[0])
        if number < 0:
            return "?"
        return class_names[number] if number < len(class_names) else str(number)

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether the class is the same."""
        return bool(np.array_equal(np.atleast_1d(label), np.atleast_1d(truth)))

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N,)`` of classes, or ``(N, C)`` one-hot, probabilities or logits."""
        if y.ndim == 2 and y.shape[1] == self.num_classes:
            y, named = one_hot_classes(self.name, y)
            present = present & named
        elif y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise shape_error(self.name, f"(N,) or (N, {self.num_classes})", y)
        y = integers(self.name, y)
        classes = torch.where(present, y, 0)
        check_classes(self.name, classes, self.num_classes)
        return DenseTarget(classes, present)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, C)``."""
        check_shape(self.name, output, (len(target), self.num_classes))
        return output

    @property
    def art_arguments(self) -> dict[str, Any]:
        """The number of classes."""
        return {"nb_classes": self.num_classes}

    @property
    def num_wrong_classes(self) -> int:
        """C − 1; 0 with two classes, where there is nothing to choose."""
        return self.num_classes - 1 if self.num_classes > 2 else 0

    def targeted_margin(
        self, target: DenseTarget, clean_output: Tensor, rank: int
    ) -> tuple[Towards, DenseTarget] | None:
        """See :meth:`Task.targeted_margin`; labels become ``(B, 2)``: true class, other class.

        The margin to a *given* other class has no kink where another class overtakes, so that each target is a
        different climb; the label is lost as soon as any of them succeeds (Croce & Hein 2020, section 4.1).
        """
        if self.num_wrong_classes == 0:
            return None
        others = clean_output.scatter(1, target.value[:, None], float("-inf"))
        chosen = others.topk(min(rank, self.num_classes - 1), dim=1).indices[:, -1]
        task = Towards(
            name=self.name, num_classes=self.num_classes, output=self.output, probabilities=self.probabilities
        )
        return task, DenseTarget(torch.stack([target.value, chosen], 1), target.valid)


@dataclass(frozen=True, kw_only=True)
class Towards(Classification):
    """A classification with the margin between the label and one other class; labels are pairs ``(B, 2)`` of both.

    Score, metric and statistics are those of the label.
    """

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Cross-entropy of the two classes alone."""
        return F.softplus(-self.margin_elements(output, value))

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Probability of the true class among all."""
        return losses.true_class_probability(output, value[:, 0])

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Logit of the true class less that of the other."""
        chosen = output.gather(1, value)
        return chosen[:, 0] - chosen[:, 1]

    def measure(self, output: Any, target: Any, margins: bool = True) -> Measures:
        """See :meth:`Task.measure`."""
        found = self.margin_elements(output, target.value) if margins else None
        return Measures(found, target.valid if margins else None, None, self.statistics(output, target))

    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """Whether each image is right, and whether it counts."""
        return metrics.sum_and_count(predicted == target.value[:, 0], target.valid)

    @property
    def num_wrong_classes(self) -> int:
        """0: the other class is chosen already."""
        return 0
