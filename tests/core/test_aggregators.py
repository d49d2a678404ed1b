"""Gradient aggregators: the loop's part without TorchJD, and TorchJD's methods against closed forms where it is
there."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.aggregators import TORCHJD, TorchJD, combine
from art_mtl.core.method import Method


def run(case, method, norm=math.inf, eps=0.1, steps=4, **kwargs):
    return attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(steps), **kwargs
    )


def ones(gram, known, step):
    return known.to(gram.dtype)


# --- without TorchJD ---


@pytest.mark.parametrize("norm", [math.inf, 2.0])
@pytest.mark.parametrize("weighting", ["uniform", "minmax"])
def test_the_aggregator_that_adds_up_is_no_aggregator(dense_case, norm, weighting):
    case = dense_case(batch=3)
    case.targets[0].valid[1] = False
    plain = make_method("equal", case.tasks, weighting=weighting)
    seen, expected_seen = [], []
    result = run(case, replace(plain, aggregator=ones), norm, observer=seen.append)
    expected = run(case, plain, norm, observer=expected_seen.append)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)
    for one, other in zip(seen, expected_seen, strict=True):
        torch.testing.assert_close(one.weights, other.weights, rtol=0, atol=1e-9)


def test_it_sees_the_gram_matrix_of_each_sample(dense_case):
    case, seen = dense_case(batch=3), []

    def look(gram, known, step):
        seen.append(gram)
        return ones(gram, known, step)

    run(case, Method("mine", aggregator=look), steps=1)
    leaf = case.x.clone().requires_grad_(True)
    triples = zip(case.tasks, case.forward(leaf), case.targets, strict=True)
    values = [task.loss(output, target) for task, output, target in triples]
    rows = [torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0].flatten(1) for value in values]
    for sample in range(3):
        jacobian = torch.stack([row[sample] for row in rows])
        scaled = jacobian / 2 ** torch.floor(torch.log2(jacobian.abs().max()) + 1)
        torch.testing.assert_close(seen[0][sample], scaled @ scaled.T)


@pytest.mark.parametrize(("size", "dtype"), [(1e-25, torch.float32), (1e25, torch.float32), (1e-4, torch.float16)])
def test_gram_matrices_neither_underflow_nor_overflow(size, dtype):
    """Two gradients of a sample at an angle of 60 degrees, as long as each other: (1, 0) and (1/2, √3/2)."""
    slopes = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])
    seen = []

    def gradient(values, weights, again):
        return (size * slopes[[int(values[0])]]).to(dtype)

    def look(gram, known, step):
        seen.append(gram / gram[:, :1, :1])
        return ones(gram, known, step)

    values = [torch.tensor([float(k)], requires_grad=True) for k in range(2)]
    found, _ = combine(look, values, torch.zeros(1, 2, dtype=dtype), torch.ones(1, 2), 0, gradient)
    torch.testing.assert_close(seen[0], torch.tensor([[[1.0, 0.5], [0.5, 1.0]]]), rtol=2e-2, atol=0)
    torch.testing.assert_close(found.float(), size * slopes.sum(0, keepdim=True), rtol=2e-2, atol=0)


def test_a_step_is_one_forward_and_a_backward_a_task(dense_case):
    case, calls = dense_case(batch=2), {"forward": 0, "backward": 0}
    inner = case.forward

    def counting(x):
        calls["forward"] += 1
        x = x * 1.0
        x.register_hook(lambda g: calls.__setitem__("backward", calls["backward"] + 1))
        return inner(x)

    run(replace(case, forward=counting), Method("mine", aggregator=ones), steps=5)
    assert calls == {"forward": 5, "backward": 15}


def test_tasks_that_do_not_depend_on_the_input_have_no_gradient():
    leaf = torch.ones(2, 3, requires_grad=True)
    values = [leaf.sum(1), torch.ones(2)]

    def gradient_of(values, weights, again):
        return torch.autograd.grad(values, leaf, weights, retain_graph=again)[0]

    gradient, weights = combine(ones, values, leaf, torch.ones(2, 2), 0, gradient_of)
    assert torch.equal(gradient, torch.ones(2, 3)) and torch.equal(weights, torch.ones(2, 2))


SIZES = [
    (torch.float32, 1e-30),
    (torch.float32, 1.0),
    (torch.float32, 1e30),
    (torch.float16, 2e-7),
    (torch.bfloat16, 1e30),
]


def shortest(gram, known, step):
    """The weights of MGDA for two tasks: w₁ = g₂·(g₂ − g₁) / |g₁ − g₂|²."""
    first = (gram[:, 1, 1] - gram[:, 0, 1]) / (gram[:, 0, 0] + gram[:, 1, 1] - 2 * gram[:, 0, 1])
    return torch.stack([first, 1 - first], 1)


@pytest.mark.parametrize("dtype, size", SIZES)
def test_gradients_of_any_size_are_combined_as_those_of_size_one(dtype, size):
    """In the products of gradients of 1e-30 or 1e30 nothing is left of float32."""
    rows = torch.tensor([[[3.0, 1.0, 0.0], [-1.0, 2.0, 0.5]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    scale = torch.tensor([size, 1.0])  # Sample by sample.
    jacobian = (rows * scale[:, None, None]).to(dtype)
    given = iter([jacobian[:, 0], jacobian[:, 1]])
    values = [torch.ones(2, dtype=dtype, requires_grad=True)] * 2
    gradient, weights = combine(
        shortest, values, jacobian[:, 0], torch.ones(2, 2), 0, lambda values, weights, again: next(given)
    )
    a, b = jacobian.double().unbind(1)
    first = (b * (b - a)).sum(1) / (a - b).square().sum(1)
    torch.testing.assert_close(weights, torch.stack([first, 1 - first], 1).float(), rtol=1e-5, atol=0)
    close = {torch.float16: (1e-2, 1e-7), torch.bfloat16: (1e-2, 0)}.get(dtype, (1e-5, size * 1e-6))
    expected = first[:, None] * a + (1 - first)[:, None] * b
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient.double(), expected, rtol=close[0], atol=close[1])


def test_autocast_around_an_attack_leaves_gram_matrices_in_full_precision(dense_case):
    rows, seen = torch.randn(2, 3, 50), []

    def look(gram, known, step):
        seen.append(gram)
        return ones(gram, known, step)

    values = [torch.ones(3, requires_grad=True)] * 2
    for enabled in (False, True):
        given = iter(rows)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            combine(look, values, rows[0], torch.ones(3, 2), 0, lambda values, weights, again: next(given))  # noqa: B023
    assert torch.equal(*seen)


def test_what_is_missing_is_named_before_any_work(dense_case, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(ImportError, match=r"'jd:mgda' needs the package torchjd.*pip install '\.\[jd\]'"):
        make_method("jd:mgda", dense_case().tasks)
    with pytest.raises(ValueError, match="'jd:mgad' should be one of.*'jd:mgda'"):
        make_method("jd:mgad", dense_case().tasks)


# --- with it ---


@pytest.fixture
def torchjd():
    return pytest.importorskip("torchjd")


SOLVERS = {"cagrad": "cvxpy", "dualproj": "quadprog", "upgrad": "quadprog"}


def with_solvers(*names):
    """A parameter for each weighting; those whose solver is not installed are left out, and say so."""
    return [
        pytest.param(n, marks=pytest.mark.skipif(find_spec(SOLVERS.get(n, "torch")) is None, reason=SOLVERS.get(n, "")))
        for n in names
    ]


def gram_of(*rows):
    jacobian = torch.tensor(rows, dtype=torch.float64)
    return (jacobian @ jacobian.T)[None], jacobian


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e5])
def test_mgda_is_the_shortest_vector_of_the_hull(torchjd, scale):
    """w₁ = g₂·(g₂ − g₁) / |g₁ − g₂|², at any scale of the gradients."""
    gram, (a, b) = gram_of([3.0, 1.0, 0.0], [-1.0, 2.0, 0.5])
    weights = TorchJD("mgda")(gram * scale**2, torch.ones(1, 2, dtype=torch.bool), 0)[0]
    first = (b @ (b - a) / (a - b).square().sum()).item()
    assert weights.tolist() == pytest.approx([first, 1 - first], abs=1e-9)


def test_pcgrad_projects_what_conflicts(torchjd):
    gram, (a, b) = gram_of([3.0, 1.0, 0.0], [-1.0, 2.0, 0.5])
    weights = TorchJD("pcgrad")(gram, torch.ones(1, 2, dtype=torch.bool), 0)[0]
    expected = (a - (a @ b) / (b @ b) * b) + (b - (a @ b) / (a @ a) * a)
    torch.testing.assert_close(weights[0] * a + weights[1] * b, expected)


@pytest.mark.parametrize("name", with_solvers(*TORCHJD))
def test_methods_do_what_torchjd_does_with_a_jacobian(torchjd, name):
    aggregator = TorchJD(name)
    from torchjd import aggregation

    kind, arguments = TORCHJD[name]
    aggregate = getattr(aggregation, kind.removesuffix("Weighting"))(**arguments)
    _, jacobian = gram_of([3.0, 1.0, 0.0], [-1.0, 2.0, 0.5], [0.2, -1.0, 2.0])
    jacobian = jacobian / (jacobian @ jacobian.T).diagonal().mean().sqrt()
    weights = aggregator((jacobian @ jacobian.T)[None], torch.ones(1, 3, dtype=torch.bool), 0)[0]
    torch.manual_seed(0)
    torch.testing.assert_close(weights @ jacobian, aggregate(jacobian), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", with_solvers("upgrad", "dualproj", "mgda"))
def test_no_task_loses_to_first_order(torchjd, name):
    aggregator = TorchJD(name)
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(20, 3, 5, generator=generator, dtype=torch.float64)
    gram = jacobian @ jacobian.transpose(1, 2)
    weights = aggregator(gram, torch.ones(20, 3, dtype=torch.bool), 0)
    gains = (gram @ weights[:, :, None])[..., 0] / gram.diagonal(dim1=1, dim2=2).mean(1)[:, None]
    assert (gains >= -2e-3).all()
    assert (gram.sum(2) < 0).any()  # The plain sum does lose some.


def test_a_task_without_a_label_and_a_zero_gradient_have_no_say(torchjd):
    gram, _ = gram_of([3.0, 1.0], [-1.0, 2.0], [0.0, 5.0])
    known = torch.tensor([[True, True, False]])
    weights = TorchJD("mgda")(gram, known, 0)
    pair, _ = gram_of([3.0, 1.0], [-1.0, 2.0])
    torch.testing.assert_close(weights[:, :2], TorchJD("mgda")(pair, known[:, :2], 0))
    assert weights[0, 2] == 0
    broken = gram.clone()
    broken[:, 2] = broken[:, :, 2] = math.nan
    assert torch.equal(TorchJD("mgda")(broken, known, 0), weights)
    assert (TorchJD("mgda")(torch.zeros(2, 3, 3), torch.ones(2, 3, dtype=torch.bool), 0) == 0).all()
    assert (TorchJD("mgda")(gram, torch.zeros(1, 3, dtype=torch.bool), 0) == 0).all()


@pytest.mark.parametrize("name", with_solvers(*TORCHJD))
def test_the_attack_is_of_each_sample_alone_and_draws_nothing(torchjd, dense_case, name):
    case = dense_case(batch=3)
    method = make_method(f"jd:{name}", case.tasks)
    state = torch.get_rng_state()
    whole = run(case, method)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(run(case, method), whole)
    part = case[[2, 0]]
    torch.testing.assert_close(run(part, method), whole[[2, 0]], rtol=0, atol=1e-9)
    assert (whole - case.x).abs().max() > 0.05


def test_weights_are_not_shared_between_samples(torchjd, dense_case):
    with pytest.raises(ValueError, match="'jd:mgda' combines the gradients of each sample.*Found 'batch'"):
        make_method("jd:mgda", dense_case().tasks, weight_scope="batch")
