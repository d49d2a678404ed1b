"""Gradient aggregators: one gradient out of one for each task, per sample, by the weightings of TorchJD.

TorchJD (Quinton & Rey, "Jacobian Descent for Multi-Objective Optimization", 2024) has the multi-objective methods of
training networks: MGDA, PCGrad, CAGrad, UPGrad and others. Most find the weights of the gradients in their Gram matrix
alone. What they combine in training are gradients to the parameters; here they are those of each sample to its input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from art_mtl.core.device import full_precision
from art_mtl.core.forward import zero_nonfinite
from art_mtl.precision import widen
from art_mtl.projections import near_one

TORCHJD: Mapping[str, tuple[str, Mapping[str, float]]] = MappingProxyType(
    {
        "aligned-mtl": ("AlignedMTLWeighting", {}),
        "cagrad": ("CAGradWeighting", {"c": 0.5}),
        "dualproj": ("DualProjWeighting", {}),
        "imtl-g": ("IMTLGWeighting", {}),
        "mgda": ("MGDAWeighting", {}),
        "pcgrad": ("PCGradWeighting", {}),
        "upgrad": ("UPGradWeighting", {}),
    }
)
"""Name, and what TorchJD calls it, with the arguments that it has no default for."""


class Aggregator(Protocol):
    """Weights of the gradients of each sample's tasks."""

    def __call__(self, gram: Tensor, known: Tensor, step: int) -> Tensor:
        """``(gram (B, K, K), known (B, K), step) -> weights (B, K)``; 0 where not known.

        The Gram matrix of each sample is in float32 at least, and times a power of 4 that brings its greatest gradient
        entry near 1: weights should not depend on the scale of a matrix.
        """


@dataclass(frozen=True)
class TorchJD:
    """A weighting of TorchJD, for each sample by itself.

    Its solvers work on one matrix of K × K numbers at a time, on the host: on a GPU a step waits for the device once.
    Gram matrices are scaled to a mean diagonal of 1, since its solvers take small gradients for 0; its methods do not
    depend on their scale. What they draw at random (PCGrad's order of tasks) depends on the step alone; torch's global
    generator is left as it was.

    Args:
        name: One of :data:`TORCHJD`.

    Raises:
        ImportError: TorchJD is not installed, or a solver that this weighting needs.

    Examples:
        >>> TorchJD("mgda").name
        'mgda'
    """

    name: str

    def __call__(self, gram: Tensor, known: Tensor, step: int) -> Tensor:
        weighting = self.make()
        matrices, present = gram.detach().double().cpu(), known.cpu()
        weights = torch.zeros(present.shape, dtype=torch.float64, device=present.device)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for sample, (matrix, here) in enumerate(zip(matrices, present, strict=True)):
                tasks = here.nonzero()[:, 0]
                own = matrix[tasks][:, tasks]
                scale = own.diagonal().mean() if len(tasks) else own.new_zeros(())
                if scale == 0 or not torch.isfinite(own).all():
                    continue  # No gradient to combine; the loop looks at non-finite ones itself.
                torch.manual_seed(step)
                weights[sample, tasks] = weighting(own / scale)
        return weights.to(gram)

    def make(self) -> Callable[[Tensor], Tensor]:
        """TorchJD's weighting."""
        kind, arguments = TORCHJD[self.name]
        try:
            module: Any = importlib.import_module("torchjd.aggregation")
            made: Callable[[Tensor], Tensor] = getattr(module, kind)(**arguments)
        except ImportError as error:
            raise ImportError(
                f"Method 'jd:{self.name}' needs the package torchjd, with the solvers of its extras. Install them "
                f"with: pip install '.[jd]'. Found: {error}"
            ) from error
        return made


def combine(
    aggregator: Aggregator,
    values: Sequence[Tensor],
    like: Tensor,
    weights: Tensor,
    step: int,
    gradient: Callable[[Sequence[Tensor], Sequence[Tensor], bool], Tensor | None],
) -> tuple[Tensor, Tensor]:
    """One gradient for each sample, and the weights that made it.

    K backward passes, each from the loss of one task, so that no zeros travel through the heads of the others.

    Args:
        aggregator: Finds the weights.
        values: For each task ``(B,)`` with its graph.
        like: The inputs, ``(B, ...)``.
        weights: ``(B, K)``: the aggregator sees gradients times these; 0 is a task without a label.
        step: t.
        gradient: ``(values, weights, again)`` to the gradient in the inputs, or None; see
            :meth:`art_mtl.core.forward.ForwardBackward.gradient`.

    Returns:
        ``Σ_k c_k w_k ∇v_k``, ``(B, ...)``, and ``c_k w_k``, ``(B, K)``.
    """
    rows = []
    last = max((k for k, value in enumerate(values) if value.requires_grad), default=-1)
    for k, value in enumerate(values):
        row = gradient([value], [weights[:, k].to(value.dtype)], k < last) if value.requires_grad else None
        rows.append(torch.zeros_like(like) if row is None else zero_nonfinite(row)[0])
    jacobian = torch.stack(rows, 1)
    flat = jacobian.flatten(2)
    # In half precision a sum of squares has 3 digits, and squares of small gradients are 0 even in single.
    wide = widen(flat)
    scaled = near_one(wide)
    with full_precision(scaled.device):
        gram = scaled @ scaled.transpose(1, 2)
    found = aggregator(gram, weights != 0, step).to(wide.dtype)
    combined = (found[:, :, None] * wide).sum(1).to(flat.dtype).view_as(like)
    return combined, found.to(weights.dtype) * weights
