"""The one mechanism by which restarts, members and iterates are chosen: the first of equals, column by column."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_mtl.core.selection import BestIterate, choose, keep_best


def kept(scores):
    """Candidate c of sample b is the number 10 c + b."""
    scores = torch.as_tensor(scores, dtype=torch.float64)
    inputs = 10 * torch.arange(len(scores))[:, None, None] + torch.arange(scores.shape[1])[:, None]
    return keep_best(zip(inputs, scores, strict=True))


def test_the_greatest_score_of_each_sample_is_kept_with_its_input():
    found = kept([[1.0, 5.0, 0.0], [2.0, 4.0, -1.0], [0.0, 6.0, -2.0]])
    assert found.winner.tolist() == [1, 2, 0]
    assert found.inputs[:, 0].tolist() == [10, 21, 2] and found.score.tolist() == [2.0, 6.0, 0.0]


def test_of_equals_the_first_is_kept():
    found = kept([[1.0, -math.inf, math.inf], [1.0, -math.inf, math.inf], [1.0, 0.0, math.inf]])
    assert found.winner.tolist() == [0, 2, 0]


SCORES = st.sampled_from([-math.inf, 0.0, 1.0, 2.0])


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 3).flatmap(lambda wide: st.lists(st.tuples(*[st.tuples(*[SCORES] * wide)] * 4), min_size=1)))
def test_columns_decide_like_pythons_tuples(scores):
    found = kept(scores)
    for sample in range(4):
        rows = [tuple(candidate[sample]) for candidate in scores]
        assert found.winner[sample].item() == rows.index(max(rows))
        assert tuple(found.score[sample].tolist()) == max(rows)


def test_a_candidate_is_let_go_once_the_next_one_is_there():
    """What a device has to hold does not grow with their number."""
    made = []

    def candidates():
        for number in range(5):
            assert all(reference() is None for reference in made[:-1])
            made.append(weakref.ref(inputs := torch.full((2, 1), float(number))))
            yield inputs, torch.tensor([float(number), float(-number)])
            del inputs

    assert keep_best(candidates()).winner.tolist() == [4, 0]


def test_no_candidate_is_an_error():
    with pytest.raises(ValueError, match="at least one candidate to keep. Found none"):
        keep_best([])


# --- iterates ---


def best_of(*iterates):
    """By the sum of their values, which are ``(B, 2)``; iterate i is the number i + 1, and 0 is where none is kept."""
    best = BestIterate(torch.zeros(2, 1), lambda values, weights: values.sum(1))
    for number, values in enumerate(iterates, start=1):
        best.see(torch.full((2, 1), float(number)), torch.tensor(values), torch.ones(1, 2))
    return best


def test_the_first_of_equal_iterates_is_kept():
    best = best_of([[1.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.5, 0.5]])
    assert best.x[:, 0].tolist() == [1.0, 2.0] and best.score(torch.ones(1, 2)).tolist() == [2.0, 1.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_iterate_whose_values_are_not_finite_is_never_kept(bad):
    best = best_of([[bad, 0.0], [1.0, 1.0]], [[1.0, 0.0], [9.0, bad]], [[bad, bad], [0.0, 1.0]])
    assert best.x[:, 0].tolist() == [2.0, 1.0] and best.score(torch.ones(1, 2)).tolist() == [1.0, 2.0]
    nowhere = best_of([[bad, 0.0], [bad, 1.0]])
    assert not nowhere.x.any() and nowhere.score(torch.ones(1, 2)).tolist() == [-math.inf, -math.inf]


def test_choose_looks_at_whole_samples():
    yes, no = torch.ones(3, 2, 2), torch.zeros(3, 2, 2)
    samples = torch.tensor([True, False, True])
    assert choose(samples, yes, no).flatten(1).mean(1).tolist() == [1.0, 0.0, 1.0]
    assert choose(samples, yes, 5.0).flatten(1).mean(1).tolist() == [1.0, 5.0, 1.0]
    assert choose(samples | True, yes, no) is yes
