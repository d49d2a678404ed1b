"""Kinds of one logit a label: `binary`, `binary_segmentation`, `multilabel_segmentation`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn import metrics as sk

from art_mtl import tasks
from art_mtl.metrics import describe_metric, read_metric

SHAPES = {"binary": (), "binary_segmentation": (6, 7), "multilabel_segmentation": (3, 6, 7)}


def make(kind, **options):
    count = (3,) if kind == "multilabel_segmentation" else ()
    return getattr(tasks, kind)("t", *count, **options)


def case(kind, n=9):
    torch.manual_seed(0)
    return torch.randn(n, *SHAPES[kind]), torch.randint(-1, 2, (n, *SHAPES[kind]))


def values(task, output, y):
    """The metric from statistics, and from the torchmetrics class, in two parts."""
    target = task.targets(y)
    output = task.check_output(output, target)
    metric = task.metric.torchmetric()
    for part in (slice(0, 4), slice(4, None)):
        metric.update(*task.metric_arguments(output[part], target[part]))
    known = read_metric(describe_metric(task.metric))
    statistics = task.statistics(output, target)
    assert statistics.shape == (len(y), task.metric.size) and statistics.dtype == torch.float64
    assert known.value(statistics.sum(0)) == task.metric.value(statistics.sum(0))
    return task.metric.value(statistics.sum(0)).item(), metric.compute().item()


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_accuracy_is_that_of_torchmetrics(threshold):
    task, (output, y) = tasks.binary("t", threshold), case("binary", 40)
    oracle = torchmetrics.classification.BinaryAccuracy(threshold, ignore_index=-1)
    oracle.update(torch.sigmoid(output), y)
    assert values(task, output, y) == pytest.approx([oracle.compute().item()] * 2, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_iou_of_one_mask_is_that_of_torchmetrics_and_sklearn(threshold):
    task, (output, y) = tasks.binary_segmentation("t", threshold), case("binary_segmentation")
    oracle = torchmetrics.classification.BinaryJaccardIndex(threshold, ignore_index=-1)
    oracle.update(torch.sigmoid(output), y)
    known = y >= 0
    score = sk.jaccard_score(y[known], torch.sigmoid(output)[known] > threshold)
    assert oracle.compute().item() == pytest.approx(score, abs=1e-6)
    assert values(task, output, y) == pytest.approx([score] * 2, abs=1e-6)
    assert values(task, output[:, None], y[:, None]) == pytest.approx([score] * 2, abs=1e-6)


@pytest.mark.parametrize("labels", [1, 3])
def test_iou_of_overlapping_masks_is_that_of_sklearn(labels):
    task = tasks.multilabel_segmentation("t", labels)
    output, y = torch.randn(9, labels, 6, 7), torch.randint(-1, 2, (9, labels, 6, 7))
    score = np.mean([sk.jaccard_score(y[:, k][y[:, k] >= 0], output[:, k][y[:, k] >= 0] > 0) for k in range(labels)])
    assert values(task, output, y) == pytest.approx([score] * 2, abs=1e-6)


@pytest.mark.parametrize(("name", "beta_squared"), [("max_f", 0.3), ("ods_f", 1.0)])
def test_the_best_f_is_that_of_sklearn_at_every_threshold(name, beta_squared):
    task, (output, y) = tasks.binary_segmentation("t", metric=name), case("binary_segmentation")
    output += 1.5 * y  # a prediction that knows something
    known = y >= 0
    p, true = torch.sigmoid(output.double())[known], y[known]
    each = [sk.fbeta_score(true, p >= k / 100, beta=math.sqrt(beta_squared), zero_division=0) for k in range(1, 100)]
    assert 1 < np.argmax(each) < 98
    assert values(task, output, y) == pytest.approx([max(each)] * 2, abs=1e-6)
    # The probability at which a pixel is predicted is what the metric is over.
    assert values(tasks.binary_segmentation("t", 0.9, metric=name), output, y)[0] == pytest.approx(max(each), abs=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
def test_loss_score_and_margin_are_those_of_their_formulas(kind):
    task, (output, y) = make(kind), case(kind)
    target, known, o = task.targets(y), (y >= 0).numpy(), output.double().numpy()
    sign = np.where(y == 1, 1, -1)
    for found, each in (
        (task.loss(output, target), np.logaddexp(0, -sign * o)),
        (task.score(output, target), 1 / (1 + np.exp(-sign * o))),
    ):
        places = tuple(range(1, y.ndim))
        expected = np.where(known, each, 0).sum(places) / np.maximum(known.sum(places), 1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    other = make(kind, threshold=0.8) if kind != "multilabel_segmentation" else task
    margins = other.measure(output, target).margins.numpy()
    np.testing.assert_allclose(margins, sign * (o - other.cut), rtol=1e-4, atol=1e-6)
    assert ((margins > 0) == (other.decode(output).numpy() == (y == 1).numpy())).all()


def test_a_patch_hides_places_of_every_mask():
    mask = torch.zeros(1, 1, 12, 14)
    mask[..., :4, :6] = 1
    for kind in ("binary_segmentation", "multilabel_segmentation"):
        valid = make(kind).targets(torch.ones(2, *SHAPES[kind])).hidden(mask).valid
        assert not valid[..., :2, :3].any() and valid[..., 2:, :].all() and valid[..., 3:].all()


@pytest.mark.parametrize("kind", ["binary_segmentation", "multilabel_segmentation"])
def test_volumes(kind):
    flat, task = make(kind), make(kind, spatial_dims=3)
    output, y = torch.randn(2, 3, 4, 6, 7), torch.randint(-1, 2, (2, 3, 4, 6, 7))
    if kind == "binary_segmentation":
        output, y = output[:, :1], y[:, :1]
    target = task.targets(y)
    found = task.loss(task.check_output(output, target), target)
    long = (2, output.shape[1], 24, 7)
    same = flat.targets(y.reshape(long))
    torch.testing.assert_close(found, flat.loss(flat.check_output(output.reshape(long), same), same))
    picture = task.picture(task.shown(target)[0])
    assert picture.shape == (6, 7, 3)
    np.testing.assert_array_equal(picture, flat.picture(flat.shown(flat.targets(y[:, :, 2]))[0]))
    with pytest.raises(ValueError, match="'t' should have shape \\(N, .*D, H, W"):
        task.targets(torch.zeros(2, 6, 7))


def test_pictures_and_words():
    edges = tasks.binary_segmentation("t", ignore_index=255)
    label = edges.shown(edges.targets(np.array([[[1, 0], [255, 1]]])))[0]
    assert (edges.picture(label)[1, 0] == 1).all() and edges.caption(label) == "67% set, 25% unlabelled"
    assert (edges.picture(label)[0, 0] == edges.picture(label)[1, 1]).all()
    parts = tasks.multilabel_segmentation("t", 2)
    label = parts.shown(parts.targets(np.array([[[[1, 0, 1, -1]], [[0, 0, 1, -1]]]])))[0]
    one, none, both, unknown = parts.picture(label)[0]
    other = 2 * both - one
    assert (unknown == 1).all() and len({tuple(c.round(5)) for c in (one, none, both, other)}) == 4
    assert parts.caption(label) == "2 masks, 25% unlabelled"
    smile = tasks.binary("t")
    shown = smile.shown(smile.targets(np.array([1, 0, -1])))
    assert [smile.answer(value) for value in shown] == ["yes", "no", "?"]
    assert smile.agrees(shown[0], shown[0]) and not smile.agrees(shown[0], shown[1])


@pytest.mark.parametrize("threshold", [0, 1, 1.5, -0.1, True, "0.5", None, float("nan")])
def test_thresholds_are_probabilities(threshold):
    for kind in ("binary", "binary_segmentation"):
        with pytest.raises(ValueError, match="`threshold` of task 't' should be between 0 and 1"):
            make(kind, threshold=threshold)


@pytest.mark.parametrize("mark", [0, 1, None, 0.5, True, (255, 1), ()])
def test_ignored_labels_are_other_integers(mark):
    for kind in ("binary_segmentation", "multilabel_segmentation"):
        with pytest.raises((ValueError, TypeError), match="`ignore_index` of task 't' should be "):
            make(kind, ignore_index=mark)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match="`metric` of task 't' should be one of \\['iou', 'max_f', 'ods_f'\\]"):
        tasks.binary_segmentation("t", metric="f1")
    with pytest.raises(ValueError, match="`spatial_dims` of task 't' should be 2, for images, or 3"):
        tasks.multilabel_segmentation("t", 2, spatial_dims=1)
    with pytest.raises(ValueError, match="1, 0 or 255 \\(ignored\\).*Found values in \\[0, 7\\]"):
        tasks.binary_segmentation("t", ignore_index=255).targets(np.array([[[0, 7]]]))


@pytest.mark.parametrize(
    ("task", "labels", "found"),
    [
        (tasks.binary_segmentation("m"), torch.rand(2, 3, 4) * 7 + 0.5, r"no negative one in \[0\.[\d.]+, [\d.]+\]"),
        (
            tasks.binary_segmentation("m", ignore_index=-1),
            torch.tensor([[[2.5, -1.0], [0.5, 3.5]]]),
            "no negative one in",
        ),
        (tasks.multilabel_segmentation("m", 2), torch.rand(2, 2, 3, 4) * 80, "no negative one in"),
        (tasks.binary("m"), torch.tensor([0.0, 3.0, 5.0]), r"whole numbers in \[0, 5\]"),
        (tasks.multilabel("m", 2), torch.tensor([[-3.0, 1.0]]), r"whole numbers in \[-3, 1\]"),
    ],
)
def test_other_maps_and_numbers_are_no_labels(task, labels, found):
    with pytest.raises(ValueError, match=rf"'m' should be 1, 0 or .*some of which are negative. Found {found}"):
        task.targets(labels)


def test_logits_are_still_decoded():
    assert tasks.binary_segmentation("m").targets(torch.tensor([[[2.5, -0.5]]])).value.tolist() == [[[1, 0]]]
    assert tasks.binary("m").targets(torch.tensor([2.5, 0.5])).value.tolist() == [1, 1]
