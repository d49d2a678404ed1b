"""Arithmetic that half precision does not carry."""

from __future__ import annotations

import torch
from torch import Tensor

_COMPUTED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, any other type itself.

    Examples:
        >>> wide_dtype(torch.bfloat16), wide_dtype(torch.float64)
        (torch.float32, torch.float64)
    """
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def widen(values: Tensor) -> Tensor:
    """The same numbers in float32 at least: sums overflow in float16, and bfloat16 has 8 bits."""
    return values.to(wide_dtype(values.dtype))


def dtype_of(model: torch.nn.Module) -> torch.dtype:
    """What a model computes in: the dtype of its first floating-point parameter or, if it has none, of its first
    floating-point buffer; float32 if it has neither. Formats of 8 bits and fewer, for storage only, do not count.

    Examples:
        >>> dtype_of(torch.nn.Linear(2, 2, dtype=torch.float64)), dtype_of(torch.nn.ReLU())
        (torch.float64, torch.float32)
    """
    tensors = (tensor for group in (model.parameters(), model.buffers()) for tensor in group)
    return next((tensor.dtype for tensor in tensors if tensor.dtype in _COMPUTED), torch.float32)
