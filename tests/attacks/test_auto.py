"""Auto-PGD and the ensemble for ART: host contract, bad input, and ART's own Auto-PGD as a yardstick."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from art.attacks.evasion import AutoProjectedGradientDescent
from art.exceptions import EstimatorError

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskAutoAttack, MultiTaskAutoPGD, MultiTaskPGD
from art_mtl.core.searches.ensemble_members import VERSIONS, Budget
from art_mtl.evaluation import load_victim

SHAPE = (3, 8, 8)
CLASSES = (MultiTaskAutoPGD, MultiTaskAutoAttack)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few steps, many members."""
    monkeypatch.setitem(VERSIONS, "fast", Budget(steps=4, queries=8, ranks=1, per_image=True))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
        self.dense = torch.nn.Conv2d(8, 5, 1)
        self.flat = torch.nn.Linear(8, 4)
        self.flat.weight.data *= 20
        self.forwards, self.fail_at = 0, math.inf

    def forward(self, x):
        self.forwards += 1
        if self.forwards >= self.fail_at:
            raise RuntimeError("out of order")
        features = self.drop(torch.tanh(self.trunk(x)))
        dense = self.dense(features)
        return {"seg": dense[:, :4], "depth": dense[:, 4:].exp(), "digit": self.flat(features.mean((2, 3)))}


JOBS = [tasks.segmentation("seg", 4), tasks.depth("depth"), tasks.classification("digit", 4)]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def estimator(net):
    return PyTorchMultiTaskEstimator(net, JOBS, input_shape=SHAPE, clip_values=(0, 1), device_type="cpu")


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(5, *SHAPE)).astype(np.float32)
    y = {
        "seg": rng.integers(-1, 4, (5, 8, 8)),
        "depth": rng.uniform(0.5, 2, (5, 1, 8, 8)).astype(np.float32),
        "digit": rng.integers(0, 4, 5),
    }
    return x, y


def make(kind, estimator, **arguments):
    extra = {"version": "fast"} if kind is MultiTaskAutoAttack else {"max_iter": 6}
    return kind(estimator, **{**extra, "verbose": False, **arguments})


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("norm, eps", [("inf", 0.05), (2, 0.5), (1, 3.0)])
def test_degradations_within_the_ball_and_changes_nothing_else(kind, norm, eps, estimator, net, data):
    x, y = data
    net.train()
    net.drop.eval()
    state, before = torch.get_rng_state(), x.copy()
    found = make(kind, estimator, norm=norm, eps=eps).generate(x, y)
    assert found.dtype == np.float32 and found.shape == x.shape and np.array_equal(x, before)
    assert np.linalg.norm((found - x).reshape(5, -1), float(norm), axis=1).max() <= eps * (1 + 1e-5)
    assert found.min() >= 0 and found.max() <= 1
    assert net.training and not net.drop.training and torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    clean, attacked = (sum(v.mean() for v in estimator.compute_losses(inputs, y).values()) for inputs in (x, found))
    assert attacked > clean


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_leaves_the_model_as_it_was(kind, estimator, net, data):
    x, y = data
    net.train()
    net.fail_at = 4
    with pytest.raises(RuntimeError, match="out of order"):
        make(kind, estimator).generate(x, y)
    assert all(module.training for module in net.modules()) and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("kind", CLASSES)
def test_without_labels_masked_and_repeatable(kind, estimator, data):
    x, _ = data
    mask = np.zeros(SHAPE, np.float32)
    mask[:, 2:6] = 1
    attack = make(kind, estimator, eps=0.1)
    found = attack.generate(x, mask=mask)
    moved = np.abs(found - x).max(0)
    assert not moved[:, :2].any() and not moved[:, 6:].any() and moved[:, 2:6].any()
    assert np.array_equal(found, attack.generate(x, mask=mask)), "what is drawn is drawn from a seed"


def test_costs_one_forward_more_than_its_steps(estimator, net, data):
    x, y = data
    make(MultiTaskAutoPGD, estimator, max_iter=7).generate(x, y)
    assert net.forwards == 8


def test_the_report_of_the_ensemble(estimator, data, capsys):
    x, y = data
    attack = make(MultiTaskAutoAttack, estimator, eps=0.05, batch_size=2)
    assert attack.report is None
    found = attack.generate(x, y)
    report = attack.report
    assert report.members == (
        "worst-task", "auto:worst-task", "auto:worst-image", "auto:single:seg", "auto:single:depth",
        "auto:single:digit", "auto:targeted-1", "square",
    )  # fmt: skip
    assert report.attacked == (5,) * 8 and sum(report.counts.values()) == 5 and report.selection == "population"
    single = MultiTaskPGD(estimator, "worst-task", eps=0.05, max_iter=4, batch_size=2, verbose=False).generate(x, y)
    kept = report.won("worst-task")
    assert np.array_equal(found[kept], single[kept])
    assert capsys.readouterr() == ("", "")


def test_takes_a_stock_classifier(data):
    from art.estimators.classification import PyTorchClassifier

    x, y = data
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4))
    classifier = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), SHAPE, 4, clip_values=(0, 1), device_type="cpu")
    for kind in CLASSES:
        found = make(kind, classifier, eps=0.3).generate(x)
        before, after = (classifier.predict(inputs).argmax(1) for inputs in (x, found))
        assert (before != after).all()


def test_names_parameters_and_progress(estimator, data, capsys):
    x, y = data
    attack = make(MultiTaskAutoAttack, estimator, verbose=True)
    assert repr(attack) == "MultiTaskAutoAttack(norm=inf, eps=0.3, version='fast')"
    assert attack.name == "auto-attack-fast"
    attack.set_params(norm=2, eps=0.5, selection="sample")
    assert (attack.norm, attack.selection) == (2, "sample")
    attack.generate(x, y)
    shown = capsys.readouterr().err
    assert "auto-attack-fast: square" in shown and "180/180" in shown  # 5 samples × (7 members × 4 steps + 8 queries)
    with pytest.raises(ValueError, match="`version`"):
        attack.set_params(version="slow", norm=1)
    assert (attack.norm, attack.version) == (2, "fast")
    pgd = make(MultiTaskAutoPGD, estimator, method="minmax")
    assert pgd.name == "auto-pgd:minmax" and "eps_step" not in pgd.attack_params and "method='minmax'" in repr(pgd)
    with pytest.raises(ValueError, match="eps_step"):
        pgd.set_params(eps_step=0.1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"eps": 0}, ValueError, "`eps` should be positive"),
        ({"norm": 3}, ValueError, "`norm` should be infinity, 2 or 1"),
        ({"version": "slow"}, ValueError, "`version` should be one of"),
        ({"selection": "mean"}, ValueError, "`selection` should be one of"),
        ({"batch_size": 0}, ValueError, "`batch_size` should be an integer of at least 1"),
        ({"seed": -1}, ValueError, "`seed` should be None or an integer"),
        ({"verbose": 1}, ValueError, "`verbose` should be a bool"),
    ],
)
def test_bad_arguments_of_the_ensemble(arguments, error, message, estimator):
    with pytest.raises(error, match=message):
        MultiTaskAutoAttack(estimator, **arguments)


@pytest.mark.parametrize("argument", ["eps_step", "decay", "schedule", "keep", "l1_step"])
def test_auto_pgd_leaves_no_step_to_choose(argument, estimator):
    with pytest.raises(TypeError, match=f"MultiTaskAutoPGD decides `{argument}`.*Those that take it: .*WorstTaskPGD"):
        MultiTaskAutoPGD(estimator, **{argument: 0.1})


@pytest.mark.parametrize("kind", CLASSES)
def test_bad_calls(kind, estimator, data):
    x, y = data
    attack = make(kind, estimator)
    with pytest.raises(ValueError, match="within `clip_values`"):
        attack.generate(x + 1, y)
    with pytest.raises(ValueError, match="should have shape"):
        attack.generate(x[:, :, :4], y)
    with pytest.raises(TypeError, match="Found \\['labels'\\]"):
        attack.generate(x, labels=y)
    with pytest.raises(EstimatorError, match=f"{kind.__name__} requires an estimator .*PyTorchMultiTaskEstimator"):
        kind(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("norm, eps", [(np.inf, 0.05), (2, 0.7)])
def test_no_weaker_than_arts_own_auto_pgd(norm, eps):
    """One head of the digits victim, 64 images, 20 gradients each from a random start: within 2 images of ART's."""
    victim = load_victim("digits")
    x, y = victim.data("test", 64)
    estimator = PyTorchMultiTaskEstimator(
        victim.model, victim.tasks, victim.input_shape, clip_values=victim.clip_values, device_type="cpu"
    )
    left = estimator.task_view("left")
    theirs = AutoProjectedGradientDescent(
        left, norm, eps, 2 * eps, max_iter=20, nb_random_init=1, batch_size=64, loss_type=None, verbose=False
    ).generate(x, y["left"])
    ours = MultiTaskAutoPGD(
        estimator, "single:left", norm, eps, 20, num_random_init=1, batch_size=64, seed=0, verbose=False
    ).generate(x, y)
    wrong = [int((left.predict(inputs).argmax(1) != y["left"]).sum()) for inputs in (x, theirs, ours)]
    assert wrong[0] < 10 < wrong[1] and wrong[2] >= wrong[1] - 2
