"""What is said at the end of a call: each thing once, with the numbers of the call."""

from __future__ import annotations

import warnings

import pytest
import torch

from art_mtl.core.run_log import RunLog


def said(log, samples):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        log.warn(samples)
    assert all(issubclass(warning.category, RuntimeWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


def test_nothing_met_is_nothing_said():
    assert said(RunLog(), 4) == [] and said(RunLog(moved={0, 1}), 2) == []


def test_samples_are_named_in_order_and_not_all_of_many():
    (message,) = said(RunLog(stopped={7, 2}), 9)
    assert "not finite for sample(s) [2, 7]; their attack ended at the last iterate with finite outputs" in message
    (message,) = said(RunLog(zeroed=set(range(14))), 20)
    assert "sample(s) [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 4 more has NaN or infinite entries" in message


def test_flat_tasks_are_named():
    (message,) = said(RunLog(flat={"normal", "depth"}), 4)
    assert message.startswith("The output of the task(s) ['depth', 'normal'] does not depend on the inputs")


@pytest.mark.parametrize(
    ("log", "count"),
    [
        (RunLog(still={0, 1, 2}), 1),
        (RunLog(still={0, 2}), 0),
        (RunLog(still={0, 1, 2}, moved={1}), 0),
        (RunLog(still={0, 1, 2}, flat={"depth"}), 1),
    ],
    ids=["all", "some", "moved elsewhere", "the flat task says it"],
)
def test_that_nothing_moved_is_said_where_it_holds_for_all(log, count):
    messages = said(log, 3)
    assert len(messages) == count
    assert sum("The gradient was 0 at every step for all samples" in m for m in messages) == (count and not log.flat)


def test_all_that_was_met_is_said_at_once():
    assert len(said(RunLog(stopped={0}, zeroed={1}, flat={"depth"}), 3)) == 3


def test_a_part_is_merged_by_the_numbers_of_the_call():
    log, index = RunLog(stopped={0}, flat={"depth"}), torch.tensor([5, 3, 8])
    log.merge(RunLog(stopped={1}, zeroed={0, 2}, still={2}, moved={1}, flat={"normal"}), index)
    log.merge(RunLog(zeroed={1}), index)
    assert log == RunLog(stopped={0, 3}, zeroed={5, 8, 3}, still={8}, flat={"depth", "normal"})
    assert log.moved == {3}
