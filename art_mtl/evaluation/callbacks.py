"""What hears of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.results import AttackResult, Rows

__all__ = ["Callback", "UnitReport"]


@dataclass(frozen=True)
class UnitReport:
    """One unit of work that has been stored: an attack on a chunk of the data.

    Attributes:
        attack: Which; None for the clean inputs.
        chunk: Number of the chunk, from 0.
        samples: In the chunk.
        seconds: That the attack took.
        weights: Mean weight of each task at each step, ``(T, K)``; None where the attack does not tell.
        losses: Mean loss of each task at each step that was asked for, ``(T, K)``, None elsewhere.
        done: Units that are finished, attacks × chunks.
        total: Of so many.
    """

    attack: AttackInfo | None
    chunk: int
    samples: int
    seconds: float
    weights: Rows | None
    losses: Rows | None
    done: int
    total: int


class Callback:
    """Base of what hears of a run; override what you need.

    Everything is called in the process that called :func:`art_mtl.evaluation.evaluate`, also where workers on other
    hosts do the work: what they found comes with each unit. An exception ends the run; what is stored stays.

    Attributes:
        losses_every: The losses of every n-th step are computed and come with each unit; 0 for none. They cost time.
    """

    losses_every: int = 0

    def begin(self, total: int, done: int) -> None:
        """The run begins, with so many units, of which so many were stored before."""

    def unit(self, report: UnitReport) -> None:
        """A unit has been stored."""

    def attack(self, result: AttackResult, examples: Examples) -> None:
        """All chunks of an attack are there: what it did, and its adversarial inputs of the samples that it degrades
        least and most, at most three of each. Called for every attack, in order, at the end.
        """

    def end(self, run: Any) -> None:
        """The run is complete: a :class:`~art_mtl.evaluation.Run`."""
