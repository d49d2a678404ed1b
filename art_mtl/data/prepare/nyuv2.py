"""From the official NYUv2 download to the layout of :class:`art_mtl.data.NYUv2`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._files import check_size, nearest, shrink
from art_mtl.data.nyuv2 import LAYOUT
from art_mtl.data.prepare.jobs import Job, Plan, Prepared, Progress, fingerprint, npy, run, text_job
from art_mtl.data.prepare.normals import NYUV2_CAMERA, normals_from_depth
from art_mtl.files import regular_file

__all__ = ["prepare_nyuv2"]

_LABELED, _SPLITS, _TO_40, _TO_13 = (
    "nyu_depth_v2_labeled.mat", "splits.mat", "classMapping40.mat", "class13Mapping.mat",
)  # fmt: skip
_SOURCES = {
    _LABELED: "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/nyu_depth_v2_labeled.mat (2.8 GB)",
    _SPLITS: "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat",
    _TO_40: "https://github.com/ankurhanda/nyuv2-meta-data",
    _TO_13: "https://github.com/ankurhanda/nyuv2-meta-data",
}
_ROWS, _COLUMNS, _NUM_FINE, _NUM_40, _NUM_13 = 480, 640, 894, 40, 13
# In the middle of the toolbox's region with depth, which is rows 45 to 471 and columns 41 to 601, counted from 1.
_TOP, _LEFT, _HEIGHT, _WIDTH = 47, 40, 420, 560
_RADIUS, _EDGE = 5, 0.05
_METHOD = 1  # to be raised when the same source and settings give other files
_FARTHEST = 100
_LARGEST_TABLE = 1 << 20
"""Bytes of a MATLAB file; what is in it is compressed at most a thousandfold."""

Table = NDArray[np.int8]


def prepare_nyuv2(
    source: str | Path,
    target: str | Path,
    *,
    size: tuple[int, int] = (288, 384),
    processes: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make the layout that :class:`art_mtl.data.NYUv2` reads from the official download.

    Of each frame of 480 rows and 640 columns, the rows 47 to 466 and columns 40 to 599 (counted from 0) are kept, the
    greatest 4:3 picture inside the region that the toolbox calls valid, so without the white border. Images are
    resized by antialiased bilinear interpolation, labels to the nearest pixel. The 894 classes become 13 by way of 40,
    counted from 0; what is unlabelled or outside the 13 is -1. Depths are the in-filled ones, ``depths``, in metres.
    Normals are fitted to the depth of the whole frame by :func:`art_mtl.data.prepare.normals_from_depth`; they are not
    those of the published data set, so that figures on them differ. Training frames are numbered in the order of
    ``trainNdxs``, validation frames in that of ``testNdxs``; ``samples.csv`` lists which is which. A run that was
    killed goes on where it stopped.

    Args:
        source: folder with ``nyu_depth_v2_labeled.mat`` (``images``, ``depths``, ``labels``), ``splits.mat``
            (``trainNdxs``, ``testNdxs``), ``classMapping40.mat`` (``mapClass``: 894 to 40 classes) and
            ``class13Mapping.mat`` (``classMapping13``, whose first field maps 40 to 13 classes).
        target: folder to make.
        size: (height, width) of what is made.
        processes: how many at a time; None takes the number of CPUs this process may use.
        progress: called with the number of samples done and of all, after every one.

    Returns:
        What was made.

    Raises:
        FileNotFoundError: If files are missing; all are named, with where they are published.
        ImportError: If h5py is not installed.
        ValueError: If a file is damaged or of another structure, if ``target`` holds something else, or if a parameter
            is out of range.
        BlockingIOError: If another run is at work in ``target``.
        OSError: If the disk is full, or a process was killed.

    Examples:
        >>> prepare_nyuv2("Downloads/nyuv2", "nyuv2")  # doctest: +SKIP
    """
    check_size(size)
    source = Path(source)
    _check_sources(source)
    frames = _check_labeled(source / _LABELED)
    splits = _read_splits(source / _SPLITS, frames)
    table = _class_table(source / _TO_40, source / _TO_13)
    plan = Plan(
        data="nyuv2",
        jobs=[_listing(splits), *_jobs(source / _LABELED, splits, table, size)],
        counts={split: len(numbers) for split, numbers in splits.items()},
        source={name: fingerprint([source / name]) for name in _SOURCES},
        settings={
            "size": list(size),
            "crop": [_TOP, _LEFT, _HEIGHT, _WIDTH],
            "normals": {"radius": _RADIUS, "edge": _EDGE},
            "method": _METHOD,
        },
    )
    return run(plan, target, processes=processes, progress=progress)


def _jobs(path: Path, splits: Mapping[str, list[int]], table: Table, size: tuple[int, int]) -> list[Job]:
    return [
        Job(
            tuple(f"{split}/{folder}/{i}{ending}" for folder, ending in LAYOUT.items()),
            partial(_make, path.resolve(), number, table, size),
        )
        for split, numbers in splits.items()
        for i, number in enumerate(numbers)
    ]


def _listing(splits: Mapping[str, list[int]]) -> Job:
    """``samples.csv``: which frame of the official file each sample is, counted from 1 as there."""
    lines = ["split,sample,frame"]
    lines += [f"{split},{i},{number}" for split, numbers in splits.items() for i, number in enumerate(numbers)]
    return text_job("samples.csv", lines)


def _make(path: Path, number: int, table: Table, size: tuple[int, int]) -> list[bytes]:
    """The four files of a frame, which is counted from 1."""
    with _open(path) as file:
        # MATLAB stores the last axis first: channels, columns, rows.
        pixels = np.asarray(file["images"][number - 1]).transpose(2, 1, 0)
        fine = np.asarray(file["labels"][number - 1]).T
        depth = np.asarray(file["depths"][number - 1]).T.astype(np.float32)
    where = f"{path}: frame {number}"
    if not np.isfinite(depth).all() or depth.min() < 0 or depth.max() > _FARTHEST:
        raise ValueError(
            f"{where}: expected depths in metres, from 0 to 10. Found values from {depth.min():g} to {depth.max():g}."
        )
    if fine.max() > _NUM_FINE:
        raise ValueError(f"{where}: expected labels from 0 to {_NUM_FINE}. Found {fine.max()}.")
    normals = normals_from_depth(depth, NYUV2_CAMERA, radius=_RADIUS, edge=_EDGE)
    rows, columns = slice(_TOP, _TOP + _HEIGHT), slice(_LEFT, _LEFT + _WIDTH)
    image = np.ascontiguousarray(pixels[rows, columns].transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    return [
        npy(shrink(image, size).transpose(1, 2, 0)),
        npy(nearest(table[fine[rows, columns]], size)),
        npy(nearest(depth[rows, columns], size)[..., None]),
        npy(nearest(normals[rows, columns].transpose(2, 0, 1), size).transpose(1, 2, 0)),
    ]


def _check_sources(source: Path) -> None:
    missing = [name for name in _SOURCES if not (source / name).is_file()]
    if missing:
        where = "; ".join(f"{name}, from {_SOURCES[name]}" for name in missing)
        raise FileNotFoundError(
            f"Expected the official NYUv2 files in {source}. Found {len(missing)} of {len(_SOURCES)} missing: {where}."
        )


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError("Reading the official NYUv2 file needs h5py: pip install '.[data]'") from error
    module: ModuleType = h5py
    return module


def _open(path: Path) -> Any:
    """The HDF5 file."""
    library = _h5py()
    regular_file(path, "the HDF5 file that is published under this name")
    try:
        return library.File(path, "r")
    except OSError as error:
        raise ValueError(
            f"{path}: expected the HDF5 file that is published under this name. Found one that cannot be read, perhaps "
            f"a download cut short ({error}). Download it again."
        ) from error


def _check_labeled(path: Path) -> int:
    """How many frames the file has, once its structure is right."""
    shapes = {"images": (3, _COLUMNS, _ROWS), "depths": (_COLUMNS, _ROWS), "labels": (_COLUMNS, _ROWS)}
    with _open(path) as file:
        for name, shape in shapes.items():
            if name not in file or not hasattr(file[name], "shape"):
                raise ValueError(
                    f"{path}: expected the array {name!r}, as in the labelled data set of NYUv2. Found only "
                    f"{', '.join(sorted(file)) or 'nothing'}."
                )
            found = tuple(file[name].shape)
            if found[1:] != shape or found[0] != file["images"].shape[0]:
                expected = (file["images"].shape[0], *shape)
                raise ValueError(f"{path}: expected {name!r} of shape {expected}. Found {found}.")
        return int(file["images"].shape[0])


def _read_splits(path: Path, frames: int) -> dict[str, list[int]]:
    """Numbers of the frames of each split, counted from 1."""
    content = _load(path)
    splits = {}
    for split, name in (("train", "trainNdxs"), ("val", "testNdxs")):
        splits[split] = _integers(path, content, name, 1, frames).tolist()
    together = sorted(number for numbers in splits.values() for number in numbers)
    if len(together) != frames or together != list(range(1, frames + 1)):
        raise ValueError(
            f"{path}: expected trainNdxs and testNdxs to share out the {frames} frames of {_LABELED}. Found "
            f"{len(splits['train'])} and {len(splits['val'])}, {len(set(together))} of them different. Take both files "
            "from the official pages."
        )
    return splits


def _class_table(to_40: Path, to_13: Path) -> Table:
    """By class of the official file (0 is unlabelled), the class among 13 counted from 0, or -1."""
    coarse = _integers(to_40, _load(to_40), "mapClass", 0, _NUM_40, _NUM_FINE)
    content = _load(to_13)
    mapping = content.get("classMapping13")
    if isinstance(mapping, np.ndarray) and mapping.dtype.names and mapping.size == 1:
        content = {"classMapping13": mapping.flat[0][0]}  # a struct: the map, then the names
    among_13 = _integers(to_13, content, "classMapping13", 0, _NUM_13, _NUM_40)
    through = np.concatenate([[0], among_13])[np.concatenate([[0], coarse])]
    return np.asarray(through - 1, np.int8)


def _load(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of version 5."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with regular_file(path, "a MATLAB file of version 5", _LARGEST_TABLE).open("rb") as file:
        head = file.read(16)
    try:
        if not head.startswith(b"MATLAB 5.0 MAT"):
            raise ValueError("it begins otherwise")
        return dict(loadmat(path))
    except (MatReadError, ValueError, TypeError, OSError, EOFError, KeyError, zlib.error) as error:
        raise ValueError(
            f"{path}: expected a MATLAB file of version 5. Found one that cannot be read, perhaps a web page or a "
            f"download cut short ({error}). Download it again, from {_SOURCES[path.name]}."
        ) from error


def _integers(
    path: Path, content: Mapping[str, Any], name: str, least: int, greatest: int, count: int | None = None
) -> NDArray[np.int64]:
    """A variable that is a list of whole numbers in a range."""
    if name not in content:
        found = ", ".join(sorted(key for key in content if not key.startswith("__"))) or "nothing"
        raise ValueError(f"{path}: expected the variable {name!r}. Found only {found}.")
    array = np.asarray(content[name])
    expected = f"{'' if count is None else f'{count} '}whole numbers from {least} to {greatest} in {name!r}"
    if array.dtype.kind not in "iuf" or array.size == 0 or (count is not None and array.size != count):
        raise ValueError(f"{path}: expected {expected}. Found {array.dtype} of shape {array.shape}.")
    flat = array.ravel().astype(np.float64)
    wrong = ~((flat >= least) & (flat <= greatest) & (flat == np.floor(flat)))
    if wrong.any():
        raise ValueError(f"{path}: expected {expected}. Found {flat[wrong][0]:g}.")
    return flat.astype(np.int64)
