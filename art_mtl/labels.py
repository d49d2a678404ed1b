"""One container for the labels (or raw outputs) of several tasks, in the forms that ART's own attacks carry through."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = np.ndarray | Tensor


class MultiTaskLabels(Mapping[str, Array]):
    """The labels of a batch for several tasks.

    ``len(labels)`` is the number of samples, ``labels["depth"]`` the array of one task, ``labels[2:5]``,
    ``labels[mask]`` and ``labels[[3, 1]]`` a sub-batch. So it goes through ART's own attacks and trainers, which slice
    their labels.

    Args:
        data: Task name to array or tensor; all with the same first dimension N.
        present: Task name to a boolean array ``(N,)``, false where a sample has no label for the task. What it does not
            name is present everywhere. Where it is false the array's content is never read.

    Raises:
        ValueError: The first dimensions differ, or there is no task.

    Examples:
        >>> labels = MultiTaskLabels({"left": np.array([3, 1, 4]), "sum": np.array([[8.0], [2.0], [9.0]])})
        >>> len(labels), labels.names
        (3, ('left', 'sum'))
        >>> labels[1:]["left"]
        array([1, 4])
    """

    def __init__(self, data: Mapping[str, Array], present: Mapping[str, npt.NDArray[np.bool_]] | None = None) -> None:
        if not data:
            raise ValueError("Parameter `data` should hold the labels of at least one task. Found an empty mapping.")
        masked = {name: _masked_samples(name, values) for name, values in data.items()}
        self._data = {name: _as_array(name, values) for name, values in data.items()}
        sizes = {name: len(values) for name, values in self._data.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"The labels of all tasks should have the same number of samples. Found {sizes}.")
        self._size = next(iter(sizes.values()))
        self._present = {name: ~mask for name, mask in masked.items() if mask is not None}
        for name, mask in (present or {}).items():
            if name not in self._data:
                raise ValueError(f"Parameter `present` names {name!r}, but the labels are of {list(self._data)}.")
            mask = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask)
            if mask.dtype != np.bool_ or mask.shape != (self._size,):
                raise ValueError(
                    f"The mask of present labels of task {name!r} should be boolean of shape ({self._size},). "
                    f"Found {mask.dtype} of shape {mask.shape}; what is not known of a sample that has a label is "
                    "marked in the label itself."
                )
            self._present[name] = mask & self._present.get(name, True)

    # Mapping's own __contains__, keys, items, values and get follow from these. Its __len__ would count tasks, ours
    # counts samples.

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, key: str) -> Array: ...
    @overload
    def __getitem__(self, key: slice | Sequence[int] | npt.NDArray[Any] | Tensor | int) -> MultiTaskLabels: ...
    def __getitem__(self, key: Any) -> Array | MultiTaskLabels:
        if isinstance(key, str):
            if key not in self._data:
                raise KeyError(f"no task {key!r}; the tasks are {list(self._data)}")
            return self._data[key]
        index = _as_index(key, self._size)
        data = {
            name: values[torch.as_tensor(index, device=values.device)] if isinstance(values, Tensor) else values[index]
            for name, values in self._data.items()
        }
        return MultiTaskLabels(data, {name: mask[index] for name, mask in self._present.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self._data)

    def present(self, name: str) -> npt.NDArray[np.bool_]:
        """``(N,)``, boolean: which samples have a label for the task."""
        return self._present.get(name, np.ones(self._size, dtype=bool))

    def copy(self) -> MultiTaskLabels:
        """A copy that shares no array with this one."""
        data = {n: v.clone() if isinstance(v, Tensor) else v.copy() for n, v in self._data.items()}
        return MultiTaskLabels(data, {n: m.copy() for n, m in self._present.items()})

    def numpy(self) -> MultiTaskLabels:
        """The same labels as NumPy arrays."""
        data = {n: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for n, v in self._data.items()}
        return MultiTaskLabels(data, self._present)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # NumPy would make an array of the tasks' names, and a host that asks for one of scores would go on with it.
        raise TypeError(
            f"The tasks {list(self._data)} have an array each. Take one by its name, or for an attack on classifiers "
            "use the estimator's `task_view(name)`."
        )

    def __repr__(self) -> str:
        tasks = ", ".join(f"{name}: {values.dtype} {tuple(values.shape)}" for name, values in self._data.items())
        return f"MultiTaskLabels({tasks})"

    @classmethod
    def concatenate(cls, parts: Sequence[MultiTaskLabels]) -> MultiTaskLabels:
        """Join batches of NumPy labels of the same tasks."""
        names = parts[0].names
        return cls(
            {n: np.concatenate([np.asarray(part[n]) for part in parts]) for n in names},
            {n: np.concatenate([part.present(n) for part in parts]) for n in names},
        )

    @classmethod
    def of(
        cls, y: Any, names: Sequence[str], size: int | None = None, partial: bool = False, some: bool = False
    ) -> MultiTaskLabels:
        """Labels from any of the forms in which users hold them.

        Args:
            y: A :class:`MultiTaskLabels`; a mapping from task name to array, or to ``(array, mask of present
                samples)``; a list or object array of one mapping a sample, in which ``None`` or a missing name means
                "no label"; a structured array; or any object with ``len`` and ``[task name]``. With one task, its array
                alone will do.
            names: The tasks that must be there, in order.
            size: The number of samples expected, or None.
            partial: Let a :class:`MultiTaskLabels`, which may be one batch of many, lack all labels of a task.
            some: Let tasks be missing altogether, but not all of them.

        Returns:
            Labels of exactly the tasks ``names``, in that order; with ``some`` of those that are there.

        Raises:
            TypeError: ``y`` has none of these forms, or ``names`` are no names.
            ValueError: A task is missing or unknown, a size differs, or a task has no label for any sample.

        Examples:
            >>> labels = MultiTaskLabels.of([{"a": 1, "b": 0.5}, {"a": 2, "b": None}], names=["a", "b"])
            >>> labels.present("b")
            array([ True, False])
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"Parameter `names` should be a list of the tasks' names. Found {names!r}.")
        labels = _from_any(y, names, some)
        _check_names(labels.names, names, some)
        names = [name for name in names if name in labels.names]
        labels = cls({n: labels[n] for n in names}, {n: labels.present(n) for n in names})
        if size is not None and len(labels) != size:
            raise ValueError(f"The labels should be of {size} samples, as many as the inputs. Found {len(labels)}.")
        if partial and isinstance(y, MultiTaskLabels):
            return labels
        for name in names:
            if len(labels) and not labels.present(name).any():
                raise ValueError(f"Task {name!r} should have a label for at least one sample. Found none.")
        return labels


def _as_array(name: str, values: Any) -> Array:
    if isinstance(values, Tensor):
        array: Array = values.detach()
    else:
        array = np.asarray(values)
        if array.dtype == object:
            raise ValueError(
                f"The labels of task {name!r} should be a numeric array. Found an array of Python objects."
            )
    if array.ndim == 0:
        raise ValueError(f"The labels of task {name!r} should have one entry a sample. Found a single number.")
    return array


def _masked_samples(name: str, values: Any) -> npt.NDArray[np.bool_] | None:
    """Which samples a NumPy masked array masks, ``(N,)``; None for anything else."""
    if not isinstance(values, np.ma.MaskedArray):
        return None
    rows = np.ma.getmaskarray(values).reshape(len(values), -1)
    _check_unmasked(name, np.asarray(rows.any(1) & ~rows.all(1)))
    return np.asarray(rows.any(1))


def _check_unmasked(name: str, partly: npt.NDArray[np.bool_]) -> None:
    if partly.any():
        raise ValueError(
            f"The labels of task {name!r} should not be masked in part of a sample. Found {int(partly.sum())} such "
            "sample(s); fill them with the value that the task does not count, `y.filled(-1)` for instance."
        )


def _as_index(key: Any, size: int) -> npt.NDArray[np.int64]:
    if isinstance(key, slice):
        return np.array(range(size)[key], dtype=np.int64)
    index = np.asarray(key.cpu() if isinstance(key, Tensor) else key)
    if index.dtype == np.bool_:
        if index.shape != (size,):
            raise IndexError(f"a boolean index should have shape ({size},), found {index.shape}")
        return np.flatnonzero(index)
    if index.size and (index.dtype.kind not in "iu" or index.ndim > 1):
        raise IndexError(f"an index should be a slice, integers or booleans, found {index.dtype} of {index.ndim} axes")
    return np.arange(size)[np.atleast_1d(index.astype(np.int64))]


def _from_any(y: Any, names: Sequence[str], some: bool) -> MultiTaskLabels:
    if isinstance(y, MultiTaskLabels):
        return y
    if isinstance(y, np.ndarray) and y.dtype.names:
        return MultiTaskLabels({name: y[name] for name in y.dtype.names})
    if isinstance(y, Mapping):
        return _from_mapping(y)
    if isinstance(y, (list, tuple, np.ndarray)) and len(y) and all(isinstance(row, Mapping) for row in y):
        return _from_samples(list(y), names, some)
    if len(names) == 1 and isinstance(y, (list, np.ndarray, Tensor)):
        return MultiTaskLabels({names[0]: y if isinstance(y, Tensor) else np.asarray(y)})
    if (
        hasattr(y, "__len__")
        and hasattr(y, "__getitem__")
        and not isinstance(y, (list, tuple, np.ndarray, Tensor, str))
    ):
        return MultiTaskLabels({name: y[name] for name in names})
    raise TypeError(
        f"Labels of the tasks {list(names)} should be a MultiTaskLabels, a dict of arrays, a list or object array of "
        f"one dict a sample, a structured array, or an object with `len` and `[task name]`. Found {type(y).__name__}."
    )


def _from_mapping(y: Mapping[str, Any]) -> MultiTaskLabels:
    data, present = {}, {}
    for name, values in y.items():
        if isinstance(values, tuple) and len(values) == 2 and values[0] is not None and not np.isscalar(values[0]):
            data[name], present[name] = values
        elif isinstance(values, (list, tuple)) and any(v is None for v in values):
            data[name], present[name] = _stack(name, values)
        else:
            data[name] = values
    return MultiTaskLabels(data, present)


def _from_samples(rows: Sequence[Mapping[str, Any]], names: Sequence[str], some: bool) -> MultiTaskLabels:
    found = dict.fromkeys(name for row in rows for name in row)
    _check_names(tuple(found), names, some)
    columns = {name: _stack(name, [row.get(name) for row in rows]) for name in found}
    return MultiTaskLabels(
        {name: values for name, (values, _) in columns.items()}, {name: mask for name, (_, mask) in columns.items()}
    )


def _stack(name: str, values: Sequence[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    mask = np.array([value is not None for value in values])
    if not mask.any():
        raise ValueError(f"Task {name!r} should have a label for at least one sample. Found none.")
    _check_unmasked(name, np.array([bool(np.ma.is_masked(value)) for value in values]))
    arrays = [None if v is None else np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v) for v in values]
    first = next(a for a in arrays if a is not None)
    shapes = {a.shape for a in arrays if a is not None}
    if len(shapes) > 1:
        raise ValueError(f"The labels of task {name!r} should have one shape for all samples. Found {sorted(shapes)}.")
    return np.stack([np.zeros_like(first) if a is None else a for a in arrays]), mask


def _check_names(found: Sequence[str], expected: Sequence[str], some: bool) -> None:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if not unknown and (not missing or (some and len(missing) < len(expected))):
        return
    hints = [
        f"{name!r} is perhaps {close[0]!r}"
        for name in unknown
        if (close := difflib.get_close_matches(str(name), missing, n=1))
    ]
    raise ValueError(
        f"The labels should name the tasks {list(expected)}. Found {list(found)}"
        + (f"; missing: {missing}" if missing else "")
        + (f"; unknown: {unknown}" if unknown else "")
        + "".join(f"; {hint}" for hint in hints)
        + "."
    )
