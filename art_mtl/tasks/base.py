"""The contract of a task: what an output means, how wrong it is, and how its quality is reported."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from art_mtl.metrics import Metric
from art_mtl.precision import wide_dtype, widen
from art_mtl.structure import OutputLayout, map_tensors, tensors_in
from art_mtl.tasks.drawing import Drawn
from art_mtl.tasks.picking import OutputPicker, check_picker, describe, pick
from art_mtl.tasks.target import Target

if TYPE_CHECKING:
    import torchmetrics


@dataclass(frozen=True)
class Measures:
    """What one pass over an output tells about it; see :meth:`Task.measure`.

    Attributes:
        margins: ``(B, *S)`` with its graph, positive where the prediction is right; None where the task does not
            decide, or margins were not asked for.
        counted: ``(B, *S)``, boolean: the margins that count; None where there are none.
        score: ``(B,)`` with its graph: :meth:`Task.score`; None where the task decides.
        statistics: ``(B, S)``, float64, detached: :meth:`Task.statistics`.
    """

    margins: Tensor | None
    counted: Tensor | None
    score: Tensor | None
    statistics: Tensor


@dataclass(frozen=True)
class Saturation:
    """Where an output is probabilities in place of logits; each ``(B,)``, boolean.

    Attributes:
        probabilities: It is taken for probabilities.
        lost: These are 0 or 1 at every labelled place, so that no gradient is left.
        doubtful: It lies in [0, 1], and is taken for logits.
    """

    probabilities: Tensor
    lost: Tensor
    doubtful: Tensor


@dataclass(frozen=True, kw_only=True)
class Task(Drawn, OutputLayout, ABC):
    """One job of a multi-task model.

    Make one with a function of :mod:`art_mtl.tasks`. Tasks hold plain values only: two that were made by the same call,
    copied or unpickled, are equal.

    Losses and scores are *per sample*: each image is divided by its own valid places, so that what happens to one
    sample never depends on its batch mates. They are computed in float32 at least.

    A new kind is a frozen dataclass that inherits from this class, or from
    :class:`~art_mtl.tasks.elementwise.ElementwiseTask` where its labels are a tensor. It gives what is abstract here,
    and whatever of the rest it has.

    Attributes:
        name: Key of the task in labels, results and, unless ``output`` says otherwise, in the model's output.
        output: None (the name in a mapping or as an attribute, the position in a sequence), a key, an index or a
            callable.
        kind: "segmentation", "classification", …: how results name the kind.
        art_view: What ART calls an estimator of this output alone: "classifier", "regressor"; None where it has none.
        score_floor: Smallest clean score that a relative degradation is measured against, in the unit of
            :meth:`score`.
        loss_floor: The same for the loss.
    """

    kind: ClassVar[str]
    art_view: ClassVar[str | None] = None

    name: str
    output: OutputPicker = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Parameter `name` should be a non-empty string. Found {self.name!r}.")
        check_picker(self.name, self.output)

    # --- outputs ---

    def select(self, outputs: Any, position: int, count: int | None = None) -> Any:
        """This task's part of whatever the model returned: a tensor or, for kinds that take one, a nest of tensors.

        Args:
            outputs: A tensor (models of one output), mapping, list, tuple, named tuple, dataclass or any object with
                attributes.
            position: The task's place in the list of tasks, used for sequences.
            count: How many tasks there are. A sequence of more outputs is an error where ``output`` is None.

        Raises:
            ValueError: The output has no such part, too many parts, or the part is not of tensors.
        """
        chosen = pick(outputs, self.name, self.output, position, count)
        self.check_selected(chosen)
        return chosen

    def from_pixels(self, label: Any, size: tuple[int, int] | None) -> Any:
        """The label of one sample that was read from a file, in the unit and the form of this task.

        Args:
            label: Of boxes x1, y1, x2, y2 in pixels of the input.
            size: Height and width of the input; None where it is no picture.
        """
        return label

    def check_selected(self, output: Any) -> None:
        """Raise ValueError unless the part of the output is a nest with at least one tensor."""
        if not tensors_in(output):
            raise ValueError(
                f"The model's output for task {self.name!r} should be a tensor, or hold tensors. "
                f"Found {describe(output)}."
            )

    def check_size(self, output: Any, size: int) -> None:
        """Raise ValueError unless the output is of ``size`` samples."""
        for tensor in self.output_tensors(output):
            if (tensor.ndim or tensor is output) and tensor.shape[:1] != (size,):
                raise ValueError(
                    f"The model's output for task {self.name!r} should have one entry for each of {size} samples. "
                    f"Found shape {tuple(tensor.shape)}."
                )

    def check_output(self, output: Any, target: Target) -> Any:
        """The output as losses take it: validated, in their layout, float16 and bfloat16 as float32.

        Raises:
            ValueError: It does not fit the labels.
        """
        return map_tensors(output, widen)

    def detach_output(self, output: Any) -> Any:
        """The output without its graph."""
        return map_tensors(output, Tensor.detach)

    def output_tensors(self, output: Any) -> list[Tensor]:
        """Every tensor of the output, always in the same order: what gradients flow through."""
        return tensors_in(output)

    def finite(self, output: Any) -> Tensor:
        """Which samples may be attacked further, ``(B,)``, boolean; nothing waits for the device.

        Logits may be −∞, which rules a class out, where the task decides. NaN, +∞, and −∞ elsewhere are not finite.
        """
        found: Tensor | None = None
        for tensor in self.output_tensors(output):
            if tensor.ndim and (tensor.is_floating_point() or tensor.is_complex()):
                total = sample_sum(tensor.detach())
                good = total < float("inf") if self.decides else torch.isfinite(total)
                found = good if found is None else found & good
        if found is None:
            raise ValueError(f"The model's output for task {self.name!r} should hold floating-point tensors.")
        return found

    def undoes(self, dim: int | None) -> bool:
        """Whether what a last softmax over an axis, or a last sigmoid (None), was given may stand for its output."""
        return False

    def saturation(self, output: Any, target: Target) -> Saturation | None:
        """Where the output is probabilities already; None for kinds without probabilities.

        Args:
            output: The raw output.
            target: Labels.
        """
        return None

    # --- labels ---

    @abstractmethod
    def targets(self, y: Any, present: np.ndarray | Tensor | None = None) -> Target:
        """Canonical, validated labels.

        Args:
            y: ``(N, ...)``, array or tensor, in the layout of the task; or the task's raw outputs, which are decoded.
            present: ``(N,)``, boolean, false where a sample has no label.

        Raises:
            TypeError: Wrong dtype.
            ValueError: Wrong shape, class out of range, NaN or infinity.
        """

    def decode(self, output: Any) -> Any:
        """Labels that the raw output stands for: the arg-max of logits for instance, or a list of one array a sample.

        By default a tensor stands for itself, and a nest for nothing that could be a label: None.
        """
        return output if isinstance(output, Tensor) else None

    def auto_lambda_labels(self, y: np.ndarray) -> np.ndarray:
        """Labels in which every place that the protocol of Auto-Lambda takes for invalid is marked so.

        Args:
            y: Labels in the layout of the task.

        Returns:
            The same array, or a changed copy.
        """
        return y

    # --- what is attacked and reported ---

    @property
    @abstractmethod
    def metric(self) -> Metric:
        """The data-set metric that reports print."""

    @property
    @abstractmethod
    def score_floor(self) -> float:
        """See the class."""

    @property
    @abstractmethod
    def loss_floor(self) -> float:
        """See the class."""

    @property
    def higher_is_better(self) -> bool:
        """Direction of score and metric."""
        return self.metric.higher_is_better

    @property
    def decides(self) -> bool:
        """Whether predictions are decisions, right or wrong by a margin."""
        return False

    @abstractmethod
    def loss(self, output: Any, target: Any) -> Tensor:
        """Per-sample loss ``(B,)``, greater is worse; 0 where the sample has no valid label."""

    @abstractmethod
    def score(self, output: Any, target: Any) -> Tensor:
        """Per-sample, differentiable stand-in for the metric, in its direction, ``(B,)``; 0 where there is no valid
        label.
        """

    @abstractmethod
    def statistics(self, output: Any, target: Any) -> Tensor:
        """Additive statistics ``(B, S)``, float64, detached; ``metric.value`` of their sum is the metric.

        S is fixed. Where the metric itself is not additive (average precision), these stand for one that is.
        """

    def metric_arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """What ``update`` of the metric's torchmetrics class takes, without what does not count."""
        raise NotImplementedError(
            f"Task {self.name!r} should have `metric_arguments`, which say what its torchmetrics class is given. "
            f"Found none in {type(self).__name__}."
        )

    # --- what is reported beside the metric ---

    @property
    def further_metrics(self) -> Mapping[str, Metric]:
        """By the name that ``measures=`` of an evaluation takes, the metrics that may stand beside :attr:`metric`."""
        return {}

    def further_statistics(self, metric: Metric, output: Any, target: Any) -> Tensor:
        """:meth:`statistics` of one of :attr:`further_metrics`."""
        return self.statistics(output, target)

    def further_arguments(self, metric: Metric, output: Any, target: Any) -> tuple[Any, ...]:
        """:meth:`metric_arguments` of one of :attr:`further_metrics`."""
        return self.metric_arguments(output, target)

    def torchmetrics_arguments(self, output: Any, target: Any, like: torchmetrics.Metric) -> tuple[Any, ...]:
        """What ``update`` of a torchmetrics object of the user's is given, without what does not count.

        Args:
            output: See :meth:`check_output`.
            target: Labels.
            like: The object, whose ``ignore_index`` may mark what is not known.

        Raises:
            ValueError: What does not count cannot be left out.
        """
        return self.metric_arguments(output, target)

    def pool(self, output: Any, target: Any, finite: bool = True) -> tuple[Tensor, Tensor]:
        """Sum of the losses of each sample's valid places, ``(B,)``, and the number of these, ``(B,)``.

        Args:
            output: See :meth:`check_output`.
            target: Labels.
            finite: Whether losses that are NaN or infinite are left out of the sum.
        """
        value = self.loss(output, target)
        counted = target.has_label & torch.isfinite(value) if finite else target.has_label
        return torch.where(counted, value, torch.zeros_like(value)), target.has_label.long()

    def measure(self, output: Any, target: Any, margins: bool = True) -> Measures:
        """Margins or score, and the statistics, in one pass.

        Args:
            output: See :meth:`check_output`.
            target: Labels.
            margins: Whether margins are wanted where the task decides.
        """
        return Measures(None, None, self.score(output, target), self.statistics(output, target))

    # --- other classes, other forms ---

    @property
    def art_arguments(self) -> dict[str, Any]:
        """What ART's estimator named by ``art_view`` is told beside the model."""
        return {}

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes, of which :meth:`wrong_targets` can choose another that counts."""
        return False

    @property
    def num_wrong_classes(self) -> int:
        """How many other classes :meth:`targeted_margin` can choose from; 0 where there is no choice."""
        return 0

    def targeted_margin(self, target: Any, clean_output: Any, rank: int) -> tuple[Task, Target] | None:
        """The same task with the margin between the label and one other class; None for kinds without one.

        Args:
            target: Labels.
            clean_output: Logits on the clean inputs.
            rank: 1 for the greatest other logit there, 2 for the next, …; the last one where there are fewer.
        """
        return None

    def wrong_targets(
        self, output: Any, target: Any, choose: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor] | None:
        """Labels that are wrong but count, one for each label; None for kinds without classes.

        Args:
            output: Logits.
            target: True labels.
            choose: Scores ``(B, C, *S)``, which are +∞ at the true class, to places in C, ``(B, *S)``.

        Returns:
            Labels in the layout of the task, and which samples have one, ``(B,)``, boolean.
        """
        return None


def sample_sum(output: Tensor) -> Tensor:
    """Sum of each sample, ``(B,)``: finite only if its terms are, and one pass in any memory layout."""
    places = tuple(range(1, output.ndim))
    return output.sum(places, dtype=wide_dtype(output.dtype)) if places else output
