"""Statistics of samples that add up, metrics of their sums, what torchmetrics classes are given: pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from art_mtl.losses import predicted_class

ElementWise = Callable[[Tensor, Tensor], Tensor]
"""``(output, target) -> (B, *S)``"""


def sum_and_count(values: Tensor, valid: Tensor) -> Tensor:
    """Additive statistics of a mean: ``(B, *S)`` twice to ``(B, 2)``, float64."""
    if values.ndim == 1:
        return torch.stack([torch.where(valid, values.to(torch.float64), 0.0), valid.to(torch.float64)], 1)
    values = torch.where(valid, values, torch.zeros_like(values)).flatten(1)
    return torch.stack([values.sum(1, dtype=torch.float64), valid.flatten(1).sum(1).to(torch.float64)], 1)


def mean_statistics(output: Tensor, target: Tensor, valid: Tensor, element: ElementWise, name: str = "") -> Tensor:
    """Sums and counts of an element-wise figure; ``name`` is that of the metric, for messages."""
    return sum_and_count(_elements(output, target, valid, element, name), valid)


def _elements(output: Tensor, target: Tensor, valid: Tensor, element: ElementWise, name: str) -> Tensor:
    values: Any = element(output, target)
    if isinstance(values, Tensor) and values.shape == valid.shape:
        return values
    found = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    raise ValueError(
        f"The element of metric {name!r} should have shape {tuple(valid.shape)}, one value a sample or place with a "
        f"label. Found {found}."
    )


def mean(statistics: Tensor) -> Tensor:
    """The mean of summed sums and counts."""
    return statistics[..., 0] / statistics[..., 1].clamp(min=1)


def is_correct(output: Tensor, target: Tensor) -> Tensor:
    """Whether the greatest logit is that of the label."""
    return predicted_class(output) == target


def confusion_statistics(output: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """The confusion matrix of each sample from its logits."""
    return confusion_matrix(predicted_class(output), target, valid, num_classes)


def confusion_matrix(predicted: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """One matrix a sample, true by predicted class, flat: ``(B, C²)``, float64; nothing waits for the device.

    Args:
        predicted: ``(B, *S)``, integers.
        target: ``(B, *S)``, integers.
        valid: ``(B, *S)``, boolean: what is counted.
        num_classes: C.

    Examples:
        >>> place = torch.tensor([[0, 1, 1]])
        >>> confusion_matrix(place, torch.tensor([[0, 1, 0]]), torch.tensor([[True, True, False]]), num_classes=2)
        tensor([[1., 0., 0., 1.]], dtype=torch.float64)
    """
    batch, cells = len(target), num_classes * num_classes
    small = torch.int32 if batch * cells < 2**31 else torch.int64
    sample = torch.arange(batch, dtype=small, device=target.device).view(-1, *[1] * (target.ndim - 1))
    cell = torch.add(sample * cells + predicted.to(small), target.to(small), alpha=num_classes)
    # Not bincount, which on a GPU waits for the greatest index.
    counts = torch.zeros(batch * cells, dtype=torch.int32, device=target.device)
    counts.scatter_add_(0, cell.flatten().long(), valid.flatten().to(torch.int32))
    return counts.view(batch, cells).to(torch.float64)


def iou_of_confusion(statistics: Tensor, num_classes: int, ignored_class: int | None = None) -> Tensor:
    """mIoU of summed confusion matrices ``(..., C²)``; see :func:`art_mtl.metrics.mean_iou`."""
    confusion = statistics.view(*statistics.shape[:-1], num_classes, num_classes)
    intersection = confusion.diagonal(dim1=-2, dim2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - intersection
    occurs = union > 0
    if ignored_class is not None:
        occurs = occurs & (torch.arange(num_classes, device=union.device) != ignored_class)
        intersection = torch.where(occurs, intersection, 0.0)
    return (intersection / union.clamp(min=1)).sum(-1) / occurs.sum(-1).clamp(min=1)


def label_counts(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """True positives, false positives and false negatives of each label, ``(B, 3 L)``."""
    predicted, true = (output > 0) & valid, (target > 0.5) & valid
    counts = torch.stack([predicted & true, predicted & ~true, ~predicted & true], 1)
    return counts.flatten(1).to(torch.float64)


def f1_of_counts(statistics: Tensor) -> Tensor:
    """Macro F1 of summed counts ``(..., 3 L)``."""
    true_positive, false_positive, false_negative = statistics.view(*statistics.shape[:-1], 3, -1).unbind(-2)
    return (2 * true_positive / (2 * true_positive + false_positive + false_negative).clamp(min=1)).mean(-1)


def valid_classes(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    """Predicted and true classes of the valid places."""
    return predicted_class(output)[valid], target[valid]


def valid_labels(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    """Predicted and true labels, the latter −1 where they are not known."""
    return (output > 0).long(), torch.where(valid, target, -1).long()


def valid_values(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    """Outputs and labels of the valid places."""
    return output.movedim(1, -1)[valid], target.movedim(1, -1)[valid]


def valid_elements(
    output: Tensor, target: Tensor, valid: Tensor, element: ElementWise, name: str
) -> tuple[Tensor, ...]:
    """An element-wise figure at the valid places."""
    return (_elements(output, target, valid, element, name)[valid],)
