from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.labels import MultiTaskLabels

A, B = np.array([3, 1, 4, 1]), np.array([[0.5], [1.5], [2.5], [3.5]], dtype=np.float32)
NAMES = ["a", "b"]


def _structured():
    y = np.zeros(4, dtype=[("a", np.int64), ("b", np.float32, (1,))])
    y["a"], y["b"] = A, B
    return y


class _Container:
    def __len__(self):
        return 4

    def __getitem__(self, key):
        return {"a": A, "b": B}[key]


ROWS = [{"a": a, "b": b} for a, b in zip(A, B, strict=True)]
FORMS = {
    "MultiTaskLabels": MultiTaskLabels({"b": B, "a": A}),
    "dict": {"b": B, "a": A},
    "dict of tensors": {"a": torch.tensor(A), "b": torch.tensor(B)},
    "dict of lists": {"a": A.tolist(), "b": B.tolist()},
    "list of dicts": ROWS,
    "list of dicts of tensors": [{n: torch.tensor(v) for n, v in row.items()} for row in ROWS],
    "object array": np.array(ROWS, dtype=object),
    "structured array": _structured(),
    "container": _Container(),
    "tuple in task order": (A, torch.tensor(B)),
    "list in task order": [torch.tensor(A), B],
    "lists in task order": (A.tolist(), B.tolist()),
    "tuple with a mask": ((A, np.ones(4, bool)), (B, [True] * 4)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_labels(form):
    labels = MultiTaskLabels.of(FORMS[form], NAMES, size=4)
    assert len(labels) == 4 and labels.names == ("a", "b")
    np.testing.assert_array_equal(labels["a"], A)
    np.testing.assert_allclose(labels["b"], B)
    assert labels.present("a").all() and labels.present("b").all()


def test_of_one_task_its_array_alone_will_do():
    for y in (A, A.tolist(), torch.tensor(A)):
        np.testing.assert_array_equal(MultiTaskLabels.of(y, ["a"])["a"], A)


MISSING = {
    "None in a dict a sample": [{"a": 3, "b": 0.5}, {"a": None, "b": 1.5}, {"a": 4, "b": 2.5}],
    "absent from a dict a sample": [{"a": 3, "b": 0.5}, {"b": 1.5}, {"a": 4, "b": 2.5}],
    "mask beside the array": {"a": (np.array([3, -99, 4]), np.array([True, False, True])), "b": [0.5, 1.5, 2.5]},
    "None in a list": {"a": [3, None, 4], "b": [0.5, 1.5, 2.5]},
    "None in an object array": {"a": np.array([3, None, 4], dtype=object), "b": [0.5, 1.5, 2.5]},
    "masked array": {"a": np.ma.array([3, -99, 4], mask=[0, 1, 0]), "b": np.ma.array([0.5, 1.5, 2.5])},
    "masked in a dict a sample": [{"a": 3, "b": 0.5}, {"a": np.ma.masked, "b": 1.5}, {"a": 4, "b": 2.5}],
    "mask beside a masked array": {
        "a": (np.ma.array([3, 9, 4], mask=[0, 1, 0]), np.ones(3, bool)),
        "b": np.array([0.5, 1.5, 2.5]),
    },
    "masked in task order": (np.ma.array([3, -99, 4], mask=[0, 1, 0]), np.array([0.5, 1.5, 2.5])),
    "present": MultiTaskLabels({"a": [3, 7, 4], "b": [0.5, 1.5, 2.5]}, {"a": torch.tensor([True, False, True])}),
}


@pytest.mark.parametrize("form", MISSING)
def test_missing_labels(form):
    labels = MultiTaskLabels.of(MISSING[form], NAMES)
    np.testing.assert_array_equal(labels.present("a"), [True, False, True])
    np.testing.assert_array_equal(np.asarray(labels["a"])[[0, 2]], [3, 4])
    assert labels.present("b").all()
    assert labels[[1]].present("a").tolist() == [False]


def test_two_samples_of_which_one_is_missing_are_not_a_mask():
    for pair in ((None, 5), [None, 5]):
        labels = MultiTaskLabels.of({"a": pair}, ["a"])
        assert labels.present("a").tolist() == [False, True] and labels["a"][1] == 5


INDICES = {
    "slice": slice(1, 3),
    "step": slice(None, None, 2),
    "backwards": slice(None, None, -1),
    "bool": np.array([True, False, False, True]),
    "bool tensor": torch.tensor([True, False, False, True]),
    "bool list": [False, True, True, False],
    "ints": np.array([3, 0, 3]),
    "negative": [-1, -4],
    "int tensor": torch.tensor([2, 1]),
    "empty": [],
}


@pytest.mark.parametrize("as_tensor", [False, True], ids=["numpy", "torch"])
@pytest.mark.parametrize("index", INDICES)
def test_indexing_is_that_of_numpy(index, as_tensor):
    mask = np.array([True, False, True, True])
    data = {"a": torch.tensor(A), "b": torch.tensor(B)} if as_tensor else {"a": A, "b": B}
    key = INDICES[index]
    plain = np.asarray(key, dtype=int) if index == "empty" else key if isinstance(key, slice) else np.asarray(key)
    part = MultiTaskLabels(data, {"a": mask})[key]
    assert isinstance(part, MultiTaskLabels) and len(part) == len(A[plain])
    np.testing.assert_array_equal(part["a"], A[plain])
    np.testing.assert_array_equal(part["b"], B[plain])
    np.testing.assert_array_equal(part.present("a"), mask[plain])
    assert isinstance(part["a"], torch.Tensor) == as_tensor


def test_one_integer_is_a_batch_of_one():
    labels = MultiTaskLabels({"a": A})
    assert labels[1]["a"].tolist() == [1] and labels[-2]["a"].tolist() == [4]


@pytest.mark.parametrize("key", [4, -5, [0, 4], np.array([True, False]), [0.5], [[0, 1]]])
def test_bad_indices(key):
    with pytest.raises(IndexError):
        MultiTaskLabels({"a": A})[key]


def test_behaves_like_a_mapping_of_tasks():
    labels = MultiTaskLabels({"a": A, "b": B})
    assert list(labels) == NAMES and "a" in labels and "c" not in labels
    assert set(dict(labels.items())) == set(NAMES) and labels.get("c") is None
    with pytest.raises(KeyError, match="'c'.*'a', 'b'"):
        labels["c"]


def test_views_count_tasks_and_len_counts_samples():
    labels = MultiTaskLabels({"a": A, "b": B})
    assert len(labels) == 4
    assert len(labels.keys()) == len(labels.items()) == len(labels.values()) == 2
    assert labels.keys() == {"a", "b"} and [name for name, _ in labels.items()] == NAMES
    assert [values is labels[name] for values, name in zip(labels.values(), NAMES, strict=True)] == [True, True]


def boxes(seed=0):
    """Four samples: 3, 0, no label, 2 boxes."""
    draw = np.random.default_rng(seed)
    return [draw.uniform(size=(3, 4)), np.zeros((0, 4)), None, draw.uniform(size=(2, 4))]


def nests(seed=0):
    return [None if b is None else {"boxes": torch.tensor(b), "labels": list(range(len(b)))} for b in boxes(seed)]


NAN = np.array([1.0, np.nan])
PAIRS = {
    "arrays": lambda: MultiTaskLabels({"a": A.copy(), "b": B.copy()}),
    "order of tasks": lambda: MultiTaskLabels({"b": B, "a": A}),
    "tensors": lambda: MultiTaskLabels({"a": torch.tensor(A), "b": torch.tensor(B)}),
    "all present": lambda: MultiTaskLabels({"a": A, "b": B}, {"a": np.ones(4, bool)}),
}
OTHERS = {
    "values": lambda: MultiTaskLabels({"a": A + 1, "b": B}),
    "presence": lambda: MultiTaskLabels({"a": A, "b": B}, {"a": np.arange(4) > 0}),
    "shape": lambda: MultiTaskLabels({"a": A, "b": B[:, 0]}),
    "tasks": lambda: MultiTaskLabels({"a": A}),
    "samples": lambda: MultiTaskLabels({"a": A[:2], "b": B[:2]}),
    "type": lambda: {"a": A, "b": B},
}


def test_equal_by_value():
    labels = MultiTaskLabels({"a": A, "b": B})
    for make in PAIRS.values():
        assert labels == make()
    for name, make in OTHERS.items():
        assert labels != make(), name
    assert MultiTaskLabels({"a": NAN}) == MultiTaskLabels({"a": torch.tensor(NAN)})
    assert MultiTaskLabels({"a": NAN}) != MultiTaskLabels({"a": NAN[::-1]})
    with pytest.raises(TypeError, match="unhashable"):
        hash(labels)


def test_what_stands_where_a_label_is_missing_does_not_count():
    mask = {"a": np.array([True, False])}
    assert (
        MultiTaskLabels({"a": [1, 7]}, mask)
        == MultiTaskLabels({"a": [1, 8]}, mask)
        == MultiTaskLabels({"a": [1, None]})
    )


def test_ragged_labels_are_equal_by_value():
    assert MultiTaskLabels({"a": boxes()}) == MultiTaskLabels({"a": boxes()})
    assert MultiTaskLabels({"a": boxes()}) != MultiTaskLabels({"a": boxes(1)})
    assert MultiTaskLabels({"a": nests()}) == MultiTaskLabels({"a": nests()}) != MultiTaskLabels({"a": nests(1)})
    assert MultiTaskLabels({"a": boxes()}) != MultiTaskLabels({"a": nests()})


@pytest.mark.parametrize("form", ["list", "tuple", "object array", "of", "a dict a sample"])
@pytest.mark.parametrize("make", [boxes, nests])
def test_ragged_columns_are_carried(make, form):
    column = make()
    if form == "tuple":
        column = tuple(column)
    if form == "object array":
        column = np.array([*column, 0], dtype=object)[:-1]
    if form == "of":
        labels = MultiTaskLabels.of({"a": column, "b": B}, NAMES, size=4)
    elif form == "a dict a sample":
        labels = MultiTaskLabels.of([{"a": a, "b": b} for a, b in zip(column, B, strict=True)], NAMES, size=4)
    else:
        labels = MultiTaskLabels({"a": column, "b": B})
    assert labels["a"].dtype == object and labels["a"].shape == (4,)
    assert labels.present("a").tolist() == [True, True, False, True]
    whole = [b if make is boxes or b is None else {"boxes": b, "labels": np.arange(len(b))} for b in boxes()]

    def same(found, expected):
        assert (found is None) == (expected is None)
        if make is boxes and expected is not None:
            np.testing.assert_array_equal(found, expected)
        elif expected is not None:
            assert isinstance(found["boxes"], np.ndarray)
            np.testing.assert_array_equal(found["boxes"], expected["boxes"])
            np.testing.assert_array_equal(found["labels"], expected["labels"])

    parts = [labels[:1], labels[[False, True, True, False]], labels[3]]
    others = [labels, labels.numpy(), labels.copy(), copy.deepcopy(labels), pickle.loads(pickle.dumps(labels))]
    for found in (*others, MultiTaskLabels.concatenate(parts)):
        assert found == labels and found["a"].dtype == object
        for one, expected in zip(found["a"], whole, strict=True):
            same(one, expected)
    same(parts[0]["a"][0], whole[0])
    assert parts[0]["a"].dtype == object and parts[1].present("a").tolist() == [True, False]
    assert labels[[2]].present("a").tolist() == [False] and labels[[2]]["a"][0] is None
    assert repr(labels) == "MultiTaskLabels(a: ragged (4,), b: float32 (4, 1))"


def test_a_copy_of_ragged_labels_shares_nothing():
    labels = MultiTaskLabels({"a": boxes()})
    labels.copy()["a"][0][:] = 9
    assert labels == MultiTaskLabels({"a": boxes()})


def test_batches_of_different_shapes_are_joined_as_ragged():
    joined = MultiTaskLabels.concatenate(
        [MultiTaskLabels({"a": np.ones((2, 3))}), MultiTaskLabels({"a": np.ones((1, 5))})]
    )
    assert [entry.shape for entry in joined["a"]] == [(3,), (3,), (5,)]


def test_one_shape_is_an_array_unless_marked_as_ragged():
    pair = [np.ones((3, 4)), np.zeros((3, 4))]
    assert MultiTaskLabels({"a": pair})["a"].shape == (2, 3, 4)
    marked = np.empty(2, dtype=object)
    marked[:] = pair
    assert MultiTaskLabels({"a": marked})["a"].shape == (2,)
    np.testing.assert_array_equal(MultiTaskLabels({"a": marked}).dense("a"), pair)


def test_lists_of_tensors_that_require_gradients():
    labels = MultiTaskLabels({"a": [torch.ones(2, requires_grad=True), torch.zeros(2, dtype=torch.bfloat16)]})
    np.testing.assert_array_equal(labels["a"], [[1, 1], [0, 0]])


DENSE = [tasks.depth("k"), tasks.segmentation("k", 3), tasks.classification("k", 3), tasks.regression("k")]


@pytest.mark.parametrize("task", DENSE, ids=lambda task: task.kind)
def test_kinds_that_need_an_array_say_so(task):
    shapes = MultiTaskLabels.of([{"k": np.zeros(2)}, {"k": np.zeros(3)}], ["k"])["k"]
    for column in (shapes, [np.zeros(2), np.zeros(3)], [[0, 0], [0, 0, 0]]):
        with pytest.raises(ValueError, match=r"'k' should have one shape for all samples. Found \[\(2,\), \(3,\)\]"):
            task.targets(column)
    with pytest.raises(ValueError, match="'k' should be one array for each sample. Found a dict"):
        task.targets(MultiTaskLabels({"k": nests()})["k"])


def test_missing_samples_of_lists_and_masked_arrays_reach_the_task():
    task = tasks.classification("k", 5)
    for y in ([3, None, 4], np.ma.array([3, 9, 4], mask=[0, 1, 0]), np.array([3, None, 4], dtype=object)):
        assert task.targets(y).valid.tolist() == [True, False, True]
        assert task.targets(y, np.array([False, True, True])).valid.tolist() == [False, False, True]


def test_single_masked_places():
    """They become NaN, of integers too: no masked place is ever taken for a label."""
    hidden = np.zeros((3, 2, 2), bool)
    hidden[0, 0, 0] = hidden[1] = True
    for dtype in (float, int, np.uint8, bool):
        found = MultiTaskLabels({"a": np.ma.array(np.ones((3, 2, 2), dtype), mask=hidden)})
        assert np.isnan(found["a"]).tolist() == (hidden & (np.arange(3) != 1)[:, None, None]).tolist()
        assert found.present("a").tolist() == [True, False, True]
        assert tasks.segmentation("a", 2).targets(found["a"], found.present("a")).valid.tolist() == (~hidden).tolist()
    rows = MultiTaskLabels.of([{"a": np.ma.array([1, 2], mask=[0, 1])}, {"a": np.array([3, 4])}], ["a"])
    np.testing.assert_array_equal(rows["a"], [[1, np.nan], [3, 4]])
    whole = MultiTaskLabels({"a": np.ma.array(np.ones((3, 2), int), mask=[[0, 0], [1, 1], [0, 0]])})
    assert whole["a"].dtype == int and whole.present("a").tolist() == [True, False, True]


def test_copy_shares_nothing_and_numpy_converts():
    labels = MultiTaskLabels({"a": A.copy(), "b": torch.tensor(B)}, {"a": np.array([True, True, False, True])})
    other = labels.copy()
    other["a"][0], other["b"][0] = 9, 9
    assert labels["a"][0] == 3 and labels["b"][0] == 0.5
    converted = labels.numpy()
    assert isinstance(converted["b"], np.ndarray) and converted.present("a").tolist() == [True, True, False, True]


def test_concatenate_undoes_slicing():
    labels = MultiTaskLabels({"a": A, "b": B}, {"a": np.array([True, True, False, True])})
    joined = MultiTaskLabels.concatenate([labels[:1], labels[1:3], labels[3:]])
    for name in NAMES:
        np.testing.assert_array_equal(joined[name], labels[name])
        np.testing.assert_array_equal(joined.present(name), labels.present(name))


def test_pickle_and_deepcopy():
    labels = MultiTaskLabels({"a": A}, {"a": np.array([True, True, False, True])})
    for other in (pickle.loads(pickle.dumps(labels)), copy.deepcopy(labels), copy.copy(labels)):
        assert other == labels
        np.testing.assert_array_equal(other["a"], A)
        np.testing.assert_array_equal(other.present("a"), labels.present("a"))


def test_names_size_and_order_are_those_asked_for():
    labels = MultiTaskLabels.of({"b": B, "a": A}, ["a", "b"])
    assert labels.names == ("a", "b")


ERRORS = {
    "missing": ({"a": A}, NAMES, "missing: \\['b'\\]"),
    "unknown": ({"a": A, "b": B, "zzz": A}, NAMES, "unknown: \\['zzz'\\]"),
    "close": ({"a": A, "depht": B}, ["a", "depth"], "'depht' is perhaps 'depth'"),
    "close, a dict a sample": ([{"segm": 1}], ["seg"], "'segm' is perhaps 'seg'"),
    "sizes": ({"a": A, "b": B[:2]}, NAMES, "same number of samples.*'a': 4.*'b': 2"),
    "all missing": ([{"a": 1, "b": None}, {"a": 2}], NAMES, "Task 'b' should have a label for at least one"),
    "masked out": ({"a": (A, np.zeros(4, bool)), "b": B}, NAMES, "Task 'a' should have a label for at least one"),
    "mask of another shape": ({"a": (A, np.ones(3, bool)), "b": B}, NAMES, "mask.*'a'.*shape \\(4,\\)"),
    "mask of another type": ({"a": (A, np.ones(4)), "b": B}, NAMES, "mask.*'a'.*boolean"),
    "scalar": ({"a": 3}, ["a"], "'a'.*one entry a sample"),
    "tuple of two samples": (
        {"a": (A[:1], A[:1])},
        ["a"],
        "mask of task 'a' should be boolean. Found int64.*as a list",
    ),
    "tuple, sizes": ((A, B[:2]), NAMES, "same number of samples.*'a': 4.*'b': 2"),
    "tuple, number": ((A, B, B), NAMES, r"tuple should be one array for each of the tasks \['a', 'b'\]. Found 3"),
    "list, samples": ([A, A, A], NAMES, "list should be one array for each of the tasks.*Found 3.*one dict a sample"),
    "list of lists": (
        [[3, 0.5], [1, 1.5]],
        NAMES,
        "Found 2 lists of 2, which could be for each task or for each sample",
    ),
    "list of tensors": ([[A, A], [B, B]], NAMES, "Found 2 lists of 2, which could be for each task or for each sample"),
    "tuple, none": ((None, B), NAMES, r"missing: \['a'\]"),
    "ragged, all missing": ({"a": [None] * 4, "b": B}, NAMES, "Task 'a' should have a label for at least one"),
    "empty": ({}, ["a"], "at least one task"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_is_wrong(case):
    y, names, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        MultiTaskLabels.of(y, names)


NOT_NUMBERS = {
    "strings": ["cat", "dog"],
    "array of strings": np.array(["cat", "dog"]),
    "objects": np.array([{}, 1], dtype=object),
    "strings in an object array": np.array(["cat", "dog"], dtype=object),
    "None within a sample": [[1, None], [1, 2]],
}


@pytest.mark.parametrize("case", NOT_NUMBERS)
@pytest.mark.parametrize("way", ["dict", "array", "a dict a sample", "task"])
def test_labels_that_are_no_numbers(case, way):
    y = NOT_NUMBERS[case]
    with pytest.raises(TypeError, match="labels of task 'k' should be a numeric array.*Found "):
        if way == "task":
            tasks.classification("k", 3).targets(y)
        MultiTaskLabels.of({"dict": {"k": y}, "array": y}.get(way, [{"k": label} for label in y]), ["k"])


def test_targets_of_some_tasks_in_task_order():
    labels = MultiTaskLabels.of((None, B), NAMES, some=True)
    assert labels.names == ("b",)


ODD = {
    "flipped": lambda y: y[::-1].copy()[::-1],
    "read-only": lambda y: np.frombuffer(y.tobytes(), y.dtype).reshape(y.shape),
    "big-endian": lambda y: y.astype(y.dtype.newbyteorder(">")),
    "list": lambda y: y.tolist(),
    "object array": lambda y: np.array([*y, None], dtype=object)[:-1],
}


class Net(torch.nn.Module):
    def forward(self, x):
        return {"kind": 10 * x.flatten(1)[:, :4], "depth": x.mean(1, keepdim=True)}


def fronts():
    jobs = [tasks.classification("kind", 4), tasks.depth("depth")]
    estimator = PyTorchMultiTaskEstimator(Net(), jobs, (3, 4, 4), (0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(size=(5, 3, 4, 4)).astype(np.float32)
    return x, {
        "ART": lambda y: MultiTaskPGD(estimator, eps=0.1, max_iter=3, verbose=False).generate(x, y),
        "torchattacks": lambda y: ta.MultiTaskPGD(Net(), jobs, eps=0.1, steps=3)(torch.tensor(x), y).numpy(),
        "losses": lambda y: estimator.compute_losses(x, y)["depth"],
    }


@pytest.mark.parametrize("front", ["ART", "torchattacks", "losses"])
def test_arrays_of_any_layout_and_defaults_of_torch_change_nothing(front):
    x, runs = fronts()
    y = {"kind": np.arange(5) % 4, "depth": np.random.default_rng(1).uniform(0.5, 1, size=(5, 4, 4)).astype(np.float32)}
    expected = runs[front](y)
    for name, change in ODD.items():
        np.testing.assert_array_equal(runs[front]({task: change(labels) for task, labels in y.items()}), expected, name)
    np.testing.assert_array_equal(runs[front]((y["kind"], y["depth"])), expected)


@pytest.mark.parametrize("present", [None, np.array([True, False, True])])
def test_labels_stay_on_the_host_and_in_their_precision(present):
    """Torch's default device and dtype are those of what users make, not of labels."""
    plain = [tasks.depth("k").targets(np.ones((3, 1, 2, 2)), present), tasks.classification("k", 3).targets([0, 1, 2])]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = [
                tasks.depth("k").targets(MultiTaskLabels({"k": np.ones((3, 1, 2, 2))})["k"], present),
                tasks.classification("k", 3).targets([0, 1, 2]),
            ]
            labels = MultiTaskLabels({"k": torch.ones(3, device="cpu")})[[0, 2]]
    finally:
        torch.set_default_dtype(before)
    assert labels["k"].device.type == "cpu"
    for one, other in zip(found, plain, strict=True):
        assert one.value.device.type == one.valid.device.type == "cpu" and one.value.dtype == other.value.dtype
        assert torch.equal(one.value, other.value) and torch.equal(one.valid, other.valid)


def test_number_of_samples_is_checked():
    with pytest.raises(ValueError, match="5 samples.*Found 4"):
        MultiTaskLabels.of({"a": A}, ["a"], size=5)


@pytest.mark.parametrize("names", ["a", [tasks.depth("a")], [0]])
def test_names_that_are_no_names(names):
    with pytest.raises(TypeError, match="`names` should be a list of the tasks' names. Found"):
        MultiTaskLabels.of({"a": [1.0]}, names)


@pytest.mark.parametrize("y", [3, "a", None, [1, 2], np.zeros((4, 2)), object()])
def test_other_forms_are_refused(y):
    with pytest.raises(TypeError, match="Labels of the tasks \\['a', 'b'\\].*Found"):
        MultiTaskLabels.of(y, NAMES)


def test_present_of_an_unknown_task():
    with pytest.raises(ValueError, match="`present` names 'z'"):
        MultiTaskLabels({"a": A}, {"z": np.ones(4, bool)})


# --- one task in a list ---


@pytest.mark.parametrize("size", [1, 2, 6])
@pytest.mark.parametrize("shape", [(), (3,), (1, 4, 5)])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("kind", [list, tuple])
def test_of_one_task_its_array_may_come_in_a_list_as_loaders_collate_it(size, shape, given, kind):
    array = torch.rand(size, *shape)
    labels = MultiTaskLabels.of(kind([array]), ["a"], size=size if given else None)
    assert len(labels) == size and torch.equal(torch.as_tensor(labels["a"]), array)


def test_a_list_of_one_task_may_hold_one_label_for_each_sample():
    boxes = np.ones((5, 4))
    assert MultiTaskLabels.of([boxes], ["a"], size=1)["a"].shape == (1, 5, 4)
    assert MultiTaskLabels.of([boxes, boxes[:1]], ["a"], size=2)["a"].shape == (2,)
    assert MultiTaskLabels.of([3], ["a"], size=1)["a"].tolist() == [3]
    assert MultiTaskLabels.of([torch.tensor(3)], ["a"], size=1)["a"].shape == (1,)
    assert MultiTaskLabels.of([[1, 2, 3]], ["a"], size=3)["a"].tolist() == [1, 2, 3]
    assert MultiTaskLabels.of([[1, 2, 3]], ["a"], size=1)["a"].shape == (1, 3)
    assert MultiTaskLabels.of([(np.arange(2), np.array([True, False]))], ["a"], 2).present("a").tolist() == [
        True,
        False,
    ]
    with pytest.raises(ValueError, match="should be of 6 samples, as many as the inputs. Found 5"):
        MultiTaskLabels.of([np.arange(5)], ["a"], size=6)


@pytest.mark.parametrize("empty", [{}, (None, None), [None, None]])
def test_no_labels_at_all_are_told_by_the_name_of_the_argument(empty):
    with pytest.raises(ValueError, match="^Parameter `y` should hold the labels of at least one task. Found none"):
        MultiTaskLabels.of(empty, ["a", "b"])
    with pytest.raises(ValueError, match="^Parameter `labels` should hold"):
        MultiTaskLabels.of(empty, ["a", "b"], argument="labels")


def test_only_names_of_tasks_are_in_labels():
    labels = MultiTaskLabels({"a": np.arange(3)})
    assert "a" in labels and "b" not in labels and 0 not in labels and 3 not in labels and [0] not in labels
    assert labels.get("a").tolist() == [0, 1, 2] and labels.get("b", 5) == 5 and labels.get(0) is None
