"""Where a patch lies, how it is put on images, and the search for one: Brown et al., "Adversarial patch", 2017."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core.batch import AttackBatch
from art_mtl.core.checks import pair_of_integers
from art_mtl.core.engine import RunSetup
from art_mtl.core.forward import Forward
from art_mtl.core.loop import attack
from art_mtl.core.objectives.loss_objectives import Outputs
from art_mtl.core.searches.transforms import Transform
from art_mtl.core.searches.universal import SearchBatch, against_clean, check_shared, fit, part_of

PATCH_STEP = 0.2
"""First step of the search as a share of the box's width, where the user gives none."""


def patch_mask(
    image: tuple[int, ...],
    size: tuple[int, int] | None,
    location: tuple[int, int] | None,
    mask: Any,
    channels_first: bool = True,
) -> Tensor:
    """Where the patch is, of 0 and 1: ``(1, 1, H, W)``, or ``(1, H, W, 1)`` where the channels stand last.

    Args:
        image: Shape of an input, (C, H, W), or (H, W, C) where the channels stand last.
        size: Height and width of a rectangle.
        location: Row and column of its upper left corner; None for the middle.
        mask: Instead of a rectangle: an array or a tensor ``(H, W)``, not 0 where the patch is.
        channels_first: Where the channels of the image stand.

    Raises:
        TypeError: A mask of no numbers.
        ValueError: Inputs that are no images, both or neither of rectangle and mask, a patch that leaves the image or
            is empty.

    Examples:
        >>> patch_mask((3, 4, 6), (2, 2), None, None)[0, 0].int().tolist()
        [[0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    """
    if len(image) != 3:
        raise ValueError(f"A patch needs images of three dimensions. Found inputs of shape {tuple(image)}.")
    height, width = image[1:] if channels_first else image[:2]
    place = _place(height, width, size, location, mask)
    return place[None, None] if channels_first else place[None, ..., None]


def check_place(size: tuple[int, int] | None, location: tuple[int, int] | None, mask: Any) -> Tensor | None:
    """The mask as a boolean tensor, or None; what can be checked before there is an image. See :func:`patch_mask`."""
    if (size is None) == (mask is None):
        raise ValueError(
            f"A patch should have either `size` or `mask`. Found {'neither' if size is None else 'both of them'}."
        )
    if mask is None:
        pair_of_integers(1)("size", size)
        if location is not None:
            pair_of_integers(0)("location", location)
        return None
    if location is not None:
        raise ValueError("Parameter `location` belongs to `size`; a mask says itself where it is. Found both.")
    array = mask.detach().cpu() if isinstance(mask, Tensor) else np.asarray(mask)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
        raise TypeError(
            f"Parameter `mask` should be an array or a tensor of numbers, (H, W). Found {type(mask).__name__}."
        )
    place = torch.as_tensor(array != 0, device="cpu")
    if place.ndim != 2:
        raise ValueError(f"Parameter `mask` should have shape (H, W). Found {tuple(place.shape)}.")
    if not bool(place.any()):
        raise ValueError("Parameter `mask` should be other than 0 somewhere. Found no place for the patch.")
    return place


def _place(
    height: int, width: int, size: tuple[int, int] | None, location: tuple[int, int] | None, mask: Any
) -> Tensor:
    """Where the patch is, ``(H, W)``."""
    given = check_place(size, location, mask)
    if given is not None:
        if tuple(given.shape) != (height, width):
            raise ValueError(f"Parameter `mask` should have shape {(height, width)}. Found {tuple(given.shape)}.")
        return given.to(torch.float32)
    tall, wide = size or (0, 0)
    row, column = location or ((height - tall) // 2, (width - wide) // 2)
    if row + tall > height or column + wide > width or row < 0 or column < 0:
        raise ValueError(
            f"The patch should lie inside the image of {height}x{width}. Found {tall}x{wide} at row {row}, column "
            f"{column}."
        )
    place = torch.zeros(height, width, dtype=torch.float32, device="cpu")
    place[row : row + tall, column : column + wide] = 1
    return place


@dataclass(frozen=True)
class PatchPlace:
    """Where a patch lies, and how it is put on images.

    Attributes:
        mask: Broadcastable to the inputs, 1 where the patch is.
        transforms: Applied in turn, drawn anew for each sample and step.
        ignore: Labels under the patch do not count.
        shared: One patch for all samples.
        channels_first: Where the channels of the inputs stand. Transformations see them first in any case.
    """

    mask: Tensor
    transforms: tuple[Transform, ...] = ()
    ignore: bool = True
    shared: bool = True
    channels_first: bool = True

    def first(self, images: Tensor) -> Tensor:
        """Images, or a mask, with the channels first."""
        return images if self.channels_first else images.movedim(-1, 1)

    def back(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`first`."""
        return images if self.channels_first else images.movedim(1, -1)


class PatchSearch:
    """The search for a patch: what varies is a canvas, an image with the patch on it, of which the mask is pasted.

    With a shared patch ``steps`` are passes over the samples.

    Args:
        place: Where it lies.

    Attributes:
        found: The shared patch on an empty image ``(1, C, H, W)``, whose rest is the middle of the box; None before.
    """

    def __init__(self, place: PatchPlace) -> None:
        self.place = place
        self.found: Tensor | None = None

    def run(self, setup: RunSetup) -> Tensor:
        """See :class:`~art_mtl.core.engine.Search`."""
        place = replace(self.place, mask=self.place.mask.to(setup.device))
        run = _PatchRun(setup, place, torch.Generator(setup.device).manual_seed(setup.seed))
        if not place.shared:
            return run.own()
        self.found = run.one()
        return apply_patch(setup.batch.inputs, self.found, self.place.mask)


def apply_patch(images: Tensor, patch: Tensor, mask: Tensor) -> Tensor:
    """The images with a patch on them."""
    return torch.where(mask.to(images.device) != 0, patch.to(images.device), images)


@dataclass
class _PatchRun:
    """One search."""

    setup: RunSetup
    place: PatchPlace
    generator: torch.Generator

    def one(self) -> Tensor:
        """One patch for all samples, on the canvas ``(1, C, H, W)``."""
        first = self.setup.batch[:1].to(self.setup.device)
        bounds = first.bounds
        middle = ((bounds[0] + bounds[1]) / 2).expand(first.inputs.shape).contiguous()

        def batch(chosen: Tensor) -> SearchBatch:
            part = self._part(part_of(self.setup.batch, chosen))
            return SearchBatch(part, middle.expand_as(part.inputs), self._view(part))

        found = fit(self.setup, batch, torch.zeros_like(middle), self.setup.method)
        return found.applied(middle, bounds)

    def own(self) -> Tensor:
        """A patch for each sample, on the images."""
        setup = self.setup
        at_once, size = setup.samples_at_once, len(setup.batch)
        objective, _ = check_shared(setup.method)
        setup.begin(-(-size // at_once) * setup.run_config.steps)
        result = torch.empty_like(setup.batch.inputs)
        for number, start in enumerate(range(0, size, at_once)):
            rows = slice(start, start + at_once)
            part = self._part(setup.batch[rows])
            against = against_clean(
                objective, setup.forward, part.inputs, setup.tasks, part.targets, setup.run_config.targeted
            )
            canvas = attack(
                self._view(part),
                part.inputs,
                setup.tasks,
                part.targets,
                replace(setup.method, objective=against),
                part.threat(math.inf),
                replace(setup.run_config, step_size=part.step_size),
                observer=setup.callbacks.observer(number),
                log=setup.log,
                first_index=start,
            )
            result[rows] = canvas.to(result.device)
        return result

    def _part(self, batch: AttackBatch) -> AttackBatch:
        """Some samples on the device: all of the box may be reached, inside the mask; labels there may not count."""
        here = batch.to(self.setup.device)
        width = (here.bounds[1] - here.bounds[0]).expand(here.inputs[:1].shape)
        targets = (
            tuple(t.hidden(self.place.first(self.place.mask)) for t in here.targets)
            if self.place.ignore
            else here.targets
        )
        return replace(here, eps=width, mask=self.place.mask, targets=targets)

    def _view(self, batch: AttackBatch) -> Forward:
        """The forward pass as the patch sees it: canvas ``(B, C, H, W)`` to outputs on patched images."""
        images, place = batch.inputs, self.place

        def run(canvas: Tensor) -> Outputs:
            if not place.transforms:
                return self.setup.forward(torch.where(place.mask != 0, canvas, images))
            canvas = place.first(canvas)
            mask = place.first(place.mask).expand(len(canvas), -1, -1, -1).to(canvas.dtype)
            for transform in place.transforms:
                canvas, mask = apply_transform(transform, canvas, mask, self.generator)
            canvas, mask = place.back(canvas), place.back(mask)
            return self.setup.forward(images * (1 - mask) + canvas.clamp(*batch.bounds) * mask)

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
