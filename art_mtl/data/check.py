"""Verifying a folder of data: is every file there and sound, and what does it hold?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from art_mtl.data._base import MultiTaskDataset
from art_mtl.data.paper import PAPER_DATA, PaperData
from art_mtl.data.prepare.jobs import stray_files
from art_mtl.data.prepare.manifest import Manifest, read_manifest
from art_mtl.tasks import Task
from art_mtl.tasks.normals import LENGTH_SLACK

__all__ = ["Check", "SplitCheck", "TaskCheck", "check", "recognise"]

_LAYOUT_OF = {"nyuv2": "nyuv2", "cityscapes": "cityscapes", "rooms": "nyuv2"}  # by the manifest's name
_TELLTALE = {"nyuv2": "normal", "cityscapes": "part_seg"}  # a folder that only this layout has
_MOST_FAULTS = 20


@dataclass
class TaskCheck:
    """What the labels of one task hold, over one split.

    Attributes:
        task: that the labels are of, one whose target is a :class:`art_mtl.tasks.DenseTarget`.
        vectors: whether labels have several channels, as normals do; then values are lengths.
        pixels: of all labels.
        valid: those that are labelled or measured.
        least: smallest valid value.
        greatest: greatest valid value.
        classes: (C,) pixels of each class; empty for other tasks.
        off: vectors whose length differs from 1 by more than 0.05.
    """

    task: Task
    vectors: bool = False
    pixels: int = 0
    valid: int = 0
    least: float = float("inf")
    greatest: float = float("-inf")
    classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    off: int = 0

    @property
    def invalid_share(self) -> float:
        """Share of the pixels that are not labelled or measured, in [0, 1]."""
        return 1 - self.valid / self.pixels if self.pixels else 0.0

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """(C,) of each class among the labelled pixels."""
        return np.asarray(self.classes / max(1, self.valid), np.float64)

    def add(self, label: Tensor, num_classes: int) -> None:
        """Count one label, in the layout of the task.

        Raises:
            ValueError: If it is none.
        """
        target: Any = self.task.targets(label[None])
        channels = target.value.view(-1, *label.shape[-2:])  # classes have one
        self.vectors = len(channels) > 1
        values = (channels.double().norm(dim=0) if self.vectors else channels[0])[target.valid[0]].numpy()
        if self.task.has_classes:
            self.classes = np.bincount(values, minlength=num_classes) + (self.classes if self.classes.size else 0)
        if self.vectors:
            self.off += int((np.abs(values - 1) > LENGTH_SLACK).sum())
        self.pixels += target.valid.numel()
        self.valid += values.size
        if values.size:
            self.least = min(self.least, float(values.min()))
            self.greatest = max(self.greatest, float(values.max()))


@dataclass
class SplitCheck:
    """What one split holds.

    Attributes:
        samples: how many there are.
        official: how many the official data has.
        size: (height, width) of the first sample.
        tasks: by name.
    """

    samples: int
    official: int
    size: tuple[int, int]
    tasks: dict[str, TaskCheck]


@dataclass
class Check:
    """What became of a check.

    Attributes:
        folder: that was checked.
        data: the layout, a name of ``PAPER_DATA``.
        manifest: of the folder, None if it has none.
        splits: by name.
        faults: what is wrong, each with the file's name; empty if the folder is sound.
        warnings: what is unusual.
    """

    folder: Path
    data: PaperData
    manifest: Manifest | None
    splits: dict[str, SplitCheck] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def recognise(folder: str | Path) -> PaperData:
    """Which layout a folder has, by its manifest, or else by its folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has neither layout.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder of NYUv2 or Cityscapes. Found none at {folder}.")
    manifest = read_manifest(folder)
    if manifest is not None and manifest.data in _LAYOUT_OF:
        return PAPER_DATA[_LAYOUT_OF[manifest.data]]
    for name, telltale in _TELLTALE.items():
        if any((folder / split / telltale).is_dir() for split in ("train", "val")):
            return PAPER_DATA[name]
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise ValueError(
        f"{folder}: expected the layout {{train,val}}/{{image,label,depth,normal}} of NYUv2 or "
        f"{{train,val}}/{{image,depth,seg,part_seg}} of Cityscapes. Found {found}."
    )


def check(folder: str | Path, progress: Callable[[int, int], None] | None = None) -> Check:
    """Read every sample of a folder, and verify its checksums if it has any.

    Args:
        folder: in the layout of :class:`art_mtl.data.NYUv2` or :class:`art_mtl.data.Cityscapes`, prepared by this
            package or got elsewhere.
        progress: called with the number of samples read and of all, after every one.

    Returns:
        What was found. After 20 faults the reading stops.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has neither layout, or is not finished.
    """
    folder = Path(folder)
    found = Check(folder, recognise(folder), read_manifest(folder))
    datasets = {}
    for split in found.data.counts:
        try:
            datasets[split] = found.data.open(folder, split)
        except (FileNotFoundError, ValueError) as error:
            found.faults.append(str(error))
    total, done = sum(map(len, datasets.values())), 0
    for split, dataset in datasets.items():
        done = _read(found, split, dataset, progress, done, total)
    if found.manifest is not None:
        _verify(found, found.manifest)
    return found


def _read(
    found: Check,
    split: str,
    dataset: MultiTaskDataset,
    progress: Callable[[int, int], None] | None,
    done: int,
    total: int,
) -> int:
    """Add what a split holds; how many samples are done."""
    counts = {task.name: TaskCheck(task) for task in found.data.tasks()}
    result = SplitCheck(len(dataset), found.data.counts[split], (0, 0), counts)
    found.splits[split] = result
    for i in range(len(dataset)):
        if len(found.faults) >= _MOST_FAULTS:
            found.warnings.append(f"stopped after {_MOST_FAULTS} faults")
            break
        try:
            image, labels = dataset[i]
            result.size = result.size if any(result.size) else (image.shape[-2], image.shape[-1])
            for name, label in labels.items():
                counts[name].add(label, found.data.heads[name])
        except ValueError as error:
            found.faults.append(str(error))
        done += 1
        if progress is not None:
            progress(done, total)
    _warn(found, split, result)
    return done


def _warn(found: Check, split: str, result: SplitCheck) -> None:
    title, size = found.data.title, found.data.size
    official = found.manifest is None or found.manifest.data in PAPER_DATA
    if official and result.samples != result.official:
        found.warnings.append(f"{split}: {result.samples} samples; {title} has {result.official}")
    if result.size not in ((0, 0), size):
        found.warnings.append(
            f"{split}: {result.size[0]} x {result.size[1]} pixels; the paper's are {size[0]} x {size[1]}"
        )
    for name, task in result.tasks.items():
        if task.pixels and not task.valid:
            found.faults.append(f"{found.folder / split}: expected labels of {name}. Found every pixel marked invalid.")
        if task.off:
            found.warnings.append(f"{split}: {task.off / task.valid:.1%} of the {name} are not of length 1")


def _verify(found: Check, manifest: Manifest) -> None:
    """Compare sizes and checksums; look for files too many."""
    folder = found.folder
    wrong = [name for name, entry in sorted(manifest.files.items()) if not entry.matches(folder / name)]
    for name in wrong[:_MOST_FAULTS]:
        state = "another size or checksum" if (folder / name).is_file() else "no such file"
        found.faults.append(
            f"{folder / name}: expected the file that MANIFEST.json lists. Found {state}. Run the command that made "
            "the folder again; it makes what is missing."
        )
    for name in stray_files(folder, manifest)[:_MOST_FAULTS]:
        found.faults.append(f"{folder / name}: expected only files that MANIFEST.json lists. Move this one away.")
