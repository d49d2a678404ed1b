"""A DataLoader, or a data set, wherever data is taken: the same as the arrays in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, UniversalMultiTaskPGD
from art_mtl.data.sources import check_one_sample
from art_mtl.defences import MultiTaskAdversarialTrainer
from art_mtl.evaluation import Victim, diagnose, evaluate
from art_mtl.labels import MultiTaskLabels
from art_mtl.torchattacks import MultiTaskPatch
from art_mtl.torchattacks import UniversalMultiTaskPGD as TorchUniversal

N, JOBS = 10, [tasks.classification("kind", 3), tasks.regression("size")]
X = np.random.default_rng(0).uniform(size=(N, 1, 4, 4)).astype(np.float32)
Y = {"kind": np.arange(N) % 3, "size": X.mean((1, 2, 3))}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
        with torch.no_grad():
            self.head.weight.copy_(torch.linspace(-1, 1, 64).view(4, 16).sin())
            self.head.bias.zero_()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.head(x.flatten(1))
        return {"kind": found[:, :3], "size": found[:, 3]}


class Samples(Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int):
        return torch.from_numpy(X[i]), {name: values[i] for name, values in Y.items()}


def loader() -> DataLoader:
    return DataLoader(Samples(), batch_size=4, shuffle=True)


FORMS = pytest.mark.parametrize("data", [loader(), Samples()], ids=["loader", "data set"])


def estimator(lr: float | None = None) -> PyTorchMultiTaskEstimator:
    net = Net()
    optimizer = None if lr is None else torch.optim.SGD(net.parameters(), lr=lr)
    return PyTorchMultiTaskEstimator(net, JOBS, (1, 4, 4), (0, 1), optimizer=optimizer)


@FORMS
def test_evaluate_and_victim(data):
    asked = {"eps": [0.1], "steps": 2, "progress": False}
    expected = evaluate((Net(), JOBS), ["equal"], (X, Y), **asked)["equal"].deltas
    for found in (
        evaluate((Net(), JOBS), ["equal"], data, **asked),
        evaluate(estimator(), ["equal"], data=data, **asked),
        evaluate(Victim.of(Net(), JOBS, data), ["equal"], **asked),
    ):
        assert found["equal"].deltas == expected


@FORMS
def test_diagnose(data):
    model = estimator()
    attack = MultiTaskPGD(model, "equal", eps=0.1, max_iter=2, verbose=False)
    asked = {"queries": 2, "limit": 6}
    found, expected = diagnose(model, attack, data, **asked), diagnose(model, attack, X, Y, **asked)
    assert found.delta_wor == expected.delta_wor and found.samples == 6
    assert [(one.name, one.status) for one in found.checks] == [(one.name, one.status) for one in expected.checks]


@FORMS
@pytest.mark.parametrize("adversarial", [False, True])
def test_training(data, adversarial):
    weights = []
    for given in ((X, Y), (data,)):
        torch.manual_seed(0)
        model = estimator(lr=0.1)
        if adversarial:
            MultiTaskAdversarialTrainer(model, eps=0.1, max_iter=2, nb_epochs=2, batch_size=4).fit(*given)
        else:
            model.fit(*given, nb_epochs=2, batch_size=4)
        weights.append(model.model.head.weight.detach().clone())
    torch.testing.assert_close(*weights, rtol=0, atol=0)


@FORMS
def test_universal_perturbations_and_patches(data):
    model = estimator()
    one, other = (UniversalMultiTaskPGD(model, eps=0.1, max_iter=2, batch_size=4, verbose=False).fit(*given)
                  for given in ((X, Y), (data,)))  # fmt: skip
    np.testing.assert_array_equal(one, other)
    for made in (
        lambda: TorchUniversal(Net(), JOBS, eps=0.1, steps=2, batch_size=4),
        lambda: MultiTaskPatch(Net(), JOBS, size=(2, 2), steps=2, shared=True),
    ):
        torch.testing.assert_close(made().fit(torch.from_numpy(X), Y), made().fit(data), rtol=0, atol=0)


def test_labels_beside_a_loader_are_told():
    model = estimator(lr=0.1)
    attack = MultiTaskPGD(model, "equal", eps=0.1, max_iter=1, verbose=False)
    for call in (
        lambda: model.fit(loader(), Y),
        lambda: MultiTaskAdversarialTrainer(model).fit(loader(), Y),
        lambda: diagnose(model, attack, loader(), Y),
        lambda: Victim.of(Net(), JOBS, loader(), Y),
        lambda: UniversalMultiTaskPGD(model, eps=0.1, verbose=False).fit(Samples(), Y),
        lambda: TorchUniversal(Net(), JOBS, eps=0.1).fit(loader(), Y),
    ):
        with pytest.raises(TypeError, match="`y` should be None where `x` is a (DataLoader|Samples)"):
            call()


@pytest.mark.parametrize("form", [list, iter])
def test_an_iterable_of_batches_is_told(form):
    batches = form(list(loader()))
    with pytest.raises(ValueError, match=r"should hold samples. Found a batch of 4, .*'kind' of shape \(4,\)"):
        evaluate((Net(), JOBS), ["equal"], batches, eps=[0.1], progress=False)


def test_single_samples_are_no_batches():
    normals = [tasks.surface_normals("n")]
    label = np.zeros((1, 3, 3, 3), np.float32)
    label[:, 0] = 1.0
    check_one_sample((np.zeros((1, 3, 3, 3), np.float32), MultiTaskLabels({"n": label})), normals)
    Victim.of(Net(), JOBS, Samples())
