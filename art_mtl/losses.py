"""Element-wise losses, differentiable scores and errors, margins: pure tensor functions.

Every function takes the raw output of one task, ``(B, C, *S)`` or ``(B, *S)``, and its canonical label, and returns
``(B, *S)``: one number for each place that has a label of its own. ``S`` is ``(H, W)`` for dense tasks, ``()`` for one
label an image and ``(L,)`` for multi-label tasks. :func:`masked_mean` turns that into one number an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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


def psnr(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each sample over its valid places, ``(B, C, *S)`` to ``(B,)``, in dB.

    Args:
        output: ``(B, C, *S)``.
        target: ``(B, C, *S)``.
        valid: ``(B, *S)``, boolean.
        data_range: The difference of the greatest and the least possible value.

    Returns:
        10 log₁₀(range² / mean squared error); at most 100, so that it has a slope everywhere but there.

    Examples:
        >>> psnr(torch.full((1, 1, 2), 0.1), torch.zeros(1, 1, 2), torch.ones(1, 2, dtype=torch.bool), 1.0)
        tensor([20.])
    """
    error = masked_mean(((output - target) / data_range).square().mean(1), valid)
    return -10 * error.clamp(min=1e-10).log10()


_WINDOW, _SPREAD = 11, 1.5
"""Side and standard deviation of the window of SSIM, in pixels."""


def ssim(output: Tensor, target: Tensor, data_range: float) -> Tensor:
    """Structural similarity at each place, mean over the channels: ``(B, C, *S)`` to ``(B, *S)``, in [−1, 1].

    Wang et al., "Image quality assessment: from error visibility to structural similarity" (TIP 2004), with their
    Gaussian window and K of 0.01 and 0.03; beyond its border an image is mirrored.

    Args:
        output: ``(B, C, *S)``, each side of S at least 6.
        target: Of the same shape.
        data_range: The difference of the greatest and the least possible value.

    Examples:
        >>> x = torch.rand(2, 3, 8, 9)
        >>> ssim(x, x, 1.0).shape, bool((ssim(x, x, 1.0) > 0.999).all())
        (torch.Size([2, 8, 9]), True)
    """
    output, target = output / data_range, target / data_range
    mean_o, mean_t, square_o, square_t, product = (
        _blurred(values) for values in (output, target, output * output, target * target, output * target)
    )
    variance = (square_o - mean_o.square()).clamp(min=0) + (square_t - mean_t.square()).clamp(min=0)
    covariance = product - mean_o * mean_t
    luminance = (2 * mean_o * mean_t + 1e-4) / (mean_o.square() + mean_t.square() + 1e-4)
    return (luminance * (2 * covariance + 9e-4) / (variance + 9e-4)).mean(1)


def mean_ssim(output: Tensor, target: Tensor, valid: Tensor, data_range: float) -> Tensor:
    """:func:`ssim` of each sample, mean over its valid places, ``(B,)``."""
    return masked_mean(ssim(output, target, data_range), valid)


def _blurred(values: Tensor) -> Tensor:
    """``(B, C, *S)`` under a Gaussian window, axis by axis."""
    half = _WINDOW // 2
    place = torch.arange(-half, half + 1, dtype=values.dtype, device=values.device)
    window = torch.exp(-(place / _SPREAD).square() / 2)
    window = window / window.sum()
    for axis in range(2, values.ndim):
        moved = values.movedim(axis, -1)
        rows = F.pad(moved.reshape(-1, 1, moved.shape[-1]), (half, half), mode="reflect")
        values = F.conv1d(rows, window.view(1, 1, -1)).view(moved.shape).movedim(-1, axis)
    return values


def normalised_distance(output: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of points in units of a length: ``(B, 2, P)`` to ``(B, P)``.

    Args:
        output: x and y, ``(B, 2, P)``.
        target: x, y and the length, ``(B, 3, P)``.

    Examples:
        >>> normalised_distance(torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[0.0], [0.0], [10.0]]]))
        tensor([[0.5000]])
    """
    distance: Tensor = torch.linalg.vector_norm(output - target[:, :2], dim=1)
    return distance / target[:, 2]


def is_near(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Whether :func:`normalised_distance` is at most ``threshold``."""
    return normalised_distance(output, target) <= threshold


def closeness(distance: Tensor, threshold: float) -> Tensor:
    """``2 ** (-distance / threshold)``: 1 at no distance, 1/2 at the threshold, in (0, 1].

    Examples:
        >>> closeness(torch.tensor([0.0, 0.2, 0.4]), 0.2)
        tensor([1.0000, 0.5000, 0.2500])
    """
    return torch.exp2(-distance / threshold)


def soft_argmax(heatmaps: Tensor) -> Tensor:
    """The mean of the places of each heatmap under its softmax: ``(B, P, H, W)`` to x and y, ``(B, 2, P)``.

    Sun et al., "Integral human pose regression" (ECCV 2018). The first place of a row or column is at 0.

    Examples:
        >>> peak = torch.zeros(1, 1, 3, 4)
        >>> peak[0, 0, 1, 2] = 100.0
        >>> soft_argmax(peak)[..., 0]
        tensor([[2., 1.]])
    """
    share = heatmaps.flatten(2).softmax(2).view(heatmaps.shape)
    row, column = (torch.arange(side, dtype=share.dtype, device=share.device) for side in share.shape[2:])
    return torch.stack([(share.sum(2) * column).sum(2), (share.sum(3) * row).sum(2)], 1)


def cosine_distance(output: Tensor, target: Tensor) -> Tensor:
    """1 less the cosine of the angle of vectors: ``(B, D)`` twice to ``(B,)``, in [0, 2]; 1 where one of them is 0.

    Examples:
        >>> cosine_distance(torch.tensor([[3.0, 0.0]]), torch.tensor([[-1.0, 0.0]]))
        tensor([2.])
    """
    return 1 - F.cosine_similarity(output, target, dim=1)


def euclidean_distance(output: Tensor, target: Tensor) -> Tensor:
    """Euclidean distance of vectors: ``(B, D)`` twice to ``(B,)``."""
    distance: Tensor = torch.linalg.vector_norm(output - target, dim=1)
    return distance


def is_within(output: Tensor, target: Tensor, threshold: float, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Whether the distance is at most ``threshold``."""
    return distance(output, target) <= threshold


def ordinal_class(output: Tensor, num_classes: int) -> Tensor:
    """The predicted of ordered classes: the greatest of C logits, or how many of C − 1 are positive: ``(B,)``, int64.

    Examples:
        >>> ordinal_class(torch.tensor([[0.0, 3.0, 1.0]]), 3), ordinal_class(torch.tensor([[2.0, -1.0]]), 3)
        (tensor([1]), tensor([1]))
    """
    return predicted_class(output) if output.shape[1] == num_classes else (output > 0).sum(1)


def class_distance(output: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """How many classes :func:`ordinal_class` is off, ``(B,)``."""
    return (ordinal_class(output, num_classes) - target).abs().to(output.dtype)


def is_class_near(output: Tensor, target: Tensor, num_classes: int, most: int) -> Tensor:
    """Whether the predicted class is at most so many classes from the true one, ``(B,)``."""
    return class_distance(output, target, num_classes) <= most
