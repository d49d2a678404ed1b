"""Steps: from a gradient to a direction of unit length, momentum, random starts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from art_mtl.precision import widen
from art_mtl.projections import near_one, sample_norm

FIRST_L1_SHARE = 0.2
L1_SPARSER = 1.5
ROUNDING = 1e-6
"""Share of ε by which a projection may miss a bound or 0. A coordinate that near to its bound would waste its part of a
sparse step, and one that near to 0 is not part of the perturbation: without this margin, a last digit decides.
"""


def accumulate(momentum: Tensor | None, gradient: Tensor, decay: float) -> Tensor:
    """Momentum of gradients of unit L1 norm (Dong et al. 2018): ``G ← decay · G + g / ‖g‖₁``, in float32 at least; the
    gradient itself where decay is 0.
    """
    if decay == 0:
        return gradient
    gradient = _unit(gradient, 1)
    return gradient if momentum is None else decay * momentum + gradient


def direction(
    gradient: Tensor,
    norm: float,
    x: Tensor,
    x_adv: Tensor,
    bounds: tuple[Tensor, Tensor],
    step: int,
    l1_step: str = "adaptive",
    slack: Tensor | float = 0.0,
) -> Tensor:
    """Steepest ascent direction of unit Lp norm, per sample; 0 where the gradient is 0.

    Args:
        gradient: ``(B, ...)``.
        norm: ``math.inf``, 2 or 1.
        x: Clean inputs, same shape; the adaptive L1 step looks at how sparse the perturbation is.
        x_adv: The iterate, same shape.
        bounds: Lower and upper bound of the inputs, broadcastable; the adaptive L1 step looks at which can still move.
        step: t.
        l1_step: "adaptive": the k greatest coordinates that can still move, k shrinking with the support of ``delta``
            (Croce & Hein 2021, section 3.3). "one-pixel": the greatest one, as in ART.
        slack: What :data:`ROUNDING` leaves undecided, broadcastable to the inputs.
    """
    if norm == math.inf:
        return gradient.sign()
    if norm == 2:
        return _unit(gradient, 2)
    if l1_step == "one-pixel":
        return _top(gradient, torch.ones(len(gradient), 1, dtype=torch.long, device=gradient.device))
    size = gradient[0].numel()
    if step == 0:
        count = torch.full((len(gradient), 1), max(1, int(FIRST_L1_SHARE * size)), device=gradient.device)
    else:
        count = (support(x, x_adv, slack)[:, None] / L1_SPARSER).long().clamp(min=1)
    return sparse_direction(gradient, x_adv, bounds, count, slack)


def support(x: Tensor, x_adv: Tensor, slack: Tensor | float = 0.0) -> Tensor:
    """How many coordinates of each sample are changed, ``(B,)``.

    Args:
        x: Clean inputs, ``(B, ...)``.
        x_adv: The iterate, same shape.
        slack: A coordinate that is changed by no more than that does not count; broadcastable to the inputs.
    """
    return ((x_adv - x).abs() > slack).flatten(1).sum(1)


def sparse_direction(
    gradient: Tensor, x_adv: Tensor, bounds: tuple[Tensor, Tensor], count: Tensor, slack: Tensor | float
) -> Tensor:
    """Signs of the greatest coordinates that can still move, of unit L1 norm together.

    Args:
        gradient: ``(B, ...)``.
        x_adv: The iterate, same shape.
        bounds: Lower and upper bound of the inputs, broadcastable.
        count: How many coordinates, ``(B, 1)``.
        slack: A coordinate as near to its bound as that cannot move; broadcastable to the inputs.
    """
    lower, upper = bounds[0] + slack, bounds[1] - slack
    movable = torch.where(((gradient > 0) & (x_adv < upper)) | ((gradient < 0) & (x_adv > lower)), gradient, 0.0)
    return _top(movable, count)


def random_start(x: Tensor, eps: Tensor, norm: float, share: float, generator: torch.Generator | None) -> Tensor:
    """A random perturbation: uniform in the Lp ball of radius ``share · eps``.

    Args:
        x: ``(B, ...)``, for shape, dtype and device only.
        eps: Radius, broadcastable to ``x``.
        norm: ``math.inf``, 2 or 1.
        share: Share of the radius, in (0, 1].
        generator: Source of randomness, on the device of ``x``; None for torch's global one.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, dtype=x.dtype, device=x.device, generator=generator)

    if norm == math.inf:
        return (2 * uniform(*x.shape) - 1) * eps * share
    if norm == 2:
        draw = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    else:
        draw = -torch.log1p(-uniform(*x.shape)) * torch.where(uniform(*x.shape) < 0.5, -1.0, 1.0).to(x.dtype)
    radius = uniform(len(x), *[1] * (x.ndim - 1)).pow(1 / x[0].numel())
    return _unit(draw, norm) * radius * eps * share


def _unit(v: Tensor, norm: float) -> Tensor:
    """Each sample divided by its Lp norm, in float32 at least; 0 stays 0."""
    v = near_one(widen(v))  # Its norm can underflow, or its inverse overflow.
    length = sample_norm(v, norm)
    return v / torch.where(length == 0, torch.ones_like(length), length)


def _top(gradient: Tensor, count: Tensor) -> Tensor:
    """Signs of the ``count`` greatest coordinates of each sample, of unit L1 norm together."""
    size = gradient.flatten(1).abs()
    ordered = size.sort(1, descending=True)
    rank = torch.empty_like(ordered.indices).scatter_(
        1, ordered.indices, torch.arange(size.shape[1], device=size.device).expand_as(ordered.indices)
    )
    chosen = (gradient.flatten(1).sign() * (rank < count)).view_as(gradient)
    return _unit(chosen, 1)
