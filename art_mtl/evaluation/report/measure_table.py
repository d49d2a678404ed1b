"""The table of the measures that stand beside the metric of a task."""

from __future__ import annotations

from collections.abc import Iterator

from art_mtl.evaluation.report.layout import Cell, Row, Table
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.report.tables import MISSING, NOT_FINITE, describe_eps, heading
from art_mtl.evaluation.results import AttackResult, Interval, MeasureResult, Number, Results

__all__ = ["make_measure_table"]


def make_measure_table(results: Results) -> Table:
    """Further measures: a clean row, then a block for each norm and radius with a row for each attack; each figure with
    its 95 % interval.

    Args:
        results: With measures.

    Raises:
        ValueError: There are none.

    Examples:
        >>> from art_mtl.evaluation.results import Environment, TaskResult
        >>> from art_mtl.evaluation.report.tables import to_markdown
        >>> task = TaskResult("depth", "depth", "aErr", False, 100.0, "m", 0.4057, (0.4057,))
        >>> rmse = MeasureResult("depth", "rmse", "RMSE", False, 100.0, "m", 0.5, (0.4, 0.6))
        >>> results = Results("toy", (task,), (), (0.0, 1.0), Environment({}, "cpu", "", None), measures=(rmse,))
        >>> print(to_markdown(make_measure_table(results)))
        | method | depth RMSE ↓ (m ×100) |
        | :--- | ---: |
        | clean | 50.00 [40.00, 60.00] |
    """
    if not results.measures:
        raise ValueError("Results should have further measures, which `measures=` asks for. Found none.")
    clean = [_cell(one, one.clean, one.clean_interval) for one in results.measures]
    rows = [Row("clean", (Cell("clean"), *clean))]
    for block in results.blocks():
        rows.append(Row("block", (Cell(describe_eps(block.norm, block.eps, results.clip_values)),)))
        rows += [_row("attack", attack, results) for attack in block.attacks]
        reference = results.reference(block)
        rows += [] if reference is None else [_row("reference", reference, results)]
    ranks = (0, *(1 + i for i in range(len(results.measures))))
    columns = ("method", *map(heading, results.measures))
    return Table(columns, tuple(rows), "Further measures, with 95 % intervals.", tuple(_notes(results)), ranks)


def _row(kind: str, attack: AttackResult, results: Results) -> Row:
    found = zip(results.measures, attack.measures, attack.measure_intervals, strict=True)
    return Row(kind, (Cell(attack.name), *(_cell(*one) for one in found)), attack.norm, attack.eps)


def _cell(measure: MeasureResult, value: Number, ends: Interval) -> Cell:
    if value is None:
        return Cell(NOT_FINITE)
    interval = MISSING if ends is None else "[{}, {}]".format(*(decimals(measure.scale * end) for end in ends))
    return Cell(f"{measure.scale * value:.2f} {interval}", value)


def _notes(results: Results) -> Iterator[str]:
    for one in results.measures:
        if one.no_interval:
            yield f"{one.task} {one.metric} has no interval: {one.no_interval}."
