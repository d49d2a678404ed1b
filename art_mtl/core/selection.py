"""Which iterate, and which of several attacks, is kept for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """What :func:`keep_best` chose.

    Attributes:
        inputs: The best candidate of each sample, ``(B, ...)``.
        score: Its score, ``(B,)`` or ``(B, L)``.
        winner: Its number, ``(B,)``.
    """

    inputs: Tensor
    score: Tensor
    winner: Tensor


def keep_best(candidates: Iterable[tuple[Tensor, Tensor]]) -> Kept:
    """The best candidate of each sample; of equals the first one.

    The one mechanism by which restarts, the members of an ensemble and several attacks are chosen from. Candidates may
    be made one after another.

    Args:
        candidates: Inputs ``(B, ...)`` and their scores: ``(B,)``, or ``(B, L)`` of which later columns decide between
            candidates that are equal in those before. Greater is better.

    Raises:
        ValueError: There is no candidate.

    Examples:
        >>> x = torch.zeros(2, 1)
        >>> keep_best([(x, torch.tensor([1.0, 2.0])), (x + 1, torch.tensor([1.0, 3.0]))]).winner
        tensor([0, 1])
    """
    best: Kept | None = None
    for number, (inputs, score) in enumerate(candidates):
        if best is None:
            best = Kept(inputs, score, torch.zeros(len(inputs), dtype=torch.long, device=score.device))
            continue
        better = _greater(score, best.score)
        best = Kept(
            choose(better.to(inputs.device), inputs, best.inputs),
            choose(better, score, best.score),
            torch.where(better, number, best.winner),
        )
    if best is None:
        raise ValueError("There should be at least one candidate to keep. Found none.")
    return best


def _greater(score: Tensor, than: Tensor) -> Tensor:
    """Which samples score more, column by column, ``(B,)``."""
    score, than = score.view(len(score), -1), than.view(len(than), -1)
    better = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    for column in reversed(range(score.shape[1])):
        one, other = score[:, column], than[:, column]
        better = (one > other) | ((one == other) & better)
    return better


SelectionScore = Callable[[Tensor, Tensor], Tensor]
"""``(values of the tasks (B, K), weights (R, K)) -> (B,)``: greater is better for the attacker."""


class BestIterate:
    """The best iterate of each sample so far.

    Weights move from step to step, and with them what an iterate is worth. So what is kept of an iterate is its value
    for each *task*, and iterates are compared by what these are worth at the weights of now. An iterate whose values
    are not finite is never the best one.

    Args:
        x: Inputs to keep where no iterate is worth anything, ``(B, ...)``.
        selection_score: What values are worth at given weights.

    Attributes:
        x: The best iterates, ``(B, ...)``.
        gradient: The ascent directions there, as they were found there; None before the first iterate.
        better: ``(B,)``, boolean: the last iterate is the best so far.
        rose: ``(B,)``, boolean: the last iterate is worth more than the one before.
    """

    def __init__(self, x: Tensor, selection_score: SelectionScore) -> None:
        self.x = x
        self.gradient: Tensor | None = None
        self.better = self.rose = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._selection_score = selection_score
        self._found = self.better
        self._values: Tensor | None = None
        self._last: Tensor | None = None

    def see(self, x: Tensor, values: Tensor, weights: Tensor, gradient: Tensor | None = None) -> None:
        """Look at one more iterate: ``values`` are those of its tasks, ``(B, K)``."""
        worth = self._selection_score(values, weights)
        if self._last is not None:
            self.rose = worth > self._selection_score(self._last, weights)
        self.better = (worth > self.score(weights)) & torch.isfinite(values).all(1)
        self.x = choose(self.better, x, self.x)
        self._values = values if self._values is None else choose(self.better, values, self._values)
        if gradient is not None:
            self.gradient = gradient if self.gradient is None else choose(self.better, gradient, self.gradient)
        self._found, self._last = self._found | self.better, values

    def score(self, weights: Tensor) -> Tensor:
        """What the best iterates are worth at these weights, ``(B,)``; −∞ where there is none."""
        if self._values is None:
            return torch.full((len(self.x),), float("-inf"), dtype=self.x.dtype, device=self.x.device)
        worth = self._selection_score(self._values, weights)
        return torch.where(self._found, worth, torch.full_like(worth, float("-inf")))


def choose(samples: Tensor, yes: Tensor, no: Tensor | float) -> Tensor:
    """``yes`` for the ``samples`` that are true, ``(B,)``, ``no`` for the others."""
    if samples.device.type == "cpu" and bool(samples.all()):
        return yes  # Looking costs nothing here; on a GPU it would wait for the device.
    return torch.where(samples.view(-1, *[1] * (yes.ndim - 1)), yes, no)
