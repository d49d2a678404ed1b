"""Boxes relative to anchors, against torchvision."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.tasks.anchors import decode_boxes, default_boxes, grid_anchors

GENERATOR = torch.Generator().manual_seed(0)
GRID = {"sizes": [[8, 12], [16, 24]], "ratios": [0.5, 1.0, 2.0], "strides": [4, 8], "image_size": [16, 24]}


def random_anchors(count: int = 7) -> torch.Tensor:
    corner = 20 * torch.rand(count, 2, generator=GENERATOR)
    return torch.cat([corner, corner + 1 + 9 * torch.rand(count, 2, generator=GENERATOR)], 1)


@pytest.mark.parametrize("coding", ["retinanet", "faster-rcnn", "ssd", (3.0, 4.0, 5.0, 6.0)])
def test_differences_are_those_of_torchvision(coding):
    detection = pytest.importorskip("torchvision.models.detection")
    weights = {"retinanet": (1.0,) * 4}.get(coding, (10.0, 10.0, 5.0, 5.0)) if isinstance(coding, str) else coding
    anchors, deltas = random_anchors(), 4 * torch.randn(7, 4, generator=GENERATOR)
    deltas[0, 2] = 100.0  # larger than anything, which is cut
    expected = detection._utils.BoxCoder(weights).decode(deltas, [anchors])[:, 0]
    torch.testing.assert_close(decode_boxes(deltas[None], anchors, coding)[0], expected)
    boxes = random_anchors()
    coded = detection._utils.BoxCoder(weights).encode([boxes], [anchors])[0]
    torch.testing.assert_close(decode_boxes(coded, anchors, coding), boxes, rtol=1e-4, atol=1e-4)


def test_distances_are_those_of_torchvision():
    detection = pytest.importorskip("torchvision.models.detection")
    anchors, distances = random_anchors(), torch.rand(7, 4, generator=GENERATOR)
    expected = detection._utils.BoxLinearCoder(normalize_by_size=True).decode(distances, anchors)
    torch.testing.assert_close(decode_boxes(distances, anchors, "fcos"), expected)


@pytest.mark.parametrize("coding", ["yolov3", "yolov5"])
def test_cells_of_yolo_by_their_equations(coding):
    column, row, stride, width, height = 3, 2, 8.0, 10.0, 14.0
    middle = torch.tensor([(column + 0.5) * stride, (row + 0.5) * stride])
    half = torch.tensor([width, height]) / 2
    t = torch.tensor([0.3, -1.2, 0.4, -0.7])
    s = torch.sigmoid(t)
    if coding == "yolov3":
        centre, size = (s[:2] + torch.tensor([column, row])) * stride, torch.exp(t[2:]) * 2 * half
    else:
        centre, size = (2 * s[:2] - 0.5 + torch.tensor([column, row])) * stride, (2 * s[2:]) ** 2 * 2 * half
    found = decode_boxes(t[None], torch.cat([middle - half, middle + half])[None], coding, torch.tensor([stride]))[0]
    torch.testing.assert_close(found, torch.cat([centre - size / 2, centre + size / 2]))


def maps_of(strides, size):
    return [torch.zeros(1, 1, -(-size[0] // s), -(-size[1] // s)) for s in strides]


def test_a_grid_is_that_of_torchvision():
    utils = pytest.importorskip("torchvision.models.detection.anchor_utils")
    images = pytest.importorskip("torchvision.models.detection.image_list")
    image = images.ImageList(torch.zeros(1, 3, 16, 24), [(16, 24)])
    made = utils.AnchorGenerator(((8, 12), (16, 24)), ((0.5, 1.0, 2.0),) * 2)
    [expected] = made(image, maps_of([4, 8], (16, 24)))
    corners, strides = grid_anchors(**GRID)
    np.testing.assert_allclose(corners, expected.numpy())
    assert strides.tolist() == [4.0] * 6 * 24 + [8.0] * 6 * 6
    moved, _ = grid_anchors(**GRID, offset=0.5)
    np.testing.assert_allclose(moved - corners, np.repeat(strides, 4).reshape(-1, 4) / 2)


def test_default_boxes_are_those_of_torchvision():
    utils = pytest.importorskip("torchvision.models.detection.anchor_utils")
    images = pytest.importorskip("torchvision.models.detection.image_list")
    image = images.ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    ratios, scales = [[2], [2, 3]], [0.2, 0.5, 1.05]
    made = utils.DefaultBoxGenerator(ratios, scales=scales, steps=[8, 16])
    [expected] = made(image, maps_of([8, 16], (32, 32)))
    corners, strides = default_boxes(scales, ratios, [8, 16], (32, 32))
    np.testing.assert_allclose(corners, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert len(strides) == len(corners) == 4 * 16 + 6 * 4


@pytest.mark.parametrize("form", ["xyxy", "xywh", "cxcywh"])
def test_a_task_of_differences_is_that_of_decoded_boxes(form):
    from art_mtl.tasks.boxes import from_corners

    anchors = random_anchors()
    task = tasks.detection("d", 2, form, anchors=from_corners(anchors, form).numpy(), box_coding="ssd")
    decoded = tasks.detection("d", 2)
    deltas = torch.randn(3, 7, 4, generator=GENERATOR, requires_grad=True)
    scores = torch.rand(3, 7, 2, generator=GENERATOR)
    boxes = decode_boxes(deltas.detach(), anchors, "ssd")
    labels = [{"boxes": random_anchors(2), "labels": torch.tensor([0, 1])} for _ in range(3)]
    own = [{**one, "boxes": from_corners(one["boxes"], form)} for one in labels]
    target, truth = task.targets(own), decoded.targets(labels)
    output = task.check_output({"boxes": deltas, "scores": scores}, target)
    expected = decoded.check_output({"boxes": boxes, "scores": scores}, truth)
    torch.testing.assert_close(output["boxes"], expected["boxes"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(task.loss(output, target), decoded.loss(expected, truth), rtol=1e-4, atol=1e-4)
    for one, other in zip(task.decode({"boxes": deltas, "scores": scores}),
                          decoded.decode({"boxes": boxes, "scores": scores}), strict=True):  # fmt: skip
        torch.testing.assert_close(one["boxes"].detach(), from_corners(other["boxes"], form), rtol=1e-4, atol=1e-4)
    output["boxes"].sum().backward()
    assert bool(deltas.grad.isfinite().all()) and bool((deltas.grad != 0).any())


def test_such_tasks_are_values():
    made = [tasks.detection("d", 2, anchors=GRID, box_coding="yolov3") for _ in range(2)]
    assert made[0] == made[1] == pickle.loads(pickle.dumps(made[0])) and hash(made[0]) == hash(made[1])
    assert made[0] != tasks.detection("d", 2, anchors=GRID, box_coding="yolov5")
    assert "Anchors(180, 'yolov3')" in repr(made[0])


BOX = [[0.0, 0.0, 4.0, 4.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_coding": "ssd"}, "`box_coding` .* should come with `anchors`. Found none"),
        ({"strides": 8}, "`strides` .* should come with `anchors`"),
        ({"anchors": BOX, "box_coding": "detr"}, "one of .*'yolov5'.*, or four positive weights. Found 'detr'"),
        ({"anchors": BOX, "box_coding": [1, 2, 3]}, r"Found \[1, 2, 3\]"),
        ({"anchors": BOX, "box_coding": [1, 2, 3, 0]}, r"Found \[1, 2, 3, 0\]"),
        ({"anchors": BOX, "box_coding": "yolov3"}, "`strides` .* should be given for 'yolov3'"),
        ({"anchors": BOX, "strides": [8, 8]}, r"positive, one or 1, one an anchor. Found shape \(2,\)"),
        ({"anchors": [[0.0, 0.0, 4.0]]}, r"shape \(A, 4\).*Found shape \(1, 3\)"),
        ({"anchors": [[4.0, 0.0, 0.0, 4.0]]}, "with some size. Found .* as anchor 0"),
        ({"anchors": {**GRID, "scale": 1}}, "should have .*'offset', 'round'.*. Found"),
        ({"anchors": {**GRID, "sizes": [[8]]}}, "should have 2 `sizes` for 2 strides. Found 1"),
        ({"anchors": {**GRID, "ratios": [[1.0]]}}, "ratios of 2 levels. Found 1"),
        ({"anchors": GRID, "strides": 8}, "should stand in `anchors`. Found both"),
    ],
)
def test_bad_anchors_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        tasks.detection("d", 2, **options)


def test_another_number_of_boxes_is_told():
    task = tasks.detection("d", 2, anchors=BOX)
    target = task.targets([{"boxes": [[0, 0, 2, 2]], "labels": [1]}])
    with pytest.raises(ValueError, match=r"boxes of shape \(B, 1, 4\), one an anchor. Found \(1, 3, 4\)"):
        task.check_output({"boxes": torch.zeros(1, 3, 4), "scores": torch.zeros(1, 3, 2)}, target)
