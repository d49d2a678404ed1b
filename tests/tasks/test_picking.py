"""Which part of a model's output belongs to a task: surplus outputs, nests, outputs of Hugging Face's kind."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import art_mtl.torchattacks as ta
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.structure import join_rows, map_tensors, take_rows, tensors_in

A, B, C = (torch.full((2, 4), float(n)) for n in range(3))
SURPLUS = "3 outputs for 2 tasks; say which with output="


class Net(nn.Module):
    """A main head, an auxiliary head of the same shape, and another task's."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(48, 4) for _ in range(3))

    def forward(self, x):
        return [head(x.flatten(1)) for head in self.heads]


def _pair(**which: Any) -> list[tasks.Task]:
    return [tasks.classification(name, 4, output=which.get(name)) for name in ("colour", "shape")]


@pytest.mark.parametrize("outputs", [(A, B, C), [A, B, C]])
def test_surplus_outputs_bind_to_nobody(outputs):
    first, second = _pair()
    with pytest.raises(ValueError, match=SURPLUS):
        second.select(outputs, 1, 2)
    with pytest.raises(ValueError, match="2 outputs for 1 task;"):
        first.select(outputs[:2], 0, 1)
    assert first.select(outputs[:2], 0, 2) is A
    assert _pair(shape=2)[1].select(outputs, 1, 2) is C


def test_every_way_in_says_so():
    x, y = np.full((2, 3, 4, 4), 0.5, np.float32), {"colour": np.array([0, 1]), "shape": np.array([2, 3])}
    net = Net()
    estimator = PyTorchMultiTaskEstimator(net, _pair(), (3, 4, 4), clip_values=(0, 1), device_type="cpu")
    attack = ta.MultiTaskPGD(net, _pair(), eps=0.1, steps=1)
    for run in (
        lambda: estimator.predict(x),
        lambda: estimator.compute_losses(x, y),
        lambda: MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False).generate(x, y),
        lambda: estimator.task_view("shape").predict(x),
        lambda: attack(torch.tensor(x), y),
        lambda: attack.predictions(torch.tensor(x)),
    ):
        with pytest.raises(ValueError, match=SURPLUS):
            run()
    chosen = _pair(colour=0, shape=2)
    estimator = PyTorchMultiTaskEstimator(net, chosen, (3, 4, 4), clip_values=(0, 1), device_type="cpu")
    with torch.no_grad():
        expected = net(torch.tensor(x))[2].numpy()
    np.testing.assert_array_equal(estimator.predict(x)["shape"], expected)
    np.testing.assert_array_equal(estimator.task_view("shape").predict(x), expected)


def test_nests_are_for_kinds_that_take_them():
    nest = {"boxes": [A, {"scores": B}]}
    with pytest.raises(ValueError, match="'colour' should be a tensor. Found a mapping"):
        _pair()[0].select([nest, A], 0, 2)
    task = tasks.custom("colour", lambda output, target: output["boxes"][0].sum(1))
    assert task.select([nest, A], 0, 2) is nest
    with pytest.raises(ValueError, match="should be a tensor, or hold tensors. Found list of 1|a list of 1"):
        task.select([["text"], A], 0, 2)


@dataclass
class ModelOutput(OrderedDict):
    """What Hugging Face's models return: a dataclass and a mapping, without the fields that are None."""

    seg: torch.Tensor | None = None
    depth: torch.Tensor | None = None
    hidden: tuple[torch.Tensor, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                super().__setitem__(field.name, getattr(self, field.name))

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __reduce__(self):
        return ModelOutput, tuple(getattr(self, field.name) for field in fields(self))


def test_an_output_that_is_a_dataclass_and_a_mapping():
    output = ModelOutput(seg=A, hidden=(B, C))
    assert tasks.classification("seg", 4).select(output, 1, 2) is A
    assert tasks.classification("x", 4, output=0).select(output, 1, 2) is A
    with pytest.raises(ValueError, match="mapping with the keys \\['seg', 'hidden'\\]"):
        tasks.depth("depth").select(output, 0, 1)
    changed = map_tensors(output, lambda tensor: tensor + 1)
    assert isinstance(changed, ModelOutput) and len(tensors_in(output)) == 3
    assert torch.equal(changed.seg, B) and torch.equal(changed["seg"], B) and torch.equal(changed["hidden"][1], C + 1)
    assert output.seg is A and output["seg"] is A and changed.depth is None
    joined = join_rows([take_rows(output, slice(0, 1)), take_rows(output, slice(1, 2))])
    assert torch.equal(joined.hidden[0], B) and torch.equal(joined["seg"], A)


def test_parts_of_other_structures_do_not_join():
    with pytest.raises(ValueError, match="same structure. Found \\[1, 2\\] tensors"):
        join_rows([{"a": A}, {"a": A, "b": B}])
