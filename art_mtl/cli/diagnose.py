"""``art-mtl diagnose``, and what ``art-mtl benchmark --diagnose`` adds to a benchmark."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.cli.benchmark import eps_argument
from art_mtl.cli.common import VICTIMS, add_command, console, count, say, seed

if TYPE_CHECKING:
    from art_mtl.evaluation import Results, Victim
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.grid import Cell

_NORMS = ("linf", "l2", "l1")
_FORMATS = ("terminal", "markdown", "json")
_SAMPLES = 64
_QUERIES = 200


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "diagnose",
        help="check whether the degradation that an attack reports is to be believed",
        description="Ten sanity checks for unreliable attacks: which of them fail, and what to do.",
    )
    option = command.add_argument
    option("--victim", default="rooms", help=f"{VICTIMS}; default: %(default)s")
    option("--method", default="worst-task", metavar="NAME", help="a name that 'list' shows; default: %(default)s")
    option("--norm", choices=_NORMS, help="default: that of --eps, or the victim's")
    option("--eps", type=eps_argument, metavar="EPS", help="such as 4/255 or l2:1.0; default: the victim's first")
    option("--steps", type=count, default=10, help="default: %(default)s")
    option("--schedule", choices=("published", "linear", "cosine"), default="published", help="default: %(default)s")
    option("--limit", type=count, default=_SAMPLES, help="first samples of the test data; default: %(default)s")
    option("--batch-size", type=count, default=32, help="default: %(default)s")
    option("--queries", type=count, default=_QUERIES, help="of the search without gradients; default: %(default)s")
    option("--seed", type=seed, default=0, help="default: %(default)s")
    option("--root", type=Path, help="folder of the victim's data (nyuv2, cityscapes)")
    option("--checkpoint", type=Path, help="weights of the victim")
    option("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    option("--format", choices=_FORMATS, default="terminal", help="default: %(default)s")
    option("--out", type=Path, metavar="FILE.json", help="write the diagnosis here")
    option("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_diagnose)


def diagnose_benchmark(results: Results, victim: Victim, options: argparse.Namespace) -> None:
    """Diagnose the strongest attack of every norm and radius of a benchmark, and print what was found.

    Args:
        results: Of the benchmark.
        victim: Whose results these are.
        options: Of ``art-mtl benchmark``; with ``out`` each diagnosis is also written there, as JSON.
    """
    from art_mtl.core.methods import spec_of
    from art_mtl.evaluation.grid import Cell

    for block in results.blocks():
        baselines = [a for a in block.attacks if not spec_of(a.method).is_reference and a.delta_wor is not None]
        if block.norm is None or block.eps is None or not baselines:
            continue
        strongest = min(baselines, key=lambda attack: attack.delta_wor or 0.0)
        cell = Cell(strongest.method, block.norm, block.eps, strongest.schedule)
        found = _run(victim, cell, options, _QUERIES)
        _print(found, "terminal")
        if options.out is not None:
            path = options.out / f"diagnosis-{block.norm}-{block.eps:.6g}.json"
            found.to_json(path)
            say(f"diagnosis in {path}")


def _diagnose(options: argparse.Namespace) -> None:
    from art_mtl.evaluation import load_victim
    from art_mtl.evaluation.grid import plan_grid, plan_radii

    if options.queries < 2:
        raise ValueError(f"argument --queries: expected at least 2; found {options.queries}")
    if options.out is not None and options.out.is_dir():
        raise ValueError(f"argument --out: expected a file; found the folder {str(options.out)!r}")
    victim = load_victim(options.victim, root=options.root, checkpoint=options.checkpoint)
    own, radius = options.eps or (None, None)
    if own is not None and options.norm not in (None, own):
        raise ValueError(f"argument --eps: expected a radius of the norm asked for, {options.norm}; found one of {own}")
    norm = own or options.norm
    radii = plan_radii(victim, None if norm is None else [norm], None if radius is None else [radius])
    chosen = next(iter(radii))
    cells = plan_grid(victim.tasks, [options.method], {chosen: radii[chosen][:1]}, [options.schedule])
    if len(cells) > 1:
        raise ValueError(f"argument --method: expected one method; found {options.method!r}, which is {len(cells)}")
    found = _run(victim, cells[0], options, options.queries)
    _print(found, options.format)
    if options.out is not None:
        found.to_json(options.out)
        say(f"diagnosis in {options.out}")


def _run(victim: Victim, cell: Cell, options: argparse.Namespace, queries: int) -> Diagnosis:
    from art_mtl.evaluation.batch_size import settle_batch_size
    from art_mtl.evaluation.diagnosis import diagnose
    from art_mtl.evaluation.grid import make_attack, make_estimator

    estimator = make_estimator(victim, options.device)
    batch_size = settle_batch_size(options.batch_size, estimator, victim.source("test", options.limit), None)
    x, y = victim.data("test", options.limit)
    return diagnose(
        estimator,
        make_attack(estimator, cell, options.steps, batch_size),
        x,
        y,
        queries=queries,
        batch_size=batch_size,
        seed=options.seed,
        victim=victim.name,
        command=options.command_line,
        progress=not options.quiet,
    )


def _print(found: Diagnosis, form: str) -> None:
    from art_mtl.evaluation import to_markdown, to_rich
    from art_mtl.evaluation.diagnosis import diagnosis_table

    table = diagnosis_table(found)
    if form == "json":
        print(found.to_json_text(), end="")
    elif form == "markdown":
        print(f"{table.caption}\n\n{to_markdown(table)}")
    else:
        console().print(to_rich(table))
    if found.failed:
        say(f"{len(found.failed)} of {len(found.checks)} checks failed: {', '.join(found.failed)}")
