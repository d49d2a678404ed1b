"""What stands for "missing" in users' labels: it does not count, or is refused in words; it is never a class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn import metrics as sk

import art_mtl.torchattacks as ta
from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks

NAN, INF = float("nan"), float("inf")


# --- labels that are not known ---


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_unknown_labels_do_not_count(dtype):
    """Binary cross-entropy ln(1 + exp(∓logit)), a mean over the known labels."""
    task = tasks.multilabel("tags", 3)
    target = task.targets(np.array([[1, 0, -1], [-1, -1, 0], [-1, -1, -1]], dtype=dtype))
    assert target.valid.tolist() == [[True, True, False], [False, False, True], [False] * 3]
    assert target.has_label.tolist() == [True, True, False]
    output = torch.randn(3, 3, dtype=torch.float64)
    each = np.logaddexp(0, np.where([[1, 0, 0], [0, 0, 0], [0, 0, 0]], -output, output))
    expected = [each[0, :2].mean(), each[1, 2], 0.0]
    np.testing.assert_allclose(task.loss(output, target), expected, rtol=1e-12)
    assert task.pool(output, target)[1].tolist() == [2, 1, 0]


@pytest.mark.parametrize("labels", [1, 2, 4])
def test_f1_over_known_labels_is_that_of_sklearn_and_torchmetrics(labels):
    task = tasks.multilabel("tags", labels)
    output, y = torch.randn(30, labels), torch.randint(-1, 2, (30, labels))
    target = task.targets(y)
    each = []
    for k in range(labels):
        known = y[:, k] != -1
        each.append(sk.f1_score(y[known, k], output[known, k] > 0, zero_division=0))
    expected = np.mean(each)
    assert task.metric.value(task.statistics(output, target).sum(0)).item() == pytest.approx(expected, abs=1e-12)
    metric = task.metric.torchmetric()
    for part in (slice(0, 11), slice(11, 30)):
        metric.update(*task.metric_arguments(output[part], target[part]))
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


PLACES = {
    "labels": (tasks.multilabel("t", 3), np.ones((2, 3), int), (2, 3)),
    "pixels": (tasks.segmentation("t", 3, ignore_index=255), np.ones((2, 4, 5), np.uint8), (2, 4, 5)),
    "pixels of one channel": (tasks.depth("t"), np.ones((2, 1, 4, 5)), (2, 4, 5)),
    "pixels of channels": (tasks.image("t", 3), np.ones((2, 3, 4, 5)), (2, 4, 5)),
    "pixels of vectors": (
        tasks.surface_normals("t"),
        np.eye(3)[0].reshape(1, 3, 1, 1) * np.ones((2, 1, 4, 5)),
        (2, 4, 5),
    ),
    "points": (tasks.keypoints("t", 3, 1.0), np.ones((2, 3, 2)), (2, 3)),
}


@pytest.mark.parametrize(("task", "y", "shape"), PLACES.values(), ids=PLACES)
def test_masks_of_places_beside_the_labels(task, y, shape):
    mask = np.random.default_rng(0).uniform(size=shape) < 0.6
    for known in (mask, torch.tensor(mask)):
        for labels in (y, torch.tensor(y), list(y)):
            assert torch.equal(task.targets(labels, known).valid, torch.tensor(mask))
        for pair in ((y, known), (torch.tensor(y), known)):
            found = MultiTaskLabels.of({"t": pair}, ["t"])
            assert torch.equal(task.targets(found["t"], found.present("t")).valid, torch.tensor(mask))
    mask[1] = False
    found = MultiTaskLabels({"t": y}, {"t": mask})
    assert found.present("t").tolist() == [True, False]
    assert task.targets(found["t"], found.present("t")).has_label.tolist() == [True, False]


def test_masks_that_do_not_fit_are_refused_in_words():
    message = "boolean, of shape \\(2,\\) or that of the labels. Found .*bool of shape \\(2, 4\\)"
    with pytest.raises(ValueError, match=message):
        tasks.multilabel("tags", 3).targets(np.zeros((2, 3)), np.ones((2, 4), bool))
    with pytest.raises(ValueError, match=message):
        MultiTaskLabels.of({"tags": (np.zeros((2, 3)), np.ones((2, 4), bool))}, ["tags"])
    with pytest.raises(ValueError, match="'r' should be NaN or masked for whole samples"):
        tasks.regression("r").targets(np.ones((2, 3)), np.array([[True, False, True], [True] * 3]))


# --- one-hot rows ---


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_empty_one_hot_rows_are_samples_without_a_label(dtype):
    y = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=dtype)
    assert tasks.classification("kind", 3).targets(y).has_label.tolist() == [True, False, True]
    pixels = np.moveaxis(y[None, None], -1, 1)
    target = tasks.segmentation("seg", 3).targets(pixels)
    assert target.valid.tolist() == [[[True, False, True]]] and target.value.tolist() == [[[1, 0, 0]]]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_rows_of_several_ones_name_no_class(dtype):
    y = np.array([[0, 1, 0], [1, 0, 1]], dtype=dtype)
    with pytest.raises(ValueError, match="'kind' should have one 1 in each row.*Found rows with 2"):
        tasks.classification("kind", 3).targets(y)
    with pytest.raises(ValueError, match="'seg' should have one 1"):
        tasks.segmentation("seg", 3).targets(np.moveaxis(y[None, None], -1, 1))


def test_logits_that_are_all_zero_are_decoded():
    assert tasks.classification("kind", 3).targets(np.array([[0.0, 0, 0], [0, 0.5, 0]])).value.tolist() == [0, 1]


# --- masked arrays ---


@pytest.mark.parametrize(
    ("task", "y", "mask", "valid"),
    [
        (tasks.segmentation("t", 3), np.ones((1, 1, 2), np.uint8), [[[True, False]]], [[[False, True]]]),
        (tasks.segmentation("t", 3, ignore_index=255), np.ones((1, 1, 2), int), [[[True, False]]], [[[False, True]]]),
        (tasks.depth("t"), np.full((1, 1, 1, 2), 3.0), [[[[False, True]]]], [[[True, False]]]),
        (tasks.depth("t", invalid=NAN), np.full((1, 1, 2), 3), [[[False, True]]], [[[True, False]]]),
        (tasks.multilabel("t", 2), np.array([[1, 0]], np.uint8), [[False, True]], [[True, False]]),
        (tasks.classification("t", 3), np.array([2, 1]), [True, False], [False, True]),
        (tasks.regression("t"), np.array([[2.0, 1], [3, 4]]), [[True, True], [False, False]], [False, True]),
        (
            tasks.surface_normals("t"),
            np.array([0.6, 0.8, 0.0]).reshape(1, 3, 1, 1).repeat(2, axis=3),
            [[[[True, False]], [[False, False]], [[False, False]]]],
            [[[False, True]]],
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, tasks.Task) else "",
)
def test_masked_places_do_not_count(task, y, mask, valid):
    target = task.targets(np.ma.masked_array(y, mask))
    assert target.valid.tolist() == valid


@pytest.mark.parametrize(
    ("task", "y", "valid"),
    [
        (tasks.segmentation("t", 3), [[[NAN, 1.0]]], [[[False, True]]]),
        (tasks.binary_segmentation("t", ignore_index=255), [[[NAN, 1.0]]], [[[False, True]]]),
        (tasks.depth("t"), [[[3.0, NAN]]], [[[True, False]]]),
        (tasks.depth("t", invalid=INF), [[[3.0, NAN]]], [[[True, False]]]),
        (tasks.multilabel("t", 2), [[1.0, NAN]], [[True, False]]),
        (tasks.classification("t", 3), [NAN, 1.0], [False, True]),
        (tasks.binary("t"), [NAN, 1.0], [False, True]),
        (tasks.regression("t"), [[NAN, NAN], [3, 4]], [False, True]),
        (tasks.surface_normals("t"), [[[[1.0, NAN]], [[0.0, 0.0]], [[0.0, 1.0]]]], [[[True, False]]]),
    ],
    ids=lambda value: value.kind if isinstance(value, tasks.Task) else "",
)
def test_nan_does_not_count(task, y, valid):
    for labels in (np.array(y, np.float32), torch.tensor(y)):
        target = task.targets(labels)
        assert target.valid.tolist() == valid and target.value.isfinite().all()


def test_samples_that_are_masked_in_part_are_refused_in_words():
    with pytest.raises(ValueError, match="'t' should be NaN or masked for whole samples.*1 sample"):
        tasks.regression("t").targets(np.ma.masked_array([[2.0, 1], [3, 4]], [[True, False], [False, False]]))


def test_the_labels_of_all_tasks_take_no_mask_that_they_would_lose():
    whole = np.ma.masked_array([[2.0, 1.0], [3.0, 4.0]], [[True, True], [False, False]])
    labels = MultiTaskLabels.of({"a": whole, "b": np.array([1, 2])}, ["a", "b"])
    assert labels.present("a").tolist() == [False, True] and labels.present("b").all()
    assert labels[1:].present("a").tolist() == [True]
    places = np.ma.masked_array(np.ones((2, 3), int), [[True, False, False], [False] * 3])
    for y in ({"a": places}, [{"a": places[0]}, {"a": places[1]}]):
        labels = MultiTaskLabels.of(y, ["a"])
        target = tasks.multilabel("a", 3).targets(labels["a"], labels.present("a"))
        assert target.valid.tolist() == [[False, True, True], [True] * 3]


# --- holes in maps ---


def _normals():
    n = torch.nn.functional.normalize(torch.randn(2, 3, 4, 5), dim=1)
    return n, torch.rand(2, 1, 4, 5) < 0.3


@pytest.mark.parametrize("coding", ["unit", "directions", "as is"])
def test_normals_of_length_1_with_holes_of_zeros(coding):
    n, hole = _normals()
    target = tasks.surface_normals("n", coding=coding).targets(torch.where(hole, 0, n))
    assert torch.equal(target.valid, ~hole[:, 0])
    torch.testing.assert_close(target.value, torch.where(hole, 0, n))


@pytest.mark.parametrize(
    ("change", "lengths"),
    [
        (lambda n, hole: torch.where(hole, 255.0, n), r"\[1, 442\]"),
        (lambda n, hole: torch.round((n + 1) * 127.5), "not 1"),
        (lambda n, hole: 0.3 * n, r"\[0.3, 0.3\], 100.0% of them"),
    ],
    ids=["holes of 255", "8-bit colours", "short"],
)
def test_other_normals_are_refused_in_words(change, lengths):
    with pytest.raises(ValueError, match=f"'n' should be unit vectors.*Found lengths in .*{lengths}.*coding="):
        tasks.surface_normals("n").targets(change(*_normals()))


def test_normals_of_other_codings_are_mapped():
    n, hole = _normals()
    short = tasks.surface_normals("n", coding="directions").targets(torch.where(hole, 0, 0.3 * n))
    torch.testing.assert_close(short.value, torch.where(hole, 0, n))
    for colour in (0.0, 255.0, 128.0):
        image = torch.where(hole, colour, torch.round((n + 1) * 127.5)).byte()
        target = tasks.surface_normals("n", coding="image").targets(image)
        assert torch.equal(target.valid, ~hole[:, 0])
        assert (target.value - torch.where(hole, 0, n)).abs().max() < 0.01  # a colour is 1/255
    with pytest.raises(ValueError, match="`coding` of task 'n' should be one of .*Found 'rgb'"):
        tasks.surface_normals("n", coding="rgb")


def test_decoded_normals_are_labels():
    """Outputs of unit length stay as they are, to the last bit."""
    task, n = tasks.surface_normals("n"), _normals()[0]
    assert torch.equal(task.decode(n), n)
    raw = 5 * torch.randn(2, 3, 4, 5)
    raw[:, :, 0, 0] = 0
    labels = task.decode(raw)
    assert not labels[:, :, 0, 0].any()
    torch.testing.assert_close(
        task.targets(labels).value[:, :, 1:], torch.nn.functional.normalize(raw, dim=1)[:, :, 1:]
    )


@pytest.mark.parametrize("make", [tasks.depth, tasks.disparity])
@pytest.mark.parametrize("mark", [NAN, INF, -INF, 0, -1, 65535, np.float32(7)])
def test_any_number_marks_holes_of_depth(make, mark):
    values, hole = torch.rand(2, 1, 4, 5) + 0.5, torch.rand(2, 1, 4, 5) < 0.3
    target = make("d", invalid=mark).targets(torch.where(hole, float(mark), values))
    assert torch.equal(target.valid, ~hole[:, 0])
    assert torch.equal(target.value, torch.where(hole, 0, values))


def test_what_is_not_finite_and_no_mark_is_refused():
    for mark, found in ((0, INF), (NAN, INF), (INF, -INF)):
        with pytest.raises(ValueError, match="'d' should be finite.*the value that the task does not count"):
            tasks.depth("d", invalid=mark).targets(np.array([[[1.0, found]]]))


@pytest.mark.parametrize("mark", [None, "nan", True, [0]])
def test_marks_are_numbers(mark):
    with pytest.raises(TypeError, match="`invalid` of task 'd' should be a number, NaN or infinity. Found"):
        tasks.depth("d", invalid=mark)


@pytest.mark.parametrize("mark", [None, 0.5, True, "255"])
def test_ignored_labels_are_integers(mark):
    with pytest.raises(TypeError, match="`ignore_index` of task 's' should be an integer"):
        tasks.segmentation("s", 3, ignore_index=mark)


@pytest.mark.parametrize("marks", [(254, 255), [255, 254], (254, 0, 255)])
def test_several_labels_that_do_not_count(marks):
    y = np.array([[[0, 1, 2], [254, 255, 1]]], dtype=np.uint8)
    task = tasks.segmentation("s", 3, ignore_index=marks)
    assert task.targets(y).valid.tolist() == [[[0 not in marks, True, True], [False, False, True]]]
    assert task.ignored_class == (0 if 0 in marks else None) and hash(task) == hash(tasks.segmentation("s", 3, marks))
    masked = task.targets(np.ma.masked_array(y, [[[0, 0, 1], [0, 0, 0]]]))
    assert masked.valid[0, 0].tolist() == [0 not in marks, True, False]
    if 0 not in marks:
        binary = tasks.binary_segmentation("s", ignore_index=marks)
        assert binary.targets(np.minimum(y, 255) % 2 + 254 * (y > 200)).valid.tolist() == [
            [[True] * 3, [False, False, True]]
        ]
    with pytest.raises(ValueError, match="`ignore_index` of task 's' should hold at most one of the classes"):
        tasks.segmentation("s", 3, ignore_index=(0, 1))


# --- an ignored label that is one of the classes ---


class Echo(torch.nn.Module):
    """Logits that are the image itself."""

    def forward(self, x):
        return {"seg": 9 * x}


def test_an_ignored_class_takes_no_part_in_the_mean_as_in_torchmetrics():
    task, other = tasks.segmentation("s", 4, ignore_index=1), tasks.segmentation("s", 4, 1, average_ignored=True)
    logits, true = torch.randn(5, 4, 6, 7), torch.randint(4, (5, 6, 7))
    oracle = torchmetrics.classification.MulticlassJaccardIndex(4, ignore_index=1)
    oracle.update(logits, true)
    target = task.targets(true)
    statistics = task.statistics(logits, target)
    assert task.metric.value(statistics.sum(0)).item() == pytest.approx(oracle.compute().item(), abs=1e-6)
    metric = task.metric.torchmetric()
    metric.update(*task.metric_arguments(logits, target))
    assert metric.compute() == oracle.compute()
    kept = true != 1
    score = sk.jaccard_score(true[kept], logits.argmax(1)[kept], labels=range(4), average="macro", zero_division=0)
    assert other.metric.value(other.statistics(logits, target).sum(0)).item() == pytest.approx(score, abs=1e-9)
    metric = other.metric.torchmetric()
    metric.update(*other.metric_arguments(logits, target))
    assert metric.compute().item() == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("ignored", [0, 1, 2, -1, 255])
def test_wrong_targets_are_wrong_and_count(ignored):
    task = tasks.segmentation("s", 3, ignore_index=ignored)
    y = torch.randint(3, (4, 5, 6))
    target = task.targets(y)
    logits = torch.randn(4, 3, 5, 6)
    for choose in (
        lambda s: torch.rand_like(s).masked_fill(s.isinf(), -1.0).argmax(1),
        lambda s: s.kthvalue(1, dim=1).indices,
    ):
        labels, present = task.wrong_targets(logits, target, choose)
        assert (labels[target.valid] != y[target.valid]).all() and (labels[target.valid] != ignored).all()
        assert (labels[~target.valid] == ignored).all() and present.tolist() == target.has_label.tolist()
        assert torch.equal(task.targets(labels).valid, target.valid)
    least = labels  # the smallest logit among those that are neither true nor ignored
    masked = logits.scatter(1, target.value[:, None], INF)
    if ignored in range(3):
        masked[:, ignored] = INF
    assert torch.equal(least[target.valid], masked.argmin(1)[target.valid])


def test_two_classes_one_of_which_is_ignored_leave_nothing_to_aim_at():
    task, other = tasks.segmentation("s", 2, ignore_index=0), tasks.segmentation("s", 2)
    target = task.targets(torch.ones(1, 2, 2, dtype=torch.long))
    assert task.wrong_targets(torch.randn(1, 2, 2, 2), target, lambda s: s.argmin(1)) is None
    assert other.has_classes and not task.has_classes
    with pytest.raises(ValueError, match="needs classes to choose from; task 's'"):
        ta.MultiTaskPGD(Echo(), [task]).set_mode_targeted_random()


def test_the_random_targets_of_torchattacks_are_never_the_ignored_class():
    seen = []
    attack = ta.MultiTaskPGD(Echo(), [tasks.segmentation("seg", 3, ignore_index=0)], eps=0.01, steps=1)
    attack.set_mode_targeted_random(quiet=True)
    chosen = attack._random_targets
    attack._target_map_function = lambda *given: seen.append(chosen(*given)) or seen[-1]
    y = torch.randint(3, (4, 5, 6))
    attack(torch.rand(4, 3, 5, 6), {"seg": y})
    assert torch.equal(torch.as_tensor(seen[0]["seg"] == 0), y == 0)


# --- one label ---


def test_one_label_is_measured():
    from art_mtl.attacks import WorstTaskPGD
    from art_mtl.evaluation import evaluate

    task = tasks.multilabel("tags", 1)
    estimator = PyTorchMultiTaskEstimator(torch.nn.Linear(6, 1), [task], (6,), clip_values=(0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(size=(8, 6)).astype(np.float32)
    y = np.array([1, 0, 1, 0, -1, 1, 1, 0])
    attack = WorstTaskPGD(estimator, eps=0.5, max_iter=2, verbose=False)
    with pytest.warns(RuntimeWarning, match=r"sample\(s\) \[4\]"):
        found = evaluate(estimator, [attack], (x, {"tags": y}), progress=False).results
    expected = sk.f1_score(np.delete(y, 4), np.delete(estimator.predict(x)["tags"][:, 0] > 0, 4))
    assert found.tasks[0].clean == pytest.approx(expected, abs=1e-6)
