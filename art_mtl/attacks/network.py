"""What the gradient steps of an ART attack run on, and how many samples at once."""

from __future__ import annotations

import torch
from torch import Tensor

from art_mtl.core.batch_size import AUTO, BatchSize, measure_batch_size
from art_mtl.core.loop import Forward
from art_mtl.core.model import frozen
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.prepared import Preparation, PreparedCache

OWN_LABELS_BATCH = 32
"""Samples a forward pass where labels are predicted before a batch size is measured."""


class Network:
    """The estimator's model or its prepared copy, which is kept from call to call.

    Attributes:
        measured: What was found where the batch size was to be measured; None before.
    """

    def __init__(self) -> None:
        self.measured: BatchSize | None = None
        self._cache = PreparedCache()

    def forward(
        self, estimator: PyTorchMultiTaskEstimator, prepare: Preparation | str | None, inputs: Tensor
    ) -> Forward:
        """Inputs to one raw output a task; the copy is made here if there is none, or none of the model as it is now.

        Args:
            estimator: Whose preprocessing stays as it is.
            prepare: How; see :meth:`Preparation.parse`.
            inputs: Clean inputs ``(N, ...)``, of which the first are the example.
        """
        how = Preparation.parse(prepare)
        if how is None:
            return estimator.forward_tasks
        with frozen(estimator.model), torch.no_grad():
            example = estimator.model_inputs(inputs[:2])
        return estimator.forward_through(self._cache(estimator.model, example, how))

    def batch_size(
        self, asked: int | str, forward: Forward, inputs: Tensor, most: int | None, device: torch.device
    ) -> int:
        """The number itself, or what is measured for "auto", once.

        Args:
            asked: The attack's argument.
            forward: See :meth:`forward`.
            inputs: Clean inputs ``(N, ...)``.
            most: Samples that a batch may hold, or None for all.
            device: Where the network computes.
        """
        if asked != AUTO:
            return int(asked)
        if self.measured is None:
            self.measured = measure_batch_size(forward, inputs[:most], device)
        return self.measured.size
