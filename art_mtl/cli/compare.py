"""``art-mtl compare``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from art_mtl.cli.common import add_command, console, count, seed

_FORMATS = ("terminal", "markdown", "latex")


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "compare",
        help="set runs side by side, with confidence intervals",
        description="Set runs side by side: 95 % intervals by bootstrap over the samples; * marks differences from the "
        "first run whose interval excludes 0.",
    )
    add = command.add_argument
    add("folders", nargs="+", metavar="DIR", type=Path, help="two or more that benchmark --out was given")
    add("--metrics", action="store_true", help="with the metric of every task")
    add("--resamples", type=count, default=1000, help="default: %(default)s")
    add("--seed", type=seed, default=0, help="of the resampling; default: %(default)s")
    add("--format", choices=_FORMATS, default="terminal", help="default: %(default)s")
    command.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> None:
    from art_mtl.evaluation import compare_runs, to_latex, to_markdown, to_rich

    found = compare_runs(options.folders, metrics=options.metrics, resamples=options.resamples, seed=options.seed)
    table = found.table()
    if options.format == "terminal":
        console().print(to_rich(table))
    elif options.format == "latex":
        sys.stdout.write(to_latex(table))
    else:
        sys.stdout.write(f"{table.caption}\n\n{to_markdown(table)}\n")
