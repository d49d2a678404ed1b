"""What an evaluation found: plain frozen dataclasses, and their exact round trip through JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from art_mtl.evaluation.documents import Document, Layout
from art_mtl.metrics import delta_mtl, delta_wor

Number = float | None
Rows = tuple[tuple[Number, ...], ...]
"""One row a sample, one column a task; None where undefined."""

__all__ = ["AttackResult", "Block", "Environment", "Results", "TaskResult"]


@dataclass(frozen=True)
class TaskResult:
    """One task, and how well the model does it on clean inputs.

    Attributes:
        name: Name of the task.
        kind: "segmentation", "depth", … as in :class:`art_mtl.tasks.Task`.
        metric: Name of its metric.
        higher_is_better: Direction of the metric.
        scale: Tables print the metric times this.
        unit: Of the metric before scaling, "" where it has none.
        clean: The metric over the data set on clean inputs; None if it is not finite.
        sample_clean: The metric of each sample alone, ``(N,)``; None where the sample has no label.
    """

    name: str
    kind: str
    metric: str
    higher_is_better: bool
    scale: float
    unit: str
    clean: Number
    sample_clean: tuple[Number, ...]


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
        least_degradation: Mean over the samples of the greatest signed Δ_i that each sample has on its own, 0 where
            that is positive; see :func:`mean_least_degradation`.
        sample_values: Metric of each sample alone, ``(N, K)``; None where the sample has no label.
        sample_deltas: Signed degradation of each sample alone, ``(N, K)``; None where it is undefined: no label, or a
            score that was 0 on the clean sample (an image whose class was wrong before the attack has nothing to lose).
        perturbation: Largest norm of a perturbation, in ``norm`` ("linf" where that is None).
        seconds: What ``generate`` took.
        samples: N.
        weights: Mean weight of each task at each step, ``(T, K)``; None where the attack does not tell.
        losses: Mean loss of each task at each step, ``(T, K)``; None where the attack does not tell.
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
    weights: Rows | None = None
    losses: Rows | None = None


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

    Examples:
        >>> task = TaskResult("digit", "classification", "accuracy", True, 100.0, "", 1.0, (1.0, 1.0))
        >>> results = Results("toy", (task,), (), (0.0, 1.0), Environment({}, "cpu", "2025-01-01T00:00:00+00:00", 0))
        >>> Results.from_json_text(results.to_json_text()) == results
        True
    """

    layout: ClassVar[Layout] = Layout("results", "art_mtl.results", version=3)

    victim: str
    tasks: tuple[TaskResult, ...]
    attacks: tuple[AttackResult, ...]
    clip_values: tuple[float, float] | None
    environment: Environment
    command: str | None = None
    protocol: str = "pooled"

    def check(self) -> None:
        """Raise ValueError unless all figures are of the same tasks and samples."""
        tasks, samples = len(self.tasks), {len(task.sample_clean) for task in self.tasks}
        if len(samples) > 1:
            raise ValueError(f"Results should be of the same samples for all tasks. Found {sorted(samples)} samples.")
        for attack in self.attacks:
            columns = [attack.values, attack.deltas, *attack.sample_values, *attack.sample_deltas]
            columns += [row for table in (attack.weights, attack.losses) for row in table or ()]
            if any(len(column) != tasks for column in columns):
                raise ValueError(f"Attack {attack.name!r} should have figures of {tasks} tasks. Found another number.")

    @property
    def samples(self) -> int:
        """N, the number of samples."""
        return len(self.tasks[0].sample_clean)

    def __getitem__(self, name: str) -> AttackResult:
        """The first attack of that name.

        Raises:
            KeyError: There is none.
        """
        for attack in self.attacks:
            if attack.name == name:
                return attack
        raise KeyError(f"no attack {name!r}; the attacks are {[attack.name for attack in self.attacks]}")

    def blocks(self) -> Iterator[Block]:
        """The attacks grouped by norm and radius, in order of first appearance."""
        groups: dict[tuple[str | None, Number], list[AttackResult]] = {}
        for attack in self.attacks:
            groups.setdefault((attack.norm, attack.eps), []).append(attack)
        for (norm, eps), attacks in groups.items():
            yield Block(norm, eps, tuple(attacks))

    def bound(self, block: Block) -> AttackResult | None:
        """The empirical bound: every task degraded by the attack that aims at it alone.

        No attack on all tasks at once can be expected to degrade a task more than the attack that cares for nothing
        else, so the least of these degradations bounds Δ_Wor, as far as the single attacks themselves are optimal.

        Args:
            block: One of :meth:`blocks`.

        Returns:
            A row made of the ``single:<task>`` attacks; None unless the block has one for every task.
        """
        singles = {attack.method: attack for attack in block.attacks if attack.method.startswith("single:")}
        own = [singles.get(f"single:{task.name}") for task in self.tasks]
        attacks = [attack for attack in own if attack is not None]
        if not attacks or len(attacks) < len(own):
            return None
        deltas = tuple(attack.deltas[i] for i, attack in enumerate(attacks))
        sample_deltas = _own_columns([attack.sample_deltas for attack in attacks])
        mean, least = summarise(deltas)
        return AttackResult(
            name="bound (single tasks)",
            method="bound",
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
        )


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


def _own_columns(tables: Sequence[Rows]) -> Rows:
    """Column i of table i, for all i."""
    return tuple(zip(*([row[i] for row in table] for i, table in enumerate(tables)), strict=True))
