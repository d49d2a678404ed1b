"""TensorBoard logs of a training run, whose curves stay single however often it is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Log", "check_tensorboard"]


def check_tensorboard() -> None:
    """Raise ImportError unless logs can be written."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "TensorBoard logs need tensorboardX: pip install '.[tensorboard]', or switch them off "
            "(tensorboard=False, --no-tensorboard)."
        ) from error


class Log:
    """Writes scalars while it is open.

    Args:
        folder: of the log files; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writer: Any = None

    @contextmanager
    def opened(self, taken: int) -> Iterator[None]:
        """Open the log for a run that has taken so many steps.

        What an earlier run logged of later steps is hidden, for they are taken again.
        """
        if self.folder is None:
            yield
            return
        from tensorboardX import SummaryWriter

        earlier = len(list(self.folder.glob("events.*")))
        resumed = {"purge_step": taken + 1, "filename_suffix": f".{earlier}"} if earlier else {}
        self._writer = SummaryWriter(str(self.folder), **resumed)
        try:
            yield
        finally:
            self._writer.close()
            self._writer = None

    def add(self, group: str, numbers: Mapping[str, float], step: int) -> None:
        """Log numbers as ``group/name`` at a step."""
        if self._writer is not None:
            for name, number in numbers.items():
                self._writer.add_scalar(f"{group}/{name}", number, step)

    def flush(self) -> None:
        """Bring everything to disk."""
        if self._writer is not None:
            self._writer.flush()
