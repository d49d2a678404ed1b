"""Cityscapes as multi-task work stores it: small pictures and labels in parallel, numbered folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._base import Sample
from art_mtl.data._files import check_range, read_picture
from art_mtl.data._folder import FolderDataset

__all__ = ["Cityscapes"]

LAYOUT = {"image": ".png", "depth": ".png", "seg": ".png", "part_seg": ".tif"}
"""Folders of a split, and how the names of their files end."""

TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelId of each of the 19 classes that count."""

_GREATEST_ID = 33
_GREATEST_UID = 9_999_999
_PEOPLE, _VEHICLES = (24, 25), (26, 27, 28)
_UNIT = 1024  # on disk, one pixel of disparity: 256 at a width of 2048, and four of those pixels make one of 512


def _class_table() -> NDArray[np.int64]:
    """Class by labelId."""
    table = np.full(_GREATEST_ID + 1, -1, np.int64)
    table[list(TRAIN_IDS)] = np.arange(len(TRAIN_IDS))
    return table


def _part_table() -> NDArray[np.int64]:
    """Part class by 100 sid + pid."""
    table = np.zeros(100 * 100, np.int64)
    for sids, pids, first in ((_PEOPLE, 4, 1), (_VEHICLES, 5, 5)):
        for sid in sids:
            table[100 * sid + 1 : 100 * sid + 1 + pids] = np.arange(first, first + pids)
    return table


_CLASS, _PART = _class_table(), _part_table()


class Cityscapes(FolderDataset):
    """Cityscapes in the layout ``{root}/{train,val}/{image,depth,seg,part_seg}/{i}.{png,png,png,tif}``. Tasks:

    - ``segmentation``: int64 (H, W), the 19 classes that count (road 0 to bicycle 18), -1 elsewhere.
    - ``parts``: int64 (H, W), 0 where no part is labelled, which is a class like the others; of people 1 torso, 2
      head, 3 arms, 4 legs; of cars, trucks and buses 5 windows, 6 wheels, 7 lights, 8 licence plate, 9 chassis.
    - ``disparity``: float32 (1, H, W), in pixels of a picture 512 wide, -1 where not measured.

    Images are float32 (3, H, W) in [-1, 1]. On disk an image is an 8-bit RGB PNG; ``depth`` holds the disparities of
    the official files, 16-bit PNGs: 0 where not measured, else d becomes (d - 1) / 1024; ``seg`` holds labelIds, 0 to
    33, in 8-bit PNGs; ``part_seg`` holds the uids of Cityscapes Panoptic Parts (Meletis et al. 2020, arXiv 2004.07944)
    in 32-bit TIFFs. The files are checked as they are read. Samples are in the order of their numbers. ``art-mtl data
    prepare cityscapes`` makes the layout from the official downloads; foggy and rainy pictures have the same layout.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: "train" or "val".
        size: (height, width) to resize to: images by antialiased bilinear interpolation, labels to the nearest pixel.
            The unit of the disparity stays. None keeps the size on disk.

    Raises:
        FileNotFoundError: If a folder is missing.
        ImportError: If Pillow is not installed.
        ValueError: If a folder is empty or not finished, if the folders do not hold the same numbers, or if a parameter
            is out of range.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> road, head = np.full((4, 8), 7, np.uint8), np.full((4, 8), 24_001_02, np.int32)
        >>> disparity = np.full((4, 8), 2049, np.uint16)
        >>> files = {"image/0.png": np.zeros((4, 8, 3), np.uint8), "depth/0.png": disparity, "seg/0.png": road}
        >>> for name, pixels in (files | {"part_seg/0.tif": head}).items():
        ...     (root / "val" / name).parent.mkdir(parents=True)
        ...     Image.fromarray(pixels).save(root / "val" / name)
        >>> image, labels = Cityscapes(root, split="val")[0]
        >>> tuple(image.shape), {name: label.flatten()[0].item() for name, label in labels.items()}
        ((3, 4, 8), {'segmentation': 0, 'parts': 2, 'disparity': 2.0})
    """

    layout = LAYOUT

    @staticmethod
    def _size_of(path: Path) -> tuple[int, ...]:
        return read_image(path).shape[:2]

    def _load(self, paths: Mapping[str, Path]) -> Sample:
        pixels, raw = read_image(paths["image"]), read_disparity(paths["depth"])
        ids, uids = read_ids(paths["seg"]), read_uids(paths["part_seg"])
        arrays: tuple[NDArray[Any], ...] = (pixels, raw, ids, uids)
        for path, array in zip(paths.values(), arrays, strict=True):
            check_shape(path, array, self._shape)
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
        return image, {"segmentation": _CLASS[ids], "parts": part_classes(uids), "disparity": disparity(raw)[None]}


def part_classes(uids: NDArray[Any]) -> NDArray[np.int64]:
    """The part class of each uid of Cityscapes Panoptic Parts, 0 to 9.

    A uid of six or seven digits is the semantic class (sid), three digits for the instance, two for the part (pid).

    Examples:
        >>> part_classes(np.array([24_001_01, 28_017_05, 24_001_05, 26_003, 7]))  # (person, 5) is in the files
        array([1, 9, 0, 0, 0])
    """
    classes: NDArray[np.int64] = _PART[uids // 100_000 * 100 + uids % 100]  # shorter uids give sid 0, without parts
    return classes


def disparity(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Disparities in pixels of a picture 512 wide, -1 where not measured, from those on disk.

    Examples:
        >>> disparity(np.array([0, 1, 1025], np.uint16))
        array([-1.,  0.,  1.], dtype=float32)
    """
    measured: NDArray[np.float32] = (raw.astype(np.float32) - 1) / np.float32(_UNIT)
    return np.where(raw == 0, np.float32(-1), measured)


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) of an 8-bit RGB PNG; an alpha channel is dropped where it hides nothing.

    Raises:
        ValueError: If the file holds anything else.
    """
    expected = "an 8-bit RGB PNG"
    pixels: NDArray[np.uint8] = read_picture(path, "PNG", ("RGB", "RGBA"), expected)
    if pixels.shape[2] == 4 and np.min(pixels[..., 3]) < 255:
        raise ValueError(f"{path}: expected {expected}. Found transparent pixels; save it without an alpha channel.")
    return pixels[..., :3]


def read_disparity(path: Path) -> NDArray[np.uint16]:
    """(H, W) of a 16-bit PNG.

    Raises:
        ValueError: If the file holds anything else.
    """
    expected = "disparities in a 16-bit grey PNG, as in disparity_trainvaltest.zip"
    # Whichever version of Pillow reads it; an 8-bit PNG is L.
    return read_picture(path, "PNG", ("I;16", "I"), expected).astype(np.uint16)


def read_ids(path: Path) -> NDArray[np.uint8]:
    """(H, W) of labelIds, 0 to 33.

    Raises:
        ValueError: If the file holds anything else.
    """
    expected = f"labelIds from 0 to {_GREATEST_ID} in an 8-bit grey PNG, as in the files *_gtFine_labelIds.png"
    ids: NDArray[np.uint8] = read_picture(path, "PNG", ("L",), expected)
    check_range(path, ids, 0, _GREATEST_ID, expected)
    return ids


def read_uids(path: Path) -> NDArray[np.int32]:
    """(H, W) of panoptic-parts uids.

    Raises:
        ValueError: If the file holds anything else, or a number that the format does not have: below 0, of three digits
            or of more than seven.
    """
    expected = "uids in a 32-bit TIFF, as in gtFinePanopticParts_trainval.zip"
    uids: NDArray[np.int32] = read_picture(path, "TIFF", ("I",), expected)
    wrong = (uids < 0) | ((uids >= 100) & (uids < 1000)) | (uids > _GREATEST_UID)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"{path}: expected {expected}, each of one or two digits (class), four or five (class, instance), six or "
            f"seven (class, instance, part). Found {int(uids[row, column])} at ({row}, {column})."
        )
    return uids


def check_shape(path: Path, array: NDArray[Any], size: tuple[int, ...]) -> None:
    """Raise ValueError unless a file's picture is of this height and width."""
    if array.shape[:2] != tuple(size):
        raise ValueError(f"{path}: expected {size[0]} x {size[1]} pixels. Found {array.shape[0]} x {array.shape[1]}.")
