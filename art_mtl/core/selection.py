"""The best iterate of each sample, by a merit whose prices may change from step to step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Merit = Callable[[Tensor, Tensor], Tensor]
"""``(values of the tasks (B, K), weights (R, K)) -> (B,)``: greater is better for the attacker."""


class BestIterate:
    """The best iterate of each sample so far.

    Weights move from step to step, and with them what an iterate is worth. So what is kept of an iterate is its value
    for each *task*, and iterates are compared by what these are worth at the weights of now.

    Args:
        x: Inputs to keep where no iterate is worth anything, ``(B, ...)``.
        merit: What values are worth at given weights.

    Attributes:
        x: The best iterates, ``(B, ...)``.
        gradient: The ascent directions there, as they were found there; None before the first iterate.
        better: ``(B,)``, boolean: the last iterate is the best so far.
        rose: ``(B,)``, boolean: the last iterate is worth more than the one before.
    """

    def __init__(self, x: Tensor, merit: Merit) -> None:
        self.x = x
        self.gradient: Tensor | None = None
        self.better = self.rose = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._merit = merit
        self._found = self.better
        self._values: Tensor | None = None
        self._last: Tensor | None = None

    def see(self, x: Tensor, values: Tensor, weights: Tensor, gradient: Tensor | None = None) -> None:
        """Look at one more iterate: ``values`` are those of its tasks, ``(B, K)``."""
        worth = self._merit(values, weights)
        if self._last is not None:
            self.rose = worth > self._merit(self._last, weights)
        self.better = worth > self.score(weights)
        self.x = choose(self.better, x, self.x)
        self._values = values if self._values is None else choose(self.better, values, self._values)
        if gradient is not None:
            self.gradient = gradient if self.gradient is None else choose(self.better, gradient, self.gradient)
        self._found, self._last = self._found | self.better, values

    def score(self, weights: Tensor) -> Tensor:
        """What the best iterates are worth at these weights, ``(B,)``; −∞ where there is none."""
        if self._values is None:
            return torch.full((len(self.x),), float("-inf"), device=self.x.device)
        worth = self._merit(self._values, weights)
        return torch.where(self._found, worth, torch.full_like(worth, float("-inf")))


def choose(samples: Tensor, yes: Tensor, no: Tensor | float) -> Tensor:
    """``yes`` for the ``samples`` that are true, ``(B,)``, ``no`` for the others."""
    if samples.device.type == "cpu" and bool(samples.all()):
        return yes  # Looking costs nothing here; on a GPU it would wait for the device.
    return torch.where(samples.view(-1, *[1] * (yes.ndim - 1)), yes, no)
