"""``art-mtl bench``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from art_mtl.cli.common import add_command, count, say

if TYPE_CHECKING:
    from art_mtl.bench import Subject

_MIB = 2**20


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "bench",
        help="what a step costs on this machine, beside what it can cost",
        description="Times side by side, in one run, relative to one forward and one backward pass to the input; "
        "tables in Markdown. Wants a quiet machine; with OMP_NUM_THREADS=1 figures spread least.",
    )
    add = command.add_argument
    add("--victim", default="rooms", help="rooms, digits, … (see list), or mtan: ResNet-50 at 288×384, random weights")
    add("--batch", type=count, help="samples; default: 8, mtan 1, --time-to-degradation and --degradation 64")
    add("--steps", type=count, default=10, help="default: %(default)s")
    add("--rounds", type=count, default=15, help="at least 2; default: %(default)s")
    add("--variants", nargs="+", metavar="NAME", help="'all', or names such as minmax minmax:bf16 art; default: usual")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    add("--sweep", action="store_true", help="cost against 1, 2, 3, 6 tasks and batches of 1 to 32")
    add("--activations", action="store_true", help="memory kept for the backward pass, by preparation")
    add(
        "--time-to-degradation",
        action="store_true",
        help="time to the best published 20-step Δ_Wor, against worst-task",
    )
    add("--degradation", action="store_true", help="Δ_Wor of worst-task, by preparation")
    add("--prepare", nargs="+", metavar="HOW", help="for the last three; default: those that fit")
    command.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> None:
    from art_mtl.evaluation.grid import check_device

    check_device(options.device)
    if options.rounds < 2:
        raise ValueError(f"argument --rounds: expected at least 2; found {options.rounds}")
    chosen = [
        table
        for asked, table in (
            (options.sweep, _sweep),
            (options.activations, _activations),
            (options.time_to_degradation, _time_to_degradation),
            (options.degradation, _degradation),
        )
        if asked
    ]
    for table in chosen or [_steps]:
        table(options)


def _subject(options: argparse.Namespace, batch: int) -> Subject:
    from art_mtl.bench import load_subject

    return load_subject(options.victim, options.batch or batch, options.device)


def _steps(options: argparse.Namespace) -> None:
    from art_mtl.bench import LIMIT, compare, make_variants
    from art_mtl.bench.variants import ALL, USUAL, describe

    names = ALL if options.variants == ["all"] else options.variants or USUAL
    subject = _subject(options, 1 if options.victim == "mtan" else 8)
    variants = make_variants(subject, options.steps, names)
    say(f"{len(variants)} variants, {options.rounds} rounds and one to warm up …")
    ratios = compare(variants, LIMIT, options.rounds, subject.estimator.device)
    _caption(subject, options, f"Limit: {1000 * ratios[0].seconds / options.steps:.2f} ms a step.")
    _table(
        ("variant", "what it is", "time / limit", "quartiles"),
        ((r.name, describe(r.name), f"{r.median:.3f}", f"{r.low:.3f} – {r.high:.3f}") for r in ratios),
    )


def _sweep(options: argparse.Namespace) -> None:
    from art_mtl.bench import sweep

    costs = sweep(steps=options.steps, rounds=options.rounds, device=options.device)
    print(f"A trunk with K dense heads at 64×96; {options.steps} steps, {options.rounds} rounds.\n")
    _table(
        ("K", "batch", "limit, ms a step and sample", "FLOPs / K = 1", "time / K = 1", "minmax / limit"),
        ((c.tasks, c.batch, f"{c.milliseconds:.2f}", f"{c.flops:.3f}", f"{c.time:.3f}", f"{c.overhead:.3f}")
         for c in costs),
    )  # fmt: skip


def _activations(options: argparse.Namespace) -> None:
    from art_mtl.bench import measure_activations
    from art_mtl.bench.activations import PREPARATIONS

    subject = _subject(options, 1)
    found = measure_activations(subject, options.prepare or PREPARATIONS)
    _caption(subject, options, "Kept for the backward pass of one step.")
    _table(
        ("model", "MiB", "of exact"),
        ((how, f"{kept / _MIB:.1f}", f"{kept / found['exact']:.3f}") for how, kept in found.items()),
    )


def _time_to_degradation(options: argparse.Namespace) -> None:
    from art_mtl.bench import time_to_degradation

    subject = _subject(options, 64)
    rows = []
    for found in time_to_degradation(subject, options.prepare or ["exact", "fp32"], options.rounds):
        hosted = found.hosted
        speed = "–" if hosted is None else f"{hosted.median:.2f} ({hosted.low:.2f} – {hosted.high:.2f})"
        baseline, own = f"{found.method}: {found.degradation:.2f}", f"{found.reached:.2f}"
        rows.append((found.prepare, baseline, own, found.steps or "more than 20", speed))
    _caption(subject, options, "Δ_Wor in percent; 20 steps of the best published method, hosted in ART.")
    _table(("worst-task on", "published, 20 steps", "worst-task", "its steps", "times as fast (quartiles)"), rows)


def _degradation(options: argparse.Namespace) -> None:
    from art_mtl.bench import degradation_by_preparation

    subject = _subject(options, 64)
    found = degradation_by_preparation(subject, options.prepare or ["exact", "fp32", "bf16"], options.steps)
    _caption(subject, options, "Δ_Wor of worst-task in percent, measured with the model as it is.")
    _table(("steps on", "Δ_Wor"), ((how, f"{degradation:.2f}") for how, degradation in found.items()))


def _caption(subject: Subject, options: argparse.Namespace, text: str) -> None:
    import torch

    where = subject.estimator.device
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    work = f"batch {len(subject.x)}, {options.steps} steps, {options.rounds} rounds"
    print(f"{subject.name}, {work}, {name}, torch {torch.__version__}. {text}\n")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(map(str, row))} |")
    print()
