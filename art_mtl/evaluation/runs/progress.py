"""A progress bar over the units of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from art_mtl.evaluation.runs.job import Job
from art_mtl.evaluation.runs.records import CLEAN, Unit, UnitResult

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress"]


class Progress:
    """Tells which attack is at work, and how many attacks × chunks are done.

    Args:
        job: Whose units these are.
        bar: Where to show it, and the line on it; None shows nothing.
    """

    def __init__(self, job: Job, bar: tuple[Bar, TaskID] | None = None) -> None:
        self.job, self.bar = job, bar

    @classmethod
    @contextmanager
    def shown(cls, show: bool, job: Job, pending: Sequence[Unit]) -> Iterator[Progress]:
        """On standard error, while the context lasts."""
        if not show:
            yield cls(job)
            return
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("done,"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("left"),
        )
        total = len(job.attacks) * len(job.chunks)
        done = total - sum(unit.attack != CLEAN for unit in pending)
        with progress.Progress(*columns, console=Console(stderr=True)) as bar:
            yield cls(job, (bar, bar.add_task("attacks", total=total, completed=done)))

    def watched(self, compute: Callable[[Unit], UnitResult]) -> Callable[[Unit], UnitResult]:
        """The same work, told of."""

        def told(unit: Unit) -> UnitResult:
            if self.bar is not None:
                bar, line = self.bar
                bar.update(line, description=self.job.label(unit))
            return compute(unit)

        return told

    def advance(self, unit: Unit) -> None:
        """One more unit is done."""
        if self.bar is not None and unit.attack != CLEAN:
            bar, line = self.bar
            bar.advance(line)
