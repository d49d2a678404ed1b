"""A kind of another package: ragged labels, nested outputs. What it takes is in this file alone."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.metrics import Metric
from art_mtl.structure import map_tensors
from art_mtl.tasks import RaggedTarget, Task

SLOTS = 4


def _value(statistics: Tensor) -> Tensor:
    return statistics[..., 0] / statistics[..., 1].clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Points(Task):
    """Points of an image, as many as there are: each should lie near one of the predicted points."""

    kind: ClassVar[str] = "points"
    radius: float

    @cached_property
    def metric(self) -> Metric:
        return Metric(name="found", higher_is_better=True, value=_value, torchmetric=None)

    @property
    def score_floor(self) -> float:
        return 0.01

    @property
    def loss_floor(self) -> float:
        return 0.01

    def targets(self, y: Any, present: Any = None) -> RaggedTarget:
        """``(N, M, 2)``, rows of NaN where an image has fewer."""
        rows = torch.as_tensor(y).float()
        values = tuple(row[~row.isnan().any(1)] for row in rows)
        known = torch.ones(len(rows), dtype=torch.bool) if present is None else torch.as_tensor(present)
        return RaggedTarget(values, known & torch.tensor([len(v) > 0 for v in values]))

    def loss(self, output: Any, target: Any) -> Tensor:
        found = [
            self._distances(o, t).square().sum() / max(len(t), 1)
            for o, t in zip(output["xy"], target.values, strict=True)
        ]
        return torch.where(target.has_label, torch.stack(found), 0.0)

    def score(self, output: Any, target: Any) -> Tensor:
        near = [torch.exp(-self._distances(o, t) / self.radius).sum() / max(len(t), 1)
                for o, t in zip(output["xy"], target.values, strict=True)]  # fmt: skip
        return torch.where(target.has_label, torch.stack(near), 0.0)

    def statistics(self, output: Any, target: Any) -> Tensor:
        rows = []
        for o, t, known in zip(output["xy"].detach(), target.values, target.has_label, strict=True):
            hits = (self._distances(o, t) < self.radius).sum()
            rows.append(torch.stack([hits, torch.tensor(len(t))]) * known)
        return torch.stack(rows).double()

    @staticmethod
    def _distances(output: Tensor, points: Tensor) -> Tensor:
        """To the nearest prediction, ``(M,)``."""
        return (output[None] - points[:, None]).square().sum(2).add(1e-12).sqrt().amin(1)


class Net(nn.Module):
    """A class, and a nest: four points and a score of each, the latter unused."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh())
        self.kind, self.points, self.score = nn.Linear(16, 3), nn.Linear(16, 2 * SLOTS), nn.Linear(16, SLOTS)

    def forward(self, x: Tensor) -> dict[str, Any]:
        hidden = self.trunk(x)
        nest = {"xy": 4 * self.points(hidden).view(-1, SLOTS, 2), "rest": [self.score(hidden), "cosine"]}
        return {"kind": 3 * self.kind(hidden), "points": nest}


TASK = Points(name="points", radius=0.3)


@pytest.fixture
def estimator():
    return PyTorchMultiTaskEstimator(
        Net(), [tasks.classification("kind", 3), TASK], (3, 4, 4), clip_values=(0, 1), device_type="cpu"
    )


@pytest.fixture
def data(estimator):
    """Points on the model's own predictions: 0 to 3 an image."""
    x = np.random.default_rng(0).uniform(size=(6, 3, 4, 4)).astype(np.float32)
    with torch.no_grad():
        out = estimator.model(torch.tensor(x))
    points = np.full((6, 5, 2), np.nan, np.float32)
    for i, count in enumerate([3, 1, 0, 2, 3, 1]):
        points[i, :count] = out["points"]["xy"][i, :count].numpy() + 0.01
    return x, {"kind": out["kind"].argmax(1).numpy(), "points": points}


def test_targets_are_indexed_mapped_and_moved(data):
    target = TASK.targets(data[1]["points"])
    assert len(target) == 6 and target.has_label.tolist() == [True, True, False, True, True, True]
    assert [len(v) for v in target[torch.tensor([3, 0])].values] == [2, 3]
    assert [len(v) for v in target[target.has_label].values] == [3, 1, 2, 3, 1]
    assert [len(v) for v in target[1:4].to("cpu").values] == [1, 0, 2]
    assert target.map(lambda t: t.double() if t.is_floating_point() else t).values[0].dtype == torch.float64
    with pytest.raises(ValueError, match="`has_label` should be boolean of shape \\(6,\\)"):
        RaggedTarget(target.values, target.has_label[:2])


def test_the_task_is_a_value():
    assert Points(name="points", radius=0.3) == TASK == copy.deepcopy(TASK) == pickle.loads(pickle.dumps(TASK))
    assert hash(TASK) == hash(copy.deepcopy(TASK)) and Points(name="points", radius=0.4) != TASK


def test_nests_are_cut_and_joined(estimator, data):
    output = TASK.select(estimator.model(torch.tensor(data[0])), 1, 2)
    parts = [TASK.slice_output(output, slice(0, 4)), TASK.slice_output(output, torch.tensor([4, 5]))]
    joined = TASK.join_outputs(parts)
    assert torch.equal(joined["xy"], output["xy"]) and joined["rest"][1] == "cosine"
    assert len(TASK.output_tensors(output)) == 2 and not TASK.detach_output(output)["xy"].requires_grad
    output["rest"][0].data[3] = float("inf")
    assert TASK.finite(output).tolist() == [True, True, True, False, True, True]
    half = TASK.check_output(map_tensors(output, torch.Tensor.half), TASK.targets(data[1]["points"]))
    assert all(tensor.dtype == torch.float32 for tensor in TASK.output_tensors(half))


def test_losses_and_gradients_of_the_estimator(estimator, data):
    x, y = data
    losses = estimator.compute_losses(x, y)["points"]
    np.testing.assert_allclose(losses, [2e-4, 2e-4, 0, 2e-4, 2e-4, 2e-4], rtol=0.05)
    gradient = estimator.loss_gradient(x, y)
    assert gradient.shape == x.shape and np.abs(gradient).max() > 0


@pytest.mark.parametrize("attack", [MultiTaskPGD, WorstTaskPGD])
def test_attacks_degrade_it(estimator, data, attack):
    x, y = data
    with pytest.warns(RuntimeWarning, match=r"'points' has no valid label on sample\(s\) \[2\]"):
        found = attack(estimator, eps=0.3, max_iter=10, batch_size=4, verbose=False).generate(x, y)
    target = TASK.targets(y["points"])
    with torch.no_grad():
        before, after = (estimator.model(torch.tensor(z))["points"] for z in (x, found))
    assert (TASK.score(after, target) < TASK.score(before, target))[target.has_label].all()
    assert TASK.metric.value(TASK.statistics(before, target).sum(0)) == 1
    assert TASK.metric.value(TASK.statistics(after, target).sum(0)) < 0.5
