"""`worst-task` against a second derivation from METHOD.md section 7 (population-degradation min-max)."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.core import RunConfig, ThreatModel, attack, make_method
from art_mtl.core.weightings import LogDegradationControl

SEG, DEPTH, KIND = range(3)
NORMS = [math.inf, 2.0]


class Recipe:
    """Segmentation, depth and classification, batch after batch of one chunk; plain numbers, loops over samples."""

    def __init__(self, forward, steps, eps, norm, project):
        self.forward, self.steps, self.eps, self.norm, self.project = forward, steps, eps, norm, project
        self.sums = defaultdict(float)
        self.weights = []

    def _metrics(self, key, outputs, targets):
        """Add this batch's statistics; the metrics of everything seen under ``key``."""
        seg, depth, kind = outputs
        for b in range(len(seg)):
            predicted, true = seg[b].argmax(0), targets[SEG].value[b]
            for p, t in zip(predicted[targets[SEG].valid[b]], true[targets[SEG].valid[b]], strict=True):
                self.sums[key, "both", int(p), int(t)] += 1
            error = (depth[b, 0] - targets[DEPTH].value[b, 0]).abs()[targets[DEPTH].valid[b]]
            self.sums[key, "error"] += error.sum().item()
            self.sums[key, "pixels"] += error.numel()
            if targets[KIND].valid[b]:
                self.sums[key, "right"] += float(kind[b].argmax() == targets[KIND].value[b])
                self.sums[key, "images"] += 1
        ious = []
        for c in range(3):
            hit = self.sums[key, "both", c, c]
            row = sum(self.sums[key, "both", c, j] for j in range(3))
            column = sum(self.sums[key, "both", j, c] for j in range(3))
            if row + column - hit > 0:
                ious.append(hit / (row + column - hit))
        return [np.mean(ious), self.sums[key, "error"] / self.sums[key, "pixels"],
                self.sums[key, "right"] / self.sums[key, "images"]]  # fmt: skip

    @staticmethod
    def _mean(values, valid):
        return torch.stack([v[m].mean() if m.any() else v.sum() * 0 for v, m in zip(values, valid, strict=True)])

    def _margins(self, outputs, targets):
        def margin(z, y):
            right = torch.nn.functional.one_hot(y, z.shape[1]).movedim(-1, 1).bool()
            return torch.where(right, z, 0.0).sum(1) - torch.where(right, -1e9, z).amax(1)

        return {SEG: margin(outputs[SEG], targets[SEG].value), KIND: margin(outputs[KIND], targets[KIND].value)}

    def batch(self, x, targets):
        T = self.steps
        with torch.no_grad():
            clean = self.forward(x)
        b = self._metrics("clean", clean, targets)
        clean_margin = self._margins(clean, targets)
        delta, G, integral, w = torch.zeros_like(x), 0.0, np.zeros(3), np.full(3, 1 / 3)
        rho = {}
        for t in range(T):
            leaf = (x + delta).requires_grad_(True)
            outputs = self.forward(leaf)
            m = self._metrics(("now", t), [o.detach() for o in outputs], targets)
            degradation = np.array([1 - m[SEG] / b[SEG], 1 - b[DEPTH] / m[DEPTH], 1 - m[KIND] / b[KIND]])
            V = np.log(np.maximum(degradation, 0.02))
            if t >= 1:
                gain = 5 / (1 - t / T)
                integral = integral - gain / T * (V - V.mean())
                z = np.exp(-gain * V + integral)
                w = 0.7 * z / z.sum() + 0.3 * t / T / 3
                w = w / w.sum()
            self.weights.append(w)
            error = self._mean((outputs[DEPTH] - targets[DEPTH].value).abs()[:, 0], targets[DEPTH].valid)
            if t == 0:
                ce = torch.nn.functional.cross_entropy
                q = [
                    self._mean(ce(outputs[SEG], targets[SEG].value, reduction="none"), targets[SEG].valid).log(),
                    error.log(),
                    torch.where(
                        targets[KIND].valid, ce(outputs[KIND], targets[KIND].value, reduction="none").log(), 0.0
                    ),
                ]
            else:
                margin = self._margins(outputs, targets)
                q = [None, None, None]
                self.sums[t, "e"] += error.sum().item()
                self.sums[t, "n"] += len(error)
                q[DEPTH] = error / (self.sums[t, "e"] / self.sums[t, "n"])
                for i in (SEG, KIND):
                    if t == 1:
                        moved = (margin[i].detach() - clean_margin[i])[targets[i].valid]
                        self.sums["moved", i] += moved.square().sum().item()
                        self.sums["places", i] += moved.numel()
                        rho[i] = math.sqrt(self.sums["moved", i] / self.sums["places", i])
                    s = rho[i] * (1 - t / T)
                    each = 2 * torch.sigmoid(-margin[i] / s) / b[i]
                    valid = targets[i].valid
                    q[i] = torch.where(valid, each, 0.0) if i == KIND else self._mean(each, valid)
            (g,) = torch.autograd.grad(sum(w[i] * q[i].sum() for i in range(3)), leaf)
            G = 0.5 * G + g / g.abs().mean((1, 2, 3), keepdim=True)
            a = 3 * self.eps * (1 - t / T)
            move = G.sign() if self.norm == math.inf else G / G.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            delta = self.project(delta + a * move, x)
        return x + delta


@pytest.mark.parametrize("norm", NORMS)
def test_batches_of_a_chunk_are_those_of_the_recipe(plain, mixed_case, norm):
    case, steps = mixed_case(batch=7), 6
    eps = 0.04 if norm == math.inf else 0.6

    def project(z, x):
        rows = [
            plain.ball_and_box(z[b].flatten().numpy(), eps, -x[b].flatten().numpy(), 1 - x[b].flatten().numpy(), norm)
            for b in range(len(x))
        ]
        return torch.tensor(np.stack(rows)).view_as(x)

    recipe = Recipe(case.forward, steps, eps, norm, project)
    method, statistics, seen = make_method("worst-task", case.tasks), {}, []
    for index in ([0, 1, 2], [3, 4], [5, 6]):
        part = case[index]
        expected = recipe.batch(part.x, part.targets)
        found = attack(
            part.forward, part.x, part.tasks, part.targets, method, part.threat(norm, eps), RunConfig(steps),
            statistics=statistics, observer=seen.append,
        )  # fmt: skip
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    expected = np.stack(recipe.weights)
    rows = [record.weights[record.weights.gt(0).all(1)][0].numpy() for record in seen]  # of a sample with all labels
    np.testing.assert_allclose(np.stack(rows), expected, atol=1e-7)
    assert np.ptp(expected, axis=0).max() > 0.2  # the weights did move


def test_without_statistics_a_batch_knows_nothing_of_earlier_ones(mixed_case):
    case = mixed_case(batch=6)
    method, threat = make_method("worst-task", case.tasks), case.threat(math.inf, 0.1)
    first, second = case[[0, 1, 2]], case[[3, 4, 5]]

    def run(part, statistics):
        return attack(
            part.forward, part.x, part.tasks, part.targets, method, threat, RunConfig(5), statistics=statistics
        )

    alone, statistics = run(second, None), {}
    run(first, statistics)
    assert statistics[0].samples == 3
    after = run(second, statistics)
    assert statistics[0].samples == 6
    assert not torch.equal(alone, after)
    assert torch.equal(alone, run(second, {}))


def test_missing_labels_carry_no_weight(mixed_case):
    case, seen = mixed_case(batch=3), []  # sample 1 has no class label
    method = make_method("worst-task", case.tasks)
    attack(
        case.forward,
        case.x,
        case.tasks,
        case.targets,
        method,
        case.threat(math.inf, 0.1),
        RunConfig(4),
        observer=seen.append,
    )
    for record in seen:
        assert record.weights[1, 2] == 0 and record.losses[1, 2] == 0
        torch.testing.assert_close(record.weights[0].sum(), torch.tensor(1.0, dtype=torch.float64))
        assert torch.isfinite(record.gradient).all()


def test_a_task_unseen_so_far_is_left_out_of_the_weights(mixed_case):
    case, seen = mixed_case(batch=3)[[1]], []
    method = make_method("worst-task", case.tasks)
    result = attack(
        case.forward,
        case.x,
        case.tasks,
        case.targets,
        method,
        case.threat(math.inf, 0.1),
        RunConfig(4),
        observer=seen.append,
    )
    rest = case.only([0, 1])
    expected = attack(rest.forward, rest.x, rest.tasks, rest.targets, method, case.threat(math.inf, 0.1), RunConfig(4))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)
    assert all(record.weights[0, 2] == 0 and record.weights[0].sum().item() == pytest.approx(1) for record in seen)


def test_it_lifts_the_least_degraded_task_above_the_equal_attack():
    """Two labels an image that compete for one coordinate: the equal attack spends it on the same one on every image.

    With |δ| ≤ 0.1 either label can be lost on 17 of the 40 images, and never both.
    """
    slopes = torch.tensor([[4.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    base = torch.linspace(0.02, 0.2, 40, dtype=torch.float64)

    def forward(x):
        margins = base[:, None] - (x - 0.5) @ slopes.T
        return [torch.stack([m, torch.zeros_like(m)], 1) for m in margins.unbind(1)]

    task_list = [tasks.classification("a", 2), tasks.classification("b", 2)]
    x = torch.full((40, 2), 0.5, dtype=torch.float64)
    targets = [t.targets(np.zeros(40, dtype=int)) for t in task_list]
    box = (torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    threat = ThreatModel(math.inf, torch.tensor([[0.1]], dtype=torch.float64), box)

    def least(name):
        result = attack(forward, x, task_list, targets, make_method(name, task_list), threat, RunConfig(20))
        return min((o.argmax(1) != 0).double().mean().item() for o in forward(result))

    assert least("equal") == least("single:a") == 0
    assert 0.1 < least("worst-task") <= 17 / 40


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_gamma_makes_the_weights_more_even_the_later(gamma):
    run, free = (LogDegradationControl(gamma=g).begin(4) for g in (gamma, 0.0))
    degradations, known = torch.tensor([[0.1, 0.5, 0.9]]), torch.tensor([[True, True, False]])
    for step in range(4):
        found, sharp = run(degradations, known, step), free(degradations, known, step)
        expected = (1 - gamma) * sharp + gamma * step / 4 * torch.tensor([[0.5, 0.5, 0.0]])
        torch.testing.assert_close(found, expected / expected.sum() if step else sharp)
    assert sharp[0, 0] > 0.99


def test_a_gamma_above_1_is_named():
    with pytest.raises(ValueError, match=r"`gamma` should be in \[0, 1\]. Found 1.5"):
        make_method("worst-task", [tasks.depth("depth")], gamma=1.5)
