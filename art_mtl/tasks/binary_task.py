"""What the kinds of yes-or-no labels share: one logit, and one label of 1 or 0, at each place."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.metrics import Metric, further
from art_mtl.metrics.statistics import mask_counts
from art_mtl.tasks.colours import Array
from art_mtl.tasks.label_checks import all_ignored, check_ignored, check_share, is_ignored, output_error, shape_error
from art_mtl.tasks.logits import LogitTask
from art_mtl.tasks.target import DenseTarget

if TYPE_CHECKING:
    import torchmetrics

UNKNOWN = -1
"""Label that is not known."""


@dataclass(frozen=True, kw_only=True)
class BinaryTask(LogitTask):
    """Base of the kinds whose output is logits ``(B, *S)`` and whose labels ``(B, *S)`` are 1, 0 and ``ignore_index``.

    Attributes:
        threshold: Probability above which a label is predicted to be 1, in (0, 1).
        ignore_index: Label of places that do not count, or several.
    """

    threshold: float = 0.5
    ignore_index: int | Sequence[int] = UNKNOWN

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "threshold", check_share(self.name, "threshold", self.threshold))
        object.__setattr__(self, "ignore_index", check_ignored(self.name, self.ignore_index))
        if {0, 1} & {*all_ignored(self.ignore_index)}:
            raise ValueError(
                f"Parameter `ignore_index` of task {self.name!r} should be other than 0 and 1. "
                f"Found {self.ignore_index!r}."
            )

    @property
    def cut(self) -> float:
        """The logit of ``threshold``."""
        return math.log(self.threshold / (1 - self.threshold))

    @property
    @abstractmethod
    def layout(self) -> str:
        """The shape of labels, for messages."""

    @abstractmethod
    def arrange(self, tensor: Tensor) -> Tensor | None:
        """Labels or logits as ``(N, *S)``; None where they have another layout."""

    def decode(self, output: Tensor) -> Tensor:
        """1 where the logit is above that of ``threshold``."""
        return (self.logits(output) > self.cut).to(output.dtype)

    def encode(self, y: Tensor, present: Tensor) -> DenseTarget:
        """1, 0 and ``ignore_index``; logits are decoded."""
        arranged = self.arrange(y)
        if arranged is None:
            raise shape_error(self.name, self.layout, y)
        unknown = is_ignored(arranged, self.ignore_index)
        if not ((arranged == 0) | (arranged == 1) | unknown).all():
            self._check_logits(
                arranged, arranged[present.view(-1, *[1] * (arranged.ndim - 1)).expand(arranged.shape) & ~unknown]
            )
            arranged, unknown = self.decode(arranged), torch.zeros_like(unknown)
        valid = present.view(-1, *[1] * (arranged.ndim - 1)) & ~unknown
        return DenseTarget(torch.where(valid, arranged, 0).float(), valid)

    @property
    def missing_mark(self) -> float:
        """``ignore_index``, the first of several."""
        return all_ignored(self.ignore_index)[0]

    def _check_logits(self, y: Tensor, known: Tensor) -> None:
        mark = "-1 (not known)" if self.ignore_index == UNKNOWN else f"{self.ignore_index} (ignored)"
        if not y.is_floating_point():
            raise ValueError(
                f"The labels of task {self.name!r} should be 1, 0 or {mark}, or raw outputs. Found values in "
                f"[{y.min().item()}, {y.max().item()}]."
            )
        if y.min() >= 0 and y.max() <= 1:
            raise ValueError(
                f"The labels of task {self.name!r} should be 1, 0 or {mark}, or raw outputs (logits). "
                "Found fractions in [0, 1]; threshold probabilities first."
            )
        whole = bool((known == known.round()).all())
        if whole or (self.is_map and known.min() >= 0):
            raise ValueError(
                f"The labels of task {self.name!r} should be 1, 0 or {mark}, or raw outputs (logits), some of which "
                f"are negative. Found {'whole numbers' if whole else 'no negative one'} in [{known.min().item():.4g}, "
                f"{known.max().item():.4g}]: counts, distances and other maps are no masks."
            )

    def lay_out(self, output: Tensor, target: DenseTarget) -> Tensor:
        """``(B, *S)``."""
        arranged = self.arrange(output)
        if arranged is None or arranged.shape != target.value.shape:
            raise output_error(self.name, str(tuple(target.value.shape)), output)
        return arranged

    def shown(self, target: DenseTarget) -> Array:
        """``(N, *S)`` of 1, 0 and NaN."""
        return torch.where(target.valid, target.value, float("nan")).cpu().numpy()

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether all labels that are known are the same."""
        values, true = (np.atleast_1d(v).astype(float) for v in (label, truth))
        return bool(np.array_equal(values[~np.isnan(true)], true[~np.isnan(true)]))

    def loss_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Binary cross-entropy, in nats."""
        return losses.binary_cross_entropy(output, value)

    def score_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Probability of each label's true state."""
        return losses.true_label_probability(output, value)

    def margin_elements(self, output: Tensor, value: Tensor) -> Tensor:
        """Logit, from that of ``threshold`` on, towards each label's true state."""
        return losses.binary_margin(output - self.cut, value)

    def statistics(self, output: Any, target: Any) -> Tensor:
        """See :meth:`Task.statistics`."""
        return super().statistics(self._seen(output), target)

    def metric_arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """See :meth:`Task.metric_arguments`."""
        return super().metric_arguments(self._seen(output), target)

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """See :meth:`Task.torchmetrics_arguments`: probabilities and labels, of one label ``(M,)``, of several ``(M,
        L)``.

        Raises:
            ValueError: Some labels of a place are known and others are not, and the object has no ``ignore_index``.
        """
        probability, label, valid = torch.sigmoid(output), target.value.long(), target.valid
        if not self.num_masks:
            return probability[valid], label[valid]
        probability, label, valid = (one.movedim(1, -1).flatten(0, -2) for one in (probability, label, valid))
        known, mark = valid.any(1), getattr(like, "ignore_index", None)
        if mark is None and not bool(valid[known].all()):
            raise ValueError(
                f"The measure {type(like).__name__} of task {self.name!r} should have an `ignore_index`, for labels "
                "that are not known where others are. Found none."
            )
        return probability[known], torch.where(valid, label, 0 if mark is None else mark)[known]

    @property
    def num_masks(self) -> int:
        """L, labels at each place; 0 for kinds of one label without an axis for it."""
        return 0

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """See :meth:`Task.further_metrics`."""
        if self.num_masks:
            found = {
                "accuracy": metrics.binary_accuracy(),
                "f1-macro": replace(metrics.f1(self.num_masks), name="F1 macro"),
                "f1-micro": further.micro_f1(self.num_masks),
                "iou": metrics.multilabel_iou(self.num_masks),
            }
        else:
            f1 = replace(metrics.f1(1), statistics=mask_counts)
            found = {"accuracy": metrics.binary_accuracy(), "f1": f1, "iou": metrics.binary_iou()}
            found |= {"precision": further.precision(), "recall": further.recall()}
        return {name: further.at_threshold(metric, self.cut) for name, metric in found.items()}

    def _seen(self, output: Tensor) -> Tensor:
        """Logits as the metric takes them, which predicts 1 where they are positive."""
        return output - self.cut
