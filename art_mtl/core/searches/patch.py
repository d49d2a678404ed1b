"""Where a patch lies, how it is put on images, and labels under it: Brown et al., "Adversarial patch", 2017."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.context import StepRecord
from art_mtl.core.loop import Forward, attack
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import Outputs
from art_mtl.core.searches.transforms import Transform
from art_mtl.core.searches.universal import Batch, Samples, against_clean, fit
from art_mtl.core.threat import RunConfig, ThreatModel
from art_mtl.tasks import Target, Task

Observer = Callable[[StepRecord], None] | None
PATCH_STEP = 0.2
"""First step of the search as a share of the box's width, where the user gives none."""


def patch_mask(
    image: tuple[int, ...], size: tuple[int, int] | None, location: tuple[int, int] | None, mask: Tensor | None
) -> Tensor:
    """Where the patch is, ``(1, 1, H, W)`` of 0 and 1.

    Args:
        image: Shape (C, H, W) of an input.
        size: Height and width of a rectangle.
        location: Row and column of its upper left corner; None for the middle.
        mask: Instead of a rectangle: ``(H, W)``, not 0 where the patch is.

    Raises:
        ValueError: Inputs that are no images, both or neither of rectangle and mask, a patch that leaves the image or
            is empty.

    Examples:
        >>> patch_mask((3, 4, 6), (2, 2), None, None)[0, 0].int().tolist()
        [[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    """
    if len(image) != 3:
        raise ValueError(f"A patch needs images (C, H, W). Found inputs of shape {tuple(image)}.")
    height, width = image[1:]
    if (size is None) == (mask is None):
        raise ValueError(
            f"A patch should have either `size` or `mask`. Found {'neither' if size is None else 'both of them'}."
        )
    if mask is not None:
        if location is not None:
            raise ValueError("Parameter `location` belongs to `size`; a mask says itself where it is. Found both.")
        if tuple(mask.shape) != (height, width):
            raise ValueError(f"Parameter `mask` should have shape {(height, width)}. Found {tuple(mask.shape)}.")
        if not bool((mask != 0).any()):
            raise ValueError("Parameter `mask` should be other than 0 somewhere. Found no place for the patch.")
        return (mask != 0).float()[None, None]
    tall, wide = _pair("size", size, least=1)
    row, column = _pair("location", location, least=0) if location else ((height - tall) // 2, (width - wide) // 2)
    if row + tall > height or column + wide > width or row < 0 or column < 0:
        raise ValueError(
            f"The patch should lie inside the image of {height}x{width}. Found {tall}x{wide} at row {row}, column "
            f"{column}."
        )
    place = torch.zeros(1, 1, height, width)
    place[..., row : row + tall, column : column + wide] = 1
    return place


def _pair(argument: str, found: tuple[int, int] | None, least: int) -> tuple[int, int]:
    whole = isinstance(found, (tuple, list)) and all(isinstance(v, int) and not isinstance(v, bool) for v in found)
    if found is None or not whole or len(found) != 2 or min(found) < least:
        raise ValueError(f"Parameter `{argument}` should be two integers of at least {least}. Found {found!r}.")
    return found[0], found[1]


@dataclass(frozen=True)
class PatchSearch:
    """The search for a patch: what varies is a canvas, an image with the patch on it, of which the mask is pasted.

    Attributes:
        forward: Images to one raw output a task.
        samples: The data set.
        tasks: K tasks.
        method: See :func:`art_mtl.core.searches.universal.check_shared`.
        mask: ``(1, 1, H, W)``, 1 where the patch is.
        bounds: Lower and upper bound of the inputs.
        plan: ``steps`` is the number of passes for one patch, of steps for a patch each.
        transforms: Applied in turn, drawn anew for each sample and step.
        ignore: Labels under the patch do not count.
        batch_size: Samples a step.
        seed: Of transformations and of the order of the samples.
    """

    forward: Forward
    samples: Samples
    tasks: tuple[Task, ...]
    method: Method
    mask: Tensor
    bounds: tuple[Tensor, Tensor]
    plan: RunConfig
    transforms: tuple[Transform, ...]
    ignore: bool
    batch_size: int
    seed: int

    def one(self, observer: Observer = None, stopped: list[int] | None = None) -> Tensor:
        """One patch for all samples, on the canvas ``(1, C, H, W)``; the rest is the middle of the box."""
        generator = self._generator()
        shape = self.samples.inputs[:1].shape
        middle = ((self.bounds[0] + self.bounds[1]) / 2).expand(shape).contiguous()

        def batch(chosen: Tensor) -> Batch:
            clean, targets = self._part(chosen)
            return Batch(clean, targets, middle.expand_as(clean), self._view(clean, generator))

        found = fit(
            self.forward, batch, len(self.samples), torch.zeros_like(middle), self.tasks, self.method, self._threat(),
            self.plan, self.batch_size, self.seed, observer=observer, stopped=stopped,
        )  # fmt: skip
        return found.applied(middle, self.bounds)

    def own(self, observers: Callable[[int], Observer], stopped: list[int] | None = None) -> Tensor:
        """A patch for each sample, on the images, on the device of the samples.

        Args:
            observers: Number of a batch to what is called at its steps.
            stopped: Gets the indices of samples whose search ended early.
        """
        generator, result = self._generator(), torch.empty_like(self.samples.inputs)
        for index, chosen in enumerate(torch.split(torch.arange(len(self.samples)), self.batch_size)):
            clean, targets = self._part(chosen)
            method = against_clean(self.method, self.forward, clean, self.tasks, targets, self.plan.targeted)
            canvas = attack(
                self._view(clean, generator), clean, self.tasks, targets, method, self._threat(), self.plan,
                observer=observers(index), stopped=stopped, first_index=int(chosen[0]),
            )  # fmt: skip
            result[chosen.to(result.device)] = canvas.to(result.device)
        return result

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.samples.device).manual_seed(self.seed)

    def _threat(self) -> ThreatModel:
        width = (self.bounds[1] - self.bounds[0]).expand(self.samples.inputs[:1].shape)
        return ThreatModel(math.inf, width, self.bounds, self.mask)

    def _part(self, chosen: Tensor) -> tuple[Tensor, list[Target]]:
        clean, targets = self.samples.part(chosen)
        return clean, [target.hidden(self.mask) for target in targets] if self.ignore else targets

    def _view(self, images: Tensor, generator: torch.Generator) -> Forward:
        """The forward pass as the patch sees it: canvas ``(B, C, H, W)`` to outputs on patched images."""

        def run(canvas: Tensor) -> Outputs:
            if not self.transforms:
                return self.forward(torch.where(self.mask != 0, canvas, images))
            mask = self.mask.expand(len(canvas), -1, -1, -1).to(canvas.dtype)
            for transform in self.transforms:
                canvas, mask = apply_transform(transform, canvas, mask, generator)
            return self.forward(images * (1 - mask) + canvas.clamp(*self.bounds) * mask)

        return run


def apply_transform(
    transform: Transform, canvas: Tensor, mask: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What a transformation makes of canvas and mask, checked.

    Raises:
        ValueError: It is not a pair of tensors of the same shapes.
    """
    found = transform(canvas, mask, generator)
    fits = isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)
    if not fits or found[0].shape != canvas.shape or found[1].shape != mask.shape:
        shapes = [tuple(part.shape) for part in found] if fits else type(found).__name__
        raise ValueError(
            f"A transformation of a patch should return (canvas, mask) of shapes {tuple(canvas.shape)} and "
            f"{tuple(mask.shape)}. Found {shapes}."
        )
    return found


def check_transforms(transforms: Sequence[Transform]) -> None:
    """Raise unless these are callables in a sequence."""
    if not isinstance(transforms, Sequence) or not all(callable(transform) for transform in transforms):
        raise TypeError(f"Parameter `transforms` should be a list of callables. Found {transforms!r}.")
