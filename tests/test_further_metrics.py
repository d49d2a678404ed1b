"""Named measures of every kind of task, against scikit-learn, torchmetrics and closed forms, with ignored places."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn import metrics as sk
from torch import Tensor

from art_mtl import tasks
from art_mtl.metrics import describe_metric, read_metric

N = 6


def measured(task, output: Tensor, labels, name: str) -> float:
    """A named measure of raw outputs, by sums of statistics; its class, updated in two parts, has to agree."""
    metric = task.further_metrics[name]
    target = task.targets(labels)
    output = task.check_output(output, target)
    rows = task.further_statistics(metric, output, target)
    assert rows.shape == (len(target), metric.size) and rows.dtype == torch.float64
    found = float(metric.value(rows.sum(0)))
    made = metric.torchmetric()
    for part in (slice(0, 2), slice(2, None)):
        made.update(*task.further_arguments(metric, task.slice_output(output, part), target[part]))
    assert float(made.compute()) == pytest.approx(found, rel=1e-5)
    known = read_metric(describe_metric(metric))
    assert float(known.value(rows.sum(0))) == found
    return found


def classes(count: int, *shape: int) -> tuple[Tensor, np.ndarray]:
    """Logits of classes, of which the last one is never true, and labels with ignored places."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(-1, count - 1, (N, *shape), generator=generator)
    return torch.randn(N, count, *shape, generator=generator), labels.numpy()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("pixel-accuracy", sk.accuracy_score),
        ("class-accuracy", lambda t, p: sk.recall_score(t, p, average="macro", labels=np.unique(t))),
        ("f1-macro", lambda t, p: sk.f1_score(t, p, average="macro")),
        ("f1-micro", lambda t, p: sk.f1_score(t, p, average="micro")),
    ],
)
def test_segmentation(name, reference):
    logits, labels = classes(5, 4, 3)
    known = labels >= 0
    expected = reference(labels[known], logits.argmax(1).numpy()[known])
    assert measured(tasks.segmentation("s", 5), logits, labels, name) == pytest.approx(expected)


def test_f1_leaves_an_ignored_class_out_as_miou_does():
    logits, labels = classes(5, 4, 3)
    labels = np.abs(labels)
    task = tasks.segmentation("s", 5, ignore_index=0)
    known = labels != 0
    f1 = sk.f1_score(labels[known], logits.argmax(1).numpy()[known], average=None, labels=[1, 2, 3, 4], zero_division=0)
    assert measured(task, logits, labels, "f1-macro") == pytest.approx(f1.mean())


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("accuracy", lambda t, o: sk.accuracy_score(t, o.argmax(1))),
        ("class-accuracy", lambda t, o: sk.recall_score(t, o.argmax(1), average="macro", labels=np.unique(t))),
        ("f1-macro", lambda t, o: sk.f1_score(t, o.argmax(1), average="macro")),
        ("top-5-accuracy", lambda t, o: sk.top_k_accuracy_score(t, o, k=5, labels=range(8))),
    ],
)
def test_classification(name, reference):
    logits, labels = classes(8)
    expected = reference(np.abs(labels), logits.numpy())
    assert measured(tasks.classification("c", 8), logits, np.abs(labels), name) == pytest.approx(expected)


THRESHOLD = 0.3
CUT = math.log(THRESHOLD / (1 - THRESHOLD))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("pixel-accuracy", sk.accuracy_score),
        ("f1", sk.f1_score),
        ("iou", sk.jaccard_score),
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
    ],
)
def test_binary_maps_with_a_threshold(name, reference):
    logits, labels = classes(3, 5, 4)
    task = tasks.binary_segmentation("b", threshold=THRESHOLD)
    known = labels >= 0
    expected = reference(labels[known], (logits[:, 0].numpy() > CUT)[known])
    assert measured(task, logits[:, :1], labels, name) == pytest.approx(expected)
    if name != "pixel-accuracy":
        flat, one = logits[:, 0, 0, 0], labels[:, 0, 0]
        expected = reference(one[one >= 0], flat.numpy()[one >= 0] > CUT)
        assert measured(tasks.binary("b", THRESHOLD), flat, one, name) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("accuracy", lambda t, p: (t == p).mean()),
        ("f1-micro", lambda t, p: sk.f1_score(t, p, average="micro")),
        ("f1-macro", lambda t, p: sk.f1_score(t, p, average="macro")),
        ("iou", lambda t, p: sk.jaccard_score(t, p, average="macro")),
    ],
)
@pytest.mark.parametrize("is_map", [False, True])
def test_overlapping_labels(name, reference, is_map):
    shape = (4, 3, 2) if is_map else (4,)
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 2, (N, *shape), generator=generator).numpy()
    labels[2] = -1  # a sample without a label: what is known of the others is whole, as scikit-learn wants it
    logits = torch.randn(N, *shape, generator=generator)
    task = (tasks.multilabel_segmentation if is_map else tasks.multilabel)("m", 4)
    flat = [np.moveaxis(a[np.arange(N) != 2], 1, -1).reshape(-1, 4) for a in (labels, logits.numpy() > 0)]
    assert measured(task, logits, labels, name) == pytest.approx(reference(*(a.astype(int) for a in flat)))


def holes(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positive outputs and labels, and which count."""
    generator = torch.Generator().manual_seed(7)
    output, label = (0.5 + 3 * torch.rand(N, *shape, generator=generator) for _ in range(2))
    valid = torch.rand(N, *shape, generator=generator) > 0.3
    output[0, ..., 0] = -1.0
    return output, label, valid


@pytest.mark.parametrize("kind", [tasks.depth, tasks.disparity])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("abs-err", sk.mean_absolute_error),
        ("rmse", lambda t, o: math.sqrt(sk.mean_squared_error(t, o))),
        ("abs-rel", sk.mean_absolute_percentage_error),
        *((f"delta-1.25{end}", lambda t, o, p=p: ((o > 0) & (abs(np.log(abs(o) / t)) < p * math.log(1.25))).mean())
          for p, end in ((1, ""), (2, "-2"), (3, "-3"))),
    ],
)  # fmt: skip
def test_depth(kind, name, reference):
    output, label, valid = holes(1, 5, 4)
    task = kind("d")
    found = measured(task, output, torch.where(valid, label, task.invalid), name)
    assert found == pytest.approx(reference(label[valid].numpy(), output[valid].numpy()), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("mean-angle", np.mean),
        ("rmse", lambda a: math.sqrt(np.mean(a**2))),
        *((f"within-{d:g}", lambda a, d=d: np.mean(a < d)) for d in (11.25, 22.5, 30)),
    ],
)
def test_normals(name, reference):
    generator = torch.Generator().manual_seed(1)
    label = torch.nn.functional.normalize(torch.randn(N, 3, 5, 4, generator=generator), dim=1)
    output = label + 0.3 * torch.randn(label.shape, generator=generator)
    valid = torch.rand(N, 5, 4, generator=generator) > 0.3
    angles = torch.rad2deg(torch.acos(torch.cosine_similarity(output.double(), label.double()))).numpy()
    found = measured(tasks.surface_normals("n"), output, torch.where(valid[:, None], label, 0.0), name)
    assert found == pytest.approx(reference(angles[valid.numpy()]), rel=1e-5)


@pytest.mark.parametrize("name", ["mae", "rmse", "psnr", "ssim"])
def test_images(name):
    output, label, valid = holes(12, 13)
    output, label = (torch.stack([one, one / 2], 1) for one in (output, label))
    task = tasks.image("i", 2, data_range=4.0)
    hidden = torch.where(valid[:, None], label, torch.nan)
    p, t = (one.movedim(1, -1)[valid].numpy() for one in (output, label))
    if name == "ssim":  # a place that does not count is taken for right; with all places torchmetrics agrees
        same = tasks.image("i", 2, metric="ssim", data_range=4.0)
        target = same.targets(hidden)
        expected = float(same.score(same.check_output(output, target), target).mean())
    else:
        error = sk.mean_squared_error(t, p)
        expected = {"mae": sk.mean_absolute_error(t, p), "rmse": math.sqrt(error), "psnr": 10 * math.log10(16 / error)}
        expected = expected[name]
    assert measured(task, output, hidden, name) == pytest.approx(expected, rel=1e-4)


def test_regression_ordinal_embedding_and_points():
    output, label, _ = holes(3)
    found = measured(tasks.regression("r"), output, label, "rmse")
    assert found == pytest.approx(math.sqrt(sk.mean_squared_error(label, output)))
    logits, classes_ = classes(4)
    known, predicted = classes_ >= 0, logits.argmax(1).numpy()
    for name, most in (("accuracy", 0), ("within-1", 1)):
        expected = (abs(predicted - classes_)[known] <= most).mean()
        assert measured(tasks.ordinal("o", 4), logits, classes_, name) == pytest.approx(expected)
    vectors = torch.where(torch.arange(N)[:, None] == 1, torch.nan, label)
    cosine = 1 - torch.cosine_similarity(output, label)[torch.arange(N) != 1].mean()
    assert measured(tasks.embedding("e", 0.1), output, vectors, "distance") == pytest.approx(float(cosine), rel=1e-5)
    points, truth, seen = holes(5, 2)
    seen = seen[..., 0]
    distance = (points - truth).norm(dim=2)[seen]
    task = tasks.keypoints("k", 5, normalise=4.0)
    hidden = torch.where(seen[..., None], truth, torch.nan)
    assert measured(task, points, hidden, "nme") == pytest.approx(float(distance.mean()) / 4, rel=1e-5)
    assert measured(task, points, hidden, "pck-0.2") == pytest.approx(float((distance <= 0.8).float().mean()))


def test_detection_has_what_torchmetrics_finds_at_other_overlaps():
    task = tasks.detection("d", 2)
    generator = torch.Generator().manual_seed(2)
    corner = 50 * torch.rand(N, 4, 2, generator=generator)
    boxes = torch.cat([corner, corner + 10 + 20 * torch.rand(N, 4, 2, generator=generator)], 2)
    labels = [{"boxes": b.numpy(), "labels": np.array([0, 1, 1, 0])} for b in boxes]
    near = boxes + 2 * torch.randn(boxes.shape, generator=generator)
    near[..., 2:] = torch.maximum(near[..., 2:], near[..., :2] + 1)
    output = [{"boxes": b, "labels": torch.tensor([0, 1, 1, 0]), "scores": torch.rand(4, generator=generator)}
              for b in near]  # fmt: skip
    reference = torchmetrics.detection.MeanAveragePrecision()
    target = task.targets(labels)
    reference.update(output, [{k: torch.as_tensor(v) for k, v in one.items()} for one in labels])
    expected = reference.compute()
    checked = task.check_output(output, target)
    for name, entry in (("map", "map"), ("map-50", "map_50"), ("map-75", "map_75")):
        metric = task.further_metrics[name]
        made = metric.torchmetric()
        made.update(*task.further_arguments(metric, checked, target))
        assert float(made.compute()[metric.entry]) == pytest.approx(float(expected[entry]))
    rows = task.further_statistics(task.further_metrics["recall"], checked, target)
    assert rows[:, 1].sum() == 4 * N
