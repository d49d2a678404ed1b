"""Tensors from the host to a device and back."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from art_mtl.tasks import Target


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to CUDA by way of pinned memory, so that the host does not wait.

    Examples:
        >>> send(torch.ones(2), torch.device("cpu"))
        tensor([1., 1.])
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def send_target(target: Target, device: torch.device) -> Target:
    """Labels on a device; see :func:`send`."""
    return target.map(lambda tensor: send(tensor, device))


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Without autocast, which a user may have switched on around the call."""
    return torch.autocast(device.type, enabled=False) if device.type in ("cpu", "cuda") else nullcontext()


def row_like(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Numbers as a tensor of the type of ``like``, beside it; made there, so that nothing waits for a copy.

    Examples:
        >>> row_like((0.5, 2.0), torch.ones(3))
        tensor([0.5000, 2.0000])
    """
    return torch.stack([torch.full((), value, dtype=like.dtype, device=like.device) for value in values])
