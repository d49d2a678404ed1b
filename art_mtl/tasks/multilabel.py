"""Several yes-or-no labels an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from art_mtl import metrics
from art_mtl.metrics import Metric
from art_mtl.tasks.binary_task import BinaryTask
from art_mtl.tasks.label_checks import check_count
from art_mtl.tasks.picking import OutputPicker


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
class Multilabel(BinaryTask):
    """See :func:`multilabel`."""

    kind: ClassVar[str] = "multilabel"

    num_labels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "num_labels", check_count("num_labels", self.num_labels, least=1))

    @property
    def num_masks(self) -> int:
        """L."""
        return self.num_labels

    @property
    def layout(self) -> str:
        """``(N, L)``."""
        return f"(N, {self.num_labels})"

    @cached_property
    def metric(self) -> Metric:
        """Macro F1."""
        return metrics.f1(self.num_labels)

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

    def arrange(self, tensor: Tensor) -> Tensor | None:
        """``(N, L)``; of one label ``(N,)`` too."""
        if tensor.ndim == 1 and self.num_labels == 1:
            tensor = tensor[:, None]
        return tensor if tensor.ndim == 2 and tensor.shape[1] == self.num_labels else None
