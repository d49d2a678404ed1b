"""Shared fixtures: seeds, small victims, plain re-derivations to compare with."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl import tasks
from art_mtl.core import ThreatModel
from art_mtl.tasks import Target, Task

# What a shell runs in the background ignores Ctrl-C, and so do the children that the tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seed(request):
    """Seeds; one thread for the tiny nets of the core's tests, where more only wait for each other."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if request.path.parent.name == "core" else threads)
    yield
    torch.set_num_threads(threads)


@dataclass
class Case:
    """A victim and a batch."""

    forward: Callable[[Tensor], list[Tensor]]
    x: Tensor
    tasks: list[Task]
    targets: list[Target]

    def threat(self, norm: float, eps: float | Tensor, mask: Tensor | None = None) -> ThreatModel:
        radius = torch.as_tensor(eps, dtype=self.x.dtype)
        radius = radius.reshape(*[1] * (self.x.ndim - radius.ndim), *radius.shape)
        zero = torch.zeros([1] * self.x.ndim, dtype=self.x.dtype)
        return ThreatModel(norm, radius, (zero, zero + 1), mask)

    def __getitem__(self, index) -> Case:
        index = torch.as_tensor(index)
        return replace(self, x=self.x[index], targets=[target[index] for target in self.targets])

    def only(self, chosen: list[int]) -> Case:
        """The same batch with these tasks, in this order."""

        def forward(x: Tensor) -> list[Tensor]:
            outputs = self.forward(x)
            return [outputs[k] for k in chosen]

        return Case(forward, self.x, [self.tasks[k] for k in chosen], [self.targets[k] for k in chosen])


def _dense(batch: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0, scale: float = 3.0) -> Case:
    """Segmentation (4 classes), depth, normals at 6 × 7, each with pixels that do not count."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    first, heads = scale * randn(6, 3, 3, 3) / math.sqrt(27), randn(8, 6, 1, 1)
    first, heads = first.to(dtype), heads.to(dtype)

    def forward(x: Tensor) -> list[Tensor]:
        hidden = torch.tanh(torch.nn.functional.conv2d(2 * x - 1, first, padding=1))
        out = torch.nn.functional.conv2d(hidden, heads)
        return [scale * out[:, :4], out[:, 4:5] + 2, torch.nn.functional.normalize(out[:, 5:], dim=1)]

    task_list = [tasks.segmentation("seg", 4), tasks.depth("depth"), tasks.surface_normals("normal")]
    x = torch.rand((batch, 3, 6, 7), generator=g, dtype=torch.float64).to(dtype)
    hole = torch.rand((3, batch, 6, 7), generator=g) < 0.25
    noisy = [o + 0.5 * randn(*o.shape).to(dtype) for o in forward(x)]
    labels = [
        torch.where(hole[0], -1, noisy[0].argmax(1)),
        torch.where(hole[1][:, None], 0, noisy[1].abs() + 0.1),
        torch.where(hole[2][:, None], 0, torch.nn.functional.normalize(noisy[2], dim=1)),
    ]
    return Case(forward, x, task_list, [t.targets(y) for t, y in zip(task_list, labels, strict=True)])


def _mixed(batch: int = 6, dtype: torch.dtype = torch.float64, seed: int = 0) -> Case:
    """Segmentation, depth and classification on one trunk; sample 1 of the batch has no class label."""
    g = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=fixed, dtype=torch.float64).to(dtype)

    first, heads, last = randn(6, 3, 3, 3) * 0.6, randn(4, 6, 1, 1), randn(5, 6) * 6

    def forward(x: Tensor) -> list[Tensor]:
        hidden = torch.tanh(torch.nn.functional.conv2d(2 * x - 1, first, padding=1))
        out = torch.nn.functional.conv2d(hidden, heads)
        return [3 * out[:, :3], out[:, 3:] + 2, hidden.mean((2, 3)) @ last.T]

    task_list = [tasks.segmentation("seg", 3), tasks.depth("depth"), tasks.classification("kind", 5)]
    x = torch.rand((batch, 3, 5, 5), generator=g, dtype=torch.float64).to(dtype)
    noise = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(dtype) for o in forward(x)]
    seg, deep, kind = (o + s * n for o, s, n in zip(forward(x), (0.7, 0.3, 0.2), noise, strict=True))
    hole = torch.rand((2, batch, 5, 5), generator=g) < 0.2
    present = np.arange(batch) != 1
    targets = [
        task_list[0].targets(torch.where(hole[0], -1, seg.argmax(1))),
        task_list[1].targets(torch.where(hole[1][:, None], 0, deep.abs() + 0.1)),
        task_list[2].targets(kind.argmax(1), present),
    ]
    return Case(forward, x, task_list, targets)


def _linear(slopes: Tensor, offsets: Tensor | None = None, batch: int = 1) -> Case:
    """K linear losses ``a_i · x + b_i``; ``slopes`` is ``(K, D)``."""
    offsets = torch.zeros(len(slopes), dtype=slopes.dtype) if offsets is None else offsets

    def forward(x: Tensor) -> list[Tensor]:
        return list(((x - 0.5) @ slopes.T + offsets).unbind(1))

    task_list = [tasks.custom(f"t{k}", loss=lambda output, target: output) for k in range(len(slopes))]
    x = torch.full((batch, slopes.shape[1]), 0.5, dtype=slopes.dtype)
    return Case(forward, x, task_list, [t.targets(torch.zeros(batch)) for t in task_list])


@pytest.fixture(scope="session")
def dense_case():
    return _dense


@pytest.fixture(scope="session")
def mixed_case():
    return _mixed


@pytest.fixture(scope="session")
def linear_case():
    return _linear


def _simplex(v: np.ndarray) -> np.ndarray:
    """Projection of one vector onto the simplex by bisection of the threshold, in float64."""
    v = np.asarray(v, dtype=np.float64)
    low, high = v.min() - 1, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - (low + high) / 2, 0)


def _ball_and_box(z: np.ndarray, eps: float, low: np.ndarray, high: np.ndarray, norm: float) -> np.ndarray:
    """Nearest point of ball and box for one vector, by bisection of the multiplier λ, in float64."""
    z = np.asarray(z, dtype=np.float64)
    if norm == math.inf:
        return np.clip(np.clip(z, -eps, eps), low, high)

    def point(multiplier: float) -> np.ndarray:
        if norm == 2:
            return np.clip(z / (1 + multiplier), low, high)
        return np.clip(np.sign(z) * np.maximum(np.abs(z) - multiplier, 0), low, high)

    def length(p: np.ndarray) -> float:
        return np.sqrt((p**2).sum()) if norm == 2 else np.abs(p).sum()

    if length(point(0.0)) <= eps:
        return point(0.0)
    bottom, top = 0.0, 1.0
    while length(point(top)) > eps:
        top *= 2
    for _ in range(300):
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if length(point(middle)) > eps else (bottom, middle)
    return point(top)


@pytest.fixture(scope="session")
def plain():
    """Slow, plain versions of the projections, for one vector each."""
    return SimpleNamespace(simplex=_simplex, ball_and_box=_ball_and_box)


class RuledLSTM(torch.nn.LSTM):
    """cuDNN's rule: the backward pass of a recurrent layer needs a forward pass in training mode."""

    def forward(self, x):
        out, state = super().forward(x)
        training = self.training

        def rule(gradient):
            assert training, "cudnn RNN backward can only be called in training mode"

        if out.requires_grad:
            out.register_hook(rule)
        return out, state


@pytest.fixture(scope="session")
def ruled_lstm():
    """A class of LSTMs that keep cuDNN's rule on every device."""
    return RuledLSTM
