"""Look at a run at any time, also while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from art_mtl.core.warn import warn
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import MetricSpec, MetricState
from art_mtl.evaluation.measure_specs import MeasureSpec, read_measures
from art_mtl.evaluation.store import StoredRun
from art_mtl.evaluation.units import CLEAN, Unit, UnitResult

__all__ = ["Chunks", "read_adversarial", "read_chunks", "stored_batch_size"]


@dataclass(frozen=True)
class Chunks:
    """What is comparable of a run: attacks on the same samples.

    Attributes:
        folder: Of the run, for messages.
        about: What the run says of itself.
        attacks: Number and name of each attack.
        chunks: Numbers of the chunks that all of these have finished.
        read: Of :data:`art_mtl.evaluation.units.CLEAN` and each attack, what these chunks came to.
        done: Attacks × chunks that are finished, also those that are not comparable yet.
        total: Attacks × chunks.
        live: The metrics, of a run of this process; of a stored one they are read from ``about``.
        live_measures: The same of the further measures.
    """

    folder: str | Path
    about: Mapping[str, Any]
    attacks: tuple[tuple[int, AttackInfo], ...]
    chunks: tuple[int, ...]
    read: Mapping[int, Sequence[UnitResult]]
    done: int
    total: int
    live: tuple[MetricSpec, ...] = ()
    live_measures: Sequence[MeasureSpec] = ()

    @cached_property
    def scales(self) -> list[MetricSpec]:
        """One a task, which fit what was read.

        Raises:
            ValueError: A metric is defined outside this package, or what is stored is not of these metrics.
        """
        if self.live:
            return list(self.live)
        try:
            scales = [MetricSpec.from_json(entry) for entry in self.about["scales"]]
            for k, scale in enumerate(scales):
                scale.check(self._parts, k)
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error
        return scales

    @cached_property
    def measures(self) -> Sequence[MeasureSpec]:
        """The further measures that are known here: of a stored run those that have a name, with a warning of others.

        Raises:
            ValueError: What is stored is not of these measures.
        """
        if self.live:
            return self.live_measures
        try:
            found, unknown = read_measures(self.about["measures"], self._parts)
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error
        if unknown:
            warn(
                f"{self.folder}: the measures {', '.join(unknown)} are torchmetrics objects, which only the program "
                "that made the run has. They are left out."
            )
        return found

    @cached_property
    def _parts(self) -> list[MetricState]:
        return [one.part for units in self.read.values() for one in units]


def read_chunks(folder: str | Path) -> Chunks:
    """The comparable part of a run."""
    with StoredRun.opened(folder) as run:
        about, infos, finished = run.about(), run.attacks(), run.finished()
        count = len(run.chunks)
        chosen, chunks = _comparable(list(range(1, len(infos) + 1)), count, finished)
        read = {number: run.read(number, chunks) for number in ([CLEAN, *chosen] if chunks else [])}
    done = sum(unit.attack != CLEAN for unit in finished)
    attacks = tuple((number, infos[number - 1]) for number in chosen)
    return Chunks(folder, about, attacks, tuple(chunks), read, done, len(infos) * count)


def read_adversarial(run: str | Path | Chunks, name: str, norm: str | None, eps: float | None) -> list[Inputs]:
    """The adversarial inputs of an attack, chunk by chunk.

    Args:
        run: The folder of a run, or what is in memory of one.
        name: Of the attack.
        norm: Of the attack.
        eps: Of the attack.

    Raises:
        ValueError: They were not kept, not all chunks are finished, or they are damaged.
    """
    if isinstance(run, Chunks):
        found = [number for number, info in run.attacks if (info.name, info.norm, info.eps) == (name, norm, eps)]
        chunks = [one.adversarial for one in run.read[found[0]]] if found else []
        where: str | Path = run.folder
    else:
        with StoredRun.opened(run) as stored:
            infos = enumerate(stored.attacks(), 1)
            found = [number for number, info in infos if (info.name, info.norm, info.eps) == (name, norm, eps)]
            places = range(len(stored.chunks)) if found else ()
            chunks, where = [stored.adversarial(Unit(found[0], chunk)) for chunk in places], run
    kept = [chunk for chunk in chunks if chunk is not None]
    if not kept or len(kept) < len(chunks):
        raise ValueError(
            f"{where}: expected the adversarial inputs of {name!r} in {len(chunks)} chunks. Found {len(kept)}; "
            "evaluate(..., keep_adversarial=True) keeps them."
        )
    return kept


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
            found = run.about()["settings"].get("batch_size")
    except FileNotFoundError:
        return None
    if type(found) is not int or found < 1:
        raise ValueError(f"{run.path}: expected a batch size. Found {found!r}.")
    return found
