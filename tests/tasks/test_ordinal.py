"""Ordered classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from art_mtl import tasks
from art_mtl.metrics import describe_metric, read_metric

TASK = tasks.ordinal("group", 4)


def case(width, n=20):
    torch.manual_seed(0)
    return 2 * torch.randn(n, width), torch.randint(-1, 4, (n,))


@pytest.mark.parametrize("width", [4, 3])
def test_metric_loss_and_error_are_those_of_their_formulas(width):
    output, y = case(width)
    target, known = TASK.targets(y), y >= 0
    checked = TASK.check_output(output, target)
    o, t = output[known].double().numpy(), y[known].numpy()
    if width == 4:
        p = np.exp(o) / np.exp(o).sum(1, keepdims=True)
        predicted, loss = o.argmax(1), -np.log(p[np.arange(len(t)), t])
        error = (p * np.abs(np.arange(4) - t[:, None])).sum(1)
    else:
        above, q = np.arange(3) < t[:, None], 1 / (1 + np.exp(-o))
        predicted, loss = (o > 0).sum(1), -np.log(np.where(above, q, 1 - q)).sum(1)
        error = np.where(above, 1 - q, q).sum(1)
    np.testing.assert_allclose(TASK.loss(checked, target)[known], loss, rtol=1e-5)
    np.testing.assert_allclose(TASK.score(checked, target)[known], error, rtol=1e-5)
    assert not TASK.loss(checked, target)[~known].any() and not TASK.score(checked, target)[~known].any()
    expected = sk.mean_absolute_error(t, predicted)
    metric = TASK.metric.torchmetric()
    for part in (slice(0, 7), slice(7, 20)):
        metric.update(*TASK.metric_arguments(checked[part], target[part]))
    assert metric.compute().item() == pytest.approx(expected)
    value = read_metric(describe_metric(TASK.metric)).value(TASK.statistics(checked, target).sum(0))
    assert value.item() == pytest.approx(expected) and not TASK.higher_is_better
    assert TASK.decode(output)[known].tolist() == predicted.tolist()
    assert TASK.targets(output).value.tolist() == TASK.decode(output).tolist()


@pytest.mark.parametrize("width", [4, 3])
def test_slopes_are_those_of_finite_differences(width):
    output, y = case(width, 5)
    target, output = TASK.targets(y), output.double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda o: TASK.loss(o, target), output)
    assert torch.autograd.gradcheck(lambda o: TASK.score(o, target), output)


def test_labels():
    assert TASK.targets(np.array([[3], [0]])).value.tolist() == [3, 0]
    assert TASK.targets([2, None, -1]).valid.tolist() == [True, False, False]
    assert TASK.targets(np.array([2.0, np.nan])).valid.tolist() == [True, False]
    assert TASK.targets(np.ma.masked_array([2, 1], [False, True])).valid.tolist() == [True, False]
    with pytest.raises(ValueError, match="classes in \\[0, 3\\], or -1 \\(not known\\). Found \\[0, 4\\]"):
        TASK.targets(np.array([0, 4]))
    with pytest.raises(ValueError, match="'group' should have shape \\(N,\\), or \\(N, 4\\)"):
        TASK.targets(np.zeros((2, 7)))
    with pytest.raises(ValueError, match="'group' should have shape \\(2, 4\\) or one logit fewer"):
        TASK.check_output(torch.zeros(2, 5), TASK.targets(np.array([0, 1])))
    with pytest.raises(ValueError, match="`num_classes` should be an integer of at least 2"):
        tasks.ordinal("group", 1)
    assert tasks.ordinal("two", 2).targets(torch.tensor([[0.3], [-0.2]])).value.tolist() == [1, 0]


def test_words():
    shown = TASK.shown(TASK.targets([2, None]))
    assert [TASK.answer(label) for label in shown] == ["2", "?"] and TASK.answer(shown[0], ["a", "b", "c"]) == "c"
    assert TASK.agrees(2, shown[0]) and not TASK.agrees(1, shown[0])
