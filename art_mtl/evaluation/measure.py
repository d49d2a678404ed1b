"""Measure every task of a model on a data set, part by part."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from art_mtl.data.sources import Inputs
from art_mtl.evaluation.further_measures import Measure
from art_mtl.evaluation.results import TaskMetric, TaskResult, known
from art_mtl.labels import MultiTaskLabels
from art_mtl.metrics import Metric, SparseTensor, Value, delta, describe_metric, read_metric
from art_mtl.tasks import Target, Task

if TYPE_CHECKING:
    import torchmetrics

    from art_mtl.estimators import PyTorchMultiTaskEstimator

PROTOCOLS = ("pooled", "auto-lambda")
"""How errors are averaged over a data set. "pooled": over all valid places of all images alike. "auto-lambda": over the
valid places of each batch of 4, then over the batches by their size, as Auto-Lambda (Liu et al., TMLR 2022) and with it
the paper's tables do; there a normal whose components sum to 0 counts as invalid. Scores are the same in both.
"""
PROTOCOL_BATCH = 4
"""Neighbours over whose valid places "auto-lambda" averages first."""


@dataclass(frozen=True)
class Measured:
    """Metrics over the data set, ``(K,)``, and of each sample, ``(N, K)``; NaN where there is none. Of each task the
    additive statistics behind its metric, ``(N, S)``.
    """

    values: Tensor
    samples: Tensor
    statistics: tuple[SparseTensor, ...]


@dataclass(frozen=True)
class MetricState:
    """What a part of the data set came to; parts add up to the whole.

    Attributes:
        statistics: Of each task, the additive statistics behind its metric, ``(n, S)``, float64.
        has_label: Which tasks have a valid label on which samples, ``(n, K)``.
        states: Of each task, the state of its torchmetrics class, by name: a number, a tensor, a list of tensors, or
            what another class keeps; empty where the protocol does without.
        measures: The same of the further measures, each in the place of a task; None where none is asked for.
    """

    statistics: tuple[SparseTensor, ...]
    has_label: Tensor
    states: tuple[dict[str, Any], ...]
    measures: MetricState | None = None

    def __len__(self) -> int:
        return len(self.has_label)

    def of_measures(self, chosen: Sequence[int]) -> MetricState:
        """Of these further measures alone.

        Raises:
            ValueError: There are not so many.
        """
        found = self.measures
        if found is None or max(chosen) >= len(found.states):
            raise ValueError("What is stored should have all further measures of the run. Found fewer.")
        statistics, states = (tuple(found.statistics[j] for j in chosen), tuple(found.states[j] for j in chosen))
        return MetricState(statistics, found.has_label[:, list(chosen)], states)


@dataclass(frozen=True)
class StoredMetric(TaskMetric):
    """What a run stores of the metric of a task. It has the attributes of
    :class:`~art_mtl.evaluation.results.TaskMetric`.

    Attributes:
        bounds: Least and greatest value of the metric; None where it has no greatest.
        averages_batches: An error that the protocol averages over batches first.
        document: By what :func:`art_mtl.metrics.read_metric` knows the metric; None where it does not.
    """

    bounds: tuple[float, float] | None
    averages_batches: bool
    document: dict[str, str | int] | None


@dataclass(frozen=True)
class StoredMeasure:
    """What a run stores of a further measure.

    Attributes:
        name: As it was asked for.
        scale: What is stored of its metric, which has the name and kind of its task.
    """

    name: str
    scale: StoredMetric


@dataclass(frozen=True)
class MetricSpec(StoredMetric):
    """How the statistics of a task become its metric. It has the attributes of :class:`StoredMetric`.

    Attributes:
        value: ``(..., S) -> (...)``.
        torchmetric: Makes the torchmetrics class of the metric.
        size: S, how many statistics there are, where that is known.
        entry: Which entry is the metric, where that class computes a dict.
    """

    value: Value
    torchmetric: Callable[[], torchmetrics.Metric]
    entry: str = ""
    size: int | None = None

    @classmethod
    def of(cls, task: Task, protocol: str, metric: Metric | None = None) -> MetricSpec:
        """Of a task by a protocol; None for the metric that the task reports."""
        m = task.metric if metric is None else metric
        averages = protocol == "auto-lambda" and m.element is not None and not m.higher_is_better
        return cls(
            task.name, task.kind, m.name, m.higher_is_better, m.scale, m.unit, m.bounds, averages, describe_metric(m),
            m.value, m.torchmetric, m.entry, m.size,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What is stored of it, as JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(StoredMetric)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> MetricSpec:
        """What :meth:`to_json` made.

        Raises:
            ValueError: The metric is one of the user's, which JSON cannot hold, or no metric at all.
        """
        stored = msgspec.convert(entry, StoredMetric)
        if stored.document is None:
            raise ValueError(
                f"The metric {stored.metric!r} of task {stored.name!r} should be one of this package, or of an entry "
                "point of 'art_mtl.metrics'. Found one of the user's; what a run found by it stands in its "
                "results.json once the run has ended."
            )
        known = read_metric(stored.document)
        if stored.averages_batches and known.size != 2:
            raise ValueError(f"The metric of task {stored.name!r} should be a mean, to be averaged over batches.")
        if stored.bounds is not None and not stored.bounds[0] < stored.bounds[1]:
            raise ValueError(f"The metric of task {stored.name!r} should have bounds in order. Found {stored.bounds}.")
        return cls(**vars(stored), value=known.value, torchmetric=known.torchmetric, entry=known.entry, size=known.size)

    def check(self, parts: Sequence[MetricState], k: int) -> None:
        """Raise ValueError unless what a file holds of the task at place ``k`` is of this metric."""
        expected = {} if self.averages_batches else self.torchmetric().metric_state
        for part in parts:
            state = part.states[k]
            if part.statistics[k].row_size != self.size or state.keys() != expected.keys():
                raise ValueError(f"What is stored of task {self.name!r} should be of the metric {self.metric!r}.")
            for name, value in expected.items():
                if _shape(state[name]) != _shape(value):
                    raise ValueError(
                        f"The state {name!r} of task {self.name!r} should have shape {_shape(value)}. Found "
                        f"{_shape(state[name])}."
                    )

    def total(self, parts: Sequence[MetricState], k: int) -> Tensor:
        """The metric over all parts, a scalar; ``k`` is the task's place."""
        if self.averages_batches:
            return batch_average(self.value, torch.cat([part.statistics[k].rows() for part in parts]))
        return _merged(self, [part.states[k] for part in parts])


def _merged(scale: MetricSpec, states: Sequence[dict[str, Any]]) -> Tensor:
    """The metric by torchmetrics, its states merged in order."""
    metric = scale.torchmetric()
    metric.distributed_available_fn = _alone  # only one of the processes comes here, and merges the states of all
    for name, reduction in metric._reductions.items():
        values = [state[name] for state in states]
        setattr(metric, name, _dense(values[0]) if len(values) == 1 else _reduced(values, reduction))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The ``compute`` method of metric")  # it was updated part by part
        found = metric.compute()
    return _entry(scale, found)


def _reduced(values: Sequence[Any], reduction: Any) -> Any:
    """What a metric synchronised over processes would hold, had each worked on one part: states in order, by the
    reduction that its class declares.
    """
    from torchmetrics.utilities import dim_zero_cat, dim_zero_sum

    if isinstance(values[0], list):
        gathered = [item for value in values for item in value]
        return gathered if reduction in (None, dim_zero_cat) or not gathered else reduction(gathered)
    dense = map(_dense, values)  # one at a time: of many classes, all of them would not fit
    if reduction is dim_zero_sum:
        return functools.reduce(torch.add, dense)
    stacked = torch.cat(list(dense)) if reduction is dim_zero_cat else torch.stack(list(dense))
    return stacked if reduction in (None, dim_zero_cat) else reduction(stacked)


def _shape(state: Any) -> tuple[int, ...] | None:
    """Of a tensor; one number has one shape, whether it has axes or not."""
    shape = tuple(state.shape) if isinstance(state, (Tensor, SparseTensor)) else None
    return (1,) if shape is not None and math.prod(shape) == 1 else shape


def _dense(state: Any) -> Any:
    return state.rows() if isinstance(state, SparseTensor) else state


def _kept(state: Any) -> Any:
    """A state as it is kept until all parts are there: without the entries that are 0."""
    return SparseTensor.of(state) if isinstance(state, Tensor) and state.ndim else state


def _entry(scale: MetricSpec, found: Any) -> Tensor:
    """The metric in what its torchmetrics class computes: a number, or one entry of a dict.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(found, Mapping) and scale.entry in found:
        found = found[scale.entry]
    if isinstance(found, Mapping) or torch.as_tensor(found).numel() != 1:
        keys = (
            f"a dict of {list(found)}" if isinstance(found, Mapping) else f"shape {tuple(torch.as_tensor(found).shape)}"
        )
        raise ValueError(
            f"The torchmetrics class of task {scale.name!r} should compute one number, or a dict with the metric's "
            f"`entry`. Found {keys}."
        )
    return torch.as_tensor(found).reshape(())


def _alone() -> bool:
    return False


def total(scales: Sequence[MetricSpec], parts: Sequence[MetricState], when: str) -> Measured:
    """The metrics of a data set from those of its parts.

    Args:
        scales: One a task.
        parts: In the order of the data set, at least one.
        when: For warnings.

    Raises:
        ValueError: A task has no valid label in any part.
    """
    check_labels(scales, parts)
    values, gathered = [], []
    for k, scale in enumerate(scales):
        value = scale.total(parts, k)
        if not math.isfinite(value):
            _warn(f"The metric of task {scale.name!r} is not finite {when}; Δ_MTL and Δ_Wor leave it out.")
        values.append(value.double().cpu())
        gathered.append(SparseTensor.concatenate([part.statistics[k] for part in parts]))
    samples = torch.cat([sample_metrics(scales, part) for part in parts])
    return Measured(torch.stack(values), samples, tuple(gathered))


def sample_metrics(scales: Sequence[MetricSpec], part: MetricState) -> Tensor:
    """The metrics of each sample alone, ``(n, K)``; NaN where it has no label."""
    columns = []
    for k, scale in enumerate(scales):
        alone = torch.cat([scale.value(rows).double() for rows in part.statistics[k].parts()])
        columns.append(torch.where(part.has_label[:, k], alone, torch.full_like(alone, math.nan)))
    return torch.stack(columns, 1)


def check_labels(scales: Sequence[MetricSpec], parts: Sequence[MetricState]) -> None:
    """Raise ValueError unless every task has a valid label in one of these parts."""
    for k, scale in enumerate(scales):
        if not any(bool(part.has_label[:, k].any()) for part in parts):
            raise ValueError(f"Task {scale.name!r} should have a valid label in the data set. Found none.")


def check_clean(scales: Sequence[MetricSpec], parts: Sequence[MetricState]) -> None:
    """Raise ValueError unless every task has a valid label, and a metric that is finite, on the clean inputs."""
    check_labels(scales, parts)
    for k, scale in enumerate(scales):
        value = float(scale.total(parts, k))
        if not math.isfinite(value):
            raise ValueError(
                f"The {scale.metric} of task {scale.name!r} should be finite on the clean inputs. Found {value}: no "
                "degradation could be measured."
            )


def describe(scales: Sequence[MetricSpec], clean: Measured) -> tuple[TaskResult, ...]:
    """The tasks with their clean metrics; a warning where degradation to one is undefined."""
    described = []
    for k, scale in enumerate(scales):
        value = float(clean.values[k])
        if scale.higher_is_better and value == 0:
            _warn(
                f"The {scale.metric} of task {scale.name!r} is 0 on clean inputs: its degradation is undefined, and "
                f"Δ_MTL "
                "and Δ_Wor leave it out."
            )
        samples = tuple(known(v) for v in clean.samples[:, k].tolist())
        shown = {one.name: getattr(scale, one.name) for one in fields(TaskMetric)}
        described.append(TaskResult(**shown, clean=known(value), sample_clean=samples))
    return tuple(described)


def deltas(scales: Sequence[MetricSpec], attacked: Tensor, clean: Tensor) -> Tensor:
    """Signed degradations of metrics ``(..., K)``."""
    columns = zip(attacked.unbind(-1), clean.unbind(-1), scales, strict=True)
    return torch.stack([delta(m, b, scale.higher_is_better) for m, b, scale in columns], -1)


def check_protocol(protocol: str) -> None:
    """Raise ValueError unless ``protocol`` is one of :data:`PROTOCOLS`."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"Parameter `protocol` should be one of {list(PROTOCOLS)}. Found {protocol!r}.")


def protocol_labels(tasks: Sequence[Task], y: MultiTaskLabels, protocol: str) -> MultiTaskLabels:
    """Labels in which every place that the protocol takes for invalid is marked so.

    "auto-lambda" tells validity by the sum of a label's channels, which loses normals such as (1, −1, 0)/√2 with the
    unmeasured ones. Attack and metrics both take these labels, so that they agree about what counts.

    Args:
        tasks: Whose labels these are.
        y: Labels of a data set.
        protocol: One of :data:`PROTOCOLS`.

    Returns:
        The same labels, or with a copy of the arrays that change.

    Examples:
        >>> from art_mtl.tasks import surface_normals
        >>> y = MultiTaskLabels({"n": np.array([[[[0.0, 1.0]], [[0.6, -1.0]], [[0.8, 0.0]]]])})
        >>> protocol_labels([surface_normals("n")], y, "auto-lambda")["n"][0, :, 0].tolist()
        [[0.0, 0.0], [0.6, 0.0], [0.8, 0.0]]
    """
    if protocol == "pooled":
        return y
    changed = {}
    for task in tasks:
        before = np.asarray(y[task.name])
        after = task.auto_lambda_labels(before)
        if after is not before:
            changed[task.name] = after
    if not changed:
        return y
    names = y.names
    return MultiTaskLabels({name: changed.get(name, y[name]) for name in names}, {n: y.present(n) for n in names})


def batch_average(value: Value, statistics: Tensor) -> Tensor:
    """An error by the protocol "auto-lambda".

    Args:
        value: Of the metric, a mean over valid places.
        statistics: Its additive statistics of each sample, (sum, count): ``(N, 2)``.

    Returns:
        The mean over the batches of 4, weighted by their size, of their means over valid places. A batch without a
        valid place does not count; NaN where none has one.

    Examples:
        >>> from art_mtl.metrics import absolute_error
        >>> one_valid_place_beside_three_images_of_nine = torch.tensor([[8.0, 1]] + [[0.0, 9]] * 3 + [[5.0, 1]])
        >>> batch_average(absolute_error().value, one_valid_place_beside_three_images_of_nine)
        tensor(1.2286)
    """
    batches = torch.split(statistics, PROTOCOL_BATCH)
    sums = torch.stack([batch.sum(0) for batch in batches])
    sizes = sums.new_tensor([len(batch) for batch in batches]) * (sums[:, 1] > 0)
    return (value(sums) * sizes).sum() / sizes.sum()


class Evaluator:
    """A model's tasks, measured.

    Args:
        estimator: The model.
        batch_size: Samples at a time.
        protocol: One of :data:`PROTOCOLS`.
        measures: What is measured beside the metrics of the tasks.
    """

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator,
        batch_size: int,
        protocol: str = "pooled",
        measures: Sequence[Measure] = (),
    ) -> None:
        check_protocol(protocol)
        if batch_size < 1:
            raise ValueError(f"Parameter `batch_size` should be at least 1. Found {batch_size}.")
        self.estimator, self.batch_size, self.protocol = estimator, batch_size, protocol
        self.tasks: tuple[Task, ...] = tuple(estimator.tasks)
        for task in self.tasks:
            if not callable(task.metric.torchmetric):
                raise ValueError(
                    f"The metric of task {task.name!r} should have a `torchmetric`, which makes the class that "
                    f"measures a data set. Found {task.metric.torchmetric!r}."
                )
        self.scales = tuple(MetricSpec.of(task, protocol) for task in self.tasks)
        self.measures = tuple(measures)
        self.measure_scales = tuple(MetricSpec.of(one.task, protocol, one.metric) for one in self.measures)

    def part(self, x: Inputs, y: MultiTaskLabels, clean: bool = False, first: int = 0) -> MetricState:
        """What these inputs, of which there are as many as labels, come to.

        Labels are made canonical batch by batch: a copy of all of them would take as much memory as the data.

        Args:
            x: Inputs.
            y: Their labels.
            clean: Whether these are the clean inputs, on which outputs have to be finite.
            first: Number of the first sample, for messages.

        Raises:
            ValueError: Labels or outputs do not fit; or outputs on clean inputs are not finite.
        """
        tasks = [_Column(task, scale) for task, scale in zip(self.tasks, self.scales, strict=True)]
        places = [self.tasks.index(one.task) for one in self.measures]
        measures = [_Column(one, scale) for one, scale in zip(self.measures, self.measure_scales, strict=True)]
        for start in range(0, len(x), self.batch_size):
            batch = slice(start, start + self.batch_size)
            raw = self.estimator.raw_outputs(x[batch], batch_size=self.batch_size)
            for k, task in enumerate(self.tasks):
                target = _target(task, y, batch)
                output = task.check_output(raw[k], target)
                if clean:
                    _check_clean(task, output, target, first + start)
                tasks[k].add(output, target)
                for one in (one for one, place in zip(measures, places, strict=True) if place == k):
                    one.add(output, target)
        return replace(_joined(tasks), measures=_joined(measures) if measures else None)

    def describe(self, clean: Measured) -> tuple[TaskResult, ...]:
        """The tasks with their clean metrics; a warning where degradation to one is undefined."""
        return describe(self.scales, clean)


class _Column:
    """What the batches of a part come to, of one task or further measure."""

    def __init__(self, measured: Task | Measure, scale: MetricSpec) -> None:
        self.measured, self.scale, self.metric = measured, scale, scale.torchmetric()
        self.statistics, self.has_label = list[SparseTensor](), list[Tensor]()

    def add(self, output: Any, target: Target) -> None:
        """A batch."""
        measured = self.measured
        self.statistics.append(SparseTensor.of(measured.statistics(output, target).double()))
        self.has_label.append(target.has_label)
        if not self.scale.averages_batches and bool(target.has_label.any()):
            given = measured.metric_arguments if isinstance(measured, Task) else measured.arguments
            self.metric.update(*given(output, target))

    @property
    def state(self) -> dict[str, Any]:
        """Of the torchmetrics class."""
        states = {} if self.scale.averages_batches else self.metric.metric_state
        return {name: _kept(state) for name, state in states.items()}


def _joined(columns: Sequence[_Column]) -> MetricState:
    has_label = torch.stack([torch.cat(column.has_label) for column in columns], 1)
    statistics = tuple(SparseTensor.concatenate(column.statistics) for column in columns)
    return MetricState(statistics, has_label.cpu(), tuple(column.state for column in columns))


def _target(task: Task, y: MultiTaskLabels, part: slice) -> Target:
    """Canonical labels of some samples."""
    return task.targets(y[task.name][part], y.present(task.name)[part])


def _check_clean(task: Task, output: Any, target: Target, first: int) -> None:
    """A class is predicted for NaN too: metrics of such outputs are numbers, the same before an attack and after it."""
    bad = (target.has_label & ~task.finite(output)).nonzero()[:, 0]
    if len(bad):
        raise ValueError(
            f"The model's outputs for task {task.name!r} should be finite on the clean inputs. Found NaN or infinity "
            f"in {len(bad)} sample(s) of a batch, first in sample {first + int(bad[0])}: such a sample can be neither "
            "attacked nor measured."
        )


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
