"""Logits of decisions, and probabilities in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from art_mtl.losses import as_rows, is_probability, log_odds
from art_mtl.tasks.base import Saturation
from art_mtl.tasks.elementwise import DecisionTask


@dataclass(frozen=True, kw_only=True)
class LogitTask(DecisionTask):
    """Base of the kinds of decisions whose output is logits, or the probabilities of a softmax or sigmoid.

    Attributes:
        probabilities: Whether the model returns probabilities in place of logits, after a sigmoid or softmax of its
            own. None: it shows in each sample's output, see :meth:`are_probabilities`.
    """

    probabilities: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probabilities is not None and not isinstance(self.probabilities, bool):
            raise TypeError(f"Parameter `probabilities` should be None or a bool. Found {self.probabilities!r}.")

    def check_output(self, output: Any, target: Any) -> Any:
        """See :meth:`Task.check_output`; logits, whatever the model returns."""
        return self.logits(super().check_output(output, target))

    def logits(self, output: Tensor) -> Tensor:
        """The output in log space where it is probabilities: losses, margins and decisions are those of logits, and a
        gradient is left as long as no probability is exactly 0 or 1.

        Args:
            output: In the layout that losses take.
        """
        if self.probabilities is False or not output.is_floating_point():
            return output
        if self.probabilities:
            return self.log_space(output)
        found = self.are_probabilities(output)
        if output.device.type == "cpu" and not bool(found.any()):
            return output
        return torch.where(found.view(-1, *[1] * (output.ndim - 1)), self.log_space(output), output)

    def are_probabilities(self, output: Tensor) -> Tensor:
        """Which samples' outputs are probabilities already, ``(B,)``, boolean."""
        return is_probability(output)

    def may_be_probabilities(self, output: Tensor) -> Tensor:
        """Which samples' outputs are either, ``(B,)``, boolean: too few numbers to tell."""
        return is_probability(output, least=1)

    def log_space(self, output: Tensor) -> Tensor:
        """Logits of probabilities."""
        return log_odds(output)

    def undoes(self, dim: int | None) -> bool:
        """See :meth:`Task.undoes`: a sigmoid."""
        return self.probabilities is None and dim is None

    def saturation(self, output: Any, target: Any) -> Saturation | None:
        """See :meth:`Task.saturation`."""
        if self.probabilities is False:
            return None
        found = super().check_output(output, target).detach()
        are = self.are_probabilities(found) if self.probabilities is None else torch.ones_like(target.has_label)
        ends = (found == 0) | (found == 1)
        valid = target.valid.view(len(found), *[1] * (ends.ndim - target.valid.ndim), *target.valid.shape[1:])
        lost = target.has_label & as_rows(ends | ~valid).all(1)
        return Saturation(are, are & lost, ~are & self.may_be_probabilities(found))
