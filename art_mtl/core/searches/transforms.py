"""Random transformations of a patch, over which its degradation is averaged: "expectation over transformation" (Athalye
et al., "Synthesizing robust adversarial examples", ICML 2018).

A transformation is any callable ``(canvas (B, C, H, W), mask (B, 1, H, W), generator) -> (canvas, mask)``,
differentiable in the canvas: the patch drawn on an empty image, and where it is. It draws anew for each sample and
step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Transform = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Translate:
    """Shift by up to this many pixels in both directions, uniformly; what leaves the image is cut off.

    Examples:
        >>> canvas, mask = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
        >>> mask[..., 1:3, 1:3] = 1
        >>> _, moved = Translate(1)(canvas, mask, torch.Generator().manual_seed(0))
        >>> moved.sum().item()
        4.0
    """

    pixels: int

    def __post_init__(self) -> None:
        if isinstance(self.pixels, bool) or not isinstance(self.pixels, int) or self.pixels < 1:
            raise ValueError(f"Parameter `pixels` should be an integer of at least 1. Found {self.pixels!r}.")

    def __call__(self, canvas: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        reach = self.pixels
        shift = torch.randint(-reach, reach + 1, (2, len(canvas)), generator=generator, device=canvas.device)
        return _shift(canvas, shift, reach, "replicate"), _shift(mask, shift, reach, "constant")


@dataclass(frozen=True)
class Scale:
    """Enlarge about the middle of the patch by a factor between ``low`` and ``high``, uniformly in its logarithm."""

    low: float = 0.8
    high: float = 1.25

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < float("inf"):
            raise ValueError(f"Scales should be 0 < low ≤ high. Found {self.low!r} and {self.high!r}.")

    def __call__(self, canvas: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = _uniform(len(canvas), canvas, generator)
        factor = self.low * (self.high / self.low) ** share
        grid = _grid_about(_middle(mask), factor, canvas)
        enlarged = F.grid_sample(canvas, grid, padding_mode="border", align_corners=False)
        return enlarged, F.grid_sample(mask, grid, padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Brightness:
    """Add between ``−change`` and ``change``, in the unit of the inputs, uniformly; the box cuts off what leaves it."""

    change: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.change < float("inf"):
            raise ValueError(f"Parameter `change` should be positive and finite. Found {self.change!r}.")

    def __call__(self, canvas: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = 2 * _uniform(len(canvas), canvas, generator) - 1
        return canvas + self.change * share.view(-1, 1, 1, 1), mask


def _uniform(size: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator, device=like.device, dtype=like.dtype)


def _shift(image: Tensor, shift: Tensor, reach: int, padding: str) -> Tensor:
    """Each sample moved down and right by whole pixels, ``shift`` being ``(2, B)``."""
    height, width = image.shape[-2:]
    padded = F.pad(image, (reach,) * 4, mode=padding)
    rows = torch.arange(height, device=image.device) + reach - shift[0][:, None]
    columns = torch.arange(width, device=image.device) + reach - shift[1][:, None]
    sample = torch.arange(len(image), device=image.device)[:, None, None]
    return padded.movedim(1, -1)[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _middle(mask: Tensor) -> Tensor:
    """Centre of mass ``(B, 2)`` as (x, y) in [−1, 1]; the image's middle where the mask is empty."""
    height, width = mask.shape[-2:]
    weight = mask[:, 0]
    total = weight.sum((1, 2)).clamp(min=torch.finfo(mask.dtype).tiny)
    x = (2 * torch.arange(width, device=mask.device, dtype=mask.dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=mask.device, dtype=mask.dtype) + 1) / height - 1
    return torch.stack([(weight * x).sum((1, 2)), (weight * y[:, None]).sum((1, 2))], 1) / total[:, None]


def _grid_about(middle: Tensor, factor: Tensor, like: Tensor) -> Tensor:
    """The sampling grid that enlarges about a point by a factor."""
    shrink = 1 / factor
    zero = torch.zeros_like(shrink)
    offset = middle * (1 - shrink[:, None])
    rows = [torch.stack([shrink, zero, offset[:, 0]], 1), torch.stack([zero, shrink, offset[:, 1]], 1)]
    return F.affine_grid(torch.stack(rows, 1), list(like.shape), align_corners=False)
