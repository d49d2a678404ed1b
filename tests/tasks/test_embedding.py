"""Verification by a vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import distance as sp

from art_mtl import tasks
from art_mtl.metrics import describe_metric, read_metric

DISTANCES = {"cosine": (sp.cosine, 0.9), "euclidean": (sp.euclidean, 3.0)}
BOTH = pytest.mark.parametrize("name", DISTANCES)


def case(n=20):
    torch.manual_seed(0)
    y = torch.randn(n, 5)
    y[3] = float("nan")
    return torch.randn(n, 5), y


@BOTH
def test_loss_score_margin_and_rate_are_those_of_scipys_distance(name):
    (output, y), (reference, threshold) = case(), DISTANCES[name]
    task = tasks.embedding("face", threshold, distance=name)
    target = task.targets(y)
    assert target.has_label.tolist() == [i != 3 for i in range(20)]
    known = target.has_label.numpy()
    expected = np.array([reference(o, t) for o, t in zip(output[known], y[known], strict=True)])
    np.testing.assert_allclose(task.loss(output, target)[known], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(task.score(output, target)[known], 2 ** (-expected / threshold), rtol=1e-4)
    np.testing.assert_allclose(task.measure(output, target).margins[known], threshold - expected, rtol=1e-3, atol=1e-5)
    assert not task.loss(output, target)[3] and not task.statistics(output, target)[3].any()
    rate = (expected <= threshold).mean()
    metric = task.metric.torchmetric()
    for part in (slice(0, 7), slice(7, 20)):
        metric.update(*task.metric_arguments(output[part], target[part]))
    assert metric.compute().item() == pytest.approx(rate) and 0.1 < rate < 0.9
    value = read_metric(describe_metric(task.metric)).value(task.statistics(output, target).sum(0))
    assert value.item() == pytest.approx(rate)


@BOTH
def test_slopes_are_those_of_finite_differences(name):
    output, y = case(6)
    task = tasks.embedding("face", 0.7, distance=name)
    target, output = task.targets(y), output.double().requires_grad_(True)
    target = target.map(lambda t: t.double() if t.is_floating_point() else t)
    assert torch.autograd.gradcheck(lambda o: task.loss(o, target), output)
    assert torch.autograd.gradcheck(lambda o: task.score(o, target), output)


def test_labels_and_arguments():
    task = tasks.embedding("face", 0.5)
    assert task.targets([np.ones(3), None]).valid.tolist() == [True, False]
    with pytest.raises(ValueError, match="'face' should be vectors of some length.*zeros, first in sample 1"):
        task.targets(np.array([[1.0, 0], [0, 0]]))
    assert tasks.embedding("face", 0.5, distance="euclidean").targets(np.zeros((1, 2))).has_label.all()
    with pytest.raises(ValueError, match="'face' should be NaN or masked for whole samples"):
        task.targets(np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match="'face' should have shape \\(N, D\\)"):
        task.targets(np.zeros(3))
    with pytest.raises(ValueError, match="`threshold` of task 'face' should be positive"):
        tasks.embedding("face", 0)
    with pytest.raises(ValueError, match="`distance` of task 'face' should be one of \\['cosine', 'euclidean'\\]"):
        tasks.embedding("face", 1, distance="l1")


def test_words():
    task = tasks.embedding("face", 0.5)
    shown = task.shown(task.targets([np.array([3.0, 4.0]), None]))
    assert [task.answer(label) for label in shown] == ["|5.00| of 2", "?"]
    assert task.agrees([3.0, 4.1], shown[0]) and not task.agrees([-3.0, 4.0], shown[0])
