"""Tensors inside whatever a model returns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed.

    Args:
        value: A tensor, mapping, list, tuple, named tuple, dataclass or object with attributes, nested at will;
            anything else stays as it is.
        change: What to do with a tensor.

    Examples:
        >>> import torch
        >>> map_tensors({"a": [torch.zeros(2)], "b": "text"}, lambda tensor: tensor + 1)
        {'a': [tensor([1., 1.])], 'b': 'text'}
    """
    if isinstance(value, Tensor):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        return _with_attributes(value, {name: map_tensors(getattr(value, name), change) for name in names})
    if isinstance(value, Mapping):
        return {key: map_tensors(part, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(part, change) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(part, change) for part in value)
    if hasattr(value, "__dict__") and not callable(value):
        return _with_attributes(value, {name: map_tensors(part, change) for name, part in vars(value).items()})
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor of a structure, in order; see :func:`map_tensors`."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def arguments_in(value: Any) -> Iterator[Tensor]:
    """Tensors among the arguments of a torch function: itself, or in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from arguments_in(part)
    elif isinstance(value, dict):
        yield from arguments_in(list(value.values()))


def _with_attributes(value: Any, attributes: Mapping[str, Any]) -> Any:
    changed = copy.copy(value)
    for name, part in attributes.items():
        object.__setattr__(changed, name, part)
    return changed
