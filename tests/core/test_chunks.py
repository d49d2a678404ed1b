"""How a data set is cut: laws of the parts; where groups have weights of their own, cutting decides no result."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_mtl.core import make_method
from art_mtl.core.chunks import batches, chunks, even_parts
from art_mtl.core.searches.per_sample import PerSampleSearch


def lengths(parts):
    return [part.stop - part.start for part in parts]


def assert_cut(parts, size, largest):
    """Neighbouring parts that cover everything, none of them empty or too long."""
    parts = list(parts)
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(size))
    assert all(0 < length <= largest for length in lengths(parts))


@settings(deadline=None, derandomize=True)
@given(size=st.integers(0, 2000), largest=st.integers(1, 300), multiple=st.integers(1, 9))
def test_parts_are_as_few_and_as_even_as_they_can_be(size, largest, multiple):
    parts = even_parts(size, largest, multiple)
    assert_cut(parts, size, largest)
    assert len(parts) == math.ceil(size / largest)
    if size:
        *first, last = lengths(parts)
        whole = all(length % multiple == 0 for length in first)
        spread = max([*first, last]) - min([*first, last])
        # What is missing of the last multiple is missing of the last part.
        assert spread <= 1 or (whole and spread <= multiple + (-size % multiple) and 2 * last >= max(first))


@pytest.mark.parametrize(
    ("size", "largest", "multiple", "expected"),
    [
        (257, 256, 4, [132, 125]),
        (256, 256, 4, [256]),
        (512, 256, 4, [256, 256]),
        (1000, 256, 4, [252, 252, 248, 248]),
        (11, 8, 1, [6, 5]),
        (10, 4, 1, [4, 3, 3]),
        (5, 4, 4, [3, 2]),
        (3, 7, 4, [3]),
        (0, 7, 4, []),
    ],
)
def test_examples(size, largest, multiple, expected):
    assert lengths(even_parts(size, largest, multiple)) == expected


def test_of_many_chunks_the_last_is_not_short():
    """8705 = 34 · 256 + 1: to round each of the 35 up by itself would leave 137 to the last."""
    assert min(lengths(chunks(8705, 256))) == 245


@settings(deadline=None, derandomize=True)
@given(
    size=st.integers(1, 900),
    batch_size=st.integers(1, 300),
    scope=st.sampled_from(["sample", "batch", "dataset"]),
    group=st.sampled_from([None, 1, 4, 7, 100, 256]),
)
def test_batches_of_every_scope(size, batch_size, scope, group):
    parts = list(batches(size, batch_size, scope, group))
    assert_cut(parts, size, batch_size)
    if scope == "sample":
        assert lengths(parts[:-1]) == [batch_size] * (len(parts) - 1)
    if scope == "batch" and group is None:
        assert max(lengths(parts)) - min(lengths(parts)) <= 1
    if scope == "batch" and group is not None and batch_size >= group:
        assert all(part.start % group == 0 for part in parts)
    if scope == "dataset":
        edges = {chunk.stop for chunk in chunks(size, group or 256)}
        assert edges <= {part.stop for part in parts}, "a batch straddles two chunks"


@pytest.mark.parametrize("name", ["minmax-official", "equal-official"])
def test_where_groups_have_their_weights_the_batch_size_decides_nothing(dense_case, make_setup, name):
    case = dense_case(batch=11)
    whole, *others = (
        PerSampleSearch().run(make_setup(case, make_method(name, case.tasks), batch_size=size, steps=3))
        for size in (None, 4, 8, 10)
    )
    for found in others:
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)
