"""Square search: random squares, kept where they do more degradation. Needs queries only, no gradients.

Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box adversarial attack via random
search", ECCV 2020, algorithms 1 to 3. A candidate is one more iterate of the loop: the best iterate, which the loop
keeps, is what the search has accepted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.optimizers.step_rule import StepRule
from art_mtl.core.selection import BestIterate
from art_mtl.core.threat import FeasibleSet, RunConfig

_FIRST_AREA = 0.8
"""Share of the image that the first squares cover (Croce & Hein 2020)."""
_HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)
"""Queries, out of 10 000, at which the area is halved (section 3.2 of the paper)."""

_CANCELLED = 1e-6


def window(height: int, width: int, step: int, steps: int) -> tuple[int, int]:
    """Height and width of the squares at one step; rectangles where the image is too narrow.

    Examples:
        >>> window(28, 28, 0, 1000), window(28, 28, 999, 1000), window(1, 64, 0, 1000)
        ((25, 25), (2, 2), (1, 51))
    """
    halvings = sum(step * 10_000 >= place * steps for place in _HALVINGS)
    area = _FIRST_AREA * 0.5**halvings * height * width
    side = max(1, round(math.sqrt(area)))
    tall, wide = min(side, height), min(side, width)
    if tall < side:
        wide = min(round(area / tall), width)
    elif wide < side:
        tall = min(round(area / wide), height)
    return tall, wide


class SquareSteps(StepRule):
    """The search for L∞ and L2.

    L∞: all of a square is set to +ε or −ε, each channel by its own sign; it starts from vertical stripes. L2: the
    budget of two squares, and what is left of ε, is put on one of them, in two bumps of opposite signs.

    Args:
        feasible: Where the candidates may lie. Inputs that are no images are taken as one row of places.
        config: Number of queries; source of randomness; where the channels stand.
    """

    needs_gradient = False

    def __init__(self, feasible: FeasibleSet, config: RunConfig) -> None:
        self.feasible, self.config = feasible, config
        self.layout = _Layout(feasible.x.shape, config.channels_first)
        self.size = self.layout.images(feasible.x).shape

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        feasible = self.feasible
        if feasible.threat.norm != math.inf:
            change = self.layout.inputs(self._two_bumps(self.layout.images(best.x - feasible.x), step))
        elif step == 0:
            size, channels, height, width = self.size
            signs = self._signs(size, channels, 1, width).expand(-1, -1, height, -1)
            change = self.layout.inputs(signs) * feasible.threat.eps
        else:
            inside, _, _ = self._place(step)
            signs = self.layout.inputs(self._signs(*self.size[:2], 1, 1).expand(self.size))
            inside = self.layout.inputs(inside.expand(self.size))
            change = torch.where(inside, signs * feasible.threat.eps, best.x - feasible.x)
        return feasible.project(feasible.masked(change))

    def _uniform(self, *shape: int) -> Tensor:
        x = self.feasible.x
        return torch.rand(shape, dtype=x.dtype, device=x.device, generator=self.config.generator)

    def _signs(self, *shape: int) -> Tensor:
        return torch.where(self._uniform(*shape) < 0.5, -1.0, 1.0).to(self.feasible.x.dtype)

    def _place(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """A square for each sample: which places are inside, ``(B, 1, H, W)``, and each place's row ``(B, H)`` and
        column ``(B, W)`` counted from the square's corner.
        """
        size, _, height, width = self.size
        tall, wide = window(height, width, step, self.config.steps)
        corner = self._uniform(2, size, 1)
        device = self.feasible.x.device
        row = torch.arange(height, device=device) - (corner[0] * (height - tall + 1)).long()
        column = torch.arange(width, device=device) - (corner[1] * (width - wide + 1)).long()
        inside = ((row >= 0) & (row < tall))[:, :, None] & ((column >= 0) & (column < wide))[:, None]
        return inside[:, None], row.clamp(0, tall - 1), column.clamp(0, wide - 1)

    def _two_bumps(self, delta: Tensor, step: int) -> Tensor:
        """Algorithm 3: ``(B, C, H, W)`` with the norm ε, but for the box."""
        size, channels, height, width = self.size
        first, row, column = self._place(step)
        other = self._place(step)[0] & ~first
        shapes = _bumps(*window(height, width, step, self.config.steps), like=delta)
        turned = (self._uniform(size) < 0.5).long()
        bump = shapes[turned[:, None, None], row[:, :, None], column[:, None]][:, None] * first
        eps = self.feasible.threat.eps.flatten(1)[:, :1, None, None]
        unused = (eps.square() - _squared(delta).sum(1, keepdim=True)).clamp(min=0)
        budget = (_squared(torch.where(first | other, delta, 0.0)) + unused / channels).sqrt()
        inside = torch.where(first, delta, 0.0)
        fresh = self._signs(size, channels, 1, 1) * _unit(bump)
        mixed = fresh + _unit(inside)
        # On small images the same place is soon drawn again, with the opposite sign: nothing would be left of it.
        mixed = torch.where(_squared(mixed) < _CANCELLED, fresh, mixed)
        return torch.where(first, _unit(mixed) * budget, torch.where(other, 0.0, delta))


@dataclass(frozen=True)
class _Layout:
    """Inputs of any layout seen as images ``(B, C, H, W)``, and back.

    Args:
        shape: Of the inputs, ``(B, D)``, or with channels and any number of places.
        channels_first: Where the channels stand.
    """

    shape: torch.Size
    channels_first: bool

    def images(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)``; one row of places where the inputs are no images."""
        if x.ndim == 2:
            return x[:, None, None]
        x = x if self.channels_first else x.movedim(-1, 1)
        return x if x.ndim == 4 else x.flatten(2)[:, :, None]

    def inputs(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`images`."""
        if self.channels_first or len(self.shape) == 2:
            return images.reshape(self.shape)
        batch, *places, channels = self.shape
        return images.reshape(batch, channels, *places).movedim(1, -1)


def _squared(delta: Tensor) -> Tensor:
    return delta.square().sum((2, 3), keepdim=True)


def _unit(delta: Tensor) -> Tensor:
    """Each channel divided by its norm; 0 stays 0."""
    length = _squared(delta).sqrt()
    return delta / torch.where(length == 0, torch.ones_like(length), length)


def _bumps(tall: int, wide: int, like: Tensor) -> Tensor:
    """A bump and a dent side by side, and one above the other, ``(2, tall, wide)``: η of the paper's section 3.4."""
    left, top = wide // 2, tall // 2
    beside = torch.cat([_bump(tall, left, like), -_bump(tall, wide - left, like)], 1)
    above = torch.cat([_bump(top, wide, like), -_bump(tall - top, wide, like)], 0)
    return torch.stack([beside, above])


def _bump(tall: int, wide: int, like: Tensor) -> Tensor:
    """``Σ_{k ≤ M} 1/(n + 1 − k)²`` with M the number of places to the rim, n that of the middle."""
    row = (torch.arange(tall, device=like.device) - tall // 2).abs()
    column = (torch.arange(wide, device=like.device) - wide // 2).abs()
    middle = max(tall, wide) // 2
    inwards = middle - torch.maximum(row[:, None], column[None])
    ring = torch.arange(middle + 1, device=like.device)
    heights = 1 / (middle + 1 - ring).to(like.dtype).square()
    return heights.cumsum(0)[inwards.clamp(0, middle)]
