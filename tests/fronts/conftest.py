"""The two hosts behind one face, so that one test holds for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from art_mtl import PyTorchMultiTaskEstimator, attacks, tasks
from art_mtl.tasks import Task

SHAPE = (3, 4, 4)


@dataclass(frozen=True)
class Front:
    """One host. Options go by the core's words: ``step_size`` and ``steps``; ``restarts`` start at random."""

    name: str
    module: ModuleType
    words: dict[str, str]

    def options(self, **options: Any) -> dict[str, Any]:
        """Options with the host's names."""
        named = {self.words.get(name, name): value for name, value in options.items()}
        if self.name == "torchattacks" and "restarts" in options:
            named["random_start"] = True
        return named

    def make(
        self,
        kind: str,
        model: torch.nn.Module,
        jobs: Sequence[Task],
        *arguments: Any,
        shape: tuple[int, ...] = SHAPE,
        bounds: tuple[Any, Any] = (0, 1),
        **options: Any,
    ) -> Any:
        """An attack of a class of this name, that shows nothing on the screen."""
        own = {"verbose": False} if self.name == "art" else {"bounds": bounds}
        victim = self.victim(model, jobs, shape, bounds)
        return getattr(self.module, kind)(*victim, *arguments, **{**own, **self.options(**options)})

    def victim(
        self,
        model: torch.nn.Module,
        jobs: Sequence[Task],
        shape: tuple[int, ...] = SHAPE,
        bounds: tuple[Any, Any] = (0, 1),
    ) -> tuple[Any, ...]:
        """What every attack of the host takes first."""
        if self.name == "art":
            return (PyTorchMultiTaskEstimator(model, jobs, shape, bounds, device_type="cpu"),)
        return model, jobs

    def run(self, attack: Any, x: Tensor, y: Any = None, targeted: bool = False) -> Tensor:
        """The result of a call, a tensor."""
        if self.name == "art":
            attack.set_params(targeted=targeted) if targeted else None
            return torch.from_numpy(attack.generate(x.numpy(), y))
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(x, y)
        return found

    def attack(
        self,
        kind: str,
        model: torch.nn.Module,
        jobs: Sequence[Task],
        x: Tensor,
        y: Any = None,
        *arguments: Any,
        **options: Any,
    ) -> Tensor:
        """Make an attack and run it once."""
        targeted = options.pop("targeted", False)
        made = self.make(kind, model, jobs, *arguments, shape=tuple(x.shape[1:]), **options)
        return self.run(made, x, y, targeted)


def _front(name: str) -> Front:
    if name == "art":
        words = {"step_size": "eps_step", "steps": "max_iter", "restarts": "num_random_init"}
        return Front(name, attacks, words)
    pytest.importorskip("torchattacks")
    from art_mtl import torchattacks

    return Front(name, torchattacks, {"step_size": "alpha"})


@pytest.fixture(params=["art", "torchattacks"])
def front(request) -> Front:
    """Each of the two hosts in turn."""
    return _front(request.param)


@pytest.fixture
def art() -> Front:
    return _front("art")


@pytest.fixture
def for_torchattacks() -> Front:
    return _front("torchattacks")


class Net(torch.nn.Module):
    """A class ``k`` and a number ``v`` from images ``(B, 3, 4, 4)``, with a batch norm and a dropout."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.norm, self.drop = torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5)
        self.hidden = torch.nn.Linear(48, 12)
        self.k, self.v = torch.nn.Linear(12, 4), torch.nn.Linear(12, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.drop(torch.tanh(self.hidden(self.norm(x).flatten(1))))
        return {"k": 5 * self.k(features), "v": self.scale * self.v(features)}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def make_net() -> Callable[..., Net]:
    """Another one of the same shape: ``make_net(seed, scale)``."""

    def make(seed: int, scale: float = 1.0) -> Net:
        torch.manual_seed(seed)
        return Net(scale).eval()

    return make


@pytest.fixture
def jobs() -> list[Task]:
    return [tasks.classification("k", 4), tasks.regression("v")]


@pytest.fixture
def data() -> tuple[Tensor, dict[str, Any]]:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(size=(8, *SHAPE)).astype(np.float32))
    return x, {"k": np.arange(8) % 4, "v": rng.normal(size=(8, 1)).astype(np.float32)}
