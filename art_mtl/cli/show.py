"""``art-mtl show``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.cli.common import add_command, console, say

if TYPE_CHECKING:
    from art_mtl.evaluation import Results

_FORMATS = ("terminal", "csv", "markdown", "latex")


def add(commands: Any) -> None:
    """Make the command known."""
    show = add_command(
        commands,
        "show",
        help="print the table of a run, also while it goes on, or of results",
        description="Print the table of the folder that benchmark --out was given, at any time, or of a results.json.",
    )
    show.add_argument("results", metavar="DIR|RESULTS.json", type=Path)
    show.add_argument("--format", choices=_FORMATS, default="terminal", help="default: %(default)s")
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    from art_mtl.evaluation import make_table, to_csv, to_latex, to_markdown, to_rich

    results = _results(options.results)
    if results is None:
        return
    table = make_table(results)
    if options.format == "terminal":
        console().print(to_rich(table))
    elif options.format == "csv":
        sys.stdout.write(to_csv(make_table(results, deltas=True)))
    else:
        sys.stdout.write(to_latex(table) if options.format == "latex" else to_markdown(table) + "\n")


def _results(path: Path) -> Results | None:
    """Of a file, of a folder that holds nothing but a report, or of a run so far; None if it has none yet."""
    from art_mtl.evaluation import Results, read_run
    from art_mtl.evaluation.runs import holds_run

    if not path.is_dir() or (not holds_run(path) and (path / "results.json").is_file()):
        return Results.from_json(path / "results.json" if path.is_dir() else path)
    state = read_run(path)
    if not state.is_finished:
        counted = "none of the" if state.results is None else f"{state.results.samples} of the"
        say(
            f"{state.done} of {state.total} attacks × chunks are finished; the table is of {counted} "
            f"{state.samples} samples"
        )
    return state.results
