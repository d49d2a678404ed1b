"""What is known of a model that was read from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["Choose", "ModelFile", "Port"]

Choose = Callable[[Sequence[str]], Sequence[str]]
"""From the names of a model's outputs to those that are wanted."""


@dataclass(frozen=True)
class Port:
    """An input of a model.

    Attributes:
        name: Of the input.
        shape: With the batch; None where it is not known, and None for a length that is free.
        dtype: Of its values.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class ModelFile:
    """A model that was read from a file.

    Attributes:
        module: Takes its inputs by position.
        inputs: In order; empty where the file does not tell.
        outputs: Names of its outputs; empty where the file does not tell.
        reference: Inputs by name to outputs, as the format defines them; None where there is nothing to compare with.
    """

    module: nn.Module
    inputs: tuple[Port, ...] = ()
    outputs: tuple[str, ...] = ()
    reference: Callable[[Mapping[str, Any]], list[Any] | None] | None = None
