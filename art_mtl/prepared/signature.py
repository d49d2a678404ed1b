"""A mark of everything that a copy of a model is made of, by which a change shows."""

from __future__ import annotations

import functools
import hashlib
import logging
import types
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from art_mtl.structure import attributes_of

Path = tuple[Any, ...]
"""Names of attributes and places in containers that lead from the model to a part."""

DEPTH = 4
"""How many objects deep, below a module, attributes of attributes are looked at."""

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    Enum,
    range,
    slice,
    torch.dtype,
    torch.device,
    torch.layout,
)
_SHARED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, logging.Logger)
"""What a deep copy shares with its original."""
_WIDTH = 1021
"""Of the table that a large tensor is summed over. It is odd, so that no change of one bit in every place adds up to 0
modulo 2^64.
"""


def signature(model: Any, *, versions: bool = True) -> dict[Path, Any]:
    """Everything that a deep copy of a model is made of, part by part; two are equal where nothing has changed.

    Parts are the values and layout of parameters, buffers and other tensors; the kinds and order of modules; their
    hooks; and all their attributes: numbers, strings, arrays, containers of such, functions, and objects with
    attributes of their own to a depth of :data:`DEPTH`. Left out are the mode of a module and what goes with it, and
    what a copy shares with the model: attributes of classes, and what functions read from outside.

    Large tensors are told apart by sums of their bits over rows and columns, so almost surely. It costs a look at every
    parameter, and one wait for the device.

    Args:
        model: A module, or an object that holds one.
        versions: Whether a tensor that was written to and put back is another one.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> before = signature(net)
        >>> net[1].p = 0.1
        >>> differences(before, signature(net))
        {('_modules', '1', 'p')}
    """
    walk = _Walk()
    walk(model, (), DEPTH)
    return walk.finish(versions)


def differences(before: Mapping[Path, Any], after: Mapping[Path, Any]) -> set[Path]:
    """Paths of the parts that differ, or that one signature lacks."""
    missing = object()
    return {path for path in {*before, *after} if before.get(path, missing) != after.get(path, missing)}


def outside(changed: Iterable[Path], written: set[Path]) -> set[Path]:
    """Of some paths those that are not among ``written``, nor lead to a part of what is.

    Examples:
        >>> outside({("calls",), ("cache", "x"), ("weight",)}, {("calls",), ("cache",)})
        {('weight',)}
    """
    return {path for path in changed if not any(path[:end] in written for end in range(1, len(path) + 1))}


class _Same:
    """Equal to what holds the same object, which it keeps, so that no other can have its id."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


class _Walk:
    """Goes through a model once and writes down its leaves."""

    def __init__(self) -> None:
        self.leaves: dict[Path, Any] = {}
        self.tensors: list[tuple[Path, Tensor]] = []
        # Objects stay alive meanwhile, as what holds them is part of the model or kept here.
        self.seen: dict[int, tuple[Path, Any]] = {}

    def __call__(self, value: Any, path: Path, depth: int) -> None:
        if isinstance(value, _PLAIN):
            self.leaves[path] = (type(value), repr(value))
        elif id(value) in self.seen:
            self.leaves[path] = ("again", self.seen[id(value)][0])
        else:
            self.seen[id(value)] = (path, value)
            self._part(value, path, depth)

    def finish(self, versions: bool) -> dict[Path, Any]:
        """The leaves, those of tensors filled in."""
        contents = _contents([tensor for _, tensor in self.tensors])
        for (path, tensor), content in zip(self.tensors, contents, strict=True):
            self.leaves[path] = (type(tensor), *_layout(tensor, versions), content)
        return self.leaves

    def _part(self, value: Any, path: Path, depth: int) -> None:
        if is_lazy(value):
            self.leaves[path] = _Same(value)
        elif isinstance(value, Tensor):
            self.tensors.append((path, value))
        elif isinstance(value, nn.Module):
            self._module(value, path)
        elif isinstance(value, _SHARED) or depth == 0:
            self.leaves[path] = _Same(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.leaves[path] = (value.dtype.str, value.shape, _digest(value))
        elif isinstance(value, Mapping):
            self._entries(value, list(value.items()), path, depth)
        elif isinstance(value, (list, tuple, deque, set, frozenset)):
            self._entries(value, list(enumerate(value)), path, depth)
        elif isinstance(value, types.MethodType):
            self._entries(value, [("function", value.__func__), ("self", value.__self__)], path, depth)
        elif isinstance(value, functools.partial):
            self._entries(value, list(enumerate((value.func, value.args, value.keywords))), path, depth)
        elif attributes := attributes_of(value):
            self._entries(value, list(attributes.items()), path, depth - 1)
        else:
            self.leaves[path] = _Same(value)

    def _module(self, module: nn.Module, path: Path) -> None:
        self.leaves[path] = type(module)
        for name, value in vars(module).items():
            if name == "training" or (name == "dropout" and isinstance(module, nn.RNNBase)):
                continue
            if isinstance(value, dict) and "_hooks" in name:
                if not value:
                    continue  # Most of what a module holds is a dozen of these.
                # A hook that is taken off and put back has another number.
                value = list(value.values())
            self(value, (*path, name), DEPTH)
        if isinstance(module, torch.jit.ScriptModule):  # Its tensors are no attributes.
            for kind, tensors in (("_parameters", module.named_parameters()), ("_buffers", module.named_buffers())):
                for name, tensor in tensors:
                    self(tensor, (*path, kind, name), DEPTH)

    def _entries(self, value: Any, entries: list[tuple[Any, Any]], path: Path, depth: int) -> None:
        names = [key if isinstance(key, (str, int)) else f"{index}: {key!r}" for index, (key, _) in enumerate(entries)]
        self.leaves[path] = (type(value), tuple(names))
        for name, (_, part) in zip(names, entries, strict=True):
            self(part, (*path, name), depth)


def _layout(tensor: Tensor, versions: bool) -> tuple[Any, ...]:
    version = None if tensor.is_inference() or not versions else tensor._version
    shape = (tensor.dtype, tensor.device, tensor.layout, version)
    if tensor.layout is not torch.strided or tensor.is_nested:
        return shape
    return (*shape, tuple(tensor.shape), tensor.stride(), tensor.data_ptr())


def _contents(tensors: list[Tensor]) -> list[bytes | None]:
    """A digest of the values of each tensor, None where there are none; one wait for each device."""
    with torch.no_grad():
        short = [_condensed(tensor) for tensor in tensors]
    found: list[bytes | None] = [None] * len(tensors)
    for device in {parts[0].device for parts in short if parts}:
        places = [place for place, parts in enumerate(short) if parts and parts[0].device == device]
        joined, start = torch.cat([part for place in places for part in short[place]]).cpu().numpy(), 0
        for place in places:
            end = start + sum(map(torch.numel, short[place]))
            found[place] = _digest(joined[start:end])
            start = end
    return found


def _condensed(tensor: Tensor) -> list[Tensor]:
    """The bits of a tensor as integers; of a large one, sums over the rows and columns of a table of them."""
    plain = tensor.layout is torch.strided and not (tensor.is_nested or tensor.is_meta or tensor.is_quantized)
    if not plain or tensor.numel() == 0:
        return []
    octets = _in_memory_order(tensor.detach()).view(torch.uint8)
    size = octets.numel() // 8 * 8
    words, rest = octets[:size].view(torch.int64), [octets[size:].to(torch.int64)] if size < octets.numel() else []
    if words.numel() < _WIDTH:
        return [words, *rest]
    size = words.numel() // _WIDTH * _WIDTH
    table = words[:size].view(-1, _WIDTH)
    return [table.sum(1), table.sum(0), words[size:], *rest]


def _in_memory_order(tensor: Tensor) -> Tensor:
    """All elements, ``(N,)``; the tensor's own memory where it has no gaps, in any layout."""
    values = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    strides = values.stride()
    flat = values.permute(sorted(range(values.ndim), key=lambda axis: -strides[axis])).reshape(-1)
    return flat if flat.storage_offset() * flat.element_size() % 8 == 0 else flat.clone()


def _digest(array: npt.NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
