"""A torchmetrics class for metrics that torchmetrics lacks: the value of summed statistics."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchmetrics
from torch import Tensor


class AdditiveMetric(torchmetrics.Metric):
    """The value of the sum of additive statistics.

    Args:
        value: ``(S,)`` to a scalar.
        size: S.

    Examples:
        >>> metric = AdditiveMetric(lambda total: total[0] / total[1], size=2)
        >>> metric.update(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    total: Tensor

    def __init__(self, value: Callable[[Tensor], Tensor], size: int) -> None:
        super().__init__()
        self.value = value
        self.add_state("total", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, statistics: Tensor) -> None:
        """Add the statistics of some samples, ``(n, S)``."""
        self.total = self.total + statistics.to(self.total).sum(0)

    def compute(self) -> Tensor:
        """The metric."""
        return self.value(self.total)
