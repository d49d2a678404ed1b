from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from art_mtl import projections
from art_mtl.core import METHODS, RunConfig, ThreatModel, attack, make_method
from art_mtl.core.optimizers.schedules import AUTO_PGD, CONSTANT, COSINE, LINEAR, SCHEDULES, SQUARE
from art_mtl.core.optimizers.steps import accumulate, direction, random_start
from art_mtl.core.threat import FeasibleSet
from art_mtl.projections import sample_norm

NORMS = [math.inf, 2.0, 1.0]
WIDE = (torch.tensor(-9.0), torch.tensor(9.0))


def _direction(g, norm, delta=None, room=WIDE, step=1, **changes):
    """With ``delta`` as the perturbation of an input at 0, and ``room`` the distance to the bounds."""
    delta = torch.zeros_like(g) if delta is None else delta
    bounds = (delta + room[0], delta + room[1])
    return direction(g, norm, torch.zeros_like(g), delta, bounds, step, **changes)


def test_default_step_sizes():
    eps = torch.tensor([[0.5], [1.0]])
    for schedule, norm, momentum, expected in [
        (CONSTANT, math.inf, 0.0, 2.5 / 10),
        (CONSTANT, 2, 0.0, 2 / 10),
        (CONSTANT, 1, 0.0, 1.0),
        (CONSTANT, math.inf, 0.9, 2.5 / 10),
        (LINEAR, math.inf, 0.0, 2.0),
        (COSINE, 2, 0.0, 2.0),
        (LINEAR, math.inf, 0.5, 3.0),
        (COSINE, 1, 0.5, 3.0),
    ]:
        threat = ThreatModel(norm, eps, WIDE)
        torch.testing.assert_close(schedule.size(threat, None, 10, momentum, None), expected * eps)
        torch.testing.assert_close(schedule.size(threat, None, 10, momentum, 0.2), 0.2 * eps)
        own = torch.tensor([[0.25]])
        assert schedule.size(threat, own, 10, momentum, 0.2) is own, "what the user gives comes first"


@pytest.mark.parametrize("schedule", [CONSTANT, LINEAR, COSINE])
def test_a_schedule_makes_steps_of_its_sizes(schedule):
    """On a slope of 1 far from every bound: the moves are the first step times its factors."""
    feasible = FeasibleSet(torch.zeros(1, 1, dtype=torch.float64), ThreatModel(math.inf, torch.tensor([[90.0]]), WIDE))
    rule = schedule.begin(feasible, RunConfig(4, step_size=torch.tensor([[0.5]])), 0.0, None)
    x, moves = feasible.x, []
    for step in range(4):
        x, before = rule(step, x, torch.ones_like(x), None), x
        moves.append((x - before).item())
    assert moves == pytest.approx([0.5 * schedule.factor(t, 4) for t in range(4)])


def test_rules_of_their_own_are_told_from_schedules():
    assert [SCHEDULES[name].name for name in SCHEDULES] == ["constant", "linear", "cosine", "auto"] == list(SCHEDULES)
    rules = (CONSTANT, LINEAR, COSINE, AUTO_PGD, SQUARE)
    assert [schedule.rule_of_its_own for schedule in rules] == [False, False, False, True, True]
    assert [schedule.falls for schedule in rules[:3]] == [False, True, True]


def test_schedules():
    assert [CONSTANT.factor(t, 3) for t in range(3)] == [1, 1, 1]
    assert [LINEAR.factor(t, 5) for t in range(5)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert [COSINE.factor(t, 4) for t in range(4)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]
    )


@pytest.mark.parametrize("norm", NORMS)
def test_directions_are_of_unit_length_and_steepest(norm):
    g = torch.randn(4, 2, 3, dtype=torch.float64)
    unit = _direction(g, norm, l1_step="one-pixel")
    torch.testing.assert_close(sample_norm(unit, norm), torch.ones(4, 1, 1, dtype=torch.float64))
    dual = {math.inf: 1, 2.0: 2, 1.0: math.inf}[norm]
    torch.testing.assert_close((unit * g).sum((1, 2)), sample_norm(g, dual).flatten())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("l1_step", ["adaptive", "one-pixel"])
def test_no_gradient_no_move(norm, l1_step):
    g = torch.randn(2, 5)
    g[0] = 0
    unit = _direction(g, norm, l1_step=l1_step)
    assert not unit[0].any() and unit[1].any()
    assert not accumulate(None, g, 0.5)[0].any()


@pytest.mark.parametrize("scale", [1e-44, 1e-40, 1e-25, 1.0, 1e25])
def test_gradients_of_any_size_have_a_direction(scale):
    """Saturated nets have gradients whose squares, or whose inverse, leave the range of float32."""
    g = torch.tensor([[3.0, -4.0, 0.0]]) * scale
    assert g.any()
    unit = _direction(g, 2.0)
    assert unit.norm().item() == pytest.approx(1) and unit[0, 2] == 0
    summed = accumulate(None, g, 0.5)
    assert summed.abs().sum().item() == pytest.approx(1)
    if scale > 1e-44:
        torch.testing.assert_close(unit, torch.tensor([[0.6, -0.8, 0.0]]), rtol=0, atol=1e-4)
        torch.testing.assert_close(summed, torch.tensor([[3 / 7, -4 / 7, 0.0]]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("end", ["smallest_normal", "max"])
def test_the_whole_range_of_every_type_has_a_direction(dtype, end):
    extreme = getattr(torch.finfo(dtype), end)
    g = torch.tensor([[1.0, -1.0, 0.5, 0.0]], dtype=dtype) * extreme
    unit = _direction(g, 2.0)
    torch.testing.assert_close(unit.double(), torch.tensor([[2, -2, 1, 0]]).double() / 3, rtol=1e-2, atol=1e-2)
    assert unit.dtype == (dtype if dtype == torch.float64 else torch.float32)


def test_momentum():
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    assert accumulate(a, b, 0.0) is b
    first = accumulate(None, a, 0.9)
    torch.testing.assert_close(first, a / a.abs().sum(1, keepdim=True))
    torch.testing.assert_close(accumulate(first, b, 0.9), 0.9 * first + b / b.abs().sum(1, keepdim=True))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_momentum_in_half_precision_moves_what_it_moves_in_float32(norm, dtype):
    """The L1 norm of so many entries overflows float16, and a small entry divided by it underflows."""
    gradient = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) + 0.5
    gradient[:, :, :112] *= -1e-3
    gradient = gradient.to(dtype)

    def moves(dtype):
        x = torch.full(gradient.shape, 0.5, dtype=dtype)
        bounds = (torch.zeros(1, dtype=dtype), torch.ones(1, dtype=dtype))
        feasible = FeasibleSet(x, ThreatModel(norm, torch.full((1, 1, 1, 1), 16.0 ** (2 / norm), dtype=dtype), bounds))
        rule = LINEAR.begin(feasible, RunConfig(3), 0.5, None)
        for step in range(3):
            x = rule(step, x, gradient.to(dtype), None)
        assert x.dtype == dtype
        return (x - feasible.x).float()

    found, expected = moves(dtype), moves(torch.float32)
    assert expected.flatten(1).any(1).all()
    # A value is rounded to steps of 2⁻¹¹ (float16) or 2⁻⁸ (bfloat16) at each of three steps.
    torch.testing.assert_close(found, expected, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_l1_steps_go_where_there_is_room_and_shrink_with_the_support():
    g = torch.tensor([[10.0, -9.0, 8.0, -7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    lower, upper = torch.full_like(g, -0.5), torch.full_like(g, 0.5)
    upper[0, 0] = lower[0, 1] = 0  # at the edge of the box
    first = _direction(g, 1.0, room=(lower, upper), step=0)
    assert first.nonzero()[:, 1].tolist() == [2, 3] and first[0, 2:4].tolist() == [0.5, -0.5]  # 20 % of 10
    delta = torch.zeros_like(g)
    delta[0, :6] = 0.1
    later = _direction(g, 1.0, delta=delta, room=(lower, upper), step=1)
    assert later.nonzero()[:, 1].tolist() == [2, 3, 4, 5]  # 6 / 1.5
    assert later.abs().sum().item() == pytest.approx(1)
    single = _direction(g, 1.0, room=(lower, upper), l1_step="one-pixel")
    assert single.nonzero()[:, 1].tolist() == [0]


def test_a_last_digit_decides_no_sparse_step():
    """A coordinate that rounding leaves just inside its bound cannot move, one just off 0 is not changed."""
    g = torch.tensor([[10.0, -9.0, 8.0, -7.0]], dtype=torch.float64)
    x, digit = torch.full_like(g, 0.5), 2.0**-52
    feasible = FeasibleSet(
        x, ThreatModel(1, torch.ones(1, 1, dtype=torch.float64), (torch.tensor(0.0), torch.tensor(1.0)))
    )
    x_adv = torch.tensor([[1 - digit, digit, 0.5 + digit, 0.2]], dtype=torch.float64)
    unit = feasible.direction(g, x_adv, 1)
    assert unit.tolist() == [[0, 0, 0.5, -0.5]], "3 changed coordinates make 2 that move"


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_a_sum_decides_no_sparse_attack(dense_case, name, monkeypatch):
    """Another device adds up in another order: here, the L1 projection does."""
    case, solve = dense_case(dtype=torch.float64), projections._l1_ball_and_box
    generator = torch.Generator().manual_seed(0)

    def run():
        method = make_method(name, case.tasks)
        return attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(1, 2.0), RunConfig(3))

    def shuffled(delta, eps, lower, upper):
        order = torch.randperm(delta[0].numel(), generator=generator)
        delta, lower, upper = (v.expand_as(delta).flatten(1)[:, order] for v in (delta, lower, upper))
        return solve(delta, eps.flatten(1), lower, upper)[:, order.argsort()].view_as(case.x)

    expected = run()
    monkeypatch.setattr(projections, "_l1_ball_and_box", shuffled)
    for _ in range(4):
        torch.testing.assert_close(run(), expected, atol=1e-9, rtol=0)


# --- random starts ---


@pytest.mark.parametrize("share", [1.0, 0.01])
@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_uniform_in_the_ball(norm, share):
    """Then (‖δ‖/r)^n is uniform on [0, 1], and the direction has no preferred sign or axis."""
    batch, size = 4000, 6
    eps = torch.linspace(0.1, 2, batch).view(batch, 1, 1)
    generator = torch.Generator().manual_seed(1)
    delta = random_start(torch.zeros(batch, 2, 3), eps, norm, share, generator)
    radius = (sample_norm(delta, norm) / (eps * share)).flatten().double()
    assert (radius <= 1 + 1e-6).all()
    assert stats.kstest(radius.numpy() ** size, "uniform").pvalue > 1e-3
    flat = (delta / (eps * share)).flatten(1)
    assert (flat.mean(0).abs() < 5 * flat.std(0) / math.sqrt(batch)).all()
    for axis in range(1, size):
        assert stats.ks_2samp(flat[:, 0].numpy(), flat[:, axis].numpy()).pvalue > 1e-3
    if norm == 2:  # rotation invariant
        slanted = (flat[:, 0] + flat[:, 1]) / math.sqrt(2)
        assert stats.ks_2samp(flat[:, 2].numpy(), slanted.numpy()).pvalue > 1e-3
    if norm == 1:  # in the simplex of magnitudes each coordinate's share of the length is Beta(1, n − 1)
        part = flat.abs()[:, 0] / flat.abs().sum(1)
        assert stats.kstest(part.numpy(), stats.beta(1, size - 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_a_generator_leaves_the_global_one_alone(norm):
    before = torch.get_rng_state()
    x, eps = torch.zeros(3, 4), torch.tensor([[0.1]])
    a, b = (random_start(x, eps, norm, 1.0, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(before, torch.get_rng_state())
    random_start(x, eps, norm, 1.0, None)
    assert not torch.equal(before, torch.get_rng_state())


def test_random_starts_take_a_radius_a_pixel():
    eps = torch.tensor([[0.0, 0.1, 1.0]])
    delta = random_start(torch.zeros(500, 3), eps, math.inf, 1.0, torch.Generator().manual_seed(0))
    assert (delta.abs() <= eps).all()
    np.testing.assert_allclose(delta.abs().amax(0), eps[0], rtol=0.05)
