"""Data-set metrics and the degradation figures Δ_i, Δ_MTL and Δ_Wor.

A metric is two pure functions: *additive statistics* of each sample and the *value* of their sum. The attack loop,
which needs the metric of everything it has seen at every step, adds up statistics; reports use the metric's own
:mod:`torchmetrics` class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_mtl import losses
from art_mtl.losses import predicted_class

if TYPE_CHECKING:
    import torchmetrics

Statistics = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(output, target, valid) -> (B, S)``"""
ElementWise = Callable[[Tensor, Tensor], Tensor]
"""``(output, target) -> (B, *S)``"""
Value = Callable[[Tensor], Tensor]
"""``(..., S) -> (...)``"""


class Bound(partial):  # type: ignore[type-arg]
    """A function with some of its arguments, equal to any other of the same function and arguments."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash((self.func, self.args, *sorted(self.keywords)))


def _parts(bound: Bound) -> tuple[Any, ...]:
    return bound.func, bound.args, bound.keywords


@dataclass(frozen=True)
class Metric:
    """A data-set metric.

    Args:
        name: As tables print it, "mIoU" for instance.
        higher_is_better: Direction.
        value: ``(..., S) -> (...)``: the metric of summed statistics; 0 where nothing was counted.
        torchmetric: Makes the torchmetrics class of the same metric.
        statistics: ``(output, target, valid) -> (B, S)``, float64, additive over samples; None for kinds of task that
            find them themselves.
        arguments: ``(output, target, valid)`` to the arguments of that class's ``update``; None in the same case.
        scale: Tables print the value times this.
        unit: Of the value, for captions; "" where it has none.
        element: ``(output, target) -> (B, *S)`` where the metric is the mean of that over all valid places; else None.
        entry: Which entry is the metric, where the torchmetrics class computes a dict; "" elsewhere.
    """

    name: str
    higher_is_better: bool
    value: Value
    torchmetric: Callable[[], torchmetrics.Metric]
    statistics: Statistics | None = None
    arguments: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]] | None = None
    scale: float = 1.0
    unit: str = ""
    element: ElementWise | None = None
    entry: str = ""


def mean_iou(num_classes: int, ignored_class: int | None = None) -> Metric:
    """mIoU: one confusion matrix over the data set, mean over the classes that occur in labels or predictions, in [0,
    1].

    Args:
        num_classes: C.
        ignored_class: One of the classes, which takes no part in the mean, as in torchmetrics. A place that is
            predicted so is still lost for its true class.
    """
    kept = {} if ignored_class is None else {"ignored_class": ignored_class}
    shown = {} if ignored_class is None else {"ignore_index": ignored_class}
    return Metric(
        name="mIoU",
        higher_is_better=True,
        statistics=Bound(_confusion_matrix, num_classes=num_classes),
        value=Bound(_iou_of_confusion, num_classes=num_classes, **kept),
        torchmetric=Bound(_torchmetric, "classification.MulticlassJaccardIndex", num_classes=num_classes, **shown),
        arguments=_valid_classes,
        scale=100.0,
    )


def accuracy(num_classes: int) -> Metric:
    """Share of samples whose arg-max is the label, in [0, 1]."""
    return Metric(
        name="accuracy",
        higher_is_better=True,
        statistics=Bound(_mean_statistics, element=_is_correct),
        value=_mean,
        torchmetric=Bound(_torchmetric, "classification.MulticlassAccuracy", num_classes=num_classes, average="micro"),
        arguments=_valid_classes,
        scale=100.0,
    )


def f1(num_labels: int) -> Metric:
    """Macro F1 over the labels, in [0, 1]; a label that never occurs and is never predicted counts as 0.

    Labels that are not known do not count.
    """
    made = (
        Bound(_torchmetric, "classification.BinaryF1Score", ignore_index=-1)  # torchmetrics asks for 2 labels
        if num_labels == 1
        else Bound(_torchmetric, "classification.MultilabelF1Score", num_labels=num_labels, ignore_index=-1)
    )
    return Metric(
        name="F1",
        higher_is_better=True,
        statistics=_label_counts,
        value=_f1_of_counts,
        torchmetric=made,
        arguments=_valid_labels,
        scale=100.0,
    )


def absolute_error(name: str = "aErr", scale: float = 100.0, unit: str = "") -> Metric:
    """Mean absolute error over all valid places, in the label's unit."""
    return Metric(
        name=name,
        higher_is_better=False,
        statistics=Bound(_mean_statistics, element=losses.absolute_error),
        value=_mean,
        torchmetric=Bound(_torchmetric, "MeanAbsoluteError"),
        arguments=_valid_values,
        scale=scale,
        unit=unit,
        element=losses.absolute_error,
    )


def mean_angle() -> Metric:
    """mDist: mean angle between predicted and true normals over all valid pixels, in degrees."""
    return mean_of("mDist", losses.angle, higher_is_better=False, unit="degrees")


def mean_of(
    name: str,
    element: ElementWise,
    *,
    higher_is_better: bool,
    scale: float = 1.0,
    unit: str = "",
) -> Metric:
    """The mean of any element-wise figure over all valid places of the data set.

    Args:
        name: As tables print it.
        element: ``(output, target) -> (B, *S)`` with ``S`` the shape of the task's validity mask.
        higher_is_better: Direction.
        scale: Tables print the value times this.
        unit: Of the value.
    """
    return Metric(
        name=name,
        higher_is_better=higher_is_better,
        statistics=Bound(_mean_statistics, element=element, name=name),
        value=_mean,
        torchmetric=Bound(_torchmetric, "MeanMetric"),
        arguments=Bound(_valid_elements, element=element, name=name),
        scale=scale,
        unit=unit,
        element=element,
    )


def describe_metric(metric: Metric) -> dict[str, Any] | None:
    """How statistics become a metric, as JSON values; None for functions that are not this package's.

    Examples:
        >>> describe_metric(mean_angle())
        {'value': 'mean', 'sizes': {}, 'torchmetric': 'MeanMetric', 'with': {}}
    """
    value, made = metric.value, metric.torchmetric
    bare, sizes = (value.func, dict(value.keywords)) if isinstance(value, Bound) else (value, {})
    name = next((name for name, known in _VALUES.items() if known is bare), None)
    if name is None or not isinstance(made, Bound) or made.func is not _torchmetric:
        return None
    entry = {"entry": metric.entry} if metric.entry else {}
    return {"value": name, "sizes": sizes, "torchmetric": made.args[0], "with": dict(made.keywords), **entry}


def read_metric(document: dict[str, Any]) -> tuple[Value, Callable[[], torchmetrics.Metric]]:
    """The value of summed statistics, and what makes the torchmetrics class, from :func:`describe_metric`.

    Examples:
        >>> value, _ = read_metric(describe_metric(mean_iou(2)))
        >>> value(torch.tensor([3.0, 1.0, 0.0, 4.0]))
        tensor(0.7750)
    """
    value = _VALUES[document["value"]]
    sizes = document["sizes"]
    return Bound(value, **sizes) if sizes else value, Bound(_torchmetric, document["torchmetric"], **document["with"])


def delta(attacked: Tensor, clean: Tensor, higher_is_better: bool) -> Tensor:
    """Signed degradation Δ_i of one task as the paper's tables print it: −1 is ruin, 0 is unharmed.

    Guo et al. (ICASSP 2025), eq. 6, in the form that reproduces their tables: ``(m − b) / b`` for a metric of which
    more is better, ``(b − m) / m`` otherwise. (As printed, the equation branches on ``m ≥ b`` and is positive.)

    Args:
        attacked: Metric under attack, m ≥ 0, any shape.
        clean: Metric on clean inputs, b ≥ 0, same shape.
        higher_is_better: Direction.

    Returns:
        Same shape. NaN where a higher-is-better metric is 0 on clean inputs: nothing is left to degrade. Where an error
        is 0 before and after, 0. An error that an attack lowers to almost nothing counts as 10⁶, so that a task that
        was improved is never taken for a degraded one.

    Examples:
        >>> delta(torch.tensor(18.63), torch.tensor(46.56), True)
        tensor(-0.5999)
        >>> delta(torch.tensor(84.43), torch.tensor(40.57), False)
        tensor(-0.5195)
    """
    if higher_is_better:
        return torch.where(clean > 0, (attacked - clean) / clean, torch.full_like(clean, float("nan")))
    degradation = (clean - attacked) / attacked.clamp(min=clean * 1e-6)
    return torch.where(attacked == clean, torch.zeros_like(clean), degradation)


def delta_mtl(deltas: Sequence[float]) -> float:
    """Δ_MTL, the mean of the Δ_i (eq. 5)."""
    return sum(deltas) / len(deltas)


def delta_wor(deltas: Sequence[float]) -> float:
    """Δ_Wor, the least degraded task: the *greatest* of the signed Δ_i (eq. 7 has ``min``, for positive degradations).

    NaN where a Δ_i is NaN.

    Examples:
        >>> delta_wor([-0.60, -0.52, -0.325])
        -0.325
    """
    return float("nan") if any(math.isnan(delta) for delta in deltas) else max(deltas)


# --- statistics, values and torchmetrics arguments ---


def _torchmetric(path: str, **kwargs: Any) -> torchmetrics.Metric:
    import torchmetrics

    owner: Any = torchmetrics
    for part in path.split("."):
        owner = getattr(owner, part)
    metric: torchmetrics.Metric = owner(**kwargs)
    return metric


def sum_and_count(values: Tensor, valid: Tensor) -> Tensor:
    """Additive statistics of a mean: ``(B, *S)`` twice to ``(B, 2)``, float64."""
    if values.ndim == 1:
        return torch.stack([torch.where(valid, values.to(torch.float64), 0.0), valid.to(torch.float64)], 1)
    values = torch.where(valid, values, torch.zeros_like(values)).flatten(1)
    return torch.stack([values.sum(1, dtype=torch.float64), valid.flatten(1).sum(1).to(torch.float64)], 1)


def _mean_statistics(output: Tensor, target: Tensor, valid: Tensor, element: ElementWise, name: str = "") -> Tensor:
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


def _mean(statistics: Tensor) -> Tensor:
    return statistics[..., 0] / statistics[..., 1].clamp(min=1)


def _is_correct(output: Tensor, target: Tensor) -> Tensor:
    return predicted_class(output) == target


def _confusion_matrix(output: Tensor, target: Tensor, valid: Tensor, num_classes: int) -> Tensor:
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


def _iou_of_confusion(statistics: Tensor, num_classes: int, ignored_class: int | None = None) -> Tensor:
    confusion = statistics.view(*statistics.shape[:-1], num_classes, num_classes)
    intersection = confusion.diagonal(dim1=-2, dim2=-1)
    union = confusion.sum(-1) + confusion.sum(-2) - intersection
    occurs = union > 0
    if ignored_class is not None:
        occurs = occurs & (torch.arange(num_classes, device=union.device) != ignored_class)
        intersection = torch.where(occurs, intersection, 0.0)
    return (intersection / union.clamp(min=1)).sum(-1) / occurs.sum(-1).clamp(min=1)


def _label_counts(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    predicted, true = (output > 0) & valid, (target > 0.5) & valid
    counts = torch.stack([predicted & true, predicted & ~true, ~predicted & true], 1)
    return counts.flatten(1).to(torch.float64)


def _f1_of_counts(statistics: Tensor) -> Tensor:
    true_positive, false_positive, false_negative = statistics.view(*statistics.shape[:-1], 3, -1).unbind(-2)
    return (2 * true_positive / (2 * true_positive + false_positive + false_negative).clamp(min=1)).mean(-1)


def _valid_classes(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    return predicted_class(output)[valid], target[valid]


def _valid_labels(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    return (output > 0).long(), torch.where(valid, target, -1).long()


def _valid_values(output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
    return output.movedim(1, -1)[valid], target.movedim(1, -1)[valid]


def _valid_elements(
    output: Tensor, target: Tensor, valid: Tensor, element: ElementWise, name: str
) -> tuple[Tensor, ...]:
    return (_elements(output, target, valid, element, name)[valid],)


_VALUES: dict[str, Callable[..., Tensor]] = {"mean": _mean, "iou": _iou_of_confusion, "f1": _f1_of_counts}
