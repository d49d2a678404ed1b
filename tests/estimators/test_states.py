"""What an estimator leaves behind in every state a model or a caller can be in: threads, modes, recurrence, copies."""

from __future__ import annotations

import copy
import io
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.estimators import PyTorchMultiTaskEstimator

CALLS = {
    "predict": lambda e, x, y: e.predict(x)["kind"],
    "own_labels": lambda e, x, y: e.own_labels(x)["kind"],
    "loss_gradient": lambda e, x, y: e.loss_gradient(x, y),
    "compute_losses": lambda e, x, y: e.compute_losses(x, y)["depth"],
    "get_activations": lambda e, x, y: e.get_activations(x, "trunk.2"),
    "framework": lambda e, x, y: e.get_activations(torch.as_tensor(x), "trunk.2", framework=True).detach().numpy(),
}


# --- modes ---


@pytest.mark.parametrize("call", ["predict", "loss_gradient"])
def test_statistics_come_back_after_training_mode(make, net, x, y, state_of, call):
    net.train()
    before = state_of(net)
    arguments = (x,) if call == "predict" else (x, y)
    seen = []
    net.trunk[1].register_forward_hook(lambda module, inputs, output: seen.append(module.running_mean.clone()))
    before = state_of(net)
    getattr(make(net), call)(*arguments, training_mode=True)
    assert state_of(net) == before and not torch.equal(seen[0], net.trunk[1].running_mean)
    net.fail = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        getattr(make(net), call)(*arguments, training_mode=True)
    assert state_of(net) == before


def test_training_mode_is_what_the_models_own_train_makes_of_it(make, net, x):
    """Many segmentation nets keep batch norm frozen in their `train`."""

    def train(mode=True):
        nn.Module.train(net, mode)
        net.trunk[1].eval()
        return net

    net.train = train
    modes = []
    net.trunk.register_forward_hook(lambda module, inputs, output: modes.append([m.training for m in module]))
    make(net.eval()).predict(x, training_mode=True)
    assert modes == [[True, False, True, True]] and not net.training


@pytest.mark.parametrize("given", [True, False])
def test_an_attack_without_labels_leaves_a_model_in_training_mode_as_it_was(make, net, x, state_of, given):
    net.train(given)
    before, random = state_of(net), torch.get_rng_state()
    for prepare in (None, "fp32"):
        MultiTaskPGD(make(net), eps=0.1, max_iter=2, prepare=prepare, verbose=False).generate(x)
        assert state_of(net) == before and torch.equal(random, torch.get_rng_state())


# --- recurrent ---


class Recurrent(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.layer, self.norm = lstm(10, 6, num_layers=2, dropout=0.5, batch_first=True), nn.BatchNorm1d(6)
        self.drop, self.head = nn.Dropout(), nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.layer(x)[0][:, -1])))


@pytest.fixture
def recurrent(ruled_lstm):
    net = Recurrent(ruled_lstm)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    return PyTorchMultiTaskEstimator(
        net, tasks.classification("k", 4), (12, 10), (0, 1), optimizer=optimizer, device_type="cpu"
    )


def test_recurrent_models_are_differentiated_and_predict_as_in_evaluation_mode(recurrent, state_of):
    net = recurrent.model
    x, y = np.random.default_rng(0).uniform(size=(4, 12, 10)).astype(np.float32), np.arange(4)
    before, plain = state_of(net), copy.deepcopy(net).eval()
    np.testing.assert_allclose(recurrent.predict(x)["k"], plain(torch.from_numpy(x)).detach(), atol=1e-6)
    gradient = recurrent.loss_gradient(x, y)
    plain.layer.__class__ = nn.LSTM
    leaf = torch.from_numpy(x).requires_grad_()
    loss = nn.functional.cross_entropy(plain(leaf), torch.from_numpy(y), reduction="sum")
    np.testing.assert_allclose(gradient, torch.autograd.grad(loss, leaf)[0], atol=1e-6)
    torch.autograd.grad(recurrent.compute_loss(leaf, y, "sum"), leaf)
    torch.autograd.grad(recurrent.get_activations(leaf, "norm", framework=True).sum(), leaf)
    assert state_of(net) == before and net.layer.dropout == 0.5


@pytest.mark.parametrize("prepare", [None, "fp32", "bf16"])
def test_recurrent_models_are_attacked(recurrent, state_of, prepare):
    x, y = np.random.default_rng(0).uniform(size=(4, 12, 10)).astype(np.float32), np.arange(4)
    before = state_of(recurrent.model)
    loss = recurrent.compute_loss(x, y, "sum")
    found = MultiTaskPGD(recurrent, eps=0.1, max_iter=5, prepare=prepare, verbose=False).generate(x, y)
    assert recurrent.compute_loss(found, y, "sum") > loss + 0.01
    assert state_of(recurrent.model) == before and recurrent.model.layer.dropout == 0.5


@pytest.mark.parametrize("training_mode", [True, False])
def test_recurrent_models_are_trained(recurrent, training_mode):
    x, seen = np.random.default_rng(0).uniform(size=(4, 12, 10)).astype(np.float32), []
    recurrent.model.eval()
    recurrent.model.layer.register_forward_hook(lambda module, inputs, output: seen.append(module.dropout))
    recurrent.fit(x, np.arange(4), nb_epochs=1, training_mode=training_mode)
    assert seen == [0.5 if training_mode else 0.0] and recurrent.model.layer.dropout == 0.5
    assert not recurrent.model.layer.training


# --- threads ---


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.layer = nn.BatchNorm2d(3), nn.Dropout(), nn.Linear(48, 4)

    def forward(self, x):
        time.sleep(0.005)
        return {"k": self.layer(self.drop(self.norm(x)).flatten(1))}


def test_attacks_in_two_threads_on_one_model_are_as_alone(state_of):
    torch.manual_seed(0)
    net = Slow().train()
    make = lambda: PyTorchMultiTaskEstimator(net, tasks.classification("k", 4), (3, 4, 4), (0, 1), device_type="cpu")  # noqa: E731
    one, other = make(), make()
    x, y = np.random.default_rng(0).uniform(size=(6, 3, 4, 4)).astype(np.float32), np.arange(6) % 4

    def attack(estimator, steps):
        return MultiTaskPGD(estimator, eps=0.2, max_iter=steps, verbose=False).generate(x, y)

    jobs = [(one, 2), (one, 12), (other, 5), (one, 7)]
    before, alone = state_of(net), [attack(*job) for job in jobs]
    for _ in range(2):
        with ThreadPoolExecutor(len(jobs)) as pool:
            together = list(pool.map(lambda job: attack(*job), jobs))
        assert all(np.array_equal(found, expected) for found, expected in zip(together, alone, strict=True))
        assert state_of(net) == before


@pytest.mark.parametrize("prepare", ["fp32", "bf16,memory-efficient"])
def test_so_are_prepared_ones(make, net, x, y, state_of, prepare):
    estimator = make(net)

    def attack(steps):
        return MultiTaskPGD(estimator, eps=0.2, max_iter=steps, prepare=prepare, verbose=False).generate(x, y)

    before, alone = state_of(net), [attack(steps) for steps in (2, 9)]
    estimator._prepared.clear()
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(attack, (2, 9)))
    assert all(np.array_equal(found, expected) for found, expected in zip(together, alone, strict=True))
    assert state_of(net) == before


def test_everything_at_once_in_many_threads(make, net, x, y, state_of):
    net.train()
    estimator = make(net)
    before = state_of(net)
    alone = {name: call(estimator, x, y) for name, call in CALLS.items()}

    def work(name):
        return name, [CALLS[name](estimator, x, y) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for name, found in pool.map(work, list(CALLS) * 2):
            assert all(np.array_equal(one, alone[name]) for one in found), name
    assert state_of(net) == before


def test_activations_are_those_of_the_thread_that_asks(make, net, x):
    estimator = make(net)
    expected, stop = estimator.get_activations(x[:1], "trunk.2"), threading.Event()

    def disturb():
        while not stop.is_set():
            estimator.predict(x)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(disturb)
        try:
            for _ in range(30):
                np.testing.assert_array_equal(estimator.get_activations(x[:1], "trunk.2"), expected)
        finally:
            stop.set()
        future.result()


def test_an_attack_inside_the_observer_of_another(make, net, x, y, state_of):
    net.train()
    estimator, inner = make(net), []
    outer, other = (MultiTaskPGD(estimator, eps=0.1, max_iter=3, verbose=False) for _ in range(2))
    before, alone = state_of(net), outer.generate(x, y)

    def observe(record):
        inner.append(other.generate(x, y))
        estimator.predict(x, training_mode=True)

    outer.observer = observe
    np.testing.assert_array_equal(outer.generate(x, y), alone)
    assert len(inner) == 3 and all(np.array_equal(found, alone) for found in inner) and state_of(net) == before


# --- inference mode ---


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("form", ["array", "tensor", "tensor made inside"])
def test_inside_inference_mode_everything_works(make, net, x, y, state_of, call, form):
    if call == "framework" and form == "array":
        form = "tensor"
    estimator, before = make(net), state_of(net)
    expected = CALLS[call](estimator, x, y)
    given = x if form == "array" else torch.from_numpy(x)
    with torch.inference_mode():
        given = given.clone() if form == "tensor made inside" else given
        found = CALLS[call](estimator, given, y)
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    np.testing.assert_array_equal(np.asarray(found), expected)
    assert state_of(net) == before
    np.testing.assert_array_equal(np.asarray(CALLS[call](estimator, given, y)), expected)  # Made inside, used outside.


def test_labels_made_in_inference_mode_can_be_learnt_and_attacked(make, net, x, y):
    estimator = make(net, optimizer=torch.optim.SGD(net.parameters(), 0.1))
    expected = estimator.loss_gradient(x, y)
    with torch.inference_mode():
        labels = {name: torch.as_tensor(y[name]).clone() for name in y.names}
        np.testing.assert_array_equal(estimator.loss_gradient(x, labels), expected)
    np.testing.assert_array_equal(estimator.loss_gradient(x, labels), expected)
    before = estimator.compute_loss(x, y, "mean")
    with torch.inference_mode():
        estimator.fit(x, labels, nb_epochs=3, training_mode=False)
    assert estimator.compute_loss(x, y, "mean") < before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_can_labels_that_a_task_takes_as_they_are(dtype):
    task = tasks.custom("r", loss=lambda output, target: (output * target).sum(1))
    estimator = PyTorchMultiTaskEstimator(nn.Linear(3, 2).to(dtype), task, (3,), device_type="cpu")
    with torch.inference_mode():
        labels = torch.arange(8, dtype=dtype).reshape(4, 2)
    x = torch.ones(4, 3, dtype=dtype)
    torch.testing.assert_close(estimator.loss_gradient(x, labels), labels @ estimator.model.weight.detach())


def test_no_graph_is_made_where_none_is_wanted(make, x, y):
    estimator, leaf = make(), torch.from_numpy(x).requires_grad_()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert not estimator.compute_loss(leaf, y, "sum").requires_grad
            assert not estimator.get_activations(leaf, "trunk", framework=True).requires_grad
            assert not torch.is_grad_enabled()


def test_a_model_made_in_inference_mode_predicts_and_names_the_remedy(x, y):
    with torch.inference_mode():
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    net.train()
    estimator = PyTorchMultiTaskEstimator(
        net, tasks.classification("k", 3), (3, 8, 8), (0, 1),
        optimizer=torch.optim.SGD(net.parameters(), 0.1), device_type="cpu",
    )  # fmt: skip
    labels, leaf = np.arange(6) % 3, torch.from_numpy(x).requires_grad_()
    assert estimator.predict(x)["k"].shape == (6, 3) and estimator.compute_loss(x, labels).shape == (6,)
    assert estimator.get_activations(x, "1").shape == (6, 3)
    for call in (
        lambda: estimator.loss_gradient(x, labels),
        lambda: estimator.compute_loss(leaf, labels),
        lambda: estimator.get_activations(leaf, "1", framework=True),
        lambda: estimator.fit(x, labels),
        lambda: MultiTaskPGD(estimator, max_iter=2, verbose=False).generate(x, labels),
    ):
        with pytest.raises(ValueError, match=r"outside torch.inference_mode\(\).*copy.deepcopy"):
            call()
        assert net.training and [p.requires_grad for p in net.parameters()] == [True, True]
    estimator.set_params(model=copy.deepcopy(net), optimizer=None)
    assert np.abs(estimator.loss_gradient(x, labels)).sum() > 0


# --- copies ---


def small():
    """Of torch's own modules, so that it can be pickled from anywhere."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    return PyTorchMultiTaskEstimator(
        net, tasks.classification("k", 3), (3, 8, 8), (0, 1),
        optimizer=torch.optim.Adam(net.parameters()), preprocessing=(0.4, 0.2), device_type="cpu",
    )  # fmt: skip


def saved(estimator):
    file = io.BytesIO()
    torch.save(estimator, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"pickle": lambda e: pickle.loads(pickle.dumps(e)), "deepcopy": copy.deepcopy, "torch.save": saved}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("prepare", [None, "fp32", "bf16,memory-efficient"])
def test_an_estimator_can_be_copied_before_and_after_a_prepared_call(x, how, prepare):
    estimator, y = small(), np.arange(6) % 3

    def attack(which):
        return MultiTaskPGD(which, eps=0.1, max_iter=2, prepare=prepare, verbose=False).generate(x, y)

    early = COPIES[how](estimator)
    expected = attack(estimator)
    late = COPIES[how](estimator)
    for twin in (early, late):
        assert repr(twin) == repr(estimator) and twin.model is not estimator.model
        np.testing.assert_array_equal(attack(twin), expected)
        np.testing.assert_array_equal(twin.get_activations(x, 0), estimator.get_activations(x, "0"))
        twin.fit(x, y, nb_epochs=1)
        assert not np.array_equal(twin.predict(x)["k"], estimator.predict(x)["k"])
        assert not np.array_equal(attack(twin), expected)
    np.testing.assert_array_equal(attack(estimator), expected)


def test_a_clone_after_a_prepared_call_starts_afresh(x):
    estimator, y = small(), np.arange(6) % 3
    estimator.forward_prepared("fp32", torch.from_numpy(x))
    clone = estimator.clone_for_refitting()
    assert type(clone) is type(estimator) and not torch.equal(clone.model[0].weight, estimator.model[0].weight)
    run = clone.forward_prepared("fp32", torch.from_numpy(x))
    np.testing.assert_allclose(run(torch.from_numpy(x))[0], clone.predict(x)["k"], atol=1e-5)
    clone.fit(x, y, nb_epochs=1)


def test_attention_is_drawn_anew_too():
    """Its method of drawing weights has an underscore before its name."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.TransformerEncoderLayer(8, 2, batch_first=True))
    estimator = PyTorchMultiTaskEstimator(net, tasks.classification("k", 8), (3, 8, 8), device_type="cpu")
    clone = estimator.clone_for_refitting()
    same = [name for name, p in net.named_parameters() if torch.equal(p, dict(clone.model.named_parameters())[name])]
    assert all("bias" in name or "norm" in name for name in same)


# --- where height and width stand ---


@pytest.mark.parametrize(
    ("shape", "channels_first", "axes"),
    [
        ((3, 8, 9), True, (2, 3)),
        ((8, 9, 3), False, (1, 2)),
        ((3, 5, 8, 9), True, (3, 4)),
        ((5, 8, 9, 3), False, (2, 3)),
        ((16,), True, None),
        ((3, 16), True, None),
        ((16, 3), False, None),
    ],
)
def test_image_axes(shape, channels_first, axes):
    estimator = PyTorchMultiTaskEstimator(
        nn.Flatten(), tasks.regression("r"), shape, channels_first=channels_first, device_type="cpu"
    )
    assert estimator.image_axes == axes and estimator.channels_first is channels_first
    if axes is not None:
        assert [(1, *shape)[axis] for axis in axes] == [8, 9]
