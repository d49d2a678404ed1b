"""The other methods against one-step formulae."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.methods import METHODS, method_names
from art_mtl.core.objectives.loss_objectives import DEGRADATION, LOSS
from art_mtl.core.weightings import least


def task_losses(case, x):
    """``(B, K)``, from torch's own losses."""
    seg, depth, normal = case.forward(x)
    s, d, n = case.targets
    ce = torch.nn.functional.cross_entropy(seg, torch.where(s.valid, s.value, -1), ignore_index=-1, reduction="none")
    columns = [
        ce.sum((1, 2)) / s.valid.sum((1, 2)),
        ((depth - d.value).abs()[:, 0] * d.valid).sum((1, 2)) / d.valid.sum((1, 2)),
        ((normal - n.value).abs().sum(1) * n.valid).sum((1, 2)) / n.valid.sum((1, 2)),
    ]
    return torch.stack(columns, 1)


def gradients(case, x):
    """Losses ``(B, K)`` and K gradients."""
    leaf = x.clone().requires_grad_(True)
    values = task_losses(case, leaf)
    parts = [torch.autograd.grad(values[:, k].sum(), leaf, retain_graph=True)[0] for k in range(values.shape[1])]
    return values.detach(), parts


def _column(v):
    return v.view(-1, 1, 1, 1)


ASCENT = {
    "equal": lambda step, now, clean, g: sum(g),
    "normalize": lambda step, now, clean, g: sum(g[k] / _column(clean[:, k]) for k in range(3)),
    "dgba": lambda step, now, clean, g: sum(g[k] / _column(now[:, k]) for k in range(3)),
    "alternate": lambda step, now, clean, g: g[step % 3],
    "single:normal": lambda step, now, clean, g: g[2],
    "single:seg": lambda step, now, clean, g: g[0],
}


@pytest.mark.parametrize("norm", [math.inf, 2.0])
@pytest.mark.parametrize("name", ASCENT)
def test_steps_are_those_of_the_formula(plain, dense_case, name, norm):
    case, steps = dense_case(batch=3), 5
    eps = 0.1 if norm == math.inf else 1.5
    alpha = (2.5 if norm == math.inf else 2) * eps / steps
    clean, delta = task_losses(case, case.x), torch.zeros_like(case.x)
    for step in range(steps):
        now, g = gradients(case, case.x + delta)
        ascent = ASCENT[name](step, now, clean, g)
        ascent = ascent.sign() if norm == math.inf else ascent / _column(ascent.flatten(1).norm(dim=1))
        z = delta + alpha * ascent
        rows = [
            plain.ball_and_box(row, eps, -low, 1 - low, norm)
            for row, low in zip(z.flatten(1).numpy(), case.x.flatten(1).numpy(), strict=True)
        ]
        delta = torch.tensor(np.stack(rows)).view_as(z)
    method = make_method(name, case.tasks)
    result = attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(steps))
    torch.testing.assert_close(result, case.x + delta, rtol=0, atol=1e-9)


def test_momentum_and_schedule_are_those_of_the_formula(dense_case):
    case, steps, eps, decay = dense_case(batch=3), 5, 0.1, 0.75
    delta, momentum = torch.zeros_like(case.x), 0
    for step in range(steps):
        _, g = gradients(case, case.x + delta)
        momentum = decay * momentum + sum(g) / _column(sum(g).abs().mean((1, 2, 3)))
        delta = (delta + 3 * eps * (1 - step / steps) * momentum.sign()).clamp(-eps, eps)
        delta = (case.x + delta).clamp(0, 1) - case.x
    method = make_method("equal", case.tasks, momentum=decay, schedule="linear")
    result = attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(math.inf, eps), RunConfig(steps)
    )
    torch.testing.assert_close(result, case.x + delta, rtol=0, atol=1e-9)


def test_degradation_with_the_inner_minimiser_is_section_5(plain, dense_case):
    """d = 1 − e⁰/e of errors, 1 − s/s⁰ of scores; w = proj(1/K − d/γ); the iterate with the greatest min d is kept."""
    case, steps, eps, gamma = dense_case(batch=3), 6, 0.15, 0.3

    def quality(x):
        seg, depth, normal = case.forward(x)
        s, d, n = case.targets
        p = seg.softmax(1).gather(1, s.value[:, None])[:, 0]
        cosine = (normal * n.value).sum(1).clamp(-1 + 1e-5, 1 - 1e-5)  # both of unit length
        each = [p, (depth - d.value).abs()[:, 0], torch.rad2deg(torch.arccos(cosine))]
        return [(v * t.valid).sum((1, 2)) / t.valid.sum((1, 2)) for v, t in zip(each, case.targets, strict=True)]

    clean = [q.detach() for q in quality(case.x)]
    x, w, momentum = case.x, torch.full((3, 3), 1 / 3, dtype=torch.float64), 0
    best, score = x, torch.full((3,), -math.inf, dtype=torch.float64)
    for step in range(steps + 1):
        leaf = x.clone().requires_grad_(True)
        q = quality(leaf)
        degradation = torch.stack([1 - q[0] / clean[0], 1 - clean[1] / q[1], 1 - clean[2] / q[2]], 1)
        least = degradation.detach().amin(1)
        best = torch.where(_column(least > score), x, best)
        score = torch.maximum(score, least)
        if step == steps:
            break
        if step:
            w = torch.tensor(np.stack([plain.simplex(1 / 3 - row / gamma) for row in degradation.detach().numpy()]))
        (g,) = torch.autograd.grad((w * degradation).sum(), leaf)
        momentum = 0.5 * momentum + g / _column(g.abs().mean((1, 2, 3)))
        delta = (x + 3 * eps * (1 - step / steps) * momentum.sign() - case.x).clamp(-eps, eps)
        x = (case.x + delta).clamp(0, 1)
    method = make_method("worst-task", case.tasks, weight_scope="sample")
    result = attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(math.inf, eps), RunConfig(steps)
    )
    torch.testing.assert_close(result, best, rtol=0, atol=1e-9)


def test_own_weights_and_parts(dense_case):
    """A weighted equal attack ascends the weighted sum; weights of one task are the single-task attack."""
    case = dense_case(batch=3)
    _, g = gradients(case, case.x)
    weights = [0.5, 3.0, 1.0]
    ascent = sum(w * part for w, part in zip(weights, g, strict=True))
    threat = case.threat(math.inf, 0.1)
    method = make_method("equal", case.tasks, weighting=weights)
    result = attack(case.forward, case.x, case.tasks, case.targets, method, threat, RunConfig(1))
    torch.testing.assert_close(result, (case.x + 0.1 * ascent.sign()).clamp(0, 1), rtol=0, atol=1e-12)
    one, single = make_method("equal", case.tasks, weighting=[0, 1, 0]), make_method("single:depth", case.tasks)
    a, b = (attack(case.forward, case.x, case.tasks, case.targets, m, threat, RunConfig(4)) for m in (one, single))
    assert torch.equal(a, b)


@pytest.mark.parametrize("objective", ["loss", "log", "normalized", "relative", "degradation"])
@pytest.mark.parametrize("weighting", ["uniform", "minmax", "inner-minimiser", "alternating"])
def test_every_objective_and_weighting_goes_together(dense_case, objective, weighting):
    case, parts = dense_case(batch=2), {"objective": objective, "weighting": weighting}
    before, shares = task_losses(case, case.x), weighting in ("minmax", "inner-minimiser")
    for scope in ("sample", "batch", "dataset"):
        if scope != "sample" and not shares:
            with pytest.raises(ValueError, match=f"do not depend on the samples; leave `weight_scope`.*'{scope}'"):
                make_method("equal", case.tasks, weight_scope=scope, **parts)
            continue
        method = make_method("equal", case.tasks, weight_scope=scope, **parts)
        result = attack(
            case.forward, case.x, case.tasks, case.targets, method, case.threat(math.inf, 0.05), RunConfig(3)
        )
        assert (task_losses(case, result).mean(0) > before.mean(0)).any()
        assert (result - case.x).abs().max() <= 0.05 + 1e-12


# --- names and knobs ---


def test_method_names(dense_case):
    tasks = dense_case().tasks
    expected = {"equal", "normalize", "dgba", "alternate", "minmax", "minmax-official", "worst-task"}
    assert {name for name, spec in METHODS.items() if not spec.on_request} == expected
    assert set(METHODS) - expected == {"equal-official", "normalize-official", "worst-image"}
    image = make_method("worst-image", tasks)
    assert replace(image, name="worst-task") == make_method("worst-task", tasks, weight_scope="sample")
    assert method_names(tasks)[:3] == ["single:seg", "single:depth", "single:normal"]
    for name in method_names(tasks):
        assert make_method(name, tasks).name == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eqal",), "`method` should be one of.*Found 'eqal'. Perhaps 'equal'"),
        (("single:dept",), "should name one of the tasks.*'depth'.*Found 'dept'"),
        (("equal", {"gamma": 1.0}), "`gamma` belongs to the min-max weightings.*Uniform"),
        (("worst-task", {"weight_step": 1.0}), "`weight_step` belongs"),
        (("minmax", {"gamma": -1.0}), "`gamma`"),
        (("minmax", {"weight_step": 0.0}), "`weight_step` should be a finite number above 0"),
        (("worst-task", {"weight_scope": "sample", "gamma": 0.0}), "`gamma` should be above 0"),
        (("minmax", {"weight_scope": "image"}), "`weight_scope` should be one of"),
        (("minmax", {"objective": "cosine"}), "`objective` should be one of"),
        (("worst-image", {"weight_scope": "batch"}), "'worst-image' has weights for each image"),
        (("minmax", {"schedule": "step"}), "`schedule` should be one of"),
        (("minmax", {"keep": "first"}), "`keep` should be one of"),
        (("minmax", {"projection": "box"}), "`projection` should be one of"),
        (("minmax", {"weighting": "softmax"}), "`weighting` should be one of"),
        (("equal", {"weighting": [1.0, 2.0]}), "3 weights"),
        (("equal", {"weighting": [0.0, 0.0, 0.0]}), "not all 0"),
        (("equal", {"weighting": [-1.0, 1.0, 1.0]}), "≥ 0"),
        (("equal", {"momentum": -0.1}), "`momentum`"),
        (("minmax-official", {"weight_group": 0}), "`weight_group`"),
        (("minmax-official", {"weight_scope": "dataset"}), "'minmax-official' pools a batch.*'batch' or 'sample'"),
        (("equal", {"weight_scope": "batch"}), "'equal' has weights that do not depend on the samples; leave `weight"),
        (("equal", {"weight_group": 2}), "`weight_group` is for weights that samples share.*do not depend"),
        (("minmax", {"weight_group": 2}), "'minmax' has weights for each sample"),
        (("worst-task", {"weighting": "uniform", "weight_step": 0.1}), "`weight_step` belongs to the min-max"),
        (("worst-task", {"objective": "population", "weight_scope": "batch"}), "should be 'dataset'. Found 'batch'"),
    ],
)
def test_bad_knobs_are_named(dense_case, arguments, message):
    name, knobs = arguments if len(arguments) == 2 else (arguments[0], {})
    with pytest.raises(ValueError, match=message):
        make_method(name, dense_case().tasks, **knobs)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"gamma": "1"}, "`gamma` should be a finite number of at least 0. Found '1'"),
        ({"weight_step": True}, "`weight_step` should be a finite number above 0. Found True"),
        ({"momentum": "0.5"}, "`momentum` should be a finite number"),
        ({"weighting": 3}, "`weighting` should be one of.*or a list.*Found int"),
        ({"eps": 0.1}, "A method has no option `eps`. Its options are"),
    ],
)
def test_wrong_types_and_unknown_options_are_named(dense_case, knobs, message):
    with pytest.raises(TypeError, match=message):
        make_method("minmax", dense_case().tasks, **knobs)


def test_exchanged_parts_show_in_the_name_and_decide_what_is_compared(dense_case):
    jobs = dense_case().tasks
    plain, exchanged = make_method("minmax", jobs), make_method("minmax", jobs, weighting="uniform")
    assert (plain.name, exchanged.name) == ("minmax", "minmax(weighting=uniform)")
    both = make_method("worst-task", jobs, objective="loss", weighting=[1, 0.5, 0], weight_scope="sample")
    assert both.name == "worst-task(objective=loss, weighting=[1,0.5,0])"
    assert exchanged.scored_by() is LOSS and plain.scored_by() is DEGRADATION
    assert both.scored_by() is LOSS and both.selection_score is None
    values, weights = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.5, 0.25, 0.25]])
    context = SimpleNamespace(
        has_label=torch.ones(1, 3, dtype=torch.bool), group_index=torch.zeros(1, dtype=torch.long)
    )
    for method, worth in ((plain, 1.0), (exchanged, 6.0), (both, 3.5), (make_method("worst-task", jobs), 2.25)):
        assert method.weighting.selection_score(values, weights, context).item() == worth
    assert make_method("worst-task", jobs, keep="best").selection_score is least, (
        "iterates have no weights in common yet"
    )
    assert make_method("worst-task", jobs, schedule="auto").selection_score is None
