"""One container for the labels (or raw outputs) of several tasks, in the forms that ART's own attacks carry through."""

from __future__ import annotations

import copy
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.columns import Array, as_dense, both_masks, hide_places, join_columns, on_host, read_column, same_labels
from art_mtl.near_names import nearest

__all__ = ["Array", "MultiTaskLabels"]


class MultiTaskLabels(Mapping[str, Array]):
    """The labels of a batch for several tasks.

    ``len(labels)`` is the number of samples, ``labels["depth"]`` the array of one task, ``labels[2:5]``,
    ``labels[mask]`` and ``labels[[3, 1]]`` a sub-batch. So it goes through ART's own attacks and trainers, which slice
    their labels. As a mapping it has the tasks as keys: ``len(labels.keys())`` is their number. Labels are equal where
    their values and missing samples are; NaN is equal to NaN. They are mutable, so they have no hash.

    A task whose samples have labels of different shapes (boxes) has a *ragged* column: an object array ``(N,)`` of one
    NumPy array a sample, or one nest of arrays (a dict, list or tuple), and None where a sample has none. An object
    array of arrays is always ragged; a list is where its arrays have more than one shape. :meth:`dense` gives a plain
    array or says why there is none.

    Args:
        data: Task name to an array or tensor ``(N, ...)``, or to a list of one label a sample, in which None is "no
            label". All with the same N. A sample that a NumPy masked array masks altogether has no label; single places
            that it masks become NaN, and integers floats.
        present: Task name to a boolean array ``(N,)``, false where a sample has no label for the task; or of the shape
            of the labels, with or without their channels, false where a single place has none, which becomes NaN. What
            it does not name is present everywhere. Where it is false the array's content is never read.

    Raises:
        TypeError: Labels are no numbers.
        ValueError: The first dimensions differ, or there is no task.

    Examples:
        >>> labels = MultiTaskLabels({"left": np.array([3, 1, 4]), "sum": np.array([[8.0], [2.0], [9.0]])})
        >>> len(labels), labels.names
        (3, ('left', 'sum'))
        >>> labels[1:]["left"]
        array([1, 4])
        >>> MultiTaskLabels({"boxes": [np.zeros((2, 4)), None, np.zeros((5, 4))]})
        MultiTaskLabels(boxes: ragged (3,))
    """

    def __init__(self, data: Mapping[str, Any], present: Mapping[str, Any] | None = None) -> None:
        if not data:
            raise ValueError("Parameter `data` should hold the labels of at least one task. Found an empty mapping.")
        columns = {name: read_column(name, values) for name, values in data.items()}
        self._data = {name: array for name, (array, _) in columns.items()}
        sizes = {name: len(values) for name, values in self._data.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"The labels of all tasks should have the same number of samples. Found {sizes}.")
        self._size = next(iter(sizes.values()))
        self._present = {name: mask for name, (_, mask) in columns.items() if mask is not None}
        for name, mask in (present or {}).items():
            if name not in self._data:
                raise ValueError(f"Parameter `present` names {name!r}, but the labels are of {list(self._data)}.")
            self._data[name], mask = hide_places(name, self._data[name], mask)
            self._present[name] = both_masks(name, mask, self._present.get(name), self._size)

    # Mapping's own would take an index for a key; its __len__ would count tasks, ours counts samples, and with it its
    # views would.

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._data

    def get(self, key: Any, default: Any = None) -> Any:
        """The array of a task, or ``default``."""
        return self._data[key] if key in self else default

    def keys(self) -> KeysView[str]:
        """The tasks' names; as many as there are tasks."""
        return self._data.keys()

    def values(self) -> ValuesView[Array]:
        """The array of each task."""
        return self._data.values()

    def items(self) -> ItemsView[str, Array]:
        """Name and array of each task."""
        return self._data.items()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MultiTaskLabels):
            return NotImplemented
        return (
            self.keys() == other.keys()
            and len(self) == len(other)
            and all(np.array_equal(self.present(name), other.present(name)) for name in self)
            and all(same_labels(self._known(name), other._known(name)) for name in self)
        )

    __hash__ = None  # type: ignore[assignment]

    def _known(self, name: str) -> npt.NDArray[Any]:
        """The labels of one task on the host, where there are any."""
        return on_host(self._data[name])[self.present(name)]

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

    def dense(self, name: str) -> Array:
        """The labels of one task as one array or tensor ``(N, ...)``; zeros where a ragged column has none.

        Raises:
            KeyError: No such task.
            ValueError: The samples' labels have more than one shape, or are no plain arrays.

        Examples:
            >>> MultiTaskLabels({"boxes": np.array([np.ones(2), None], dtype=object)}).dense("boxes")
            array([[1., 1.],
                   [0., 0.]])
        """
        return as_dense(name, self[name])[0]

    def copy(self) -> MultiTaskLabels:
        """A copy that shares no array with this one."""
        data = {n: v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for n, v in self._data.items()}
        return MultiTaskLabels(data, {n: m.copy() for n, m in self._present.items()})

    def numpy(self) -> MultiTaskLabels:
        """The same labels as NumPy arrays."""
        return MultiTaskLabels({n: on_host(v) for n, v in self._data.items()}, self._present)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        # NumPy would make an array of the tasks' names, and a host that asks for one of scores would go on with it.
        raise TypeError(
            f"The tasks {list(self._data)} have an array each. Take one by its name, or for an attack on classifiers "
            "use the estimator's `task_view(name)`."
        )

    def __repr__(self) -> str:
        kinds = {name: "ragged" if values.dtype == object else values.dtype for name, values in self._data.items()}
        tasks = ", ".join(f"{name}: {kinds[name]} {tuple(values.shape)}" for name, values in self._data.items())
        return f"MultiTaskLabels({tasks})"

    @classmethod
    def concatenate(cls, parts: Sequence[MultiTaskLabels]) -> MultiTaskLabels:
        """Join batches of labels of the same tasks, as NumPy arrays; ragged where their shapes differ."""
        names = parts[0].names
        return cls(
            {n: join_columns([on_host(part[n]) for part in parts]) for n in names},
            {n: np.concatenate([part.present(n) for part in parts]) for n in names},
        )

    @classmethod
    def of(
        cls,
        y: Any,
        names: Sequence[str],
        size: int | None = None,
        partial: bool = False,
        some: bool = False,
        argument: str = "y",
    ) -> MultiTaskLabels:
        """Labels from any of the forms in which users hold them.

        Args:
            y: A :class:`MultiTaskLabels`; a mapping from task name to array, or to ``(array, mask of present
                samples)``; a tuple or list of one array a task, in the order of ``names``; a list or object array of
                one mapping a sample, in which ``None`` or a missing name means "no label"; a structured array; or any
                object with ``len`` and ``[task name]``. With one task, its array alone will do, or a list of one label
                a sample. Of one task and one sample a list of one array could be both: it is the array of the task if
                its first axis is 1, else the label of the sample; a dict says which. An array may be a list, a NumPy
                masked array, or ragged; see :class:`MultiTaskLabels`.
            names: The tasks that must be there, in order.
            size: The number of samples expected, or None.
            partial: Let a :class:`MultiTaskLabels`, which may be one batch of many, lack all labels of a task.
            some: Let tasks be missing altogether, but not all of them.
            argument: Name of ``y`` in messages.

        Returns:
            Labels of exactly the tasks ``names``, in that order; with ``some`` of those that are there.

        Raises:
            TypeError: ``y`` has none of these forms, labels are no numbers, or ``names`` are no names.
            ValueError: A task is missing or unknown, a size differs, a task has no label for any sample, or a list
                could be one of tasks and one of samples.

        Examples:
            >>> labels = MultiTaskLabels.of([{"a": 1, "b": 0.5}, {"a": 2, "b": None}], names=["a", "b"])
            >>> labels.present("b")
            array([ True, False])
            >>> MultiTaskLabels.of((np.array([1, 2, 3]), torch.zeros(3, 2)), names=["a", "b"])
            MultiTaskLabels(a: int64 (3,), b: torch.float32 (3, 2))
        """
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"Parameter `names` should be a list of the tasks' names. Found {names!r}.")
        labels = _from_any(y, names, some, size, argument)
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


def _from_any(y: Any, names: Sequence[str], some: bool, size: int | None, argument: str) -> MultiTaskLabels:
    if isinstance(y, MultiTaskLabels):
        return y
    if isinstance(y, np.ndarray) and y.dtype.names:
        return MultiTaskLabels({name: y[name] for name in y.dtype.names})
    if isinstance(y, Mapping):
        return _from_mapping(y, argument)
    if isinstance(y, (list, tuple, np.ndarray)) and len(y) and all(isinstance(row, Mapping) for row in y):
        return _from_samples(list(y), names, some)
    if len(names) == 1 and isinstance(y, list) and _is_array_of_task(y, size):
        return _in_task_order(y, names, argument)
    if len(names) == 1 and isinstance(y, (list, np.ndarray, Tensor)):
        return MultiTaskLabels({names[0]: y})
    columns = (np.ndarray, Tensor, list, tuple, type(None))
    if isinstance(y, (list, tuple)) and len(y) and all(isinstance(column, columns) for column in y):
        return _in_task_order(y, names, argument)
    if (
        hasattr(y, "__len__")
        and hasattr(y, "__getitem__")
        and not isinstance(y, (list, tuple, np.ndarray, Tensor, str))
    ):
        return MultiTaskLabels({name: y[name] for name in names})
    raise TypeError(
        f"Labels of the tasks {list(names)} should be a MultiTaskLabels, a dict of arrays, a tuple or list of one "
        "array a task, a list or object array of one dict a sample, a structured array, or an object with `len` and "
        f"`[task name]`. Found {type(y).__name__}."
    )


def _is_array_of_task(y: list[Any], size: int | None) -> bool:
    """Whether a list for one task holds its array for all samples, and not one label for each."""
    if len(y) != 1 or not isinstance(y[0], (np.ndarray, Tensor, list, tuple)) or not getattr(y[0], "shape", (1,)):
        return False
    if _is_pair(y[0]):
        return True
    return len(y[0]) == 1 if size == 1 else size is not None or isinstance(y[0], (np.ndarray, Tensor))


def _in_task_order(y: Sequence[Any], names: Sequence[str], argument: str) -> MultiTaskLabels:
    kind = type(y).__name__
    if len(y) != len(names):
        raise ValueError(
            f"Labels in a {kind} should be one array for each of the tasks {list(names)}. Found {len(y)}; "
            "give labels sample by sample as a list of one dict a sample."
        )
    lists = [part for part in y if isinstance(part, (list, tuple)) and len(part) == len(y) and not _is_pair(part)]
    if len(lists) == len(y) > 1:
        raise ValueError(
            f"Labels of the tasks {list(names)} in a {kind} should be one array or tensor a task. Found {len(y)} lists "
            f"of {len(y)}, which could be for each task or for each sample; give a dict of arrays or a list of dicts."
        )
    return _from_mapping({name: part for name, part in zip(names, y, strict=True) if part is not None}, argument)


def _from_mapping(y: Mapping[str, Any], argument: str) -> MultiTaskLabels:
    if not y:
        raise ValueError(f"Parameter `{argument}` should hold the labels of at least one task. Found none.")
    data, present = {}, {}
    for name, values in y.items():
        data[name] = values
        if _is_pair(values):
            data[name], present[name] = values
        elif isinstance(values, tuple) and [isinstance(v, (np.ndarray, Tensor, list)) for v in values] == [True, True]:
            mask = values[1]
            found = type(mask).__name__ if isinstance(mask, list) else f"{mask.dtype} of shape {tuple(mask.shape)}"
            raise ValueError(
                "The labels of a task in a tuple of two should be an array and the mask of present samples. The mask "
                f"of task {name!r} should be boolean. Found {found}; give the labels of two samples as a list."
            )
    return MultiTaskLabels(data, present)


def _is_pair(values: Any) -> bool:
    """Whether this is an array with the mask of its present samples."""
    if not isinstance(values, tuple) or len(values) != 2 or values[0] is None or np.isscalar(values[0]):
        return False
    if isinstance(values[1], list):
        return all(isinstance(value, (bool, np.bool_)) for value in values[1])
    return isinstance(values[1], (np.ndarray, Tensor)) and str(values[1].dtype) in ("bool", "torch.bool")


def _from_samples(rows: Sequence[Mapping[str, Any]], names: Sequence[str], some: bool) -> MultiTaskLabels:
    found = dict.fromkeys(name for row in rows for name in row)
    _check_names(tuple(found), names, some)
    return MultiTaskLabels({name: [row.get(name) for row in rows] for name in found})


def _check_names(found: Sequence[str], expected: Sequence[str], some: bool) -> None:
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if not unknown and (not missing or (some and len(missing) < len(expected))):
        return
    hints = [f"{name!r} is perhaps {near!r}" for name in unknown if (near := nearest(name, missing)) is not None]
    raise ValueError(
        f"The labels should name the tasks {list(expected)}. Found {list(found)}"
        + (f"; missing: {missing}" if missing else "")
        + (f"; unknown: {unknown}" if unknown else "")
        + "".join(f"; {hint}" for hint in hints)
        + "."
    )
