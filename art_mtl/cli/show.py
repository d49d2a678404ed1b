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
        from art_mtl.evaluation import make_table, to_csv

        results = _results(self.results)
        if results is None:
            return
        if self.format == "csv":
            sys.stdout.write(to_csv(make_table(results, deltas=True)))
        else:
            show_table(make_table(results), self.format, caption=False)


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
