"""Nests of tensors: whatever a model returns."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
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
    if _is_dataclass_mapping(value):
        return _with_items(value, change)
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


def take_rows(value: Any, rows: slice | Tensor) -> Any:
    """Some of the samples of a nest of batch-first tensors; numbers that belong to the whole batch stay.

    Args:
        value: See :func:`map_tensors`; tensors ``(B, ...)``.
        rows: Which samples.

    Examples:
        >>> import torch
        >>> take_rows({"a": torch.arange(3), "b": (torch.zeros(3, 2),)}, slice(1, None))["a"]
        tensor([1, 2])
    """
    return map_tensors(value, lambda tensor: tensor[rows] if tensor.ndim else tensor)


def join_rows(parts: Sequence[Any]) -> Any:
    """One nest of batch-first tensors from those of parts of a batch: the inverse of :func:`take_rows`.

    Args:
        parts: At least one, all of the same structure.

    Raises:
        ValueError: The structures differ.

    Examples:
        >>> import torch
        >>> join_rows([{"a": torch.zeros(1)}, {"a": torch.ones(2)}])
        {'a': tensor([0., 1., 1.])}
    """
    leaves = [tensors_in(part) for part in parts]
    if len({len(tensors) for tensors in leaves}) > 1:
        raise ValueError(
            "The parts of a batch should have outputs of the same structure. "
            f"Found {[len(tensors) for tensors in leaves]} tensors."
        )
    joined = iter([torch.cat(column) if column[0].ndim else column[0] for column in zip(*leaves, strict=True)])
    return map_tensors(parts[0], lambda tensor: next(joined))


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


def _is_dataclass_mapping(value: Any) -> bool:
    """Such as the outputs of Hugging Face's models: the same parts under keys and as attributes."""
    return isinstance(value, Mapping) and dataclasses.is_dataclass(value) and hasattr(value, "__setitem__")


def _with_items(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    changed = copy.copy(value)
    for key in list(value):
        part = map_tensors(value[key], change)
        changed[key] = part
        object.__setattr__(changed, key, part)
    return changed
