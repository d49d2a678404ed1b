"""Run attacks on a data set chunk by chunk, here or on many devices, on disk or in memory."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm.auto import tqdm

from art_mtl.core.warn import warn
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, attack_info, input_range
from art_mtl.evaluation.measure import Evaluator, check_clean
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.runs.job import Job
from art_mtl.evaluation.runs.records import CLEAN, Unit, UnitResult
from art_mtl.evaluation.runs.settings import describe_attacks, describe_data, describe_model
from art_mtl.evaluation.runs.store import RunStore
from art_mtl.evaluation.runs.summary import Listener, heading_of, results_of
from art_mtl.evaluation.samples import Source
from art_mtl.evaluation.workers import check_not_torchrun, work

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["Ledger", "run_attacks"]


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
    threads: int | None = None,
    ray: str | None = None,
    keep_adversarial: bool = False,
) -> Results:
    """What :func:`art_mtl.evaluation.evaluate` does once its arguments are in canonical form; names may repeat from
    block to block.
    """
    check_not_torchrun()
    evaluator = Evaluator(estimator, batch_size, protocol)
    infos = [attack_info(name, attack) for name, attack in attacks]
    named = [(info, attack) for info, (_, attack) in zip(infos, attacks, strict=True)]
    job = Job(evaluator, source, named, chunk, seed, threads, keep_adversarial)
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
    with ExitStack() as stack:
        ledger: Ledger = _Memory(about)
        if store is not None:
            about["settings"] = _settings(job, victim)
            ledger = stack.enter_context(RunStore.held(store, about, infos, restart=restart))
        done = ledger.finished()
        pending = [unit for unit in job.units if unit not in done]
        bar = stack.enter_context(tqdm(total=len(job.units), initial=len(done), unit="unit", disable=not progress))
        with _interruptible(store):
            work(job, pending, _Writer(job, ledger, done, bar), ray)
        return results_of(
            heading_of(ledger.about()), evaluator.scales, list(enumerate(infos, 1)), ledger.read, listener
        )


class Ledger(Protocol):
    """Where the results of units are kept."""

    def about(self) -> dict[str, Any]:
        """What does not change."""
        ...

    def finished(self) -> set[Unit]:
        """The units that are kept."""
        ...

    def read(self, attack: int) -> list[UnitResult]:
        """What an attack came to, chunk by chunk."""
        ...

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        """Keep a unit that the worker of this number has finished."""
        ...


class _Memory:
    """The ledger of a run that nobody wants to keep."""

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
    """Saves what is finished, and passes its warnings on, each once. It looks at the data of every unit, which must be
    those of the clean chunk, and at the clean metrics as soon as all labels have been seen.
    """

    def __init__(self, job: Job, ledger: Ledger, done: set[Unit], bar: Any) -> None:
        self.job, self.ledger, self.bar = job, ledger, bar
        clean = sorted(unit.chunk for unit in done if unit.attack == CLEAN)
        self.missing = len(job.chunks) - len(clean)
        self.data = dict(zip(clean, (one.data for one in ledger.read(CLEAN)), strict=True))
        self.told = set[str]()

    def __call__(self, unit: Unit, finished: UnitResult, worker: int) -> None:
        if self.data.setdefault(unit.chunk, finished.data) not in ("", finished.data):
            raise ValueError(
                f"The data set should be the same from beginning to end, and on all hosts. Found another input or "
                f"label in {self.job.samples(unit.chunk)} under {self.job.label(unit)} (worker {worker})."
            )
        self.ledger.save(unit, finished, worker)
        for text in finished.warnings:
            if text not in self.told:
                self.told.add(text)
                warn(text)
        self.bar.set_description(self.job.label(unit), refresh=False)
        self.bar.update()
        if unit.attack == CLEAN:
            self.missing -= 1
            if not self.missing:
                check_clean(self.job.evaluator.scales, [one.part for one in self.ledger.read(CLEAN)])


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
    device = evaluator.estimator.device.type
    packages = environment.describe(device, job.seed).packages
    tasks = {scale.name: f"{scale.kind}, {scale.metric}" for scale in evaluator.scales}
    run = {"batch size": evaluator.batch_size, "seed": job.seed, "chunk": job.chunk, "protocol": evaluator.protocol}
    if device == "cpu":
        run["threads"] = job.threads
    return {
        "victim": {"": victim, "weights": describe_model(evaluator.estimator.model), "device": device, "tasks": tasks},
        "data": describe_data(job.source),
        "run": run,
        "version": packages,
        "attacks": describe_attacks(job.attacks),
    }
