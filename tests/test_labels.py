from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from art_mtl import tasks
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
    for other in (pickle.loads(pickle.dumps(labels)), copy.deepcopy(labels)):
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
    "shapes": ([{"a": np.zeros(2)}, {"a": np.zeros(3)}], ["a"], "'a'.*one shape for all samples"),
    "objects": ({"a": np.array([{}, 1], dtype=object)}, ["a"], "'a'.*numeric"),
    "scalar": ({"a": 3}, ["a"], "'a'.*one entry a sample"),
    "empty": ({}, ["a"], "at least one task"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_is_wrong(case):
    y, names, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        MultiTaskLabels.of(y, names)


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
