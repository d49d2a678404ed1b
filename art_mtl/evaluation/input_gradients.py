"""Gradients of the tasks' losses in the inputs, and the angles between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_mtl.core import frozen
from art_mtl.core.forward import ForwardBackward, MicroBatching
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.results import Rows, known
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["cosine_sums", "gradient_cosines", "loss_gradients", "mean_cosines"]


def loss_gradients(
    estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels
) -> tuple[list[Tensor | None], Tensor]:
    """The gradient of each task's loss in one batch of inputs, in evaluation mode.

    Args:
        estimator: The model.
        x: ``(B, ...)``.
        y: Labels.

    Returns:
        For each task ``(B, ...)``, or None where its loss does not depend on the inputs by anything differentiable; and
        which tasks have a label on which samples, ``(B, K)``, boolean.
    """
    found: list[Tensor | None] = []
    passes = ForwardBackward(estimator.forward_tasks, MicroBatching(), estimator.tasks)
    with frozen(estimator.model), torch.enable_grad():
        targets = estimator.targets(y, len(x))
        outputs = passes.forward(torch.tensor(x, device=estimator.device))
        for task, output, target in zip(estimator.tasks, outputs, targets, strict=True):
            loss = task.loss(task.check_output(output, target), target)
            found.append(passes.gradient([loss], [torch.ones_like(loss)], again=True) if loss.requires_grad else None)
    return found, torch.stack([target.has_label for target in targets], 1)


def gradient_cosines(gradients: Sequence[Tensor | None], has_label: Tensor) -> Tensor:
    """The cosine of the angle between each two tasks' gradients, sample by sample.

    Args:
        gradients: For each task ``(B, ...)``, or None; see :func:`loss_gradients`.
        has_label: ``(B, K)``, boolean.

    Returns:
        ``(B, K, K)``, float64, in [−1, 1]; NaN where a gradient is 0 or not finite, or a label is missing.

    Examples:
        >>> first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> cosines = gradient_cosines([first, second, -second, None], torch.ones(1, 4, dtype=torch.bool))
        >>> cosines[0, 0].round(decimals=6).tolist()
        [1.0, 0.6, -0.6, nan]
    """
    size, tasks = has_label.shape
    found = torch.full((size, tasks, tasks), torch.nan, dtype=torch.float64)
    units = [None if gradient is None else _unit(gradient.flatten(1)) for gradient in gradients]
    for i, j in combinations_with_replacement(range(tasks), 2):
        one, other = units[i], units[j]
        if one is not None and other is not None:
            cosine = (one * other).sum(1, dtype=torch.float64).clamp(-1, 1)
            cosine = torch.where(has_label[:, i] & has_label[:, j], cosine, torch.nan)
            found[:, i, j] = found[:, j, i] = cosine.cpu()
    return found


def _unit(gradient: Tensor) -> Tensor:
    """``(B, D)`` with rows of length 1; NaN where a row is 0 or not finite."""
    scaled = gradient / gradient.abs().amax(1, keepdim=True)  # squares of small gradients would be 0
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return unit


def cosine_sums(estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels, batch_size: int) -> Tensor:
    """Sums over samples of :func:`gradient_cosines`, and how many are defined: ``(2, K, K)``, float64. They add up."""
    total = torch.zeros(2, len(estimator.tasks), len(estimator.tasks), dtype=torch.float64)
    for start in range(0, len(x), batch_size):
        batch = slice(start, start + batch_size)
        cosines = gradient_cosines(*loss_gradients(estimator, x[batch], y[batch]))
        total += torch.stack([cosines.nansum(0), cosines.isfinite().sum(0)])
    return total


def mean_cosines(sums: Sequence[Tensor | None]) -> Rows | None:
    """Mean cosines of each two tasks, ``(K, K)``, from the sums of all parts of a data set.

    Args:
        sums: :func:`cosine_sums` of each part; None where they were not measured.

    Returns:
        None where no part has any.

    Examples:
        >>> mean_cosines([torch.tensor([[[2.0, -1.0], [-1.0, 0.0]], [[2.0, 2.0], [2.0, 0.0]]]), None])
        ((1.0, -0.5), (-0.5, None))
    """
    measured = [one for one in sums if one is not None]
    if not measured:
        return None
    total, count = torch.stack(measured).sum(0)
    return tuple(tuple(map(known, row)) for row in (total / count).tolist())
