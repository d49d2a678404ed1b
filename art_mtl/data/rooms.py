"""Rooms: rendered indoor scenes with exact segmentation, depth and surface normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._base import MultiTaskDataset, Sample, check_count, check_split
from art_mtl.data._raycast import trace
from art_mtl.data._scene import CLASSES, Scene, furnish
from art_mtl.data._shading import photograph

__all__ = ["CLASSES", "THINGS", "Rendering", "Rooms", "RoomsDetection", "render"]

THINGS = ("bed", "chair", "furniture", "picture", "sofa", "table", "tv", "window")
"""Classes of the objects that have boxes."""

_SPLITS = ("train", "test")
_SIZES = {"train": 4000, "test": 500}
_LEAST_CLASSES = 6
_GREATEST_SHARE = 0.55
_SHORTEST_SIDE = 1 / 16
_LEAST_PIXELS = 1 / 256


@dataclass(frozen=True)
class Rendering:
    """One view of one room.

    Attributes:
        image: (H, W, 3) uint8 sRGB.
        segmentation: (H, W) int64, index into :data:`CLASSES`.
        depth: (H, W) float32, metres along the optical axis (z-depth, not the length of the ray).
        normals: (H, W, 3) float32 unit vectors in camera axes, x right, y down, z forward, facing the camera.
        tan_half: tangent of half the horizontal angle of view: pixel (i, j) looks along
            ((j + 0.5 - W/2) / f, (i + 0.5 - H/2) / f, 1) with f = W / (2 tan_half).
        boxes: (M, 4) float32, the corners x1, y1, x2, y2 of each object in pixels: the outer edges of the pixels in
            which it is seen. Small and hidden objects are left out: they are seen in less than 1/256 of the pixels, or
            their box is narrower or lower than 1/16 of the picture's height.
        things: (M,) int64, index into :data:`THINGS`.
    """

    image: NDArray[np.uint8]
    segmentation: NDArray[np.int64]
    depth: NDArray[np.float32]
    normals: NDArray[np.float32]
    tan_half: float
    boxes: NDArray[np.float32]
    things: NDArray[np.int64]


def _objects(scene: Scene, surface: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes and things of a picture (H, W) of surfaces; see :class:`Rendering`."""
    height, area = len(surface), surface.size
    boxes, things = [], []
    of_class = scene.labels[: len(scene.pieces)]
    for number, name in enumerate(THINGS):
        for piece in np.unique(scene.pieces[of_class == CLASSES.index(name)]):
            solids = np.flatnonzero((of_class == CLASSES.index(name)) & (scene.pieces == piece))
            rows, columns = np.nonzero(np.isin(surface, solids))
            if len(rows) < _LEAST_PIXELS * area:
                continue
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            if min(box[2] - box[0], box[3] - box[1]) >= _SHORTEST_SIDE * height:
                boxes.append(box)
                things.append(number)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(things, np.int64)


def _worth_a_look(scene: Scene) -> bool:
    """Whether a coarse view of the scene shows several classes and not mostly one of them."""
    hits = trace(scene.size, scene.solids, scene.camera, 24, 32)
    count = np.bincount(scene.labels[hits.surface], minlength=len(CLASSES))
    return bool((count > 0).sum() >= _LEAST_CLASSES and np.max(count) <= _GREATEST_SHARE * count.sum())


def render(rng: np.random.Generator, height: int = 96, width: int = 128) -> Rendering:
    """Draw a room at random and take its picture.

    Scenes that show little but a bare wall are drawn again, up to eight times.

    Args:
        rng: the only source of chance.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        The picture and its exact labels; every pixel is labelled.

    Examples:
        >>> view = render(np.random.default_rng(0), height=48, width=64)
        >>> view.image.shape, view.segmentation.shape
        ((48, 64, 3), (48, 64))
    """
    for _ in range(8):
        scene = furnish(rng)
        if _worth_a_look(scene):
            break
    hits = trace(scene.size, scene.solids, scene.camera, height, width)
    image = photograph(
        scene.size, scene.solids, scene.materials, scene.light, scene.casts, scene.camera, scene.sensor, hits,
        (height, width), rng,
    )  # fmt: skip
    normals = scene.camera.to_camera(hits.normal).reshape(height, width, 3)
    boxes, things = _objects(scene, hits.surface.reshape(height, width))
    return Rendering(
        image,
        scene.labels[hits.surface].reshape(height, width),
        hits.depth.reshape(height, width),
        np.asarray(normals / np.linalg.norm(normals, axis=2, keepdims=True), np.float32),
        scene.camera.tan_half,
        boxes,
        things,
    )


class Rooms(MultiTaskDataset):
    """Furnished rooms seen by a noisy camera, rendered on demand with labels that are exact.

    Rooms differ in size, furniture, materials, light, camera pose and angle of view. Classes share colours and
    textures (a table may be of the wood of a cupboard or of the floor), so that a network needs shape and context.
    Tasks:

    - ``segmentation``: int64 (H, W), the 13 classes of NYUv2 in :data:`CLASSES`. As there, cushions and lamps are
      *objects*, curtains *window*, rugs *floor*, doors *wall*, desks *table* and book shelves *furniture*.
    - ``depth``: float32 (1, H, W), metres along the optical axis.
    - ``normals``: float32 (3, H, W), unit vectors in camera axes (x right, y down, z forward) that face the camera: a
      floor seen by a level camera has (0, -1, 0), a wall seen squarely (0, 0, -1).

    Images are float32 (3, H, W) in [-1, 1]: twice an 8-bit picture in [0, 1], less one. Every pixel is labelled. Sample
    ``index`` depends on (seed, split, index, height, width) alone; the two splits never share a scene.

    Args:
        split: "train" or "test".
        size: number of scenes; by default 4000 for training and 500 for testing.
        height: rows, at least 16.
        width: columns, at least 16.
        seed: which family of scenes.

    Raises:
        ValueError: If a parameter is out of range.

    Examples:
        >>> image, labels = Rooms(split="test", size=2)[0]
        >>> tuple(image.shape), tuple(labels["normals"].shape)
        ((3, 96, 128), (3, 96, 128))
        >>> sorted(labels)
        ['depth', 'normals', 'segmentation']
    """

    def __init__(
        self, split: str = "train", size: int | None = None, height: int = 96, width: int = 128, seed: int = 0
    ) -> None:
        check_split(split, _SPLITS)
        count = _SIZES[split] if size is None else size
        check_count("size", count)
        check_count("height", height, least=16)
        check_count("width", width, least=16)
        check_count("seed", seed, least=0)
        self.split, self.size, self.height, self.width, self.seed = split, count, height, width, seed

    def __len__(self) -> int:
        return self.size

    def rendering(self, index: int) -> Rendering:
        """The scene of this index with all that is known about it, the angle of view included."""
        rng = np.random.default_rng([self.seed, _SPLITS.index(self.split), index])
        return render(rng, self.height, self.width)

    def sample(self, index: int) -> Sample:
        """One scene: image in [-1, 1] and the labels named in the class's description."""
        view = self.rendering(index)
        image = np.ascontiguousarray(view.image.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
        return 2 * image - 1, self._labels(view)

    def _labels(self, view: Rendering) -> dict[str, Any]:
        return {
            "segmentation": view.segmentation,
            "depth": view.depth[None],
            "normals": np.ascontiguousarray(view.normals.transpose(2, 0, 1)),
        }


class RoomsDetection(Rooms):
    """The scenes of :class:`Rooms` with the boxes of their objects as a fourth task:

    - ``detection``: a dict of ``boxes``, float32 (M, 4), corners x1, y1, x2, y2 in pixels, and ``labels``, int64 (M,),
      index into :data:`THINGS`. See :class:`Rendering` for which objects have a box.

    A piece of furniture is one object, its cushions, lamps and books aside; a television and the stand under it are
    two. A window's curtains are part of it.

    Args:
        split: "train" or "test".
        size: number of scenes; by default 4000 for training and 500 for testing.
        height: rows, at least 16.
        width: columns, at least 16.
        seed: which family of scenes.

    Raises:
        ValueError: If a parameter is out of range.

    Examples:
        >>> _, labels = RoomsDetection(split="test", size=2)[0]
        >>> [THINGS[thing] for thing in labels["detection"]["labels"]]
        ['bed', 'furniture', 'picture', 'sofa', 'window']
    """

    def _labels(self, view: Rendering) -> dict[str, Any]:
        return {**super()._labels(view), "detection": {"boxes": view.boxes, "labels": view.things}}
