"""Run attacks on a data set chunk by chunk, here or on many devices, on disk or in memory."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm.auto import tqdm

from art_mtl.core.warn import warn
from art_mtl.data.sources import Source
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, attack_info, input_range, planned_evaluations
from art_mtl.evaluation.callbacks import CallbackList, RunPlan, UnitReport
from art_mtl.evaluation.experiment import CONFIG, Experiment
from art_mtl.evaluation.further_measures import Measure
from art_mtl.evaluation.job import Job
from art_mtl.evaluation.measure import Evaluator, check_clean
from art_mtl.evaluation.measure_specs import MeasureSpec
from art_mtl.evaluation.provenance import check_data, describe_run
from art_mtl.evaluation.reading import Chunks
from art_mtl.evaluation.report.gallery import Gallery
from art_mtl.evaluation.report.stored_gallery import keep_samples
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.step_recorder import lacks_losses, mean_steps
from art_mtl.evaluation.store import RunStore
from art_mtl.evaluation.summary import Summary, heading_of
from art_mtl.evaluation.units import CLEAN, Unit, UnitResult
from art_mtl.evaluation.workers import check_not_torchrun, work
from art_mtl.files import write_text

if TYPE_CHECKING:
    from art_mtl.core.context import StepRecord
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
    measures: Sequence[Measure],
    victim: str,
    command: str | None,
    progress: bool,
    callbacks: CallbackList,
    gallery: Gallery,
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
    evaluator = Evaluator(estimator, batch_size, protocol, measures)
    infos = [attack_info(name, attack) for name, attack in attacks]
    named = [(info, attack) for info, (_, attack) in zip(infos, attacks, strict=True)]
    job = Job(
        evaluator, source, named, experiment.chunk, experiment.seed, experiment.threads, experiment.keep_adversarial,
        callbacks.losses_every,
    )  # fmt: skip
    measured = [MeasureSpec.of(j, *pair) for j, pair in enumerate(zip(measures, evaluator.measure_scales, strict=True))]
    about: dict[str, Any] = {
        "environment": asdict(environment.describe(str(estimator.device), experiment.seed)),
        "command": command,
        "victim": victim,
        "clip_values": input_range(estimator.clip_values),
        "protocol": protocol,
        "samples": len(source),
        "chunk": job.chunk,
        "scales": [scale.to_json() for scale in evaluator.scales],
        "measures": [one.to_json() for one in measured],
    }
    with ExitStack() as stack:
        store = None
        if out is not None:
            about["settings"] = _settings(job, victim)
            store = stack.enter_context(RunStore.held(out, about, infos, restart=restart, repair=repair, accept=accept))
        ledger: Ledger = store or _Memory(about)
        done = ledger.finished()
        check_data(source, job.chunks, ledger.data(), str(out))
        if callbacks.losses_every and done:
            _warn_of_losses(ledger, len(infos), callbacks.losses_every)
        if out is not None:
            write_text(Path(out) / CONFIG, experiment.to_yaml())
        pending = [unit for unit in job.units if unit not in done]
        if not pending and progress:
            _log.info("%s is complete already; nothing is computed.", out)
        summary, total = Summary(evaluator.scales, ledger.read, measured), len(infos) * len(job.chunks)
        attacked = sum(unit.attack != CLEAN for unit in done)
        # The mean pace of all attacks tells the time that is left; that of the last one and of clean units does not.
        bar = stack.enter_context(
            tqdm(total=total, initial=attacked, unit="unit", smoothing=0, disable=not progress or not total)
        )
        tasks = tuple(task.name for task in estimator.tasks)
        costs = tuple(planned_evaluations(info, attack, len(tasks)) for info, attack in named)
        plan = RunPlan(experiment, victim, tasks, tuple(infos), len(source), attacked, total, costs)
        writer = _Writer(job, ledger, done, bar, callbacks, plan, summary)
        with _interruptible(out):
            writer.begin()
            work(job, pending, writer, ray, writer.on_step if callbacks.hears_steps else None)
        numbered = list(enumerate(infos, 1))
        results = summary.results(heading_of(ledger.about()), numbered)
        if store is not None:
            keep_samples(store, gallery, results)
            return results, None
        chunks = tuple(range(len(job.chunks)))
        read = {number: ledger.read(number) for number in range(len(infos) + 1)}
        scales = tuple(evaluator.scales)
        return results, Chunks(victim, about, tuple(numbered), chunks, read, total, total, scales, measured)


def _warn_of_losses(ledger: Ledger, attacks: int, every: int) -> None:
    """Say that units which were stored before do not have the losses that a callback asks for."""
    stored = (one.steps for number in range(1, attacks + 1) for one in ledger.read(number))
    lacking = sum(lacks_losses(steps, every) for steps in stored)
    if lacking:
        warn(
            f"A callback asks for losses of every {every} steps, which {lacking} stored unit(s) do not have. The "
            "losses of their attacks are None; --restart computes everything again."
        )


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
    """Saves what is finished, tells the callbacks, and passes warnings on, each once. It looks at the data of every
    unit, which must be those of the clean chunk, and at the clean metrics as soon as all labels have been seen.
    """

    def __init__(
        self,
        job: Job,
        ledger: Ledger,
        done: set[Unit],
        bar: Any,
        callbacks: CallbackList,
        plan: RunPlan,
        summary: Summary,
    ) -> None:
        self.job, self.ledger, self.bar, self.callbacks, self.plan = job, ledger, bar, callbacks, plan
        self.summary = summary
        self.data = ledger.data()
        self.told = set[str]()
        self.done = plan.done
        counts = Counter(unit.attack for unit in done)
        self.missing = {number: len(job.chunks) - counts[number] for number in range(len(job.attacks) + 1)}
        """How many chunks of each attack are to be done."""
        self.unfinished = list(range(1, len(job.attacks) + 1))
        """Attacks whose results the callbacks have not been told."""

    def begin(self) -> None:
        """The run begins."""
        self.callbacks.on_begin(self.plan)
        self._tell_results()

    def on_step(self, unit: Unit, record: StepRecord) -> None:
        """An attack makes a step."""
        self.callbacks.on_step(self.job.attacks[unit.attack - 1][0], unit.chunk, record)

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
        self.missing[unit.attack] -= 1
        self.done += unit.attack != CLEAN
        self.bar.set_description(self.job.label(unit), refresh=False)
        if unit.attack == CLEAN:
            self.bar.unpause()  # sets its clock to 0, as clean units do not count
        else:
            self.bar.update()
        self._tell_unit(unit, finished)
        if unit.attack == CLEAN and not self.missing[CLEAN]:
            parts = [one.part for one in self.ledger.read(CLEAN)]
            check_clean(self.job.evaluator.scales, parts)
            for one in self.summary.measures:
                one.total(parts)  # which raises where it is not one number
        self._tell_results()

    def _tell_unit(self, unit: Unit, finished: UnitResult) -> None:
        weights, losses = mean_steps([finished.steps])
        info = None if unit.attack == CLEAN else self.job.attacks[unit.attack - 1][0]
        where = info, unit.chunk, len(finished.part), finished.seconds
        self.callbacks.on_unit(UnitReport(*where, weights, losses, self.done, self.plan.total))

    def _tell_results(self) -> None:
        """Tell of the attacks that have finished all chunks."""
        if self.missing[CLEAN]:
            return
        for number in [number for number in self.unfinished if not self.missing[number]]:
            self.unfinished.remove(number)
            result, examples = self.summary.add(number, self.job.attacks[number - 1][0])
            if examples is not None:
                self.callbacks.on_attack(result, examples)


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
        measures=evaluator.measures,
    )
    return {**described, "keep_adversarial": job.keep_adversarial}
