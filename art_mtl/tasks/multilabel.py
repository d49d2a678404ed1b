"""Several yes-or-no labels an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.colours import Array
from art_mtl.tasks.label_checks import check_count, check_shape, shape_error
from art_mtl.tasks.logits import LogitTask
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.target import DenseTarget

UNKNOWN = -1
"""Label that is not known."""


def multilabel(
    name: str, num_labels: int, output: OutputPicker = None, *, probabilities: bool | None = None
) -> Multilabel:
    """Several yes-or-no labels an image: logits ``(B, num_labels)``, labels ``(N, num_labels)`` of 1, 0 and −1.

    −1 is a label that is not known, in integers and floats alike: it does not count. Loss: binary cross-entropy, the
    mean over the known labels. Score: probability of each label's true state. Metric: macro F1.

    Args:
        name: Name of the task.
        num_labels: At least 1.
        output: See :class:`art_mtl.tasks.Task`.
        probabilities: Whether the model returns probabilities, after a sigmoid of its own. None: it shows where a
            sample has at least 64 numbers, all of them in [0, 1].

    Examples:
        >>> import torch
        >>> multilabel("tags", num_labels=3).targets(torch.tensor([[1, 0, -1]])).valid
        tensor([[ True,  True, False]])
    """
    return Multilabel(name=name, num_labels=num_labels, output=output, probabilities=probabilities)


@dataclass(frozen=True, kw_only=True)
class Multilabel(LogitTask):
    """See :func:`multilabel`."""

    kind: ClassVar[str] = "multilabel"

    num_labels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_labels", check_count("num_labels", self.num_labels, least=1))

    @cached_property
    def metric(self) -> Metric:
        """Macro F1."""
        return metrics.f1(self.num_labels)

    def decode(self, output: Tensor) -> Tensor:
        """1 where the logit is positive."""
        return (self.logits(output) > 0).to(output.dtype)

    def shown(self, target: DenseTarget) -> Array:
        """``(N, L)`` of 1, 0 and NaN."""
        return torch.where(target.valid, target.value, float("nan")).cpu().numpy()

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """The labels that are set.

        Examples:
            >>> multilabel("tags", 3).answer(np.array([1, 0, 1])), multilabel("tags", 2).answer(np.full(2, np.nan))
            ('{0, 2}', '?')
        """
        values = np.atleast_1d(label).astype(float)
        if np.isnan(values).all():
            return "?"
        names = [class_names[i] if i < len(class_names) else str(i) for i in np.flatnonzero(values > 0.5).tolist()]
        return "{" + ", ".join(names) + "}"

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether all labels that are known are the same."""
        values, true = (np.atleast_1d(v).astype(float) for v in (label, truth))
        return bool(np.array_equal(values[~np.isnan(true)], true[~np.isnan(true)]))

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """``(N, L)`` of 1, 0 and −1 for not known; logits are decoded."""
        if y.ndim == 1 and self.num_labels == 1:
            y = y[:, None]
        if y.ndim != 2 or y.shape[1] != self.num_labels:
            raise shape_error(self.name, f"(N, {self.num_labels})", y)
        unknown = y == UNKNOWN
        if not ((y == 0) | (y == 1) | unknown).all():
            self._check_logits(y)
            y, unknown = self.decode(y), torch.zeros_like(unknown)
        valid = present[:, None] & ~unknown
        return DenseTarget(torch.where(valid, y, 0).float(), valid)

    @property
    def missing_mark(self) -> float:
        """−1."""
        return UNKNOWN

    def _check_logits(self, y: Tensor) -> None:
        if not y.is_floating_point():
            raise ValueError(
                f"The labels of task {self.name!r} should be 1, 0 or -1 (not known), or raw outputs. Found values in "
                f"[{y.min().item()}, {y.max().item()}]."
            )
        if y.min() >= 0 and y.max() <= 1:
            raise ValueError(
                f"The labels of task {self.name!r} should be 1, 0 or -1 (not known), or raw outputs (logits). "
                "Found fractions in [0, 1]; threshold probabilities first."
            )

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, L)``."""
        check_shape(self.name, output, (len(target), self.num_labels))
        return output

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Binary cross-entropy, in nats."""
        return losses.binary_cross_entropy(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Probability of each label's true state."""
        return losses.true_label_probability(output, value)

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Logit towards each label's true state."""
        return losses.binary_margin(output, value)
