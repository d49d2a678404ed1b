from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from art_mtl import metrics, tasks

SEG = tasks.segmentation("seg", 3)
KIND = tasks.classification("kind", 4)
TAGS = tasks.multilabel("tags", 3)
DEPTH = tasks.depth("depth")
DISPARITY = tasks.disparity("disparity")
NORMAL = tasks.surface_normals("normal")
AGE = tasks.regression("age")
SMILE = tasks.binary("smile")
EDGES = tasks.binary_segmentation("edges")
SALIENCY = tasks.binary_segmentation("saliency", metric="max_f")
PARTS = tasks.multilabel_segmentation("parts", 3)
VOLUME = tasks.segmentation("volume", 3, spatial_dims=3)
RGB = tasks.image("rgb", 3)
SHARP = tasks.image("sharp", 2, metric="psnr")
FACE = tasks.keypoints("face", 4, 2.0)
BODY = tasks.keypoints("body", 4, 2.0, pck=0.5)
GROUP = tasks.ordinal("group", 5)
ABOVE = tasks.ordinal("above", 5)
WHO = tasks.embedding("who", 0.5, distance="euclidean")
NEW = [SMILE, EDGES, SALIENCY, PARTS, VOLUME, RGB, SHARP, FACE, BODY, GROUP, ABOVE, WHO]
ALL = [SEG, KIND, TAGS, DEPTH, DISPARITY, NORMAL, AGE, *NEW]
OUTPUTS = {
    "seg": (2, 3, 4, 5),
    "kind": (2, 4),
    "tags": (2, 3),
    "depth": (2, 1, 4, 5),
    "disparity": (2, 1, 4, 5),
    "normal": (2, 3, 4, 5),
    "age": (2, 2),
    "smile": (2, 1),
    "edges": (2, 1, 4, 5),
    "saliency": (2, 1, 4, 5),
    "parts": (2, 3, 4, 5),
    "volume": (2, 3, 2, 4, 5),
    "rgb": (2, 3, 4, 5),
    "sharp": (2, 2, 4, 5),
    "face": (2, 4, 2),
    "body": (2, 4, 2),
    "group": (2, 5),
    "above": (2, 4),
    "who": (2, 6),
}
by_kind = pytest.mark.parametrize("task", ALL, ids=lambda task: task.name)


@by_kind
def test_losses_and_scores_are_one_number_a_sample(task):
    output = torch.randn(OUTPUTS[task.name], requires_grad=True)
    target = task.targets(task.decode(torch.randn(OUTPUTS[task.name])))
    assert len(target) == 2 and target.has_label.all()
    checked = task.check_output(output, target)
    for value in (task.loss(checked, target), task.score(checked, target)):
        assert value.shape == (2,)
        (gradient,) = torch.autograd.grad(value[0], output, retain_graph=True)
        assert gradient[0].any() and not gradient[1].any()


@by_kind
def test_a_task_without_labels_on_a_sample_is_out_of_play(task):
    y = task.decode(torch.randn(OUTPUTS[task.name]))
    if y.is_floating_point():
        y[0] = float("nan")  # never read
    target = task.targets(y, np.array([False, True]))
    output = torch.randn(OUTPUTS[task.name], requires_grad=True)
    assert target.has_label.tolist() == [False, True]
    checked = task.check_output(output, target)
    value = task.loss(checked, target) + task.score(checked, target)
    value.sum().backward()
    assert value[0] == 0 and not output.grad[0].any() and output.grad[1].any()
    assert not task.statistics(checked, target)[0].any() and task.statistics(checked, target)[1].any()


@pytest.mark.parametrize("task", [task for task in ALL if task is not NORMAL], ids=lambda task: task.kind)
def test_raw_outputs_given_as_labels_are_decoded(task):
    raw = torch.randn(OUTPUTS[task.name])
    a, b = task.targets(raw), task.targets(task.decode(raw))
    assert torch.equal(a.value, b.value) and torch.equal(a.valid, b.valid)


@pytest.mark.parametrize("task", [task for task in ALL if task not in (SMILE, ABOVE)], ids=lambda task: task.name)
def test_score_follows_the_metric(task):
    """Outputs nearer to the labels have a better loss, score and metric."""
    raw = torch.randn(OUTPUTS[task.name]) * 3
    target = task.targets(task.decode(raw))
    raw = task.decode(raw) if task is NORMAL else raw
    near, far = raw + 0.01 * torch.randn_like(raw), raw + 8 * torch.randn_like(raw)
    near, far = (task.check_output(output, target) for output in (near, far))
    assert (task.loss(near, target) < task.loss(far, target)).all()
    sign = 1 if task.metric.higher_is_better else -1
    assert task.higher_is_better == (sign > 0)
    assert (sign * task.score(near, target) > sign * task.score(far, target)).all()
    value_near, value_far = (task.metric.value(task.statistics(o, target).sum(0)) for o in (near, far))
    assert sign * value_near > sign * value_far
    if task.decides:
        assert (task.measure(near, target).margins > 0).float().mean() > 0.9


@by_kind
def test_tasks_survive_pickle_and_deepcopy(task):
    output = torch.randn(OUTPUTS[task.name])
    for other in (pickle.loads(pickle.dumps(task)), copy.deepcopy(task)):
        assert other.name == task.name and other.metric.name == task.metric.name
        target = other.targets(task.decode(torch.randn(OUTPUTS[task.name])))
        checked = task.check_output(output, target)
        assert torch.equal(other.loss(checked, target), task.loss(checked, target))
        assert torch.equal(other.statistics(checked, target), task.statistics(checked, target))


def test_targets_can_be_indexed_and_moved():
    target = SEG.targets(np.array([[[0, 1]], [[2, -1]]]))
    part = target[torch.tensor([1])].to("cpu")
    assert part.value.tolist() == [[[2, 0]]] and part.valid.tolist() == [[[True, False]]]


# --- label layouts ---


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64, ">i4"])
def test_classes_of_any_integral_type(dtype):
    y = np.array([[[0, 1], [2, 1]]]).astype(dtype)
    assert SEG.targets(y).value.tolist() == [[[0, 1], [2, 1]]]
    assert SEG.targets(y[:, None]).value.tolist() == [[[0, 1], [2, 1]]]


def test_ignored_class_of_an_unsigned_type():
    task = tasks.segmentation("s", 3, ignore_index=255)
    assert task.targets(np.array([[[0, 255]]], dtype=np.uint8)).valid.tolist() == [[[True, False]]]


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_one_hot_labels(dtype):
    assert KIND.targets(np.eye(4, dtype=dtype)[[2, 0]]).value.tolist() == [2, 0]


def test_labels_may_be_flipped_read_only_views():
    y = np.arange(12.0).reshape(1, 3, 4)[..., ::-1]
    y.flags.writeable = False
    assert DEPTH.targets(y).value[0, 0].tolist() == y[0].tolist()


def test_targets_do_not_share_memory_with_arrays():
    y = np.ones((1, 2, 2), dtype=np.float32)
    target = DEPTH.targets(y)
    y[:] = 7
    assert (target.value == 1).all()


def test_layouts_of_depth_disparity_and_regression():
    y = np.random.default_rng(0).uniform(1, 2, size=(2, 4, 5))
    assert torch.equal(DEPTH.targets(y).value, DEPTH.targets(y[:, None]).value)
    assert AGE.targets(np.array([3, 4])).value.tolist() == [[3.0], [4.0]]
    assert AGE.check_output(torch.zeros(2), AGE.targets(np.array([3, 4]))).shape == (2, 1)
    assert DEPTH.check_output(torch.zeros(2, 4, 5), DEPTH.targets(y)).shape == (2, 1, 4, 5)


def test_invalid_pixels():
    assert DEPTH.targets(np.array([[[0.0, 1.0]]])).valid.tolist() == [[[False, True]]]
    assert DISPARITY.targets(np.array([[[0.0, -1.0]]])).valid.tolist() == [[[True, False]]]
    normals = np.zeros((1, 3, 1, 2))
    normals[0, 2, 0, 1] = 1
    assert NORMAL.targets(normals).valid.tolist() == [[[False, True]]]


def _bad(task, y, error, message, present=None):
    return pytest.param(task, y, present, error, message, id=f"{task.name}: {message}")


@pytest.mark.parametrize(
    ("task", "y", "present", "error", "message"),
    [
        _bad(SEG, np.zeros((2, 4)), ValueError, "shape \\(N, H, W\\).*Found \\(2, 4\\)"),
        _bad(SEG, np.zeros((2, 5, 4, 4)), ValueError, "shape \\(N, H, W\\)"),
        _bad(SEG, np.full((1, 2, 2), 3), ValueError, "\\[0, 2\\], or -1 to ignore.*Found \\[3, 3\\]"),
        _bad(SEG, np.full((1, 2, 2), -2), ValueError, "\\[0, 2\\]"),
        _bad(SEG, np.full((1, 2, 2), 0.5), TypeError, "fractions"),
        _bad(SEG, np.full((1, 2, 2), np.inf), ValueError, "finite.*index 0"),
        _bad(SEG, np.zeros((1, 2, 2), bool), TypeError, "class numbers.*bool"),
        _bad(KIND, np.zeros((2, 3)), ValueError, "\\(N,\\) or \\(N, 4\\)"),
        _bad(KIND, np.array([0, 4]), ValueError, "\\[0, 3\\]"),
        _bad(KIND, np.array([0, -1]), ValueError, "\\[0, 3\\]"),
        _bad(KIND, np.array([0.0, 1.5]), TypeError, "fractions"),
        _bad(KIND, np.array([0.0, np.inf]), ValueError, "index 1"),
        _bad(TAGS, np.zeros((2, 4)), ValueError, "\\(N, 3\\)"),
        _bad(TAGS, np.full((2, 3), 2), ValueError, "1, 0 or -1"),
        _bad(TAGS, np.full((2, 3), np.inf), ValueError, "finite"),
        _bad(DEPTH, np.zeros((2, 3, 4, 4)), ValueError, "\\(N, 1, H, W\\) or \\(N, H, W\\)"),
        _bad(DEPTH, np.full((2, 4, 4), np.inf), ValueError, "NaN or infinity in 2 sample"),
        _bad(DISPARITY, np.zeros((2,)), ValueError, "\\(N, 1, H, W\\)"),
        _bad(NORMAL, np.zeros((2, 4, 4, 3)), ValueError, "\\(N, 3, H, W\\)"),
        _bad(NORMAL, np.full((2, 3, 4, 4), np.inf), ValueError, "finite"),
        _bad(KIND, np.array(["cat", "dog"]), TypeError, "should be a numeric array. Found strings"),
        _bad(KIND, [[1, 2], [3]], ValueError, "one shape for all samples"),
        _bad(KIND, np.array([1j, 2j]), TypeError, "should be numbers. Found complex128"),
        _bad(AGE, np.zeros((2, 3, 4)), ValueError, "\\(N, D\\) or \\(N,\\)"),
        _bad(AGE, np.array([1.0, np.inf]), ValueError, "index 1"),
        _bad(AGE, np.array([[1.0, 2.0], [1.0, np.nan]]), ValueError, "NaN or masked for whole samples.*index 1"),
        _bad(AGE, np.array(1.0), ValueError, "one entry a sample"),
        _bad(AGE, np.zeros(3), ValueError, "mask.*shape \\(3,\\)", np.array([True])),
        _bad(AGE, np.zeros(3), ValueError, "mask.*boolean", np.array([1, 0, 1])),
    ],
)
def test_bad_labels_are_named(task, y, present, error, message):
    with pytest.raises(error, match=f"(?s){task.name!r}.*{message}" if "mask" not in message else message) as caught:
        task.targets(y, present)
    assert repr(task.name) in str(caught.value)


@by_kind
def test_outputs_that_do_not_fit_are_named(task):
    target = task.targets(task.decode(torch.randn(OUTPUTS[task.name])))
    for shape in [(3, *OUTPUTS[task.name][1:]), (*OUTPUTS[task.name][:-1], 9), (2,) * 5]:
        with pytest.raises(ValueError, match=f"output for task {task.name!r} should have shape.*Found"):
            task.check_output(torch.zeros(shape), target)


# --- picking outputs ---

Pair = namedtuple("Pair", ["kind", "seg"])
T, U = torch.tensor([1.0]), torch.tensor([2.0])


@dataclass
class Heads:
    kind: torch.Tensor
    seg: torch.Tensor


@pytest.mark.parametrize(
    ("output", "outputs", "position"),
    [
        (None, {"kind": U, "seg": T}, 0),
        (None, OrderedDict(kind=U, seg=T), 0),
        (None, (U, T), 1),
        (None, [T, U], 0),
        (None, Pair(U, T), 0),
        (None, Heads(U, T), 0),
        (None, SimpleNamespace(kind=U, seg=T), 0),
        (None, T, 0),
        ("other", {"seg": U, "other": T}, 0),
        ("other", SimpleNamespace(seg=U, other=T), 0),
        (1, (U, T), 0),
        (-1, [U, T], 0),
        (1, Pair(U, T), 0),
        (lambda outputs: outputs["deep"][0], {"deep": [T]}, 0),
        (lambda outputs: outputs[:, 0], torch.stack([T, U], 1), 3),
    ],
)
def test_select_finds_the_output(output, outputs, position):
    assert tasks.segmentation("seg", 3, output=output).select(outputs, position).tolist() == [1.0]


def test_a_task_named_like_a_method_of_tuples():
    for outputs in ((U, T), [U, T]):
        assert tasks.regression("count").select(outputs, 1) is T
        assert tasks.regression("index").select(outputs, 0) is U


@pytest.mark.parametrize(
    ("output", "outputs", "position", "found"),
    [
        (None, {"kind": T}, 0, "mapping with the keys \\['kind'\\]"),
        ("x", {"kind": T}, 0, "output='x'"),
        (None, (T,), 1, "tuple of 1"),
        (2, [T], 0, "list of 1"),
        (0, {"kind": T}, 0, "mapping"),
        ("x", [T], 0, "list of 1"),
        (None, Heads(T, "text"), 0, "tensor. Found str"),
        (None, SimpleNamespace(), 0, "SimpleNamespace"),
        (None, None, 0, "NoneType"),
        (None, T, 1, "position 1.*Tensor"),
        (0, T, 0, "output=0.*Tensor"),
    ],
)
def test_select_says_what_it_found(output, outputs, position, found):
    with pytest.raises(ValueError, match=f"'seg'.*{found}"):
        tasks.segmentation("seg", 3, output=output).select(outputs, position)


# --- constructors ---


@pytest.mark.parametrize("count", [1, 0, -1, 2.5, True, "3", None])
def test_numbers_of_classes_are_checked(count):
    for make in (tasks.segmentation, tasks.classification):
        with pytest.raises(ValueError, match="`num_classes` should be an integer of at least 2"):
            make("s", count)


@pytest.mark.parametrize("count", [0, 1.0, True])
def test_numbers_of_labels_are_checked(count):
    with pytest.raises(ValueError, match="`num_labels` should be an integer of at least 1"):
        tasks.multilabel("s", count)


def test_names_and_pickers_are_checked():
    for name in ("", None, 3):
        with pytest.raises(ValueError, match="`name` should be a non-empty string"):
            tasks.depth(name)
    with pytest.raises(TypeError, match="`output` of task 'd'.*Found float"):
        tasks.depth("d", output=1.5)


def test_lists_of_tasks_are_checked():
    assert tasks.check_tasks([SEG, DEPTH]) == (SEG, DEPTH)
    assert tasks.check_tasks(SEG) == (SEG,)
    with pytest.raises(ValueError, match="at least one"):
        tasks.check_tasks([])
    with pytest.raises(ValueError, match="distinct names"):
        tasks.check_tasks([SEG, SEG])
    with pytest.raises(TypeError, match="Found str"):
        tasks.check_tasks(["seg"])


# --- tasks of one's own ---


def _distance(output, target):
    return (output - target).square().sum(1)


def _closeness(output, target):
    return torch.exp(-_distance(output, target))


def test_custom_task_of_a_loss_alone():
    task = tasks.custom("point", loss=_distance)
    target = task.targets(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([True, False]))
    output = torch.tensor([[3.0, 4.0], [5.0, 5.0]])
    assert task.loss(output, target).tolist() == task.score(output, target).tolist() == [25.0, 0.0]
    assert not task.higher_is_better and task.metric.value(task.statistics(output, target).sum(0)) == 25
    metric = task.metric.torchmetric()
    metric.update(*task.metric_arguments(output, target))
    assert metric.compute() == 25


def test_custom_task_with_a_score_metric_and_decoder():
    metric = metrics.mean_of("closeness", _closeness, higher_is_better=True)
    task = tasks.custom("point", _distance, score=_closeness, metric=metric, decode=torch.round, output="p")
    assert task.higher_is_better and task.metric is metric
    assert task.decode(torch.tensor([[0.7, 1.2]])).tolist() == [[1.0, 1.0]]
    assert task.select({"p": T}, 0) is T
    other = pickle.loads(pickle.dumps(task))
    assert other.loss(torch.ones(1, 2), other.targets(np.zeros((1, 2)))).item() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error": _distance, "score": _closeness}, "Found both"),
        ({"floor": 0.0}, "`floor` of task 'p' should be positive"),
        ({"score": _closeness, "metric": metrics.absolute_error()}, "metric of task 'p'"),
        ({"metric": metrics.accuracy(3)}, "metric of task 'p'"),
    ],
)
def test_custom_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        tasks.custom("p", _distance, **arguments)


@pytest.mark.parametrize("loss", [lambda o, t: (o - t).abs(), lambda o, t: (o - t).abs().mean()])
def test_a_custom_loss_that_is_not_per_sample_is_an_error(loss):
    task = tasks.custom("p", loss)
    with pytest.raises(ValueError, match="task 'p' should have shape \\(2,\\)"):
        task.loss(torch.ones(2, 2), task.targets(np.zeros((2, 2))))


def test_probabilities_are_no_labels_of_a_multilabel_task():
    with pytest.raises(ValueError, match="'tags'.*threshold"):
        tasks.multilabel("tags", 3).targets(np.array([[0.2, 0.9, 0.0]]))
