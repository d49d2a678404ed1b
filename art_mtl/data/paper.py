"""The two data sets of Guo et al. (ICASSP 2025): which tasks they carry, and at which ε the paper attacks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from art_mtl import tasks
from art_mtl.data._base import MultiTaskDataset
from art_mtl.data.cityscapes import Cityscapes
from art_mtl.data.nyuv2 import NYUv2
from art_mtl.data.rooms import CLASSES
from art_mtl.tasks import Task

__all__ = ["PAPER_DATA", "PaperData"]


@dataclass(frozen=True)
class PaperData:
    """A data set of the paper's experiments.

    Attributes:
        name: "nyuv2" or "cityscapes".
        title: As tables print it.
        open: ``(root, split)`` to the data set, split "train" or "val"; images in [-1, 1].
        tasks: Makes its tasks, in the order of the paper's columns.
        heads: Output channels of each task's head.
        size: (height, width) of its images.
        crop: (height, width) of a training image.
        scales: By how much a training image may be enlarged before it is cropped.
        counts: Images of each split in the official data.
        eps: By norm, the radii of the paper's tables, in the scale of the model's input, [-1, 1].
        class_names: Of each task that has classes.
    """

    name: str
    title: str
    open: Callable[[str | Path, str], MultiTaskDataset]
    tasks: Callable[[], list[Task]]
    heads: Mapping[str, int]
    size: tuple[int, int]
    crop: tuple[int, int]
    scales: tuple[float, ...]
    counts: Mapping[str, int]
    eps: Mapping[str, tuple[float, ...]]
    class_names: Mapping[str, tuple[str, ...]]


_EPS = MappingProxyType({"l2": (5.0, 10.0), "linf": (2 / 255, 4 / 255, 8 / 255, 16 / 255)})
_STREET_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
_PARTS = ("none", "torso", "head", "arms", "legs", "windows", "wheels", "lights", "plate", "chassis")


def _nyuv2_tasks() -> list[Task]:
    return [
        tasks.segmentation("segmentation", num_classes=13),
        tasks.depth("depth"),
        tasks.surface_normals("normals", coding="as is"),  # the official ones are not all of length 1
    ]


def _cityscapes_tasks() -> list[Task]:
    return [
        tasks.segmentation("segmentation", num_classes=19),
        tasks.segmentation("parts", num_classes=10),
        tasks.disparity("disparity"),
    ]


PAPER_DATA: Mapping[str, PaperData] = MappingProxyType(
    {
        "nyuv2": PaperData(
            name="nyuv2",
            title="NYUv2",
            open=NYUv2,
            tasks=_nyuv2_tasks,
            heads=MappingProxyType({"segmentation": 13, "depth": 1, "normals": 3}),
            size=(288, 384),
            crop=(288, 384),
            scales=(1.0, 1.2, 1.5),
            counts=MappingProxyType({"train": 795, "val": 654}),
            eps=_EPS,
            class_names=MappingProxyType({"segmentation": CLASSES}),
        ),
        "cityscapes": PaperData(
            name="cityscapes",
            title="Cityscapes",
            open=Cityscapes,
            tasks=_cityscapes_tasks,
            heads=MappingProxyType({"segmentation": 19, "parts": 10, "disparity": 1}),
            size=(256, 512),
            crop=(256, 256),
            scales=(1.0,),
            counts=MappingProxyType({"train": 2975, "val": 500}),
            eps=_EPS,
            class_names=MappingProxyType({"segmentation": _STREET_CLASSES, "parts": _PARTS}),
        ),
    }
)
"""By name."""
