"""Data-set metrics: each is additive statistics of samples, the value of their sum, and a torchmetrics class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from art_mtl import losses
from art_mtl.metrics import statistics as by
from art_mtl.metrics.statistics import ElementWise

if TYPE_CHECKING:
    import torchmetrics

Statistics = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(output, target, valid) -> (B, S)``"""
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
        size: S, how many statistics there are; None where that is not known.
        bounds: Least and greatest value that it can have; None where it has no greatest.
        has_best: Whether it has a best value: 1 where more is better, 0 where less is.
        document: By what a stored run names the metric, as :func:`~art_mtl.metrics.read_metric` reads it; None for one
            that only the live object knows.
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
    size: int | None = None
    bounds: tuple[float, float] | None = None
    has_best: bool = True
    document: Mapping[str, str | int] | None = field(default=None, compare=False)


def mean_iou(num_classes: int, ignored_class: int | None = None) -> Metric:
    """mIoU over all valid places of the data set: the mean over the classes that occur in labels or predictions, in
    [0, 1].

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
        statistics=Bound(by.class_statistics, num_classes=num_classes),
        value=Bound(by.iou_of_classes, **kept),
        torchmetric=Bound(_torchmetric, "classification.MulticlassJaccardIndex", num_classes=num_classes, **shown),
        arguments=by.valid_classes,
        scale=100.0,
        size=3 * num_classes,
        bounds=(0.0, 1.0),
        document={"metric": "mean_iou", "num_classes": num_classes, **kept},
    )


def accuracy(num_classes: int) -> Metric:
    """Share of samples whose arg-max is the label, in [0, 1]."""
    return Metric(
        name="accuracy",
        higher_is_better=True,
        statistics=Bound(by.mean_statistics, element=by.is_correct),
        value=by.mean,
        torchmetric=Bound(_torchmetric, "classification.MulticlassAccuracy", num_classes=num_classes, average="micro"),
        arguments=by.valid_classes,
        scale=100.0,
        size=2,
        bounds=(0.0, 1.0),
        document={"metric": "accuracy", "num_classes": num_classes},
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
        statistics=by.label_counts,
        value=by.f1_of_counts,
        torchmetric=made,
        arguments=by.valid_labels,
        scale=100.0,
        size=3 * num_labels,
        bounds=(0.0, 1.0),
        document={"metric": "f1", "num_labels": num_labels},
    )


def multilabel_iou(num_labels: int) -> Metric:
    """Mean over the labels of the IoU of their masks, in [0, 1]; a label that never occurs and is never predicted
    counts as 0, as in torchmetrics.
    """
    made = (
        Bound(_torchmetric, "classification.BinaryJaccardIndex", ignore_index=-1)  # torchmetrics asks for 2 labels
        if num_labels == 1
        else Bound(_torchmetric, "classification.MultilabelJaccardIndex", num_labels=num_labels, ignore_index=-1)
    )
    return Metric(
        name="mIoU",
        higher_is_better=True,
        statistics=by.label_counts,
        value=by.iou_of_counts,
        torchmetric=made,
        arguments=by.valid_labels,
        scale=100.0,
        size=3 * num_labels,
        bounds=(0.0, 1.0),
        document={"metric": "multilabel_iou", "num_labels": num_labels},
    )


def binary_iou() -> Metric:
    """IoU of the places that are 1, in [0, 1]; 0 where none is and none is predicted."""
    return Metric(
        name="IoU",
        higher_is_better=True,
        statistics=by.mask_counts,
        value=by.iou_of_counts,
        torchmetric=Bound(_torchmetric, "classification.BinaryJaccardIndex", ignore_index=-1),
        arguments=by.valid_labels,
        scale=100.0,
        size=3,
        bounds=(0.0, 1.0),
        document={"metric": "binary_iou"},
    )


def binary_accuracy() -> Metric:
    """Share of places of which the sign of the logit is right, in [0, 1]."""
    return Metric(
        name="accuracy",
        higher_is_better=True,
        statistics=Bound(by.mean_statistics, element=by.binary_is_correct),
        value=by.mean,
        torchmetric=Bound(_torchmetric, "classification.BinaryAccuracy", ignore_index=-1),
        arguments=by.valid_labels,
        scale=100.0,
        size=2,
        bounds=(0.0, 1.0),
        document={"metric": "binary_accuracy"},
    )


def max_f() -> Metric:
    """maxF of saliency maps: the greatest F over 99 thresholds of the data set, with β² = 0.3 (Achanta et al., CVPR
    2009).
    """
    return _best_f("maxF", "max_f", beta_squared=0.3)


def ods_f() -> Metric:
    """odsF of edge maps: the greatest F1 over 99 thresholds of the data set (Arbeláez et al., TPAMI 2011), without
    their tolerance for the place of an edge.
    """
    return _best_f("odsF", "ods_f", beta_squared=1.0)


def _best_f(name: str, known_as: str, beta_squared: float) -> Metric:
    value, size = Bound(by.best_f_of_histograms, beta_squared=beta_squared), 2 * (by.THRESHOLDS + 1)
    return Metric(
        name=name,
        higher_is_better=True,
        statistics=by.probability_histograms,
        value=value,
        torchmetric=Bound(additive_class, value=value, size=size),
        arguments=Bound(by.as_rows, statistics=by.probability_histograms),
        scale=100.0,
        size=size,
        bounds=(0.0, 1.0),
        document={"metric": known_as},
    )


def mean_average_precision() -> Metric:
    """COCO's mAP of boxes, in [0, 1]: the mean over classes and over an IoU of 0.5, 0.55, …, 0.95.

    It has no additive statistics. The share of objects that are found stands for it in the attack loop.
    """
    return average_precision("mAP", "map")


def mean_average_precision_50() -> Metric:
    """:func:`mean_average_precision` at an IoU of 0.5 alone."""
    return average_precision("mAP50", "map_50")


def average_precision(name: str, entry: str) -> Metric:
    """COCO's average precision by the entry of torchmetrics' class."""
    return Metric(
        name=name,
        higher_is_better=True,
        value=by.mean,
        torchmetric=_mean_average_precision,
        scale=100.0,
        entry=entry,
        size=2,
        bounds=(0.0, 1.0),
        document={"metric": entry},
    )


def recall_of_objects() -> Metric:
    """Share of objects that are found, in [0, 1]."""
    return Metric(
        name="recall",
        higher_is_better=True,
        value=by.mean,
        torchmetric=Bound(additive_class, value=by.mean, size=2),
        scale=100.0,
        size=2,
        bounds=(0.0, 1.0),
        document={"metric": "recall"},
    )


def absolute_error(name: str = "aErr", scale: float = 100.0, unit: str = "") -> Metric:
    """Mean absolute error over all valid places, in the label's unit."""
    return Metric(
        name=name,
        higher_is_better=False,
        statistics=Bound(by.mean_statistics, element=losses.absolute_error),
        value=by.mean,
        torchmetric=Bound(_torchmetric, "MeanAbsoluteError"),
        arguments=by.valid_values,
        scale=scale,
        unit=unit,
        element=losses.absolute_error,
        size=2,
        document={"metric": "absolute_error"},
    )


def psnr(data_range: float = 1.0) -> Metric:
    """Peak signal-to-noise ratio over all valid places of the data set, in dB; infinite where nothing is wrong.

    Args:
        data_range: The difference of the greatest and the least possible value.
    """
    return Metric(
        name="PSNR",
        higher_is_better=True,
        has_best=False,
        statistics=Bound(by.squared_errors, data_range=data_range),
        value=by.psnr_of_errors,
        torchmetric=Bound(_torchmetric, "image.PeakSignalNoiseRatio", data_range=1.0),
        arguments=Bound(by.valid_shares, data_range=data_range),
        unit="dB",
        size=2,
        document={"metric": "psnr"},
    )


def ssim(data_range: float = 1.0) -> Metric:
    """Structural similarity, the mean over the images of the data set, in [−1, 1]; see :func:`art_mtl.losses.ssim`.

    Args:
        data_range: The difference of the greatest and the least possible value.
    """
    return Metric(
        name="SSIM",
        higher_is_better=True,
        statistics=Bound(by.similarities, data_range=data_range),
        value=by.mean,
        torchmetric=Bound(_torchmetric, "MeanMetric"),
        arguments=Bound(by.valid_similarities, data_range=data_range),
        scale=100.0,
        size=2,
        bounds=(-1.0, 1.0),
        document={"metric": "mean"},
    )


def mean_angle() -> Metric:
    """mDist: mean angle between predicted and true normals over all valid pixels, in degrees."""
    return mean_of("mDist", losses.angle, higher_is_better=False, unit="degrees", bounds=(0.0, 180.0))


def mean_of(
    name: str,
    element: ElementWise,
    *,
    higher_is_better: bool,
    scale: float = 1.0,
    unit: str = "",
    bounds: tuple[float, float] | None = None,
) -> Metric:
    """The mean of any element-wise figure over all valid places of the data set.

    Args:
        name: As tables print it.
        element: ``(output, target) -> (B, *S)`` with ``S`` the shape of the task's validity mask.
        higher_is_better: Direction.
        scale: Tables print the value times this.
        unit: Of the value.
        bounds: Least and greatest value; None where it has no greatest.
    """
    return Metric(
        name=name,
        higher_is_better=higher_is_better,
        statistics=Bound(by.mean_statistics, element=element, name=name),
        value=by.mean,
        torchmetric=Bound(_torchmetric, "MeanMetric"),
        arguments=Bound(by.valid_elements, element=element, name=name),
        scale=scale,
        unit=unit,
        element=element,
        size=2,
        bounds=bounds,
        document={"metric": "mean"},
    )


def _torchmetric(path: str, **kwargs: Any) -> torchmetrics.Metric:
    import torchmetrics

    owner: Any = torchmetrics
    for part in path.split("."):
        owner = getattr(owner, part)
    metric: torchmetrics.Metric = owner(**kwargs)
    return metric


def additive_class(value: Value, size: int) -> torchmetrics.Metric:
    """The torchmetrics class of a metric that torchmetrics lacks: the value of summed statistics."""
    from art_mtl.metrics.additive import AdditiveMetric

    return AdditiveMetric(value, size)


def _mean_average_precision() -> torchmetrics.Metric:
    from torchmetrics.detection.mean_ap import MeanAveragePrecision

    try:
        return MeanAveragePrecision()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("mAP needs pycocotools and torchvision: pip install '.[detection]'.") from error
