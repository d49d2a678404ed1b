"""Cost of a step against the number of tasks and the size of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.profiling.subject import Subject
from art_mtl.profiling.timing import compare
from art_mtl.profiling.variants import LIMIT, make_variants

TASKS = (1, 2, 3, 6)
BATCHES = (1, 2, 4, 8, 16, 32)
_SIZE = (64, 96)


@dataclass(frozen=True)
class Cost:
    """Of one number of tasks and one batch size.

    Attributes:
        tasks: K.
        batch: B.
        milliseconds: Of the limit, a step and sample.
        flops: Of one forward pass, relative to that with one task.
        time: Of the limit, relative to that with one task and the same batch.
        overhead: Of Algorithm 1 over the limit: its time divided by the limit's.
    """

    tasks: int
    batch: int
    milliseconds: float
    flops: float
    time: float
    overhead: float


class ManyHeads(nn.Module):
    """A trunk of residual width and K dense heads, all alike.

    Args:
        heads: K.

    Examples:
        >>> outputs = ManyHeads(2)(torch.zeros(1, 3, 16, 16))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'task0': (1, 1, 16, 16), 'task1': (1, 1, 16, 16)}
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(_block(3, 32, 2), _block(32, 64, 2), _block(64, 64, 1), _block(64, 64, 1))
        self.heads = nn.ModuleList(nn.Sequential(_block(64, 32, 1), nn.Conv2d(32, 1, 1)) for _ in range(heads))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``(B, 3, H, W)`` to K depths ``(B, 1, H, W)``."""
        seen = self.trunk(x)
        enlarge = nn.Upsample(size=x.shape[-2:], mode="bilinear")
        return {f"task{k}": 2 + enlarge(head(seen)) for k, head in enumerate(self.heads)}


def sweep(
    counts: Sequence[int] = TASKS, batches: Sequence[int] = BATCHES, *, steps: int = 5, rounds: int = 5,
    device: str = "auto",
) -> list[Cost]:  # fmt: skip
    """Costs for every number of tasks and every batch size.

    Args:
        counts: Numbers of tasks; the first is what the others are divided by.
        batches: Batch sizes.
        steps: T.
        rounds: Of each comparison.
        device: "cpu", "gpu", or "auto" for a GPU where there is one.
    """
    found = []
    for batch in batches:
        subjects = {count: _subject(count, batch, device) for count in counts}
        limits = {f"{k}": make_variants(s, steps, [LIMIT])[LIMIT] for k, s in subjects.items()}
        target = next(iter(subjects.values())).estimator.device
        times = compare(limits, f"{counts[0]}", rounds, target)
        first = _flops(subjects[counts[0]])
        for (count, subject), limit in zip(subjects.items(), times, strict=True):
            (_, own) = compare(make_variants(subject, steps, [LIMIT, "minmax"]), LIMIT, rounds, target)
            share = 1000 * limit.seconds / steps / batch
            found.append(Cost(count, batch, share, _flops(subject) / first, limit.median, own.median))
    return found


def _subject(count: int, batch: int, device: str) -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ManyHeads(count).eval().requires_grad_(False)
    jobs = [tasks.depth(f"task{k}") for k in range(count)]
    kind = "cpu" if device == "cpu" else "gpu"
    estimator = PyTorchMultiTaskEstimator(model, jobs, (3, *_SIZE), (0.0, 1.0), device_type=kind)
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(batch, 3, *_SIZE)).astype(np.float32)
    y = {job.name: rng.uniform(1, 3, (batch, 1, *_SIZE)).astype(np.float32) for job in jobs}
    return Subject(f"{count} tasks", estimator, x, estimator.labels(y, batch), 8 / 255, trained=False)


def _flops(subject: Subject) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        subject.model(subject.images())
    return float(counter.get_total_flops())


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
