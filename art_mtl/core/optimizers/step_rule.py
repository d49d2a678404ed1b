"""What the loop asks of whatever moves its iterates."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from art_mtl.core.selection import BestIterate


class StepRule(ABC):
    """From what the loop knows of an iterate to the next one.

    A step rule belongs to one run on one batch and may keep state. The loop asks it for every iterate; the best
    iterates are the loop's to keep.
    """

    needs_gradient = True
    """Whether a backward pass is of any use."""
    needs_best_gradient = False
    """Whether the gradients of the best iterates are wanted, because the rule may go back to them."""

    def start(self) -> Tensor | None:
        """Where the run starts, ``(B, ...)``; None for what the run itself says."""
        return None

    @abstractmethod
    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        """The next iterate, feasible, from that of ``step`` and its ascent direction ``gradient``, ``(B, ...)``."""
