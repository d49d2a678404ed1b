"""``art-mtl bench``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from art_mtl.cli.console import say
from art_mtl.cli.options import Command, Device, Flag, Maybe, Steps
from art_mtl.core import checks

if TYPE_CHECKING:
    from art_mtl.profiling import Subject

_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Bench(Command):
    """Measure what a step costs on this machine, beside what it can cost.

    Times side by side, in one run, relative to one forward and one backward pass to the input; tables in Markdown. It
    wants a quiet machine; with OMP_NUM_THREADS=1 figures spread least.

    Attributes:
        victim: rooms, digits, … (see list), or mtan: ResNet-50 at 288×384, random weights.
        batch: Samples. Default: 8; of mtan 1; of --time-to-degradation and --degradation 64.
        rounds: Rounds of timing, at least 2.
        variants: "all", or names such as minmax minmax:bf16 art. None given: the usual ones.
        sweep: Cost against 1, 2, 3, 6 tasks and batches of 1 to 32.
        activations: Memory kept for the backward pass, by preparation.
        time_to_degradation: Time to the best published 20-step Δ_Wor, against worst-task.
        degradation: Δ_Wor of worst-task, by preparation.
        prepare: Preparations for the last three. None given: those that fit.
    """

    victim: str = "rooms"
    batch: Maybe[int] = None
    steps: Steps = 10
    rounds: Annotated[int, checks.integer(2)] = 15
    variants: tuple[str, ...] = ()
    device: Device = "auto"
    sweep: Flag = False
    activations: Flag = False
    time_to_degradation: Flag = False
    degradation: Flag = False
    prepare: tuple[str, ...] = ()

    def run(self, command_line: str) -> None:
        """Print the tables that are asked for."""
        from art_mtl.evaluation.grid import check_device

        check_device(self.device)
        tables = {
            _sweep: self.sweep,
            _activations: self.activations,
            _time_to_degradation: self.time_to_degradation,
            _degradation: self.degradation,
        }
        for table in [table for table, asked in tables.items() if asked] or [_steps]:
            table(self)


def _subject(options: Bench, batch: int) -> Subject:
    from art_mtl.profiling import load_subject

    return load_subject(options.victim, options.batch or batch, options.device)


def _steps(options: Bench) -> None:
    from art_mtl.profiling import LIMIT, compare, make_variants
    from art_mtl.profiling.variants import ALL, USUAL, describe

    names = ALL if options.variants == ("all",) else options.variants or USUAL
    subject = _subject(options, 1 if options.victim == "mtan" else 8)
    variants = make_variants(subject, options.steps, names)
    say(f"{len(variants)} variants, {options.rounds} rounds and one to warm up …")
    ratios = compare(variants, LIMIT, options.rounds, subject.estimator.device)
    _caption(subject, options, f"Limit: {1000 * ratios[0].seconds / options.steps:.2f} ms a step.")
    _table(
        ("variant", "what it is", "time / limit", "quartiles"),
        ((r.name, describe(r.name), f"{r.median:.3f}", f"{r.low:.3f} – {r.high:.3f}") for r in ratios),
    )


def _sweep(options: Bench) -> None:
    from art_mtl.profiling import sweep

    costs = sweep(steps=options.steps, rounds=options.rounds, device=options.device)
    print(f"A trunk with K dense heads at 64×96; {options.steps} steps, {options.rounds} rounds.\n")
    _table(
        ("K", "batch", "limit, ms a step and sample", "FLOPs / K = 1", "time / K = 1", "minmax / limit"),
        ((c.tasks, c.batch, f"{c.milliseconds:.2f}", f"{c.flops:.3f}", f"{c.time:.3f}", f"{c.overhead:.3f}")
         for c in costs),
    )  # fmt: skip


def _activations(options: Bench) -> None:
    from art_mtl.profiling import measure_activations
    from art_mtl.profiling.activations import PREPARATIONS

    subject = _subject(options, 1)
    found = measure_activations(subject, options.prepare or PREPARATIONS)
    _caption(subject, options, "Kept for the backward pass of one step.")
    _table(
        ("model", "MiB", "of exact"),
        ((how, f"{kept / _MIB:.1f}", f"{kept / found['exact']:.3f}") for how, kept in found.items()),
    )


def _time_to_degradation(options: Bench) -> None:
    from art_mtl.profiling import time_to_degradation

    subject = _subject(options, 64)
    rows = []
    for found in time_to_degradation(subject, options.prepare or ["exact", "fp32"], options.rounds):
        hosted = found.hosted
        speed = "–" if hosted is None else f"{hosted.median:.2f} ({hosted.low:.2f} – {hosted.high:.2f})"
        baseline, own = f"{found.method}: {found.degradation:.2f}", f"{found.reached:.2f}"
        rows.append((found.prepare, baseline, own, found.steps or "more than 20", speed))
    _caption(subject, options, "Δ_Wor in percent; 20 steps of the best published method, hosted in ART.")
    _table(("worst-task on", "published, 20 steps", "worst-task", "its steps", "times as fast (quartiles)"), rows)


def _degradation(options: Bench) -> None:
    from art_mtl.profiling import degradation_by_preparation

    subject = _subject(options, 64)
    found = degradation_by_preparation(subject, options.prepare or ["exact", "fp32", "bf16"], options.steps)
    _caption(subject, options, "Δ_Wor of worst-task in percent, measured with the model as it is.")
    _table(("steps on", "Δ_Wor"), ((how, f"{degradation:.2f}") for how, degradation in found.items()))


def _caption(subject: Subject, options: Bench, text: str) -> None:
    import torch

    where = subject.estimator.device
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    work = f"batch {len(subject.x)}, {options.steps} steps, {options.rounds} rounds"
    print(f"{subject.name}, {work}, {name}, torch {torch.__version__}. {text}\n")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(map(str, row))} |")
    print()
