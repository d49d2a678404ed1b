"""What an evaluation found: plain frozen dataclasses, and their exact round trip through JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from art_mtl.evaluation.files import write_text
from art_mtl.metrics import delta_mtl, delta_wor

FORMAT = "art_mtl.results"
VERSION = 2
_OLDER = {1: {"protocol": "pooled"}}
"""What files of an older version do not say, by version."""

Number = float | None
Rows = tuple[tuple[Number, ...], ...]
"""One row a sample, one column a task; None where undefined."""

Record = TypeVar("Record")

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
        deltas: Signed damage Δ_i of each task, in [−1, 0] where the attack harms; None where undefined (a clean score
            of 0).
        delta_mtl: Δ_MTL, mean of the defined Δ_i.
        delta_wor: Δ_Wor, greatest (least damaged) of the defined Δ_i.
        least_damage: Mean over the samples of the greatest signed Δ_i that each sample has on its own, 0 where that is
            positive; see :func:`mean_least_damage`.
        sample_values: Metric of each sample alone, ``(N, K)``; None where the sample has no label.
        sample_deltas: Signed damage of each sample alone, ``(N, K)``; None where it is undefined: no label, or a score
            that was 0 on the clean sample (an image whose class was wrong before the attack has nothing to lose).
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
    least_damage: Number
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
class Results:
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

    victim: str
    tasks: tuple[TaskResult, ...]
    attacks: tuple[AttackResult, ...]
    clip_values: tuple[float, float] | None
    environment: Environment
    command: str | None = None
    protocol: str = "pooled"

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
        """The empirical bound: every task damaged by the attack that aims at it alone.

        No attack on all tasks at once can be expected to damage a task more than the attack that cares for nothing
        else, so the least of these damages bounds Δ_Wor, as far as the single attacks themselves are optimal.

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
            least_damage=mean_least_damage(sample_deltas),
            sample_values=_own_columns([attack.sample_values for attack in attacks]),
            sample_deltas=sample_deltas,
            perturbation=max(attack.perturbation for attack in attacks),
            seconds=sum(attack.seconds for attack in attacks),
            samples=attacks[0].samples,
        )

    def to_json_text(self) -> str:
        """The results as a JSON document."""
        document = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n"

    def to_json(self, path: str | Path) -> None:
        """Write the results to a file, whole or not at all.

        Args:
            path: Of the file; an existing one is replaced.
        """
        write_text(path, self.to_json_text())

    @classmethod
    def from_json_text(cls, text: str) -> Results:
        """Results from the text that :meth:`to_json_text` made.

        Raises:
            ValueError: It is no such text, or from a newer version.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"Results should be a JSON document. Found a fault: {error}.") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError(f"Results should be a JSON document of format {FORMAT!r}. Found something else.")
        version = document.pop("version", None)
        if version != VERSION and version not in _OLDER:
            raise ValueError(f"Results should be of version {VERSION} or older. Found version {version!r}.")
        document.update(_OLDER.get(version, {}))
        for key, record in (("tasks", TaskResult), ("attacks", AttackResult)):
            document[key] = tuple(read_record(record, entry) for entry in document.get(key, ()))
        document["environment"] = read_record(Environment, document.get("environment"))
        return read_record(cls, document)

    @classmethod
    def from_json(cls, path: str | Path) -> Results:
        """Results from a file that :meth:`to_json` wrote; equal to what was written, to the last bit.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"Results should be a JSON file. Found no file {str(path)!r}.")
        return cls.from_json_text(path.read_text(encoding="utf-8"))


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


def mean_least_damage(sample_deltas: Rows) -> Number:
    """Mean over the samples of the greatest signed delta, 0 where that is positive.

    A task that an attack happens to improve counts as unharmed: the relative gain of an error that falls to almost 0
    has no bound and would drown the mean. Samples without any defined delta do not count.

    Examples:
        >>> mean_least_damage(((-0.5, -0.25), (None, -0.75), (-0.5, 12.0), (None, None)))
        -0.3333333333333333
    """
    least = [summarise(row)[1] for row in sample_deltas]
    defined = [min(value, 0.0) for value in least if value is not None]
    return sum(defined) / len(defined) if defined else None


def _own_columns(tables: Sequence[Rows]) -> Rows:
    """Column i of table i, for all i."""
    return tuple(zip(*([row[i] for row in table] for i, table in enumerate(tables)), strict=True))


def read_record(record: type[Record], entry: Any) -> Record:
    """A record of that class from what :func:`dataclasses.asdict` and JSON made of it.

    Raises:
        ValueError: Its fields are others.
    """
    names = {field.name for field in fields(record)}  # type: ignore[arg-type]
    if not isinstance(entry, dict) or set(entry) != names:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f"A {record.__name__} should have the fields {sorted(names)}. Found {found}.")
    return record(**{name: _tupled(value) for name, value in entry.items()})


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list) else value
