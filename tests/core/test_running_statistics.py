"""What is known of a chunk: against plain sums, and that neither reading nor failing leaves a trace."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_mtl.core import RunConfig, RunningStatistics, attack, make_method


def made(**reductions):
    statistics = RunningStatistics()
    for name, reduction in {"errors": torch.add, **reductions}.items():
        statistics.declare(name, reduction)
    return statistics


def read(statistics, *name):
    return statistics.read(*name).tolist()


def test_reading_changes_nothing():
    statistics = made()
    statistics.update("errors", torch.tensor([3.0]))
    assert [read(statistics, "errors") for _ in range(3)] == [[3.0]] * 3
    statistics.commit(samples=2)
    statistics.update("errors", torch.tensor([4.0]))
    assert [read(statistics, "errors") for _ in range(3)] == [[7.0]] * 3
    statistics.commit(samples=5)
    statistics.update("errors", torch.tensor([0.0]))
    assert read(statistics, "errors") == [7.0] and statistics.samples == 7


def test_an_update_takes_the_place_of_the_one_before():
    statistics = made()
    statistics.update("errors", torch.tensor([1.0]))
    statistics.commit(1)
    for value in (10.0, 20.0, 30.0):
        assert statistics.updated("errors", torch.tensor([value])).tolist() == [1.0 + value]
    statistics.commit(1)
    assert statistics.updated("errors", torch.tensor([0.0])).tolist() == [31.0]


def test_a_batch_that_fails_leaves_no_trace():
    statistics = made()
    statistics.update("errors", torch.tensor([1.0]))
    statistics.commit(4)
    statistics.update("errors", torch.tensor([99.0]))
    statistics.discard()
    with pytest.raises(KeyError):
        statistics.read("errors")
    assert statistics.updated("errors", torch.tensor([2.0])).tolist() == [3.0] and statistics.samples == 4


def test_a_batch_that_says_nothing_contributes_nothing():
    statistics = made()
    statistics.update("errors", torch.tensor([1.0]))
    for samples in (4, 3):
        statistics.commit(samples)
    assert statistics.updated("errors", torch.tensor([2.0])).tolist() == [3.0] and statistics.samples == 7


def test_tensors_of_the_caller_are_left_alone():
    statistics, value = made(), torch.tensor([1.0])
    for _ in range(3):
        statistics.update("errors", value)
        statistics.commit(1)
    assert value.tolist() == [1.0] and statistics.updated("errors", torch.zeros(1)).tolist() == [3.0]


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    batches=st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=4), min_size=1, max_size=5),
    kind=st.sampled_from([(torch.add, sum), (torch.maximum, max), (torch.minimum, min)]),
)
def test_a_declared_reduction_is_that_of_all_batches(batches, kind):
    reduction, plain = kind
    statistics = made(found=reduction)
    for updates in batches:
        for value in updates:
            now = statistics.updated("found", torch.tensor(float(value)))
        statistics.commit(1)
    assert now.item() == plain(updates[-1] for updates in batches)


def test_keys_tell_statistics_of_one_name_apart():
    statistics = made()
    for task, step, value in [(0, 1, 1.0), (1, 1, 2.0), (0, 2, 4.0), (0, None, 8.0)]:
        statistics.update("errors", torch.tensor(value), task, step)
    statistics.commit(1)
    for task, step, value in [(0, 1, 1.0), (1, 1, 2.0), (0, 2, 4.0), (0, None, 8.0)]:
        assert statistics.updated("errors", torch.tensor(0.0), task, step).item() == value


def test_what_is_not_declared_is_an_error():
    with pytest.raises(KeyError, match="'tries' should be declared before it is updated"):
        made().update("tries", torch.tensor(1.0))


def test_a_part_has_keys_of_its_own_and_the_batches_of_the_whole():
    whole = made()
    parts = {name: whole.part(name) for name in ("attacked", "preserved")}
    nested = parts["attacked"].part("preserved")
    everyone = [whole, *parts.values(), nested]
    for statistics, value in zip(everyone, (1.0, 2.0, 4.0, 8.0), strict=True):
        statistics.declare("errors")
        statistics.update("errors", torch.tensor(value))
    whole.commit(1)
    assert [s.updated("errors", torch.tensor(0.0)).item() for s in everyone] == [1.0, 2.0, 4.0, 8.0]
    parts["attacked"].update("errors", torch.tensor(100.0))
    whole.discard()
    assert whole.part("attacked").updated("errors", torch.tensor(1.0)).item() == 3.0


# --- in the loop ---


@pytest.mark.parametrize("name", ["worst-task", "minmax", "stealthy:seg"])
def test_batches_after_one_that_fails_go_on_as_if_it_had_not_been(mixed_case, name):
    case = mixed_case(batch=9)
    method = make_method(name, case.tasks, weight_scope="dataset")
    threat, plan = case.threat(math.inf, 0.1), {"start": 1.0, "restarts": 2}
    parts = [case[[0, 1, 2]], case[[3, 4, 5]], case[[6, 7, 8]]]

    def run(part, statistics, steps=4, forward=None):
        config = RunConfig(steps, generator=torch.Generator().manual_seed(0), **plan)
        return attack(
            forward or part.forward, part.x, part.tasks, part.targets, method, threat, config, statistics=statistics
        )

    def broken(x, calls=[]):  # noqa: B006
        calls.append(x)
        if len(calls) > 14:
            raise ArithmeticError("in the second restart")
        return case.forward(x)

    spared, met = {}, {}
    run(parts[0], spared)
    expected = run(parts[2], spared)
    run(parts[0], met)
    with pytest.raises(ArithmeticError):
        run(parts[1], met, 9, broken)
    assert torch.equal(run(parts[2], met), expected)
    assert not torch.equal(run(parts[2], {}), expected), "the first batch matters"
    assert torch.equal(run(parts[1], met, 9), run(parts[1], spared, 9)), "also at steps that only it has taken"
    assert [met[restart].samples for restart in (0, 1)] == [9, 9]
