"""The samples that an attack degrades least and most: what pictures of a run show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from art_mtl.data.sources import Inputs

_EACH = 3
"""Samples that are kept at either end, at most."""
_BYTES = 4 << 20
"""What the kept samples of a unit may take, as far as one at either end allows."""

__all__ = ["Examples", "degradation_order", "extreme_samples"]


@dataclass(frozen=True)
class Examples:
    """Adversarial inputs of a few samples.

    Attributes:
        samples: Their places in the data set, from 0.
        inputs: ``(n, ...)``, float32.
    """

    samples: tuple[int, ...]
    inputs: Inputs

    def __len__(self) -> int:
        return len(self.samples)

    @classmethod
    def joined(cls, parts: Sequence[Examples], deltas: npt.NDArray[np.float64]) -> Examples:
        """Of the examples of all chunks those of the samples that are degraded least and most in the whole data set.

        Args:
            parts: Of each chunk, chosen by :func:`extreme_samples`.
            deltas: Of all samples, ``(N, K)``.
        """
        inputs = np.concatenate([part.inputs for part in parts])
        places = {sample: i for i, sample in enumerate(sample for part in parts for sample in part.samples)}
        chosen = extreme_samples(deltas, inputs[0].nbytes)
        return cls(tuple(chosen), inputs[[places[i] for i in chosen]])


def degradation_order(deltas: npt.NDArray[np.float64]) -> list[int]:
    """Samples from the most to the least degraded one.

    A sample counts as much as its least degraded task; among equals, as the mean over its tasks. A task that the attack
    improves counts as unharmed. Samples without any defined delta are left out.

    Args:
        deltas: Signed degradations of each sample alone, ``(N, K)``, NaN where undefined.

    Examples:
        >>> degradation_order(np.array([[-0.1, -0.9], [-0.5, -0.6], [np.nan, np.nan], [3.0, -1.0], [-0.5, -0.9]]))
        [4, 1, 0, 3]
    """
    known = np.flatnonzero(~np.isnan(deltas).all(1))
    harm = np.minimum(deltas[known], 0.0)
    if not len(known):
        return []
    order: list[int] = known[np.lexsort((np.nanmean(harm, 1), np.nanmax(harm, 1)))].tolist()
    return order


def extreme_samples(deltas: npt.NDArray[np.float64], size: int) -> list[int]:
    """The samples that are degraded least, the least first, then those that are degraded most, the most first.

    Args:
        deltas: See :func:`degradation_order`.
        size: Bytes of one sample: of large ones fewer are chosen.

    Examples:
        >>> extreme_samples(-np.arange(10.0)[:, None], size=4)
        [0, 1, 2, 9, 8, 7]
    """
    order = degradation_order(deltas)
    count = min(_EACH, max(1, _BYTES // (2 * size)))
    least = order[::-1][: min(count, -(-len(order) // 2))]
    return least + order[: min(count, len(order) - len(least))]
