"""The data that attacks are judged on, read part by part: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task

Inputs = npt.NDArray[np.float32]
Arrays = tuple[Inputs, MultiTaskLabels]

__all__ = ["Arrays", "Inputs", "Source", "as_arrays", "as_source", "check_one_form", "check_one_sample", "unpack_data"]


_FORMS = "(input, dict of labels), (input, (label, ...)) or (input, label, ...) with the labels in task order"
_TAKEN = f"(x, y), a DataLoader, or a data set or iterable of samples {_FORMS}"


class Source(Protocol):
    """Samples with their labels, in order."""

    def __len__(self) -> int:
        """N, at least 1."""
        ...

    def read(self, part: slice) -> Arrays:
        """Inputs float32 ``(n, ...)`` and NumPy labels of the samples from ``part.start`` to ``part.stop``."""
        ...


def as_source(dataset: Any, tasks: Sequence[Task], limit: int | None = None) -> Source:
    """Samples from any of the forms that :func:`art_mtl.evaluation.evaluate` takes.

    Args:
        dataset: ``(x, y)`` with inputs ``(N, ...)``, which may be a :class:`numpy.memmap`, and labels in any form of
            :meth:`art_mtl.MultiTaskLabels.of`; or a map-style data set, whose samples are asked for when they are
            needed. Its ``[i]`` is ``(input, dict of labels)``, ``(input, (label, label, ...))`` or ``(input, label,
            label, ...)``, the labels in the order of the tasks. Of a ``DataLoader`` the data set, in its own order, and
            the collate function are used. What cannot be indexed, an iterable data set or a generator, is read once, in
            order, and kept in memory.
        tasks: Whose labels are wanted; dicts may hold those of others too.
        limit: First samples to take; None for all.

    Raises:
        TypeError: It has none of these forms.
        ValueError: It is empty, or the labels do not fit.

    Examples:
        >>> from art_mtl import tasks
        >>> pixels = np.zeros((5, 1, 2, 2))
        >>> source = as_source((pixels, {"kind": [0, 1, 2, 0, 1]}), [tasks.classification("kind", 3)], limit=3)
        >>> len(source), source.read(slice(1, 3))[1]["kind"]
        (3, array([1, 2]))
    """
    if limit is not None and limit < 1:
        raise ValueError(f"Parameter `limit` should be at least 1, or None. Found {limit}.")
    names = [task.name for task in tasks]
    source: Source
    if isinstance(dataset, tuple) and len(dataset) == 2:
        source = _of_arrays(*dataset, names, limit)
    elif isinstance(dataset, DataLoader):
        source = _of_loader(dataset, names, limit)
    elif _has_items(dataset):
        source = _Samples(dataset, names, limit)
    elif isinstance(dataset, Iterable) and not isinstance(dataset, (str, bytes, Mapping, Tensor, np.ndarray)):
        source = _Samples(list(islice(dataset, limit)), names, limit)
    else:
        raise TypeError(f"Parameter `dataset` should be {_TAKEN}. Found {type(dataset).__name__}.")
    if len(source) == 0:
        raise ValueError("Parameter `dataset` should hold at least one sample. Found none.")
    return source


def as_arrays(dataset: Any, tasks: Sequence[Task], limit: int | None = None) -> Arrays:
    """All of :func:`as_source` at once."""
    source = as_source(dataset, tasks, limit)
    return source.read(slice(0, len(source)))


def unpack_data(x: Any, y: Any, tasks: Sequence[Task]) -> tuple[Any, Any]:
    """Inputs and labels of a call that takes both, or a ``DataLoader`` or data set in place of them.

    Args:
        x: Inputs, which are returned as they are; or a ``DataLoader`` or data set, of which all samples are read.
        y: Labels; None for a ``DataLoader`` or data set, which has them.
        tasks: Whose labels are wanted.

    Raises:
        TypeError: There are labels beside a ``DataLoader`` or data set.

    Examples:
        >>> from art_mtl import tasks
        >>> loader = DataLoader([(np.zeros((1, 2, 2)), {"kind": 2}), (np.ones((1, 2, 2)), {"kind": 0})], batch_size=2)
        >>> x, y = unpack_data(loader, None, [tasks.classification("kind", 3)])
        >>> x.shape, y["kind"].tolist()
        ((2, 1, 2, 2), [2, 0])
    """
    check_one_form(x, y)
    return as_arrays(x, tasks) if isinstance(x, (DataLoader, Dataset)) else (x, y)


def check_one_form(x: Any, y: Any) -> None:
    """Raise TypeError where there are labels beside a ``DataLoader`` or data set, which has its own."""
    if isinstance(x, (DataLoader, Dataset)) and y is not None:
        raise TypeError(
            f"Parameter `y` should be None where `x` is a {type(x).__name__}, which has the labels. "
            f"Found {type(y).__name__}."
        )


def check_one_sample(arrays: Arrays, tasks: Sequence[Task]) -> None:
    """Raise ValueError where the first element of a data set is a batch: labels that fit a task as those of many
    samples, and not as that of one.

    Args:
        arrays: What was read of the first element.
        tasks: Whose labels they are.
    """
    x, y = arrays
    for task in tasks:
        label = y[task.name]
        if y.present(task.name).all() and not _fits(task, label, 1) and _fits(task, label[0], x.shape[1]):
            raise ValueError(
                f"Parameter `dataset` should hold samples. Found a batch of {x.shape[1]}, with labels of task "
                f"{task.name!r} of shape {np.shape(label[0])}, as one; give a DataLoader, which makes batches itself."
            )


def _fits(task: Task, label: Any, count: int) -> bool:
    try:
        return len(task.targets(label)) == count
    except (TypeError, ValueError):
        return False


class _Arrays:
    """Samples in arrays, which may lie on disk; only what is read becomes float32."""

    def __init__(self, x: npt.NDArray[Any], y: MultiTaskLabels, count: int) -> None:
        self.x, self.y, self.count = x, y, count

    def __len__(self) -> int:
        return self.count

    def read(self, part: slice) -> Arrays:
        part = slice(part.start, min(part.stop, self.count))
        return np.asarray(self.x[part], dtype=np.float32), self.y[part]


def _of_arrays(x: Any, y: Any, names: Sequence[str], limit: int | None) -> _Arrays:
    array = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)
    if array.ndim == 0 or len(array) == 0:
        raise ValueError("Parameter `dataset` should hold at least one sample. Found none.")
    labels = MultiTaskLabels.of(_wanted(y, names), names, size=len(array)).numpy()
    return _Arrays(array, labels, len(array) if limit is None else min(limit, len(array)))


def _has_items(dataset: Any) -> bool:
    """Whether it is a map-style data set. Every torch ``Dataset`` has the attribute, those that only iterate too."""
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    return indexed and not isinstance(dataset, (IterableDataset, Mapping, str, bytes))


def _wanted(y: Any, names: Sequence[str]) -> Any:
    """Labels of these tasks alone, where they are known by name and there are others too."""
    if isinstance(y, (dict, MultiTaskLabels)) and set(names) < set(y.keys()):
        present = {name: y.present(name) for name in names} if isinstance(y, MultiTaskLabels) else None
        kept = {name: y[name] for name in names}
        return kept if present is None else MultiTaskLabels(kept, present)
    return y


def _of_loader(loader: DataLoader[Any], names: Sequence[str], limit: int | None) -> Source:
    """The samples of a loader."""
    if _has_items(loader.dataset):
        return _Samples(loader.dataset, names, limit, loader.collate_fn if loader.batch_size is not None else None)
    parts, count = [], 0
    for batch in loader:
        parts.append(_batch(batch, names) if loader.batch_size is not None else _joined([_sample(batch, names)], names))
        count += len(parts[-1][0])
        if limit is not None and count >= limit:
            break
    if not parts:
        raise ValueError("Parameter `dataset` should hold at least one sample. Found none.")
    x = np.concatenate([inputs for inputs, _ in parts])
    y = MultiTaskLabels.concatenate([labels for _, labels in parts])
    return _Arrays(x, y, len(x) if limit is None else min(limit, len(x)))


def _batch(batch: Any, names: Sequence[str]) -> Arrays:
    """Inputs and labels of a collated batch, which has the forms of a sample."""
    x, y = _sample(batch, names)
    inputs = np.asarray(x, dtype=np.float32)
    return inputs, MultiTaskLabels.of(_wanted(dict(y), names), names, size=len(inputs)).numpy()


def _joined(samples: Sequence[tuple[Any, Mapping[str, Any]]], names: Sequence[str]) -> Arrays:
    """Inputs and labels of single samples."""
    rows = [_wanted(labels, names) for _, labels in samples]
    return _stacked(samples), MultiTaskLabels.of(rows, names, size=len(rows)).numpy()


def _stacked(samples: Sequence[tuple[Any, Any]]) -> Inputs:
    """The inputs of single samples."""
    images = [np.asarray(image, dtype=np.float32) for image, _ in samples]
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ValueError(f"The inputs of `dataset` should have one shape. Found {shapes}.")
    return np.stack(images)


class _Samples:
    """Samples of a map-style data set.

    Args:
        dataset: The data set.
        names: Of the tasks.
        limit: First samples to take; None for all.
        collate: Makes a batch of a list of samples, as that of a ``DataLoader``; None where labels may be missing, or
            samples are joined as they are.
    """

    def __init__(
        self,
        dataset: Any,
        names: Sequence[str],
        limit: int | None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.dataset, self.names, self.collate = dataset, names, collate
        self.count = len(dataset) if limit is None else min(limit, len(dataset))
        self.blank: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.count

    def read(self, part: slice) -> Arrays:
        raw = [self.dataset[i] for i in range(part.start, min(part.stop, self.count))]
        if self.collate is not None:
            return _batch(self.collate(raw), self.names)
        samples = [_sample(sample, self.names) for sample in raw]
        rows = [labels for _, labels in samples]
        absent = [name for name in self.names if all(row.get(name) is None for row in rows)]
        if not absent:
            return _joined(samples, self.names)
        return _stacked(samples), self._with_absent(rows, absent)

    def _with_absent(self, rows: list[Mapping[str, Any]], absent: list[str]) -> MultiTaskLabels:
        """Labels where no sample of the part has one of some tasks: any label of the task stands for them."""
        data: dict[str, Any] = {}
        present: dict[str, npt.NDArray[np.bool_]] = {}
        there = [name for name in self.names if name not in absent]
        if there:
            known = [{name: row.get(name) for name in there} for row in rows]
            labels = MultiTaskLabels.of(known, there, size=len(rows)).numpy()
            data = {name: labels[name] for name in there}
            present = {name: labels.present(name) for name in there}
        for name in absent:
            data[name] = [self._blank(name)] * len(rows)
            present[name] = np.zeros(len(rows), dtype=bool)
        return MultiTaskLabels({n: data[n] for n in self.names}, {n: present[n] for n in self.names})

    def _blank(self, name: str) -> Any:
        """The first label of a task that the data set has."""
        if name not in self.blank:
            labels = (_sample(self.dataset[i], self.names)[1].get(name) for i in range(self.count))
            first = next((label for label in labels if label is not None), None)
            if first is None:
                raise ValueError(f"Task {name!r} should have a label for at least one sample. Found none.")
            self.blank[name] = first
        return self.blank[name]


def _sample(sample: Any, names: Sequence[str]) -> tuple[Any, Mapping[str, Any]]:
    """Input and labels by task of one sample.

    Raises:
        TypeError: It has another form.
    """
    if isinstance(sample, (tuple, list)) and len(sample) > 1:
        image, labels = sample[0], sample[1] if len(sample) == 2 else sample[1:]
        if isinstance(labels, (tuple, list)) and len(labels) == len(names):
            labels = dict(zip(names, labels, strict=True))
        elif len(names) == 1 and isinstance(labels, (int, float, np.number, np.ndarray, Tensor)):
            labels = {names[0]: labels}
        if isinstance(labels, Mapping):
            return image.detach().cpu() if isinstance(image, Tensor) else image, labels
    parts = ", ".join(type(part).__name__ for part in sample) if isinstance(sample, (tuple, list)) else ""
    raise TypeError(
        f"Parameter `dataset` should be {_TAKEN}, here of {list(names)}. "
        f"Found {type(sample).__name__}{f' of ({parts})' if parts else ''} as [i]."
    )
