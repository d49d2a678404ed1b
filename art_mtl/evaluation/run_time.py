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
    """Logs an estimate of the time that is left, once, after the first attack on a chunk whose cost is known.

    The others are taken to last as their gradient evaluations say. Ensembles, whose evaluations are not known before
    they run, count as the costliest of the others, so that the estimate is a lower limit.

    Args:
        beginning: Logged when the run begins; "" for nothing.
    """

    def __init__(self, beginning: str = "") -> None:
        self.beginning = beginning
        self.since = time.monotonic()
        self.plan: RunPlan | None = None

    def on_begin(self, plan: RunPlan) -> None:
        """Tell what is to be told first."""
        self.plan = plan
        if self.beginning:
            _log.info(self.beginning)

    def on_unit(self, report: UnitReport) -> None:
        """Tell the estimate after the first attack, where it is long."""
        before, self.since = self.since, time.monotonic()
        if report.attack is None or self.plan is None:
            return
        costs = self.plan.gradient_evaluations
        largest = max((cost for cost in costs if cost), default=None)
        own = costs[self.plan.attacks.index(report.attack)]
        if own is None and largest is not None:
            return
        weights = [cost or largest or 1 for cost in costs]
        in_order = weights * (report.total // len(costs))
        seconds = sum(in_order[report.done :]) / (own or 1) * (self.since - before)
        if seconds > LONG:
            _log.info(
                "The run takes %s %s more: %d of %d attacks × chunks are left, and the first took %s.",
                "about" if None not in costs else "at least about",
                duration(seconds),
                report.total - report.done,
                report.total,
                duration(self.since - before),
            )
        self.plan = None


def duration(seconds: float) -> str:
    """A time as people say it, in one unit and two digits.

    Examples:
        >>> duration(1), duration(42.4), duration(100), duration(5400), duration(200000)
        ('1 second', '42 seconds', '1.7 minutes', '1.5 hours', '2.3 days')
    """
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), _UNITS[-1])
    shown = f"{seconds / size:.2g}"
    return f"{shown} {unit}" if shown == "1" else f"{shown} {unit}s"
