"""What surrounds the run of one attack: a seed, and someone who watches its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.evaluation.results import Rows, known
from art_mtl.precision import widen

if TYPE_CHECKING:
    from art_mtl.core.context import StepRecord
    from art_mtl.core.loop import Observer


@dataclass
class StepRecorder:
    """Adds up what an attack's observer is told, per step, on the device.

    Attributes:
        losses_every: The losses of every n-th step are computed and added up too; 0 for none. An attack computes them
            for its observer alone, so they cost time.
    """

    losses_every: int = 0
    weights: dict[int, Tensor] = field(default_factory=dict)
    losses: dict[int, Tensor] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def __call__(self, record: StepRecord) -> None:
        if record.member is not None:  # step t of one attack of an ensemble is not step t of another
            return
        step = record.step
        self.counts[step] = self.counts.get(step, 0) + len(record.weights)
        _add(self.weights, step, record.weights)
        if self.losses_every and step % self.losses_every == 0:
            _add(self.losses, step, record.losses)

    def table(self) -> Tensor | None:
        """``(T, 2 + 2K)``, float64: of each step its number, how often it was told of, sums of the weights, and of the
        losses, which are NaN where they were not asked for. None if nothing was told.
        """
        if not self.counts:
            return None
        steps = sorted(self.counts)
        head = torch.tensor([[step, self.counts[step]] for step in steps], dtype=torch.float64)
        weights = torch.stack([self.weights[step] for step in steps]).double().cpu()
        unknown = torch.full_like(weights[0], torch.nan)
        losses = torch.stack([self.losses[step].double().cpu() if step in self.losses else unknown for step in steps])
        return torch.cat([head, weights, losses], 1)


def _add(sums: dict[int, Tensor], step: int, values: Tensor) -> None:
    total = widen(values).sum(0)
    sums[step] = sums[step] + total if step in sums else total


def mean_steps(tables: Sequence[Tensor | None]) -> tuple[Rows | None, Rows | None]:
    """Mean weights and losses of each step, ``(T, K)``, over the samples and restarts of all parts of a data set.

    Args:
        tables: Of each part in turn, :meth:`StepRecorder.table`.

    Returns:
        None twice if nothing was told; the second is None too where no losses were asked for.

    Examples:
        >>> first, second = torch.tensor([[0.0, 2, 1, 4]]), torch.tensor([[0.0, 2, 2, 4], [1.0, 1, 1, 3]])
        >>> mean_steps([first, second, None])
        (((0.75,), (1.0,)), ((2.0,), (3.0,)))
    """
    totals: dict[float, Tensor] = {}
    for table in tables:
        for row in () if table is None else table:
            step = float(row[0])
            totals[step] = totals[step] + row[1:] if step in totals else row[1:]
    if not totals:
        return None, None
    means = [(totals[step][1:] / totals[step][0]).chunk(2) for step in sorted(totals)]
    weights, losses = (tuple(tuple(map(known, pair[i].tolist())) for pair in means) for i in range(2))
    asked = any(loss is not None for row in losses for loss in row)
    return weights, losses if asked else None


def lacks_losses(table: Tensor | None, every: int) -> bool:
    """Whether steps were told of, but not the losses of every n-th.

    Args:
        table: :meth:`StepRecorder.table`.
        every: n.

    Examples:
        >>> weights, nan = 1.0, torch.nan
        >>> table = torch.tensor([[0, 1, weights, 3.0], [1, 1, weights, nan], [2, 1, weights, 2.5]])
        >>> lacks_losses(table, 2), lacks_losses(table, 1), lacks_losses(None, 1)
        (False, True, False)
    """
    if table is None:
        return False
    asked = table[table[:, 0] % every == 0]
    return bool(asked[:, 2:].chunk(2, 1)[1].isnan().all(1).any())


@contextmanager
def observed(attack: Any, *watchers: Observer) -> Iterator[None]:
    """Watch an attack that can be watched; a user's own observer is told as well, and put back."""
    if not hasattr(attack, "observer"):
        yield
        return
    before = attack.observer
    told = watchers if before is None else (*watchers, before)

    def tell(record: StepRecord) -> None:
        for one in told:
            one(record)

    attack.observer = tell
    try:
        yield
    finally:
        attack.observer = before


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Seed the global generators, of the CPU and of the current GPU, and put their states back; None leaves all alone.

    A model of ART is on the current GPU. The others keep their generators, and get no context.
    """
    if seed is None:
        yield
        return
    # NumPy's global generator, because ART's attacks draw from it.
    state = np.random.get_state()  # noqa: NPY002
    try:
        gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(gpus):
            torch.default_generator.manual_seed(seed)
            if gpus:
                torch.cuda.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
