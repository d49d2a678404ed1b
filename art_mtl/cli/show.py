"""``art-mtl show``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from art_mtl.cli.console import say, say_written, show_table
from art_mtl.cli.options import Command


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Print the table of a run, also while it goes on, or of results; write its report.

    Attributes:
        results: The folder that benchmark --out was given, at any time, or a results.json.
        format: How the table is printed.
        out: Where the report is written: a page, NAME.html, or a folder. Default: nowhere.
    """

    results: Annotated[Positional[Path], arg(metavar="DIR|RESULTS.json")]
    format: Literal["terminal", "csv", "markdown", "latex"] = "terminal"
    out: Path | None = None

    def run(self, command_line: str) -> None:
        """Write the report, print the tables."""
        from art_mtl.evaluation import Run, make_measure_table, make_table, to_csv
        from art_mtl.evaluation.report.write import check_report_path

        if self.out is not None:
            check_report_path(self.out, self.results, "out")
        run = Run.read(self.results)
        if not run.is_finished:
            count = "none" if run.found is None else run.found.samples
            say(
                f"{run.done} of {run.total} attacks × chunks are finished; the table is of {count} of the "
                f"{run.samples} samples"
            )
        if run.found is None:
            return
        results = run.found
        if self.out is not None:
            say_written(run.report(self.out))
        if self.format == "csv":
            sys.stdout.write(to_csv(make_table(results, deltas=True)))
        else:
            elsewhere = "--format markdown shows all columns"
            show_table(make_table(results), self.format, caption=False, elsewhere=elsewhere)
            if results.measures:
                show_table(make_measure_table(results), self.format, elsewhere=elsewhere)
