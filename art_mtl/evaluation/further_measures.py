"""Measures that stand beside the metric that Δ uses: named ones of the kinds of task, and torchmetrics objects."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from art_mtl.evaluation.experiment import LIVE, split_measures
from art_mtl.metrics import Metric
from art_mtl.tasks import Task

if TYPE_CHECKING:
    import torchmetrics

__all__ = ["Asked", "Measure", "describe_measures", "list_measures", "make_measures"]


@dataclass(frozen=True)
class Asked:
    """What was asked for of one task.

    Attributes:
        task: Its name.
        name: Of the measure.
        metric: A torchmetrics object; None where the name is that of the kind of task.
    """

    task: str
    name: str
    metric: torchmetrics.Metric | None = None


def list_measures(measures: Any) -> list[Asked]:
    """One by one, from the forms that :func:`art_mtl.evaluation.evaluate` takes.

    Raises:
        TypeError: It has none of these forms.
        ValueError: A text is not ``TASK=NAME,NAME``.

    Examples:
        >>> list_measures({"seg": "f1-macro"}) == list_measures(["seg=f1-macro"])
        True
    """
    if not isinstance(measures, Mapping):
        texts = [measures] if isinstance(measures, str) else list(measures)
        return [Asked(task, name) for text in texts for task, names in [split_measures(text)] for name in names]
    return [one for task, given in measures.items() for one in _of_task(task, given)]


def _of_task(task: str, given: Any) -> Iterator[Asked]:
    if isinstance(given, Mapping):
        yield from (Asked(task, str(name), _as_metric(task, metric)) for name, metric in given.items())
        return
    for one in given if isinstance(given, (list, tuple)) else [given]:
        if isinstance(one, str):
            yield Asked(task, one)
        elif isinstance(one, Mapping):
            yield from _of_task(task, one)
        else:
            metric = _as_metric(task, one)
            yield Asked(task, type(metric).__name__, metric)


def _as_metric(task: str, given: Any) -> torchmetrics.Metric:
    import torchmetrics

    made = given if isinstance(given, torchmetrics.Metric) or not callable(given) else given()
    if isinstance(made, torchmetrics.Metric):
        return made
    raise TypeError(
        f"Parameter `measures` should hold names, torchmetrics metrics, or callables that make one. Found "
        f"{type(made).__name__} for task {task!r}."
    )


def describe_measures(asked: Sequence[Asked]) -> tuple[str, ...]:
    """As an experiment holds them.

    Examples:
        >>> describe_measures([Asked("seg", "f1-macro"), Asked("seg", "pixel-accuracy")])
        ('seg=f1-macro,pixel-accuracy',)
    """
    named: dict[str, list[str]] = {}
    for one in asked:
        if one.metric is None:
            named.setdefault(one.task, []).append(one.name)
    texts = [f"{task}={','.join(names)}" for task, names in named.items()]
    return (*texts, *(f"{LIVE}{one.task}={one.name}" for one in asked if one.metric is not None))


def make_measures(asked: Sequence[Asked], tasks: Sequence[Task]) -> tuple[Measure, ...]:
    """What measures the outputs of these tasks.

    Raises:
        ValueError: There is no such task, or its kind has no measure of that name; or a name repeats.
    """
    known = {task.name: task for task in tasks}
    found: dict[tuple[str, str], Measure] = {}
    for one in asked:
        if one.task not in known:
            raise ValueError(
                f"Parameter `measures` should be of the tasks {list(known)}. Found {one.task!r}: {one.name!r}."
            )
        if (one.task, one.name) in found:
            raise ValueError(
                f"Parameter `measures` should have distinct names for task {one.task!r}. Found {one.name!r} twice; "
                "a dict names torchmetrics objects."
            )
        found[one.task, one.name] = _made(one, known[one.task])
    return tuple(found.values())


def _made(asked: Asked, task: Task) -> Measure:
    if asked.metric is not None:
        has_direction = asked.metric.higher_is_better is not None
        return Live(asked.name, task, _metric_of(asked.name, asked.metric), has_direction)
    if asked.name not in task.further_metrics:
        names = ", ".join(task.further_metrics) or "none by name"
        raise ValueError(
            f"Parameter `measures` should name measures of task {task.name!r}, of kind {task.kind!r}: {names}; or hold "
            f"torchmetrics metrics. Found {asked.name!r}."
        )
    return Named(asked.name, task, task.further_metrics[asked.name])


@dataclass(frozen=True)
class Measure(ABC):
    """One measure of one task.

    Attributes:
        name: As asked for.
        task: Whose outputs it measures.
        metric: How statistics become the measure.
        has_direction: Whether it is known which way is better.
    """

    name: str
    task: Task
    metric: Metric
    has_direction: bool = True

    @abstractmethod
    def statistics(self, output: Any, target: Any) -> Tensor:
        """Additive statistics of each sample, ``(B, S)``, float64; S is 0 where the measure has none."""

    @abstractmethod
    def arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """What ``update`` of its torchmetrics class takes."""


class Named(Measure):
    """A measure that the kind of task has."""

    def statistics(self, output: Any, target: Any) -> Tensor:
        """See :class:`Measure`."""
        return self.task.further_statistics(self.metric, output, target)

    def arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """See :class:`Measure`."""
        return self.task.further_arguments(self.metric, output, target)


class Live(Measure):
    """A torchmetrics object."""

    def statistics(self, output: Any, target: Any) -> Tensor:
        """See :class:`Measure`: the state after each sample alone, where states of samples add up."""
        states = self.metric.value
        if not isinstance(states, _SumOfStates):
            return torch.zeros(len(target), 0, dtype=torch.float64)
        rows = []
        for i, has_label in enumerate(target.has_label.tolist()):
            metric = self.metric.torchmetric()
            if has_label:
                sample = slice(i, i + 1)
                metric.update(*self._given(metric, self.task.slice_output(output, sample), target[sample]))
            rows.append(states.row(metric))
        return torch.stack(rows)

    def arguments(self, output: Any, target: Any) -> tuple[Any, ...]:
        """See :class:`Measure`."""
        return self._given(self.metric.torchmetric(), output, target)

    def _given(self, metric: torchmetrics.Metric, output: Any, target: Any) -> tuple[Any, ...]:
        given = self.task.torchmetrics_arguments(self.task.detach_output(output), target, metric)
        return tuple(one.cpu() if isinstance(one, Tensor) else one for one in given)


def _metric_of(name: str, metric: torchmetrics.Metric) -> Metric:
    """A torchmetrics object as a metric: additive where all that it keeps are sums."""
    from torchmetrics.utilities import dim_zero_sum

    fresh = copy.deepcopy(metric).cpu()
    fresh.reset()
    states = list(fresh.metric_state.values())
    sums = [state for state in states if isinstance(state, Tensor)]
    additive = len(sums) == len(states) and all(one is dim_zero_sum for one in fresh._reductions.values())
    return Metric(
        name=name,
        higher_is_better=bool(fresh.higher_is_better),
        value=_SumOfStates(fresh) if additive else _undefined,
        torchmetric=_Copies(fresh),
        size=sum(state.numel() for state in sums) if additive else 0,
        bounds=_bounds(fresh),
    )


def _bounds(metric: torchmetrics.Metric) -> tuple[float, float] | None:
    """Least and greatest value, where the class declares both for its plots."""
    low, high = metric.plot_lower_bound, metric.plot_upper_bound
    return None if low is None or high is None else (float(low), float(high))


@dataclass(frozen=True)
class _Copies:
    """Makes metrics like one that has seen nothing."""

    fresh: torchmetrics.Metric

    def __call__(self) -> torchmetrics.Metric:
        return copy.deepcopy(self.fresh)


@dataclass(frozen=True)
class _SumOfStates:
    """The measure of states that were added up, ``(..., S) -> (...)``."""

    fresh: torchmetrics.Metric

    @staticmethod
    def row(metric: torchmetrics.Metric) -> Tensor:
        """The state of a metric as one row."""
        states: Mapping[str, Any] = metric.metric_state
        return torch.cat([state.detach().cpu().double().flatten() for state in states.values()])

    def __call__(self, sums: Tensor) -> Tensor:
        metric = copy.deepcopy(self.fresh)
        fresh: Mapping[str, Any] = metric.metric_state
        sizes = [state.numel() for state in fresh.values()]
        found = []
        for row in sums.reshape(-1, sums.shape[-1]):
            metric.reset()
            for (name, state), part in zip(fresh.items(), row.split(sizes), strict=True):
                setattr(metric, name, part.to(state.dtype).reshape(state.shape))
            metric._update_count = 1
            found.append(float(metric.compute()))
        return torch.tensor(found, dtype=torch.float64).reshape(sums.shape[:-1])


def _undefined(sums: Tensor) -> Tensor:
    """No number, of whatever there is: the measure of a state that is no sum over samples."""
    return sums.new_full(sums.shape[:-1], math.nan)
