"""Ctrl-C, at any moment."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_SOON = 0.02
"""Seconds."""
_PATIENCE = 30.0
"""Seconds that an import may take to come to its end."""

__all__ = ["Interruption"]


class Interruption:
    """Ctrl-C while a command runs; a context manager.

    ``KeyboardInterrupt`` is raised, but not while other packages are imported: extension modules turn it into an error
    of their own, or end the process. Then it is raised when the import is done. Where a destructor swallows it, it is
    raised again.

    Attributes:
        happened: Whether there was a Ctrl-C.
    """

    def __init__(self) -> None:
        self.happened = False
        self._until = 0.0
        self._again: threading.Timer | None = None
        self._handler: Any = None
        self._hook = sys.unraisablehook

    def __enter__(self) -> Interruption:
        in_main = threading.current_thread() is threading.main_thread()
        # A command in the background of a script ignores Ctrl-C, and so it stays.
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        sys.unraisablehook = self._swallowed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again.join()
        sys.unraisablehook = self._hook
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    def ignore(self, for_good: bool) -> None:
        """From now on Ctrl-C does nothing.

        Args:
            for_good: Until the process ends, not until this is left.
        """
        if self._handler is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._handler = None if for_good else self._handler

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self.happened:
            self.happened, self._until = True, time.monotonic() + _PATIENCE
        if _imports(frame) and time.monotonic() < self._until:
            self._interrupt_soon()
        else:
            raise KeyboardInterrupt

    def _swallowed(self, raised: Any) -> None:
        if raised.exc_type is not None and issubclass(raised.exc_type, KeyboardInterrupt):
            self._interrupt_soon()
        else:
            self._hook(raised)

    def _interrupt_soon(self) -> None:
        self._again = threading.Timer(_SOON, _thread.interrupt_main)
        self._again.daemon = True
        self._again.start()


def _imports(frame: FrameType | None) -> bool:
    """Whether another package is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "_find_and_load" and frame.f_code.co_filename.startswith("<frozen importlib"):
            name = str(frame.f_locals.get("name"))
            if name.partition(".")[0] != "art_mtl":
                return True
        frame = frame.f_back
    return False
