"""A small victim of five tasks, and its labels in every form that ART carries through."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import make_dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels

NAMES = ("seg", "kind", "depth", "tags", "age")
SHAPE = (3, 8, 8)

_PACK = {
    "dict": lambda parts: dict(zip(NAMES, parts, strict=True)),
    "tuple": tuple,
    "list": list,
    "namedtuple": lambda parts: namedtuple("Outputs", NAMES)(*parts),
    "dataclass": lambda parts: make_dataclass("Outputs", NAMES)(*parts),
    "namespace": lambda parts: SimpleNamespace(**dict(zip(NAMES, parts, strict=True))),
}


class Net(nn.Module):
    """Smooth, with batch norm and dropout, so that modes matter; ``container`` is what it returns its outputs in."""

    def __init__(self, container: str = "dict") -> None:
        super().__init__()
        self.container = container
        self.trunk = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout(0.5))
        self.dense = nn.Conv2d(6, 5, 1)
        self.flat = nn.Linear(6, 8)
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise RuntimeError("broken on purpose")
        hidden = self.trunk(4 * x - 2)
        dense, flat = 2 * self.dense(hidden), 4 * self.flat(hidden.mean((2, 3)))
        return _PACK[self.container]([dense[:, :4], flat[:, :3], dense[:, 4:] + 2, flat[:, 3:7], flat[:, 7:]])


def make_tasks():
    return [
        tasks.segmentation("seg", 4),
        tasks.classification("kind", 3),
        tasks.depth("depth"),
        tasks.multilabel("tags", 4),
        tasks.regression("age"),
    ]


@pytest.fixture
def net():
    """Some modules in training mode, some not, one parameter frozen, one with a gradient: a state to give back."""
    model = Net()
    model.trunk[1].eval()
    model.dense.bias.requires_grad_(False)
    model.flat.weight.grad = torch.ones_like(model.flat.weight)
    return model


@pytest.fixture
def make():
    """Estimators of the small victim."""

    def build(model=None, **kwargs):
        settings = {"clip_values": (0.0, 1.0), "device_type": "cpu", **kwargs}
        return PyTorchMultiTaskEstimator(Net() if model is None else model, make_tasks(), SHAPE, **settings)

    return build


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)


@pytest.fixture
def y():
    rng = np.random.default_rng(1)
    seg = rng.integers(0, 4, (6, 8, 8))
    seg[:, :2] = -1
    depth = rng.uniform(1, 3, (6, 1, 8, 8)).astype(np.float32)
    depth[0, :, 3] = 0
    return MultiTaskLabels(
        {
            "seg": seg,
            "kind": rng.integers(0, 3, 6),
            "depth": depth,
            "tags": rng.integers(0, 2, (6, 4)),
            "age": rng.normal(size=(6, 1)).astype(np.float32),
        }
    )


@pytest.fixture
def form_of():
    """The same labels in another form."""

    def convert(y: MultiTaskLabels, form: str):
        rows = [{name: y[name][i] for name in y.names} for i in range(len(y))]
        if form == "container":
            return y
        if form == "dict":
            return {name: y[name] for name in y.names}
        if form == "rows":
            return rows
        if form == "object array":
            array = np.empty(len(rows), dtype=object)
            array[:] = rows
            return array
        structured = np.empty(len(y), dtype=[(name, y[name].dtype, y[name].shape[1:]) for name in y.names])
        for name in y.names:
            structured[name] = y[name]
        return structured

    return convert


@pytest.fixture
def state_of():
    """Everything about a model that a loan must give back."""

    def snapshot(model):
        return (
            [module.training for module in model.modules()],
            [parameter.requires_grad for parameter in model.parameters()],
            [None if p.grad is None else p.grad.clone().tolist() for p in model.parameters()],
            {name: value.tolist() for name, value in model.state_dict().items()},
            [len(module._forward_hooks) for module in model.modules()],
        )

    return snapshot
