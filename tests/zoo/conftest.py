"""Small nets as third parties hand them over, and what they are exported to."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn


class TwoHeads(nn.Module):
    """Classes and a map, channels first, logits out."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.map = nn.Conv2d(8, 3, 1)
        self.head = nn.Linear(8, classes)
        self.eval()

    def forward(self, x):
        hidden = torch.relu(self.norm(self.first(x)))
        return self.head(hidden.mean((2, 3))), self.map(hidden)


def export(net: nn.Module, path, *inputs: torch.Tensor, names=("kind", "map"), opset: int = 17, free: bool = True):
    """Write a net as ONNX, by torch's own exporter."""
    places = [f"in{i}" for i in range(len(inputs))]
    axes = {name: {0: "batch"} for name in (*places, *names)} if free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), inputs, str(path), input_names=places, output_names=list(names), dynamic_axes=axes,
            dynamo=False, opset_version=opset,
        )  # fmt: skip
    return path


def table(folder, rows: int = 6, classes: int = 4, size=(8, 10)):
    """A table with pictures, their classes, and masks."""
    from PIL import Image

    rng = np.random.default_rng(1)
    lines = ["image,kind,map,age,height"]
    for i in range(rows):
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(rng.integers(0, 3, size).astype(np.uint8)).save(folder / f"m{i}.png")
        lines.append(f"{i}.png,{i % classes},m{i}.png,{rng.uniform():.3f},{rng.uniform():.3f}")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


HEAD = "format: art_mtl.tasks\nversion: 1\n"
TASKS = """tasks:
- {kind: classification, name: kind, num_classes: 4}
- {kind: segmentation, name: map, num_classes: 3}
"""


@pytest.fixture(scope="session")
def nets():
    """What the tests of files share."""
    return SimpleNamespace(TwoHeads=TwoHeads, export=export, table=table, HEAD=HEAD, TASKS=TASKS)
