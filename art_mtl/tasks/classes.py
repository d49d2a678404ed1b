"""What segmentation and classification share: logits of classes, one of which is right at each place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric, further
from art_mtl.tasks.base import Measures
from art_mtl.tasks.drawing import Array
from art_mtl.tasks.label_checks import check_count
from art_mtl.tasks.logits import LogitTask
from art_mtl.tasks.target import DenseTarget

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True, kw_only=True)
class ClassTask(LogitTask):
    """Base of the kinds whose output is logits ``(B, num_classes, *S)`` and whose labels are classes ``(B, *S)``.

    Attributes:
        num_classes: C, at least 2.
    """

    num_classes: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_classes", check_count("num_classes", self.num_classes, least=2))

    @property
    def has_classes(self) -> bool:
        """True, unless the ignored class leaves but one."""
        return self.num_classes > (1 if self.ignored_class is None else 2)

    def classes_in(self, label: Any) -> Array:
        """See :meth:`Drawn.classes_in`; −1 where a place has none."""
        return np.unique(label)

    def are_probabilities(self, output: Tensor) -> Tensor:
        """See :meth:`LogitTask.are_probabilities`: at least 0, and 1 in all at every place."""
        return losses.is_distribution(output)

    def may_be_probabilities(self, output: Tensor) -> Tensor:
        """None: the sum over the classes tells."""
        return torch.zeros(len(output), dtype=torch.bool, device=output.device)

    def log_space(self, output: Tensor) -> Tensor:
        """See :meth:`LogitTask.log_space`."""
        return losses.log_probabilities(output)

    def undoes(self, dim: int | None) -> bool:
        """See :meth:`Task.undoes`: a sigmoid, or a softmax over the classes."""
        return self.probabilities is None and dim in (None, 1)

    def decode(self, output: Tensor) -> Tensor:
        """The class of the greatest logit."""
        return (output.byte() if output.dtype == torch.bool else output).argmax(1)

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Cross-entropy, in nats."""
        return losses.cross_entropy(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Probability of the true class."""
        return losses.true_class_probability(output, value)

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Logit of the true class less the greatest other one."""
        return losses.margin(output, value)

    def measure(self, output: Any, target: Any, margins: bool = True) -> Measures:
        """See :meth:`Task.measure`."""
        if not margins:
            return Measures(None, None, None, self.statistics(output, target))
        found, predicted = losses.margin_and_class(output, target.value)
        return Measures(found, target.valid, None, self.count_predictions(predicted, target))

    def statistics(self, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.statistics`."""
        return self.count_predictions(losses.predicted_class(output), target)

    @abstractmethod
    def count_predictions(self, predicted: Tensor, target: DenseTarget) -> Tensor:
        """Statistics of the metric from predicted classes ``(B, *S)``."""

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: probabilities ``(M, C)`` and classes ``(M,)``."""
        return output.softmax(1).movedim(1, -1)[target.valid], target.value[target.valid]

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        count = self.num_classes
        return {
            "class-accuracy": further.class_accuracy(count),
            "f1-macro": further.class_f1(count, self.ignored_class),
            "f1-micro": replace(metrics.accuracy(count), name="F1 micro"),
        }

    def wrong_targets(
        self, output: Any, target: DenseTarget, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """See :meth:`Task.wrong_targets`."""
        if not self.has_classes:
            return None
        scores = output.scatter(1, target.value.unsqueeze(1), float("inf"))
        if self.ignored_class is None:
            classes = choose(scores)
        else:
            others = torch.tensor([c for c in range(self.num_classes) if c != self.ignored_class], device=output.device)
            classes = others[choose(scores.index_select(1, others))]
        mark = 0 if self.missing_mark is None else int(self.missing_mark)
        return torch.where(target.valid, classes, mark), target.has_label

    @property
    def ignored_class(self) -> int | None:
        """The class that does not count; None where all do."""
        return None
