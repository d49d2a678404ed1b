"""Attacks inside ``torch.inference_mode``: they need gradients, of tensors that may be part of a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from art_mtl.structure import map_tensors


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave inference mode, where it is on. Gradients are off then, as under ``no_grad``; otherwise nothing changes.

    Examples:
        >>> with torch.inference_mode():
        ...     with outside_inference_mode():
        ...         print(torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        False False
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def normal_tensors(value: Any) -> Any:
    """The same structure, with a copy of each tensor that was made in inference mode. Call it outside of that mode.

    Args:
        value: A tensor or a nest of tensors, see :func:`art_mtl.structure.map_tensors`.

    Examples:
        >>> with torch.inference_mode():
        ...     x = torch.ones(2)
        >>> x.is_inference(), normal_tensors({"x": x})["x"].is_inference()
        (True, False)
    """
    return map_tensors(value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor)
