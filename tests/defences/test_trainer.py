"""Adversarial training makes a model harder to attack, and is what its name says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from art.defences.trainer import AdversarialTrainer

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.defences import MultiTaskAdversarialTrainer

EPS = 0.1


class Net(torch.nn.Module):
    """A class and a number."""

    def __init__(self):
        super().__init__()
        self.trunk, self.heads = torch.nn.Linear(16, 24), torch.nn.Linear(24, 3)

    def forward(self, x):
        out = self.heads(torch.relu(self.trunk(x.flatten(1))))
        return {"kind": out[:, :2], "size": out[:, 2]}


def make_estimator(rate=0.3):
    torch.manual_seed(0)
    net = Net()
    return PyTorchMultiTaskEstimator(
        net,
        tasks=[tasks.classification("kind", 2), tasks.regression("size")],
        input_shape=(1, 4, 4),
        clip_values=(0.0, 1.0),
        optimizer=torch.optim.SGD(net.parameters(), lr=rate),
        device_type="cpu",
    )


def make_data(size=96):
    """One robust feature, the mean of the left half, and fragile ones beside it."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, size)
    x = rng.uniform(0.3, 0.7, (size, 1, 4, 4)).astype(np.float32)
    x[:, :, :, :2] += np.where(kind, 0.2, -0.2)[:, None, None, None].astype(np.float32)
    x[:, :, :, 3] = 0.5 + np.where(kind, 0.03, -0.03)[:, None, None].astype(np.float32)
    return x, {"kind": kind, "size": x[..., :2].mean((1, 2, 3))}


def loss_under_attack(estimator, x, y):
    x_adv = MultiTaskPGD(estimator, "equal", eps=EPS, max_iter=10, verbose=False).generate(x, y)
    return sum(np.mean(values) for values in estimator.compute_losses(x_adv, y, reduction="none").values())


def test_the_trained_model_resists_better_than_one_trained_on_clean_images():
    x, y = make_data()
    plain, robust = make_estimator(), make_estimator()
    torch.manual_seed(1)
    plain.fit(x, y, batch_size=16, nb_epochs=15)
    torch.manual_seed(1)
    MultiTaskAdversarialTrainer(robust, eps=EPS, max_iter=5, nb_epochs=15, batch_size=16).fit(x, y)
    assert loss_under_attack(robust, x, y) < 0.9 * loss_under_attack(plain, x, y)
    assert (robust.predict(x)["kind"].argmax(1) == y["kind"]).mean() > 0.9


def test_one_step_is_that_of_the_loss_on_the_attacked_batch():
    x, y = make_data(6)
    estimator = make_estimator()
    attack = MultiTaskPGD(estimator, "equal", eps=EPS, max_iter=3, verbose=False)
    net = copy.deepcopy(estimator.model)
    x_adv = torch.from_numpy(attack.generate(x, y))
    out = net(x_adv)
    loss = torch.nn.functional.cross_entropy(out["kind"], torch.from_numpy(y["kind"]))
    loss = loss + (out["size"] - torch.from_numpy(y["size"])).abs().mean()
    loss.backward()
    expected = [(p - 0.3 * p.grad).detach() for p in net.parameters()]
    MultiTaskAdversarialTrainer(estimator, attack, nb_epochs=1, batch_size=6).fit(x, y)
    for found, wanted in zip(estimator.model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-5, atol=1e-6)


def test_the_ratio_says_how_many_are_attacked():
    x, y = make_data(10)
    estimator = make_estimator()
    attack, seen = MultiTaskPGD(estimator, "equal", eps=EPS, max_iter=1, verbose=False), []
    generate = attack.generate
    attack.generate = lambda x, y: seen.append(len(x)) or generate(x, y)
    MultiTaskAdversarialTrainer(estimator, attack, nb_epochs=1, batch_size=4, ratio=0.5).fit(x, y)
    assert seen == [2, 2, 1]
    MultiTaskAdversarialTrainer(estimator, attack, nb_epochs=1).fit(x, y, nb_epochs=2, batch_size=10)
    assert seen[3:] == [10, 10]


def test_arts_own_trainer_takes_the_attacks_too():
    x, y = make_data(12)
    estimator = make_estimator()
    before = estimator.model.heads.weight.detach().clone()
    attack = MultiTaskPGD(estimator, "equal", eps=EPS, max_iter=2, verbose=False)
    AdversarialTrainer(estimator, attack, ratio=1.0).fit(x, estimator.labels(y, 12), batch_size=4, nb_epochs=1)
    assert not torch.equal(before, estimator.model.heads.weight)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"estimator": torch.nn.Linear(1, 1)}, TypeError, "`estimator` should be a PyTorchMultiTaskEstimator"),
        ({"attack": "pgd"}, TypeError, "`attack` should be an evasion attack. Found str"),
        ({"ratio": "half"}, ValueError, r"`ratio` should be in \(0, 1\]. Found 'half'"),
        ({"ratio": 0}, ValueError, r"`ratio` should be in \(0, 1\]. Found 0"),
        ({"nb_epochs": 0}, ValueError, "`nb_epochs` should be a positive integer. Found 0"),
        ({"batch_size": 1.5}, ValueError, "`batch_size` should be a positive integer. Found 1.5"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    with pytest.raises(error, match=message):
        MultiTaskAdversarialTrainer(**{"estimator": make_estimator(), **change})


def test_so_are_a_missing_optimizer_a_foreign_attack_and_a_stray_keyword():
    estimator = make_estimator()
    x, y = make_data(4)
    with pytest.raises(ValueError, match="should attack the estimator that is trained"):
        MultiTaskAdversarialTrainer(estimator, MultiTaskPGD(make_estimator(), "equal"))
    with pytest.raises(TypeError, match=r"Found \['epochs'\]"):
        MultiTaskAdversarialTrainer(estimator).fit(x, y, epochs=3)
    estimator.set_params(optimizer=None)
    with pytest.raises(ValueError, match="should have an optimizer"):
        MultiTaskAdversarialTrainer(estimator)


def test_batches_of_one_are_trained_on_where_all_are_of_one():
    x, y = make_data(5)
    for size, expected in ((1, [1] * 5), (2, [2, 2]), (8, [5])):
        estimator, seen = make_estimator(), []
        fit = estimator.fit
        estimator.fit = lambda x, y, fit=fit, seen=seen, **kwargs: seen.append(len(x)) or fit(x, y, **kwargs)
        MultiTaskAdversarialTrainer(estimator, max_iter=1, nb_epochs=1, batch_size=size).fit(x, y)
        assert seen == expected
    with pytest.raises(ValueError, match="`nb_epochs` should be a positive integer. Found 0"):
        MultiTaskAdversarialTrainer(estimator).fit(x, y, nb_epochs=0)
