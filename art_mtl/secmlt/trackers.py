"""Trackers of several tasks."""

from typing import Any

from secmlt.trackers.trackers import MULTI_SCALAR, Tracker


class TaskLossTracker(Tracker):  # type: ignore[misc]
    """Keeps the loss of each task: ``get()`` is ``(N, K, T)``."""

    tracks = "losses"

    def __init__(self) -> None:
        super().__init__(self.tracks, MULTI_SCALAR)
        self.tracked: list[Any] = []

    def track(self, iteration: int, loss: Any, *others: Any) -> None:
        """Keep what the attack has noted of the step beside its loss."""
        self.tracked.append(getattr(loss.record, self.tracks).cpu())


class TaskWeightTracker(TaskLossTracker):
    """Keeps the weight of each task: ``get()`` is ``(N, K, T)``."""

    tracks = "weights"
