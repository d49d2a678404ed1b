"""Element-wise losses, differentiable scores and errors, margins: pure tensor functions.

Every function takes the raw output of one task, ``(B, C, *S)`` or ``(B, *S)``, and its canonical label, and returns
``(B, *S)``: one number for each place that has a label of its own. ``S`` is ``(H, W)`` for dense tasks, ``()`` for one
label an image and ``(L,)`` for multi-label tasks. :func:`masked_mean` turns that into one number an image.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid places of each sample.

    Args:
        values: ``(B, *S)``, finite wherever ``valid`` is true.
        valid: ``(B, *S)``, boolean.

    Returns:
        ``(B,)``; exactly 0, with gradient 0, where a sample has no valid place.

    Examples:
        >>> masked_mean(torch.tensor([[1.0, 3.0], [5.0, 7.0]]), torch.tensor([[True, True], [False, False]]))
        tensor([2., 0.])
    """
    if values.ndim == 1:
        return torch.where(valid, values, torch.zeros_like(values))
    values = torch.where(valid, values, torch.zeros_like(values)).flatten(1)
    return values.sum(1) / valid.flatten(1).sum(1).clamp(min=1)


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of logits ``(B, C, *S)`` against classes ``(B, *S)``, in nats, in ``[0, ∞)``."""
    return F.cross_entropy(output, target, reduction="none")


def true_class_probability(output: Tensor, target: Tensor) -> Tensor:
    """Softmax probability of the true class, ``(B, C, *S)`` and ``(B, *S)`` to ``(B, *S)``, in ``[0, 1]``."""
    return torch.exp(-cross_entropy(output, target))


def margin(output: Tensor, target: Tensor) -> Tensor:
    """Logit of the true class less the greatest other logit; negative where the prediction is wrong.

    Examples:
        >>> margin(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
        tensor([2.])
    """
    return margin_and_class(output, target)[0]


def margin_and_class(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`margin`, and :func:`predicted_class` as int32, both from one pass over the logits.

    Args:
        output: Logits ``(B, C, *S)``, C ≥ 2.
        target: Classes ``(B, *S)``, int64.

    Examples:
        >>> margin_and_class(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([2]))
        (tensor([-2.]), tensor([1], dtype=torch.int32))
    """
    logits = output.detach().contiguous()
    true = _flat_places(logits, target)
    others = logits.clone()
    # A scatter of one number, and one along the channels, take three times as long on a CPU.
    others.view(-1).scatter_(0, true.flatten(), others.new_full((true.numel(),), float("-inf")))
    greatest, first = _greatest(others, others)
    true_logit = logits.view(-1).index_select(0, true.flatten()).view(target.shape)
    own = target.to(first.dtype)
    flag = torch.empty_like(own)
    first += torch.eq(first, own, out=flag)  # Where every other class is ruled out, any of them.
    away = first.sub_(own)
    values = _Difference.apply(output, true, away, true_logit - greatest)
    # The class of the greater logit, of the first class at a tie, 0 where one is NaN: by arithmetic, since `where` and
    # comparisons to booleans take several times as long on a CPU.
    winner = own.addcmul_(torch.gt(greatest, true_logit, out=flag), away)
    winner.addcmul_(torch.eq(greatest, true_logit, out=flag), away.clamp(max=0))
    winner.mul_(torch.eq(greatest, greatest, out=flag)).mul_(torch.eq(true_logit, true_logit, out=flag))
    return values, winner.int()


def _flat_places(output: Tensor, target: Tensor) -> Tensor:
    """Where the entries of the true classes lie in the flat output, ``(B, *S)``."""
    start = torch.arange(len(target), device=target.device).view(-1, *[1] * (target.ndim - 1)) * output[0].numel()
    within = torch.arange(target[0].numel(), device=target.device).view(target.shape[1:])
    return torch.add(start + within, target, alpha=target[0].numel())


class _Difference(torch.autograd.Function):
    """Entries of one tensor at two places each, subtracted; the values are known already.

    The second place is as many channels behind the first as ``away`` says.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, place: Tensor, away: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(place, away)
        ctx.shape = output.shape
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        place, away = ctx.saved_tensors
        other = torch.add(place, away.long(), alpha=away[0].numel())
        slope = gradients[0].flatten()
        whole = slope.new_zeros(ctx.shape)
        whole.view(-1).scatter_(0, place.flatten(), slope).scatter_(0, other.flatten(), -slope)
        return whole, None, None, None


def predicted_class(output: Tensor) -> Tensor:
    """The class of the greatest logit, the first of equals: ``(B, C, *S)`` to ``(B, *S)``; 0 where a logit is NaN.

    Examples:
        >>> predicted_class(torch.tensor([[1.0, 4.0, 4.0]]))
        tensor([1])
    """
    logits = output.detach().contiguous()
    return _greatest(logits, torch.empty_like(logits))[1].long()


def _greatest(output: Tensor, spare: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest entry over the channels, NaN where one is NaN, and the first place of it, a whole number of the same
    dtype: both ``(B, *S)``. ``spare``, of the shape of ``output``, is written over.

    By vectorised maxima alone: on a CPU torch's ``max`` with its index, and ``argmax``, take many times as long on
    dense maps, and so does a comparison whose result is boolean.
    """
    last = output.shape[1] - 1
    greatest = output.amax(1, keepdim=True)
    # The first of equals is the one farthest from the end.
    from_end = torch.arange(last, -1, -1, dtype=output.dtype, device=output.device).view(-1, *[1] * (output.ndim - 2))
    below = torch.lt(output, greatest, out=spare)
    torch.add(from_end, below, alpha=-(last + 1), out=spare)
    return greatest.squeeze(1), last - spare.amax(1)


def as_rows(values: Tensor) -> Tensor:
    """All places of each sample in a row: ``(B, *S)`` to ``(B, N)``.

    Examples:
        >>> as_rows(torch.zeros(3)).shape, as_rows(torch.zeros(3, 2, 4)).shape
        (torch.Size([3, 1]), torch.Size([3, 8]))
    """
    return values.flatten(1) if values.ndim > 1 else values[:, None]


def is_distribution(output: Tensor, tolerance: float = 1e-3) -> Tensor:
    """Which samples of ``(B, C, *S)`` are probabilities of the C classes at every place: at least 0, with a sum of 1;
    ``(B,)``, boolean.

    Examples:
        >>> is_distribution(torch.tensor([[0.25, 0.75], [0.5, 0.6], [1.5, -0.5]]))
        tensor([ True, False, False])
    """
    found = output.detach()
    off = (found.sum(1) - 1).abs()
    return (as_rows(found).amin(1) >= 0) & (as_rows(off).amax(1) <= tolerance)


def is_probability(output: Tensor, least: int = 64) -> Tensor:
    """Which samples of ``(B, *S)`` are probabilities, all of them in [0, 1]; ``(B,)``, boolean.

    Fewer numbers than ``least`` may be logits that happen to lie there, and are none.
    """
    found = as_rows(output.detach())
    return (found.amin(1) >= 0) & (found.amax(1) <= 1) & (found.shape[1] >= least)


def log_probabilities(output: Tensor) -> Tensor:
    """Logits whose softmax over the channels is ``output``; finite where a probability is 0, with gradient 0.

    Examples:
        >>> log_probabilities(torch.tensor([[0.25, 0.75]])).softmax(1)
        tensor([[0.2500, 0.7500]])
    """
    return output.clamp(min=torch.finfo(output.dtype).tiny).log()


def log_odds(output: Tensor) -> Tensor:
    """Logits whose sigmoid is ``output``; finite where a probability is 0 or 1, with gradient 0.

    Examples:
        >>> log_odds(torch.tensor([0.25, 0.75])).sigmoid()
        tensor([0.2500, 0.7500])
    """
    return log_probabilities(output) - log_probabilities(1 - output)


def binary_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of logits ``(B, L)`` against labels in {0, 1}, ``(B, L)``, in nats."""
    return F.binary_cross_entropy_with_logits(output, target.to(output.dtype), reduction="none")


def true_label_probability(output: Tensor, target: Tensor) -> Tensor:
    """Sigmoid probability of each label's true state, ``(B, L)``, in ``[0, 1]``."""
    return torch.sigmoid(binary_margin(output, target))


def binary_margin(output: Tensor, target: Tensor) -> Tensor:
    """Logit towards each label's true state, ``(B, L)``; negative where the prediction is wrong."""
    return output * (2 * target - 1)


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Absolute error, mean over the channels: ``(B, C, *S)`` to ``(B, *S)``, in the label's unit."""
    return (output - target).abs().mean(1)


def l1_distance(output: Tensor, target: Tensor) -> Tensor:
    """Absolute error, summed over the channels (the loss under which normals are trained): ``(B, C, *S)`` to ``(B,
    *S)``.
    """
    return (output - target).abs().sum(1)


def angle(output: Tensor, target: Tensor) -> Tensor:
    """Angle between vectors: ``(B, C, *S)`` to ``(B, *S)``, in degrees, in [0, 180]; 90 where one of them is 0.

    By half-angles (Kahan), exact for small angles too. The arc cosine has an infinite slope at ±1, and clamped it has
    none, so that a nearly perfect output could not be attacked. It is differentiable once, in the output alone.
    """
    angles: Tensor = _Angle.apply(output, target)
    return angles


class _Angle(torch.autograd.Function):
    """The angle with its slope in closed form: −t/(|output| sin θ), where t = b − a cos θ for the unit vectors a and b.

    As −t, the part of a − b across a is taken, which cancels no digits at small angles.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, target: Tensor) -> Tensor:
        inverse = _inverse_length(output)
        a, b = output * inverse, target * _inverse_length(target)
        apart = a - b
        difference, total = _squared_length(apart), _squared_length(b.add_(a))
        ctx.save_for_backward(a, apart, difference, total, inverse)
        return torch.rad2deg(2 * torch.atan2(difference.sqrt(), total.sqrt())).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        a, apart, difference, total, inverse = ctx.saved_tensors
        sine = (difference * total).sqrt_().mul_(math.pi / 360)
        scale = torch.where(sine > 0, slopes[0].unsqueeze(1) * inverse / sine, 0.0)
        along = (apart * a).sum(1, keepdim=True)
        return torch.addcmul(apart, a, along, value=-1).mul_(scale), None


# torch's own norms over the channels, which are not the last dimension, take ten times as long on a CPU.


def _squared_length(v: Tensor) -> Tensor:
    return v.square().sum(1, keepdim=True)


def _inverse_length(v: Tensor) -> Tensor:
    return _squared_length(v).clamp_(min=torch.finfo(v.dtype).tiny).rsqrt_()
