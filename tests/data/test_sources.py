"""Data sets of the forms that users have."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from art_mtl import MultiTaskLabels, tasks
from art_mtl.data.sources import as_source

X, A, B = torch.rand(4, 3, 2, 2), torch.arange(4), torch.rand(4, 1)
JOBS = [tasks.classification("a", 4), tasks.regression("b")]

FORMS = {
    "dict": [(X[i], {"b": B[i], "a": A[i]}) for i in range(4)],
    "tuple in task order": [(X[i], (A[i], B[i])) for i in range(4)],
    "list in task order": [[X[i].numpy(), [int(A[i]), B[i].numpy()]] for i in range(4)],
    "TensorDataset": TensorDataset(X, A, B),
    "inputs that require gradients": [(X[i].clone().requires_grad_(), (A[i], B[i])) for i in range(4)],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_samples(form):
    source = as_source(FORMS[form], JOBS)
    x, y = source.read(slice(1, 4))
    np.testing.assert_array_equal(x, X[1:].numpy())
    np.testing.assert_array_equal(y["a"], A[1:].numpy())
    np.testing.assert_array_equal(y["b"], B[1:].numpy())


class Stream(IterableDataset):
    """Samples that can only be read in order."""

    def __iter__(self):
        return iter(TensorDataset(X, A, B))


LOADERS = {
    "tuples": DataLoader(TensorDataset(X, A, B), batch_size=3),
    "shuffled": DataLoader(TensorDataset(X, A, B), batch_size=3, shuffle=True),
    "dicts with labels of other tasks": DataLoader(
        [(X[i], {"c": A[i], "b": B[i], "a": A[i]}) for i in range(4)], batch_size=2
    ),
    "a collate of its own": DataLoader(
        list(range(4)), batch_size=2, collate_fn=lambda rows: (X[rows], {"a": A[rows], "b": B[rows]})
    ),
    "without batches": DataLoader(TensorDataset(X, A, B), batch_size=None),
    "a stream": DataLoader(Stream(), batch_size=3),
    "a stream without batches": DataLoader(Stream(), batch_size=None),
    "an iterable data set": Stream(),
    "a generator": "made anew",
    "arrays with labels of other tasks": (X.numpy(), {"c": A, "a": A, "b": B}),
    "labels of other tasks": (X, MultiTaskLabels({"c": A, "a": A, "b": B})),
}


@pytest.mark.parametrize("form", LOADERS)
@pytest.mark.parametrize("limit", [None, 3])
def test_loaders_and_streams_give_the_samples_in_the_order_of_the_data_set(form, limit):
    given = ((X[i], (A[i], B[i])) for i in range(4)) if form == "a generator" else LOADERS[form]
    source = as_source(given, JOBS, limit)
    assert len(source) == (limit or 4)
    for part in (slice(0, len(source)), slice(1, 3)):
        x, y = source.read(part)
        np.testing.assert_array_equal(x, X[part].numpy())
        np.testing.assert_array_equal(y["a"], A[part].numpy())
        np.testing.assert_array_equal(y["b"], B[part].numpy())
        assert y.names == ("a", "b")


class Endless(IterableDataset):
    """No one may ask for more than one batch beyond the limit."""

    def __iter__(self):
        yield from ((X[i % 4], (A[i % 4], B[i % 4])) for i in range(8))
        raise AssertionError("read beyond the limit")


@pytest.mark.parametrize("batch_size", [4, None])
def test_no_more_is_read_of_an_endless_stream_than_the_limit(batch_size):
    for stream in (Endless(), iter(Endless()), DataLoader(Endless(), batch_size=batch_size)):
        source = as_source(stream, JOBS, limit=6)
        assert len(source) == 6 and source.read(slice(4, 6))[1]["a"].tolist() == [0, 1]


def test_an_empty_stream_is_named():
    with pytest.raises(ValueError, match="at least one sample"):
        as_source(iter(()), JOBS)


ONE_TASK = {
    "TensorDataset": TensorDataset(X, A),
    "numbers": [(X[i], int(A[i])) for i in range(4)],
    "tuple of one": [(X[i], (A[i],)) for i in range(4)],
}


@pytest.mark.parametrize("form", ONE_TASK)
def test_forms_of_samples_of_one_task(form):
    _, y = as_source(ONE_TASK[form], JOBS[:1]).read(slice(0, 4))
    np.testing.assert_array_equal(y["a"], A.numpy())


def test_labels_in_task_order_may_be_missing():
    rows = [(X[i], (A[i], None if i < 2 else B[i])) for i in range(4)]
    source = as_source(rows, JOBS)
    assert source.read(slice(0, 2))[1].present("b").tolist() == [False, False]
    assert source.read(slice(1, 3))[1].present("b").tolist() == [False, True]


OTHERS = {
    "too many": (TensorDataset(X, A, A, B), "Found tuple of (Tensor, Tensor, Tensor, Tensor) as [i]"),
    "too few": ([(X[i], (A[i],)) for i in range(4)], "Found tuple of (Tensor, tuple) as [i]"),
    "dict samples": ([{"image": X[0], "a": 0, "b": 1.0}], "Found dict as [i]"),
    "inputs and labels in a list": ([X, {"a": A, "b": B}], "Found Tensor as [i]"),
    "input alone": ([(X[0],)], "Found tuple of (Tensor) as [i]"),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_forms_are_named_beside_those_that_are_taken(form):
    dataset, found = OTHERS[form]
    taken = "(input, dict of labels), (input, (label, ...)) or (input, label, ...) with the labels in task order"
    with pytest.raises(TypeError, match=re.escape(taken) + ".*" + re.escape(found)):
        as_source(dataset, JOBS).read(slice(0, 1))


def test_inputs_of_two_sizes():
    with pytest.raises(
        ValueError, match=r"inputs of `dataset` should have one shape. Found \[\(3, 1, 2\), \(3, 2, 2\)"
    ):
        as_source([(X[0], (0, B[0])), (X[1, :, :1], (0, B[0]))], JOBS).read(slice(0, 2))
