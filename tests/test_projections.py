from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from art_mtl.projections import project, project_simplex, sample_norm

laws = settings(max_examples=60, deadline=None, derandomize=True)
NORMS = [math.inf, 2.0, 1.0]
BOX = (torch.zeros(1, 1), torch.ones(1, 1))


# --- the simplex ---

rows = st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=4)


@laws
@given(rows)
def test_simplex_satisfies_the_optimality_conditions(values):
    v = torch.tensor(values, dtype=torch.float64)
    w = project_simplex(v)
    assert (w >= 0).all()
    torch.testing.assert_close(w.sum(1), torch.ones(len(v), dtype=torch.float64), rtol=0, atol=1e-12)
    # KKT: v − w is one number θ on the support and at most θ elsewhere.
    gap = v - w
    theta = torch.where(w > 0, gap, -math.inf).amax(1, keepdim=True)
    assert (torch.where(w > 0, gap - theta, torch.zeros_like(w)).abs() < 1e-10).all()
    assert (gap <= theta + 1e-10).all()


@laws
@given(rows, st.integers(0, 2))
def test_simplex_is_that_of_bisection_and_of_allowed_coordinates(plain, values, out):
    v = torch.tensor(values, dtype=torch.float64)
    allowed = torch.ones_like(v, dtype=torch.bool)
    allowed[:, out] = False
    for row, whole, part in zip(v.numpy(), project_simplex(v), project_simplex(v, allowed), strict=True):
        np.testing.assert_allclose(whole, plain.simplex(row), atol=1e-9)
        np.testing.assert_allclose(np.delete(part.numpy(), out), plain.simplex(np.delete(row, out)), atol=1e-9)
        assert part[out] == 0


def test_simplex_is_that_of_a_quadratic_program():
    random = np.random.default_rng(0)
    for _ in range(5):
        v = random.normal(size=4)
        found = minimize(
            lambda w, v=v: ((w - v) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, 1)] * 4,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14},
        )
        np.testing.assert_allclose(project_simplex(torch.tensor(v)), found.x, atol=1e-5)


def test_simplex_without_any_allowed_coordinate_is_zero():
    v, allowed = torch.randn(2, 3), torch.tensor([[False] * 3, [True, False, False]])
    assert project_simplex(v, allowed).tolist() == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e8, 1e30])
def test_simplex_of_extreme_values(scale):
    w = project_simplex(scale * torch.tensor([[3.0, 2.0, -5.0]]))
    assert torch.isfinite(w).all() and w.sum().item() == pytest.approx(1)
    assert (w[0, 0] == 1) == (scale > 0.9)


def test_simplex_is_idempotent():
    w = project_simplex(torch.randn(50, 4))
    torch.testing.assert_close(project_simplex(w), w)


# --- ball and box ---


@st.composite
def problems(draw):
    """``delta, x, eps``: light and heavy tails, points on the edge of the box, one ε a sample."""
    batch, size = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 7, 60]))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    delta = torch.randn((batch, size), generator=g, dtype=torch.float64)
    tail = draw(st.sampled_from(["normal", "heavy", "huge", "sparse", "equal"]))
    if tail == "heavy":
        delta = delta.sign() * torch.exp(4 * torch.randn((batch, size), generator=g, dtype=torch.float64))
    elif tail == "huge":
        delta = delta * 1e6
    elif tail == "sparse":
        delta = delta * (torch.rand((batch, size), generator=g) < 0.3)
    elif tail == "equal":
        delta = delta.sign()
    x = torch.rand((batch, size), generator=g, dtype=torch.float64)
    if draw(st.booleans()):
        x = torch.where(torch.rand((batch, size), generator=g) < 0.5, x.round(), x)
    eps = torch.exp(torch.rand((batch, 1), generator=g, dtype=torch.float64) * 6 - 4)
    return delta, x, eps


@pytest.mark.parametrize("norm", NORMS)
@laws
@given(problem=problems())
def test_exact_projection_is_that_of_bisection_in_float64(plain, norm, problem):
    delta, x, eps = problem
    found = project(delta, x, eps, norm, BOX) - x
    for row, z, centre, radius in zip(found.numpy(), delta.numpy(), x.numpy(), eps[:, 0].tolist(), strict=True):
        expected = plain.ball_and_box(z, radius, -centre, 1 - centre, norm)
        np.testing.assert_allclose(row, expected, atol=1e-9 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("norm", [2.0, 1.0])
def test_exact_projection_is_that_of_a_general_optimiser(norm):
    """Split into positive and negative parts, so that the L1 ball is smooth for SLSQP too."""
    size, random = 6, np.random.default_rng(0)
    for trial in range(4):
        x, delta, eps = random.uniform(size=size), random.normal(size=size), 0.4 + 0.2 * trial
        x[0], x[1] = 0, 1

        def length(d, eps=eps):
            p, n = d[:size], d[size:]
            return eps - (p + n).sum() if norm == 1 else eps**2 - ((p - n) ** 2).sum()

        found = minimize(
            lambda d, delta=delta: ((d[:size] - d[size:] - delta) ** 2).sum(),
            np.full(2 * size, 1e-3),
            bounds=[(0, 1 - c) for c in x] + [(0, c) for c in x],
            constraints={"type": "ineq", "fun": length},
            options={"ftol": 1e-15, "maxiter": 1000},
        ).x
        ours = project(*(torch.tensor(v)[None] for v in (delta, x)), torch.tensor([[eps]]), norm, BOX)[0].numpy() - x
        np.testing.assert_allclose(ours, found[:size] - found[size:], atol=2e-4)


ORDERS = ["exact", "box-then-ball", "ball-then-box"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", NORMS)
@laws
@given(problem=problems())
def test_projections_are_feasible_idempotent_and_leave_the_feasible_alone(norm, order, problem):
    delta, x, eps = (v.float() for v in problem)
    adversarial = project(delta, x, eps, norm, BOX, order)
    assert (adversarial >= 0).all() and (adversarial <= 1).all()
    moved = adversarial.double() - x.double()
    if norm == math.inf:
        assert (moved.abs() <= eps.double() + np.finfo(np.float32).eps).all()
    else:
        # x + δ is rounded to float32: half an ulp of 1 for each coordinate, beyond the relative 1e-5.
        slack = sample_norm(torch.full_like(moved, np.finfo(np.float32).eps / 2), norm)
        assert (sample_norm(moved, norm) <= eps.double() * (1 + 1e-5) + slack).all()
    again = project(adversarial - x, x, eps, norm, BOX, order)
    torch.testing.assert_close(again, adversarial, rtol=0, atol=2e-6)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("norm", NORMS)
def test_what_is_inside_stays_bit_for_bit(norm, order):
    x = torch.rand(3, 2, 4, 4) * 0.5 + 0.25
    delta = 0.2 * (2 * torch.rand(x.shape) - 1)
    eps = (sample_norm(delta, norm) * 1.01).expand(3, 1, 1, 1)
    box = (torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    assert torch.equal(project(delta, x, eps, norm, box, order), x + delta)


@pytest.mark.parametrize("norm", [2.0, 1.0])
def test_the_exact_projection_uses_the_whole_budget_and_is_the_nearest(norm):
    """Scaling and clamping leaves budget unused near the edge of the box."""
    x, delta = torch.rand(20, 30, dtype=torch.float64).round(), torch.randn(20, 30, dtype=torch.float64)
    eps = torch.tensor([[1.0]], dtype=torch.float64)
    exact, other, third = (project(delta, x, eps, norm, BOX, order) for order in ORDERS)
    torch.testing.assert_close(sample_norm(exact - x, norm), eps.expand(20, 1))
    assert (sample_norm(third - x, norm) < 0.95).all()
    for baseline in (other, third):
        assert (sample_norm(x + delta - exact, 2) <= sample_norm(x + delta - baseline, 2) + 1e-12).all()


@pytest.mark.parametrize("norm", [2.0, 1.0])
def test_orders_of_the_hosts_are_their_formulae(norm):
    x, delta = torch.rand(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 4, dtype=torch.float64)
    eps = torch.tensor([0.1, 0.5, 1.0, 2.0, 99.0], dtype=torch.float64).view(5, 1, 1)
    for order in ("box-then-ball", "ball-then-box"):
        found = project(delta, x, eps, norm, (torch.zeros(1, 1, 1), torch.ones(1, 1, 1)), order)
        for b in range(5):
            d, c = delta[b].numpy(), x[b].numpy()
            if order == "box-then-ball":
                d = np.clip(c + d, 0, 1) - c
            d = d * min(1, eps[b].item() / np.linalg.norm(d.ravel(), norm))
            np.testing.assert_allclose(found[b], np.clip(c + d, 0, 1), atol=1e-12)


def test_eps_a_pixel():
    x, eps = torch.full((2, 3), 0.5), torch.tensor([[0.1, 0.0, 0.6]])
    delta = torch.tensor([[9.0, 9.0, 9.0], [-9.0, -9.0, -0.2]])
    expected = torch.tensor([[0.6, 0.5, 1.0], [0.4, 0.5, 0.3]])
    torch.testing.assert_close(project(delta, x, eps, math.inf, BOX), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_without_bounds_only_the_ball_counts(norm):
    x, delta = torch.randn(4, 9, dtype=torch.float64) * 10, torch.randn(4, 9, dtype=torch.float64)
    eps = torch.tensor([[0.3]], dtype=torch.float64)
    infinite = torch.full((1, 1), math.inf, dtype=torch.float64)
    moved = project(delta, x, eps, norm, (-infinite, infinite)) - x
    torch.testing.assert_close(sample_norm(moved, norm), eps.expand(4, 1))
    if norm == 2:
        torch.testing.assert_close(moved, delta * (eps / sample_norm(delta, 2)))


@pytest.mark.parametrize("norm", NORMS)
def test_samples_do_not_see_each_other(norm):
    x, delta = torch.rand(6, 40), 10 * torch.randn(6, 40)
    eps = torch.rand(6, 1) * 2
    together = project(delta, x, eps, norm, BOX)
    alone = torch.cat([project(delta[i : i + 1], x[i : i + 1], eps[i : i + 1], norm, BOX) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", [2.0, 1.0])
@pytest.mark.parametrize("size", [3 * 288 * 384, 1000])
def test_images_with_heavy_tails_in_float32(plain, norm, size):
    """The tolerance is relative to ε, as large as images get."""
    delta = torch.randn(1, size).sign() * torch.exp(3 * torch.randn(1, size))
    x = torch.rand(1, size)
    eps = torch.tensor([[0.05 * size ** (1 / norm)]])
    moved = project(delta, x, eps, norm, BOX) - x
    assert sample_norm(moved.double(), norm).item() <= eps.item() * (1 + 1e-5)
    expected = plain.ball_and_box(delta[0].numpy(), eps.item(), -x[0].double().numpy(), 1 - x[0].double().numpy(), norm)
    assert np.linalg.norm(moved[0].numpy() - expected, norm) < 2e-5 * eps.item()


def test_sample_norm():
    v = torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]]])
    for norm, expected in [(2, 5.0), (1, 7.0), (math.inf, 4.0)]:
        assert sample_norm(v, norm).flatten().tolist() == [expected, 0.0] and sample_norm(v, norm).shape == (2, 1, 1)
