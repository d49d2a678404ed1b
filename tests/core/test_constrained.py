"""Task-selective attacks: optima known in closed form, the multipliers against plain numbers, SMTA's formula."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.context import BatchContext
from art_mtl.core.objectives.constrained import Multipliers, Roles, relative_change
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.objectives.population import PopulationDegradation

SCOPES = ["dataset", "sample", "batch"]


def run(case, method, norm=math.inf, eps=0.1, steps=60, **plan):
    return attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(steps, **plan)
    )


def losses(case, x):
    return torch.stack([output.detach() for output in case.forward(x)], 1)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_it_reaches_the_optimum_of_a_linear_programme(linear_case, scope, side):
    """max δ₁ + δ₂ with |δ₁| ≤ 0.05 (the preserved error is 1 ± δ₁, tolerance 5 %) and |δ| ≤ 0.1: the optimum is
    0.15."""
    slopes = torch.tensor([[1.0, 1.0], [side, 0.0]], dtype=torch.float64)
    case = linear_case(slopes, torch.ones(2, dtype=torch.float64), batch=3)
    method = make_method("stealthy", case.tasks, attacked=["t0"], tolerance=0.05, weight_scope=scope)
    gain, move = (losses(case, run(case, method)) - 1).unbind(1)
    assert (move.abs() <= 0.05 + 1e-9).all() and (move * side > 0.03).all()
    assert (gain >= 0.13).all() and (gain <= 0.15 + 1e-9).all()


@pytest.mark.parametrize("tolerance", [0.01, 0.03, 0.08])
def test_the_tolerance_is_what_decides(linear_case, tolerance):
    slopes = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    case = linear_case(slopes, torch.ones(2, dtype=torch.float64))
    method = make_method("stealthy:t0", case.tasks, tolerance=tolerance, weight_scope="sample")
    gain, move = (losses(case, run(case, method, steps=100)) - 1)[0].tolist()
    assert 0.7 * tolerance < move <= tolerance + 1e-9
    assert gain == pytest.approx(0.1 + move, abs=2e-3)


def test_a_task_that_is_neither_attacked_nor_preserved_is_left_alone(linear_case):
    slopes = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    case = linear_case(slopes, torch.ones(2, dtype=torch.float64))
    method = make_method("stealthy:t0", case.tasks, preserved=[])
    torch.testing.assert_close(run(case, method), case.x + 0.1, rtol=0, atol=1e-12)


def test_several_may_be_attacked(linear_case):
    slopes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    case = linear_case(slopes, torch.ones(3, dtype=torch.float64))
    method = make_method("stealthy", case.tasks, attacked=["t0", "t2"])
    assert method.name == "stealthy:t0+t2"
    moved = (run(case, method) - case.x)[0]
    assert moved[0] > 0.099 and moved[2] > 0.099 and abs(moved[1]) <= 0.05


@pytest.mark.parametrize("name", ["stealthy:seg", "stealthy:depth", "stealthy:normal"])
def test_by_sample_what_is_returned_is_within_the_tolerance(dense_case, name):
    """Each sample's own error or score; the clean input is within it, so something always is."""
    case, tolerance = dense_case(batch=4), 0.05
    method = make_method(name, case.tasks, weight_scope="sample", tolerance=tolerance)
    result = run(case, method, eps=0.05, steps=40)
    attacked = [task.name for task in case.tasks].index(name.removeprefix("stealthy:"))
    qualities = []
    for x in (case.x, result):
        triples = zip(case.tasks, case.forward(x), case.targets, strict=True)
        qualities.append(torch.stack([task.score(output, target) for task, output, target in triples], 1))
    change = qualities[1] / qualities[0] - 1
    preserved = [k for k in range(3) if k != attacked]
    assert (change[:, preserved].abs() <= tolerance * (1 + 1e-6)).all()
    better = -1 if case.tasks[attacked].higher_is_better else 1
    assert (better * change[:, attacked] > 2 * tolerance).all()


def test_in_a_population_the_hard_metrics_are_preserved(mixed_case):
    """Two batches of one chunk: mean error and accuracy over both."""
    case = mixed_case(batch=12)
    method = make_method("stealthy:seg", case.tasks, tolerance=0.1)
    statistics, parts = {}, []
    for part in (case[range(6)], case[range(6, 12)]):
        threat = case.threat(math.inf, 0.05)
        found = attack(
            part.forward, part.x, part.tasks, part.targets, method, threat, RunConfig(60), statistics=statistics
        )
        parts.append(found)

    def metrics(x):
        triples = zip(case.tasks, case.forward(x), case.targets, strict=True)
        return [task.metric.value(task.statistics(output, y).sum(0)).item() for task, output, y in triples]

    before, after = metrics(case.x), metrics(torch.cat(parts))
    assert after[0] < 0.9 * before[0]
    assert all(abs(now / then - 1) <= 0.1 for now, then in zip(after[1:], before[1:], strict=True))


# --- the parts ---


def test_multipliers_are_those_of_the_formula():
    roles = Roles((True, False, False), (False, True, False))
    weighting = Multipliers(roles, tolerance=0.05, rate=0.2, penalty=3.0, aim=0.8).begin(5)
    known = torch.ones(2, 3, dtype=torch.bool)
    multiplier = [0.0, 0.0]
    for step, moves in enumerate([(0.0, 0.0), (0.06, 0.2), (0.5, 0.05), (0.01, 0.0), (0.0, 0.0)]):
        values = torch.tensor([[0.3, move, 0.7] for move in moves], dtype=torch.float64)
        weights = weighting(values, known, step)
        for row, move in enumerate(moves):
            excess = min((move - 0.8 * 0.05) / 0.05, 6.0)
            multiplier[row] = max(0.0, multiplier[row] + 0.2 * min(excess, 3.0))
            expected = [1.0, max(0.0, multiplier[row] + 3.0 * excess), 0.0]
            assert weights[row].tolist() == pytest.approx(expected)


def test_weights_are_zero_where_a_task_is_not_known():
    weighting = Multipliers(Roles((True, True, False), (False, False, True)), tolerance=0.05).begin(2)
    known = torch.tensor([[True, False, True], [True, True, False], [False, False, False]])
    weights = weighting(torch.full((3, 3), 0.5), known, 0)
    assert (weights[~known] == 0).all()
    assert weights[0, 0] == 1 and weights[1, :2].tolist() == [0.5, 0.5]


def test_relative_change_is_that_of_the_metric():
    before, after = torch.tensor([2.0, 0.8, 2.0]), torch.tensor([2.5, 0.7, 1.5])
    errors = torch.tensor([True, False, True])
    degradation = torch.where(errors, 1 - before / after, 1 - after / before)
    torch.testing.assert_close(relative_change(degradation, errors), (after / before - 1).abs())


def test_what_is_within_the_tolerance_beats_what_is_not(linear_case):
    case = linear_case(torch.eye(2, dtype=torch.float64), batch=4)
    context = BatchContext(tuple(case.tasks), tuple(case.targets), 1)
    weighting = Multipliers(Roles((True, False), (False, True)), tolerance=0.05)
    degradation = torch.tensor([[0.2, 0.0], [-50.0, 0.0], [1.0, 0.2], [1.0, 0.5]], dtype=torch.float64)
    found = weighting.selection_score(degradation, torch.ones(4, 2), context)
    assert found.tolist() == sorted(found.tolist(), reverse=True) and len(set(found.tolist())) == 4
    assert found[0] == pytest.approx(0.2)


def test_smta_is_its_formula(dense_case):
    """``r_t − p Σ |r_j|`` with r = (L − L⁰)/L⁰; at r = 0, where |r| has a kink, the slope of an increase is taken."""
    case, penalty, eps, steps = dense_case(batch=3), 0.7, 0.1, 4

    def task_losses(x):
        triples = zip(case.tasks, case.forward(x), case.targets, strict=True)
        return torch.stack([task.loss(output, target) for task, output, target in triples], 1)

    clean, x = task_losses(case.x), case.x
    for _ in range(steps):
        leaf = x.clone().requires_grad_(True)
        r = (task_losses(leaf) - clean) / clean
        sizes = [torch.where(r[:, k] < 0, -r[:, k], r[:, k]) for k in (0, 2)]
        (g,) = torch.autograd.grad((r[:, 1] - penalty * sum(sizes)).sum(), leaf)
        x = (case.x + (x + 2.5 * eps / steps * g.sign() - case.x).clamp(-eps, eps)).clamp(0, 1)
    method = make_method("smta:depth", case.tasks, penalty=penalty)
    torch.testing.assert_close(run(case, method, eps=eps, steps=steps), x, rtol=0, atol=1e-9)


# --- targets ---


def test_towards_targets_the_preserved_keep_their_labels(dense_case):
    case, other = dense_case(batch=4), dense_case(batch=4, seed=5)
    truth = case.targets
    case.targets = [truth[0], other.targets[1], truth[2]]
    method = make_method("stealthy:depth", case.tasks, weight_scope="sample", tolerance=0.05)
    result = run(case, method, eps=0.05, steps=40, targeted=True)
    depth = [case.tasks[1].score(case.forward(x)[1], case.targets[1]) for x in (case.x, result)]
    assert (depth[1] < 0.97 * depth[0]).all()
    for k in (0, 2):
        before, after = (case.tasks[k].score(case.forward(x)[k], truth[k]) for x in (case.x, result))
        assert ((after / before - 1).abs() <= 0.05 + 1e-6).all()


def test_a_method_is_restricted_to_the_tasks_that_have_targets(dense_case):
    jobs = dense_case().tasks
    weighted = make_method("equal", jobs, weighting=[1.0, 2.0, 3.0])
    with pytest.warns(RuntimeWarning, match=r"No targets of the task\(s\) \['depth'\] were given") as caught:
        assert weighted.restrict([0, 2], jobs).weighting.weights == (1.0, 3.0)
    assert len(caught) == 1
    preserved = make_method("stealthy:seg", jobs, preserved=["normal"])
    smta = make_method("smta:seg", jobs, preserved=["normal"], penalty=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Nothing is said of tasks that are left alone in any case.
        for method in (preserved, smta):
            assert method.restrict([0, 2], jobs).objective.roles == Roles((True, False), (False, True))
        assert preserved.restrict([0, 2], jobs).weighting.roles == Roles((True, False), (False, True))
        assert smta.restrict([0, 2], jobs).weighting.weights == (1.0, 0.5)
        ignored = make_method("equal", jobs, weighting=[1.0, 0.0, 3.0])
        assert ignored.restrict([0, 2], jobs).weighting.weights == (1.0, 3.0)
        assert make_method("single:seg", jobs).restrict([0], jobs).weighting.weights == (1.0,)
    for method in (preserved, smta):
        with pytest.raises(
            ValueError, match=r"should have a target of each task that it attacks.*Found none of \['seg"
        ):
            method.restrict([1, 2], jobs)
        with pytest.raises(ValueError, match=r"Found none of \['normal'\]"):
            method.restrict([0, 1], jobs)


@pytest.mark.parametrize(
    ("name", "knobs", "kept", "lost"),
    [("single:seg", {}, [1, 2], "seg"), ("equal", {"weighting": [1.0, 0.0, 2.0]}, [1], "seg', 'normal")],
)
def test_where_no_attacked_task_has_targets_nothing_is_left(dense_case, name, knobs, kept, lost):
    jobs = dense_case().tasks
    with pytest.raises(
        ValueError, match=rf"should have targets of the tasks that it attacks. Found none of \['{lost}'"
    ):
        make_method(name, jobs, **knobs).restrict(kept, jobs)


# --- names ---


@pytest.mark.parametrize(
    ("name", "knobs", "error", "message"),
    [
        ("stealthy", {}, ValueError, "which tasks to degrade, by `attacked` or as 'stealthy:<task>'. Found neither"),
        ("stealthy:seg", {"attacked": ["seg"]}, ValueError, "Found both"),
        ("stealthy:sky", {}, ValueError, r"`attacked` should name tasks of .*Found \['sky'\]"),
        ("stealthy:seg", {"preserved": ["sky"]}, ValueError, "`preserved` should name tasks"),
        ("stealthy:seg", {"preserved": ["seg", "depth"]}, ValueError, r"attacked or preserved, not both.*\['seg'\]"),
        ("smta", {"attacked": []}, ValueError, "`attacked` should name at least one"),
        ("smta", {"attacked": 3}, TypeError, "`attacked` should be the name of a task, or a list of some"),
        ("stealthy:seg", {"tolerance": 1.0}, ValueError, "`tolerance` should be a finite number above 0 and below 1"),
        ("stealthy:seg", {"tolerance": 0.0}, ValueError, "`tolerance` should be a finite number above 0"),
        ("stealthy:seg", {"penalty": 1.0}, ValueError, "`penalty` belongs to the method.*'smta'"),
        ("smta:seg", {"tolerance": 0.1}, ValueError, "`tolerance` belongs to the method.*'stealthy'"),
        ("equal", {"attacked": ["seg"]}, ValueError, "`attacked` belongs to the method.*'stealthy' and 'smta'"),
        ("smta:seg", {"penalty": -1.0}, ValueError, "`penalty` should be a finite number of at least 0"),
        ("stealthy:seg", {"objective": "loss"}, ValueError, "objective of its own"),
        ("stealthy:seg", {"weighting": "minmax"}, ValueError, "weighting of its own"),
        ("stealthy:seg", {"gamma": 1.0}, ValueError, "`gamma` belongs to the min-max"),
        ("stelthy:seg", {}, ValueError, "Perhaps 'stealthy:seg'"),
    ],
)
def test_bad_arguments_are_named(dense_case, name, knobs, error, message):
    with pytest.raises(error, match=message):
        make_method(name, dense_case().tasks, **knobs)


def test_equal_settings_make_equal_methods(dense_case):
    """Which is how the torchattacks front tells that settings have not changed between batches."""
    jobs = dense_case().tasks
    for name in ("stealthy:seg", "smta:depth"):
        assert make_method(name, jobs) == make_method(name, jobs)
    assert make_method("stealthy:seg", jobs) != make_method("stealthy:seg", jobs, tolerance=0.1)
    assert make_method("stealthy:seg", jobs).objective.inner == PopulationDegradation()
    assert make_method("stealthy:seg", jobs, weight_scope="batch").objective.inner is DEGRADATION
