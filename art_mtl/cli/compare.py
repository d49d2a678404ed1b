"""``art-mtl compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from art_mtl.cli.console import PROGRAM, show_table
from art_mtl.cli.options import Command, Flag, Seed, TableFormat


@dataclass(frozen=True, kw_only=True)
class Compare(Command):
    """Set runs side by side, with 95 % intervals by bootstrap over the samples.

    A * marks differences from the first run whose interval excludes 0. Notes name the settings that differ.

    Attributes:
        folders: Those of two runs or more, as benchmark --out was given them.
        metrics: Show the metric of every task, too.
        resamples: Of the bootstrap.
        format: How the table is printed.
    """

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR DIR ...")]
    metrics: Flag = False
    resamples: int = 1000
    seed: Seed = 0
    format: TableFormat = "terminal"

    def run(self, command_line: str) -> None:
        """Print the comparison."""
        if len(self.folders) < 2:
            given = ", ".join(map(str, self.folders)) or "none"
            raise ValueError(f"{PROGRAM} compare should be followed by the folders of two runs or more. Found {given}.")
        from art_mtl.evaluation import compare_runs

        found = compare_runs(self.folders, metrics=self.metrics, resamples=self.resamples, seed=self.seed)
        show_table(found.table(), self.format)
