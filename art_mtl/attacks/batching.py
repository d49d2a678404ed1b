"""How many samples an ART attack takes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from art_mtl.core.batch_size import AUTO, BatchSize, measure_batch_size
from art_mtl.core.loop import Forward

OWN_LABELS_BATCH = 32
"""Samples a forward pass where labels are predicted before a batch size is measured."""


class Batching:
    """An attack's batch size, measured at most once.

    Attributes:
        measured: What was found; None before, or where nothing is to be measured.
    """

    def __init__(self) -> None:
        self.measured: BatchSize | None = None

    def size(self, asked: int | str, forward: Forward, inputs: Tensor, most: int | None, device: torch.device) -> int:
        """The number itself, or what is measured for "auto".

        Args:
            asked: The attack's argument.
            forward: What its gradient steps run on; parameters are not differentiated.
            inputs: Clean inputs ``(N, ...)``.
            most: Samples that a batch may hold, whatever there are, or None for all.
            device: Where the network computes.
        """
        if asked != AUTO:
            return int(asked)
        if self.measured is None:
            self.measured = measure_batch_size(forward, inputs[:most], device)
        return self.measured.size
