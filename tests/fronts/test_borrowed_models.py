"""A model that is attacked: whatever it does, whoever else attacks it, it is left as it was, and results are right."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.utils.checkpoint import checkpoint

from art_mtl import PyTorchMultiTaskEstimator, tasks

ONE_CLASS = [tasks.classification("k", 4)]
KINDS = {
    "MultiTaskPGD": {"eps": 0.1, "steps": 4},
    "MinMaxMultiTaskPGD": {"eps": 0.1, "steps": 4},
    "WorstTaskPGD": {"eps": 0.1, "steps": 4},
    "MultiTaskAutoPGD": {"eps": 0.1, "steps": 4},
    "MultiTaskAutoAttack": {"eps": 0.02, "version": "fast"},
    "UniversalMultiTaskPGD": {"eps": 0.1, "steps": 4},
    "MultiTaskPatch": {"size": (2, 2), "steps": 4},
}


def state_of(model):
    """Everything of a model that an attack might change."""
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad for parameter in model.parameters()],
        [value.clone() for value in model.state_dict().values()],
    )


def is_as_before(model, before):
    after = state_of(model)
    tensors = zip(before[3], after[3], strict=True)
    return before[:3] == after[:3] and all(torch.equal(old, new) for old, new in tensors)


def hosted_pgd(net, x, y, **arguments):
    """ART's own attack on a classifier."""
    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 4, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescent(classifier, verbose=False, **arguments)
    return torch.from_numpy(attack.generate(x.numpy(), y["k"]))


# --- two at once ---


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop, self.layer = nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Linear(48, 4)

    def forward(self, x):
        time.sleep(0.01)
        return {"k": self.layer(self.drop(self.norm(x)).flatten(1))}


def test_two_attacks_in_two_threads_do_not_disturb_each_other(front, data):
    """The one that ends first must not put the other's model back into training mode."""
    x, y, found = data[0], {"k": data[1]["k"]}, {}
    net = Slow().train()
    net.norm.eval()
    before = state_of(net)

    def run(steps):
        found[steps] = front.attack("MultiTaskPGD", net, ONE_CLASS, x, y, eps=0.2, step_size=0.01, steps=steps)

    run(3), run(14)
    alone = dict(found)
    threads = [threading.Thread(target=run, args=(steps,)) for steps in (3, 14)]
    for thread in threads:
        thread.start()
        time.sleep(0.015)
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[steps], alone[steps]) for steps in (3, 14))
    assert is_as_before(net, before)


# --- what a model may do ---


class Reentrant(nn.Module):
    """Saves memory by a reentrant checkpoint, which refuses torch.autograd.grad."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, x):
        return checkpoint(self.layers, x, use_reentrant=True)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_reentrant_checkpoints_give_what_they_give_in_art(front, data):
    x, y = data[0], {"k": data[1]["k"]}
    net = Reentrant()
    expected = hosted_pgd(Reentrant(), x, y, eps=0.1, eps_step=0.02, max_iter=6)
    net.layers[1].weight.grad = torch.ones(8, 48)
    found = front.attack("MultiTaskPGD", net, ONE_CLASS, x, y, eps=0.1, step_size=0.02, steps=6)
    assert torch.equal(found, expected) and not torch.equal(found, x)
    assert (net.layers[1].weight.grad == 1).all() and net.layers[3].weight.grad is None
    assert all(parameter.requires_grad for parameter in net.parameters())


class Overwriting(nn.Module):
    """Normalises its input, in its own memory or not."""

    def __init__(self, in_place):
        super().__init__()
        torch.manual_seed(0)
        self.in_place, self.layer = in_place, nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        out = self.layer(x.sub_(0.5).div_(0.25) if self.in_place else (x - 0.5) / 0.25)
        return {"seg": out[:, :4], "depth": out[:, 4:] + 2}


DENSE = [tasks.segmentation("seg", 4), tasks.depth("depth")]


@pytest.fixture
def dense():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.uniform(size=(5, 3, 4, 4)).astype(np.float32))
    return x, {"seg": rng.integers(0, 4, (5, 4, 4)), "depth": rng.uniform(1, 3, (5, 1, 4, 4)).astype(np.float32)}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_writes_into_its_input_is_attacked_like_one_that_does_not(front, dense, kind, labelled):
    x, y = dense[0], dense[1] if labelled else None
    before = x.clone()
    found, expected = (front.attack(kind, Overwriting(how), DENSE, x, y, **KINDS[kind]) for how in (True, False))
    assert torch.equal(found, expected) and torch.equal(x, before) and not torch.equal(found, x)


@pytest.mark.parametrize("shared", [True, False])
def test_its_patch_leaves_the_rest_of_the_image_alone(front, dense, shared):
    x, y = dense
    found = front.attack("MultiTaskPatch", Overwriting(True), DENSE, x, y, size=(2, 2), steps=3, shared=shared)
    outside = torch.ones(4, 4, dtype=torch.bool)
    outside[1:3, 1:3] = False
    assert torch.equal(found[:, :, outside], x[:, :, outside]) and (found != x).any((0, 1)).sum() == 4


def test_predictions_and_losses_leave_the_callers_tensor_alone(dense):
    x, y = dense
    before = x.clone()
    nets = [Overwriting(True), Overwriting(False)]
    estimators = [PyTorchMultiTaskEstimator(net, DENSE, (3, 4, 4), (0, 1), device_type="cpu") for net in nets]
    for call in (
        lambda e: e.predict(x)["depth"],
        lambda e: e.compute_losses(x, y)["depth"].detach().numpy(),
        lambda e: e.compute_losses(x.numpy(), y)["depth"],
        lambda e: e.loss_gradient(x, y).numpy(),
    ):
        found, expected = (call(estimator) for estimator in estimators)
        assert torch.equal(x, before) and np.array_equal(found, expected)


class Recurrent(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        torch.manual_seed(0)
        self.layer = lstm(10, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x):
        return {"k": self.head(self.norm(self.layer(x)[0][:, -1]))}


@pytest.mark.parametrize("training", [False, True])
def test_recurrent_layers_are_attacked_without_dropout_and_left_as_they_were(front, ruled_lstm, training):
    x = torch.from_numpy(np.random.default_rng(0).uniform(size=(4, 12, 10)).astype(np.float32))
    net = Recurrent(ruled_lstm).train(training)
    before = state_of(net)
    found, again = (
        front.attack("MultiTaskPGD", net, ONE_CLASS, x, {"k": np.arange(4)}, eps=0.1, steps=3) for _ in range(2)
    )
    assert torch.equal(found, again) and not torch.equal(found, x)
    assert is_as_before(net, before) and net.layer.dropout == 0.5


# --- the caller's modes ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_it_works_inside_inference_mode_as_outside(front, net, jobs, data, mode, kind):
    for labels in (data[1], None):
        expected = front.attack(kind, net, jobs, data[0], labels, **KINDS[kind])
        before = state_of(net)
        with mode():
            found = front.attack(kind, net, jobs, data[0], labels, **KINDS[kind])
        assert torch.equal(found, expected) and is_as_before(net, before)


def test_a_model_made_inside_inference_mode_is_refused_and_left_as_it_was(front, make_net, jobs, data):
    with torch.inference_mode():
        net = make_net(0)
    net.train()
    net.norm.eval()
    before = state_of(net)
    with pytest.raises(ValueError, match=r"made outside torch.inference_mode\(\) to be attacked.*copy.deepcopy"):
        front.attack("MultiTaskPGD", net, jobs, *data, eps=0.1, steps=2)
    assert is_as_before(net, before)


# --- modes of torchattacks ---


@pytest.mark.parametrize(
    "modes",
    [
        {"model_training": True},
        {"model_training": True, "batchnorm_training": True},
        {"model_training": True, "dropout_training": True},
        {"model_training": True, "batchnorm_training": True, "dropout_training": True},
    ],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_a_model_that_is_attacked_in_training_mode_keeps_its_buffers(
    for_torchattacks, net, jobs, data, modes, labelled
):
    net.train()
    net.drop.eval()
    before = state_of(net)
    attack = for_torchattacks.make("MultiTaskPGD", net, jobs, steps=2)
    attack.set_model_training_mode(**modes)
    seen = []
    handle = net.norm.register_forward_hook(lambda module, *_: seen.append((module.training, net.drop.training)))
    found = attack(data[0], data[1] if labelled else None)
    handle.remove()
    assert is_as_before(net, before) and not torch.equal(found, data[0])
    expected = modes.get("batchnorm_training", False), modes.get("dropout_training", False)
    assert seen[-2:] == [expected] * 2
    assert labelled or seen[0] == (False, False), "labels are predicted in evaluation mode"


def test_saving_leaves_every_module_in_its_mode(for_torchattacks, net, jobs, data, tmp_path):
    net.train()
    net.norm.eval()
    before = state_of(net)
    attack = for_torchattacks.make("MultiTaskPGD", net, jobs, steps=2)
    attack.save([data], tmp_path / "adv.pt", verbose=False, save_predictions=True)
    assert is_as_before(net, before) and not net.norm.training and net.training
