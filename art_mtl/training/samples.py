"""Which image comes when and how it is augmented: functions of the seed, the epoch and the image alone.

Neither the number of loading processes nor that of training processes nor an interruption changes what a step sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from art_mtl.data import MultiTaskDataset
from art_mtl.data.augment import augment

__all__ = ["Augmentation", "Batch", "Order", "Samples", "batches", "mark", "stream"]

Key = tuple[int, int]
"""(epoch, index)."""
Batch = tuple[Tensor, dict[str, Tensor]]
"""Images (B, 3, H, W) and labels by task."""

_USES = {"order": 1, "augmentation": 2, "network": 3}


def stream(use: str, seed: int, *place: int) -> int:
    """A seed for one use at one place, unlike those of all other uses and places.

    Args:
        use: "order", "augmentation" or "network".
        seed: of the run.
        place: whole numbers from 0 up, as many at each use.

    Examples:
        >>> stream("order", 0, 7) == stream("order", 0, 7), stream("order", 0, 7) == stream("network", 0, 7)
        (True, False)
    """
    state = np.random.SeedSequence([_USES[use], seed, *place]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))  # torch takes 63 bits everywhere


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; see :func:`art_mtl.data.augment.augment`.

    Attributes:
        scales: by how much an image may be enlarged.
        crop: (height, width) of what is cut out of it.
        seed: of the run.
    """

    scales: tuple[float, ...]
    crop: tuple[int, int]
    seed: int

    def __call__(self, image: Tensor, labels: dict[str, Tensor], epoch: int, index: int) -> Batch:
        """One sample as that epoch sees it."""
        generator = torch.Generator().manual_seed(stream("augmentation", self.seed, epoch, index))
        return augment(image, labels, scales=self.scales, crop=self.crop, generator=generator)


@dataclass(frozen=True)
class _Fault:
    """What was wrong with a file, brought from a loading process to the one that trains."""

    error: Exception


class Samples(Dataset[Any]):
    """A data set whose samples are asked for by (epoch, index).

    Args:
        dataset: where they come from.
        augmentation: of training images; None leaves them as they are.
    """

    def __init__(self, dataset: MultiTaskDataset, augmentation: Augmentation | None = None) -> None:
        self.dataset, self.augmentation = dataset, augmentation

    def __getitem__(self, key: Key) -> Batch | _Fault:
        epoch, index = key
        try:
            image, labels = self.dataset[index]
            return (image, labels) if self.augmentation is None else self.augmentation(image, labels, epoch, index)
        except (ValueError, OSError, ImportError) as error:
            return _Fault(error)


class Order:
    """The batches of an epoch, for one of several processes.

    Args:
        count: images.
        batch_size: images a step, of all processes together.
        seed: of the order; None keeps them in order and gives the last, smaller batch too.
        rank: this process.
        size: processes; of each batch every ``size``-th image from the ``rank``-th on is this one's.

    Attributes:
        epoch: whose batches come next, from 0.
        start: how many of them to leave out, because they have been seen.

    Examples:
        >>> list(Order(count=5, batch_size=2, seed=None))
        [[(0, 0), (0, 1)], [(0, 2), (0, 3)], [(0, 4)]]
        >>> len(Order(count=5, batch_size=2, seed=0))
        2
    """

    def __init__(self, count: int, batch_size: int, seed: int | None, rank: int = 0, size: int = 1) -> None:
        self.count, self.batch_size, self.seed, self.rank, self.size = count, batch_size, seed, rank, size
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches an epoch, those left out included."""
        return self.count // self.batch_size if self.seed is not None else -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        if self.seed is None:
            order = list(range(self.count))
        else:
            generator = torch.Generator().manual_seed(stream("order", self.seed, self.epoch))
            order = torch.randperm(self.count, generator=generator).tolist()
        for number in range(self.start, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            part = batch[self.rank :: self.size]
            if part:
                yield [(self.epoch, index) for index in part]


def batches(samples: Samples, order: Order, workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of ``order``, loaded by ``workers`` processes (0: by this one).

    Raises:
        ValueError: A file is faulty; the message names it.
        OSError: A file cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        samples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    for batch in loader:
        if isinstance(batch, _Fault):
            raise batch.error
        yield batch


def mark(dataset: MultiTaskDataset, count: int) -> str:
    """A short mark of the first ``count`` samples, by which other data is noticed: the content of three of them."""
    import hashlib

    digest = hashlib.sha256(str(count).encode())
    for index in sorted({0, count // 2, count - 1}):
        image, labels = dataset.sample(index)
        for array in (image, *(labels[name] for name in sorted(labels))):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _collate(samples: Sequence[Batch | _Fault]) -> Batch | _Fault:
    for sample in samples:
        if isinstance(sample, _Fault):
            return sample
    batch: Batch = default_collate(list(samples))
    return batch[0], batch[1]
