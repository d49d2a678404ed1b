"""Statistics of samples that add up, metrics of their sums, what torchmetrics classes are given: pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from art_mtl.losses import mean_ssim, predicted_class

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


def root_mean(statistics: Tensor) -> Tensor:
    """The square root of the mean of summed sums and counts."""
    return mean(statistics).sqrt()


def is_correct(output: Tensor, target: Tensor) -> Tensor:
    """Whether the greatest logit is that of the label."""
    return predicted_class(output) == target


def class_statistics(output: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """:func:`class_counts` of logits."""
    return class_counts(predicted_class(output), target, valid, num_classes)


def class_counts(predicted: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
    """True positives, false positives and false negatives of each class, ``(B, 3 C)``, float64; nothing waits for the
    device.

    They are all that an IoU needs of a confusion matrix, whose C² entries would take long to resample.

    Args:
        predicted: ``(B, *S)``, integers.
        target: ``(B, *S)``, integers.
        valid: ``(B, *S)``, boolean: what is counted.
        num_classes: C.

    Examples:
        >>> place = torch.tensor([[0, 1, 1]])
        >>> class_counts(place, torch.tensor([[0, 0, 0]]), torch.tensor([[True, True, False]]), num_classes=2)
        tensor([[1., 0., 0., 1., 1., 0.]], dtype=torch.float64)
    """
    right = predicted == target
    # Not bincount, which on a GPU waits for the greatest index.
    counts = torch.zeros(len(target), 3 * num_classes, dtype=torch.int32, device=target.device)
    found = torch.where(right, target, predicted + num_classes)
    counts.scatter_add_(1, _rows(found), _rows(valid).to(torch.int32))
    missed = target + 2 * num_classes
    counts.scatter_add_(1, _rows(missed), _rows(valid & ~right).to(torch.int32))
    return counts.to(torch.float64)


def _rows(values: Tensor) -> Tensor:
    """``(B, *S)`` as ``(B, N)``; N is 1 where S is empty."""
    return values.unsqueeze(1).flatten(1)


def iou_of_classes(statistics: Tensor, ignored_class: int | None = None) -> Tensor:
    """mIoU of summed counts of classes ``(..., 3 C)``; see :func:`art_mtl.metrics.mean_iou`."""
    hits, wrong, missed = _counts(statistics)
    union = hits + wrong + missed
    return _mean_over_classes(hits / union.clamp(min=1), union > 0, ignored_class)


def class_accuracy_of_counts(statistics: Tensor) -> Tensor:
    """Mean recall of the classes that occur in the labels, of summed counts of classes ``(..., 3 C)``."""
    hits, _, missed = _counts(statistics)
    true = hits + missed
    return _mean_over_classes(hits / true.clamp(min=1), true > 0, None)


def f1_of_classes(statistics: Tensor, ignored_class: int | None = None) -> Tensor:
    """Mean F1 of the classes that occur in labels or predictions, of summed counts of classes ``(..., 3 C)``."""
    hits, wrong, missed = _counts(statistics)
    either = 2 * hits + wrong + missed
    return _mean_over_classes(2 * hits / either.clamp(min=1), either > 0, ignored_class)


def _mean_over_classes(values: Tensor, occurs: Tensor, ignored_class: int | None) -> Tensor:
    """The mean over the classes that occur, ``(..., C)`` to ``(...)``, without the one that is ignored."""
    if ignored_class is not None:
        occurs = occurs & (torch.arange(occurs.shape[-1], device=occurs.device) != ignored_class)
    return torch.where(occurs, values, 0.0).sum(-1) / occurs.sum(-1).clamp(min=1)


def label_counts(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """True positives, false positives and false negatives of each label, ``(B, L, *S)`` to ``(B, 3 L)``, float64."""
    predicted, true = (output > 0) & valid, (target > 0.5) & valid
    counts = torch.stack([predicted & true, predicted & ~true, ~predicted & true], 1)
    return counts.reshape(*counts.shape[:3], -1).sum(3, dtype=torch.float64).flatten(1)


def mask_counts(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """:func:`label_counts` of one label, ``(B, *S)`` to ``(B, 3)``."""
    return label_counts(output.unsqueeze(1), target.unsqueeze(1), valid.unsqueeze(1))


def _counts(statistics: Tensor) -> tuple[Tensor, ...]:
    """True positives, false positives and false negatives ``(..., L)`` of summed counts ``(..., 3 L)``."""
    return statistics.view(*statistics.shape[:-1], 3, -1).unbind(-2)


def micro_f1_of_counts(statistics: Tensor) -> Tensor:
    """F1 of all labels together, of summed counts ``(..., 3 L)``."""
    return f1_of_counts(torch.cat([count.sum(-1, keepdim=True) for count in _counts(statistics)], -1))


def precision_of_counts(statistics: Tensor) -> Tensor:
    """Precision of one label, of summed counts ``(..., 3)``."""
    true_positive, false_positive, _ = statistics.unbind(-1)
    return true_positive / (true_positive + false_positive).clamp(min=1)


def recall_of_counts(statistics: Tensor) -> Tensor:
    """Recall of one label, of summed counts ``(..., 3)``."""
    true_positive, _, false_negative = statistics.unbind(-1)
    return true_positive / (true_positive + false_negative).clamp(min=1)


def f1_of_counts(statistics: Tensor) -> Tensor:
    """Macro F1 of summed counts ``(..., 3 L)``."""
    true_positive, false_positive, false_negative = _counts(statistics)
    return (2 * true_positive / (2 * true_positive + false_positive + false_negative).clamp(min=1)).mean(-1)


def iou_of_counts(statistics: Tensor) -> Tensor:
    """Mean IoU over the labels, of summed counts ``(..., 3 L)``."""
    true_positive, false_positive, false_negative = _counts(statistics)
    return (true_positive / (true_positive + false_positive + false_negative).clamp(min=1)).mean(-1)


def binary_is_correct(output: Tensor, target: Tensor) -> Tensor:
    """Whether the logit is positive where the label is 1."""
    return (output > 0) == (target > 0.5)


THRESHOLDS = 99
"""How many thresholds the best F is over: 0.01, 0.02, …, 0.99."""


def probability_histograms(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """How many places have a probability between two thresholds, those that are 1 and all: ``(B, 2 · 100)``, float64.

    Args:
        output: Logits ``(B, *S)``.
        target: 1 and 0, ``(B, *S)``.
        valid: ``(B, *S)``, boolean.
    """
    probability = torch.sigmoid(output.double()).flatten(1)
    edges = torch.arange(1, THRESHOLDS + 1, device=output.device, dtype=torch.float64) / (THRESHOLDS + 1)
    place = torch.bucketize(probability, edges, right=True)
    counted = valid.flatten(1)
    columns = torch.stack([counted & (target.flatten(1) > 0.5), counted], 1).to(torch.float64)
    counts = torch.zeros(len(output), 2, THRESHOLDS + 1, dtype=torch.float64, device=output.device)
    return counts.scatter_add_(2, place[:, None].expand(-1, 2, -1), columns).flatten(1)


def best_f_of_histograms(statistics: Tensor, beta_squared: float) -> Tensor:
    """The greatest F_β over the thresholds, of summed :func:`probability_histograms`."""
    histograms = statistics.view(*statistics.shape[:-1], 2, -1)
    above = histograms.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    found, predicted = above.unbind(-2)
    positives = histograms[..., 0, :].sum(-1, keepdim=True)
    return ((1 + beta_squared) * found / (beta_squared * positives + predicted).clamp(min=1e-9)).amax(-1)


def squared_errors(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> Tensor:
    """Sums of squared errors, in units of the range, and how many there are: ``(B, C, *S)`` to ``(B, 2)``, float64."""
    return sum_and_count(((output - target) / data_range).square().mean(1), valid)


def psnr_of_errors(statistics: Tensor) -> Tensor:
    """PSNR of summed :func:`squared_errors`, in dB; 0 where nothing was counted."""
    total, count = statistics[..., 0], statistics[..., 1]
    return torch.where(count > 0, 10 * (count.clamp(min=1) / total).log10(), 0.0)


def valid_shares(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> tuple[Tensor, ...]:
    """Outputs and labels of the valid places in units of the range."""
    return valid_values(output / data_range, target / data_range, valid)


def similarities(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> Tensor:
    """SSIM of each sample, and whether it counts, ``(B, 2)``, float64."""
    counted = valid.flatten(1).any(1)
    return sum_and_count(mean_ssim(output, target, valid, data_range), counted)


def valid_similarities(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> tuple[Tensor, ...]:
    """SSIM of each sample that counts."""
    return (mean_ssim(output, target, valid, data_range)[valid.flatten(1).any(1)],)


def as_rows(output: Tensor, target: Tensor, valid: Tensor, statistics: Callable[..., Tensor]) -> tuple[Tensor, ...]:
    """The additive statistics themselves, for :class:`art_mtl.metrics.additive.AdditiveMetric`."""
    return (statistics(output, target, valid),)


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
