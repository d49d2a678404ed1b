"""Min-max attacks against plain re-derivations of the paper's Algorithm 1 and of the authors' loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from art_mtl.core import RunConfig, attack, make_method

NORMS = [math.inf, 2.0]


def plain_losses(outputs, targets, pooled=None):
    """``(B, K)`` losses of segmentation, depth, normals, sample by sample; pooled over ``pooled`` samples: ``(K,)``."""
    columns = []
    for kind, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        sums, counts = [], []
        for b in range(len(output)):
            keep = target.valid[b]
            if kind == 0:
                logp = output[b] - output[b].exp().sum(0).log()
                each = -logp.gather(0, target.value[b][None])[0]
            else:
                each = (output[b] - target.value[b]).abs().sum(0)
            sums.append(each[keep].sum())
            counts.append(keep.sum())
        sums, counts = torch.stack(sums), torch.stack(counts)
        columns.append(sums.sum() / counts.sum() if pooled else sums / counts)
    return torch.stack(columns, -1)


def unit(g, norm, tiny=0.0):
    if norm == math.inf:
        return g.sign()
    return g / (g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + tiny)


def plain_project(plain, z, x, eps, norm):
    rows = [
        plain.ball_and_box(z[b].flatten().numpy(), eps, -x[b].flatten().numpy(), 1 - x[b].flatten().numpy(), norm)
        for b in range(len(x))
    ]
    return torch.tensor(np.stack(rows)).view_as(x)


def algorithm_1(plain, case, norm, eps, alpha, steps, gamma, alpha_2):
    """Literally, with a forward for either half of each round; δ and w of every round."""
    x, K = case.x, len(case.tasks)
    delta, w = torch.zeros_like(x), torch.full((len(x), K), 1 / K, dtype=x.dtype)
    history = [(delta, w)]
    for _ in range(steps):
        leaf = delta.clone().requires_grad_(True)
        (w * plain_losses(case.forward(x + leaf), case.targets)).sum().backward()
        delta = plain_project(plain, delta + alpha * unit(leaf.grad, norm), x, eps, norm)
        values = plain_losses(case.forward(x + delta), case.targets)
        gradient = values + gamma * (w - 1 / K)
        w = torch.tensor(np.stack([plain.simplex(row) for row in (w - alpha_2 * gradient).numpy()]))
        history.append((delta, w))
    return history


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("gamma", "alpha_2"), [(1.0, 1 / 30), (0.3, 0.5)], ids=["default", "strong"])
def test_minmax_is_algorithm_1_step_by_step(plain, dense_case, norm, gamma, alpha_2):
    case, steps = dense_case(), 6
    eps = 0.1 if norm == math.inf else 1.5
    alpha = (2.5 if norm == math.inf else 2) * eps / steps
    method = make_method("minmax", case.tasks, **({} if gamma == 1.0 else {"gamma": gamma, "weight_step": alpha_2}))
    seen = []
    result = attack(
        case.forward,
        case.x,
        case.tasks,
        case.targets,
        method,
        case.threat(norm, eps),
        RunConfig(steps),
        observer=seen.append,
    )
    history = algorithm_1(plain, case, norm, eps, alpha, steps, gamma, alpha_2)
    assert [record.step for record in seen] == list(range(steps))
    for record, (delta, w) in zip(seen, history, strict=False):
        torch.testing.assert_close(record.inputs, case.x + delta, rtol=0, atol=1e-9)
        torch.testing.assert_close(record.weights, w, rtol=0, atol=1e-9)
        expected = plain_losses(case.forward(case.x + delta), case.targets)
        torch.testing.assert_close(record.losses, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(result, case.x + history[-1][0], rtol=0, atol=1e-9)
    assert (seen[-1].weights - 1 / 3).abs().max() > 0.01  # the weights did move


def official(case, norm, eps, steps, group=4, alpha_2=1 / 30):
    """The authors' loop of METHOD.md section 2, one group at a time."""
    parts, weights = [], []
    for first in range(0, len(case.x), group):
        index = list(range(first, min(first + group, len(case.x))))
        x, targets, K = case.x[index], [t[torch.tensor(index)] for t in case.targets], len(case.tasks)
        start = plain_losses(case.forward(x), targets, pooled=True)
        delta, w, ws = torch.zeros_like(x), np.full(K, 1 / K), []
        for _ in range(steps):
            leaf = delta.clone().requires_grad_(True)
            r = (plain_losses(case.forward(x + leaf), targets, pooled=True) - start) / start
            (torch.tensor(w) * r).sum().backward()
            ws.append(w)
            alpha = (0.25 if norm == math.inf else 0.2) * eps
            z = delta + alpha * unit(leaf.grad, norm, tiny=1e-10)
            if norm == math.inf:
                z = z.clamp(-eps, eps)
            else:
                length = z.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                z = z * (eps / length).clamp(max=1)
            delta = (x + z).clamp(0, 1) - x
            v = w - alpha_2 * (r.detach().numpy() + (w - 1 / K))
            ordered = np.sort(v)[::-1]
            theta = max((ordered[: k + 1].sum() - 1) / (k + 1) for k in range(K))
            w = np.maximum(v - theta, 0)
        parts.append(x + delta)
        weights.append(np.repeat(np.stack(ws)[:, None], len(index), 1))
    return torch.cat(parts), torch.tensor(np.concatenate(weights, 1))


@pytest.mark.parametrize("norm", NORMS)
def test_minmax_official_is_the_authors_loop(dense_case, norm):
    case, steps = dense_case(batch=6), 10  # a group of 4 and a remainder of 2; masked pixels
    eps = 0.1 if norm == math.inf else 1.5
    alpha = torch.tensor((0.25 if norm == math.inf else 0.2) * eps, dtype=torch.float64)
    seen = []
    result = attack(
        case.forward,
        case.x,
        case.tasks,
        case.targets,
        make_method("minmax-official", case.tasks),
        case.threat(norm, eps),
        RunConfig(steps, step_size=alpha),
        observer=seen.append,
    )
    expected, weights = official(case, norm, eps, steps)
    torch.testing.assert_close(torch.stack([record.weights for record in seen]), weights, rtol=0, atol=1e-8)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-8)
    assert (weights[-1, 0] - weights[-1, 5]).abs().max() > 1e-4  # the groups are told apart


def test_saying_the_scope_that_is_the_default_changes_nothing(dense_case):
    tasks = dense_case().tasks
    assert make_method("minmax-official", tasks, weight_scope="batch") == make_method("minmax-official", tasks)


# --- known optima ---


def _saddle(slopes, offsets, eps, gamma):
    """Of two linear losses under L2: min over w of ε‖Aᵀw‖ + b·w + γ/2 ‖w − 1/2‖², one dimension."""

    def value(a):
        w = np.array([a, 1 - a])
        return eps * np.linalg.norm(slopes.T @ w) + offsets @ w + gamma / 2 * ((w - 0.5) ** 2).sum()

    a = minimize_scalar(value, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x
    w = np.array([a, 1 - a])
    direction = slopes.T @ w
    return w, eps * direction / np.linalg.norm(direction)


@pytest.mark.parametrize("gamma", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("offset", [0.0, 0.05])
def test_l2_attack_reaches_the_saddle_point_of_linear_losses(linear_case, gamma, offset):
    slopes = torch.tensor([[3.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.5, 0.0]], dtype=torch.float64)
    offsets = torch.tensor([offset, 0.0], dtype=torch.float64)
    case, eps = linear_case(slopes, offsets), 0.2
    method = make_method("minmax", case.tasks, gamma=gamma, weight_step=0.3, schedule="linear")
    seen = []
    plan = RunConfig(300, step_size=torch.tensor(0.05, dtype=torch.float64))
    result = attack(
        case.forward, case.x, case.tasks, case.targets, method, case.threat(2.0, eps), plan, observer=seen.append
    )
    w, delta = _saddle(slopes.numpy(), offsets.numpy(), eps, gamma)
    np.testing.assert_allclose(seen[-1].weights[0], w, atol=1e-4)
    np.testing.assert_allclose((result - case.x)[0], delta, atol=1e-4)


def test_l2_saddle_by_hand(linear_case):
    """Orthogonal slopes s₁e₁, s₂e₂: at the saddle both losses are ε s₁s₂/√(s₁² + s₂²)."""
    case = linear_case(torch.tensor([[3.0, 0.0], [0.0, 4.0]], dtype=torch.float64))
    method = make_method("minmax", case.tasks, gamma=0.0, weight_step=0.5, schedule="linear")
    plan = RunConfig(400, step_size=torch.tensor(0.05, dtype=torch.float64))
    result = attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(2.0, 0.1), plan)
    np.testing.assert_allclose(torch.stack(case.forward(result))[:, 0], [0.24, 0.24], atol=2e-3)


def test_linf_saddle_by_hand(linear_case):
    """Of 2δ₁ + δ₂ and −δ₁ + δ₂: w = (1/3, 2/3) makes δ₁ free, and γ/2 ‖w − 1/2‖² sets it to γ/9; δ₂ = ε. The equal
    attack goes to (ε, ε), where the second loss is 0.
    """
    case, eps, gamma = linear_case(torch.tensor([[2.0, 1.0], [-1.0, 1.0]], dtype=torch.float64)), 0.1, 0.6
    method = make_method("minmax", case.tasks, gamma=gamma, weight_step=0.3, schedule="linear")
    threat, seen = case.threat(math.inf, eps), []
    plan = RunConfig(400, step_size=torch.tensor(0.02, dtype=torch.float64))
    result = attack(case.forward, case.x, case.tasks, case.targets, method, threat, plan, observer=seen.append)
    np.testing.assert_allclose((result - case.x)[0], [gamma / 9, eps], atol=2e-3)
    np.testing.assert_allclose(seen[-1].weights[0], [1 / 3, 2 / 3], atol=2e-3)
    equal = attack(
        case.forward, case.x, case.tasks, case.targets, make_method("equal", case.tasks), threat, RunConfig(10)
    )
    np.testing.assert_allclose((equal - case.x)[0], [eps, eps], atol=1e-12)


@pytest.mark.parametrize("norm", [math.inf, 2.0, 1.0])
def test_best_step_on_one_linear_loss_is_the_dual_vector(linear_case, norm):
    a = torch.tensor([[1.0, -3.0, 2.0]], dtype=torch.float64)
    case, eps = linear_case(a), 0.3
    method = make_method("equal", case.tasks)
    result = attack(case.forward, case.x, case.tasks, case.targets, method, case.threat(norm, eps), RunConfig(20))
    best = {math.inf: eps * 6, 2.0: eps * math.sqrt(14), 1.0: eps * 3}[norm]
    assert case.forward(result)[0].item() == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_min_max_of_one_task_is_the_equal_attack(dense_case, norm):
    case = dense_case(dtype=torch.float32).only([1])
    eps = 0.1 if norm == math.inf else 1.5
    results = [
        attack(
            case.forward,
            case.x,
            case.tasks,
            case.targets,
            make_method(n, case.tasks),
            case.threat(norm, eps),
            RunConfig(5),
        )
        for n in ("equal", "minmax", "alternate", "single:depth")
    ]
    for other in results[1:]:
        assert torch.equal(results[0], other)
