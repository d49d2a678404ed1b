"""Metrics that a stored run names: a fixed table, and what installed packages declare."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from art_mtl import losses
from art_mtl.entry_points import declared, label, load
from art_mtl.metrics import further
from art_mtl.metrics.metric import (
    Metric,
    absolute_error,
    accuracy,
    binary_accuracy,
    binary_iou,
    f1,
    max_f,
    mean_average_precision,
    mean_average_precision_50,
    mean_iou,
    mean_of,
    multilabel_iou,
    ods_f,
    psnr,
    recall_of_objects,
)


def describe_metric(metric: Metric) -> dict[str, str | int] | None:
    """The name and sizes of a metric, as JSON values; None for one that :func:`read_metric` could not make of them.

    Examples:
        >>> from art_mtl.metrics import mean_angle
        >>> describe_metric(mean_iou(3)), describe_metric(mean_angle())
        ({'metric': 'mean_iou', 'num_classes': 3}, {'metric': 'mean'})
    """
    if metric.document is None:
        return None
    known = read_metric(metric.document)
    same = (known.value, known.torchmetric, known.entry) == (metric.value, metric.torchmetric, metric.entry)
    return dict(metric.document) if same else None


def read_metric(document: Mapping[str, Any]) -> Metric:
    """A metric from :func:`describe_metric`: its value, size and torchmetrics class.

    Names come from a fixed table and from installed packages, so that a document from a stranger makes nothing else.
    A package declares a function that makes a :class:`Metric` of sizes, which are integers, by an entry point of the
    group ``art_mtl.metrics``; its metrics have ``size``, and the name and the sizes as their ``document``::

        [project.entry-points."art_mtl.metrics"]
        top_two = "my_package.metrics:top_two"

    Raises:
        ValueError: There is no metric of that name, its sizes are not what it takes, or the package is broken.

    Examples:
        >>> import torch
        >>> read_metric({"metric": "mean_iou", "num_classes": 2}).value(torch.tensor([3.0, 1.0, 0.0, 4.0]))
        tensor(0.7750)
    """
    sizes = dict(document)
    name = sizes.pop("metric", None)
    if not isinstance(name, str) or name not in _KNOWN:
        return _installed_metric(name, sizes)
    make, needed, optional = _KNOWN[name]
    if not set(needed) <= set(sizes) <= {*needed, *optional}:
        raise ValueError(f"The stored metric {name!r} should have the sizes {[*needed, *optional]}. Found {[*sizes]}.")
    _check_sizes(sizes, needed)
    return make(**sizes)


def _check_sizes(sizes: Mapping[str, Any], positive: Collection[str] = ()) -> None:
    for key, value in sizes.items():
        least = 1 if key in positive else 0
        if type(value) is not int or not least <= value <= _LARGEST:
            raise ValueError(f"The size {key!r} of a stored metric should be in {least}..{_LARGEST}. Found {value!r}.")


def _installed_metric(name: Any, sizes: Mapping[str, Any]) -> Metric:
    """A metric of another package."""
    installed = declared(GROUP, _KNOWN)
    if not isinstance(name, str) or name not in installed:
        raise ValueError(
            f"A stored metric should be one of {[*_KNOWN, *installed]}; packages add theirs by the entry-point group "
            f"{GROUP!r}. Found {name!r}."
        )
    _check_sizes(sizes)
    entry = installed[name]
    try:
        metric = load(entry, "a function that makes a Metric")(**sizes)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{label(entry)} should make a Metric of {dict(sizes)}. Found {reason}") from error
    if not isinstance(metric, Metric) or metric.size is None:
        raise ValueError(f"{label(entry)} should make a Metric that states its `size`. Found {type(metric).__name__}.")
    return metric


def _mean_of_elements() -> Metric:
    return mean_of("", losses.absolute_error, higher_is_better=False)


def _root_mean_of_elements() -> Metric:
    return further.root_mean_of("", losses.absolute_error)


GROUP = "art_mtl.metrics"
"""Of the entry points by which other packages add metrics."""
_LARGEST = 4096
"""Most classes or labels of a stored metric."""
_KNOWN: Mapping[str, tuple[Callable[..., Metric], tuple[str, ...], tuple[str, ...]]] = {
    "mean_iou": (mean_iou, ("num_classes",), ("ignored_class",)),
    "accuracy": (accuracy, ("num_classes",), ()),
    "f1": (f1, ("num_labels",), ()),
    "multilabel_iou": (multilabel_iou, ("num_labels",), ()),
    "binary_iou": (binary_iou, (), ()),
    "binary_accuracy": (binary_accuracy, (), ()),
    "max_f": (max_f, (), ()),
    "ods_f": (ods_f, (), ()),
    "map": (mean_average_precision, (), ()),
    "map_50": (mean_average_precision_50, (), ()),
    "recall": (recall_of_objects, (), ()),
    "psnr": (psnr, (), ()),
    "absolute_error": (absolute_error, (), ()),
    "class_accuracy": (further.class_accuracy, ("num_classes",), ()),
    "class_f1": (further.class_f1, ("num_classes",), ("ignored_class",)),
    "micro_f1": (further.micro_f1, ("num_labels",), ()),
    "precision": (further.precision, (), ()),
    "recall_of_places": (further.recall, (), ()),
    "map_75": (further.mean_average_precision_75, (), ()),
    "root_mean": (_root_mean_of_elements, (), ()),
    "mean": (_mean_of_elements, (), ()),
}
"""Name to what makes the metric, the sizes that it needs, and those that it may have."""
