"""Run attacks on a data set chunk by chunk, here or on many devices, on disk or in memory."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm.auto import tqdm

from art_mtl.core.warn import warn
from art_mtl.data.sources import Inputs, Source
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, attack_info, input_range
from art_mtl.evaluation.callbacks import Callback, UnitReport
from art_mtl.evaluation.experiment import Experiment
from art_mtl.evaluation.job import Job
from art_mtl.evaluation.measure import Evaluator, check_clean
from art_mtl.evaluation.provenance import check_data, describe_run
from art_mtl.evaluation.reading import Chunks
from art_mtl.evaluation.results import AttackResult, Results
from art_mtl.evaluation.step_recorder import mean_steps
from art_mtl.evaluation.store import RunStore
from art_mtl.evaluation.summary import heading_of, results_of
from art_mtl.evaluation.units import CLEAN, Unit, UnitResult
from art_mtl.evaluation.workers import check_not_torchrun, work

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

_log = logging.getLogger(__name__)

__all__ = ["Ledger", "run_attacks"]


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
    repair: bool,
    accept: Collection[str],
    ray: str | None,
) -> tuple[Results, Chunks | None]:
    """What :func:`art_mtl.evaluation.evaluate` does once its arguments are in canonical form; names may repeat from
    block to block. The results, and all that the attacks came to, where it is not stored in a folder.
    """
    check_not_torchrun()
    protocol = experiment.protocol
    evaluator = Evaluator(estimator, batch_size, protocol)
    infos = [attack_info(name, attack) for name, attack in attacks]
    named = [(info, attack) for info, (_, attack) in zip(infos, attacks, strict=True)]
    losses_every = math.gcd(*(callback.losses_every for callback in callbacks))
    job = Job(
        evaluator, source, named, experiment.chunk, experiment.seed, experiment.threads, experiment.keep_adversarial,
        losses_every,
    )  # fmt: skip
    about: dict[str, Any] = {
        "environment": asdict(environment.describe(str(estimator.device), experiment.seed)),
        "command": command,
        "victim": victim,
        "clip_values": input_range(estimator.clip_values),
        "protocol": protocol,
        "samples": len(source),
        "chunk": job.chunk,
        "scales": [scale.to_json() for scale in evaluator.scales],
    }
    with ExitStack() as stack:
        ledger: Ledger = _Memory(about)
        if out is not None:
            about["settings"] = _settings(job, victim)
            ledger = stack.enter_context(
                RunStore.held(out, about, infos, restart=restart, repair=repair, accept=accept)
            )
        done = ledger.finished()
        check_data(source, job.chunks, ledger.data(), str(out))
        pending = [unit for unit in job.units if unit not in done]
        if not pending and progress:
            _log.info("%s is complete already; nothing is computed.", out)
        bar = stack.enter_context(tqdm(total=len(job.units), initial=len(done), unit="unit", disable=not progress))
        with _interruptible(out):
            work(job, pending, _Writer(job, ledger, done, bar, callbacks), ray)

        def tell(result: AttackResult, examples: Inputs) -> None:
            for callback in callbacks:
                callback.attack(result, examples)

        numbered = list(enumerate(infos, 1))
        results = results_of(heading_of(ledger.about()), evaluator.scales, numbered, ledger.read, tell)
        if out is not None:
            return results, None
        total, chunks = len(infos) * len(job.chunks), tuple(range(len(job.chunks)))
        read = {number: ledger.read(number) for number in range(len(infos) + 1)}
        return results, Chunks(victim, about, tuple(numbered), chunks, read, total, total, tuple(evaluator.scales))


class Ledger(Protocol):
    """Where the results of units are kept."""

    def about(self) -> dict[str, Any]:
        """What does not change."""
        ...

    def finished(self) -> set[Unit]:
        """The units that are kept."""
        ...

    def data(self) -> dict[int, str]:
        """By chunk, the mark of the data of those that were kept before."""
        ...

    def read(self, attack: int) -> list[UnitResult]:
        """What an attack came to, chunk by chunk."""
        ...

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        """Keep a unit that the worker of this number has finished."""
        ...


class _Memory:
    """The ledger of a run that lasts as long as its process."""

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
    """Saves what is finished, and passes its warnings on, each once. It looks at the data of every unit, which must be
    those of the clean chunk, and at the clean metrics as soon as all labels have been seen.
    """

    def __init__(self, job: Job, ledger: Ledger, done: set[Unit], bar: Any, callbacks: Sequence[Callback]) -> None:
        self.job, self.ledger, self.bar, self.callbacks = job, ledger, bar, callbacks
        self.data = ledger.data()
        self.missing = len(job.chunks) - len(self.data)
        self.told = set[str]()
        self.total = len(job.attacks) * len(job.chunks)
        self.done = sum(unit.attack != CLEAN for unit in done)
        for callback in callbacks:
            callback.begin(self.total, self.done)

    def __call__(self, unit: Unit, finished: UnitResult, worker: int) -> None:
        if self.data.setdefault(unit.chunk, finished.data) not in ("", finished.data):
            raise ValueError(
                f"The data set should be the same from beginning to end, and on all hosts. Found another input or "
                f"label in {self.job.samples(unit.chunk)} under {self.job.label(unit)} (worker {worker})."
            )
        kept = finished if unit.attack == CLEAN else replace(finished, data="")
        self.ledger.save(unit, kept, worker)
        for text in finished.warnings:
            if text not in self.told:
                self.told.add(text)
                warn(text)
        self.bar.set_description(self.job.label(unit), refresh=False)
        self.bar.update()
        self._tell(unit, finished)
        if unit.attack == CLEAN:
            self.missing -= 1
            if not self.missing:
                check_clean(self.job.evaluator.scales, [one.part for one in self.ledger.read(CLEAN)])

    def _tell(self, unit: Unit, finished: UnitResult) -> None:
        self.done += unit.attack != CLEAN
        weights, losses = mean_steps([finished.steps])
        info = None if unit.attack == CLEAN else self.job.attacks[unit.attack - 1][0]
        where = info, unit.chunk, len(finished.part), finished.seconds
        report = UnitReport(*where, weights, losses, self.done, self.total)
        for callback in self.callbacks:
            callback.unit(report)


@contextmanager
def _interruptible(store: str | Path | None) -> Iterator[None]:
    """Ctrl-C, and SIGTERM, which is made the same: with the word how to go on."""
    in_main = threading.current_thread() is threading.main_thread()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt) if in_main else None
    try:
        yield
    except KeyboardInterrupt:
        kept = (
            "nothing was kept."
            if store is None
            else f"what is finished is in {store}, and the same command goes on from there."
        )
        raise KeyboardInterrupt(f"interrupted; {kept}") from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _settings(job: Job, victim: str) -> dict[str, Any]:
    """All that decides the numbers."""
    evaluator = job.evaluator
    described = describe_run(
        evaluator.estimator,
        job.attacks,
        victim=victim,
        samples=len(job.source),
        chunk=job.chunk,
        seed=job.seed,
        batch_size=evaluator.batch_size,
        protocol=evaluator.protocol,
        threads=job.threads,
    )
    return {**described, "keep_adversarial": job.keep_adversarial}
