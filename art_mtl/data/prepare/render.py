"""Rendered rooms in the layout of :class:`art_mtl.data.NYUv2`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from art_mtl.data._base import check_count
from art_mtl.data.nyuv2 import LAYOUT
from art_mtl.data.prepare.jobs import Job, Plan, Prepared, Progress, npy, run
from art_mtl.data.rooms import Rooms

__all__ = ["render_rooms"]

_METHOD = 1  # to be raised when the same settings give other files
_SPLITS = {"train": "train", "val": "test"}


def render_rooms(
    target: str | Path,
    *,
    size: tuple[int, int] = (288, 384),
    train: int = 795,
    val: int = 654,
    seed: int = 0,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Render :class:`art_mtl.data.Rooms` to files that :class:`art_mtl.data.NYUv2` reads.

    A stand-in for NYUv2 of the same size and classes, with exact labels, for trials and timing; no substitute for
    photographs. The samples of ``train`` are those of ``Rooms("train")``, the samples of ``val`` those of
    ``Rooms("test")``. A run that was killed goes on where it stopped.

    Args:
        target: folder to make.
        size: (height, width) of the pictures, each at least 16.
        train: number of training samples.
        val: number of validation samples.
        seed: which family of scenes.
        processes: how many at a time; None takes the number of CPUs this process may use.
        progress: called with the number of samples done and of all, after every one.

    Returns:
        What was made.

    Raises:
        ValueError: If ``target`` holds something else, or if a parameter is out of range.
        BlockingIOError: If another run is at work in ``target``.
        OSError: If the disk is full, or a process was killed.

    Examples:
        >>> import tempfile
        >>> from art_mtl.data import NYUv2
        >>> root = Path(tempfile.mkdtemp()) / "rooms"
        >>> render_rooms(root, size=(24, 32), train=1, val=1, processes=1).made
        8
        >>> tuple(NYUv2(root, "val")[0][0].shape)
        (3, 24, 32)
    """
    check_count("train", train)
    check_count("val", val)
    check_count("seed", seed, least=0)
    check_count("size", min(size), least=16)
    counts = {"train": train, "val": val}
    jobs = [
        Job(
            tuple(f"{split}/{folder}/{i}{ending}" for folder, ending in LAYOUT.items()),
            partial(_make, _SPLITS[split], size, seed, i),
        )
        for split, count in counts.items()
        for i in range(count)
    ]
    settings = {"size": list(size), "seed": seed, "method": _METHOD}
    plan = Plan("rooms", jobs, counts, source={"rooms": "rendered"}, settings=settings)
    return run(plan, target, processes=processes, progress=progress)


def _make(split: str, size: tuple[int, int], seed: int, index: int) -> list[bytes]:
    """The four files of a scene."""
    view = Rooms(split, index + 1, height=size[0], width=size[1], seed=seed).rendering(index)
    return [
        npy(view.image.astype(np.float32) / np.float32(255)),
        npy(view.segmentation.astype(np.int8)),
        npy(view.depth[..., None]),
        npy(view.normals),
    ]
