"""Losses, errors, scores and metrics of one's own that do not give one value for each sample: one error, in the same
words from every way in.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, metrics, tasks
from art_mtl.attacks import MultiTaskAutoAttack, MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import evaluate

X, Y = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32), {"v": np.zeros((5, 3), np.float32)}


def right(output, target):
    return (output - target).square().mean(1)


def mean_inside(output, target):
    return (output - target).square().mean()


def a_value_a_component(output, target):
    return (output - target).square()


def a_column(output, target):
    return (output - target).square().mean(1, keepdim=True)


def a_float(output, target):
    return 1.0


def an_array(output, target):
    return np.zeros(len(output))


WRONG = {mean_inside: r"\(\)", a_value_a_component: r"\(5, 3\)", a_column: r"\(5, 1\)", a_float: "float",
         an_array: "ndarray"}  # fmt: skip


def _ways(task):
    torch.manual_seed(0)
    net = nn.Linear(6, 3)
    estimator = PyTorchMultiTaskEstimator(net, [task], (6,), clip_values=(0, 1), device_type="cpu")
    attacks = [kind(estimator, eps=0.1, max_iter=2, verbose=False) for kind in (MultiTaskPGD, WorstTaskPGD)]
    loader = [(torch.tensor(X), {"v": torch.tensor(Y["v"])})]
    return {
        "generate": lambda: attacks[0].generate(X, Y),
        "generate, worst task": lambda: attacks[1].generate(X, Y),
        "evaluate": lambda: evaluate(estimator, [attacks[0]], (X, Y), progress=False).results,
        "ensemble": lambda: MultiTaskAutoAttack(estimator, eps=0.1, verbose=False).generate(X, Y),
        "torchattacks": lambda: ta.WorstTaskPGD(net, [task], eps=0.1, steps=2)(torch.tensor(X), Y),
        "save": lambda: ta.MultiTaskPGD(net, [task], eps=0.1, steps=1).save(loader, verbose=False),
        "compute_losses": lambda: estimator.compute_losses(X, Y),
        "loss_gradient": lambda: estimator.loss_gradient(X, Y),
    }


@pytest.mark.parametrize("loss", WRONG, ids=lambda loss: loss.__name__)
def test_a_loss_that_is_not_one_value_a_sample(loss):
    for way in _ways(tasks.custom("v", loss)).values():
        with pytest.raises(ValueError, match=rf"task 'v' should have shape \(5,\).*Found {WRONG[loss]}"):
            way()


@pytest.mark.parametrize("score", WRONG, ids=lambda score: score.__name__)
def test_a_score_or_error_that_is_not_one_value_a_sample(score):
    """Ways that look at the loss alone take no notice."""
    for task in (tasks.custom("v", right, error=score), tasks.custom("v", right, score=score)):
        for name, way in _ways(task).items():
            if name not in ("generate", "compute_losses", "loss_gradient"):
                with pytest.raises(ValueError, match=rf"task 'v' should have shape \(5,\).*Found {WRONG[score]}"):
                    way()


def test_a_metric_that_is_not_one_value_a_sample():
    """torch would spread one number over all samples in silence."""
    for element, found in ((mean_inside, r"\(\)"), (a_column, r"\(5, 1\)")):
        metric = metrics.mean_of("far", element, higher_is_better=False)
        task = tasks.custom("v", right, metric=metric)
        for name in ("evaluate", "generate, worst task", "save"):
            with pytest.raises(ValueError, match=rf"metric 'far' should have shape \(5,\).*Found {found}"):
                _ways(task)[name]()


def test_a_single_sample_is_no_exception():
    task = tasks.custom("v", mean_inside)
    with pytest.raises(ValueError, match=r"shape \(1,\).*Found \(\)"):
        task.loss(torch.ones(1, 3), task.targets(np.zeros((1, 3))))
