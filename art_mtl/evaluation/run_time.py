"""How long a run will take, told after its first attack."""

from __future__ import annotations

import logging
import time

from art_mtl.evaluation.callbacks import Callback, RunPlan, UnitReport

LONG = 30.0
"""Seconds; of a shorter rest nothing is told."""
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_log = logging.getLogger(__name__)

__all__ = ["LONG", "RunTime", "duration"]


class RunTime(Callback):
    """Logs an estimate of the time that is left, once, after the first attack on a chunk.

    The others are taken to last as long as that one does, measuring included; ensembles last longer.

    Args:
        beginning: Logged when the run begins; "" for nothing.
    """

    def __init__(self, beginning: str = "") -> None:
        self.beginning = beginning
        self.since = time.monotonic()
        self.is_told = False

    def on_begin(self, plan: RunPlan) -> None:
        """Tell what is to be told first."""
        if self.beginning:
            _log.info(self.beginning)

    def on_unit(self, report: UnitReport) -> None:
        """Tell the estimate after the first attack, where it is long."""
        before, self.since = self.since, time.monotonic()
        if report.attack is None or self.is_told:
            return
        self.is_told = True
        left = report.total - report.done
        seconds = left * (self.since - before)
        if seconds > LONG:
            _log.info(
                "The run takes about %s more: %d of %d attacks × chunks are left, and the first took %s.",
                duration(seconds),
                left,
                report.total,
                duration(self.since - before),
            )


def duration(seconds: float) -> str:
    """A time as people say it, in one unit and two digits.

    Examples:
        >>> duration(1), duration(42.4), duration(100), duration(5400), duration(200000)
        ('1 second', '42 seconds', '1.7 minutes', '1.5 hours', '2.3 days')
    """
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), _UNITS[-1])
    shown = f"{seconds / size:.2g}"
    return f"{shown} {unit}" if shown == "1" else f"{shown} {unit}s"
