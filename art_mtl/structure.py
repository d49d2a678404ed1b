"""Tensors inside whatever a model returns."""

from __future__ import annotations

import copy
import copyreg
import dataclasses
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor changed.

    A part that holds no changed tensor is the same object as before. Every other part is a new object of the same type,
    made without its constructor; the structure that was given is left as it is. Where an object is a mapping with
    attributes, as the model outputs of ``transformers`` are, a tensor that stands in both is changed once, and both
    places hold the result.

    Args:
        value: A tensor, or mappings, lists, tuples, named tuples, sets, dataclasses and objects with attributes or
            slots, nested at will. Anything else stays as it is; so do modules, functions, and a reference of an object
            to itself.
        change: What to do with a tensor.

    Examples:
        >>> import torch
        >>> map_tensors({"a": [torch.zeros(2)], "b": "text"}, lambda tensor: tensor + 1)
        {'a': [tensor([1., 1.])], 'b': 'text'}
    """
    return _Walk(change)(value)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor of a structure, in order; see :func:`map_tensors`."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def take_rows(value: Any, rows: slice | Tensor | int) -> Any:
    """Some of the samples of a nest of batch-first tensors; numbers that belong to the whole batch stay.

    Args:
        value: See :func:`map_tensors`; tensors ``(B, ...)``.
        rows: Which samples; an integer is one sample, without the axis of the batch.

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


class OutputLayout:
    """How an output is cut into samples and put together again: here a tensor ``(B, ...)``, or a nest of such tensors.

    Examples:
        >>> parts = [{"boxes": torch.zeros(1, 5, 4)}, {"boxes": torch.ones(2, 5, 4)}]
        >>> OutputLayout().join_outputs(parts)["boxes"].shape
        torch.Size([3, 5, 4])
    """

    def slice_output(self, output: Any, rows: slice | Tensor | int) -> Any:
        """The output of some of the samples; an integer is one sample, without the axis of the batch."""
        return take_rows(output, rows)

    def join_outputs(self, parts: Sequence[Any]) -> Any:
        """The output of a batch from those of its parts, in order: differentiable, and the inverse of slicing."""
        return parts[0] if len(parts) == 1 else join_rows(parts)


def arguments_in(value: Any) -> Iterator[Tensor]:
    """Tensors among the arguments of a torch function: itself, or in lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from arguments_in(part)
    elif isinstance(value, dict):
        yield from arguments_in(list(value.values()))


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes that an object itself holds, in its ``__dict__`` or in slots; not those of its class.

    Examples:
        >>> attributes_of(types.SimpleNamespace(a=1))
        {'a': 1}
    """
    found = dict(getattr(value, "__dict__", ()))
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        if hasattr(value, name):
            found[name] = getattr(value, name)
    return found


class _Walk:
    """One walk over a structure, depth first."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change
        self.inside: set[int] = set()

    def __call__(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.change(value)
        if id(value) in self.inside or _is_atom(value):
            return value
        self.inside.add(id(value))
        try:
            return self._rebuilt(value)
        finally:
            self.inside.discard(id(value))

    def _rebuilt(self, value: Any) -> Any:
        entries = _entries(value)
        parts = [part for _, part in entries]
        changed = [self(part) for part in parts]
        # What stands among the entries already is changed once.
        known = {id(part): new for part, new in zip(parts, changed, strict=True)}
        attributes = {} if _is_own_dict(value) else attributes_of(value)
        others = {name: known[id(p)] if id(p) in known else self(p) for name, p in attributes.items()}
        same = all(new is part for part, new in zip(parts, changed, strict=True))
        if same and all(others[name] is part for name, part in attributes.items()):
            return value
        new = _like(value, [key for key, _ in entries], changed)
        # One that its class allows no second of, such as a logger.
        return value if new is value else _with_attributes(new, others, value)


def _is_own_dict(value: Any) -> bool:
    """Whether a dict is its own ``__dict__``, a way to let its keys be attributes."""
    return isinstance(value, dict) and getattr(value, "__dict__", None) is value


def _is_atom(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple, deque, set, frozenset)):
        return False
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return False
    return callable(value) or isinstance(value, (type, types.ModuleType)) or not attributes_of(value)


def _entries(value: Any) -> list[tuple[Any, Any]]:
    """What a container holds, as pairs of key and part. Of a mapping with attributes it may lie in these alone."""
    if isinstance(value, OrderedDict):
        return list(OrderedDict.items(value))
    if isinstance(value, dict):
        return list(dict.items(value))
    if isinstance(value, (list, tuple, deque, set, frozenset)):
        return list(enumerate(value))
    if isinstance(value, Mapping) and not attributes_of(value):
        return list(value.items())
    return []


def _like(value: Any, keys: list[Any], parts: list[Any]) -> Any:
    """A new object of the type of ``value`` that holds these entries."""
    kind: Any = type(value)
    if isinstance(value, dict):
        return _dict_like(value, zip(keys, parts, strict=True))
    if isinstance(value, list):
        new = list.__new__(kind)
        list.extend(new, parts)
        return new
    if isinstance(value, tuple):
        try:
            return tuple.__new__(kind, parts)
        except TypeError:  # Of torch's own kinds, such as what `max` returns.
            return kind(parts)
    if isinstance(value, deque):
        return kind(parts, value.maxlen)
    if isinstance(value, (set, frozenset)):
        return kind(parts)
    if isinstance(value, Mapping) and not attributes_of(value):
        return kind(dict(zip(keys, parts, strict=True)))
    return copy.copy(value)


def _dict_like(value: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> Any:
    # The constructors and methods of a subclass may do anything; those of its base do not.
    base: Any = next(kind for kind in (OrderedDict, defaultdict, dict) if isinstance(value, kind))
    new = base.__new__(type(value))
    if isinstance(value, defaultdict):
        new.default_factory = value.default_factory
    if _is_own_dict(value):
        new.__dict__ = new
    for key, part in items:
        base.__setitem__(new, key, part)
    return new


def _with_attributes(new: Any, attributes: Mapping[str, Any], old: Any) -> Any:
    own = getattr(old, "__dict__", {})
    for name, part in attributes.items():
        if name in own:
            new.__dict__[name] = part
        else:
            object.__setattr__(new, name, part)
    return new
