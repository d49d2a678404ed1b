"""Canonical labels of one task for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from art_mtl.structure import map_tensors


@runtime_checkable
class Target(Protocol):
    """The labels of B samples, in the form that a kind of task computes with.

    :class:`DenseTarget`, :class:`PlacedTarget` and :class:`RaggedTarget` are the forms of this package. Any class with
    these methods is another.
    """

    def __len__(self) -> int:
        """B, the number of samples."""

    def __getitem__(self, index: slice | Tensor) -> Target:
        """The labels of some of the samples."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Target:
        """The same labels with every tensor changed, to another device for instance."""

    def to(self, device: torch.device | str) -> Target:
        """The same labels on another device."""

    def hidden(self, mask: Tensor) -> Target:
        """The labels without those of places under a patch.

        Args:
            mask: ``(1, 1, H, W)``, other than 0 where the patch is.
        """

    @property
    def has_label(self) -> Tensor:
        """``(B,)``, boolean: whether anything of the sample counts."""

    @property
    def count(self) -> Tensor:
        """``(B,)``, integers: how many places of the sample count."""


@dataclass(frozen=True)
class DenseTarget:
    """Labels that are a tensor.

    Attributes:
        value: Classes ``(B, *S)`` as int64, or values ``(B, C, *S)`` as floats; 0 where not valid.
        valid: ``(B, *S)``, boolean: the places that count.

    Examples:
        >>> target = DenseTarget(torch.tensor([[3, 1], [2, 0]]), torch.tensor([[True, True], [True, False]]))
        >>> target[:1].value, target.count
        (tensor([[3, 1]]), tensor([2, 1]))
    """

    value: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: slice | Tensor) -> DenseTarget:
        return replace(self, value=self.value[index], valid=self.valid[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> DenseTarget:
        """The same labels with both tensors changed."""
        return replace(self, value=change(self.value), valid=change(self.valid))

    def to(self, device: torch.device | str) -> DenseTarget:
        """The same labels on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def hidden(self, mask: Tensor) -> DenseTarget:
        """The labels without those under a patch: places of maps at the mask's size or another.

        Args:
            mask: ``(1, 1, H, W)``, other than 0 where the patch is.
        """
        if self.valid.ndim < 3:
            return self
        place = mask.to(self.valid.device)
        if self.valid.shape[-2:] != place.shape[2:]:
            place = F.adaptive_max_pool2d(place, self.valid.shape[-2:])
        return replace(self, valid=self.valid & (place[0, 0] == 0))

    @property
    def has_label(self) -> Tensor:
        """``(B,)``, boolean: whether the sample has anything valid."""
        return self.valid.flatten(1).any(1) if self.valid.ndim > 1 else self.valid

    @property
    def count(self) -> Tensor:
        """``(B,)``, int64: valid places of each sample."""
        return self.valid.flatten(1).sum(1) if self.valid.ndim > 1 else self.valid.long()


@dataclass(frozen=True)
class PlacedTarget(DenseTarget):
    """Labels that are boxes or points of an image.

    Attributes:
        value: ``(B, D, M)``, of which the first numbers are x and y: of the upper left corner and then of the lower
            right one for boxes, of the place itself for points.
        valid: ``(B, M)``.
        boxes: Whether they are boxes.
        image_size: Height and width of the image in the unit of x and y; None for pixels.
    """

    boxes: bool = False
    image_size: tuple[float, float] | None = None

    def hidden(self, mask: Tensor) -> PlacedTarget:
        """The labels without those that a patch covers wholly: what is left of an object in part can be found.

        Args:
            mask: ``(1, 1, H, W)``, other than 0 where the patch is.

        Examples:
            >>> places = torch.tensor([[[0.0, 1.0, 4.0, 4.0, 9.0], [1.0, 1.0, 3.0, 3.0, 9.0]]]).mT
            >>> target = PlacedTarget(places, torch.ones(1, 2, dtype=torch.bool), boxes=True)
            >>> mask = torch.zeros(1, 1, 8, 8)
            >>> mask[..., :4, :3] = 1
            >>> target.hidden(mask).valid
            tensor([[ True, False]])
        """
        covered = (mask[0, 0] != 0).to(self.value.device, torch.long)
        (left, right), (top, bottom) = (
            self._span(axis, size) for axis, size in ((0, covered.shape[1]), (1, len(covered)))
        )
        above = F.pad(covered.cumsum(0).cumsum(1), (1, 0, 1, 0))  # of each corner, how much lies above and left of it
        found = above[bottom, right] - above[top, right] - above[bottom, left] + above[top, left]
        # A box of no size stands for an image in which nothing is to be found.
        size = (right - left) * (bottom - top)
        return replace(self, valid=self.valid & ((found < size) | (size == 0)))

    def _span(self, axis: int, pixels: int) -> tuple[Tensor, Tensor]:
        """The first pixel of each place and the one behind its last, along x (0) or y (1)."""
        scale = 1.0 if self.image_size is None else pixels / self.image_size[1 - axis]
        low = self.value[:, axis] * scale
        first = low.floor().long().clamp(0, pixels - 1)
        if not self.boxes:
            return first, first + 1
        return first, (self.value[:, 2 + axis] * scale).ceil().long().clamp(max=pixels).maximum(first)


@dataclass(frozen=True)
class RaggedTarget:
    """Labels that differ in size from sample to sample, such as boxes.

    Attributes:
        values: One tensor, or nest of tensors, for each of B samples.
        has_label: ``(B,)``, boolean: whether anything of the sample counts.

    Examples:
        >>> boxes = (torch.zeros(2, 4), torch.zeros(0, 4), torch.zeros(5, 4))
        >>> target = RaggedTarget(boxes, torch.tensor([True, True, False]))
        >>> [len(values) for values in target[torch.tensor([2, 0])].values]
        [5, 2]
    """

    values: tuple[Any, ...]
    has_label: Tensor

    def __post_init__(self) -> None:
        if tuple(self.has_label.shape) != (len(self.values),) or self.has_label.dtype != torch.bool:
            raise ValueError(
                f"Parameter `has_label` should be boolean of shape ({len(self.values)},), one for each of `values`. "
                f"Found {self.has_label.dtype} of shape {tuple(self.has_label.shape)}."
            )

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice | Tensor) -> RaggedTarget:
        chosen = range(len(self))[index] if isinstance(index, slice) else _numbers(index)
        return RaggedTarget(tuple(self.values[i] for i in chosen), self.has_label[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> RaggedTarget:
        """The same labels with every tensor changed, inside nests too."""
        return RaggedTarget(tuple(map_tensors(value, change) for value in self.values), change(self.has_label))

    def to(self, device: torch.device | str) -> RaggedTarget:
        """The same labels on another device."""
        return self.map(lambda tensor: tensor.to(device))

    def hidden(self, mask: Tensor) -> RaggedTarget:
        """The same labels: objects have no place of their own here. Kinds with places override it."""
        return self

    @property
    def count(self) -> Tensor:
        """``(B,)``, int64: 1 for each sample that counts."""
        return self.has_label.long()


def _numbers(index: Tensor) -> list[int]:
    numbers: list[int] = (index.nonzero()[:, 0] if index.dtype == torch.bool else index).tolist()
    return numbers
