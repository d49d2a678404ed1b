"""What an evaluation found: plain frozen dataclasses, and their exact round trip through JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import Any, ClassVar, Protocol, TypeVar

from art_mtl.core.methods import single_task_references, spec_of
from art_mtl.evaluation.documents import Document, Layout
from art_mtl.metrics import delta_mtl, delta_wor

Number = float | None
Rows = tuple[tuple[Number, ...], ...]
"""One row a sample, one column a task; None where undefined."""
Interval = tuple[float, float] | None
"""Lower and upper end of a 95 % confidence interval; None where there is none."""
Key = str | tuple[str, str | None, Number]
"""Of an attack: its name, or its name, norm and radius."""

__all__ = [
    "AttackResult",
    "Block",
    "Difference",
    "Environment",
    "Interval",
    "Key",
    "MeasureResult",
    "Results",
    "TaskMetric",
    "TaskResult",
    "choose",
]


@dataclass(frozen=True)
class TaskMetric:
    """One task and its metric, as tables print them.

    Attributes:
        name: Name of the task.
        kind: "segmentation", "depth", … as in :class:`art_mtl.tasks.Task`.
        metric: Name of its metric.
        higher_is_better: Direction of the metric.
        scale: Tables print the metric times this.
        unit: Of the metric before scaling, "" where it has none.
    """

    name: str
    kind: str
    metric: str
    higher_is_better: bool
    scale: float
    unit: str


@dataclass(frozen=True)
class TaskResult(TaskMetric):
    """One task, and how well the model does it on clean inputs. It has the attributes of :class:`TaskMetric`.

    Attributes:
        clean: The metric over the data set on clean inputs; None if it is not finite.
        sample_clean: The metric of each sample alone, ``(N,)``; None where the sample has no label.
    """

    clean: Number
    sample_clean: tuple[Number, ...]


@dataclass(frozen=True)
class MeasureResult:
    """A measure that stands beside the metric of a task, and its figure on clean inputs.

    Attributes:
        task: Name of the task.
        name: As it was asked for.
        metric: As tables print it.
        higher_is_better: Direction; None where the measure does not say.
        scale: Tables print the measure times this.
        unit: Of the measure before scaling, "" where it has none.
        clean: On clean inputs; None if it is not finite.
        clean_interval: Interval of that.
        no_interval: Why the measure has no intervals; "" where it may have them.
    """

    task: str
    name: str
    metric: str
    higher_is_better: bool | None
    scale: float
    unit: str
    clean: Number
    clean_interval: Interval
    no_interval: str = ""


@dataclass(frozen=True)
class AttackResult:
    """What one attack did. Tuples over tasks have the order of :attr:`Results.tasks`.

    Attributes:
        name: Name of the row, unique in its block.
        method: Name of the method or, for an attack from elsewhere, of its class.
        norm: "linf", "l2" or "l1"; None where the attack does not say.
        eps: Radius in the scale of the model's input, the greatest if samples differ; None where the attack does not
            say.
        schedule: Step schedule asked for; None for the attack's own.
        steps: Number of steps; None where the attack does not say.
        values: Metric of each task under attack; None if it is not finite.
        deltas: Signed degradation Δ_i of each task, in [−1, 0] where the attack harms; None where undefined (a clean
            score of 0).
        delta_mtl: Δ_MTL, mean of the defined Δ_i.
        delta_wor: Δ_Wor, greatest (least degraded) of the defined Δ_i.
        delta_intervals: Intervals of the Δ_i, which hold together: with a probability of 95 % all of them do; see
            :func:`art_mtl.evaluation.statistics.degradation_intervals`.
        delta_mtl_interval: Interval of Δ_MTL.
        delta_wor_interval: Interval of Δ_Wor.
        least_degradation: The per-image worst-task Δ: mean over the samples of the greatest signed Δ_i that each sample
            has on its own, 0 where that is positive; see :func:`mean_least_degradation`.
        sample_values: Metric of each sample alone, ``(N, K)``; None where the sample has no label.
        sample_deltas: Signed degradation of each sample alone, ``(N, K)``; None where it is undefined: no label, or a
            score that was 0 on the clean sample (an image whose class was wrong before the attack has nothing to lose).
        perturbation: Largest norm of a perturbation, in ``norm`` ("linf" where that is None).
        seconds: What ``generate`` took.
        samples: N.
        delta_intervals: Of each Δ_i.
        delta_mtl_interval: Of Δ_MTL.
        delta_wor_interval: Of Δ_Wor.
        gradient_evaluations: A sample, as measured; None where they were not counted.
        forward_evaluations: The same of passes without a gradient.
        warnings: What the attack warned of in every session, each once.
        weights: Mean weight of each task at each step, ``(T, K)``; None where the attack does not tell.
        losses: Mean loss of each task at each step, ``(T, K)``; None where the attack does not tell.
        measures: Each of :attr:`Results.measures` under attack; None if it is not finite.
        measure_intervals: Their intervals, each alone.
    """

    name: str
    method: str
    norm: str | None
    eps: Number
    schedule: str | None
    steps: int | None
    values: tuple[Number, ...]
    deltas: tuple[Number, ...]
    delta_mtl: Number
    delta_wor: Number
    least_degradation: Number
    sample_values: Rows
    sample_deltas: Rows
    perturbation: float
    seconds: float
    samples: int
    delta_intervals: tuple[Interval, ...] = ()
    delta_mtl_interval: Interval = None
    delta_wor_interval: Interval = None
    gradient_evaluations: Number = None
    forward_evaluations: Number = None
    warnings: tuple[str, ...] = ()
    weights: Rows | None = None
    losses: Rows | None = None
    measures: tuple[Number, ...] = ()
    measure_intervals: tuple[Interval, ...] = ()


@dataclass(frozen=True)
class Difference:
    """By how much one attack degrades the tasks more than another of its norm and radius, on the same samples.

    Attributes:
        attack: Name of the one.
        other: Name of the other.
        norm: Of both.
        eps: Of both.
        deltas: Δ_i of ``attack`` − Δ_i of ``other``, negative where ``attack`` is the stronger; None where undefined.
        delta_intervals: Their intervals, which hold together.
        delta_mtl: Difference of Δ_MTL, over the tasks that both have.
        delta_mtl_interval: Its interval.
        delta_wor: Difference of Δ_Wor.
        delta_wor_interval: Its interval; see :func:`art_mtl.evaluation.statistics.difference_intervals`.
    """

    attack: str
    other: str
    norm: str | None
    eps: Number
    deltas: tuple[Number, ...]
    delta_intervals: tuple[Interval, ...]
    delta_mtl: Number
    delta_mtl_interval: Interval
    delta_wor: Number
    delta_wor_interval: Interval

    @property
    def stronger(self) -> str | None:
        """Name of the attack whose Δ_Wor is significantly stronger; None where the samples do not tell.

        Examples:
            >>> nothing = ((), (), None, None)
            >>> Difference("a", "b", "linf", 0.1, *nothing, -0.2, (-0.3, -0.1)).stronger
            'a'
            >>> Difference("a", "b", "linf", 0.1, *nothing, -0.2, (-0.5, 0.1)).stronger is None
            True
        """
        if self.delta_wor_interval is None:
            return None
        low, high = self.delta_wor_interval
        return self.attack if high < 0 else self.other if low > 0 else None

    def reversed(self) -> Difference:
        """The same with the attacks exchanged."""
        return Difference(
            self.other, self.attack, self.norm, self.eps,
            tuple(map(_negative, self.deltas)), tuple(map(_mirrored, self.delta_intervals)),
            _negative(self.delta_mtl), _mirrored(self.delta_mtl_interval),
            _negative(self.delta_wor), _mirrored(self.delta_wor_interval),
        )  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """Where and when.

    Attributes:
        packages: Name to version.
        device: That the model ran on.
        date: UTC, ISO 8601.
        seed: That every attack started from; None if none was set.
    """

    packages: dict[str, str]
    device: str
    date: str
    seed: int | None


@dataclass(frozen=True)
class Block:
    """The attacks of one norm and radius.

    Attributes:
        norm: "linf", "l2", "l1" or None.
        eps: Radius in the scale of the model's input, or None.
        attacks: In the order in which they ran.
    """

    norm: str | None
    eps: Number
    attacks: tuple[AttackResult, ...]

    @property
    def ranked(self) -> tuple[AttackResult, ...]:
        """The attacks that compete, the strongest Δ_Wor first.

        Attacks on a single task are references and do not compete. Nor does an attack under which a metric is not
        finite: its Δ_Wor is that of fewer tasks.
        """
        general = [attack for attack in self.attacks if not spec_of(attack.method).is_reference]
        found = [(attack.delta_wor, attack) for attack in general if None not in attack.values]
        return tuple(
            attack for _, attack in sorted(((w, a) for w, a in found if w is not None), key=lambda pair: pair[0])
        )

    @property
    def strongest(self) -> AttackResult | None:
        """The first of :attr:`ranked`; None where there is none."""
        return next(iter(self.ranked), None)


@dataclass(frozen=True)
class Results(Document):
    """A whole evaluation.

    Attributes:
        victim: Name of the model and its data.
        tasks: K tasks with their clean metrics.
        attacks: In the order in which they ran.
        clip_values: Least and greatest value of the model's input; None if unbounded.
        environment: Where and when.
        command: Command line that made it, or None.
        protocol: How metrics were averaged; one of :data:`art_mtl.evaluation.measure.PROTOCOLS`.
        differences: Of each two attacks of a norm and radius; :meth:`difference` finds them.
        warnings: What was warned of on clean inputs in every session, each once.
        gradient_cosines: Mean cosine of the angle between the gradients of each two tasks' losses in the clean inputs,
            ``(K, K)``, over the first samples of each chunk; None where it is undefined, or was not measured.
        measures: What stands beside the metrics of the tasks.

    Examples:
        >>> task = TaskResult("digit", "classification", "accuracy", True, 100.0, "", 1.0, (1.0, 1.0))
        >>> results = Results("toy", (task,), (), (0.0, 1.0), Environment({}, "cpu", "2025-01-01T00:00:00+00:00", 0))
        >>> Results.from_json_text(results.to_json_text()) == results
        True
    """

    layout: ClassVar[Layout] = Layout("results", "art_mtl.results", version=5)

    victim: str
    tasks: tuple[TaskResult, ...]
    attacks: tuple[AttackResult, ...]
    clip_values: tuple[float, float] | None
    environment: Environment
    command: str | None = None
    protocol: str = "pooled"
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
    gradient_cosines: Rows | None = None
    measures: tuple[MeasureResult, ...] = ()

    def check(self) -> None:
        """Raise ValueError unless all figures are of the same tasks and samples."""
        tasks, samples = len(self.tasks), {len(task.sample_clean) for task in self.tasks}
        if len(samples) > 1:
            raise ValueError(f"Results should be of the same samples for all tasks. Found {sorted(samples)} samples.")
        for attack in self.attacks:
            columns = [attack.values, attack.deltas, *attack.sample_values, *attack.sample_deltas]
            columns += [row for table in (attack.weights, attack.losses) for row in table or ()]
            intervals = len(attack.delta_intervals) or tasks
            if any(number != tasks for number in (intervals, *map(len, columns))):
                raise ValueError(f"Attack {attack.name!r} should have figures of {tasks} tasks. Found another number.")
            if {len(attack.measures), len(attack.measure_intervals)} != {len(self.measures)}:
                raise ValueError(f"Attack {attack.name!r} should have {len(self.measures)} measures. Found others.")
        if not {one.task for one in self.measures} <= {task.name for task in self.tasks}:
            raise ValueError("The measures of results should be of their tasks. Found another task.")
        angles = self.gradient_cosines
        if angles is not None and {len(angles), *map(len, angles)} != {tasks}:
            raise ValueError(f"The cosines of gradients should be of {tasks} × {tasks} tasks. Found another number.")
        for one in self.differences:
            if {len(one.deltas), len(one.delta_intervals)} != {tasks}:
                raise ValueError(
                    f"The difference of {one.attack!r} and {one.other!r} should have figures of {tasks} tasks. "
                    "Found another number."
                )
        pairs = {(one.norm, one.eps, frozenset((one.attack, one.other))) for one in self.differences}
        if pairs and pairs != self._pairs():
            raise ValueError("Results should have a difference of each two attacks of one norm and eps. Found others.")

    def _pairs(self) -> set[tuple[str | None, Number, frozenset[str]]]:
        """Norm, radius and names of each two attacks of which there is a difference."""
        return {
            (block.norm, block.eps, frozenset((one.name, other.name)))
            for block in self.blocks()
            for one, other in combinations(block.attacks, 2)
        }

    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return len(self.tasks[0].sample_clean)

    def __getitem__(self, key: Key) -> AttackResult:
        """An attack by name, or by name, norm and radius: ``results["equal"]``, ``results["equal", "linf", 4 / 255]``.

        Raises:
            KeyError: There is none, or there are several of that name.
        """
        return choose(self.attacks, key)

    def difference(self, attack: AttackResult | Key, other: AttackResult | Key) -> Difference:
        """By how much ``attack`` degrades the tasks more than ``other``.

        Args:
            attack: One of :attr:`attacks`, or what ``results[...]`` takes for it.
            other: Another of the same norm and radius.

        Raises:
            TypeError: Something else.
            KeyError: There is no such attack, or they are not two attacks of one norm and radius.
        """
        attack, other = (one if isinstance(one, AttackResult) else self[one] for one in (attack, other))
        for found in self.differences:
            if (found.norm, found.eps) == (attack.norm, attack.eps) == (other.norm, other.eps):
                if (found.attack, found.other) == (attack.name, other.name):
                    return found
                if (found.other, found.attack) == (attack.name, other.name):
                    return found.reversed()
        raise KeyError(
            f"no difference of {attack.name!r} at {(attack.norm, attack.eps)} and {other.name!r} at "
            f"{(other.norm, other.eps)}; two attacks of one norm and eps have one"
        )

    def blocks(self) -> Iterator[Block]:
        """The attacks grouped by norm and radius, in order of first appearance."""
        groups: dict[tuple[str | None, Number], list[AttackResult]] = {}
        for attack in self.attacks:
            groups.setdefault((attack.norm, attack.eps), []).append(attack)
        for (norm, eps), attacks in groups.items():
            yield Block(norm, eps, tuple(attacks))

    def reference(self, block: Block) -> AttackResult | None:
        """The single-task reference: every task degraded by the attack on it alone, an empirical limit on Δ_Wor.

        No attack on all tasks at once can be expected to degrade a task more than the attack that cares for nothing
        else, so the least of these degradations limits Δ_Wor, as far as the single-task attacks themselves are optimal.

        Args:
            block: One of :meth:`blocks`.

        Returns:
            A row made of the ``single:<task>`` attacks; None unless the block has one for every task.
        """
        found = {attack.method: attack for attack in block.attacks}
        own = [found.get(name) for name in single_task_references([task.name for task in self.tasks]).values()]
        attacks = [attack for attack in own if attack is not None]
        if not attacks or len(attacks) < len(own):
            return None
        spec = spec_of(attacks[0].method)
        deltas = tuple(attack.deltas[i] for i, attack in enumerate(attacks))
        intervals = tuple(
            attack.delta_intervals[i] if attack.delta_intervals else None for i, attack in enumerate(attacks)
        )
        sample_deltas = _own_columns([attack.sample_deltas for attack in attacks])
        mean, least = summarise(deltas)
        names = [task.name for task in self.tasks]
        places = [names.index(one.task) for one in self.measures]
        costs = [attack.gradient_evaluations for attack in attacks], [attack.forward_evaluations for attack in attacks]
        return AttackResult(
            name=spec.title,
            method=spec.name,
            norm=block.norm,
            eps=block.eps,
            schedule=None,
            steps=attacks[0].steps,
            values=tuple(attack.values[i] for i, attack in enumerate(attacks)),
            deltas=deltas,
            delta_mtl=mean,
            delta_wor=least,
            least_degradation=mean_least_degradation(sample_deltas),
            sample_values=_own_columns([attack.sample_values for attack in attacks]),
            sample_deltas=sample_deltas,
            perturbation=max(attack.perturbation for attack in attacks),
            seconds=sum(attack.seconds for attack in attacks),
            samples=attacks[0].samples,
            delta_intervals=intervals,
            delta_mtl_interval=combined_interval(deltas, intervals, lambda ends: sum(ends) / len(ends)),
            delta_wor_interval=combined_interval(deltas, intervals, max),
            gradient_evaluations=_total(costs[0]),
            forward_evaluations=_total(costs[1]),
            warnings=tuple(dict.fromkeys(text for attack in attacks for text in attack.warnings)),
            measures=tuple(attacks[i].measures[j] for j, i in enumerate(places)),
            measure_intervals=tuple(attacks[i].measure_intervals[j] for j, i in enumerate(places)),
        )


class _Placed(Protocol):
    """What has a name, a norm and a radius."""

    @property
    def name(self) -> str: ...
    @property
    def norm(self) -> str | None: ...
    @property
    def eps(self) -> Number: ...


_P = TypeVar("_P", bound=_Placed)


def choose(attacks: Sequence[_P], key: Key) -> _P:
    """The attack of a name, or of a name, norm and radius.

    Raises:
        TypeError: The key is neither.
        KeyError: There is none, or there are several of that name.
    """
    name, *where = (key,) if isinstance(key, str) else key if isinstance(key, tuple) and len(key) == 3 else (None,)
    if not isinstance(name, str) or (where and not isinstance(where[1], (Real, type(None)))):
        raise TypeError(f"An attack should be named as NAME or (NAME, norm, eps). Found {key!r}.")
    named = [attack for attack in attacks if attack.name == name]
    found = [attack for attack in named if not where or (attack.norm == where[0] and _is_close(attack.eps, where[1]))]
    if len(found) == 1:
        return found[0]
    if not named:
        raise KeyError(f"no attack {name!r}; the attacks are {list(dict.fromkeys(one.name for one in attacks))}")
    places = [(attack.norm, attack.eps) for attack in named]
    if not where:
        raise KeyError(f"{len(named)} attacks are called {name!r}, of norm and eps {places}: give these two as well")
    raise KeyError(f"no attack {name!r} of norm and eps {tuple(where)}; it ran with {places}")


def _total(numbers: Sequence[Number]) -> Number:
    """Their sum; None where one is not known."""
    counted = [number for number in numbers if number is not None]
    return sum(counted) if len(counted) == len(numbers) else None


def known(value: float) -> Number:
    """The number, or None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def summarise(deltas: Sequence[Number]) -> tuple[Number, Number]:
    """Δ_MTL and Δ_Wor of the defined deltas; None if there is none.

    Examples:
        >>> summarise([-0.5, None, -0.25])
        (-0.375, -0.25)
    """
    defined = [delta for delta in deltas if delta is not None]
    return (delta_mtl(defined), delta_wor(defined)) if defined else (None, None)


def mean_least_degradation(sample_deltas: Rows) -> Number:
    """Mean over the samples of the greatest signed delta, 0 where that is positive.

    A task that an attack happens to improve counts as unharmed: the relative gain of an error that falls to almost 0
    has no bound and would drown the mean. Samples without any defined delta do not count.

    Examples:
        >>> mean_least_degradation(((-0.5, -0.25), (None, -0.75), (-0.5, 12.0), (None, None)))
        -0.3333333333333333
    """
    least = [summarise(row)[1] for row in sample_deltas]
    defined = [min(value, 0.0) for value in least if value is not None]
    return sum(defined) / len(defined) if defined else None


def combined_interval(
    deltas: Sequence[Number], intervals: Sequence[Interval], combine: Callable[[list[float]], float]
) -> Interval:
    """The interval of a figure that grows with each of its degradations, from intervals of these that hold together.

    Args:
        deltas: Where one is None, it does not count.
        intervals: Of each; without one of a degradation that counts there is none.
        combine: From the degradations to the figure.

    Examples:
        >>> combined_interval([-0.5, None, -0.25], [(-0.75, -0.25), None, (-0.5, -0.125)], max)
        (-0.5, -0.125)
    """
    counted = [interval for delta, interval in zip(deltas, intervals, strict=True) if delta is not None]
    if not counted or None in counted:
        return None
    lows, highs = ([ends[i] for ends in counted if ends is not None] for i in range(2))
    return combine(lows), combine(highs)


def _is_close(eps: Number, other: Any) -> bool:
    return eps == other or (eps is not None and other is not None and math.isclose(eps, other))


def _negative(value: Number) -> Number:
    return None if value is None else -value


def _mirrored(interval: Interval) -> Interval:
    return None if interval is None else (-interval[1], -interval[0])


def _own_columns(tables: Sequence[Rows]) -> Rows:
    """Column i of table i, for all i."""
    return tuple(zip(*([row[i] for row in table] for i, table in enumerate(tables)), strict=True))
