"""Prepared models and measured batch sizes, through both fronts."""

from __future__ import annotations

import copy
import logging
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import (
    MinMaxMultiTaskPGD,
    MultiTaskAutoAttack,
    MultiTaskPatch,
    MultiTaskPGD,
    UniversalMultiTaskPGD,
    WorstTaskPGD,
)
from art_mtl.core.batch_size import measure_batch_size
from art_mtl.evaluation import evaluate
from art_mtl.prepared import Preparation

torchattacks = pytest.importorskip("art_mtl.torchattacks")

JOBS = [tasks.segmentation("seg", 4), tasks.depth("depth")]
SETTINGS = {"norm": 2, "eps": 0.3, "max_iter": 4, "verbose": False}


class Net(nn.Module):
    """A trunk with a batch norm; counts its passes, and has memory for ``most`` samples."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 5, 1)
        self.passes, self.most = 0, 1000

    def forward(self, x):
        self.passes += 1
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        out = self.head(self.trunk(x))
        return {"seg": out[:, :4], "depth": out[:, 4:] + 2}


@pytest.fixture
def net():
    net = Net()
    net.trunk[1].running_mean.normal_(0, 0.3)
    net.trunk[1].running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture
def estimator(net):
    return PyTorchMultiTaskEstimator(
        net, JOBS, input_shape=(3, 8, 8), clip_values=(0, 1), preprocessing=(0.5, 0.25), device_type="cpu"
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    y = {"seg": rng.integers(0, 4, (6, 8, 8)), "depth": rng.uniform(1, 3, (6, 8, 8)).astype(np.float32)}
    return rng.uniform(size=(6, 3, 8, 8)).astype(np.float32), y


# --- prepared ---


@pytest.mark.parametrize("make", [WorstTaskPGD, MinMaxMultiTaskPGD, MultiTaskPGD])
def test_the_attack_is_the_same_and_runs_on_the_copy(make, estimator, net, data):
    expected = make(estimator, **SETTINGS).generate(*data)
    net.passes = 0
    attack = make(estimator, prepare="fp32,memory-efficient", **SETTINGS)
    np.testing.assert_allclose(attack.generate(*data), expected, atol=1e-4)
    assert net.passes == 0 and not net.trunk[1].training and net.trunk[0].weight.requires_grad


def test_so_it_is_with_torchattacks_and_its_normalisation(net, data):
    images, labels = torch.from_numpy(data[0]), data[1]
    results = []
    for prepare in (None, "fp32"):
        atk = torchattacks.MultiTaskPGD(net, JOBS, eps=0.3, steps=4, norm="L2", prepare=prepare)
        atk.set_normalization_used(mean=[0.5] * 3, std=[0.25] * 3)
        results.append(atk(atk.normalize(images), labels))
    torch.testing.assert_close(*results, atol=1e-3, rtol=0)
    atk.set_model_training_mode(model_training=True)
    with pytest.raises(ValueError, match="no training mode"):
        atk(images, labels)


def test_half_precision_degradations_nearly_as_much(estimator, data):
    attacks = {p: MultiTaskPGD(estimator, "equal", prepare=p, **SETTINGS) for p in ("exact", "bf16", "fp16")}
    results = evaluate(estimator, attacks, data, progress=False).results
    exact = results["exact"].values
    for name in ("bf16", "fp16"):
        np.testing.assert_allclose(results[name].values, exact, rtol=0.05)


def test_shared_perturbations_run_on_the_copy_too(estimator, net, data):
    for make in (UniversalMultiTaskPGD, lambda *a, **k: MultiTaskPatch(*a, size=(3, 3), **k)):
        net.passes = 0
        make(estimator, max_iter=2, batch_size=3, prepare="fp32", verbose=False).generate(*data)
        assert net.passes == 0


def test_the_copy_follows_the_model(estimator, net, data):
    attack = MultiTaskPGD(estimator, prepare="fp32", **SETTINGS)
    before = attack.generate(*data)
    np.testing.assert_array_equal(attack.generate(*data), before)
    with torch.no_grad():
        net.head.weight.mul_(torch.linspace(-2, 2, 5)[:, None, None, None])
    after = attack.generate(*data)
    np.testing.assert_allclose(after, MultiTaskPGD(estimator, **SETTINGS).generate(*data), atol=1e-4)
    assert abs(after - before).max() > 0.01


def test_an_attack_with_a_copy_can_be_copied(estimator, data):
    attack = MultiTaskPGD(estimator, prepare=Preparation(memory_efficient=True), **SETTINGS)
    result = attack.generate(*data)
    for other in (copy.deepcopy(attack), pickle.loads(pickle.dumps(attack))):
        np.testing.assert_array_equal(other.generate(*data), result)


def test_unknown_preparations_are_named(estimator, net):
    for make in (
        lambda: MultiTaskPGD(estimator, prepare="int8"),
        lambda: torchattacks.MultiTaskPGD(net, JOBS, prepare="x"),
    ):
        with pytest.raises(ValueError, match="Parameter `prepare` should be"):
            make()
    attack = MultiTaskPGD(estimator)
    with pytest.raises(ValueError, match="Parameter `prepare`"):
        attack.set_params(prepare="fp8")
    assert attack.prepare is None


# --- batch sizes ---


def test_the_batch_size_is_measured_once_and_recorded(estimator, net, data, caplog, monkeypatch):
    monkeypatch.setattr("art_mtl.core.batch_size._seconds", lambda forward, x: 1 + len(x) / 100)
    attack = WorstTaskPGD(estimator, batch_size="auto", prepare="fp32", **SETTINGS)
    assert attack.measured is None
    with caplog.at_level(logging.INFO, "art_mtl"):
        result = attack.generate(*data)
        attack.generate(*data)
    assert (attack.measured.size, attack.measured.reason) == (6, "samples")
    assert list(attack.measured.rates) == [1, 2, 4, 6]
    assert len([record for record in caplog.records if record.message.startswith("Batch size 6 (samples)")]) == 1
    np.testing.assert_array_equal(
        result, WorstTaskPGD(estimator, batch_size=6, prepare="fp32", **SETTINGS).generate(*data)
    )
    more = np.concatenate([data[0]] * 2), {name: np.concatenate([labels] * 2) for name, labels in data[1].items()}
    attack.generate(*more)
    assert attack.measured.size == 12, "there were no more samples than 6 to measure with"
    attack.set_params(batch_size="auto")
    assert attack.measured is None


@pytest.mark.parametrize(
    "seconds, most, size, reason",
    [
        (lambda n: 0.01 * n, 64, 1, "gain"),
        (lambda n: 1 if n <= 8 else n / 8, 64, 8, "gain"),
        (lambda n: 1, 10, 10, "samples"),
        (lambda n: 1 + 0.9 * n, 3, 3, "samples"),
    ],
)
def test_the_batch_grows_until_the_gain_or_the_samples_end(seconds, most, size, reason, monkeypatch):
    monkeypatch.setattr("art_mtl.core.batch_size._seconds", lambda forward, x: seconds(len(x)))
    found = measure_batch_size(lambda x: [x * 2], torch.rand(most, 1, 4, 4), torch.device("cpu"))
    assert (found.size, found.reason) == (size, reason)


def test_it_grows_until_memory_ends(net, monkeypatch):
    monkeypatch.setattr("art_mtl.core.batch_size._timed", lambda run, device: run() or 1.0)
    net.most = 5

    def forward(x):
        return list(net(x).values())

    assert measure_batch_size(forward, torch.rand(20, 3, 8, 8), torch.device("cpu")).reason == "memory"
    net.most = 1000
    monkeypatch.setattr("art_mtl.core.batch_size._free_memory", lambda: 50_000)
    found = measure_batch_size(forward, torch.rand(20, 3, 8, 8), torch.device("cpu"))
    assert (found.size, found.reason) == (4, "memory")
    net.most = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        measure_batch_size(forward, torch.rand(20, 3, 8, 8), torch.device("cpu"))


def test_memory_that_runs_out_changes_no_result(estimator, net, data):
    attack = WorstTaskPGD(estimator, batch_size=4, **SETTINGS)
    expected, outputs = attack.generate(*data), estimator.predict(data[0])
    net.most = 3
    np.testing.assert_allclose(attack.generate(*data), expected, atol=1e-6)
    for name in ("seg", "depth"):
        np.testing.assert_allclose(estimator.predict(data[0])[name], outputs[name], atol=1e-6)


@pytest.mark.parametrize("size", ["automatic", 0, -1, 1.5, True, None])
def test_unknown_batch_sizes_are_named(size, estimator):
    wrong = ValueError if isinstance(size, int) and not isinstance(size, bool) else TypeError
    with pytest.raises(wrong, match="Parameter `batch_size` should be an integer of at least 1, or 'auto'"):
        MultiTaskPGD(estimator, batch_size=size)


def test_a_batch_that_is_a_step_is_not_measured(estimator):
    with pytest.raises(TypeError, match="integer of at least 1. Found 'auto'"):
        UniversalMultiTaskPGD(estimator, batch_size="auto")


def test_an_ensemble_steps_on_the_copy_and_judges_by_the_model(estimator, net, data):
    data = data[0][:1], {name: labels[:1] for name, labels in data[1].items()}
    for attack in (
        lambda how: MultiTaskAutoAttack(estimator, eps=0.1, version="fast", prepare=how, verbose=False).generate(*data),
        lambda how: torchattacks.MultiTaskAutoAttack(net, JOBS, eps=0.1, version="fast", prepare=how)(
            torch.from_numpy(data[0]), data[1]
        ),
    ):
        passes = {}
        for how in ("exact", "fp32"):
            net.passes = 0
            assert np.abs(np.asarray(attack(how)) - data[0]).max() <= 0.1 + 1e-6
            passes[how] = net.passes
        assert 0 < passes["fp32"] < passes["exact"] / 10
