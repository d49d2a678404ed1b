"""The loss that a detector without anchors is trained with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from art_mtl.tasks.boxes import overlaps
from art_mtl.tasks.target import DenseTarget

__all__ = ["dense_detection_loss"]

_CENTRAL = 0.25
"""Share of a box's width, and height, from its middle within which cells stand for the object."""


def dense_detection_loss(output: Mapping[str, Tensor], target: DenseTarget, centres: Tensor) -> Tensor:
    """What each candidate of a dense head lacks, per sample (B,).

    A candidate stands for the smallest object in whose central part the middle of its cell lies (FCOS: Tian et al.,
    ICCV 2019); the cell nearest to the middle of an object counts always. Its box costs -log(IoU). Its logits cost the
    quality focal loss (Li et al., NeurIPS 2020): the score of its class should be the IoU that its box reaches, all
    other scores 0. Both are divided by the number of candidates that stand for an object.

    Args:
        output: "boxes" (B, A, 4), corners that contain the middle of their cell, and "logits" (B, A, C).
        target: of :class:`art_mtl.tasks.Detection`: corners and class (B, 5, M).
        centres: the middle of each cell, (A, 2).
    """
    boxes, logits = output["boxes"], output["logits"]
    truth, things = target.value[:, None, :4].mT, target.value[:, 4].long()  # (B, 1, M, 4), (B, M)
    size = truth[..., 2:] - truth[..., :2]
    away = (centres[:, None] - (truth[..., :2] + truth[..., 2:]) / 2).abs()  # (B, A, M, 2)
    central = (away <= _CENTRAL * size).all(-1)
    nearest = functional.one_hot(away.square().sum(-1).argmin(1), len(centres)).mT.bool()
    stands = (central | nearest) & (target.valid & (things >= 0))[:, None]
    area, which = torch.where(stands, size.prod(-1), torch.inf).min(2)
    positive = area < torch.inf
    count = positive.sum(1).clamp(min=1)

    aim = truth[:, 0].gather(1, which[..., None].expand(-1, -1, 4))
    overlap = overlaps(boxes[..., None, :], aim[..., None, :])[..., 0, 0]
    missed = -torch.where(positive, overlap, 1.0).clamp(min=1e-6).log()
    wanted = functional.one_hot(things.clamp(min=0).gather(1, which), logits.shape[2]).to(logits)
    wanted = wanted * (positive * overlap.detach())[..., None]
    quality = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    quality = quality * (logits.sigmoid() - wanted).square()
    return (missed.sum(1) + quality.sum((1, 2))) / count
