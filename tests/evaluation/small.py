"""A small run, finished, with its results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import Results, evaluate


class Net(torch.nn.Module):
    """Segmentation into 3 classes, depth, a class, two labels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.head = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Linear(20, 5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dense, flat = self.conv(x), self.head(x.flatten(1))
        return {"seg": 3 * dense[:, :3], "depth": 2 + dense[:, 3:], "kind": 5 * flat[:, :3], "marks": flat[:, 3:]}


def finished_run(folder: Path, chunk: int = 4, **changes: object) -> Results:
    """10 samples under two attacks, stored in the folder."""
    estimator = PyTorchMultiTaskEstimator(
        Net(),
        tasks=[
            tasks.segmentation("seg", 3),
            tasks.depth("depth"),
            tasks.classification("kind", 3),
            tasks.multilabel("marks", 2),
        ],
        input_shape=(1, 4, 5),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    x = np.random.default_rng(0).uniform(0, 1, (10, 1, 4, 5)).astype(np.float32)
    raw = estimator.predict(x)
    labels = {"seg": raw["seg"].argmax(1), "depth": raw["depth"] + 0.1, "kind": raw["kind"].argmax(1)}
    labels["marks"] = raw["marks"] > 0
    attacks = [
        MultiTaskPGD(estimator, name, eps=0.1, max_iter=2, batch_size=4, verbose=False) for name in ("equal", "minmax")
    ]
    options = {"seed": 0, "chunk": chunk, "batch_size": 4, "progress": False, **changes}
    results = evaluate(estimator, attacks, (x, labels), out=folder, **options).results  # type: ignore[arg-type]
    results.to_json(folder / "results.json")
    return results
