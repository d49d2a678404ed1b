"""Run attacks on a data set chunk by chunk, alone or in a team, on disk or in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.differences import check_same
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, attack_info, input_range
from art_mtl.evaluation.measure import Evaluator, check_clean
from art_mtl.evaluation.provenance import check_data, describe_run
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.runs.job import Job
from art_mtl.evaluation.runs.progress import Progress
from art_mtl.evaluation.runs.records import CLEAN, Unit, UnitResult
from art_mtl.evaluation.runs.sharing import share_out
from art_mtl.evaluation.runs.store import RunStore
from art_mtl.evaluation.runs.summary import Listener, heading_of, results_of
from art_mtl.evaluation.samples import Source
from art_mtl.team import ProcessGroup

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["run_attacks"]


def run_attacks(
    estimator: PyTorchMultiTaskEstimator,
    attacks: Sequence[tuple[str, Attack]],
    source: Source,
    *,
    batch_size: int,
    seed: int | None,
    victim: str,
    command: str | None,
    progress: bool,
    listener: Listener | None,
    protocol: str,
    chunk: int | None,
    store: str | Path | None,
    restart: bool,
    team: ProcessGroup | None,
    repair: bool = False,
    accept: Collection[str] = (),
) -> Results:
    """What :func:`art_mtl.evaluation.evaluate` does once its arguments are in canonical form; names may repeat from
    block to block.
    """
    team = team or ProcessGroup(0, 1, estimator.device)
    evaluator = Evaluator(estimator, batch_size, protocol)
    named = [(attack_info(name, attack), attack) for name, attack in attacks]
    job = Job(evaluator, source, named, chunk, seed)
    about: dict[str, Any] = {
        "environment": asdict(environment.describe(str(estimator.device), seed)),
        "command": command,
        "victim": victim,
        "clip_values": input_range(estimator.clip_values),
        "protocol": protocol,
        "samples": len(source),
        "chunk": job.chunk,
        "scales": [scale.to_json() for scale in evaluator.scales],
    }
    if store is not None or team.size > 1:
        about["settings"] = _settings(job, victim)
        _check_team(team, about["settings"])
    with ExitStack() as stack:
        ledger = _open(stack, team, job, about, store, restart, repair, accept)
        done = ledger.finished()
        team.by_first(lambda: check_data(source, job.chunks, ledger.data(), str(store)))
        pending = team.by_first(lambda: [unit for unit in job.units if unit not in done])
        bar = stack.enter_context(Progress.shown(progress and team.is_first, job, pending))
        writer = _Writer(job, ledger, bar)

        def conclude() -> Results:
            attacks = list(enumerate((info for info, _ in named), 1))
            return results_of(heading_of(ledger.about()), evaluator.scales, attacks, ledger.read, listener)

        return share_out(team, pending, bar.watched(job.compute), writer, conclude)


class _Memory:
    """What :class:`RunStore` does, for a run that nobody wants to keep."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about, self._units = dict(about), dict[Unit, UnitResult]()

    def about(self) -> dict[str, Any]:
        return self._about

    def finished(self) -> set[Unit]:
        return set(self._units)

    def data(self) -> dict[int, str]:
        return {}

    def read(self, attack: int) -> list[UnitResult]:
        return [finished for unit, finished in sorted(self._units.items()) if unit.attack == attack]

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        self._units[unit] = finished


class _Writer:
    """Saves what is finished, and looks at the clean metrics as soon as all labels have been seen."""

    def __init__(self, job: Job, ledger: RunStore | _Memory, bar: Progress) -> None:
        self.job, self.ledger, self.bar = job, ledger, bar
        self.measured = sum(unit.attack == CLEAN for unit in ledger.finished())

    def __call__(self, unit: Unit, finished: UnitResult, rank: int) -> None:
        self.ledger.save(unit, finished, rank)
        self.bar.advance(unit)
        if unit.attack == CLEAN:
            self.measured += 1
            if self.measured == len(self.job.chunks):
                check_clean(self.job.evaluator.scales, [one.part for one in self.ledger.read(CLEAN)])


def _open(
    stack: ExitStack,
    team: ProcessGroup,
    job: Job,
    about: Mapping[str, Any],
    store: str | Path | None,
    restart: bool,
    repair: bool,
    accept: Collection[str],
) -> RunStore | _Memory:
    """Where the run is kept; in all but the first process an empty place, which nobody looks at."""
    kept: RunStore | _Memory = _Memory(about)

    def held() -> None:
        nonlocal kept
        if store is not None:
            infos = [info for info, _ in job.attacks]
            kept = stack.enter_context(RunStore.held(store, about, infos, team.size, restart, repair, accept))

    team.by_first(held)
    return kept


def _settings(job: Job, victim: str) -> dict[str, Any]:
    """All that decides the numbers."""
    evaluator = job.evaluator
    return describe_run(
        evaluator.estimator,
        job.attacks,
        victim=victim,
        samples=len(job.source),
        chunk=job.chunk,
        seed=job.seed,
        batch_size=evaluator.batch_size,
        protocol=evaluator.protocol,
    )


def _check_team(team: ProcessGroup, settings: Mapping[str, Any]) -> None:
    """Raise in every process unless all of them are about to do the same."""
    first, *others = team.gather(settings)
    for rank, found in enumerate(others, 1):
        check_same(first, found, "Process 0 does a run", f"Process {rank} should be about to do the same.")
