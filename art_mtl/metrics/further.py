"""Metrics that stand beside the one that Δ uses: named measures of the kinds of task.

Each is the value of summed statistics, as any :class:`~art_mtl.metrics.Metric`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_mtl.losses import angle
from art_mtl.metrics import statistics as by
from art_mtl.metrics.metric import Bound, Metric, additive_class, average_precision, mean_of
from art_mtl.metrics.statistics import ElementWise

__all__ = [
    "absolute_relative_error",
    "at_threshold",
    "class_accuracy",
    "class_f1",
    "mean_average_precision_75",
    "micro_f1",
    "precision",
    "recall",
    "root_mean_of",
    "root_mean_square",
    "share_within_angle",
    "share_within_ratio",
    "top_accuracy",
]


def class_accuracy(num_classes: int) -> Metric:
    """The share of the places of a class that are predicted so, the mean over the classes that occur in the labels, in
    [0, 1]: scikit-learn's balanced accuracy.

    Args:
        num_classes: C.
    """
    return _of_classes("class accuracy", by.class_accuracy_of_counts, num_classes, "class_accuracy")


def class_f1(num_classes: int, ignored_class: int | None = None) -> Metric:
    """F1 of each class, the mean over the classes that occur in labels or predictions, in [0, 1], as in torchmetrics
    and scikit-learn.

    Args:
        num_classes: C.
        ignored_class: One of the classes, which takes no part in the mean.
    """
    kept = {} if ignored_class is None else {"ignored_class": ignored_class}
    return _of_classes("F1 macro", Bound(by.f1_of_classes, **kept), num_classes, "class_f1", **kept)


def _of_classes(name: str, value: Callable[[Tensor], Tensor], num_classes: int, known_as: str, **kept: int) -> Metric:
    return _share(
        name,
        value,
        Bound(by.class_statistics, num_classes=num_classes),
        3 * num_classes,
        {"metric": known_as, "num_classes": num_classes, **kept},
    )


def micro_f1(num_labels: int) -> Metric:
    """F1 of all labels together, in [0, 1]; labels that are not known do not count.

    Args:
        num_labels: L.
    """
    document: dict[str, str | int] = {"metric": "micro_f1", "num_labels": num_labels}
    return _share("F1 micro", by.micro_f1_of_counts, by.label_counts, 3 * num_labels, document)


def precision() -> Metric:
    """Share of the places that are predicted to be 1 that are 1, in [0, 1]; 0 where none is predicted so."""
    return _share("precision", by.precision_of_counts, by.mask_counts, 3, {"metric": "precision"})


def recall() -> Metric:
    """Share of the places that are 1 that are predicted so, in [0, 1]; 0 where none is."""
    return _share("recall", by.recall_of_counts, by.mask_counts, 3, {"metric": "recall_of_places"})


def _share(
    name: str,
    value: Callable[[Tensor], Tensor],
    statistics: Callable[..., Tensor],
    size: int,
    document: dict[str, str | int],
) -> Metric:
    return Metric(
        name=name,
        higher_is_better=True,
        value=value,
        torchmetric=Bound(additive_class, value=value, size=size),
        statistics=statistics,
        arguments=Bound(by.as_rows, statistics=statistics),
        scale=100.0,
        size=size,
        bounds=(0.0, 1.0),
        document=document,
    )


def at_threshold(metric: Metric, cut: float) -> Metric:
    """A metric of yes-or-no labels that predicts 1 where the logit is above ``cut``, in place of 0."""
    return replace(
        metric,
        statistics=Bound(_above, function=metric.statistics, cut=cut),
        arguments=Bound(_above, function=metric.arguments, cut=cut),
    )


def _above(output: Tensor, target: Tensor, valid: Tensor, function: Callable[..., Any], cut: float) -> Any:
    return function(output - cut, target, valid)


def top_accuracy(k: int) -> Metric:
    """Share of samples whose label is among the k greatest logits, in [0, 1]."""
    return mean_of(f"top-{k} accuracy", Bound(is_in_top, k=k), higher_is_better=True, scale=100.0, bounds=(0.0, 1.0))


def is_in_top(output: Tensor, target: Tensor, k: int) -> Tensor:
    """Whether fewer than ``k`` other logits are greater than that of the label.

    Examples:
        >>> is_in_top(torch.tensor([[3.0, 1.0, 2.0]]).expand(3, 3), torch.tensor([0, 1, 2]), k=2).tolist()
        [True, False, True]
    """
    own = output.gather(1, target.unsqueeze(1))
    return (output > own).sum(1) < k


def mean_average_precision_75() -> Metric:
    """:func:`~art_mtl.metrics.mean_average_precision` at an IoU of 0.75 alone."""
    return average_precision("mAP75", "map_75")


def root_mean_of(name: str, element: ElementWise, scale: float = 1.0, unit: str = "") -> Metric:
    """The square root of the mean of an element-wise figure over all valid places; less is better."""
    statistics = Bound(by.mean_statistics, element=element, name=name)
    return Metric(
        name=name,
        higher_is_better=False,
        value=by.root_mean,
        torchmetric=Bound(additive_class, value=by.root_mean, size=2),
        statistics=statistics,
        arguments=Bound(by.as_rows, statistics=statistics),
        scale=scale,
        unit=unit,
        element=element,
        size=2,
        document={"metric": "root_mean"},
    )


def root_mean_square(scale: float = 1.0, unit: str = "") -> Metric:
    """RMSE over all valid places, in the label's unit."""
    return root_mean_of("RMSE", squared_error, scale, unit)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Squared error, the mean over a vector: ``(B, C, *S)`` to ``(B, *S)``."""
    return (output - target).square().mean(1)


def squared_angle(output: Tensor, target: Tensor) -> Tensor:
    """Squared angle, in degrees²."""
    return angle(output, target).square()


def absolute_relative_error() -> Metric:
    """abs-rel: the mean of |prediction − label| / |label| over all valid places (Eigen et al., NeurIPS 2014)."""
    return mean_of("abs-rel", relative_error, higher_is_better=False)


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Absolute error as a share of the label: ``(B, 1, *S)`` to ``(B, *S)``."""
    return ((output - target).abs() / target.abs()).mean(1)


def share_within_ratio(power: int = 1) -> Metric:
    """δ: share of the valid places whose prediction and label differ by a factor below 1.25 to the power, in [0, 1]
    (Eigen et al., NeurIPS 2014). A prediction that is not positive is off.
    """
    name = "δ < 1.25" + {1: "", 2: "²", 3: "³"}[power]
    element = Bound(is_within_ratio, threshold=1.25**power)
    return mean_of(name, element, higher_is_better=True, scale=100.0, bounds=(0.0, 1.0))


def is_within_ratio(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Whether the greater of prediction and label is below ``threshold`` times the less.

    Examples:
        >>> is_within_ratio(torch.tensor([[1.2], [0.7], [-1.0]]), torch.ones(3, 1), 1.25).tolist()
        [True, False, False]
    """
    low, high = torch.minimum(output, target), torch.maximum(output, target)
    return ((high < threshold * low) & (low > 0)).all(1)


def share_within_angle(degrees: float) -> Metric:
    """Share of the valid places whose normal is off by less than so many degrees, in [0, 1]."""
    element = Bound(is_within_angle, degrees=degrees)
    return mean_of(f"within {degrees:g}°", element, higher_is_better=True, scale=100.0, bounds=(0.0, 1.0))


def is_within_angle(output: Tensor, target: Tensor, degrees: float) -> Tensor:
    """Whether the angle is less than so many degrees."""
    return angle(output, target) < degrees
