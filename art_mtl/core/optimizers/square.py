"""Square search: random squares, kept where they do more degradation. Needs queries only, no gradients.

Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box adversarial attack via random
search", ECCV 2020, algorithms 1 to 3. A candidate is one more iterate of the loop: the best iterate, which the loop
keeps, is what the search has accepted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


class SquareSteps:
    """The search for L∞ and L2.

    L∞: all of a square is set to +ε or −ε, each channel by its own sign; it starts from vertical stripes. L2: the
    budget of two squares, and what is left of ε, is put on one of them, in two bumps of opposite signs.

    Args:
        region: Where the candidates may lie. Inputs that are no images ``(B, C, H, W)`` are taken as one row of places.
        plan: Number of queries; source of randomness.
    """

    needs_gradient = False
    needs_best_gradient = False

    def __init__(self, region: FeasibleSet, plan: RunConfig) -> None:
        self.region, self.plan = region, plan
        self.size = _images(region.x).shape

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        region = self.region
        if region.threat.norm != math.inf:
            change = self._two_bumps(_images(best.x - region.x), step).view_as(region.x)
        elif step == 0:
            size, channels, height, width = self.size
            signs = self._signs(size, channels, 1, width).expand(-1, -1, height, -1)
            change = signs.reshape(region.x.shape) * region.threat.eps
        else:
            inside, _, _ = self._place(step)
            signs = self._signs(*self.size[:2], 1, 1).expand(self.size).reshape(region.x.shape)
            inside = inside.expand(self.size).reshape(region.x.shape)
            change = torch.where(inside, signs * region.threat.eps, best.x - region.x)
        return region.project(region.masked(change))

    def _uniform(self, *shape: int) -> Tensor:
        x = self.region.x
        return torch.rand(shape, dtype=x.dtype, device=x.device, generator=self.plan.generator)

    def _signs(self, *shape: int) -> Tensor:
        return torch.where(self._uniform(*shape) < 0.5, -1.0, 1.0).to(self.region.x.dtype)

    def _place(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """A square for each sample: which places are inside, ``(B, 1, H, W)``, and each place's row ``(B, H)`` and
        column ``(B, W)`` counted from the square's corner.
        """
        size, _, height, width = self.size
        tall, wide = window(height, width, step, self.plan.steps)
        corner = self._uniform(2, size, 1)
        device = self.region.x.device
        row = torch.arange(height, device=device) - (corner[0] * (height - tall + 1)).long()
        column = torch.arange(width, device=device) - (corner[1] * (width - wide + 1)).long()
        inside = ((row >= 0) & (row < tall))[:, :, None] & ((column >= 0) & (column < wide))[:, None]
        return inside[:, None], row.clamp(0, tall - 1), column.clamp(0, wide - 1)

    def _two_bumps(self, delta: Tensor, step: int) -> Tensor:
        """Algorithm 3: ``(B, C, H, W)`` with the norm ε, but for the box."""
        size, channels, height, width = self.size
        first, row, column = self._place(step)
        other = self._place(step)[0] & ~first
        shapes = _bumps(*window(height, width, step, self.plan.steps), like=delta)
        turned = (self._uniform(size) < 0.5).long()
        bump = shapes[turned[:, None, None], row[:, :, None], column[:, None]][:, None] * first
        eps = self.region.threat.eps.flatten(1)[:, :1, None, None]
        unused = (eps.square() - _squared(delta).sum(1, keepdim=True)).clamp(min=0)
        budget = (_squared(torch.where(first | other, delta, 0.0)) + unused / channels).sqrt()
        inside = torch.where(first, delta, 0.0)
        fresh = self._signs(size, channels, 1, 1) * _unit(bump)
        mixed = fresh + _unit(inside)
        # On small images the same place is soon drawn again, with the opposite sign: nothing would be left of it.
        mixed = torch.where(_squared(mixed) < _CANCELLED, fresh, mixed)
        return torch.where(first, _unit(mixed) * budget, torch.where(other, 0.0, delta))


def _images(x: Tensor) -> Tensor:
    """``(B, C, H, W)``."""
    if x.ndim == 4:
        return x
    return x[:, None, None] if x.ndim == 2 else x.flatten(2)[:, :, None]


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
