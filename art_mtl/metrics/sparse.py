"""Tensors of which little more than the entries that are not 0 is kept: counts of many classes, confusion matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 1 << 22
"""Entries of the rows that are made dense at a time."""

__all__ = ["SparseTensor"]


@dataclass(frozen=True)
class SparseTensor:
    """A tensor by its entries that are not 0, on the host.

    Args:
        shape: Of the dense tensor, at least one dimension; the first counts rows, such as samples.
        places: ``(E,)``, int64, ascending: where these entries are in the flat tensor.
        values: ``(E,)``: what they are.

    Examples:
        >>> rows = SparseTensor.of(torch.tensor([[0.0, 2.0], [3.0, 0.0]]))
        >>> rows.places.tolist(), rows.rows(slice(1, 2)).tolist()
        ([1, 2], [[3.0, 0.0]])
    """

    shape: tuple[int, ...]
    places: Tensor
    values: Tensor

    @classmethod
    def of(cls, dense: Tensor) -> SparseTensor:
        """From a tensor of at least one dimension."""
        flat = dense.detach().cpu().flatten()
        places = flat.nonzero()[:, 0]
        return cls(tuple(dense.shape), places, flat[places])

    @classmethod
    def concatenate(cls, parts: Sequence[SparseTensor]) -> SparseTensor:
        """All rows of the parts, in order."""
        offsets, count = [], 0
        for part in parts:
            offsets.append(count * part.row_size)
            count += len(part)
        places = torch.cat([part.places + offset for part, offset in zip(parts, offsets, strict=True)])
        return cls((count, *parts[0].shape[1:]), places, torch.cat([part.values for part in parts]))

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_size(self) -> int:
        """Entries of a row."""
        return math.prod(self.shape[1:])

    def rows(self, part: slice = slice(None)) -> Tensor:
        """Dense rows ``(n, *shape[1:])``.

        Args:
            part: Of the rows, neighbours.
        """
        first, stop, _ = part.indices(len(self))
        stop, size = max(first, stop), self.row_size
        low, high = torch.searchsorted(self.places, torch.tensor([first * size, stop * size])).tolist()
        dense = torch.zeros((stop - first) * size, dtype=self.values.dtype)
        dense[self.places[low:high] - first * size] = self.values[low:high]
        return dense.view(stop - first, *self.shape[1:])

    def parts(self) -> Iterator[Tensor]:
        """All rows, in dense parts that are never large."""
        step = max(1, _AT_ONCE // max(1, self.row_size))
        for first in range(0, len(self), step):
            yield self.rows(slice(first, first + step))

    def weighted(self, weights: Tensor) -> Tensor:
        """Weighted sums of the rows, dense.

        Args:
            weights: ``(R, len(self))``, of the dtype of the values.

        Returns:
            ``(R, row_size)``.
        """
        total, first = weights.new_zeros(len(weights), self.row_size), 0
        for rows in self.parts():
            total += weights[:, first : first + len(rows)] @ rows.flatten(1)
            first += len(rows)
        return total
