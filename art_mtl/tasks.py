"""Tasks: what a model's output means, how wrong it is, and how its quality is reported.

A :class:`Task` binds one output of a model to a loss, to a differentiable stand-in for its metric and to the metric
itself. The ready-made ones are :func:`segmentation`, :func:`classification`, :func:`multilabel`, :func:`depth`,
:func:`disparity`, :func:`surface_normals` and :func:`regression`; :func:`custom` makes one from callables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl import losses, metrics
from art_mtl.columns import as_dense
from art_mtl.formats import Binary, ClassIndex, ClassMap, Decoded, Dense, LabelFormat, Target, Vector
from art_mtl.metrics import Metric

ElementWise = Callable[[Tensor, Tensor], Tensor]
"""``(output, target) -> (B, *S)``"""
OutputPicker = str | int | Callable[[Any], Tensor] | None

__all__ = [
    "Target",
    "Task",
    "check_tasks",
    "classification",
    "custom",
    "depth",
    "disparity",
    "multilabel",
    "regression",
    "segmentation",
    "surface_normals",
]


@dataclass(frozen=True)
class Task:
    """One job of a multi-task model.

    Make one with a function of this module. Losses, errors and scores are *per sample*: each image divided by its own
    valid places, so that what happens to one sample never depends on its batch mates.

    Attributes:
        name: Key of the task in labels, results and, unless ``output`` says otherwise, in the model's output.
        kind: "segmentation", "classification", … or "custom".
        loss_elements: ``(output, target) -> (B, *S)``, greater is worse.
        quality_elements: ``(output, target) -> (B, *S)``, a differentiable error or score in the direction of
            ``metric``.
        metric: The data-set metric that reports print.
        format: The label layout: validates, decodes.
        quality_floor: Smallest clean error or score that a relative degradation is measured against, in the unit of
            ``quality_elements``.
        loss_floor: The same for the loss.
        margin_elements: ``(output, target) -> (B, *S)``, positive where the prediction is right; None where the task
            has no decision.
        output: None (the name in a mapping or as an attribute, the position in a sequence), a key, an index or a
            callable.
    """

    name: str
    kind: str
    loss_elements: ElementWise
    quality_elements: ElementWise
    metric: Metric
    format: LabelFormat
    quality_floor: float
    loss_floor: float
    margin_elements: ElementWise | None = None
    output: OutputPicker = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"Parameter `name` should be a non-empty string. Found {self.name!r}.")
        if self.output is not None and not isinstance(self.output, (str, int)) and not callable(self.output):
            raise TypeError(
                f"Parameter `output` of task {self.name!r} should be None, a key, an index or a callable. "
                f"Found {type(self.output).__name__}."
            )

    def select(self, outputs: Any, position: int) -> Tensor:
        """This task's tensor out of whatever the model returned.

        Args:
            outputs: A tensor (single-task models), mapping, list, tuple, named tuple, dataclass or any object with
                attributes.
            position: The task's place in the list of tasks, used for sequences.

        Raises:
            ValueError: The output has no such part, or it is not a tensor.
        """
        picker = self.output
        try:
            if callable(picker):
                chosen = picker(outputs)
            elif isinstance(outputs, Mapping):
                chosen = outputs[self.name if picker is None else picker]
            elif isinstance(outputs, Tensor):
                if picker is not None or position > 0:
                    raise IndexError("a single tensor has no parts")
                chosen = outputs
            elif isinstance(picker, str):
                chosen = getattr(outputs, picker)
            elif isinstance(picker, int):
                chosen = outputs[picker]
            elif isinstance(outputs, (list, tuple)) and self.name not in getattr(outputs, "_fields", ()):
                chosen = outputs[position]
            else:
                chosen = getattr(outputs, self.name)
        except (KeyError, IndexError, AttributeError) as error:
            raise ValueError(
                f"The model's output should have a part for task {self.name!r} "
                f"(output={picker!r}, position {position}). Found {_describe(outputs)}."
            ) from error
        if not isinstance(chosen, Tensor):
            raise ValueError(
                f"The model's output for task {self.name!r} should be a tensor. Found {type(chosen).__name__}."
            )
        return chosen

    def targets(self, y: Any, present: np.ndarray | None = None) -> Target:
        """Canonical, validated labels.

        Args:
            y: ``(N, ...)``, array or tensor, in the layout of the task; or the task's raw outputs, which are decoded.
            present: ``(N,)``, boolean, false where a sample has no label.

        Raises:
            TypeError: Wrong dtype.
            ValueError: Wrong shape, class out of range, NaN or infinity.
        """
        y, present = as_dense(self.name, y, present)
        known = None if present is None else torch.as_tensor(present, device="cpu")
        return self.format.encode(self.name, _as_tensor(y), known)

    def check_output(self, output: Tensor, target: Target) -> Tensor:
        """The output, in the layout that the losses take.

        Raises:
            ValueError: Its shape does not fit the labels.
        """
        # Losses and metrics run over the channels, which is slow on a CPU where these are innermost.
        return self.format.check_output(self.name, output, target).contiguous()

    def decode(self, output: Tensor) -> Tensor:
        """Labels that the raw output stands for: arg-max of logits, thresholded labels, values as they are."""
        return self.format.decode(output)

    def loss(self, output: Tensor, target: Target) -> Tensor:
        """Per-sample loss ``(B,)``; 0 where the sample has no valid label."""
        return losses.masked_mean(self._elements(self.loss_elements, output, target), target.valid)

    def quality(self, output: Tensor, target: Target) -> Tensor:
        """Per-sample differentiable error or score ``(B,)``, in the direction of the metric; 0 where there is no valid
        label.
        """
        return losses.masked_mean(self._elements(self.quality_elements, output, target), target.valid)

    def statistics(self, output: Tensor, target: Target) -> Tensor:
        """Additive statistics ``(B, S)`` behind the metric; ``metric.value`` of their sum is the metric."""
        return self.metric.statistics(output.detach(), target.value, target.valid)

    def _elements(self, function: ElementWise, output: Tensor, target: Target) -> Tensor:
        values = function(output, target.value)
        if values.shape != target.valid.shape:
            raise ValueError(
                f"The losses, errors and scores of task {self.name!r} should have shape {tuple(target.valid.shape)}, "
                f"one value a sample or place with a label. Found {tuple(values.shape)}."
            )
        return values

    @property
    def is_error(self) -> bool:
        """Whether the quality is an error, of which less is better."""
        return not self.metric.higher_is_better


def segmentation(name: str, num_classes: int, ignore_index: int = -1, output: OutputPicker = None) -> Task:
    """Semantic segmentation: logits ``(B, num_classes, H, W)``, labels ``(N, H, W)`` of integers.

    Loss: cross-entropy. Score: probability of the true class. Metric: mIoU.

    Args:
        name: Name of the task.
        num_classes: At least 2.
        ignore_index: Label of pixels that do not count.
        output: See :class:`Task`.

    Examples:
        >>> task = segmentation("seg", num_classes=3)
        >>> target = task.targets(np.array([[[0, 1], [2, -1]]]))
        >>> target.valid
        tensor([[[ True,  True],
                 [ True, False]]])
    """
    _check_count("num_classes", num_classes, least=2)
    return Task(
        name=name,
        kind="segmentation",
        loss_elements=losses.cross_entropy,
        quality_elements=losses.true_class_probability,
        metric=metrics.mean_iou(num_classes),
        format=ClassMap(num_classes, ignore_index),
        quality_floor=0.01,
        loss_floor=0.01,
        margin_elements=losses.margin,
        output=output,
    )


def classification(name: str, num_classes: int, output: OutputPicker = None) -> Task:
    """One class an image: logits ``(B, num_classes)``, labels ``(N,)`` of integers or one-hot ``(N, num_classes)``.

    Loss: cross-entropy. Score: probability of the true class. Metric: accuracy.

    Examples:
        >>> classification("digit", num_classes=10).targets(np.array([3, 7])).value
        tensor([3, 7])
    """
    _check_count("num_classes", num_classes, least=2)
    return Task(
        name=name,
        kind="classification",
        loss_elements=losses.cross_entropy,
        quality_elements=losses.true_class_probability,
        metric=metrics.accuracy(num_classes),
        format=ClassIndex(num_classes),
        quality_floor=0.01,
        loss_floor=0.01,
        margin_elements=losses.margin,
        output=output,
    )


def multilabel(name: str, num_labels: int, output: OutputPicker = None) -> Task:
    """Several yes-or-no labels an image: logits ``(B, num_labels)``, labels ``(N, num_labels)`` in {0, 1}.

    Loss: binary cross-entropy. Score: probability of each label's true state. Metric: macro F1.
    """
    _check_count("num_labels", num_labels, least=1)
    return Task(
        name=name,
        kind="multilabel",
        loss_elements=losses.binary_cross_entropy,
        quality_elements=losses.true_label_probability,
        metric=metrics.f1(num_labels),
        format=Binary(num_labels),
        quality_floor=0.01,
        loss_floor=0.01,
        margin_elements=losses.binary_margin,
        output=output,
    )


def depth(name: str, invalid: float = 0.0, output: OutputPicker = None) -> Task:
    """Depth in metres: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where unmeasured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.
    """
    return _dense_error(name, "depth", invalid, output, unit="m", floor=0.01)


def disparity(name: str, invalid: float = -1.0, output: OutputPicker = None) -> Task:
    """Disparity: output ``(B, 1, H, W)``, labels ``(N, 1, H, W)`` or ``(N, H, W)``, ``invalid`` where not measured.

    Loss, error and metric (aErr): mean absolute error over the valid pixels.
    """
    return _dense_error(name, "disparity", invalid, output, unit="", floor=1e-4)


def surface_normals(name: str, output: OutputPicker = None) -> Task:
    """Surface normals: output ``(B, 3, H, W)``, labels ``(N, 3, H, W)``, all-zero where not measured.

    Loss: absolute error summed over the channels, as in the paper's protocol (not the cosine). Error and metric
        (mDist): angle in degrees.
    """
    return Task(
        name=name,
        kind="surface_normals",
        loss_elements=losses.l1_distance,
        quality_elements=losses.angle,
        metric=metrics.mean_angle(),
        format=Dense(channels=3, invalid=0.0),
        quality_floor=0.5,
        loss_floor=0.01,
        output=output,
    )


def regression(name: str, output: OutputPicker = None) -> Task:
    """A vector an image: output ``(B, D)``, labels ``(N, D)`` or ``(N,)``. Loss, error and metric (MAE): mean absolute
    error.
    """
    return Task(
        name=name,
        kind="regression",
        loss_elements=losses.absolute_error,
        quality_elements=losses.absolute_error,
        metric=metrics.absolute_error("MAE", scale=1.0),
        format=Vector(),
        quality_floor=1e-3,
        loss_floor=1e-3,
        output=output,
    )


def custom(
    name: str,
    loss: ElementWise,
    *,
    error: ElementWise | None = None,
    score: ElementWise | None = None,
    metric: Metric | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    floor: float = 1e-3,
    output: OutputPicker = None,
) -> Task:
    """A task of your own.

    Args:
        name: Name of the task.
        loss: ``(output, target) -> (B,)``, per sample, greater is worse, differentiable in ``output``. ``target`` is
            your label tensor.
        error: ``(output, target) -> (B,)``, differentiable, less is better. Or:
        score: ``(output, target) -> (B,)``, differentiable, more is better. Neither: the loss is the error.
        metric: What reports print; by default the mean of the error or score over the data set.
        decode: Raw output to labels, for attacks without labels; by default the output itself.
        floor: Smallest clean loss, error or score that a relative degradation is measured against.
        output: See :class:`Task`.

    Raises:
        ValueError: Both ``error`` and ``score`` are given, or ``floor`` ≤ 0, or ``metric`` points the other way.

    Examples:
        >>> task = custom("angle", loss=lambda output, target: 1 - torch.cos(output - target).mean(1))
        >>> task.metric.name
        'angle'
    """
    if error is not None and score is not None:
        raise ValueError(f"Task {name!r} should have an `error` or a `score`. Found both.")
    if not floor > 0:
        raise ValueError(f"Parameter `floor` of task {name!r} should be positive. Found {floor}.")
    higher_is_better = score is not None
    quality = score or error or loss
    if metric is None:
        metric = metrics.mean_of(name, quality, higher_is_better=higher_is_better)
    if metric.higher_is_better != higher_is_better:
        expected = "a higher" if higher_is_better else "a lower"
        raise ValueError(
            f"The metric of task {name!r} should be one of which {expected} value is better, like its score or error."
        )
    return Task(
        name=name,
        kind="custom",
        loss_elements=loss,
        quality_elements=quality,
        metric=metric,
        format=LabelFormat() if decode is None else Decoded(decode),
        quality_floor=floor,
        loss_floor=floor,
        output=output,
    )


def check_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks as a tuple.

    Raises:
        TypeError: One of them is not a :class:`Task`.
        ValueError: There is none, or two share a name.
    """
    if isinstance(tasks, Task):
        tasks = [tasks]
    found = tuple(tasks)
    for task in found:
        if not isinstance(task, Task):
            raise TypeError(f"Parameter `tasks` should hold art_mtl.Task objects. Found {type(task).__name__}.")
    names = [task.name for task in found]
    if not names:
        raise ValueError("Parameter `tasks` should hold at least one task. Found none.")
    if len(set(names)) < len(names):
        raise ValueError(f"Parameter `tasks` should have distinct names. Found {names}.")
    return found


def _dense_error(name: str, kind: str, invalid: float, output: OutputPicker, unit: str, floor: float) -> Task:
    return Task(
        name=name,
        kind=kind,
        loss_elements=losses.absolute_error,
        quality_elements=losses.absolute_error,
        metric=metrics.absolute_error("aErr", scale=100.0, unit=unit),
        format=Dense(channels=1, invalid=invalid),
        quality_floor=floor,
        loss_floor=floor,
        output=output,
    )


def _check_count(argument: str, found: int, least: int) -> None:
    if isinstance(found, bool) or not isinstance(found, (int, np.integer)) or found < least:
        raise ValueError(f"Parameter `{argument}` should be an integer of at least {least}. Found {found!r}.")


def _as_tensor(y: Any) -> Tensor:
    """A tensor of its own memory: flipped, read-only and byte-swapped arrays are fine as labels."""
    if isinstance(y, Tensor):
        return y
    array = np.asarray(y)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _describe(outputs: Any) -> str:
    if isinstance(outputs, Mapping):
        return f"a mapping with the keys {list(outputs)}"
    if isinstance(outputs, (list, tuple)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return type(outputs).__name__
