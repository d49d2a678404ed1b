"""Data sets with labels for several tasks: two that the package makes itself, and loaders for files on disk.

Every data set is map-style: ``len(dataset)``, ``dataset[i] -> (image, {task name: label})`` and
``dataset.arrays(limit) -> (x, MultiTaskLabels)``.
"""

from __future__ import annotations

from art_mtl.data._base import MultiTaskDataset
from art_mtl.data.augment import augment, flip
from art_mtl.data.cityscapes import Cityscapes
from art_mtl.data.digits import MultiDigits, MultiLabelDigits
from art_mtl.data.nyuv2 import NYUv2
from art_mtl.data.paper import PAPER_DATA, PaperData
from art_mtl.data.rooms import CLASSES, THINGS, Rooms, RoomsDetection
from art_mtl.data.table import Column, TableDataset

__all__ = [
    "CLASSES",
    "PAPER_DATA",
    "THINGS",
    "Cityscapes",
    "Column",
    "MultiDigits",
    "MultiLabelDigits",
    "MultiTaskDataset",
    "NYUv2",
    "PaperData",
    "Rooms",
    "RoomsDetection",
    "TableDataset",
    "augment",
    "flip",
]
