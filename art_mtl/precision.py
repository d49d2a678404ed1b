"""Arithmetic that half precision does not carry."""

from __future__ import annotations

import torch
from torch import Tensor


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
