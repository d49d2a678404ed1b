"""NYUv2 as multi-task work stores it: one ``.npy`` file per image and task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._base import Sample
from art_mtl.data._files import check_range, read_array
from art_mtl.data._folder import FolderDataset

__all__ = ["NYUv2"]

LAYOUT = {"image": ".npy", "label": ".npy", "depth": ".npy", "normal": ".npy"}
"""Folders of a split, and how the names of their files end."""

_CHANNELS = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
_NUM_CLASSES = 13
_SLACK = 1e-4  # how far rounding on disk may carry an image out of [0, 1]
_FARTHEST = 100  # metres; the sensor ends at 10, and its least depth, half a metre, is 500 in millimetres


class NYUv2(FolderDataset):
    """NYUv2 in the layout ``{root}/{train,val}/{image,label,depth,normal}/{i}.npy``. Tasks:

    - ``segmentation``: int64 (H, W), 13 classes, -1 where unlabelled.
    - ``depth``: float32 (1, H, W), metres, 0 where not measured.
    - ``normals``: float32 (3, H, W), unit vectors, all zero where not measured.

    Images are float32 (3, H, W) in [-1, 1], which is twice what lies on disk, less one. On disk an image is (H, W, 3)
    in [0, 1], or uint8 in 0..255; a label (H, W), a depth (H, W, 1) or (H, W), a normal (H, W, 3), each of any numeric
    dtype. The files are checked as they are read; files that hold Python objects are refused, and so are depths beyond
    100 m, which are in another unit. Samples are in the order of their numbers. ``art-mtl data prepare nyuv2`` makes
    the layout from the official download.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: "train" or "val".
        size: (height, width) to resize to: images by antialiased bilinear interpolation, labels to the nearest pixel.
            None keeps the size on disk.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is empty or not finished, if the folders do not hold the same numbers, or if a parameter
            is out of range.

    Examples:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder, channels in (("image", (3,)), ("label", ()), ("depth", (1,)), ("normal", (3,))):
        ...     (root / "val" / folder).mkdir(parents=True)
        ...     np.save(root / "val" / folder / "0.npy", np.zeros((6, 8, *channels)))
        >>> image, labels = NYUv2(root, split="val")[0]
        >>> tuple(image.shape), tuple(labels["depth"].shape)
        ((3, 6, 8), (1, 6, 8))
    """

    layout = LAYOUT

    @staticmethod
    def _size_of(path: Path) -> tuple[int, ...]:
        return _read(path).shape[:2]

    def _load(self, paths: Mapping[str, Path]) -> Sample:
        return _image(paths["image"], self._shape), {
            "segmentation": _label(paths["label"], self._shape),
            "depth": _depth(paths["depth"], self._shape),
            "normals": _normal(paths["normal"], self._shape),
        }


def _read(path: Path) -> NDArray[Any]:
    try:
        array = read_array(path)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path}: expected a readable .npy array. Found: {error}. If the file was cut short, copy or prepare it "
            "again."
        ) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{path}: expected an array of numbers. Found {kind}.")
    return array


def _checked(path: Path, size: tuple[int, ...], folder: str) -> NDArray[Any]:
    """The array of one file, once its shape is right and every value is finite."""
    array = _read(path)
    expected = (*size, *_CHANNELS[folder])
    if folder == "depth" and array.shape == size:
        array = array[..., None]
    if array.shape != expected:
        raise ValueError(f"{path}: expected shape {expected}. Found {array.shape}.")
    bad = np.argwhere(~np.isfinite(array)) if array.dtype.kind == "f" else np.empty((0, array.ndim))
    if len(bad):
        raise ValueError(
            f"{path}: expected finite values. Found {len(bad)} that are not, the first at {tuple(map(int, bad[0]))}."
        )
    return array


def _image(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "image")
    if array.dtype == np.uint8:
        scaled = array.astype(np.float32) / np.float32(255)
    else:
        expected = "an image in [0, 1], or of dtype uint8 in 0..255"
        if array.max() > 2 and array.min() >= 0 and array.max() <= 255:
            raise ValueError(
                f"{path}: expected {expected}. Found {array.dtype} values up to {float(array.max()):g}: divide the "
                "images by 255, or save them as uint8."
            )
        check_range(path, array, -_SLACK, 1 + _SLACK, expected)
        scaled = np.clip(array.astype(np.float32), 0, 1)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _label(path: Path, size: tuple[int, ...]) -> NDArray[np.int64]:
    array = _checked(path, size, "label")
    expected = f"labels from -1 to {_NUM_CLASSES - 1}"
    check_range(path, array, -1, _NUM_CLASSES - 1, expected)
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        raise ValueError(f"{path}: expected whole numbers as labels. Found {float(array[whole != array][0]):g}.")
    return whole


def _depth(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "depth")
    expected = "depths in metres, 0 where not measured"
    check_range(path, array, 0, np.inf, expected)
    greatest = float(array.max())
    if greatest > _FARTHEST:
        raise ValueError(
            f"{path}: expected {expected}; the sensor of NYUv2 ends at 10 m. Found values up to {greatest:g}, which "
            "look like millimetres or another unit: convert the depth files to metres (millimetres divided by 1000)."
        )
    return np.ascontiguousarray(array.astype(np.float32).transpose(2, 0, 1))


def _normal(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "normal")
    check_range(path, array, -1.01, 1.01, "components of unit vectors, in [-1, 1]")
    return np.ascontiguousarray(array.astype(np.float32).transpose(2, 0, 1))
