"""Tables I to IV of Guo et al. (ICASSP 2025): what they print, which of it is misprinted, and how to run them again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from art_mtl.data.paper import PAPER_DATA, PaperData
from art_mtl.evaluation.callbacks import Callback
from art_mtl.evaluation.results import Number, Results
from art_mtl.evaluation.runner import evaluate
from art_mtl.metrics import delta, delta_mtl, delta_wor

if TYPE_CHECKING:
    from art_mtl.zoo.victims import Victim

BASELINE = "Baseline"
PRINTED_AS: Mapping[str, str] = MappingProxyType(
    {"equal-official": "Equal", "normalize-official": "Normalize", "minmax-official": "Min-max"}
)
"""Row of the paper by method of this package."""
REPRODUCED = (*PRINTED_AS, "minmax", "worst-task")
"""Methods that a reproduced table has by default: the paper's rows in the authors' published form, Algorithm 1 as the
paper writes it, and this package's own.
"""
STEPS = 10
"""T of the authors' published code."""
_SLACK = 0.02
"""In points: by how much a printed Δ may differ from what the metrics beside it give, which are rounded too."""

__all__ = ["BASELINE", "PRINTED_AS", "REPRODUCED", "STEPS", "PaperRow", "PaperTable", "paper_tables", "reproduce"]


@dataclass(frozen=True)
class PaperRow:
    """One row of a table, as printed.

    Attributes:
        method: "Baseline", "Equal", "Normalize" or "Min-max".
        eps: Radius in the scale of the model's input, [-1, 1]; None for the baseline.
        metrics: In the order of the tasks: mIoU and errors times 100, angles in degrees.
        delta_mtl: Δ_MTL in percent.
        delta_wor: Δ_Wor in percent.
    """

    method: str
    eps: Number
    metrics: tuple[float, ...]
    delta_mtl: float
    delta_wor: float

    @property
    def figures(self) -> tuple[float, ...]:
        """All that is printed, from left to right."""
        return (*self.metrics, self.delta_mtl, self.delta_wor)


@dataclass(frozen=True)
class PaperTable:
    """One table, as printed.

    Attributes:
        name: "I", "II", "III" or "IV".
        data: Its data set.
        norm: "l2" or "linf".
        rows: From top to bottom, the baseline first.
    """

    name: str
    data: PaperData
    norm: str
    rows: tuple[PaperRow, ...]

    @property
    def eps(self) -> tuple[float, ...]:
        """Radii, in the order of the table."""
        return tuple(dict.fromkeys(row.eps for row in self.rows if row.eps is not None))

    def row(self, method: str, eps: Number) -> PaperRow | None:
        """The row of a method of the paper at a radius; None if there is none."""
        return next((row for row in self.rows if (row.method, row.eps) == (method, eps)), None)

    @cached_property
    def misprints(self) -> Mapping[tuple[str, Number], tuple[Number, ...]]:
        """By method and radius, what the printed metrics give in place of printed figures that disagree with them.

        A row's five figures, None where the print holds. Recomputed by eq. 6 in the form that the other rows agree
        with; see :func:`art_mtl.metrics.delta`.
        """
        found = {}
        for row in self.rows:
            own = self._recompute(row)
            pairs = zip(own, (row.delta_mtl, row.delta_wor), strict=True)
            wrong = [None if abs(value - printed) <= _SLACK else value for value, printed in pairs]
            if any(value is not None for value in wrong):
                found[row.method, row.eps] = (*[None] * len(row.metrics), *wrong)
        return MappingProxyType(found)

    def _recompute(self, row: PaperRow) -> tuple[float, float]:
        """Δ_MTL and Δ_Wor in percent, from printed metrics."""
        triples = zip(row.metrics, self.rows[0].metrics, self.data.tasks(), strict=True)
        deltas = [
            float(delta(torch.tensor(m).double(), torch.tensor(b).double(), task.metric.higher_is_better))
            for m, b, task in triples
        ]
        return 100 * delta_mtl(deltas), 100 * delta_wor(deltas)


@cache
def paper_tables() -> Mapping[str, PaperTable]:
    """The paper's tables by name.

    Examples:
        >>> table = paper_tables()["III"]
        >>> table.data.title, table.norm, table.row("Min-max", 8 / 255).metrics
        ('NYUv2', 'linf', (9.97, 189.52, 56.12))
        >>> round(paper_tables()["IV"].misprints["Min-max", 2 / 255][-1], 2)
        -36.61
    """
    text = (files("art_mtl.evaluation.reproduction") / "paper_tables.csv").read_text(encoding="utf-8")
    read: dict[str, PaperTable] = {}
    for line in csv.DictReader(text.splitlines()):
        name = line["table"]
        row = PaperRow(
            method=line["method"],
            eps=None if line["method"] == BASELINE else _radius(line["eps"]),
            metrics=(float(line["m1"]), float(line["m2"]), float(line["m3"])),
            delta_mtl=float(line["delta_mtl"]),
            delta_wor=float(line["delta_wor"]),
        )
        before = read[name].rows if name in read else ()
        read[name] = PaperTable(name, PAPER_DATA[line["dataset"].lower()], line["norm"].lower(), (*before, row))
    return MappingProxyType(read)


def _radius(text: str) -> float:
    number, _, levels = text.partition("/")
    return float(number) / float(levels or 1)


def reproduce(
    table: str,
    victim: Victim,
    attacks: Sequence[str] = REPRODUCED,
    *,
    protocol: str = "pooled",
    split: str = "test",
    limit: int | None = None,
    batch_size: int = 4,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "auto",
    command: str | None = None,
    progress: bool = True,
    callbacks: Callback | Sequence[Callback] = (),
) -> Results:
    """Run the attacks of one table of the paper.

    The official forms do what the authors' published code does: T = 10, start at the clean image, step 0.25 ε (L∞) or
    0.2 ε (L2), projection by scaling to the ball, then clamping to the box, losses that are means over batches of 4.
    They work in groups of 4 whatever ``batch_size`` is, if it is at least 4.

    Args:
        table: "I", "II", "III" or "IV".
        victim: MTAN or Split on the table's data; see :func:`art_mtl.evaluation.load_victim`.
        attacks: Names of the registry, or "all".
        protocol: "pooled", or "auto-lambda" as in the paper; see :func:`art_mtl.evaluation.evaluate`.
        split: "val" (or "test", which is the same) or "train" data.
        limit: First samples of the data to use; None for all.
        batch_size: Samples at a time.
        steps: T.
        seed: Of every attack.
        device: "auto", "cpu" or "gpu".
        command: Command line to record.
        progress: Show a progress bar.
        callbacks: One, or several; they hear of the run while it goes on.

    Returns:
        One :class:`AttackResult` for each method and radius of the table. To set them beside the paper's:
        :func:`art_mtl.evaluation.reproduction.comparison_table.compare`.

    Raises:
        ValueError: If there is no such table, or the victim has other tasks; or as for ``evaluate``.
    """
    if table not in paper_tables():
        raise ValueError(f"Parameter `table` should be one of {', '.join(paper_tables())}. Found {table!r}.")
    printed = paper_tables()[table]
    expected, found = ([task.name for task in tasks] for tasks in (printed.data.tasks(), victim.tasks))
    if expected != found:
        raise ValueError(
            f"Table {table} is of {printed.data.title}, with the tasks {expected}. Found the victim {victim.name!r} "
            f"with {found}."
        )
    return evaluate(
        victim,
        attacks,
        norm=printed.norm,
        eps={printed.norm: printed.eps},
        steps=steps,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        device=device,
        command=command,
        progress=progress,
        callbacks=callbacks,
        protocol=protocol,
        split="test" if split == "val" else split,
    ).results
