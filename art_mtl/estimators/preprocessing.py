"""ART's preprocessing defences as one differentiable chain, whether written in torch or in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import Tensor


def apply_operations(operations: Sequence[Any], x: Tensor, fit: bool = False) -> Tensor:
    """Run a batch through a chain of ART preprocessors.

    Torch preprocessors are differentiated by autograd; one that overrides ``estimate_forward`` keeps its own value and
    takes the gradient of that estimate. NumPy preprocessors run on the host and take the gradient that their
    ``estimate_gradient`` gives, at the input that they themselves saw. Any order and mixture of the two will do, where
    ART's own estimators stop at some.

    Args:
        operations: ART preprocessors, applied in turn.
        x: Inputs, ``(B, ...)``.
        fit: Whether for training: preprocessors with ``apply_fit`` then, with ``apply_predict`` otherwise.

    Returns:
        The preprocessed batch, ``(B, ...)``, on the device of ``x``.

    Raises:
        ValueError: A preprocessor changes the number of samples.

    Examples:
        >>> from art.defences.preprocessor import FeatureSqueezing
        >>> x = torch.tensor([[0.2, 0.9]], requires_grad=True)
        >>> y = apply_operations([FeatureSqueezing(clip_values=(0, 1), bit_depth=1)], x)
        >>> y.detach(), torch.autograd.grad(y.sum(), x)[0]
        (tensor([[0., 1.]]), tensor([[1., 1.]]))
    """
    for operation in operations:
        if not (operation.apply_fit if fit else operation.apply_predict) or _is_identity(operation):
            continue
        result = _in_torch(operation, x) if isinstance(operation, PreprocessorPyTorch) else _in_numpy(operation, x)
        if len(result) != len(x):
            raise ValueError(
                f"A preprocessing defence should keep the number of samples, as labels of several tasks do not pass "
                f"through it. Found {type(operation).__name__} turning {len(x)} samples into {len(result)}."
            )
        x = result
    return x


def _is_identity(operation: Any) -> bool:
    # ART's default (0, 1) standardisation would copy two constants to the device at every step.
    return (
        isinstance(operation, StandardisationMeanStdPyTorch)
        and bool((operation.mean == 0).all())
        and bool((operation.std == 1).all())
        and operation.mean.ndim == 0
    )


def _in_torch(operation: Any, x: Tensor) -> Tensor:
    value: Tensor = operation.forward(x)[0]
    estimated = type(operation).estimate_forward is not PreprocessorPyTorch.estimate_forward
    if not (estimated and torch.is_grad_enabled() and x.requires_grad):
        return value
    estimate: Tensor = operation.estimate_forward(x)
    if estimate.shape != value.shape:
        raise ValueError(
            f"`estimate_forward` of {type(operation).__name__} should return the shape that `forward` does, "
            f"{tuple(value.shape)}. Found {tuple(estimate.shape)}."
        )
    result: Tensor = _ValueWithGradientOf.apply(estimate, value.detach())  # type: ignore[no-untyped-call]
    return result


def _in_numpy(operation: Any, x: Tensor) -> Tensor:
    result: Tensor = _NumpyOperation.apply(x, operation)  # type: ignore[no-untyped-call]
    return result


def _host_copy(x: Tensor) -> npt.NDArray[Any]:
    # A copy, as a defence may write into what it is given.
    return np.array(x.detach().cpu().numpy())


class _ValueWithGradientOf(torch.autograd.Function):
    """``(estimate, value) -> value``, with the gradient of the estimate."""

    @staticmethod
    def forward(ctx: Any, estimate: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _NumpyOperation(torch.autograd.Function):
    """A NumPy preprocessor, with the gradient that it estimates itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operation: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.operation = operation
        value, _ = operation(_host_copy(x), None)
        return torch.as_tensor(value, dtype=x.dtype, device=x.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        gradient = ctx.operation.estimate_gradient(_host_copy(x), _host_copy(gradients[0]))
        if gradient.shape != tuple(x.shape):
            raise ValueError(
                f"`estimate_gradient` of {type(ctx.operation).__name__} should return the shape of its input, "
                f"{tuple(x.shape)}. Found {gradient.shape}."
            )
        return torch.as_tensor(gradient, dtype=x.dtype, device=x.device), None
