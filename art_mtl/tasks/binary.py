"""One yes-or-no label an image."""

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
from art_mtl.tasks.picking import OutputPicker


def binary(
    name: str, threshold: float = 0.5, output: OutputPicker = None, *, probabilities: bool | None = None
) -> Binary:
    """One yes-or-no label an image: one logit ``(B,)`` or ``(B, 1)``, labels ``(N,)`` or ``(N, 1)`` of 1, 0 and −1.

    −1 is a label that is not known. Loss: binary cross-entropy. Score: probability of the true state. Metric: accuracy.

    Args:
        name: Name of the task.
        threshold: Probability above which the answer is yes.
        output: See :class:`art_mtl.tasks.Task`.
        probabilities: Whether the model returns probabilities, after a sigmoid of its own. One number a sample
            does not show it, so None stands for logits.

    Raises:
        ValueError: ``threshold`` is not between 0 and 1.

    Examples:
        >>> import torch
        >>> task = binary("smiles")
        >>> target = task.targets(torch.tensor([1, 0, -1]))
        >>> task.score(torch.tensor([2.0, 2.0, 2.0]), target)
        tensor([0.8808, 0.1192, 0.0000])
    """
    return Binary(name=name, threshold=threshold, output=output, probabilities=probabilities)


@dataclass(frozen=True, kw_only=True)
class Binary(BinaryTask):
    """See :func:`binary`."""

    kind: ClassVar[str] = "binary"

    @property
    def layout(self) -> str:
        """``(N,)``."""
        return "(N,) or (N, 1)"

    @cached_property
    def metric(self) -> Metric:
        """Accuracy."""
        return metrics.binary_accuracy()

    def arrange(self, tensor: Tensor) -> Tensor | None:
        """``(N,)``."""
        if tensor.ndim == 2 and tensor.shape[1] == 1:
            tensor = tensor[:, 0]
        return tensor if tensor.ndim == 1 else None

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """The word "yes" or "no", or the name of the class.

        Examples:
            >>> pet = binary("pet")
            >>> pet.answer(np.array([1.0])), pet.answer(0.0, ["cat", "dog"]), pet.answer(np.nan)
            ('yes', 'cat', '?')
        """
        value = float(np.atleast_1d(label).ravel()[0])
        if np.isnan(value):
            return "?"
        return class_names[int(value)] if len(class_names) == 2 else ("no", "yes")[int(value)]
