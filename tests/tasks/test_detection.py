"""Detection: boxes as labels, candidates or final predictions as outputs."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import (
    MultiTaskAutoAttack,
    MultiTaskPatch,
    MultiTaskPGD,
    StealthyMultiTaskPGD,
    UniversalMultiTaskPGD,
    WorstTaskPGD,
)
from art_mtl.evaluation import evaluate
from art_mtl.metrics import describe_metric, read_metric
from art_mtl.tasks.boxes import FORMS, from_corners, overlaps, suppress, to_corners

CLASSES, SIZE = 3, (40.0, 60.0)
TASK = tasks.detection("things", CLASSES, image_size=SIZE)
RECALL = tasks.detection("things", CLASSES, image_size=SIZE, metric="recall")


def boxes_of(count, generator):
    low = generator.uniform(0, 1, (count, 2)) * [40, 25]
    return np.concatenate([low, low + generator.uniform(5, 15, (count, 2))], 1).astype(np.float32)


def scene(samples=6, seed=0):
    """Labels of 0 to 4 objects, and candidates of which some lie near them."""
    generator = np.random.default_rng(seed)
    labels, boxes, scores = [], [], []
    for count in itertools.islice(itertools.cycle([3, 1, 0, 4, 2]), samples):
        own = boxes_of(count, generator)
        labels.append({"boxes": own, "labels": generator.integers(0, CLASSES, count)})
        near = np.concatenate([own, own, boxes_of(10 - 2 * count, generator)])
        boxes.append(near + generator.normal(0, 0.6, near.shape))
        score = generator.uniform(0, 0.5, (10, CLASSES))
        for j, label in enumerate(labels[-1]["labels"]):
            score[j, label] = generator.uniform(0.3, 1)
        scores.append(score)
    output = {"boxes": torch.tensor(np.array(boxes)), "scores": torch.tensor(np.array(scores))}
    return labels, output


def slow(labels, output, threshold=0.5):
    """Best score of each object, and the false alarms, box by box."""

    def iou(a, b):
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)

    best, alarms = [], 0.0
    for box, label in zip(labels["boxes"], labels["labels"], strict=True):
        on = [s[label].item() for b, s in zip(*output, strict=True) if iou(b.tolist(), box.tolist()) >= threshold]
        best.append(max(on, default=0.0))
    for b, s in zip(*output, strict=True):
        under = [c for box, c in zip(*labels.values(), strict=True) if iou(b.tolist(), box.tolist()) >= threshold]
        alarms += max([s[c].item() for c in range(CLASSES) if c not in under], default=0.0)
    return best, alarms


def test_score_loss_and_objects_found_are_those_of_a_loop_over_boxes():
    labels, raw = scene(11)
    target = TASK.targets(labels)
    output = TASK.check_output(raw, target)
    score, loss, found = TASK.score(output, target), TASK.loss(output, target), TASK.statistics(output, target)
    measures = TASK.measure(output, target)
    assert torch.equal(measures.score, score) and torch.equal(measures.statistics, found)
    seen = set()
    for i, label in enumerate(labels):
        best, alarms = slow(label, (raw["boxes"][i], raw["scores"][i]))
        assert found[i].tolist() == [sum(b >= 0.5 for b in best), len(best)]
        if not best:
            assert score[i] == loss[i] == 0 and not target.has_label[i]
            continue
        seen.add(found[i, 0].item())
        assert score[i].item() == pytest.approx(np.mean(best), abs=1e-9)
        assert loss[i].item() == pytest.approx(-math.log(max(np.mean(best), 1e-4)) + math.log1p(alarms), abs=1e-9)
    assert len(seen) > 1


def test_gradients_are_those_of_finite_differences():
    labels, raw = scene(3)
    target = TASK.targets(labels)
    for name in raw:
        raw[name].requires_grad_(True)
    for what in (TASK.loss, TASK.score):
        value = what(TASK.check_output(raw, target), target).sum()
        slope = torch.autograd.grad(value, raw["scores"])[0]
        step = torch.zeros_like(slope)
        for place in [(0, 0, int(labels[0]["labels"][0])), (1, 0, int(labels[1]["labels"][0])), (0, 8, 1)]:
            step.zero_()[place] = 1e-6
            values = [
                what(TASK.check_output({**raw, "scores": raw["scores"] + s * step}, target), target).sum().item()
                for s in (1, -1)
            ]
            assert slope[place].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)
        assert slope.any() and not slope[2].any()


def test_samples_do_not_depend_on_each_other():
    labels, raw = scene(6)
    target = TASK.targets(labels)
    output = TASK.check_output(raw, target)
    loss, order = TASK.loss(output, target), torch.tensor([4, 2, 0, 5, 1, 3])
    again = TASK.targets([labels[i] for i in order])
    torch.testing.assert_close(TASK.loss(TASK.slice_output(output, order), again), loss[order], rtol=0, atol=0)
    alone = TASK.targets(labels[1:2])
    torch.testing.assert_close(TASK.loss(TASK.slice_output(output, slice(1, 2)), alone), loss[1:2], rtol=0, atol=1e-15)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_boxes_and_of_outputs_say_the_same(form):
    torchvision = pytest.importorskip("torchvision")
    labels, raw = scene()
    other = tasks.detection("things", CLASSES, form, image_size=SIZE)
    boxes = torch.tensor(boxes_of(7, np.random.default_rng(1)))
    converted = torchvision.ops.box_convert(boxes, "xyxy", form)
    torch.testing.assert_close(from_corners(boxes, form), converted)
    torch.testing.assert_close(to_corners(converted, form), boxes)
    same = [{**one, "boxes": from_corners(torch.tensor(one["boxes"]), form)} for one in labels]
    target = other.targets(same)
    expected = TASK.loss(TASK.check_output(raw, TASK.targets(labels)), TASK.targets(labels))
    moved = {**raw, "boxes": from_corners(raw["boxes"], form)}
    torch.testing.assert_close(other.loss(other.check_output(moved, target), target), expected)
    logits = {"pred_boxes": moved["boxes"], "pred_logits": torch.logit(raw["scores"])}
    torch.testing.assert_close(other.loss(other.check_output(logits, target), target), expected)
    # Softmax with "no object" last, which has the logit 0: p / (1 - Σp) for the others.
    small = raw["scores"] / 4
    detr = torch.cat([torch.log(small / (1 - small.sum(2, keepdim=True))), torch.zeros(len(small), 10, 1)], 2)
    found = other.check_output({"boxes": moved["boxes"], "logits": detr}, target)
    torch.testing.assert_close(found["scores"], small)
    # One dict a sample, as if suppression had left one class of each.
    best, label = raw["scores"].max(2)
    listed = [{"boxes": moved["boxes"][i], "scores": best[i], "labels": label[i]} for i in range(len(best))]
    single = {**moved, "scores": torch.where(raw["scores"] == best[..., None], raw["scores"], 0.0)}
    found, as_list = (other.check_output(o, target) for o in (single, listed))
    torch.testing.assert_close(other.loss(as_list, target), other.loss(found, target))
    assert as_list["final"] and other.finite(listed).tolist() == other.finite(raw).tolist() == [True] * 6


def test_overlap_and_suppression_are_those_of_torchvision():
    torchvision = pytest.importorskip("torchvision")
    generator = np.random.default_rng(0)
    boxes = torch.tensor(boxes_of(80, generator))
    torch.testing.assert_close(overlaps(boxes, boxes[:9]), torchvision.ops.box_iou(boxes, boxes[:9]))
    scores, labels = torch.tensor(generator.uniform(size=80)), torch.tensor(generator.integers(0, 3, 80))
    for threshold in (0.2, 0.5):
        expected = torchvision.ops.batched_nms(boxes, scores.float(), labels, threshold)
        assert suppress(boxes, scores, labels, threshold).tolist() == expected.tolist()


def updated(metric, task, output, target):
    for part in (slice(0, 4), slice(4, None)):
        if target[part].has_label.any():
            metric.update(*task.metric_arguments(task.slice_output(output, part), target[part]))
    return metric.compute()


@pytest.mark.parametrize("name", ["map", "map_50"])
def test_map_is_that_of_torchmetrics(name):
    pytest.importorskip("pycocotools")
    torchvision = pytest.importorskip("torchvision")
    labels, raw = scene(11)
    labels[3]["labels"][1] = -1  # a region that does not count
    task = tasks.detection("things", CLASSES, metric=name)
    target = task.targets(labels)
    metric = updated(task.metric.torchmetric(), task, task.check_output(raw, target), target)
    oracle = torchmetrics.detection.MeanAveragePrecision()
    predicted, true = [], []
    for i, label in enumerate(labels):
        if target.has_label[i]:
            kept = raw["scores"][i] > 0.05
            place, cls = kept.nonzero(as_tuple=True)
            box, score = raw["boxes"][i][place], raw["scores"][i][place, cls]
            left = torchvision.ops.batched_nms(box, score, cls, 0.5)
            predicted.append({"boxes": box[left], "scores": score[left], "labels": cls[left]})
            crowd = torch.tensor(label["labels"] == -1).int()
            true.append({"boxes": torch.tensor(label["boxes"]),
                         "labels": torch.tensor(label["labels"]).clamp(min=0), "iscrowd": crowd})  # fmt: skip
    oracle.update(predicted, true)
    assert 0.05 < oracle.compute()[name] < 0.95
    assert metric[task.metric.entry] == oracle.compute()[name]
    known = read_metric(describe_metric(task.metric))
    assert known.entry == name and known.size == 2


def test_map_says_what_it_needs(monkeypatch):
    mean_ap = pytest.importorskip("torchmetrics.detection.mean_ap")
    monkeypatch.setattr(mean_ap, "_PYCOCOTOOLS_AVAILABLE", False)
    monkeypatch.setattr(mean_ap, "_FASTER_COCO_EVAL_AVAILABLE", False)
    with pytest.raises(ModuleNotFoundError, match="mAP needs pycocotools and torchvision: pip install"):
        TASK.metric.torchmetric()


def test_recall_is_the_share_of_objects_found():
    labels, raw = scene(11)
    target = RECALL.targets(labels)
    output = RECALL.check_output(raw, target)
    best = [b for i, label in enumerate(labels) for b in slow(label, (raw["boxes"][i], raw["scores"][i]))[0]]
    share = np.mean([b >= 0.5 for b in best])
    assert updated(RECALL.metric.torchmetric(), RECALL, output, target).item() == pytest.approx(share)
    assert RECALL.metric.value(RECALL.statistics(output, target).sum(0)).item() == pytest.approx(share)
    assert read_metric(describe_metric(RECALL.metric)).name == "recall"


def test_what_is_not_valid_is_neither_object_nor_false_alarm():
    labels, raw = scene(4)
    objects = labels[3]
    expected = {key: np.delete(value, 1, 0) for key, value in objects.items()}
    nan = {**objects, "boxes": objects["boxes"].copy()}
    nan["boxes"][1, 2] = np.nan
    masked = {**objects, "boxes": np.ma.masked_array(objects["boxes"], np.arange(4)[:, None].repeat(4, 1) == 1)}
    ignored = {**objects, "labels": np.where(np.arange(4) == 1, -1, objects["labels"])}
    beside = {**objects, "valid": np.arange(4) != 1}
    hidden = {**objects, "labels": np.ma.masked_array(objects["labels"], np.arange(4) == 1)}
    forms = [expected, nan, masked, ignored, beside, hidden]
    target = TASK.targets(forms)
    labels = MultiTaskLabels({"things": forms})  # on their way through a host
    assert torch.equal(TASK.targets(labels["things"]).value, target.value)
    assert target.count.tolist() == [3] * 6
    output = TASK.check_output({k: v[3:].expand(6, *v.shape[1:]) for k, v in raw.items()}, target)
    score, loss = TASK.score(output, target), TASK.loss(output, target)
    torch.testing.assert_close(score, score[:1].expand(6))
    torch.testing.assert_close(loss[1:3], loss[:1].expand(2))
    # Of a region that does not count the place is known: what is seen there is no false alarm.
    assert (loss[3:] < loss[0]).all()
    _, whole = slow({**objects}, (raw["boxes"][3], raw["scores"][3]))
    assert whole < torch.expm1(loss[0] + score[0].log()).item()


def test_missing_samples_and_images_without_objects_are_out_of_play():
    labels, raw = scene(5)
    assert not len(labels[2]["boxes"])
    labels[0] = None
    target = TASK.targets(labels, np.array([True, False, True, True, True]))
    assert target.has_label.tolist() == [False, False, False, True, True]
    output = TASK.check_output(raw, target)
    assert not (TASK.loss(output, target) * TASK.score(output, target))[:3].any()
    assert not TASK.statistics(output, target)[:3].any()


def test_towards_nothing():
    _, raw = scene(4)
    target = TASK.targets(TASK.nothing(4))
    output = TASK.check_output(raw, target)
    greatest = raw["scores"].amax((1, 2))
    torch.testing.assert_close(TASK.score(output, target), 1 - greatest)
    alarms = raw["scores"].amax(2).sum(1)
    torch.testing.assert_close(TASK.loss(output, target), -(1 - greatest).clamp(min=1e-4).log() + alarms.log1p())
    assert TASK.statistics(output, target).tolist() == [[float(g < 0.5), 1.0] for g in greatest]
    assert [len(one["boxes"]) for one in TASK.shown(target)] == [0] * 4


def test_a_loss_of_ones_own_gets_the_raw_output_and_the_objects():
    labels, raw = scene(4)
    seen = []

    def own(output, given):
        seen.append((output, given))
        return output["scores"].mean((1, 2))

    task = tasks.detection("things", CLASSES, "xywh", image_size=SIZE, loss=own)
    same = [{**one, "boxes": from_corners(torch.tensor(one["boxes"]), "xywh")} for one in labels]
    target = task.targets(same)
    value = task.loss(task.check_output({**raw, "more": torch.ones(4)}, target), target)
    torch.testing.assert_close(value, torch.where(target.has_label, raw["scores"].mean((1, 2)), 0.0))
    output, given = seen[0]
    assert output.keys() == {"boxes", "scores", "more"} and torch.equal(output["boxes"], raw["boxes"])
    for one, true in zip(given, same, strict=True):
        torch.testing.assert_close(one["boxes"], true["boxes"])
        assert one["labels"].tolist() == true["labels"].tolist()
    bad = tasks.detection("things", CLASSES, loss=lambda output, given: output["scores"].mean())
    with pytest.raises(ValueError, match="loss of task 'things' should have shape \\(4,\\).*Found \\(\\)"):
        bad.loss(bad.check_output(raw, target), target)


def test_outputs_as_labels_are_what_the_model_finds():
    _, raw = scene(6)
    decoded = TASK.decode(raw)
    for i, one in enumerate(decoded):
        candidates = [(s, b, c) for b, row in zip(raw["boxes"][i], raw["scores"][i], strict=True)
                      for c, s in enumerate(row) if s >= 0.5]  # fmt: skip
        left = []
        for _, b, c in sorted(candidates, key=lambda entry: -entry[0]):
            if all(c != d or overlaps(b[None], e[None]) <= 0.5 for e, d in left):
                left.append((b, c))
        assert one["labels"].tolist() == [c for _, c in left]
        torch.testing.assert_close(
            one["boxes"], torch.stack([b for b, _ in left]) if left else torch.zeros(0, 4).double()
        )
    target = TASK.targets(decoded)
    rows = [{key: value[i] for key, value in raw.items()} for i in range(6)]
    assert torch.equal(TASK.targets(rows).value, target.value)
    output = TASK.check_output(raw, target)
    assert TASK.metric.value(TASK.statistics(output, target).sum(0)) == 1


BAD = {
    "x2 < x1": ({"boxes": [[9, 1, 5, 8]], "labels": [0]}, "x1 < x2 and y1 < y2. Found \\[9.0, 1.0, 5.0, 8.0\\]"),
    "no width": ({"boxes": [[5, 1, 5, 8]], "labels": [0]}, "x1 < x2"),
    "left of the image": ({"boxes": [[-9, 1, 5, 8]], "labels": [0]}, "inside the image of height 40 and width 60"),
    "below the image": ({"boxes": [[1, 1, 5, 48]], "labels": [0]}, "inside the image of height 40 and width 60"),
    "infinite": ({"boxes": [[1, 1, np.inf, 8]], "labels": [0]}, "inside the image"),
    "class 3": ({"boxes": [[1, 1, 5, 8]], "labels": [3]}, "classes in \\[0, 2\\], or -1 to ignore. Found \\[3\\]"),
    "class -3": ({"boxes": [[1, 1, 5, 8]], "labels": [-3]}, "classes in \\[0, 2\\]"),
    "two classes": ({"boxes": [[1, 1, 5, 8]], "labels": [0, 1]}, "shape \\(M,\\). Found \\(1, 4\\) and \\(2,\\)"),
    "flat": ({"boxes": [1, 1, 5, 8], "labels": [0]}, "shape \\(M, 4\\)"),
    "no labels": ({"boxes": [[1, 1, 5, 8]]}, "a dict with 'boxes' and 'labels'.*Found a mapping with the keys"),
    "an array": (np.zeros((1, 4)), "a dict with 'boxes' and 'labels'.*Found ndarray"),
}


@pytest.mark.parametrize(("row", "message"), BAD.values(), ids=BAD)
def test_bad_labels_are_refused_before_any_work(row, message):
    good = {"boxes": [[1, 1, 5, 8]], "labels": [0]}
    with pytest.raises(ValueError, match=f"(?s)labels of task 'things' should be .*{message}.* in sample 1"):
        TASK.targets([good, row])
    model = Detector()
    model.forward = lambda x: pytest.fail("the model ran")
    attack = ta.MultiTaskPGD(model, [TASK], eps=0.1, steps=1)
    with pytest.raises((ValueError, TypeError), match="things"):
        attack(torch.rand(2, 3, 40, 60), {"things": [good, row]})


def test_without_a_size_only_what_lies_below_zero_is_outside():
    task = tasks.detection("things", CLASSES)
    assert task.targets([{"boxes": [[1, 1, 500, 800]], "labels": [0]}]).has_label.all()
    with pytest.raises(ValueError, match="inside the image"):
        task.targets([{"boxes": [[-30, 1, 500, 800]], "labels": [0]}])
    with pytest.raises(TypeError, match="class numbers. Found fractions"):
        task.targets([{"boxes": [[1, 1, 5, 8]], "labels": [0.5]}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "`num_classes`"),
        ({"boxes": "yxyx"}, "`boxes` of task 'd' should be one of \\['xyxy'|\\('xyxy'"),
        ({"metric": "ap"}, "`metric` of task 'd' should be one of \\['map', 'map_50', 'recall'\\]"),
        ({"image_size": 40}, "`image_size` of task 'd' should be None or a height and a width. Found 40"),
        ({"image_size": (40, 0)}, "`image_size`"),
        ({"score_threshold": 1}, "`score_threshold` of task 'd' should be between 0 and 1"),
        ({"loss": 3}, "`loss` of task 'd' should be a callable"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tasks.detection("d", **{"num_classes": 3, **options})


def test_outputs_that_do_not_fit_are_named():
    labels, raw = scene(4)
    target = TASK.targets(labels)
    for output, found in (
        ({**raw, "scores": raw["scores"][..., :2]}, "Found \\(4, 10, 4\\) and \\(4, 10, 2\\)"),
        ({**raw, "boxes": raw["boxes"][..., :3]}, "Found \\(4, 10, 3\\)"),
        ({**raw, "boxes": raw["boxes"][:3]}, "Found \\(3, 10, 4\\)"),
    ):
        with pytest.raises(
            ValueError, match=f"output for task 'things' should have boxes of shape \\(4, A, 4\\).*{found}"
        ):
            TASK.check_output(output, target)
    listed = [{"boxes": torch.ones(1, 4), "labels": torch.tensor([7]), "scores": torch.ones(1)}] * 4
    with pytest.raises(ValueError, match="classes in \\[0, 2\\]. Found \\[7, 7\\]"):
        TASK.check_output(listed, target)
    with pytest.raises(ValueError, match="'things' should have one entry for each of 3 samples. Found 4"):
        TASK.check_size(listed, 3)
    with pytest.raises(ValueError, match="'things' should be a mapping with 'boxes' and 'scores'.*Found Tensor"):
        TASK.select(torch.ones(2, 3), 0, 1)


def test_the_task_is_a_value():
    other = tasks.detection("things", CLASSES, image_size=[40, 60])
    assert other == TASK == copy.deepcopy(TASK) == pickle.loads(pickle.dumps(TASK)) and hash(other) == hash(TASK)
    assert RECALL != TASK and other.metric == TASK.metric


def test_pictures_are_frames():
    labels, _ = scene(4)
    labels[0]["labels"] = np.array([0, 1, -1])
    shown = TASK.shown(TASK.targets(labels))
    for one, true in zip(shown, labels, strict=True):
        np.testing.assert_array_equal(one["boxes"], true["boxes"])
        assert one["labels"].tolist() == true["labels"].tolist()
    picture = TASK.picture(shown[0])
    assert picture.shape == (171, 256, 3)
    x1, y1 = (shown[0]["boxes"][0, :2] * 256 / 60).astype(int)
    assert (picture[y1, x1] != 1).any() and (TASK.picture(shown[2]) == 1).all()
    assert TASK.answer(shown[0]) == TASK.caption(shown[0]) == "3 objects" and TASK.answer(None) == "?"
    assert TASK.classes_in(shown[0]).tolist() == [-1, 0, 1] and not len(TASK.classes_in(None))


def test_frames_are_drawn_over_the_image():
    image = np.random.default_rng(0).uniform(size=(3, 40, 60))
    label = {"boxes": np.array([[10.0, 5.0, 30.0, 25.0]]), "labels": np.array([1])}
    frame, over = TASK.picture(label), TASK.picture(label, image=image)
    drawn = (frame != 1).any(-1)
    np.testing.assert_array_equal(over[drawn], frame[drawn])
    rows, columns = np.nonzero(~drawn)
    below = image[:, ((rows + 0.5) * 40 / 171).astype(int), ((columns + 0.5) * 60 / 256).astype(int)]
    np.testing.assert_array_equal(over[~drawn], below.T)
    assert 0 < drawn.mean() < 0.1
    free = tasks.detection("things", CLASSES)  # boxes are in pixels
    np.testing.assert_array_equal(free.picture(label, image=image), over)
    shares = tasks.detection("things", CLASSES, image_size=(1, 1))
    label["boxes"] = label["boxes"] / [60, 40, 60, 40]
    np.testing.assert_array_equal(shares.picture(label, image=image), over)


# --- through attacks, evaluation and report ---


class Detector(nn.Module):
    """One candidate for each cell of a grid: the score is how bright it is, the class which colour; and the mean."""

    def __init__(self, listed=False, nested=True):
        super().__init__()
        self.listed, self.nested = listed, nested
        self.register_buffer("boxes", torch.tensor(
            [[12 * i + 1.0, 10 * j + 1, 12 * i + 11, 10 * j + 9] for j in range(4) for i in range(5)]))  # fmt: skip
        self.weight = nn.Parameter(torch.tensor(12.0))

    def forward(self, x):
        cells = nn.functional.adaptive_avg_pool2d(x, (4, 5)).flatten(2).mT
        scores = torch.sigmoid(self.weight * (cells - 0.5))
        boxes = self.boxes + 0.5 * (cells[..., :1] - 0.5)
        out = {"boxes": boxes, "scores": scores}
        if self.listed:
            best, label = scores.max(2)
            keep = best > 0.05
            out = [
                {"boxes": b[k], "scores": s[k], "labels": c[k]}
                for b, s, c, k in zip(boxes, best, label, keep, strict=True)
            ]
        return {"things": out, "mean": x.mean((1, 2, 3))} if self.nested else out


def images(count=6):
    generator = np.random.default_rng(3)
    x = np.full((count, 3, 40, 60), 0.2, np.float32) + generator.uniform(0, 0.1, (count, 3, 40, 60)).astype(np.float32)
    labels = []
    for i, number in enumerate([3, 1, 0, 2, 4, 1][:count]):
        cells, classes = generator.permutation(20)[:number], generator.integers(0, 3, number)
        for cell, cls in zip(cells, classes, strict=True):
            x[i, cls, 10 * (cell // 5) : 10 * (cell // 5) + 10, 12 * (cell % 5) : 12 * (cell % 5) + 12] = 0.75
        corners = [[12 * (c % 5), 10 * (c // 5), 12 * (c % 5) + 12, 10 * (c // 5) + 10] for c in cells]
        labels.append({"boxes": np.array(corners, np.float32).reshape(-1, 4), "labels": classes})
    return x, {"things": labels, "mean": x.mean((1, 2, 3))}


LISTED = pytest.mark.parametrize("listed", [False, True], ids=["candidates", "a list"])
JOBS = [RECALL, tasks.regression("mean")]


def estimator(listed=False, jobs=JOBS):
    return PyTorchMultiTaskEstimator(Detector(listed), jobs, (3, 40, 60), clip_values=(0, 1), device_type="cpu")


def found(host, x, y):
    target = RECALL.targets(y["things"])
    output = RECALL.check_output(host.raw_outputs(x)[0], target)
    return RECALL.metric.value(RECALL.statistics(output, target).sum(0)).item(), RECALL.score(output, target)


@LISTED
@pytest.mark.parametrize("attack", [MultiTaskPGD, WorstTaskPGD])
def test_attacks_of_art_lose_the_objects(listed, attack):
    (x, y), host = images(), estimator(listed)
    assert found(host, x, y)[0] == 1
    with pytest.warns(RuntimeWarning, match="'things' has no valid label on sample\\(s\\) \\[2\\]"):
        adversarial = attack(host, eps=0.3, max_iter=6, batch_size=4, verbose=False).generate(x, y)
    value, score = found(host, adversarial, y)
    before = found(host, x, y)[1]
    assert value < 0.5 and (score < before)[RECALL.targets(y["things"]).has_label].all()
    assert np.abs(adversarial - x).max() <= 0.3 + 1e-6 and adversarial.min() >= 0 and adversarial.max() <= 1


@LISTED
def test_order_of_samples_and_of_tasks_changes_nothing(listed):
    x, y = images()
    kept = [0, 1, 3, 4]
    x, y = x[kept], {"things": [y["things"][i] for i in kept], "mean": y["mean"][kept]}
    run = {"eps": 0.2, "max_iter": 4, "batch_size": 4, "verbose": False}
    whole = MultiTaskPGD(estimator(listed), **run).generate(x, y)
    order = [2, 0, 3, 1]
    mixed = MultiTaskPGD(estimator(listed), **run).generate(
        x[order], {"things": [y["things"][i] for i in order], "mean": y["mean"][order]}
    )
    np.testing.assert_allclose(mixed, whole[order], atol=1e-6)
    other = MultiTaskPGD(estimator(listed, JOBS[::-1]), **run).generate(x, y)
    np.testing.assert_allclose(other, whole, atol=1e-6)
    parts = MultiTaskPGD(estimator(listed), **{**run, "batch_size": 3}).generate(x, y)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


@LISTED
def test_attacks_of_torchattacks_towards_nothing_and_towards_boxes(listed):
    x, y = images(4)
    model = Detector(listed, nested=False).eval()
    host = estimator(listed)
    attack = ta.MultiTaskPGD(model, [RECALL], eps=0.4, steps=12)
    attack.set_mode_targeted_by_label(quiet=True)
    empty = attack(torch.tensor(x), {"things": RECALL.nothing(4)}).numpy()
    assert found(host, x, y)[0] == 1 and found(host, empty, y)[0] == 0
    assert all(len(one["boxes"]) == 0 for one in RECALL.decode(host.raw_outputs(empty)[0]))
    if listed:  # suppression has left one class a box, of the others there is no score to raise
        return
    wanted = [{**one, "labels": (one["labels"] + 1) % 3} for one in y["things"]]
    with pytest.warns(RuntimeWarning, match="no valid label on sample"):
        moved = attack(torch.tensor(x), {"things": wanted}).numpy()
    before, after = (found(host, z, {"things": wanted})[1] for z in (x, moved))
    assert (after > before + 0.2)[[0, 1, 3]].all()


@LISTED
@pytest.mark.parametrize("options", [{"keep": "best"}, {"prepare": "fp32"}, {"weight_scope": "sample"}], ids=str)
def test_options_of_attacks(listed, options):
    (x, y), host = images(), estimator(listed)
    with pytest.warns(RuntimeWarning, match="no valid label"):
        attack = WorstTaskPGD(host, eps=0.3, max_iter=6, batch_size=4, verbose=False, **options)
        assert found(host, attack.generate(x, y), y)[0] < 0.5


@LISTED
@pytest.mark.parametrize("name", ["auto-attack", "universal", "patch", "stealthy", "restarts"])
def test_other_searches(listed, name):
    x, y = images()
    x, y = x[3:], {"things": y["things"][3:], "mean": y["mean"][3:]}
    host = estimator(listed)
    attack = {
        "restarts": lambda: MultiTaskPGD(host, eps=0.3, max_iter=3, num_random_init=2, keep="best", verbose=False),
        "auto-attack": lambda: MultiTaskAutoAttack(host, eps=0.3, version="fast", batch_size=2, verbose=False),
        "universal": lambda: UniversalMultiTaskPGD(host, eps=0.3, max_iter=6, verbose=False),
        "patch": lambda: MultiTaskPatch(host, size=(20, 30), max_iter=6, verbose=False),
        "stealthy": lambda: StealthyMultiTaskPGD(host, "things", eps=0.3, max_iter=6, verbose=False),
    }[name]()
    target = RECALL.targets(y["things"])
    before, after = (RECALL.loss(RECALL.check_output(host.raw_outputs(z)[0], target), target)
                     for z in (x, attack.generate(x, y)))  # fmt: skip
    assert after.sum() > before.sum()


@LISTED
def test_memory_for_two_samples_changes_nothing(listed):
    x, y = images()
    x, y = x[3:], {"things": y["things"][3:], "mean": y["mean"][3:]}
    run = {"eps": 0.3, "max_iter": 4, "verbose": False}
    whole, host = MultiTaskPGD(estimator(listed), **run).generate(x, y), estimator(listed)

    def short(module, args):
        if len(args[0]) > 2:
            raise RuntimeError("out of memory")

    host.model.register_forward_pre_hook(short)
    np.testing.assert_allclose(MultiTaskPGD(host, **run).generate(x, y), whole, atol=1e-6)


@LISTED
def test_secml_torch(listed):
    secmlt = pytest.importorskip("art_mtl.secmlt")
    from torch.utils.data import DataLoader

    x, y = images()
    kept = [0, 1, 3, 4]
    rows = [(torch.tensor(x[i]), {"things": y["things"][i], "mean": y["mean"][i]}) for i in kept]

    def collate(part):
        return torch.stack([r[0] for r in part]), {
            "things": [r[1]["things"] for r in part], "mean": torch.tensor(np.array([r[1]["mean"] for r in part]))
        }  # fmt: skip

    attack = secmlt.WorstTaskPGD(JOBS, perturbation_model="linf", epsilon=0.3, num_steps=6, step_size=0.2)
    z = torch.cat([b for b, _ in attack(Detector(listed).eval(), DataLoader(rows, 2, collate_fn=collate))]).numpy()
    labels = {"things": [y["things"][i] for i in kept]}
    assert found(estimator(listed), x[kept], labels)[0] == 1 and found(estimator(listed), z, labels)[0] < 0.5


def test_the_models_own_predictions_are_attacked_without_labels():
    (x, y), host = images(), estimator()
    own = host.own_labels(x)["things"]
    assert [sorted(one["labels"]) for one in own] == [sorted(one["labels"]) for one in y["things"]]
    with pytest.warns(RuntimeWarning, match="no valid label"):
        adversarial = MultiTaskPGD(host, eps=0.3, max_iter=8, verbose=False).generate(x)
    assert found(host, adversarial, y)[0] < 0.5


@pytest.mark.parametrize("metric", ["recall", "map"])
@LISTED
def test_it_is_evaluated_stored_and_reported(listed, metric, tmp_path):
    if metric == "map":
        pytest.importorskip("pycocotools")
    x, y = images()
    task = tasks.detection("things", CLASSES, image_size=SIZE, metric=metric)
    host = estimator(listed, [task, JOBS[1]])

    def run(**options):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no valid label")
            return evaluate(host, ["equal"], (x, y), norm="linf", eps=0.3, steps=4, progress=False, **options)

    result = run(out=tmp_path / "run", chunk=4)
    clean = result.results.tasks[0]
    # The candidates lie on their objects with an IoU of 80/120: on 4 of the 10 thresholds of mAP.
    assert clean.metric == task.metric.name and clean.clean == pytest.approx(0.4 if metric == "map" else 1)
    assert result["equal"].values[0] < 0.6 * clean.clean
    again = run(out=tmp_path / "run", chunk=4)
    assert again.results.attacks == result.results.attacks
    whole = run()
    assert whole["equal"].values[1] == pytest.approx(result["equal"].values[1], abs=0.05)
    result.report(tmp_path / "report")
    assert any((tmp_path / "report").rglob("example*.png"))


def laid_out(boxes, scores, layout):
    """The same candidates as detectors return them, and what the task has to be told."""
    none = scores.new_full((*scores.shape[:2], 1), 0.25)
    if layout == "boxes (B, 4, A)":
        return {"boxes": boxes.mT, "scores": scores.mT}, {}
    if layout == "boxes (B, A, 1, 4)":
        return {"boxes": boxes.unsqueeze(2), "scores": scores}, {}
    if layout == "scores, background first":
        return {"boxes": boxes, "scores": torch.cat([none, scores], 2)}, {"background": "first"}
    if layout == "scores, background last":
        return {"boxes": boxes, "scores": torch.cat([scores, none], 2)}, {"background": "last"}
    if layout == "table, background first":
        return torch.cat([boxes, none, scores], 2), {"background": "first"}
    if layout == "table with objectness":
        return torch.cat([boxes, 2 * none, 2 * scores], 2), {}
    table = torch.cat([boxes, scores], 2)
    return (table if layout == "table" else table.mT), {}


LAYOUTS = (
    "boxes (B, 4, A)",
    "boxes (B, A, 1, 4)",
    "scores, background first",
    "scores, background last",
    "table, background first",
    "table with objectness",
    "table",
    "table, A last",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_candidates_are_the_same_candidates(layout: str) -> None:
    """As the mapping of rows of boxes and of scores: loss, score, statistics, decoded labels and what is finite."""
    labels, output = scene()
    expected = TASK.check_output(output, TASK.targets(labels))
    other, told = laid_out(output["boxes"], output["scores"], layout)
    task = tasks.detection("things", CLASSES, image_size=SIZE, **told)
    targets = task.targets(labels)
    assert task.select(other if isinstance(other, dict) else [other], 0, 1) is other
    task.check_selected(other)
    found = task.check_output(other, targets)
    for name in ("loss", "score", "statistics"):
        torch.testing.assert_close(getattr(task, name)(found, targets), getattr(TASK, name)(expected, targets))
    for ours, theirs in zip(task.decode(other), TASK.decode(output), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert task.finite(other).tolist() == [True] * len(labels)
    poisoned = other.clone() if isinstance(other, torch.Tensor) else {k: v.clone() for k, v in other.items()}
    (poisoned if isinstance(poisoned, torch.Tensor) else poisoned["scores"])[1] = math.nan
    assert task.finite(poisoned).tolist() == [i != 1 for i in range(len(labels))]


@pytest.mark.parametrize(("background", "column"), [("first", 0), ("last", CLASSES), (None, CLASSES)])
def test_logits_with_a_background_are_softmaxed(background: str | None, column: int) -> None:
    labels, output = scene()
    logits = torch.randn(6, 10, CLASSES + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    task = tasks.detection("things", CLASSES, background=background)
    found = task.check_output({"boxes": output["boxes"], "logits": logits}, task.targets(labels))
    classes = [c for c in range(CLASSES + 1) if c != column]
    torch.testing.assert_close(found["scores"], (logits.exp() / logits.exp().sum(2, keepdim=True))[..., classes])


@pytest.mark.parametrize(
    ("background", "width", "expected"),
    [
        (None, CLASSES + 1, r"\(6, A, 3\), or logits of 4 classes with 'no object'; `background` says which"),
        ("first", CLASSES, r"\(6, A, 3\), and one for 'no object', the first"),
    ],
)
def test_scores_of_another_number_are_refused(background: str | None, width: int, expected: str) -> None:
    labels, output = scene()
    task = tasks.detection("things", CLASSES, background=background)
    with pytest.raises(ValueError, match=f"{expected}.*Found .*10, {width}"):
        task.check_output({"boxes": output["boxes"], "scores": torch.rand(6, 10, width)}, task.targets(labels))
    with pytest.raises(ValueError, match="`background` of task 'things' should be one of.*'middle'"):
        tasks.detection("things", CLASSES, background="middle")
