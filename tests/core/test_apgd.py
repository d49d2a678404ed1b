"""Auto-PGD in the loop, against a second derivation from the papers, one sample at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.core import METHODS, RunConfig, ThreatModel, attack, make_method
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.optimizers.apgd import checkpoints
from art_mtl.core.selection import BestIterate
from art_mtl.projections import sample_norm

NORMS = [math.inf, 2.0, 1.0]
EPS = {math.inf: 0.15, 2.0: 0.8, 1.0: 3.0}


def run(case, method, threat, plan, **kwargs):
    return attack(case.forward, case.x, case.tasks, case.targets, method, threat, plan, **kwargs)


def auto(case, name="equal", **knobs):
    return make_method(name, case.tasks, schedule="auto", **knobs)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 20, 50, 100, 1000])
def test_checkpoints_follow_the_papers_formula(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    expected = {math.ceil(share * steps) for share in p[1:-1]}
    assert checkpoints(steps) == sorted(w for w in expected if w < steps)


class Bumpy:
    """One task on 6 coordinates whose loss has many local maxima; ``samples`` differ in their start."""

    def __init__(self, batch=6):
        g = torch.Generator().manual_seed(3)
        self.first = torch.randn(6, 9, generator=g, dtype=torch.float64) * 6
        self.last = torch.randn(9, generator=g, dtype=torch.float64)
        self.x = torch.rand((batch, 6), generator=g, dtype=torch.float64)
        self.tasks = [tasks.custom("bumpy", loss=lambda output, target: output)]
        self.targets = [self.tasks[0].targets(torch.zeros(batch))]

    def forward(self, x):
        return [torch.sin(x @ self.first) @ self.last + 5]

    def threat(self, norm):
        box = (torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
        return ThreatModel(norm, torch.full((1, 1), EPS[norm], dtype=torch.float64), box)

    def value_and_slope(self, x):
        leaf = torch.tensor(x[None]).requires_grad_(True)
        value = self.forward(leaf)[0].sum()
        return value.item(), torch.autograd.grad(value, leaf)[0][0].numpy()


def plain_auto_pgd(case, x, eps, norm, steps, project):
    """Algorithm 1 of Croce & Hein (2020) for one vector; every iterate, the best one, and the halvings."""
    w, share, before = [0], 22, 0
    while share <= 100:
        w.append(math.ceil(Fraction(share, 100) * steps))
        share, before = share + max(share - before - 3, 6), share
    size, x_k, x_before, f_max, x_max, g_max = 2 * eps, x, None, None, None, None
    values, iterates, sizes, best_at = [], [], {0: size}, {}
    halvings = 0
    for k in range(steps):
        f, g = case.value_and_slope(x_k)
        values.append(f)
        iterates.append(x_k)
        if f_max is None or f > f_max:
            f_max, x_max, g_max = f, x_k, g
        best_at[k] = f_max
        if k in w and k > 0:
            last = w[w.index(k) - 1]
            rises = sum(values[i + 1] > values[i] for i in range(last, k))
            stuck = sizes[last] == size and best_at[last] == f_max
            sizes[k] = size
            if rises < 0.75 * (k - last) or stuck:
                size, x_k, g, halvings = size / 2, x_max, g_max, halvings + 1
        unit = np.sign(g) if norm == math.inf else g / np.linalg.norm(g)
        z = x + project(x_k + size * unit - x)
        x_next = z if x_before is None else x + project(x_k + 0.75 * (z - x_k) + 0.25 * (x_k - x_before) - x)
        x_before, x_k = x_k, x_next
    f, _ = case.value_and_slope(x_k)
    return iterates, x_k if f > f_max else x_max, halvings


@pytest.mark.parametrize("norm", [math.inf, 2.0])
@pytest.mark.parametrize("steps", [3, 12, 40])
def test_is_the_papers_algorithm_step_by_step(plain, norm, steps):
    case, seen = Bumpy(), []
    result = run(case, auto(case), case.threat(norm), RunConfig(steps), observer=seen.append)
    iterates = torch.stack([record.inputs for record in seen], 1)
    halvings = []
    for b, x in enumerate(case.x.numpy()):

        def project(delta, x=x):
            return plain.ball_and_box(delta, EPS[norm], -x, 1 - x, norm)

        expected, best, halved = plain_auto_pgd(case, x, EPS[norm], norm, steps, project)
        torch.testing.assert_close(iterates[b], torch.tensor(np.stack(expected)), rtol=0, atol=1e-6)
        torch.testing.assert_close(result[b], torch.tensor(best), rtol=0, atol=1e-6)
        halvings.append(halved)
    if steps == 40:
        assert 1 <= min(halvings) < max(halvings), "the samples should differ in when they halve"


def plain_sparse(case, x, eps, steps, project):
    """APGD for L1, Croce & Hein (2021), section 3, for one vector."""
    d, every = len(x), max(1, steps * 4 // 100)
    size, count, support, x_k = eps, 0.2 * d, d, x
    f_max, x_max, g_max, iterates, resets = -math.inf, x, None, [], 0
    for k in range(steps):
        f, g = case.value_and_slope(x_k)
        iterates.append(x_k)
        if f > f_max:
            f_max, x_max, g_max = f, x_k, g
        if k > 0 and k % every == 0:
            now = np.count_nonzero(x_max != x)
            if now < 0.95 * support:
                size, x_k, g, resets = eps, x_max, g_max, resets + 1
            else:
                size = max(size / 1.5, eps / 10)
            count, support = (max(now / 1.5, 1) if now else count), now
        free = np.where(((g > 0) & (x_k < 1 - 1e-6 * eps)) | ((g < 0) & (x_k > 1e-6 * eps)), g, 0)
        chosen = np.argsort(-abs(free), kind="stable")[: max(1, int(count))]
        unit = np.zeros(d)
        unit[chosen] = np.sign(free[chosen])
        x_k = x + project(x_k + size * unit / max(1, np.count_nonzero(unit)) - x)
    f, _ = case.value_and_slope(x_k)
    return iterates, x_k if f > f_max else x_max, resets


@pytest.mark.parametrize("steps", [8, 60])
def test_l1_is_the_papers_algorithm_step_by_step(plain, steps):
    case, seen = Bumpy(), []
    eps = 1.2
    threat = replace(case.threat(1.0), eps=torch.full((1, 1), eps, dtype=torch.float64))
    result = run(case, auto(case), threat, RunConfig(steps), observer=seen.append)
    iterates = torch.stack([record.inputs for record in seen], 1)
    for b, x in enumerate(case.x.numpy()):

        def project(delta, x=x):
            return plain.ball_and_box(delta, eps, -x, 1 - x, 1.0)

        expected, best, resets = plain_sparse(case, x, eps, steps, project)
        torch.testing.assert_close(iterates[b], torch.tensor(np.stack(expected)), rtol=0, atol=1e-6)
        torch.testing.assert_close(result[b], torch.tensor(best), rtol=0, atol=1e-6)
        assert resets > 0


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_is_attacked_to_its_known_optimum(linear_case, norm):
    slopes = torch.tensor([[3.0, -1.0, 0.5, 2.0]], dtype=torch.float64)
    case, eps = linear_case(slopes), 0.3
    result = run(case, auto(case), case.threat(norm, eps), RunConfig(30))
    a = slopes[0]
    expected = {math.inf: eps * a.sign(), 2.0: eps * a / a.norm(), 1.0: eps * torch.eye(4, dtype=a.dtype)[0]}[norm]
    torch.testing.assert_close(result[0] - 0.5, expected, rtol=0, atol=1e-2)


def test_l1_goes_on_where_coordinates_have_reached_the_box(linear_case):
    """0.5 of room a coordinate, greatest slopes first."""
    case = linear_case(torch.tensor([[3.0, -2.0, 1.0, 0.5]], dtype=torch.float64))
    result = run(case, auto(case), case.threat(1.0, 1.2), RunConfig(60))
    torch.testing.assert_close(result[0], torch.tensor([1.0, 0.0, 0.7, 0.5], dtype=torch.float64), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["equal", "minmax", "worst-task", "single:depth", "alternate"])
@pytest.mark.parametrize("norm", NORMS)
def test_results_are_feasible_and_do_harm(dense_case, name, norm):
    case = dense_case(batch=4, dtype=torch.float32)
    eps = torch.tensor([0.5, 1.0, 1.0, 2.0]).view(4, 1, 1, 1) * EPS[norm]
    seen = []
    result = run(case, auto(case, name), case.threat(norm, eps), RunConfig(12), observer=seen.append)
    for x in [result, *(record.inputs for record in seen)]:
        assert (x >= 0).all() and (x <= 1).all()
        assert (sample_norm(x.double() - case.x.double(), norm) <= eps.double() * (1 + 1e-5) + 1e-5).all()
    attacked = [1] if name == "single:depth" else [0, 1, 2]
    outputs = case.forward(result)
    losses = torch.stack([t.loss(o, y) for t, o, y in zip(case.tasks, outputs, case.targets, strict=True)], 1)
    assert (losses.mean(0)[attacked] > 1.02 * seen[0].losses.mean(0)[attacked]).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["equal", "worst-task"])
def test_costs_t_forwards_t_backwards_and_one_forward(dense_case, name, norm):
    case, steps = dense_case(batch=2, dtype=torch.float32), 9
    inner, calls = case.forward, {"forward": 0, "backward": 0}

    def forward(x):
        calls["forward"] += 1
        if x.requires_grad:
            x = x * 1
            x.register_hook(lambda gradient: calls.update(backward=calls["backward"] + 1))
        return inner(x)

    case.forward = forward
    run(case, auto(case, name), case.threat(norm, EPS[norm]), RunConfig(steps))
    assert calls == {"forward": steps + 1, "backward": steps}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["single:depth", "equal", "normalize", "minmax", "worst-task"])
def test_with_scope_sample_batch_mates_do_not_matter(dense_case, name, norm):
    case, plan = dense_case(batch=4), RunConfig(9)
    threat = case.threat(norm, EPS[norm])
    whole = run(case, auto(case, name, weight_scope="sample"), threat, plan)
    part = case[[3, 1]]
    found = run(part, auto(part, name, weight_scope="sample"), threat, plan)
    torch.testing.assert_close(found, whole[[3, 1]], rtol=0, atol=1e-9)


def test_the_best_iterate_is_judged_at_the_weights_of_now():
    """One sample, two tasks. The first iterate degradations task 0, the second task 1."""
    best = BestIterate(torch.zeros(1, 1), lambda values, weights: (values * weights).sum(1))
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    task_0, task_1 = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert best.score(task_0).item() == -math.inf
    best.see(torch.tensor([[1.0]]), first, task_0, torch.tensor([[7.0]]))
    assert best.better.item() and not best.rose.item() and best.score(task_0).item() == 1
    best.see(torch.tensor([[2.0]]), second, task_1, torch.tensor([[8.0]]))
    assert best.better.item() and best.rose.item() and best.x.item() == 2 and best.gradient.item() == 8
    assert best.score(task_0).item() == 0 and best.score(task_1).item() == 0.5
    best.see(torch.tensor([[3.0]]), torch.tensor([[0.2, 0.4]]), task_0, torch.tensor([[9.0]]))
    assert best.better.item() and best.rose.item(), "at the old weights it would be neither"


def test_worst_task_compares_at_common_weights(dense_case):
    """What is returned is worth at least as much as the clean input at the weights of the end."""
    case, seen = dense_case(batch=6), []
    method = auto(case, "worst-task")
    assert (method.selection_score, method.keep_best, method.momentum) == (None, True, 0.0)
    assert method.scored_by() is DEGRADATION
    result = run(case, method, case.threat(math.inf, 0.1), RunConfig(12), observer=seen.append)
    weights = seen[-1].weights

    def worth(x):
        d = []
        pairs = zip(case.tasks, case.forward(x), case.forward(case.x), case.targets, strict=True)
        for task, now, clean, target in pairs:
            q, q0 = task.score(now, target), task.score(clean, target).clamp(min=task.score_floor)
            d.append(1 - q0 / q.clamp(min=task.score_floor) if not task.higher_is_better else 1 - q / q0)
        return (torch.stack(d, 1) * weights).sum(1)

    assert (worth(result) > worth(case.x)).all()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_the_rule(dense_case, name):
    case = dense_case(batch=4, dtype=torch.float32)
    result = run(case, auto(case, name), case.threat(math.inf, 0.1), RunConfig(5))
    assert not torch.equal(result, case.x) and torch.isfinite(result).all()


def test_restarts_and_masks(dense_case):
    case = dense_case(batch=3, dtype=torch.float32)
    mask = (torch.rand(1, 1, 6, 7) < 0.5).float()
    for norm in NORMS:
        plan = RunConfig(6, start=1.0, restarts=2, generator=torch.Generator().manual_seed(1))
        result = run(case, auto(case, "worst-task"), case.threat(norm, EPS[norm], mask), plan)
        moved = result != case.x
        assert moved.any() and not moved[(mask == 0).expand_as(moved)].any()


@pytest.mark.parametrize(
    ("knobs", "message"), [({"momentum": 0.5}, "momentum of its own"), ({"keep": "last"}, "returns it. Found keep=")]
)
def test_what_the_rule_decides_cannot_be_chosen(dense_case, knobs, message):
    with pytest.raises(ValueError, match=message):
        auto(dense_case(), **knobs)
