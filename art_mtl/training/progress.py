"""What training tells while it runs, and a bar that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar", "Step"]


@dataclass(frozen=True)
class Step:
    """What training reports after every step.

    Attributes:
        epoch: current epoch, from 1.
        epochs: how many there are.
        step: steps taken, over all epochs.
        steps: how many there are.
        losses: loss of each task, averaged over the epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    losses: Mapping[str, float]


class ProgressBar:
    """A progress bar with the time left, for every function of this package that trains; a context manager.

    Args:
        title: what stands before the bar.
        console: where it is shown; None takes standard output.

    Examples:
        >>> with ProgressBar("rooms") as bar:  # doctest: +SKIP
        ...     train("rooms", "rooms.safetensors", progress=bar)
    """

    def __init__(self, title: str, console: Console | None = None) -> None:
        self.title = title
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._begun = False

    def __enter__(self) -> ProgressBar:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task(self.title, total=None, losses="preparing data")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, step: Step) -> None:
        """Show a step."""
        progress, task = self._shown()
        if not self._begun:  # what an earlier run did, took no time of this one
            progress.reset(task, total=step.steps, completed=step.step)
            self._begun = True
        losses = "  ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
        progress.update(
            task,
            total=step.steps,
            completed=step.step,
            description=f"{self.title} {step.epoch}/{step.epochs}",
            losses=losses,
        )

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        progress, _ = self._shown()
        progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _shown(self) -> tuple[Progress, TaskID]:
        if self._progress is None or self._task is None:
            raise RuntimeError("ProgressBar should be used in a `with` statement. Found it called outside of one.")
        return self._progress, self._task
