"""Boxes: their forms, their overlap, and which of many on one object to keep. Pure tensor functions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

FORMS = ("xyxy", "xywh", "cxcywh")
"""Corners; the upper left corner, width and height; the centre, width and height."""


def to_corners(boxes: Tensor, form: str) -> Tensor:
    """Boxes ``(..., 4)`` of one of :data:`FORMS` as x1, y1, x2, y2.

    Examples:
        >>> to_corners(torch.tensor([5.0, 5.0, 2.0, 4.0]), "cxcywh")
        tensor([4., 3., 6., 7.])
    """
    if form == "xyxy":
        return boxes
    place, size = boxes[..., :2], boxes[..., 2:]
    low = place if form == "xywh" else place - size / 2
    return torch.cat([low, low + size], -1)


def from_corners(boxes: Tensor, form: str) -> Tensor:
    """The inverse of :func:`to_corners`.

    Examples:
        >>> from_corners(torch.tensor([4.0, 3.0, 6.0, 7.0]), "cxcywh")
        tensor([5., 5., 2., 4.])
    """
    if form == "xyxy":
        return boxes
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([low if form == "xywh" else (low + high) / 2, high - low], -1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of each box of ``a`` ``(..., A, 4)`` with each of ``b`` ``(..., M, 4)``: ``(..., A, M)``,
    in [0, 1], of corners; 0 where both are empty.

    Examples:
        >>> overlaps(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]]))
        tensor([[0.3333, 0.0000]])
    """
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = _area(a)[..., :, None] + _area(b)[..., None, :] - common
    return torch.where(union > 0, common / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes: Corners ``(A, 4)``.
        scores: ``(A,)``.
        labels: ``(A,)``, integers.
        threshold: A box that overlaps a better one of its class by more than this IoU is dropped.

    Returns:
        Places of the boxes that are kept, the best first, ``(K,)``.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.1], [4.0, 4.0, 5.0, 5.0]])
        >>> suppress(boxes, torch.tensor([0.8, 0.9, 0.7]), torch.tensor([1, 1, 1]), 0.5)
        tensor([1, 2])
    """
    order = scores.argsort(descending=True, stable=True)
    same = labels[order][:, None] == labels[order]
    beaten = ((overlaps(boxes[order], boxes[order]) > threshold) & same).cpu().numpy()
    alive = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~beaten[i, i + 1 :]
    return order[torch.from_numpy(alive).to(order.device)]
