"""What every data set of this package can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from art_mtl.labels import MultiTaskLabels

Sample = tuple[NDArray[np.float32], dict[str, Any]]
"""An image and the label of each task: an array or, where labels differ in shape, a dict of arrays."""

MANIFEST = "MANIFEST.json"
JOURNAL = ".unfinished.jsonl"
"""What a prepared folder holds beside the data and the lock; the journal only until the folder is whole."""


class MultiTaskDataset(Dataset[tuple[Tensor, dict[str, Any]]]):
    """A map-style data set whose samples carry one label per task.

    A subclass says how many samples there are and what each is; it inherits indexing and :meth:`arrays`.
    """

    _arrays: tuple[NDArray[np.float32], MultiTaskLabels] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def sample(self, index: int) -> Sample:
        """One sample as numpy arrays.

        Args:
            index: from 0 to ``len(self) - 1``.

        Returns:
            The image, float32 (C, H, W) in the scale of the model's input, and the label of each task: an array, or a
            dict of arrays, such as boxes and their classes.
        """

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Any]]:
        """The same as :meth:`sample`, as tensors.

        Args:
            index: from ``-len(self)`` to ``len(self) - 1``.

        Raises:
            IndexError: If the index is out of range.
        """
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"Index should be in [{-len(self)}, {len(self) - 1}]. Found {index}.")
        image, labels = self.sample(position)
        return torch.as_tensor(image), {name: _as_tensors(label) for name, label in labels.items()}

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """All samples in order."""
        return (self[i] for i in range(len(self)))

    def arrays(self, limit: int | None = None) -> tuple[NDArray[np.float32], MultiTaskLabels]:
        """The first samples, stacked. They stay in memory, so that a second call costs nothing.

        Args:
            limit: how many samples; None, or more than there are, means all.

        Returns:
            Images of shape (N, C, H, W) and their labels. They may *be* what stays in memory: copy them before you
            write into them.

        Raises:
            ValueError: If ``limit`` is below 1.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"Parameter `limit` should be at least 1, or None. Found {limit!r}.")
        count = len(self) if limit is None else min(limit, len(self))
        if self._arrays is None or len(self._arrays[0]) < count:
            self._arrays = self._stack(count)
        x, labels = self._arrays
        return (x, labels) if len(x) == count else (x[:count], labels[:count])

    def _stack(self, count: int) -> tuple[NDArray[np.float32], MultiTaskLabels]:
        """Samples 0 to ``count``; those in memory already are copied."""
        held = 0 if self._arrays is None else len(self._arrays[0])
        image, labels = self.sample(held)
        x = np.empty((count, *image.shape), image.dtype)
        y = {name: _room(count, label) for name, label in labels.items()}
        if self._arrays is not None:
            x[:held] = self._arrays[0]
            for name, column in y.items():
                column[:held] = self._arrays[1][name]
        for i in range(held, count):
            if i > held:
                image, labels = self.sample(i)
            x[i] = image
            for name, label in labels.items():
                y[name][i] = label
        return x, MultiTaskLabels(y)


def _as_tensors(label: Any) -> Any:
    """An array, or a dict of arrays, as tensors."""
    if isinstance(label, Mapping):
        return {name: torch.as_tensor(array) for name, array in label.items()}
    return torch.as_tensor(label)


def _room(count: int, label: Any) -> NDArray[Any]:
    """An array for the labels of ``count`` samples, of which this is one."""
    return np.empty(count, object) if isinstance(label, Mapping) else np.empty((count, *label.shape), label.dtype)


def check_split(split: str, splits: tuple[str, ...]) -> None:
    """Raise ValueError unless ``split`` is one of ``splits``."""
    if split not in splits:
        raise ValueError(f"Parameter `split` should be one of {', '.join(splits)}. Found {split!r}.")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless ``value`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"Parameter `{name}` should be a whole number of at least {least}. Found {value!r}.")


def check_finished(root: Path) -> None:
    """Raise ValueError if ``root`` is a folder that ``art-mtl data`` has begun and not finished."""
    if (root / JOURNAL).exists():
        raise ValueError(
            f"{root}: expected a finished folder. Found one that was begun and not finished ({JOURNAL} is there). Run "
            "the command that makes it once more; it goes on where it stopped."
        )
