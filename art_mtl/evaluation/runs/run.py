"""Run attacks on a data set chunk by chunk, alone or in a team, on disk or in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, attack_info, input_range
from art_mtl.evaluation.callbacks import Callback, UnitReport
from art_mtl.evaluation.experiment import Experiment
from art_mtl.evaluation.measure import Evaluator, check_clean
from art_mtl.evaluation.results import AttackResult, Results
from art_mtl.evaluation.runs.job import Job
from art_mtl.evaluation.runs.progress import Progress
from art_mtl.evaluation.runs.records import CLEAN, Unit, UnitResult
from art_mtl.evaluation.runs.settings import describe_attacks, describe_data, describe_model, differences
from art_mtl.evaluation.runs.sharing import share_out
from art_mtl.evaluation.runs.store import RunStore
from art_mtl.evaluation.runs.summary import heading_of, results_of
from art_mtl.evaluation.samples import Inputs, Source
from art_mtl.evaluation.step_recorder import mean_steps
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
    experiment: Experiment,
    victim: str,
    command: str | None,
    progress: bool,
    callbacks: Sequence[Callback],
    out: str | Path | None,
    restart: bool,
    accept: Sequence[str],
    ray: str | None,
) -> tuple[Results, int]:
    """What :func:`art_mtl.evaluation.evaluate` does once its arguments are in canonical form; names may repeat from
    block to block. The results, and of how many attacks × chunks.
    """
    team = ProcessGroup(0, 1, estimator.device)
    seed, protocol, store = experiment.seed, experiment.protocol, out
    evaluator = Evaluator(estimator, batch_size, protocol)
    named = [(attack_info(name, attack), attack) for name, attack in attacks]
    losses_every = [callback.losses_every for callback in callbacks if callback.losses_every]
    job = Job(evaluator, source, named, experiment.chunk, seed, math.gcd(*losses_every))
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
        ledger = _open(stack, team, job, about, store, restart)
        pending = team.by_first(lambda: [unit for unit in job.units if unit not in ledger.finished()])
        bar = stack.enter_context(Progress.shown(progress and team.is_first, job, pending))
        total = len(named) * len(job.chunks)
        hearing = _Hearing(callbacks, job, total, total - sum(unit.attack != CLEAN for unit in pending))
        writer = _Writer(job, ledger, bar, hearing)

        def listener(result: AttackResult, examples: Inputs) -> None:
            for callback in callbacks:
                callback.attack(result, examples)

        def conclude() -> Results:
            attacks = list(enumerate((info for info, _ in named), 1))
            return results_of(heading_of(ledger.about()), evaluator.scales, attacks, ledger.read, listener)

        return share_out(team, pending, bar.watched(job.compute), writer, conclude), total


class _Hearing:
    """Tells callbacks of the units of a run."""

    def __init__(self, callbacks: Sequence[Callback], job: Job, total: int, done: int) -> None:
        self.callbacks, self.job, self.total, self.done = callbacks, job, total, done
        for callback in callbacks:
            callback.begin(total, done)

    def tell(self, unit: Unit, finished: UnitResult) -> None:
        """A unit has been stored."""
        self.done += unit.attack != CLEAN
        weights, losses = mean_steps([finished.steps])
        info = None if unit.attack == CLEAN else self.job.attacks[unit.attack - 1][0]
        where = info, unit.chunk, len(finished.part), finished.seconds
        report = UnitReport(*where, weights, losses, self.done, self.total)
        for callback in self.callbacks:
            callback.unit(report)


class _Memory:
    """What :class:`RunStore` does, for a run that nobody wants to keep."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._about, self._units = dict(about), dict[Unit, UnitResult]()

    def about(self) -> dict[str, Any]:
        return self._about

    def finished(self) -> set[Unit]:
        return set(self._units)

    def read(self, attack: int) -> list[UnitResult]:
        return [finished for unit, finished in sorted(self._units.items()) if unit.attack == attack]

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        self._units[unit] = finished


class _Writer:
    """Saves what is finished, and looks at the clean metrics as soon as all labels have been seen."""

    def __init__(self, job: Job, ledger: RunStore | _Memory, bar: Progress, hearing: _Hearing) -> None:
        self.job, self.ledger, self.bar, self.hearing = job, ledger, bar, hearing

    def __call__(self, unit: Unit, finished: UnitResult, rank: int) -> None:
        self.ledger.save(unit, finished, rank)
        self.bar.advance(unit)
        self.hearing.tell(unit, finished)
        if unit.attack == CLEAN:
            clean = self.ledger.read(CLEAN)
            if len(clean) == len(self.job.chunks):
                check_clean(self.job.evaluator.scales, [one.part for one in clean])


def _open(
    stack: ExitStack, team: ProcessGroup, job: Job, about: Mapping[str, Any], store: str | Path | None, restart: bool
) -> RunStore | _Memory:
    """Where the run is kept; in all but the first process an empty place, which nobody looks at."""
    kept: RunStore | _Memory = _Memory(about)

    def held() -> None:
        nonlocal kept
        if store is not None:
            infos = [info for info, _ in job.attacks]
            kept = stack.enter_context(RunStore.held(store, about, infos, team.size, restart))

    team.by_first(held)
    return kept


def _settings(job: Job, victim: str) -> dict[str, Any]:
    """All that decides the numbers."""
    evaluator = job.evaluator
    device = evaluator.estimator.device.type
    packages = environment.describe(device, job.seed).packages
    tasks = {scale.name: f"{scale.kind}, {scale.metric}" for scale in evaluator.scales}
    run = {"batch size": evaluator.batch_size, "seed": job.seed, "chunk": job.chunk, "protocol": evaluator.protocol}
    return {
        "victim": {"": victim, "weights": describe_model(evaluator.estimator.model), "device": device, "tasks": tasks},
        "data": describe_data(job.source),
        "run": run,
        "version": packages,
        "attacks": describe_attacks(job.attacks),
    }


def _check_team(team: ProcessGroup, settings: Mapping[str, Any]) -> None:
    """Raise in every process unless all of them are about to do the same."""
    first, *others = team.gather(settings)
    for rank, found in enumerate(others, 1):
        differ = differences(first, found)
        if differ:
            raise ValueError(
                f"Process {rank} should be about to do the same as process 0. Found, there being process 0 and here "
                f"process {rank}: {'; '.join(differ)}."
            )
