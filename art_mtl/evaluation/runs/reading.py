"""Look at a run at any time, also while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import MetricSpec
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.runs.records import CLEAN, Unit, UnitResult
from art_mtl.evaluation.runs.store import StoredRun
from art_mtl.evaluation.runs.summary import heading_of, results_of

__all__ = ["Chunks", "RunState", "read_chains", "read_run", "stored_batch_size"]


@dataclass(frozen=True)
class Chunks:
    """What is comparable of a run: attacks on the same samples.

    Attributes:
        folder: Of the run, for messages.
        about: What the run says of itself.
        attacks: Number and name of each attack.
        chunks: Numbers of the chunks that all of these have finished.
        read: Of :data:`art_mtl.evaluation.runs.records.CLEAN` and each attack, what these chunks came to.
        done: Attacks × chunks that are finished, also those that are not comparable yet.
        total: Attacks × chunks.
    """

    folder: str | Path
    about: Mapping[str, Any]
    attacks: tuple[tuple[int, AttackInfo], ...]
    chunks: tuple[int, ...]
    read: Mapping[int, Sequence[UnitResult]]
    done: int
    total: int

    @cached_property
    def scales(self) -> list[MetricSpec]:
        """One a task, which fit what was read.

        Raises:
            ValueError: A metric is defined outside this package, or what is stored is not of these metrics.
        """
        try:
            scales = [MetricSpec.from_json(entry) for entry in self.about["scales"]]
            for k, scale in enumerate(scales):
                scale.check([one.part for units in self.read.values() for one in units], k)
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error
        return scales


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        results: Of the samples that all attacks have finished, or before that of those that some have; None as long as
            there are none.
        done: Attacks × chunks finished.
        total: Attacks × chunks.
        samples: N of the data set.
    """

    results: Results | None
    done: int
    total: int
    samples: int

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.done == self.total


def read_run(folder: str | Path) -> RunState:
    """How far a run is, and its results so far.

    Args:
        folder: That ``art-mtl benchmark --out`` or ``store`` of :func:`art_mtl.evaluation.benchmark` was given.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: It is damaged, of another program or of a newer version, or has a metric of the user's.
    """
    found = read_chains(folder)
    samples = int(found.about["samples"])
    if not found.chunks:
        return RunState(None, found.done, found.total, samples)
    scales = found.scales
    try:
        results = results_of(heading_of(found.about), scales, found.attacks, lambda number: found.read[number])
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return RunState(results, found.done, found.total, samples)


def read_chains(folder: str | Path) -> Chunks:
    """The comparable part of a run."""
    with StoredRun.opened(folder) as run:
        about, infos, finished = run.about(), run.attacks(), run.finished()
        count = len(run.chunks)
        chosen, chunks = _comparable(list(range(1, len(infos) + 1)), count, finished)
        read = {number: run.read(number, chunks) for number in ([CLEAN, *chosen] if chunks else [])}
    done = sum(unit.attack != CLEAN for unit in finished)
    attacks = tuple((number, infos[number - 1]) for number in chosen)
    return Chunks(folder, about, attacks, tuple(chunks), read, done, len(infos) * count)


def _comparable(attacks: list[int], count: int, finished: set[Unit]) -> tuple[list[int], list[int]]:
    """All attacks with the chunks that all have finished; without any, those that have finished the first chunk."""
    known = [c for c in range(count) if Unit(CLEAN, c) in finished]
    chunks = [c for c in known if all(Unit(a, c) in finished for a in attacks)]
    if chunks:
        return attacks, chunks
    first = [a for a in attacks if Unit(a, 0) in finished]
    return (first, [0]) if first and 0 in known else ([], [])


def stored_batch_size(folder: str | Path) -> int | None:
    """Samples a batch of the run in a folder; None where there is no run yet.

    Raises:
        ValueError: The database is damaged, of another program, or of another version of this one.
    """
    try:
        with StoredRun.opened(folder) as run:
            return _batch_size(run)
    except FileNotFoundError:
        return None


def _batch_size(run: StoredRun) -> int:
    found = run.about()["settings"].get("batch_size")
    if type(found) is not int or found < 1:
        raise ValueError(f"{run.path}: expected a batch size. Found {found!r}.")
    return found
