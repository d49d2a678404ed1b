"""Element-wise losses, differentiable scores and errors, margins: pure tensor functions.

Every function takes the raw output of one task, ``(B, C, *S)`` or ``(B, *S)``, and its canonical label, and returns
``(B, *S)``: one number for each place that has a label of its own. ``S`` is ``(H, W)`` for dense tasks, ``()`` for one
label an image and ``(L,)`` for multi-label tasks. :func:`masked_mean` turns that into one number an image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
    true = target.unsqueeze(1)
    greatest, runner_up = _greatest(output.detach().scatter(1, true, float("-inf")))
    # Where every other class is ruled out, any of them.
    runner_up = torch.where(runner_up == true, (true + 1) % output.shape[1], runner_up)
    true_logit, runner_up_logit = output.gather(1, torch.cat([true, runner_up], 1)).unbind(1)
    return torch.where(greatest.isnan().squeeze(1), float("nan"), true_logit - runner_up_logit)


def predicted_class(output: Tensor) -> Tensor:
    """The class of the greatest logit, the first of equals: ``(B, C, *S)`` to ``(B, *S)``; 0 where a logit is NaN.

    Examples:
        >>> predicted_class(torch.tensor([[1.0, 4.0, 4.0]]))
        tensor([1])
    """
    return _greatest(output.detach())[1].squeeze(1)


def _greatest(output: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest entry over the channels, NaN where one is NaN, and the first place of it: both ``(B, 1, *S)``.

    By vectorised maxima alone: on a CPU torch's ``max`` with its index, and ``argmax``, take several times as long on
    dense maps.
    """
    output = output.contiguous()
    last = output.shape[1] - 1
    small = torch.uint8 if last < 256 else torch.int32
    greatest = output.amax(1, keepdim=True)
    # The first of equals is the one farthest from the end.
    from_end = torch.arange(last, -1, -1, dtype=small, device=output.device).view(-1, *[1] * (output.ndim - 2))
    return greatest, last - (~(output < greatest) * from_end).amax(1, keepdim=True).long()


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
    none, so that a nearly perfect output could not be attacked.
    """
    a, b = _unit(output), _unit(target)
    return torch.rad2deg(2 * torch.atan2(_length(a - b), _length(a + b)))


# torch's own norms over the channels, which are not the last dimension, take ten times as long on a CPU.


def _length(v: Tensor) -> Tensor:
    squared = v.square().sum(1)
    return torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)


def _unit(v: Tensor) -> Tensor:
    return v * v.square().sum(1, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny).rsqrt()
