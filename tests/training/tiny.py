"""A network and a data set small enough to be trained many times over; as a script, one training run on them.

python tiny.py ROOT OUT SETTINGS, where SETTINGS are JSON: ``recipe``, ``seconds`` that each step shall last at least,
``network``, others of ``train_network``. It prints a line a step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from art_mtl.data import Rooms
from art_mtl.data.paper import PAPER_DATA
from art_mtl.training import NetworkResult, Recipe, Step, train_network

DATA = replace(PAPER_DATA["nyuv2"], size=(32, 48), crop=(24, 32))


class TinyNet(nn.Module):
    """Two convolutions; optionally dropout and batch normalisation between them."""

    def __init__(self, heads: Mapping[str, int], trunk: Any = None, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.widths = dict(heads)
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(8, sum(heads.values()), 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.dropout(functional.relu(self.norm(self.first(x))))
        out = functional.interpolate(self.last(hidden), x.shape[-2:], mode="bilinear", align_corners=True)
        parts = dict(zip(self.widths, out.split(list(self.widths.values()), 1), strict=True))
        if "normals" in parts:
            parts["normals"] = functional.normalize(parts["normals"], dim=1, eps=1e-6)
        return parts


def tiny(heads: Mapping[str, int], trunk: Any = None) -> nn.Module:
    return TinyNet(heads)


def noisy(heads: Mapping[str, int], trunk: Any = None) -> nn.Module:
    """With dropout and batch normalisation: everything that a checkpoint could forget."""
    return TinyNet(heads, dropout=0.2, norm=True)


NETWORKS = {"tiny": tiny, "noisy": noisy}


def make_photographs(root: Path, count: int) -> None:
    """Rendered rooms of 32x48 in the layout of NYUv2."""
    for split in ("train", "val"):
        dataset = Rooms("train" if split == "train" else "test", size=count, height=32, width=48)
        for folder in ("image", "label", "depth", "normal"):
            (root / split / folder).mkdir(parents=True)
        for i, (image, labels) in enumerate(dataset):
            np.save(root / split / "image" / f"{i}.npy", (image.permute(1, 2, 0).numpy() + 1) / 2)
            np.save(root / split / "label" / f"{i}.npy", labels["segmentation"].numpy())
            np.save(root / split / "depth" / f"{i}.npy", labels["depth"].permute(1, 2, 0).numpy())
            np.save(root / split / "normal" / f"{i}.npy", labels["normals"].permute(1, 2, 0).numpy())


def run(root: Path, out: Path, *, network: str = "tiny", recipe: Mapping[str, Any], **settings: Any) -> NetworkResult:
    """Train on the CPU, loading in this process unless told otherwise, without TensorBoard unless told otherwise."""
    settings = {"device": "cpu", "workers": 0, "tensorboard": False, **settings}
    return train_network(
        DATA, root, out, model=network, networks=NETWORKS, recipe=Recipe(**{"rate": 0.02, **recipe}), **settings
    )


def main(root: str, out: str, text: str) -> None:
    torch.set_num_threads(1)
    given = json.loads(text)
    seconds = given.pop("seconds", 0.0)

    def tell(step: Step) -> None:
        print(step.step, flush=True)
        time.sleep(seconds)

    run(Path(root), Path(out), progress=tell, **given)


if __name__ == "__main__":
    main(*sys.argv[1:])
