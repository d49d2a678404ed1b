"""Networks with habits: they write in their input, or allow no `torch.autograd.grad`. Attacks are what they are on the
same network without.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.utils.checkpoint import checkpoint

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskAutoAttack, MultiTaskPatch, MultiTaskPGD, UniversalMultiTaskPGD

SHAPE = (3, 8, 8)
JOBS = [tasks.segmentation("seg", 4), tasks.classification("kind", 3)]


class Net(nn.Module):
    """Segmentation and classification; ``habit`` is "" or what the network does."""

    def __init__(self, habit=""):
        super().__init__()
        torch.manual_seed(0)
        self.habit = habit
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh())
        self.seg, self.kind = nn.Conv2d(6, 4, 1), nn.Linear(6, 3)
        # Out of reach of `parameters()`, and so of whoever freezes them.
        self.hidden = [nn.Parameter(torch.rand(6, 1, 1))]

    def features(self, x):
        return self.body(x) * self.hidden[0]

    def forward(self, x):
        x = x.sub_(0.5).div_(0.25) if self.habit == "writes" else (x - 0.5) / 0.25
        hidden = checkpoint(self.features, x, use_reentrant=True) if self.habit == "checkpoints" else self.features(x)
        return {"seg": self.seg(hidden), "kind": self.kind(hidden.mean((2, 3)))}


@pytest.fixture
def data():
    draw = np.random.default_rng(0)
    x = draw.uniform(size=(5, *SHAPE)).astype(np.float32)
    return x, {"seg": draw.integers(0, 4, (5, 8, 8)), "kind": draw.integers(0, 3, 5)}


def art_front(make):
    def run(net, x, y):
        estimator = PyTorchMultiTaskEstimator(net, JOBS, SHAPE, clip_values=(0, 1), device_type="cpu")
        return make(estimator).generate(x, y)

    return run


def torchattacks_front(make):
    return lambda net, x, y: make(net).__call__(torch.tensor(x), y).numpy()


RUNS = {
    "PGD": art_front(lambda e: MultiTaskPGD(e, "minmax", eps=0.05, max_iter=3, verbose=False)),
    "worst task": art_front(lambda e: MultiTaskPGD(e, "worst-task", eps=0.05, max_iter=3, verbose=False)),
    "auto batch size": art_front(
        lambda e: MultiTaskPGD(e, "equal", eps=0.05, max_iter=2, batch_size="auto", verbose=False)
    ),
    "random start": art_front(
        lambda e: MultiTaskPGD(e, "normalize", eps=0.05, max_iter=2, num_random_init=2, seed=0, verbose=False)
    ),
    "ensemble": art_front(lambda e: MultiTaskAutoAttack(e, eps=0.05, version="fast", verbose=False)),
    "universal": art_front(lambda e: UniversalMultiTaskPGD(e, "normalize", eps=0.05, max_iter=2, verbose=False)),
    "patch": art_front(lambda e: MultiTaskPatch(e, method="normalize", size=(3, 3), max_iter=2, verbose=False)),
    "patches": art_front(lambda e: MultiTaskPatch(e, size=(3, 3), max_iter=2, shared=False, verbose=False)),
    "torchattacks": torchattacks_front(lambda net: ta.MultiTaskPGD(net, JOBS, eps=0.05, steps=3)),
    "torchattacks ensemble": torchattacks_front(lambda net: ta.MultiTaskAutoAttack(net, JOBS, version="fast")),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("habit", ["writes", "checkpoints"])
@pytest.mark.parametrize("run", RUNS)
def test_habits_of_networks_change_nothing(data, run, habit):
    x, y = data
    plain, other = Net().eval(), Net(habit).eval()
    kept = other.hidden[0].grad = torch.ones(6, 1, 1)
    clean = x.copy()
    found, expected = RUNS[run](other, x, y), RUNS[run](plain, x, y)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(x, clean)
    assert np.abs(found - x).max() > 0.01
    assert other.hidden[0].grad is kept and torch.equal(kept, torch.ones(6, 1, 1))
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_a_patch_leaves_the_rest_of_the_image_alone(data, shared):
    x, y = data
    estimator = PyTorchMultiTaskEstimator(Net("writes").eval(), JOBS, SHAPE, clip_values=(0, 1), device_type="cpu")
    attack = MultiTaskPatch(estimator, method="normalize", size=(3, 3), max_iter=2, shared=shared, verbose=False)
    change = np.abs(attack.generate(x, y) - x)
    assert change[:, :, ~attack.place].max() == 0 and change.max() > 0.01


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_classifier_with_reentrant_checkpoints_is_attacked_as_by_art(data):
    class Classifier(Net):
        def forward(self, x):
            return super().forward(x)["kind"]

    x, y = data
    options = {"eps": 0.05, "eps_step": 0.02, "max_iter": 3, "verbose": False}
    classifier = PyTorchClassifier(
        Classifier("checkpoints").eval(), nn.CrossEntropyLoss(), SHAPE, 3, clip_values=(0, 1), device_type="cpu"
    )
    expected = ProjectedGradientDescent(classifier, **options).generate(x, y["kind"])
    np.testing.assert_array_equal(MultiTaskPGD(classifier, "equal", **options).generate(x, y["kind"]), expected)
