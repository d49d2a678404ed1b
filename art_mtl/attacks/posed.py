"""One call of an attack for ART: inputs, labels, radii and mask, checked and as tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.config import ART_NUMPY_DTYPE
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_mtl.core import ThreatModel
from art_mtl.core.session import check_inputs, parse_norm, radius, rows, warn_missing_labels
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Target

Radius = float | npt.NDArray[np.floating]


@dataclass(frozen=True)
class Posed:
    """What a call is about; all tensors on the host.

    Attributes:
        inputs: Clean inputs ``(N, ...)``, float32, inside the bounds.
        targets: Canonical labels of each task.
        bounds: The estimator's clip values, broadcastable to the inputs.
        mask: 0 where nothing may change, broadcastable to the inputs; or None.
        own_labels: Labels are the model's own clean predictions.
        kept: Places of the tasks that have labels, in order: all, but for a targeted attack that leaves some alone.
    """

    inputs: Tensor
    targets: list[Target]
    bounds: tuple[Tensor, Tensor]
    mask: Tensor | None
    own_labels: bool
    kept: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs)

    def threat(self, norm: float | str, eps: Tensor, batch: slice, device: torch.device) -> ThreatModel:
        """What is allowed for one batch, on a device."""
        return ThreatModel(
            norm=parse_norm(norm),
            eps=rows(eps, batch, len(self)).to(device),
            bounds=(self.bounds[0].to(device), self.bounds[1].to(device)),
            mask=None if self.mask is None else rows(self.mask, batch, len(self)).to(device),
        )


def pose(
    estimator: PyTorchMultiTaskEstimator,
    x: npt.NDArray[Any],
    y: Any,
    mask: npt.NDArray[Any] | None,
    batch_size: int,
    targeted: bool = False,
) -> Posed:
    """The arguments of ``generate``, checked.

    Args:
        estimator: The model.
        x: ``(N, *input_shape)``, floating point, inside the clip values.
        y: Labels in any form; None: the model's own clean predictions.
        mask: 0 where nothing may change, broadcastable to ``x``; or None.
        batch_size: Samples in one forward pass, where labels are to be predicted.
        targeted: Labels are what the outputs should become; then they are needed, but of some tasks only.

    Raises:
        ValueError: Shapes, values or labels do not fit.
        TypeError: Wrong dtype.
    """
    bounds = estimator_bounds(estimator)
    inputs = pose_inputs(estimator, x, bounds)
    allowed = None if mask is None else radius("mask", _check_mask(mask), inputs)
    own_labels = y is None
    if own_labels and targeted:
        raise ValueError("Parameter `y` should hold the target labels for a targeted attack. Found None.")
    if own_labels:
        y = estimator.own_labels(inputs.numpy(), batch_size)
    # A container may be one batch of many, as a trainer cuts it out, and lack all labels of a task.
    partial = isinstance(y, MultiTaskLabels)
    names = [task.name for task in estimator.tasks]
    labels = MultiTaskLabels.of(y, names, len(inputs), partial=partial, some=targeted)
    kept = tuple(k for k, name in enumerate(names) if name in labels.names)
    tasks = [estimator.tasks[k] for k in kept]
    targets = [task.targets(labels[task.name], labels.present(task.name)) for task in tasks]
    warn_missing_labels(tasks, targets, partial, stacklevel=4)
    return Posed(inputs, targets, bounds, allowed, own_labels, kept)


def as_estimator(estimator: Any) -> PyTorchMultiTaskEstimator:
    """The estimator, a stock ART classifier being one of a single task.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(estimator, PyTorchClassifier):
        return PyTorchMultiTaskEstimator.from_classifier(estimator)
    if not isinstance(estimator, PyTorchMultiTaskEstimator):
        raise TypeError(
            "Parameter `estimator` should be a PyTorchMultiTaskEstimator or an ART PyTorchClassifier. "
            f"Found {type(estimator).__name__}."
        )
    return estimator


def estimator_bounds(estimator: PyTorchMultiTaskEstimator) -> tuple[Tensor, Tensor]:
    """The estimator's clip values as two tensors broadcastable to its inputs; infinite where it has none."""
    if estimator.clip_values is None:
        return torch.tensor(-np.inf), torch.tensor(np.inf)
    lower, upper = (torch.as_tensor(np.asarray(value), dtype=torch.float32) for value in estimator.clip_values)
    if lower.numel() == int(np.prod(estimator.input_shape)):
        lower, upper = lower.reshape(estimator.input_shape), upper.reshape(estimator.input_shape)
    return lower, upper


def pose_inputs(estimator: PyTorchMultiTaskEstimator, x: npt.NDArray[Any], bounds: tuple[Tensor, Tensor]) -> Tensor:
    """Inputs, checked, float32 on the host."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"Parameter `x` should be a NumPy array. Found {type(x).__name__}.")
    if x.shape[1:] != tuple(estimator.input_shape) or len(x) == 0:
        raise ValueError(
            f"Parameter `x` should have shape (N, {', '.join(map(str, estimator.input_shape))}) with N ≥ 1. "
            f"Found {x.shape}."
        )
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"Parameter `x` should hold floating-point numbers. Found {x.dtype}.")
    return check_inputs("x", torch.tensor(x, dtype=torch.float32), bounds, found="clip_values")


def _check_mask(mask: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    array = np.asarray(mask, dtype=ART_NUMPY_DTYPE)
    if not np.isfinite(array).all():
        raise ValueError("Parameter `mask` should be finite: 0 where nothing may change. Found NaN or infinity.")
    return array
