"""Two overlapping handwritten digits and their sum: MultiDigits, and a variant with a multi-label task."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._base import MultiTaskDataset, Sample, check_count, check_split

__all__ = ["MultiDigits", "MultiLabelDigits", "source_digits"]

_SPLITS = ("train", "test")
_SIZES = {"train": 20000, "test": 1000}
_SIDE = 28
_EVERY = 5  # every fifth source digit is kept for testing


@lru_cache(maxsize=1)
def _bundled() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("MultiDigits needs scikit-learn's handwriting: pip install '.[data]'") from error
    bundle = load_digits()
    return (bundle.images / 16).astype(np.float32), bundle.target.astype(np.int64)


def source_digits(split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The handwriting that the samples of one split are made of.

    scikit-learn bundles 1797 digits (the test set of UCI's "Optical Recognition of Handwritten Digits"). Counting
    from 0, those whose place is a multiple of 5 are for testing, all others for training.

    Args:
        split: "train" or "test".

    Returns:
        Digits (N, 8, 8) in [0, 1] and their values (N,).

    Raises:
        ValueError: If there is no such split.
        ImportError: If scikit-learn is not installed.
    """
    check_split(split, _SPLITS)
    images, values = _bundled()
    chosen = (np.arange(len(values)) % _EVERY == 0) == (split == "test")
    return images[chosen], values[chosen]


def _enlarge(
    digit: NDArray[np.float32], x: float, y: float, scale: float, turn: float, slant: float
) -> NDArray[np.float32]:
    """Draw an 8x8 digit about (x, y) on the canvas, enlarged, turned and slanted, by bilinear interpolation."""
    axis = np.arange(_SIDE, dtype=np.float32) + 0.5
    dx, dy = (axis - x)[None, :] / scale, (axis - y)[:, None] / scale
    cosine, sine = np.cos(turn), np.sin(turn)
    row = cosine * dy - sine * dx + 4.5
    column = cosine * dx + sine * dy + slant * (cosine * dy - sine * dx) + 4.5
    padded = np.zeros((11, 11), np.float32)
    padded[1:9, 1:9] = digit
    row, column = np.clip(row, 0, 9), np.clip(column, 0, 9)
    r, c = row.astype(np.int64), column.astype(np.int64)
    fr, fc = row - r, column - c
    top = padded[r, c] * (1 - fc) + padded[r, c + 1] * fc
    bottom = padded[r + 1, c] * (1 - fc) + padded[r + 1, c + 1] * fc
    return np.asarray(top * (1 - fr) + bottom * fr, np.float32)


class MultiDigits(MultiTaskDataset):
    """Two handwritten digits that overlap on one canvas. Tasks:

    - ``left``: int64 (), the value of the left digit.
    - ``right``: int64 (), the value of the right digit.
    - ``sum``: float32 (1,), their sum, 0 to 18.

    Images are float32 (1, 28, 28) in [0, 1], 8 bits deep. Digits differ in size, tilt, slant and brightness, and the
    sensor adds noise. Sample ``index`` depends on (seed, split, index) alone, and no digit of the source occurs in both
    splits (:func:`source_digits`).

    Args:
        split: "train" or "test".
        size: number of samples; by default 20000 for training and 1000 for testing.
        seed: which family of samples.

    Raises:
        ValueError: If a parameter is out of range.
        ImportError: If scikit-learn is not installed.

    Examples:
        >>> image, labels = MultiDigits(split="test", size=10)[3]
        >>> tuple(image.shape), bool(labels["sum"] == labels["left"] + labels["right"])
        ((1, 28, 28), True)
    """

    def __init__(self, split: str = "train", size: int | None = None, seed: int = 0) -> None:
        check_split(split, _SPLITS)
        count = _SIZES[split] if size is None else size
        check_count("size", count)
        check_count("seed", seed, least=0)
        self.split, self.size, self.seed = split, count, seed
        self._digits, self._values = source_digits(split)

    def __len__(self) -> int:
        return self.size

    def sample(self, index: int) -> Sample:
        """One canvas in [0, 1] and the labels named in the class's description."""
        rng = np.random.default_rng([self.seed, _SPLITS.index(self.split), index])
        pair = rng.integers(len(self._digits), size=2)
        canvas = np.zeros((_SIDE, _SIDE), np.float32)
        for which, middle in zip(pair, (10.3, 17.7), strict=True):
            x, y = middle + rng.uniform(-1.6, 1.6), 14 + rng.uniform(-2.5, 2.5)
            scale, turn, slant = rng.uniform(2.0, 2.7), rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)
            ink = _enlarge(self._digits[which], x, y, scale, turn, slant)
            canvas = np.maximum(canvas, np.clip(1.35 * ink - 0.15, 0, 1) * rng.uniform(0.65, 1.0))
        canvas = canvas + np.float32(rng.uniform(0.04, 0.12)) * rng.standard_normal(canvas.shape, np.float32)
        image = (np.round(255 * np.clip(canvas, 0, 1)) / 255).astype(np.float32)
        left, right = self._values[pair]
        return image[None], {
            "left": np.asarray(left),
            "right": np.asarray(right),
            "sum": np.array([left + right], np.float32),
        }


class MultiLabelDigits(MultiDigits):
    """The canvases of :class:`MultiDigits` with a multi-label task in place of the right digit. Tasks:

    - ``left``: int64 (), the value of the left digit.
    - ``present``: int64 (10,), 1 for each of the ten digits that is on the canvas (one of them, if both are the same).
    - ``sum``: float32 (1,), the sum of the two, 0 to 18.

    Args:
        split: "train" or "test".
        size: number of samples; by default 20000 for training and 1000 for testing.
        seed: which family of samples.

    Raises:
        ValueError: If a parameter is out of range.
        ImportError: If scikit-learn is not installed.

    Examples:
        >>> image, labels = MultiLabelDigits(split="test", size=10)[3]
        >>> int(labels["left"]), labels["present"].tolist(), labels["sum"].tolist()
        (9, [0, 0, 1, 0, 0, 0, 0, 0, 0, 1], [11.0])
    """

    def sample(self, index: int) -> Sample:
        """One canvas in [0, 1] and the labels named in the class's description."""
        image, labels = super().sample(index)
        present = np.zeros(10, np.int64)
        present[[int(labels["left"]), int(labels["right"])]] = 1
        return image, {"left": labels["left"], "present": present, "sum": labels["sum"]}
