"""What went wrong on the way, to be said once at the end of a call."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from art_mtl.core.checks import shorten
from art_mtl.core.warn import warn


@dataclass
class RunLog:
    """What a call has met.

    Attributes:
        stopped: Indices of samples whose attack ended early, at the last iterate whose outputs were finite.
        zeroed: Indices of samples with non-finite entries of a gradient, which were set to 0.
        flat: Names of tasks whose outputs do not depend on the inputs by anything differentiable.
        still: Indices of samples that had nothing to move in some run: their gradient was 0 at every step.
        moved: Indices of samples that had, or were attacked without gradients.
    """

    stopped: set[int] = field(default_factory=set)
    zeroed: set[int] = field(default_factory=set)
    flat: set[str] = field(default_factory=set)
    still: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set, compare=False)

    def merge(self, part: RunLog, index: Tensor) -> None:
        """Add what some of the samples have met; ``index`` are their numbers in the call."""
        for name in ("stopped", "zeroed", "still", "moved"):
            getattr(self, name).update(index[sorted(getattr(part, name))].tolist())
        self.flat |= part.flat

    def warn(self, samples: int) -> None:
        """Warn of each once, of a call on so many samples."""
        if self.stopped:
            warn(
                f"The model's output was not finite for sample(s) {shorten(sorted(self.stopped))}; their attack ended "
                f"at the last iterate with finite outputs."
            )
        if self.zeroed:
            warn(
                f"The gradient of sample(s) {shorten(sorted(self.zeroed))} has NaN or infinite entries; these were set "
                "to 0, as ART does."
            )
        if self.flat:
            warn(
                f"The output of the task(s) {sorted(self.flat)} does not depend on the inputs by anything "
                "differentiable (detached, or computed under no_grad), so that no gradient attack can degrade it: what "
                "is reported of it is no robustness. See `art_mtl.evaluation.diagnose`."
            )
        elif len(self.still - self.moved) == samples:
            warn(
                "The gradient was 0 at every step for all samples, so that nothing was attacked: the outputs are "
                "saturated, or go through something without a slope (rounding, arg-max). What is reported of them is "
                "no robustness. See `art_mtl.evaluation.diagnose`."
            )
