"""Peak memory of a stored run of few and of many samples, each in a process of its own; one line each, in MiB.

python tests/evaluation/memory.py 100 10000
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torchmetrics.classification  # noqa: F401  (slow to import: once, here)

from art_mtl import PyTorchMultiTaskEstimator
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import evaluate

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tiny


class Lazy:
    """Samples that are made when they are asked for: all 10,000 at once would be 160 MiB."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        x = np.full((1, 32, 32), (index % 7) / 7, dtype=np.float32)
        return x, {"seg": np.full((32, 32), index % 3), "depth": x + 2}


def run(count: int, folder: str) -> None:
    """One attack of one step on every sample."""
    net, task_list, *_ = tiny.victim()
    estimator = PyTorchMultiTaskEstimator(
        net, tasks=task_list, input_shape=(1, 32, 32), clip_values=(-1, 1), device_type="cpu"
    )
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    results = evaluate(estimator, [attack], Lazy(count), chunk=64, out=folder, progress=False).results
    results.to_json(Path(folder) / "results.json")


def peak() -> int:
    """Of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        if os.fork() == 0:
            with tempfile.TemporaryDirectory() as folder:
                run(count, folder)
            print(count, peak(), flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
