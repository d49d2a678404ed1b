"""Pages to look at: of a user's model whose names are odd, and of a large grid."""

from __future__ import annotations

import numpy as np
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult, evaluate
from art_mtl.evaluation.run import Run

TASKS = ("<script>alert(1)</script>", "a|b", "$$ \\frac", "=cmd 'x' \"y\"")
ATTACKS = ("{{7*7}}<img src=x onerror=alert(2)>", "javascript:alert(3)</svg>", "</title></style>'\"")


class Net(torch.nn.Module):
    """Segmentation into 3 classes, depth, one of 5 classes, 3 labels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.head = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Linear(3 * 12 * 16, 8)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        dense, flat = self.conv(x), self.head(x.flatten(1))
        return [4 * dense[:, :3], 2 + dense[:, 3:], 4 * flat[:, :5], flat[:, 5:]]


def odd_run(samples: int = 10) -> Run:
    """A run in which every name is markup of some kind."""
    kinds = [
        tasks.segmentation(TASKS[0], 3),
        tasks.depth(TASKS[1]),
        tasks.classification(TASKS[2], 5),
        tasks.multilabel(TASKS[3], 3),
    ]
    estimator = PyTorchMultiTaskEstimator(
        Net(), tasks=kinds, input_shape=(3, 12, 16), clip_values=(0.0, 1.0), device_type="cpu"
    )
    x = np.random.default_rng(0).uniform(0, 1, (samples, 3, 12, 16)).astype(np.float32)
    labels = estimator.own_labels(x)
    y = {name: labels[name] + 0.2 if name == TASKS[1] else labels[name] for name in TASKS}
    options = {"max_iter": 2, "verbose": False}
    attacks = {
        ATTACKS[0]: MultiTaskPGD(estimator, eps=0.05, **options),
        ATTACKS[1]: WorstTaskPGD(estimator, eps=0.05, **options),
        ATTACKS[2]: WorstTaskPGD(estimator, eps=0.1, **options),
    }
    command = "art-mtl </code></pre><script>alert(4)</script>"
    return evaluate(estimator, attacks, (x, y), batch_size=4, chunk=4, command=command, progress=False)


def large_results(attacks: int = 40, radii: int = 6, count: int = 6, samples: int = 32) -> Results:
    """A grid of attacks, with intervals and weights."""
    draw = np.random.default_rng(0)
    named = tuple(
        TaskResult(f"task {k}", "depth", "aErr", k % 2 == 0, 100.0, "m", 0.5, (0.5,) * samples) for k in range(count)
    )
    methods = [f"single:{task.name}" for task in named] + ["equal", "minmax", "worst-task", "auto-attack"]
    methods += [f"Foreign{i}" for i in range(attacks - len(methods))]
    found = [_result(name, 2.0**i / 255, draw, count, samples) for i in range(radii) for name in methods]
    environment = Environment({"art-mtl": "0.1.0"}, "cpu", "2026-01-01T00:00:00+00:00", 0)
    angles = tuple(tuple(float(i == j) for j in range(count)) for i in range(count))
    return Results("large", named, tuple(found), (0.0, 1.0), environment, gradient_cosines=angles)


def _result(name: str, eps: float, draw: np.random.Generator, count: int, samples: int) -> AttackResult:
    deltas = tuple((-draw.uniform(0.1, 0.9, count)).tolist())
    rows = tuple(deltas for _ in range(samples))
    ends = tuple((delta - 0.05, delta + 0.05) for delta in deltas)
    weights = tuple((1 / count,) * count for _ in range(10)) if name in ("minmax", "worst-task") else None
    return AttackResult(
        name, name, "linf", eps, None, 10, deltas, deltas, sum(deltas) / count, max(deltas), -0.3, rows, rows, eps, 1.5,
        samples, ends, ends[0], ends[deltas.index(max(deltas))], 10.0, 11.0, (), weights,
    )  # fmt: skip
