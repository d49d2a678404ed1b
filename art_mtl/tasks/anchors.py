"""Boxes relative to anchors: where anchors are, and how a box is coded by an anchor. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.tasks.boxes import to_corners

_MOST = math.log(1000 / 16)
"""Greatest logarithm of a size over that of its anchor, as in torchvision: what is larger is cut."""
_WEIGHTS: Mapping[str, tuple[float, float, float, float]] = {
    "retinanet": (1.0, 1.0, 1.0, 1.0),
    "faster-rcnn": (10.0, 10.0, 5.0, 5.0),
    "ssd": (10.0, 10.0, 5.0, 5.0),
}
CODINGS = (*_WEIGHTS, "fcos", "yolov3", "yolov5")
_GRID = ("sizes", "ratios", "strides", "image_size", "offset", "round")
_DEFAULT = ("scales", "ratios", "strides", "image_size", "clip")

__all__ = ["CODINGS", "Anchors", "decode_boxes", "default_boxes", "grid_anchors", "make_anchors"]


@dataclass(frozen=True, eq=False)
class Anchors:
    """Anchors, and how boxes are relative to them. Equal to any other of the same numbers.

    Attributes:
        corners: ``(A, 4)``, float32.
        strides: ``(A,)``, float32: the size of the cell of each; None where it is not known.
        coding: One of :data:`CODINGS`, or four weights of differences.
    """

    corners: npt.NDArray[np.float32]
    strides: npt.NDArray[np.float32] | None
    coding: str | tuple[float, ...]

    def _key(self) -> tuple[Any, ...]:
        strides = None if self.strides is None else self.strides.tobytes()
        return self.corners.tobytes(), strides, self.coding

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchors) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __len__(self) -> int:
        return len(self.corners)

    def __repr__(self) -> str:
        return f"Anchors({len(self)}, {self.coding!r})"

    def decode(self, boxes: Tensor) -> Tensor:
        """Corners of what a model returns, ``(B, A, 4)``."""
        corners = torch.from_numpy(self.corners).to(boxes)
        strides = None if self.strides is None else torch.from_numpy(self.strides).to(boxes)
        return decode_boxes(boxes, corners, self.coding, strides)


def decode_boxes(
    boxes: Tensor, anchors: Tensor, coding: str | Sequence[float], strides: Tensor | None = None
) -> Tensor:
    """Corners of boxes that are relative to anchors.

    Args:
        boxes: ``(..., A, 4)``. Weights w, and "retinanet", "faster-rcnn" and "ssd", which name such: differences
            ``(dx, dy, dw, dh)``, of which the centre is ``c + d · size / w`` and the size ``size · exp(d / w)``
            (Girshick et al., CVPR 2014; torchvision's ``BoxCoder``). SSD's variances are 1 / w. "fcos": distances to
            the left, top, right and bottom in sizes of the anchor. "yolov3" and "yolov5": logits of the place in the
            cell and of the size, σ(t) and exp(t), or 2 σ(t) − ½ and (2 σ(t))².
        anchors: Corners ``(A, 4)``.
        coding: As above.
        strides: ``(A,)``, sizes of the cells, for the codings of YOLO; the centre of an anchor is that of its cell.

    Examples:
        >>> anchor = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> decode_boxes(torch.tensor([[1.0, 0.0, 0.0, math.log(2)]]), anchor, "retinanet")
        tensor([[ 4., -2.,  8.,  6.]])
    """
    size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    first, last = boxes[..., :2], boxes[..., 2:]
    if coding == "fcos":
        return torch.cat([centre - first * size, centre + last * size], -1)
    if coding in ("yolov3", "yolov5"):
        if strides is None:
            raise ValueError(f"Boxes coded as {coding!r} should have `strides` of their anchors. Found none.")
        share = torch.sigmoid(first)
        place = share - 0.5 if coding == "yolov3" else 2 * share - 1
        middle = centre + place * strides[:, None]
        scale = last.clamp(max=_MOST).exp() if coding == "yolov3" else (2 * torch.sigmoid(last)).square()
    else:
        weights = boxes.new_tensor(_WEIGHTS[coding] if isinstance(coding, str) else coding)
        middle = centre + first / weights[:2] * size
        scale = (last / weights[2:]).clamp(max=_MOST).exp()
    half = size * scale / 2
    return torch.cat([middle - half, middle + half], -1)


def grid_anchors(
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float] | Sequence[Sequence[float]],
    strides: Sequence[float],
    image_size: tuple[int, int],
    offset: float = 0.0,
    round: bool = True,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Anchors of feature maps, level by level, row by row, as torchvision's ``AnchorGenerator`` makes them.

    Args:
        sizes: Of each level, square roots of the areas of its anchors.
        ratios: Height over width, for all levels or for each.
        strides: Of each level.
        image_size: Height and width; a map has ``ceil(size / stride)`` cells.
        offset: Where in its cell an anchor stands: 0 at the corner, 0.5 in the middle.
        round: Whether corners are rounded before they are moved, as torchvision does.

    Returns:
        Corners ``(A, 4)`` and strides ``(A,)``.
    """
    found, cells = [], []
    for place, stride in enumerate(strides):
        height = np.sqrt(np.asarray(_of_level(ratios, place, len(strides)), dtype=np.float32))
        side = np.asarray(sizes[place], dtype=np.float32)
        ws, hs = ((one[:, None] * side).ravel() for one in (1.0 / height, height))
        base = np.asarray([-ws, -hs, ws, hs], dtype=np.float32).T / 2
        base = np.round(base) if round else base
        rows, columns = (np.arange(math.ceil(length / stride)) for length in image_size)
        y, x = ((one.ravel() + offset) * stride for one in np.meshgrid(rows, columns, indexing="ij"))
        found.append((np.stack([x, y, x, y], 1)[:, None] + base).reshape(-1, 4))
        cells.append(np.full(len(found[-1]), stride))
    return np.concatenate(found).astype(np.float32), np.concatenate(cells).astype(np.float32)


def _of_level(values: Any, place: int, levels: int) -> Any:
    """What is told of a level, or of all alike."""
    nested = len(values) > 0 and isinstance(values[0], (list, tuple))
    if nested and len(values) != levels:
        raise ValueError(f"Parameter `anchors` should have ratios of {levels} levels. Found {len(values)}.")
    return values[place] if nested else values


def default_boxes(
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    strides: Sequence[float],
    image_size: tuple[int, int],
    clip: bool = True,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """SSD's default boxes (Liu et al., ECCV 2016), level by level, as torchvision's ``DefaultBoxGenerator`` makes them.

    Args:
        scales: Of each level as shares of the image, and one more.
        ratios: Of each level, beside 1: width over height, each with its inverse.
        strides: Of each level.
        image_size: Height and width; a map has ``ceil(size / stride)`` cells.
        clip: Whether sizes are cut at the size of the image.

    Returns:
        Corners ``(A, 4)`` in pixels, and strides ``(A,)``.
    """
    found, cells, whole = [], [], np.array(image_size[::-1], dtype=np.float32)
    for place, stride in enumerate(strides):
        own, between = scales[place], math.sqrt(scales[place] * scales[place + 1])
        pairs = [[own, own], [between, between]]
        for ratio in ratios[place]:
            root = math.sqrt(ratio)
            pairs += [[own * root, own / root], [own / root, own * root]]
        size = np.asarray(pairs, dtype=np.float32)
        size = (size.clip(0, 1) if clip else size) * whole
        rows, columns = (np.arange(math.ceil(length / stride)) for length in image_size)
        y, x = ((one.ravel() + 0.5) * stride for one in np.meshgrid(rows, columns, indexing="ij"))
        centre = np.stack([x, y], 1)[:, None]
        found.append(np.concatenate([centre - size / 2, centre + size / 2], 2).reshape(-1, 4))
        cells.append(np.full(len(found[-1]), stride))
    return np.concatenate(found).astype(np.float32), np.concatenate(cells).astype(np.float32)


def make_anchors(name: str, anchors: Any, coding: Any, strides: Any, form: str) -> Anchors | None:
    """What a task of boxes that are relative to anchors holds; None for boxes that are none.

    Args:
        name: Of the task.
        anchors: ``(A, 4)`` in ``form``; arguments of :func:`grid_anchors` or, with "scales", of :func:`default_boxes`;
            or None.
        coding: One of :data:`CODINGS`, or four weights; None for "faster-rcnn".
        strides: Of anchors that are an array: ``(A,)``, or one number; None where the coding does without.
        form: Of the boxes.

    Raises:
        ValueError: One of them is none of these, or there are no anchors.
    """
    if anchors is None:
        unused = [key for key, value in (("box_coding", coding), ("strides", strides)) if value is not None]
        if unused:
            raise ValueError(f"Parameter `{unused[0]}` of task {name!r} should come with `anchors`. Found none.")
        return None
    checked = _coding(name, "faster-rcnn" if coding is None else coding)
    if isinstance(anchors, Mapping):
        if strides is not None:
            raise ValueError(f"Parameter `strides` of task {name!r} should stand in `anchors`. Found both.")
        corners, cells = _generated(name, anchors)
        return Anchors(corners, cells, checked)
    array = np.asarray(anchors.detach().cpu() if isinstance(anchors, Tensor) else anchors, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != 4 or not len(array) or not np.isfinite(array).all():
        raise ValueError(
            f"Parameter `anchors` of task {name!r} should be finite numbers of shape (A, 4), or sizes, ratios, strides "
            f"and image_size. Found shape {array.shape}."
        )
    corners = to_corners(torch.from_numpy(array), form).numpy()
    if not (corners[:, 2:] > corners[:, :2]).all():
        bad = int((corners[:, 2:] <= corners[:, :2]).any(1).argmax())
        raise ValueError(
            f"Parameter `anchors` of task {name!r} should be boxes in the form {form!r} with some size. Found "
            f"{array[bad].tolist()} as anchor {bad}."
        )
    given = None if strides is None else np.asarray(strides, dtype=np.float32)
    if given is not None and (given.shape not in ((), (len(array),)) or not (given > 0).all()):
        raise ValueError(
            f"Parameter `strides` of task {name!r} should be positive, one or {len(array)}, one an anchor. Found shape "
            f"{given.shape}."
        )
    if given is None and checked in ("yolov3", "yolov5"):
        raise ValueError(f"Parameter `strides` of task {name!r} should be given for {checked!r} boxes. Found None.")
    return Anchors(corners, None if given is None else np.broadcast_to(given, (len(array),)).copy(), checked)


def _coding(name: str, coding: Any) -> str | tuple[float, ...]:
    if isinstance(coding, str) and coding in CODINGS:
        return coding
    numbers = isinstance(coding, (list, tuple)) and all(type(one) in (int, float) and one > 0 for one in coding)
    if numbers and len(coding) == 4:
        return tuple(map(float, coding))
    raise ValueError(
        f"Parameter `box_coding` of task {name!r} should be one of {list(CODINGS)}, or four positive weights. "
        f"Found {coding!r}."
    )


def _generated(name: str, told: Mapping[str, Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Anchors of a description."""
    make: Callable[..., Any] = default_boxes if "scales" in told else grid_anchors
    known, needed = (_DEFAULT, _DEFAULT[:4]) if "scales" in told else (_GRID, _GRID[:4])
    if not set(needed) <= set(told) <= set(known):
        raise ValueError(f"Parameter `anchors` of task {name!r} should have {list(known)}. Found {list(told)}.")
    per_level = "scales" if "scales" in told else "sizes"
    levels = len(told["strides"]) + (per_level == "scales")
    if len(told[per_level]) != levels:
        raise ValueError(
            f"Parameter `anchors` of task {name!r} should have {levels} `{per_level}` for {len(told['strides'])} "
            f"strides. Found {len(told[per_level])}."
        )
    try:
        found: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] = make(**told)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"Parameter `anchors` of task {name!r} should have lists of numbers, one a stride. Found {error}"
        ) from error
    return found
