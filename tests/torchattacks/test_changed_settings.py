"""What calls of one attack share is forgotten as soon as anything changes that it was computed for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks

pytest.importorskip("torchattacks")
from art_mtl.torchattacks import MultiTaskPGD, WorstTaskPGD

JOBS = [tasks.classification("k", 4), tasks.regression("v")]
LOUD = tasks.regression("v", output=lambda raw: 30 * raw["v"])


class Net(nn.Module):
    def __init__(self, seed=0, scale=1.0):
        super().__init__()
        torch.manual_seed(seed)
        self.norm, self.act = nn.BatchNorm2d(3), nn.Identity()
        self.a, self.b, self.scale = nn.Linear(48, 4), nn.Linear(48, 1), scale

    def forward(self, x):
        x = self.act(self.norm(x)).flatten(1)
        return {"k": 5 * self.a(x), "v": self.scale * self.b(x)}


@pytest.fixture
def net():
    return Net().eval()


def test_a_device_may_be_a_string(net, data):
    attack = MultiTaskPGD(net, JOBS, eps=0.1, steps=2)
    before = attack(*data)
    attack.set_device("cpu")
    assert torch.equal(attack(*data), before)


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    return torch.rand(16, 3, 4, 4, generator=g), {"k": torch.arange(16) % 4, "v": torch.ones(16)}


def scaled(net):
    with torch.no_grad():
        net.b.weight.mul_(30)


def trained(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(torch.ones(2, 3, 4, 4))["v"].sum().backward()
    optimizer.step()


def moved_statistics(net):
    net.norm.running_var.mul_(4)


def by_numpy(net):
    net.b.weight.detach().numpy()[:] *= 30


def hooked(net):
    net.b.register_forward_hook(lambda module, arguments, output: 30 * output)


def normalised(attack):
    attack.set_normalization_used([0.1] * 3, [0.3] * 3)
    attack._set_normalization_applied(False)


CHANGES = {
    "eps": lambda attack: setattr(attack, "eps", 0.2),
    "alpha": lambda attack: setattr(attack, "alpha", 0.05),
    "gamma": lambda attack: setattr(attack, "gamma", 0.9),
    "norm": lambda attack: attack.set_params(norm="L2", eps=1.0),
    "bounds": lambda attack: setattr(attack, "bounds", (0, 2)),
    "a bound": lambda attack: setattr(attack, "bounds", (torch.zeros(()), torch.tensor(2.0))),
    "another model": lambda attack: attack.set_model(Net(1, 50.0).eval()),
    "other weights": lambda attack: attack.model.load_state_dict(Net(2).state_dict()),
    "weights in place": lambda attack: scaled(attack.model),
    "weights by their data": lambda attack: attack.model.b.weight.data.mul_(30),
    "weights by NumPy": lambda attack: by_numpy(attack.model),
    "a buffer by its data": lambda attack: attack.model.norm.running_var.data.mul_(4),
    "an attribute": lambda attack: setattr(attack.model, "scale", -30.0),
    "a hook": lambda attack: hooked(attack.model),
    "tasks": lambda attack: setattr(attack, "tasks", (JOBS[0], LOUD)),
    "a step of training": lambda attack: trained(attack.model),
    "a layer's weight": lambda attack: setattr(attack.model.b, "weight", nn.Parameter(torch.ones(1, 48))),
    "a buffer in place": lambda attack: moved_statistics(attack.model),
    "a module without tensors": lambda attack: setattr(attack.model, "act", nn.Tanh()),
    "normalisation": normalised,
    "targets": lambda attack: attack.set_mode_targeted_by_label(quiet=True),
    "training mode": lambda attack: attack.set_model_training_mode(True, batchnorm_training=True),
}


def check_fresh(attack, change, data):
    x, y = data
    attack(1 - x, y)
    change(attack)
    found = attack(x, y)
    attack.reset()
    assert torch.equal(found, attack(x, y))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_starts_anew(net, data, change):
    check_fresh(WorstTaskPGD(net, JOBS, eps=0.1), CHANGES[change], data)


TENSORS = {
    "another eps": lambda attack: setattr(attack, "eps", torch.tensor(0.2)),
    "eps in place": lambda attack: attack.eps.mul_(2),
    "another bound": lambda attack: setattr(attack, "bounds", (torch.zeros(3, 1, 1), torch.full((3, 1, 1), 2.0))),
    "a bound in place": lambda attack: attack.bounds[1].mul_(2),
    "an array in place": lambda attack: np.multiply(attack.alpha, 3, out=attack.alpha),
}


@pytest.mark.parametrize("change", TENSORS)
def test_so_does_a_change_of_a_tensor(net, data, change):
    bounds = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    attack = WorstTaskPGD(net, JOBS, eps=torch.tensor(0.1), bounds=bounds, alpha=np.full((1, 1, 1, 1), 0.05))
    check_fresh(attack, TENSORS[change], data)


def test_so_do_the_tasks_that_have_targets(net, data):
    x, y = data
    attack = MultiTaskPGD(net, JOBS, "worst-task", eps=0.1)
    attack.set_mode_targeted_by_label(quiet=True)
    attack(1 - x, y)
    with pytest.warns(RuntimeWarning, match=r"No targets of the task\(s\) \['v'\]"):
        found = attack(x, {"k": y["k"]})
        attack.reset()
        assert torch.equal(found, attack(x, {"k": y["k"]}))


def test_without_a_change_they_go_on(net, data):
    """So that the tests above can fail; whatever is set to what it was is no change."""
    x, y = data
    eps, bounds = torch.tensor(0.1), (torch.zeros(()), torch.ones(()))
    attack = WorstTaskPGD(net, JOBS, eps=eps, bounds=bounds)
    first = attack(x, y)
    attack.reset()
    attack(1 - x, y)
    attack.eps, attack.bounds = eps.clone(), tuple(bound.clone() for bound in bounds)
    attack.note = "no option"
    with torch.no_grad():
        net(x)
    net.train().eval()
    assert not torch.equal(attack(x, y), first)


class Counting(Net):
    """Writes to attributes and to a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, {}
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.seen[len(x)] = self.calls
        self.count += 1
        return super().forward(x)


def test_what_the_model_itself_writes_is_no_change(data):
    x, y = data
    net = Counting().eval()
    attack = WorstTaskPGD(net, JOBS, eps=0.1)
    first = attack(x, y)
    attack.reset()
    attack(1 - x, y)
    net(x)
    assert not torch.equal(attack(x, y), first)
    check_fresh(attack, lambda attack: setattr(net, "scale", -30.0), data)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("way", ["script", "trace"])
def test_weights_of_compiled_modules_are_looked_at(data, way):
    x, y = data
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()
    model = torch.jit.script(net) if way == "script" else torch.jit.trace(net, x)
    attack = WorstTaskPGD(model, JOBS[:1], eps=0.1)
    check_fresh(attack, lambda attack: next(model.parameters()).data.mul_(-1), (x, {"k": y["k"]}))
    attack(1 - x, {"k": y["k"]})
    assert attack._engine.session.samples == 2 * len(x), "without a change it goes on"


def test_training_mode_does_not_look_like_a_change(net, data):
    """A call in training mode moves the buffers, and puts them back."""
    x, y = data
    attack = WorstTaskPGD(net, JOBS, eps=0.1)
    attack.set_model_training_mode(True, batchnorm_training=True)
    first = attack(x, y)
    attack.reset()
    attack(1 - x, y)
    assert not torch.equal(attack(x, y), first)


def test_a_failed_call_counts_for_nothing(net, data):
    x, y = data
    expected = WorstTaskPGD(net, JOBS, eps=0.1)(x, y)
    attack = WorstTaskPGD(net, JOBS, eps=0.1)
    attack.observer = lambda record: 1 / (record.step - 5)
    with pytest.raises(ZeroDivisionError):
        attack(1 - x, y)
    attack.observer = None
    assert torch.equal(attack(x, y), expected)
