"""What the kinds of maps share: images and volumes."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from art_mtl.tasks.colours import Array

AXES = {2: "H, W", 3: "D, H, W"}
"""The axes of a map, by their number, for messages."""


def check_spatial_dims(name: str, found: object) -> int:
    """The number of axes of a map: 2 for images, 3 for volumes.

    Raises:
        ValueError: It is another number, or none.
    """
    if isinstance(found, bool) or found not in AXES:
        raise ValueError(
            f"Parameter `spatial_dims` of task {name!r} should be 2, for images, or 3, for volumes. Found {found!r}."
        )
    return int(found)  # type: ignore[call-overload, no-any-return]


def without_channel(tensor: Tensor, spatial_dims: int) -> Tensor | None:
    """``(N, *S)`` of that or ``(N, 1, *S)``; None for anything else.

    Examples:
        >>> import torch
        >>> without_channel(torch.zeros(2, 1, 4, 5), 2).shape, without_channel(torch.zeros(2, 3, 4, 5), 2)
        (torch.Size([2, 4, 5]), None)
    """
    if tensor.ndim == spatial_dims + 2 and tensor.shape[1] == 1:
        return tensor[:, 0]
    return tensor if tensor.ndim == spatial_dims + 1 else None


def middle_slice(label: Array, spatial_dims: int) -> Array:
    """A shown label ``(..., H, W)``: of a volume the slice in the middle of its first axis, of an image all of it.

    Examples:
        >>> middle_slice(np.arange(12).reshape(3, 2, 2), 3).tolist()
        [[4, 5], [6, 7]]
    """
    return label if spatial_dims == 2 else np.take(label, label.shape[-3] // 2, axis=-3)
