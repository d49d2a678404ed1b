"""Checks of the model's gradients and of its forward pass; none of them runs an attack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core import frozen
from art_mtl.core.batch import radius, rows
from art_mtl.core.optimizers.steps import direction, random_start
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.checks import NORMS
from art_mtl.evaluation.diagnosis.search import box_around
from art_mtl.evaluation.input_gradients import loss_gradients
from art_mtl.labels import MultiTaskLabels
from art_mtl.projections import project

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

_PROBES = 4
_PROBE_SIZE = 0.1
"""Share of ε of a probe: large against rounding, small against the bends of the function."""
_TF32_RESOLUTION = 2.0**-10
_SAME_DIRECTION = 1e-4


@dataclass(frozen=True)
class TaskGradient:
    """The gradient of one task's loss in the inputs.

    Attributes:
        name: Of the task.
        connected: Whether the loss depends on the inputs by anything differentiable.
        lost: Share of the samples with a label whose gradient is 0, below the normal numbers of its type, or not
            finite.
        constant: Whether all samples have one direction, up to its sign.
    """

    name: str
    connected: bool
    lost: float
    constant: bool


def task_gradients(
    estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels, batch_size: int
) -> list[TaskGradient]:
    """The gradient of each task's loss at the inputs, in evaluation mode.

    Args:
        estimator: The model.
        x: ``(N, ...)``.
        y: Labels.
        batch_size: Samples at a time.
    """
    found: list[list[Tensor]] = [[] for _ in estimator.tasks]
    connected = [False] * len(found)
    for part in _parts(len(x), batch_size):
        gradients, has_label = loss_gradients(estimator, x[part], y[part])
        for k, gradient in enumerate(gradients):
            connected[k] |= gradient is not None
            flat = torch.zeros(x[part].shape).flatten(1) if gradient is None else gradient.flatten(1).cpu()
            found[k].append(flat[has_label[:, k].cpu()])
    return [
        TaskGradient(task.name, joined, *_lost_and_constant(torch.cat(gradients)))
        for task, joined, gradients in zip(estimator.tasks, connected, found, strict=True)
    ]


def disagreement(estimator: PyTorchMultiTaskEstimator, x: Inputs, batch_size: int) -> tuple[float, float]:
    """How far forward passes in evaluation mode differ: the largest difference of an output as a share of the largest
    output of its task.

    Returns:
        Between two passes over the same batches, and between passes over other batches.
    """
    first, again = (estimator.predict(x, batch_size=batch_size) for _ in range(2))
    order = np.concatenate([np.arange(0, len(x), 2), np.arange(1, len(x), 2)])
    mixed = estimator.predict(x[order], batch_size=(min(batch_size, len(x)) + 1) // 2)
    names = first.names
    repeated = max(_difference(np.asarray(first[name]), np.asarray(again[name])) for name in names)
    return repeated, max(_difference(np.asarray(first[name])[order], np.asarray(mixed[name])) for name in names)


def resolution(estimator: PyTorchMultiTaskEstimator) -> float:
    """Relative difference that rounding may make in an output: half the digits of what the model computes in."""
    from art_mtl.precision import dtype_of

    finest = torch.finfo(dtype_of(estimator.model)).eps
    if estimator.device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        finest = max(finest, _TF32_RESOLUTION)
    return math.sqrt(finest)


def unexplained(
    estimator: PyTorchMultiTaskEstimator, x: Inputs, norm: str, eps: Any, batch_size: int, seed: int
) -> dict[str, float]:
    """Share of the change of each task's outputs that the gradient does not explain.

    At random points of the ball, a random projection of the outputs is followed in random directions to both sides:
    f = (v(x + hd) − v(x − hd))/2 beside a = h ∇v · d. The share is Σ (f − a)² / Σ f².

    Args:
        estimator: The model.
        x: Clean inputs, ``(N, ...)``.
        norm: "linf", "l2" or "l1".
        eps: Radius of the ball; an array may have one for each sample.
        batch_size: Samples at a time.
        seed: Of points, projections and directions.

    Returns:
        By task: 0 where the gradient explains everything, 1 where it is 0, NaN where outputs do not change at all.
    """
    device = estimator.device
    generator = torch.Generator(device).manual_seed(seed)
    size = radius("eps", eps, torch.as_tensor(x))
    wrong = torch.zeros(len(estimator.tasks), dtype=torch.float64)
    total = torch.zeros_like(wrong)
    with frozen(estimator.model):
        for part in _parts(len(x), batch_size):
            clean = torch.as_tensor(x[part], device=device)
            bounds = box_around(estimator, clean)
            ball = rows(size, part, len(x)).to(device)
            start = random_start(clean, ball, NORMS[norm], 1.0, generator)
            base = project(start, clean, ball, NORMS[norm], bounds)
            draws = torch.randn((_PROBES, *base.shape), generator=generator, device=device) * (bounds[0] < bounds[1])
            steps = [_PROBE_SIZE * ball * direction(draw, NORMS[norm], clean, base, bounds, step=0) for draw in draws]
            # Both sides stay inside the box, at whose edge a model may bend.
            margin = torch.stack(steps).abs().amax(0)
            probe = _Probe(estimator, base.clamp(bounds[0] + margin, bounds[1] - margin), generator)
            for step in steps:
                found, expected = probe(step)
                wrong += (found - expected).square().sum(1).cpu()
                total += found.square().sum(1).cpu()
    shares = torch.where(total > 0, wrong / total, float("nan")).tolist()
    return {task.name: share for task, share in zip(estimator.tasks, shares, strict=True)}


class _Probe:
    """Random projections of the outputs at a batch of points, and their gradients."""

    def __init__(self, estimator: PyTorchMultiTaskEstimator, base: Tensor, generator: torch.Generator) -> None:
        self.estimator = estimator
        with torch.enable_grad():
            self.base = base.detach().requires_grad_(True)
            outputs = estimator.forward_tasks(self.base)
            self.signs = [_random_signs(output, generator) for output in outputs]
            sums = [self._project(output, sign).sum() for output, sign in zip(outputs, self.signs, strict=True)]
            self.gradients = [_gradient_or_none(value, self.base) for value in sums]

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Half the change between the two sides, ``(K, B)``, and what the gradient expects it to be."""
        with torch.no_grad():
            ahead, behind = self.base + step, self.base - step
            pairs = zip(self.estimator.forward_tasks(ahead), self.estimator.forward_tasks(behind), strict=True)
            changes = [
                self._project(there.double() - here.double(), sign) / 2
                for (there, here), sign in zip(pairs, self.signs, strict=True)
            ]
            taken = ((ahead - behind) / 2).flatten(1).double()
            expected = [
                torch.zeros(len(step), dtype=torch.float64, device=step.device)
                if gradient is None
                else (gradient.flatten(1).double() * taken).sum(1)
                for gradient in self.gradients
            ]
        return torch.stack(changes), torch.stack(expected)

    @staticmethod
    def _project(output: Tensor, sign: Tensor) -> Tensor:
        # A logit of -inf is a class ruled out; it does not change.
        signed = torch.where(torch.isfinite(output), output, 0.0) * sign
        return signed.flatten(1).sum(1) if signed.ndim > 1 else signed


def _parts(size: int, batch_size: int) -> Iterator[slice]:
    for start in range(0, size, batch_size):
        yield slice(start, min(start + batch_size, size))


def _gradient_or_none(value: Tensor, leaf: Tensor) -> Tensor | None:
    if not value.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
    return gradient


def _lost_and_constant(gradients: Tensor) -> tuple[float, bool]:
    peak = gradients.abs().amax(1)
    lost = ~torch.isfinite(peak) | (peak < torch.finfo(gradients.dtype).tiny)
    if len(gradients) < 2 or bool(lost.any()):
        return float(lost.double().mean()), False
    unit = gradients / peak[:, None]
    unit = unit / torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    return 0.0, bool(((unit @ unit[0]).abs() > 1 - _SAME_DIRECTION).all())


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference as a share of the largest finite value; infinite where only one of the two is finite."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    if not np.isfinite(a[~same]).all() or not np.isfinite(b[~same]).all():
        return math.inf
    return float(np.abs(a - b)[~same].max() / np.abs(a[np.isfinite(a)]).max())


def _random_signs(output: Tensor, generator: torch.Generator) -> Tensor:
    draw = torch.rand(output.shape, generator=generator, device=output.device)
    return torch.where(draw < 0.5, -1.0, 1.0)


def describe_gradients(gradients: Sequence[TaskGradient]) -> str:
    """One phrase a task.

    Examples:
        >>> describe_gradients([TaskGradient("a", False, 1.0, False), TaskGradient("b", True, 0.25, False)])
        'no gradient of a anywhere, b on 25 % of samples'
    """
    if not any(gradient.lost for gradient in gradients):
        flat = [gradient.name for gradient in gradients if gradient.constant]
        return "finite and not 0 everywhere" + (f"; one direction for all samples: {', '.join(flat)}" if flat else "")
    phrases = [
        f"{gradient.name} on {100 * gradient.lost:.3g} % of samples"
        if gradient.connected
        else f"{gradient.name} anywhere"
        for gradient in gradients
        if gradient.lost
    ]
    return f"no gradient of {', '.join(phrases)}"
