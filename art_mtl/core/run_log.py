"""What went wrong on the way, to be said once at the end of a call."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from art_mtl.core.checks import shorten
from art_mtl.core.warn import warn

_MANY = 8
"""Samples whose outputs all lie in [0, 1] by chance no more."""


@dataclass
class RunLog:
    """What a call has met.

    Attributes:
        stopped: Indices of samples whose attack ended early, at the last iterate whose outputs were finite.
        zeroed: Indices of samples with non-finite entries of a gradient, which were set to 0.
        flat: Names of tasks whose outputs do not depend on the inputs by anything differentiable.
        probabilities: By task, indices of samples whose outputs are probabilities already.
        saturated: By task, indices of samples whose probabilities are all 0 or 1.
        doubtful: By task, indices of samples whose outputs lie in [0, 1] and are taken for logits.
        still: Indices of samples that had nothing to move in some run: their gradient was 0 at every step.
        moved: Indices of samples that had, or were attacked without gradients.
    """

    stopped: set[int] = field(default_factory=set)
    zeroed: set[int] = field(default_factory=set)
    flat: set[str] = field(default_factory=set)
    probabilities: dict[str, set[int]] = field(default_factory=dict)
    saturated: dict[str, set[int]] = field(default_factory=dict)
    doubtful: dict[str, set[int]] = field(default_factory=dict)
    still: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set, compare=False)

    def merge(self, part: RunLog, index: Tensor) -> None:
        """Add what some of the samples have met; ``index`` are their numbers in the call."""
        for name in ("stopped", "zeroed", "still", "moved"):
            getattr(self, name).update(index[sorted(getattr(part, name))].tolist())
        self.flat |= part.flat
        for task in {*part.probabilities, *part.saturated, *part.doubtful}:
            found = (known.get(task, set()) for known in (part.probabilities, part.saturated, part.doubtful))
            self.add_saturation(task, *(set(index[sorted(samples)].tolist()) for samples in found))

    def add_saturation(self, task: str, probabilities: set[int], saturated: set[int], doubtful: set[int]) -> None:
        """Add where the outputs of a task are probabilities."""
        for known, found in (
            (self.probabilities, probabilities),
            (self.saturated, saturated),
            (self.doubtful, doubtful),
        ):
            if found:
                known.setdefault(task, set()).update(found)

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
        self._warn_of_probabilities(samples)
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

    def _warn_of_probabilities(self, samples: int) -> None:
        told = sorted(self.probabilities)
        if told:
            shares = {task: len(found) for task, found in self.saturated.items()}
            lost = ", ".join(f"{count} of {samples} sample(s) of task {task!r}" for task, count in shares.items())
            no_gradient = (
                f" For {lost} they are exactly 0 or 1, so that no gradient is left: what is reported of these is no "
                "robustness."
            )
            warn(
                f"The output of the task(s) {told} is probabilities, after a softmax or sigmoid inside the model; it "
                f"is attacked in log space.{no_gradient if lost else ''} If the model returns the logits too, name "
                "these by `output=`."
            )
        doubtful = sorted(task for task, found in self.doubtful.items() if len(found) == samples >= _MANY)
        if doubtful:
            warn(
                f"All outputs of the task(s) {doubtful} lie in [0, 1] and are taken for logits. If the model ends in a "
                "sigmoid, say `probabilities=True` where the task is made; otherwise `probabilities=False`."
            )
