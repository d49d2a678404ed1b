"""The loss of a detector without anchors: by a slow re-derivation, and where it is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from art_mtl import tasks
from art_mtl.models.small import cell_centres
from art_mtl.training.dense_detection import dense_detection_loss

CENTRES = cell_centres(6, 8, stride=4)
TASK = tasks.detection("things", 3)


def iou(a: list[float], b: list[float]) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    high = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return wide * high / (area - wide * high)


def stands_for(objects: list[list[float]]) -> dict[int, int]:
    """Candidate to object: the smallest in whose central half its cell's middle lies, or to which it is nearest."""
    chosen: dict[int, int] = {}
    middles = CENTRES.tolist()
    for number in sorted(
        range(len(objects)), key=lambda k: -(objects[k][2] - objects[k][0]) * (objects[k][3] - objects[k][1])
    ):
        x1, y1, x2, y2 = objects[number]
        away = [(x - (x1 + x2) / 2, y - (y1 + y2) / 2) for x, y in middles]
        nearest = min(range(len(away)), key=lambda k: away[k][0] ** 2 + away[k][1] ** 2)
        for place, (x, y) in enumerate(away):
            if place == nearest or (abs(x) <= (x2 - x1) / 4 and abs(y) <= (y2 - y1) / 4):
                chosen[place] = number
    return chosen


def slow(boxes: Tensor, logits: Tensor, objects: list[list[float]], things: list[int]) -> float:
    chosen = stands_for(objects)
    total = 0.0
    for place in range(len(CENTRES)):
        aim = [0.0] * 3
        if place in chosen:
            overlap = iou(boxes[place].tolist(), objects[chosen[place]])
            total -= math.log(overlap)
            aim[things[chosen[place]]] = overlap
        for logit, wanted in zip(logits[place].tolist(), aim, strict=True):
            score = 1 / (1 + math.exp(-logit))
            entropy = -wanted * math.log(score) - (1 - wanted) * math.log(1 - score)
            total += (score - wanted) ** 2 * entropy
    return total / max(1, len(chosen))


def test_it_is_that_of_a_slow_derivation() -> None:
    generator = torch.Generator().manual_seed(0)
    objects = [[[1.0, 2.0, 20.0, 18.0], [5.0, 6.0, 14.0, 15.0], [25.2, 3.1, 27.9, 5.8]], [[3.0, 1.0, 30.0, 23.0]], []]
    things = [[0, 2, 1], [1], []]
    assert len(set(stands_for(objects[0]).values())) == 3, "one lies in another, one is smaller than a cell"
    sides = torch.rand(3, 48, 4, generator=generator) * 20 + 1
    boxes = torch.cat([CENTRES - sides[..., :2], CENTRES + sides[..., 2:]], 2)
    logits = torch.randn(3, 48, 3, generator=generator)
    labels = [
        {"boxes": torch.tensor(o).reshape(-1, 4), "labels": torch.tensor(t)}
        for o, t in zip(objects, things, strict=True)
    ]
    found = dense_detection_loss({"boxes": boxes, "logits": logits}, TASK.targets(labels), CENTRES)
    expected = [slow(boxes[i], logits[i], objects[i], things[i]) for i in range(3)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_a_perfect_detector_has_none_and_its_score_is_the_iou() -> None:
    box = [4.0, 4.0, 20.0, 16.0]
    target = TASK.targets([{"boxes": [box], "labels": [1]}])
    logits = torch.full((1, 48, 3), -30.0)
    logits[0, list(stands_for([box])), 1] = 30.0
    boxes = torch.tensor(box).expand(1, 48, 4)
    assert float(dense_detection_loss({"boxes": boxes, "logits": logits}, target, CENTRES)) < 1e-5
    # Where the box is half as long as it should be, the best score is a half.
    short = torch.tensor([4.0, 4.0, 12.0, 16.0]).expand(1, 48, 4).clone().requires_grad_()
    logits[0, list(stands_for([box])), 1] = 0.0
    logits.requires_grad_()
    loss = dense_detection_loss({"boxes": short, "logits": logits}, target, CENTRES)
    by_logits, by_boxes = torch.autograd.grad(loss.sum(), [logits, short])
    assert float(by_logits.abs().max()) < 1e-6 and (by_boxes[..., 2] <= 0).all() and by_boxes.abs().max() > 0
