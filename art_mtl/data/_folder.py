"""A data set on disk: numbered files in parallel folders, one folder for the pictures and one for each task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from art_mtl.data._base import MultiTaskDataset, Sample, check_finished, check_split
from art_mtl.data._files import check_size, nearest, numbers, shrink

SPLITS = ("train", "val")


class FolderDataset(MultiTaskDataset):
    """A data set in the layout ``{root}/{train,val}/{folder}/{number}{ending}``.

    A subclass names its folders and reads the files of one sample; it inherits the rest.

    Args:
        root: folder that holds ``train`` and ``val``.
        split: "train" or "val".
        size: (height, width) to resize to: images by antialiased bilinear interpolation, labels to the nearest pixel.
            None keeps the size on disk.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is empty, if the folders do not hold the same numbers, or if a parameter is out of
            range.
    """

    layout: ClassVar[Mapping[str, str]]
    """Folders of a split, "image" among them, and how the names of their files end."""

    def __init__(self, root: str | Path, split: str = "train", size: tuple[int, int] | None = None) -> None:
        check_split(split, SPLITS)
        check_size(size)
        self.root, self.split, self.size = Path(root), split, size
        check_finished(self.root)
        self.numbers = numbers(self.root / split, self.layout)
        self._shape = self._size_of(self._paths(0)["image"])

    def __len__(self) -> int:
        return len(self.numbers)

    def sample(self, index: int) -> Sample:
        """One image in [-1, 1] and the labels named in the class's description.

        Raises:
            ValueError: If a file is damaged, or holds a wrong shape or a value that cannot be; the message names it.
        """
        image, labels = self._load(self._paths(index))
        if self.size is not None:
            image = shrink(image, self.size)
            labels = {name: nearest(label, self.size) for name, label in labels.items()}
        return 2 * image - 1, labels

    @staticmethod
    @abstractmethod
    def _size_of(path: Path) -> tuple[int, ...]:
        """(height, width) of a picture."""

    @abstractmethod
    def _load(self, paths: Mapping[str, Path]) -> Sample:
        """The image of one sample in [0, 1] and its labels, at the size on disk, checked."""

    def _paths(self, index: int) -> dict[str, Path]:
        number = self.numbers[index]
        return {name: self.root / self.split / name / f"{number}{ending}" for name, ending in self.layout.items()}
