"""Tasks whose labels are a tensor, and whose loss is one number for each labelled place."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl.columns import as_dense, hide_places
from art_mtl.losses import absolute_error, masked_mean
from art_mtl.metrics import Metric, sum_and_count
from art_mtl.metrics.statistics import valid_values
from art_mtl.precision import widen
from art_mtl.tasks.base import Measures, Task
from art_mtl.tasks.colours import Array
from art_mtl.tasks.label_checks import as_tensor, check_finite, check_present, masked_places, masked_samples
from art_mtl.tasks.picking import describe
from art_mtl.tasks.target import DenseTarget

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True, kw_only=True)
class ElementwiseTask(Task):
    """Base of the kinds whose labels are a :class:`~art_mtl.tasks.target.DenseTarget`.

    A kind gives three functions of the output and of the labels' ``value``, each to one number for a place, ``(B,
    *S)``: :meth:`loss_elements`, :meth:`score_elements` and, if it decides, :meth:`margin_elements`.
    """

    @abstractmethod
    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Loss of each place, greater is worse."""

    @abstractmethod
    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Differentiable score of each place, in the direction of the metric."""

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Margin of each place, positive where the prediction is right; only where the task decides."""
        raise NotImplementedError(f"A task of kind {self.kind!r} has no margins.")

    @property
    def metric_is_mean_score(self) -> bool:
        """Whether the metric is the mean of :meth:`score_elements` over all valid places."""
        return False

    # --- labels and outputs ---

    def targets(self, y: Any, present: np.ndarray | Tensor | None = None) -> DenseTarget:
        """See :meth:`Task.targets`. What is NaN, and what a mask or a NumPy masked array hides, does not count.

        ``present`` may be of the shape of the labels, with or without their channels.
        """
        if present is not None:
            y, present = hide_places(self.name, y, present)
        masked = masked_places(y)
        if masked is None:
            y, present = as_dense(self.name, y, present)
        y = as_tensor(self.name, y)
        mask = check_present(self.name, y, present)
        if y.is_floating_point() and bool(y.isnan().any()):
            masked = y.isnan() if masked is None else masked.to(y.device) | y.isnan()
        if masked is not None and self.missing_mark is None:
            mask = mask & ~masked_samples(self.name, masked, mask)
        elif masked is not None and self.missing_mark is not None:
            y = self.hide_masked(y if y.is_floating_point() else y.long(), masked)
        y = torch.where(mask.view(-1, *[1] * (y.ndim - 1)), y, torch.zeros_like(y))
        self.check_labels(y)
        return self.encode(y, mask)

    @property
    def missing_mark(self) -> float | None:
        """The number that stands for one missing place in labels; None where the layout has none."""
        return None

    def hide_masked(self, y: Tensor, masked: Tensor) -> Tensor:
        """Labels in which the masked places are marked as missing."""
        mark = self.missing_mark
        return y if mark is None else torch.where(masked, mark, y)

    def check_labels(self, y: Tensor) -> None:
        """Raise unless all labels are finite; those of absent samples are 0 here."""
        check_finite(self.name, y)

    @abstractmethod
    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """Canonical labels of a tensor in the layout of the task; ``present`` is ``(N,)``, boolean."""

    def check_selected(self, output: Any) -> None:
        """Raise ValueError unless this part of the model's output is a tensor."""
        if not isinstance(output, Tensor):
            raise ValueError(f"The model's output for task {self.name!r} should be a tensor. Found {describe(output)}.")

    def check_output(self, output: Any, target: Any) -> Any:
        """See :meth:`Task.check_output`."""
        # Losses and metrics run over the channels, which is slow on a CPU where these are innermost.
        return widen(self.lay_out(output, target)).contiguous()

    @abstractmethod
    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """The raw output in the layout that losses take.

        Raises:
            ValueError: It does not fit the labels.
        """

    # --- what is attacked and reported ---

    def loss(self, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.loss`."""
        return masked_mean(self._losses(output, target), target.valid)

    def score(self, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.score`."""
        return masked_mean(self._scores(output, target), target.valid)

    def pool(self, output: Any, target: Any, finite: bool = True) -> tuple[Tensor, Tensor]:
        """See :meth:`Task.pool`."""
        elements = self._losses(output, target)
        counted = target.valid & torch.isfinite(elements) if finite else target.valid
        elements = torch.where(counted, elements, torch.zeros_like(elements))
        return elements.flatten(1).sum(1) if elements.ndim > 1 else elements, target.count

    def statistics(self, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.statistics`."""
        output = self.detach_output(output)
        if self.metric_is_mean_score:
            return sum_and_count(self._scores(output, target), target.valid)
        return self.further_statistics(self.metric, output, target)

    def further_statistics(self, metric: Metric, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.further_statistics`."""
        if metric.statistics is None:
            raise NotImplementedError(f"The metric of task {self.name!r} should have `statistics`. Found none.")
        return metric.statistics(self.detach_output(output), target.value, target.valid)

    def metric_arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """See :meth:`Task.metric_arguments`."""
        return self.further_arguments(self.metric, output, target)

    def further_arguments(self, metric: Metric, output: Any, target: Any) -> tuple[Any, ...]:
        """See :meth:`Task.further_arguments`."""
        if metric.arguments is None:
            raise NotImplementedError(f"The metric of task {self.name!r} should have `arguments`. Found none.")
        return metric.arguments(output, target.value, target.valid)

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: predictions and labels of the valid places, ``(M,)`` or ``(M, C)``;
        whole maps for the metrics of images.
        """
        if type(like).__module__.startswith("torchmetrics.image") and output.ndim > 2:
            self._check_whole(target.valid, like)
            return output[target.has_label], target.value[target.has_label]
        predicted, true = valid_values(output, target.value, target.valid)
        return (predicted[:, 0], true[:, 0]) if predicted.shape[1:] == (1,) else (predicted, true)

    def _check_whole(self, valid: Tensor, like: torchmetrics.Metric) -> None:
        """Raise ValueError where a sample has both places that count and places that do not."""
        flat = valid.flatten(1)
        if bool((flat.any(1) & ~flat.all(1)).any()):
            raise ValueError(
                f"The measure {type(like).__name__} of task {self.name!r} should be one that can leave out what does "
                f"not count. Found one that looks at whole samples, and labels with holes; a measure by name leaves "
                "them out."
            )

    def measure(self, output: Any, target: Any, margins: bool = True) -> Measures:
        """See :meth:`Task.measure`."""
        if self.decides:
            found = self.margin_elements(output, target.value) if margins else None
            return Measures(found, target.valid if margins else None, None, self.statistics(output, target))
        elements = self._scores(output, target)
        score = masked_mean(elements, target.valid)
        if self.metric_is_mean_score:
            return Measures(None, None, score, sum_and_count(elements.detach(), target.valid))
        return Measures(None, None, score, self.statistics(output, target))

    def _losses(self, output: Tensor, target: DenseTarget) -> Tensor:
        return check_elements(self.name, self.loss_elements(output, target.value), target.valid)

    def _scores(self, output: Tensor, target: DenseTarget) -> Tensor:
        return check_elements(self.name, self.score_elements(output, target.value), target.valid)


def check_elements(name: str, values: Any, valid: Tensor) -> Tensor:
    """Losses or scores, one for each place that may have a label.

    Raises:
        ValueError: They are of another shape, or no tensor.
    """
    if isinstance(values, Tensor) and values.shape == valid.shape:
        return values
    found = str(tuple(values.shape)) if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"The losses, errors and scores of task {name!r} should have shape {tuple(valid.shape)}, one value a sample "
        f"or place with a label. Found {found}."
    )


@dataclass(frozen=True, kw_only=True)
class DecisionTask(ElementwiseTask):
    """Base of the kinds whose output is logits of decisions: the loss is in nats, the score a probability."""

    @property
    def score_floor(self) -> float:
        """A probability."""
        return 0.01

    @property
    def loss_floor(self) -> float:
        """In nats."""
        return 0.01

    @property
    def decides(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True, kw_only=True)
class ErrorTask(ElementwiseTask):
    """Base of the kinds whose loss, score and metric are the mean absolute error."""

    floor: ClassVar[float]

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

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Absolute error, the mean over a vector."""
        return absolute_error(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Absolute error, the mean over a vector."""
        return absolute_error(output, value)

    def shown(self, target: DenseTarget) -> Array:
        """The labels, NaN where there is none."""
        return torch.where(target.valid[:, None], target.value, float("nan")).cpu().numpy()
