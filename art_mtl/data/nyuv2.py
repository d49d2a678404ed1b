"""NYUv2 as multi-task work stores it: one ``.npy`` file per image and task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from art_mtl.data._base import MultiTaskDataset, Sample, check_split

__all__ = ["NYUv2"]

_SPLITS = ("train", "val")
_FOLDERS = ("image", "label", "depth", "normal")
_CHANNELS = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
_NUM_CLASSES = 13
_SLACK = 1e-4  # how far rounding on disk may carry an image out of [0, 1]


class NYUv2(MultiTaskDataset):
    """NYUv2 in the layout ``{root}/{train,val}/{image,label,depth,normal}/{i}.npy``. Tasks:

    - ``segmentation``: int64 (H, W), 13 classes, -1 where unlabelled.
    - ``depth``: float32 (1, H, W), metres, 0 where not measured.
    - ``normals``: float32 (3, H, W), unit vectors, all zero where not measured.

    Images are float32 (3, H, W) in [-1, 1], which is twice what lies on disk, less one. On disk an image is (H, W, 3)
    in [0, 1], a label (H, W), a depth (H, W, 1) or (H, W), a normal (H, W, 3), of any numeric dtype. The files are
    checked as they are read; files that hold Python objects are refused. Samples are in the order of their numbers.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: "train" or "val".
        size: (height, width) to resize to: images by antialiased bilinear interpolation, labels to the nearest pixel.
            None keeps the size on disk.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is empty, if the folders do not hold the same numbers, or if a parameter is out of
            range.

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

    def __init__(self, root: str | Path, split: str = "train", size: tuple[int, int] | None = None) -> None:
        check_split(split, _SPLITS)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"Parameter `size` should be (height, width), each at least 1, or None. Found {size!r}.")
        self.root, self.split, self.size = Path(root), split, size
        self.numbers = _numbers(self.root / split)
        self._shape = _read(self._path("image", self.numbers[0])).shape[:2]

    def __len__(self) -> int:
        return len(self.numbers)

    def sample(self, index: int) -> Sample:
        """One image in [-1, 1] and the labels named in the class's description.

        Raises:
            ValueError: If a file is damaged, or holds a wrong shape or a value that cannot be; the message names it.
        """
        paths = {folder: self._path(folder, self.numbers[index]) for folder in _FOLDERS}
        image = _image(paths["image"], self._shape)
        label = _label(paths["label"], self._shape)
        depth = _depth(paths["depth"], self._shape)
        normal = _normal(paths["normal"], self._shape)
        if self.size is not None:
            tensor = torch.from_numpy(image)[None]
            resized = functional.interpolate(tensor, self.size, mode="bilinear", align_corners=False, antialias=True)
            image = resized[0].clamp(0, 1).numpy()
            label, depth, normal = (_nearest(array, self.size) for array in (label, depth, normal))
        return 2 * image - 1, {"segmentation": label, "depth": depth, "normals": normal}

    def _path(self, folder: str, number: int) -> Path:
        return self.root / self.split / folder / f"{number}.npy"


def _numbers(folder: Path) -> list[int]:
    """The numbers that all four folders hold, sorted."""
    found: dict[str, set[int]] = {}
    for name in _FOLDERS:
        if not (folder / name).is_dir():
            raise FileNotFoundError(
                f"Expected the folder {folder / name} of the layout {{root}}/{{train,val}}/{{{','.join(_FOLDERS)}}}. "
                "Found none."
            )
        files = sorted((folder / name).glob("*.npy"))
        for file in files:
            if not (file.stem.isascii() and file.stem.isdigit() and str(int(file.stem)) == file.stem):
                raise ValueError(f"Expected a file named by a number, such as 0.npy. Found {file}.")
        found[name] = {int(file.stem) for file in files}
    everything = set().union(*found.values())
    if not everything:
        raise ValueError(f"Expected .npy files in {folder / 'image'}. Found none.")
    for name, numbers in found.items():
        missing = sorted(everything - numbers)
        if missing:
            some = ", ".join(str(folder / name / f"{number}.npy") for number in missing[:3])
            raise ValueError(
                f"Expected the same files in {', '.join(_FOLDERS)} of {folder}. Found {len(missing)} of "
                f"{len(everything)} missing in {name}: {some}{', ...' if len(missing) > 3 else ''}."
            )
    return sorted(everything)


def _read(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a readable .npy array. Found: {error}") from error
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


def _check_range(path: Path, array: NDArray[Any], low: float, high: float, what: str) -> None:
    least, greatest = float(array.min()), float(array.max())
    if least < low or greatest > high:
        raise ValueError(f"{path}: expected {what}. Found values from {least:g} to {greatest:g}.")


def _image(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "image")
    _check_range(path, array, -_SLACK, 1 + _SLACK, "an image in [0, 1]")
    return np.ascontiguousarray(np.clip(array.astype(np.float32), 0, 1).transpose(2, 0, 1))


def _label(path: Path, size: tuple[int, ...]) -> NDArray[np.int64]:
    array = _checked(path, size, "label")
    _check_range(path, array, -1, _NUM_CLASSES - 1, f"labels from -1 to {_NUM_CLASSES - 1}")
    whole = array.astype(np.int64)
    if not np.array_equal(whole, array):
        raise ValueError(f"{path}: expected whole numbers as labels. Found {float(array[whole != array][0]):g}.")
    return whole


def _depth(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "depth")
    _check_range(path, array, 0, np.inf, "depths in metres, 0 where not measured")
    return np.ascontiguousarray(array.astype(np.float32).transpose(2, 0, 1))


def _normal(path: Path, size: tuple[int, ...]) -> NDArray[np.float32]:
    array = _checked(path, size, "normal")
    _check_range(path, array, -1.01, 1.01, "components of unit vectors, in [-1, 1]")
    return np.ascontiguousarray(array.astype(np.float32).transpose(2, 0, 1))


def _nearest(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize the last two axes by taking the nearest pixel."""
    height, width = array.shape[-2:]
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    return np.ascontiguousarray(array[..., rows[:, None], columns])
