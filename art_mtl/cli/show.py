"""``art-mtl show``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from art_mtl.cli.console import say, show_table
from art_mtl.cli.options import Command

if TYPE_CHECKING:
    from art_mtl.evaluation import Results


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Print the table of a run, also while it goes on, or of results.

    Attributes:
        results: The folder that benchmark --out was given, at any time, or a results.json.
        format: How the table is printed.
    """

    results: Annotated[Positional[Path], arg(metavar="DIR|RESULTS.json")]
    format: Literal["terminal", "csv", "markdown", "latex"] = "terminal"

    def run(self, command_line: str) -> None:
        """Print the table."""
        from art_mtl.evaluation import make_measure_table, make_table, to_csv

        results = _results(self.results)
        if results is None:
            return
        if self.format == "csv":
            sys.stdout.write(to_csv(make_table(results, deltas=True)))
        else:
            elsewhere = "--format markdown shows all columns"
            show_table(make_table(results), self.format, caption=False, elsewhere=elsewhere)
            if results.measures:
                show_table(make_measure_table(results), self.format, elsewhere=elsewhere)


def _results(path: Path) -> Results | None:
    """Of a file, of a folder that holds nothing but a report, or of a run so far; None if it has none yet."""
    from art_mtl.evaluation import Run

    run = Run.read(path)
    if not run.is_finished:
        counted = "none of the" if run.found is None else f"{run.found.samples} of the"
        say(f"{run.done} of {run.total} attacks × chunks are finished; the table is of {counted} {run.samples} samples")
    return run.found
