"""A model of two tasks, its data as a loader, and classifiers that secml-torch's own attacks take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, StackDataset, TensorDataset

from art_mtl import tasks
from art_mtl.tasks import Task


class Net(torch.nn.Module):
    """A class ``k`` and a number ``v`` from images ``(B, 3, 4, 4)``, with a batch norm and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = torch.nn.BatchNorm2d(3), torch.nn.Dropout(0.5)
        self.hidden = torch.nn.Linear(48, 12)
        self.k, self.v = torch.nn.Linear(12, 4), torch.nn.Linear(12, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.drop(torch.tanh(self.hidden(self.norm(x).flatten(1))))
        return {"k": 5 * self.k(features), "v": self.v(features)}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 64, 5)]
    return torch.nn.Sequential(*layers).eval()


@pytest.fixture
def jobs() -> list[Task]:
    return [tasks.classification("k", 4), tasks.regression("v")]


@pytest.fixture
def data() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(10, 3, 4, 4, generator=generator)
    return x, {"k": torch.arange(10) % 4, "v": torch.randn(10, 1, generator=generator)}


@pytest.fixture
def loader(data) -> DataLoader:
    """Batches of 4, 4 and 2, the labels as a dict."""
    x, y = data
    return DataLoader(StackDataset(x, StackDataset(**y)), batch_size=4)


@pytest.fixture
def digits() -> DataLoader:
    """A stock loader of images, some of whose pixels lie on the edge of the box, and one label each."""
    generator = torch.Generator().manual_seed(1)
    x = (1.2 * torch.rand(24, 3, 8, 8, generator=generator) - 0.1).clamp(0, 1)
    return DataLoader(TensorDataset(x, torch.randint(0, 5, (24,), generator=generator)), batch_size=16)
