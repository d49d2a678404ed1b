"""Square search: laws of its candidates, and that queries are all it needs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from art_mtl import tasks
from art_mtl.core import Method, RunConfig, ThreatModel, attack, make_method
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.optimizers.schedules import SQUARE
from art_mtl.core.optimizers.square import window
from art_mtl.core.searches.ensemble_members import SOFT_FLIPS, square_search
from art_mtl.projections import sample_norm

EPS = {math.inf: 0.1, 2.0: 1.5}
PLAIN = Method("square", schedule=SQUARE, keep_best=True)
"""Σ L_i, so that what is accepted does not depend on weights."""


def run(case, method, threat, plan, **kwargs):
    return attack(case.forward, case.x, case.tasks, case.targets, method, threat, plan, **kwargs)


def plan(steps, seed=0, **kwargs):
    return RunConfig(steps, generator=torch.Generator().manual_seed(seed), **kwargs)


def test_windows_shrink_at_the_papers_places():
    """Area 0.8 of the image at first, halved at 10, 50, 200, 1000, 2000, 4000, 6000 and 8000 of 10 000 queries."""
    places = [9, 10, 49, 50, 199, 200, 999, 1000, 1999, 2000, 3999, 4000, 5999, 6000, 7999, 8000]
    halvings = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]
    for place, count in zip(places, halvings, strict=True):
        side = round(math.sqrt(0.8 * 0.5**count * 64 * 64))
        assert window(64, 64, place, 10_000) == (side, side)
    assert window(2, 50, 0, 100) == (2, 40)


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("edge", [False, True])
def test_candidates_are_feasible_and_spend_the_budget(dense_case, norm, edge):
    case, seen = dense_case(batch=4, dtype=torch.float32), []
    case.x = case.x.round() if edge else case.x * 0.1 + 0.45
    eps = torch.tensor([0.2, 0.3, 0.4, 0.4]).view(4, 1, 1, 1) * EPS[norm]
    result = run(case, PLAIN, case.threat(norm, eps), plan(30), observer=seen.append)
    for x in [result, *(record.inputs for record in seen)]:
        assert (x >= 0).all() and (x <= 1).all()
        assert (sample_norm(x - case.x, norm) <= eps * (1 + 1e-5) + 1e-6).all()
    if not edge:
        for record in seen[1:]:
            delta = record.inputs - case.x
            torch.testing.assert_close(sample_norm(delta, norm), eps, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 6, 7), (3, 20), (40,)])
@pytest.mark.parametrize("norm", EPS)
def test_a_candidate_differs_from_the_best_one_in_few_places(shape, norm):
    """In one square (L∞) or two (L2) of the size of that query; in inputs of any shape."""
    g = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand((3, *shape), generator=g, dtype=torch.float64)
    slope = torch.randn(shape, generator=g, dtype=torch.float64)
    job = [tasks.custom("sum", loss=lambda output, target: output)]
    box = (torch.zeros([1] * x.ndim, dtype=x.dtype), torch.ones([1] * x.ndim, dtype=x.dtype))
    threat = ThreatModel(norm, torch.full([1] * x.ndim, 0.1, dtype=x.dtype), box)

    def forward(inputs):
        return [(inputs * slope).flatten(1).sum(1)]

    seen, steps = [], 40
    targets = [job[0].targets(torch.zeros(3))]
    result = attack(forward, x, job, targets, PLAIN, threat, plan(steps), observer=seen.append)
    best, value = x.clone(), torch.full((3,), -math.inf, dtype=x.dtype)
    height, width = {3: shape[1:], 2: (1, shape[-1]), 1: (1, shape[0])}[len(shape)]
    for step, record in enumerate(seen):
        if step > 1:  # Query 0 is the clean input, query 1 the stripes.
            changed = ((record.inputs - best).abs() > 1e-9).reshape(3, -1, height * width).any(1).sum(1)
            tall, wide = window(height, width, step - 1, steps)
            assert (changed <= (1 if norm == math.inf else 2) * tall * wide).all()
        now = forward(record.inputs)[0]
        best = torch.where((now > value).view(3, *[1] * len(shape)), record.inputs, best)
        value = torch.maximum(now, value)
    assert (forward(result)[0] >= value).all() and (value > forward(x)[0]).all()


@pytest.mark.parametrize("norm", EPS)
def test_needs_queries_only(dense_case, norm):
    case, calls = dense_case(batch=2, dtype=torch.float32), []
    inner = case.forward

    def forward(x):
        calls.append(torch.is_grad_enabled() or x.requires_grad)
        return inner(x)

    case.forward = forward
    run(case, square_search(), case.threat(norm, EPS[norm]), plan(12))
    assert calls == [False] * 13


@pytest.mark.parametrize("norm", EPS)
def test_finds_what_a_masked_gradient_hides(dense_case, norm):
    case = dense_case(batch=4, dtype=torch.float32)
    inner = case.forward
    case.forward = lambda x: inner((x * 16).round() / 16 + 0 * x)
    threat = case.threat(norm, EPS[norm])

    def degradation(x):
        outputs, clean = case.forward(x), case.forward(case.x)
        pairs = zip(case.tasks, outputs, clean, case.targets, strict=True)
        return min((t.loss(o, y) / t.loss(c, y)).mean().item() for t, o, c, y in pairs)

    blind = run(case, make_method("worst-task", case.tasks, schedule="auto"), threat, plan(20))
    found = run(case, square_search(), threat, plan(150))
    assert degradation(blind) == pytest.approx(1) and degradation(found) > 1.05


def test_its_score_is_not_flattened_by_a_saturated_softmax(mixed_case):
    """Logits times 10⁶ leave the soft flips as they are; the probability of the true class is 0 or 1 there."""
    case = mixed_case(batch=6)
    task, target = case.tasks[2], case.targets[2]
    moved = case.forward((case.x + 0.05).clamp(0, 1))[2]
    clean = case.forward(case.x)[2]
    soft, hard = [], []
    for scale in (1.0, 1e6):
        before, now = scale * clean, scale * moved
        soft.append(SOFT_FLIPS.value(task, now, target, SOFT_FLIPS.reference(task, before, target), False))
        hard.append(DEGRADATION.value(task, now, target, DEGRADATION.reference(task, before, target), False))
    torch.testing.assert_close(soft[0], soft[1])
    there = target.valid
    assert ((soft[1][there] > 0.01) & (soft[1][there] < 0.99)).any() and (soft[1][~there] == 0).all()
    assert not ((hard[1][there] > 0.01) & (hard[1][there] < 0.99)).any()


def test_masked_pixels_stay_and_starts_are_repeatable(dense_case):
    case = dense_case(batch=3, dtype=torch.float32)
    mask = (torch.rand(1, 1, 6, 7) < 0.5).float()
    for norm, eps in EPS.items():
        threat = case.threat(norm, eps, mask)
        a, b, c = (run(case, PLAIN, threat, plan(20, seed)) for seed in (1, 1, 2))
        moved = a != case.x
        assert moved.any() and not moved[(mask == 0).expand_as(moved)].any()
        assert torch.equal(a, b) and not torch.equal(a, c)


def test_stays_on_the_device_and_never_waits(dense_case):
    case = dense_case(dtype=torch.float32)
    meta = replace(case, x=case.x.to("meta"), targets=[target.to("meta") for target in case.targets])
    weights = torch.empty(8, 3, 1, 1, device="meta")

    def forward(x):
        out = torch.nn.functional.conv2d(x, weights)
        return [out[:, :4], out[:, 4:5], out[:, 5:]]

    meta.forward = forward
    for norm, eps in EPS.items():
        threat = case.threat(norm, eps)
        threat = replace(threat, eps=threat.eps.to("meta"), bounds=tuple(bound.to("meta") for bound in threat.bounds))
        assert run(meta, square_search(), threat, RunConfig(3)).device.type == "meta"


def test_the_ensembles_search_sees_through_a_saturated_softmax():
    """Logits so large that every probability is exactly 0 or 1: only margins say which square was better."""
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(48, 10).requires_grad_(False)
    layer.weight.copy_(torch.randn(10, 48, generator=generator))
    layer.bias.zero_()
    x = torch.rand(16, 3, 4, 4, generator=generator)
    jobs = [tasks.classification("a", 5), tasks.classification("b", 5)]

    def forward(images):
        logits = 1e4 * layer(images.flatten(1))
        return [logits[:, :5], logits[:, 5:]]

    targets = [job.targets(output.argmax(1)) for job, output in zip(jobs, forward(x), strict=True)]
    threat = ThreatModel(math.inf, torch.tensor(0.25), (torch.tensor(0.0), torch.tensor(1.0)))

    def flipped(method):
        found = attack(forward, x, jobs, targets, method, threat, plan(150))
        return [(o.argmax(1) != t.value).float().mean().item() for o, t in zip(forward(found), targets, strict=True)]

    seeing, blind = flipped(square_search()), flipped(replace(square_search(), score_fn=None))
    assert min(seeing) > min(blind) + 0.2
