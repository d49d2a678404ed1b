"""The labels of one task for the samples of a batch: an array, or a ragged column where samples differ in shape.

A ragged column is an object array ``(N,)`` of one NumPy array a sample, or one nest of arrays (a dict, list or tuple),
and None where a sample has no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = np.ndarray | Tensor
Present = npt.NDArray[np.bool_]

__all__ = [
    "Array",
    "Present",
    "as_dense",
    "as_tensors",
    "both_masks",
    "hide_places",
    "join_columns",
    "on_host",
    "read_column",
    "same_labels",
]


def read_column(name: str, values: Any) -> tuple[Array, Present | None]:
    """The labels of one task as they come, for all samples of a batch.

    Args:
        name: Name of the task in messages.
        values: An array, tensor or list; see the argument ``data`` of :class:`art_mtl.MultiTaskLabels`.

    Returns:
        An array or a tensor ``(N, ...)``, or for a ragged column an object array ``(N,)``; and which samples have a
        label, ``(N,)``, where the values say so.

    Raises:
        TypeError: They are no numbers.
        ValueError: They are not one for each sample.

    Examples:
        >>> read_column("kind", [3, None])
        (array([3, 0]), array([ True, False]))
    """
    array: Array
    mask: Present | None = None
    if isinstance(values, Tensor):
        array = values.detach()
    elif isinstance(values, (list, tuple)):
        array, mask = _from_list(name, values)
    elif isinstance(values, np.ndarray) and values.dtype == object and values.ndim:
        array, mask = _from_entries(name, list(values), marked=True)
    elif isinstance(values, np.ma.MaskedArray) and values.ndim:
        array, mask = _unmasked(name, values)
    else:
        array = _numeric(name, np.asarray(values))
    if array.ndim == 0:
        raise ValueError(f"The labels of task {name!r} should have one entry a sample. Found a single number.")
    return array, mask


def as_dense(name: str, values: Any, present: Any = None) -> tuple[Array, Any]:
    """The labels of one task as one array or tensor, for kinds of tasks that need one.

    Args:
        name: Name of the task in messages.
        values: An array, tensor or list; see the argument ``data`` of :class:`art_mtl.MultiTaskLabels`.
        present: ``(N,)``, boolean, false where a sample has no label; or None.

    Returns:
        ``(N, ...)``, zeros where a list or a ragged column has no label; and ``present``, false too where the values
        say that a label is missing.

    Raises:
        TypeError: They are no numbers.
        ValueError: They are not one for each sample, their shapes differ, or they are no plain arrays.

    Examples:
        >>> as_dense("depth", [np.ones(2), None])
        (array([[1., 1.],
               [0., 0.]]), array([ True, False]))
    """
    array, mask = read_column(name, values)
    if array.dtype == object:
        array = _stacked(name, list(array))
    return array, present if mask is None else mask if present is None else both_masks(name, present, mask, len(array))


def _numeric(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "biufc":
        found = "strings; number the classes" if array.dtype.kind in "US" else f"Python objects, dtype {array.dtype}"
        raise TypeError(f"The labels of task {name!r} should be a numeric array. Found {found}.")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def on_host(array: Array) -> npt.NDArray[Any]:
    """A NumPy array of the same values; NumPy has no bfloat16, which becomes float32.

    Examples:
        >>> on_host(torch.ones(2, dtype=torch.bfloat16))
        array([1., 1.], dtype=float32)
    """
    if not isinstance(array, Tensor):
        return array
    return np.asarray((array.float() if array.dtype == torch.bfloat16 else array).detach().cpu())


def both_masks(name: str, mask: Any, other: Present | None, size: int) -> Present:
    """A mask of present samples ``(N,)``, checked; false too where the other one is.

    Raises:
        ValueError: It is not boolean, or not of ``size`` samples.

    Examples:
        >>> both_masks("kind", torch.tensor([True, True]), np.array([True, False]), size=2)
        array([ True, False])
    """
    mask = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
    if mask.dtype != np.bool_ or mask.shape != (size,):
        raise ValueError(
            f"The mask of present labels of task {name!r} should be boolean, of shape ({size},) or that of the labels. "
            f"Found {mask.dtype} of shape {mask.shape}."
        )
    both: Present = mask if other is None else mask & other
    return both


def hide_places(name: str, values: Any, mask: Any) -> tuple[Any, Any]:
    """Labels and a mask of samples, of labels and a mask of samples or of single places.

    Args:
        name: Name of the task in messages.
        values: Labels as they come.
        mask: Boolean: ``(N,)``; of the shape of the labels; or of this shape without the channels, ``(N, H, W)`` beside
            ``(N, C, H, W)``, or without the last axis, ``(N, P)`` beside ``(N, P, 2)``. False where nothing is known.

    Returns:
        Of a mask of places, labels that are NaN there, and samples of which something is known; else what was given.

    Examples:
        >>> hide_places("tags", np.array([[1, 0], [1, 1]]), np.array([[True, False], [False, False]]))
        (array([[ 1., nan],
               [ 0.,  0.]]), array([ True, False]))
    """
    known = on_host(mask) if isinstance(mask, Tensor) else np.asarray(mask)
    if known.ndim < 2 or known.dtype != np.bool_:
        return values, mask
    array: Any = on_host(read_column(name, values)[0]) if not isinstance(values, np.ma.MaskedArray) else values
    if array.ndim >= 4 and known.shape == array.shape[:1] + array.shape[2:]:
        known = np.broadcast_to(known[:, None], array.shape)
    elif known.shape == array.shape[:-1]:
        known = np.broadcast_to(known[..., None], array.shape)
    if known.shape != array.shape:
        return values, mask
    return read_column(name, np.ma.masked_array(array, ~known))


def _innermost(value: Any) -> Any:
    """The first thing in nested lists that is no list."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return value


def _from_list(name: str, values: Sequence[Any]) -> tuple[npt.NDArray[Any], Present | None]:
    if not any(isinstance(_innermost(value), (Tensor, np.ndarray, Mapping, type(None))) for value in values):
        try:
            array = np.asarray(values)
        except ValueError:
            pass  # Lists of different lengths.
        else:
            if array.dtype != object:
                return _numeric(name, array), None
    return _from_entries(name, values)


def _from_entries(name: str, values: Sequence[Any], marked: bool = False) -> tuple[npt.NDArray[Any], Present]:
    """One label a sample: one array where all have one shape, unless they are ``marked`` as ragged; else ragged."""
    entries = [_entry(name, value) for value in values]
    shapes = {entry.shape if isinstance(entry, np.ndarray) else None for entry in entries if entry is not None}
    if () in shapes and len(shapes) > 1:
        raise TypeError(
            f"The labels of task {name!r} should be a numeric array, or an array or a nest of arrays for each sample. "
            "Found numbers beside these."
        )
    mask = np.array([entry is not None for entry in entries], dtype=bool)
    dense = shapes == {()} or (len(shapes) == 1 and None not in shapes and not marked)
    return (_stacked(name, entries) if dense else _ragged(entries)), mask


def _entry(name: str, value: Any) -> Any:
    """The label of one sample on the host: None, an array, or a nest of arrays."""
    if value is None:
        return None
    if isinstance(value, np.ma.MaskedArray):
        (array,), mask = _unmasked(name, value[None])
        return array if mask is None or mask[0] else None
    if isinstance(value, Mapping):
        return {key: _part(name, part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        if not isinstance(_innermost(value), (Tensor, np.ndarray, Mapping)):
            try:
                return _numeric(name, np.asarray(value))
            except ValueError:
                pass  # Lists of different lengths.
        parts = [_part(name, part) for part in value]
        if all(isinstance(part, np.ndarray) and part.ndim == 0 for part in parts):
            return np.stack(parts)
        return parts if isinstance(value, list) else tuple(parts)
    return _numeric(name, on_host(value) if isinstance(value, Tensor) else np.asarray(value))


def _part(name: str, value: Any) -> Any:
    """A part of a nest: words stay."""
    return value if isinstance(value, (str, bytes)) else _entry(name, value)


def _ragged(entries: Sequence[Any]) -> npt.NDArray[Any]:
    column = np.empty(len(entries), dtype=object)
    for number, entry in enumerate(entries):
        column[number] = entry
    return column


def _stacked(name: str, entries: Sequence[Any]) -> npt.NDArray[Any]:
    """One label a sample as one array, zeros where there is none."""
    there = [entry for entry in entries if entry is not None]
    if not there:
        raise ValueError(f"Task {name!r} should have a label for at least one sample. Found none.")
    nests = [type(entry).__name__ for entry in there if not isinstance(entry, np.ndarray)]
    if nests:
        raise ValueError(f"The labels of task {name!r} should be one array for each sample. Found a {nests[0]}.")
    shapes = {entry.shape for entry in there}
    if len(shapes) > 1:
        raise ValueError(f"The labels of task {name!r} should have one shape for all samples. Found {sorted(shapes)}.")
    return np.stack([np.zeros_like(there[0]) if entry is None else entry for entry in entries])


def _unmasked(name: str, values: np.ma.MaskedArray[Any, Any]) -> tuple[npt.NDArray[Any], Present | None]:
    """A masked array ``(N, ...)`` as a plain one, and the samples that are not masked altogether."""
    hidden = np.ma.getmaskarray(values)
    if not hidden.any():
        return _numeric(name, np.asarray(values.data)), None
    mask = np.logical_not(hidden.reshape(len(hidden), -1).all(1))
    partly = (hidden.reshape(len(hidden), -1).any(1) & mask).any()
    # Integers have no NaN.
    source: Any = values.astype(np.float64) if partly and values.dtype.kind not in "fc" else values
    array = np.asarray(source.filled(np.nan if partly else 0))
    array[~mask] = 0
    return _numeric(name, array), mask


def as_tensors(value: Any) -> Any:
    """A column as a tensor on the host, a ragged one as a list of a nest of tensors, or None, for each sample.

    Examples:
        >>> as_tensors(np.array([{"size": np.ones(2)}, None], dtype=object))
        [{'size': tensor([1., 1.], dtype=torch.float64)}, None]
    """
    if isinstance(value, Mapping):
        return {key: as_tensors(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [as_tensors(part) for part in value]
    return torch.as_tensor(value, device="cpu") if isinstance(value, (np.ndarray, Tensor)) else value


def join_columns(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The labels of one batch after the other, ragged where one of them is or their shapes differ.

    Examples:
        >>> join_columns([np.zeros((2, 3)), np.zeros((1, 4))]).shape
        (3,)
    """
    if len({part.shape[1:] for part in parts}) == 1 and len({part.dtype == object for part in parts}) == 1:
        return np.concatenate(parts)
    return _ragged([entry for part in parts for entry in part])


def same_labels(one: Any, other: Any) -> bool:
    """Whether two columns, labels or nests of them have the same values; NaN is equal to NaN.

    Examples:
        >>> same_labels({"boxes": np.array([np.nan, 1.0])}, {"boxes": np.array([np.nan, 1.0])})
        True
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_labels(one[key], other[key]) for key in one)
    if all(isinstance(value, np.ndarray) and value.dtype != object for value in (one, other)):
        return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc" and other.dtype.kind in "fc")
    if all(isinstance(value, (np.ndarray, list, tuple)) for value in (one, other)):
        return len(one) == len(other) and all(map(same_labels, one, other))
    return type(one) is type(other) and bool(one == other)
