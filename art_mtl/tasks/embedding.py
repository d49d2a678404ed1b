"""Verification by a vector: faces, voices, places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.colours import Array
from art_mtl.tasks.elementwise import DecisionTask
from art_mtl.tasks.label_checks import check_choice, check_positive, check_shape, shape_error
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget

DISTANCES = {"cosine": losses.cosine_distance, "euclidean": losses.euclidean_distance}


def embedding(name: str, threshold: float, output: OutputPicker = None, *, distance: str = "cosine") -> Embedding:
    """A vector that is compared with an enrolled one: output ``(B, D)``, labels ``(N, D)``, NaN where there is none.

    A sample is verified where the distance of its vector to the enrolled one is at most ``threshold``. Loss: the
    distance. Score: the closeness ``2 ** (-distance / threshold)``. Metric: verification rate.

    Attacks towards targets take the vector of somebody else.

    Args:
        name: Name of the task.
        threshold: Greatest distance of the same person.
        output: See :class:`art_mtl.tasks.Task`.
        distance: "cosine", 1 less the cosine of the angle; or "euclidean".

    Raises:
        ValueError: An argument is not one of these.

    Examples:
        >>> import torch
        >>> task = embedding("face", threshold=0.4)
        >>> target = task.targets(torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        >>> task.loss(torch.tensor([[1.0, 0.0], [0.0, 5.0]]), target)
        tensor([0., 1.])
    """
    return Embedding(name=name, threshold=threshold, output=output, distance=distance)


@dataclass(frozen=True, kw_only=True)
class Embedding(DecisionTask):
    """See :func:`embedding`."""

    kind: ClassVar[str] = "embedding"

    threshold: float
    distance: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "threshold", check_positive(self.name, "threshold", self.threshold))
        check_choice(self.name, "distance", self.distance, DISTANCES)

    @cached_property
    def metric(self) -> Metric:
        """Verification rate."""
        within = metrics.Bound(losses.is_within, threshold=self.threshold, distance=DISTANCES[self.distance])
        return metrics.mean_of("verified", within, higher_is_better=True, scale=100.0)

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        distance = metrics.mean_of("distance", DISTANCES[self.distance], higher_is_better=False)
        return {"verified": self.metric, "distance": distance}

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, D)``."""
        if y.ndim != 2:
            raise shape_error(self.name, "(N, D)", y)
        y = y.float()
        empty = present & (y == 0).all(1)
        if self.distance == "cosine" and bool(empty.any()):
            raise ValueError(
                f"The labels of task {self.name!r} should be vectors of some length, or NaN where there is none. Found "
                f"zeros, first in sample {int(empty.nonzero()[0])}."
            )
        return DenseTarget(y, present)

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, D)``."""
        check_shape(self.name, output, tuple(target.value.shape))
        return output

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """The distance."""
        return DISTANCES[self.distance](output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """The closeness."""
        return losses.closeness(self.loss_elements(output, value), self.threshold)

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """By how much the distance is less than the threshold."""
        return self.threshold - self.loss_elements(output, value)

    def shown(self, target: DenseTarget) -> Array:
        """``(N, D)``, NaN where there is none."""
        return torch.where(target.valid[:, None], target.value, float("nan")).cpu().numpy()

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether one is verified as the other."""
        one, other = (torch.as_tensor(np.asarray(values, dtype=float))[None] for values in (label, truth))
        return bool(other.isnan().any() or DISTANCES[self.distance](one, other)[0] <= self.threshold)

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """The length of the vector, and its size."""
        values = np.atleast_1d(label).astype(float)
        return "?" if np.isnan(values).any() else f"|{np.linalg.norm(values):.2f}| of {len(values)}"
