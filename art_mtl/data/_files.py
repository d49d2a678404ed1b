"""What the data sets on disk share: numbered files in parallel folders, pictures, resizing, checks of values."""

from __future__ import annotations

import math
import tokenize
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from art_mtl.files import regular_file

__all__ = ["check_range", "check_size", "nearest", "numbers", "pillow", "read_array", "read_picture", "shrink", "some"]


def numbers(folder: Path, layout: Mapping[str, str]) -> list[int]:
    """The numbers by which parallel folders name their files, sorted.

    Args:
        folder: that holds the folders, ``{root}/{split}``.
        layout: the ending of the files by the name of their folder, such as ``{"image": ".png", "part_seg": ".tif"}``.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If the folders are empty or do not hold the same numbers.
    """
    found = {name: _numbers_of(folder / name, suffix, layout) for name, suffix in layout.items()}
    everything = set().union(*found.values())
    if not everything:
        name, suffix = next(iter(layout.items()))
        raise ValueError(f"Expected {suffix} files in {folder / name}. Found none.")
    for name, has in found.items():
        missing = sorted(everything - has)
        if missing:
            raise ValueError(
                f"Expected the same files in {', '.join(layout)} of {folder}. Found {len(missing)} of "
                f"{len(everything)} missing in {name}: {some([folder / name / f'{n}{layout[name]}' for n in missing])}."
            )
    return sorted(everything)


def _numbers_of(folder: Path, suffix: str, layout: Mapping[str, str]) -> set[int]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected the folder {folder} of the layout {{root}}/{{train,val}}/{{{','.join(layout)}}}. Found none."
        )
    files = sorted(folder.glob(f"*{suffix}"))
    for file in files:
        if not (file.stem.isascii() and file.stem.isdigit() and str(int(file.stem)) == file.stem):
            raise ValueError(f"Expected a file named by a number, such as 0{suffix}. Found {file}.")
    return {int(file.stem) for file in files}


def some(items: list[Any], count: int = 3) -> str:
    """The first few of a list, for a message.

    Examples:
        >>> some([1, 2, 3, 4, 5])
        '1, 2, 3, ...'
    """
    return ", ".join(str(item) for item in items[:count]) + (", ..." if len(items) > count else "")


def pillow() -> ModuleType:
    """The module ``PIL.Image``.

    Raises:
        ImportError: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("Reading pictures needs Pillow: pip install '.[data]'") from error
    return Image


def read_array(path: Path) -> Any:
    """The array of a ``.npy`` file. A file that promises more than it holds is refused before memory is taken for it.

    Raises:
        ValueError: It is no such file, damaged, or cut short.
        OSError: It cannot be read.
    """
    regular_file(path, "a .npy array")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            left = path.stat().st_size - file.tell()
        if math.prod(shape) * dtype.itemsize > left:
            raise ValueError(f"an array of shape {shape} and {dtype}, of which the file holds {left} bytes")
        return np.load(path, allow_pickle=False)
    except (SyntaxError, TypeError, OverflowError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise ValueError(f"a damaged header ({error})") from error


def read_picture(path: Path, file_format: str, modes: tuple[str, ...], expected: str) -> NDArray[Any]:
    """All pixels of a picture.

    Args:
        path: of the file.
        file_format: "PNG" or "TIFF"; no other is tried, whatever the file's name says.
        modes: of Pillow's, one of which it must have.
        expected: what the file should hold, for the message.

    Returns:
        (H, W) or (H, W, channels), of the dtype that Pillow reads.

    Raises:
        ValueError: If the file is missing, damaged, cut short, or of another format or mode.
    """
    image = pillow()
    try:
        regular_file(path, expected)
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(path, formats=(file_format,)) as picture:
                picture.load()
                mode, pixels = picture.mode, np.asarray(picture)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected {expected}. Found no such file.") from error
    except (image.DecompressionBombWarning, image.DecompressionBombError, MemoryError) as error:
        raise ValueError(f"{path}: expected {expected}. Found far too many pixels: {error}") from error
    except (OSError, SyntaxError, ValueError, UserWarning) as error:  # a warning where warnings are errors
        raise ValueError(
            f"{path}: expected {expected}. Found a file that cannot be read as {file_format}, perhaps one cut short "
            f"({error}). Unpack or copy it again."
        ) from error
    if mode not in modes:
        raise ValueError(f"{path}: expected {expected}. Found a {file_format} of mode {mode} ({pixels.dtype} values).")
    return pixels


def check_range(path: Path, array: NDArray[Any], low: float, high: float, expected: str) -> None:
    """Raise ValueError unless all values of a file lie in [low, high]."""
    least, greatest = float(array.min()), float(array.max())
    if least < low or greatest > high:
        raise ValueError(f"{path}: expected {expected}. Found values from {least:g} to {greatest:g}.")


def check_size(size: tuple[int, int] | None) -> None:
    """Raise ValueError unless ``size`` is (height, width) or None."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"Parameter `size` should be (height, width), each at least 1, or None. Found {size!r}.")


def nearest(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize the last two axes to (height, width) by taking the nearest pixel.

    Examples:
        >>> nearest(np.arange(8)[None], (1, 4))
        array([[1, 3, 5, 7]])
    """
    height, width = array.shape[-2:]
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    return np.ascontiguousarray(array[..., rows[:, None], columns])


def shrink(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize an image (C, H, W) in [0, 1] to (height, width), by antialiased bilinear interpolation."""
    tensor = torch.from_numpy(image)[None]
    resized = functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(resized[0].clamp(0, 1).numpy(), np.float32)
