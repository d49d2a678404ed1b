"""What surrounds the run of one attack: a seed, and someone who watches its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.evaluation.results import Rows

if TYPE_CHECKING:
    from art_mtl.core import StepRecord


@dataclass
class Watch:
    """Adds up what an attack's observer is told, per step."""

    weights: dict[int, Tensor] = field(default_factory=dict)
    losses: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def __call__(self, record: StepRecord) -> None:
        step = record.step
        self.counts[step] = self.counts.get(step, 0) + len(record.weights)
        for sums, values in ((self.weights, record.weights), (self.losses, record.losses)):
            total = values.double().sum(0).cpu()
            sums[step] = sums[step] + total if step in sums else total

    def mean(self, sums: dict[int, Tensor]) -> Rows | None:
        """``(T, K)``: means over the samples and restarts; None if nothing was told."""
        return tuple(tuple((sums[step] / self.counts[step]).tolist()) for step in sorted(sums)) or None


@contextmanager
def observed(attack: Any, watch: Watch) -> Iterator[None]:
    """Watch an attack that can be watched; a user's own observer is told as well, and put back."""
    if not hasattr(attack, "observer"):
        yield
        return
    before = attack.observer

    def both(record: StepRecord) -> None:
        watch(record)
        if before is not None:
            before(record)

    attack.observer = both
    try:
        yield
    finally:
        attack.observer = before


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators, and put their states back; None leaves them alone."""
    if seed is None:
        yield
        return
    # NumPy's global generator, because ART's attacks draw from it.
    state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
