"""Data-set metrics and the degradation figures Δ_i, Δ_MTL and Δ_Wor.

A metric is two pure functions: *additive statistics* of each sample and the *value* of their sum. The attack loop,
which needs the metric of everything it has seen at every step, adds up statistics; reports use the metric's own
:mod:`torchmetrics` class.
"""

from __future__ import annotations

from art_mtl.metrics.degradation import delta, delta_mtl, delta_wor
from art_mtl.metrics.metric import (
    Bound,
    Metric,
    Statistics,
    Value,
    absolute_error,
    accuracy,
    binary_accuracy,
    binary_iou,
    f1,
    max_f,
    mean_angle,
    mean_average_precision,
    mean_average_precision_50,
    mean_iou,
    mean_of,
    multilabel_iou,
    ods_f,
    psnr,
    recall_of_objects,
    ssim,
)
from art_mtl.metrics.sparse import SparseTensor
from art_mtl.metrics.statistics import ElementWise, class_counts, sum_and_count
from art_mtl.metrics.stored import describe_metric, read_metric

__all__ = [
    "Bound",
    "ElementWise",
    "Metric",
    "Statistics",
    "Value",
    "absolute_error",
    "accuracy",
    "binary_accuracy",
    "binary_iou",
    "class_counts",
    "delta",
    "delta_mtl",
    "delta_wor",
    "describe_metric",
    "f1",
    "max_f",
    "mean_angle",
    "mean_average_precision",
    "mean_average_precision_50",
    "mean_iou",
    "mean_of",
    "multilabel_iou",
    "ods_f",
    "SparseTensor",
    "psnr",
    "read_metric",
    "recall_of_objects",
    "ssim",
    "sum_and_count",
]
