"""A reproduced table of the paper: measured figures beside printed ones."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from art_mtl.core.methods import spec_of
from art_mtl.evaluation.report import escape
from art_mtl.evaluation.report.gallery import Gallery
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.report.tables import (
    MISSING,
    NOT_FINITE,
    Cell,
    Row,
    Table,
    best_attacks,
    describe_eps,
    describe_protocol,
    describe_results,
    heading,
    to_latex,
    to_markdown,
)
from art_mtl.evaluation.report.write import origin, remove_stale, show, write_figures
from art_mtl.evaluation.reproduction.paper_tables import BASELINE, PRINTED_AS, PaperTable
from art_mtl.evaluation.results import Number, Results
from art_mtl.files import staged_folder

FORMAT = "art_mtl.comparison"
VERSION = 1
_MARK = "†"
_FIGURES = ("m1", "m2", "m3", "delta_mtl", "delta_wor")

__all__ = ["Compared", "compare", "comparison_csv", "comparison_json", "comparison_table", "write_comparison"]


@dataclass(frozen=True)
class Compared:
    """One row of a reproduced table, in the paper's units: mIoU and errors times 100, angles in degrees, Δ in percent.

    Attributes:
        norm: "linf" or "l2"; None for the clean row.
        eps: Radius in the scale of the model's input; None for the clean row.
        method: Name of the method, or "clean".
        printed_as: Name of the paper's row; None where the paper has none.
        measured: The metrics in the order of the tasks, Δ_MTL, Δ_Wor; None where undefined.
        printed: The same figures of the paper; None where it has no such row.
        recomputed: What the paper's own metrics give where they disagree with a printed Δ, else None.
    """

    norm: str | None
    eps: Number
    method: str
    printed_as: str | None
    measured: tuple[Number, ...]
    printed: tuple[float, ...] | None
    recomputed: tuple[Number, ...]

    @property
    def differences(self) -> tuple[Number, ...] | None:
        """Measured less printed; None where there is nothing to compare with."""
        if self.printed is None:
            return None
        return tuple(None if m is None else m - p for m, p in zip(self.measured, self.printed, strict=True))


def compare(results: Results, table: PaperTable) -> tuple[Compared, ...]:
    """Set results beside the paper's: the clean row first, then one row an attack, block by block.

    Args:
        results: Of :func:`art_mtl.evaluation.reproduction.paper_tables.reproduce`.
        table: The table that was run again.
    """
    clean = (*(_scaled(task.clean, task.scale) for task in results.tasks), 0.0, 0.0)
    rows = [_compared(table, None, None, "clean", BASELINE, clean)]
    for block in results.blocks():
        for attack in block.attacks:
            pairs = zip(attack.values, results.tasks, strict=True)
            metrics = [_scaled(value, task.scale) for value, task in pairs]
            measured = (*metrics, _scaled(attack.delta_mtl, 100.0), _scaled(attack.delta_wor, 100.0))
            rows.append(_compared(table, block.norm, block.eps, attack.name, PRINTED_AS.get(attack.name), measured))
    return tuple(rows)


def comparison_table(results: Results, table: PaperTable) -> Table:
    """The reproduced table for people: below each measured row the printed one and the difference.

    Misprinted figures bear a mark that a note explains. The strongest measured Δ_Wor of a block is bold.
    """
    best = {(block.norm, block.eps, name) for block in results.blocks() for name in best_attacks(block)}
    columns = ("", *map(heading, results.tasks), "Δ_MTL (%)", "Δ_Wor (%)")
    rows: list[Row] = []
    where: tuple[str | None, Number] = (None, None)
    for row in compare(results, table):
        if (row.norm, row.eps) != where:
            where = (row.norm, row.eps)
            rows.append(Row("block", (Cell(describe_eps(row.norm, row.eps, results.clip_values)),)))
        rows += _table_rows(row, (row.norm, row.eps, row.method) in best)
    return Table(columns, tuple(rows), _caption(results, table), tuple(_notes(results, table)))


def comparison_csv(results: Results, table: PaperTable) -> str:
    """One line a row, full precision, the paper's units and its names of columns.

    For each of m1, m2, m3, delta_mtl and delta_wor: ``…_measured``, ``…_printed`` as the paper has it, ``…_difference``
    and, where the paper's own metrics give another figure than it prints, ``…_recomputed``. ``eps_in_01`` is the radius
    for images in [0, 1].
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    kinds = ("measured", "printed", "difference", "recomputed")
    head = ("table", "data", "protocol", "norm", "eps", "eps_in_01", "method", "printed_as")
    writer.writerow([*head, *(f"{figure}_{kind}" for figure in _FIGURES for kind in kinds)])
    low, high = results.clip_values or (0.0, 1.0)
    for row in compare(results, table):
        nothing = (None,) * len(_FIGURES)
        columns = (row.measured, row.printed or nothing, row.differences or nothing, row.recomputed)
        figures = [number for quadruple in zip(*columns, strict=True) for number in quadruple]
        radii = (row.eps, None if row.eps is None else row.eps / (high - low))
        place = (table.name, table.data.title, results.protocol, row.norm, *radii, row.method, row.printed_as)
        entries = ("" if entry is None else entry for entry in (*place, *figures))
        writer.writerow([escape.csv_field(entry) if isinstance(entry, str) else entry for entry in entries])
    return out.getvalue()


def comparison_json(results: Results, table: PaperTable) -> str:
    """The rows as a JSON document, exact."""
    rows = [{**asdict(row), "differences": row.differences} for row in compare(results, table)]
    document = {
        "format": FORMAT,
        "version": VERSION,
        "table": table.name,
        "data": table.data.title,
        "victim": results.victim,
        "protocol": results.protocol,
        "samples": results.samples,
        "clip_values": results.clip_values,
        "figures": [*(heading(task) for task in results.tasks), "Δ_MTL (%)", "Δ_Wor (%)"],
        "environment": asdict(results.environment),
        "command": results.command,
        "rows": rows,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_comparison(
    folder: str | Path, results: Results, table: PaperTable, gallery: Gallery | None = None
) -> list[Path]:
    """Write a reproduced table, whole or not at all.

    ``comparison.md`` (the page: table and pictures), ``comparison.csv``, ``comparison.tex``, ``comparison.json``,
    ``results.json`` (everything that was measured; ``art-mtl show`` prints it) and ``figures/*.png``. Figures of an
    earlier run that this one lacks are removed.

    Args:
        folder: Where; made if needed.
        results: Of :func:`art_mtl.evaluation.reproduction.paper_tables.reproduce`.
        table: The table that was run again.
        gallery: Adversarial inputs to show; None for no example pictures.

    Returns:
        The files, in the folder.
    """
    folder = Path(folder)
    shown = comparison_table(results, table)
    with staged_folder(folder) as stage:
        figures = write_figures(stage / "figures", results, gallery)
        texts = {
            "comparison.csv": comparison_csv(results, table),
            "comparison.json": comparison_json(results, table),
            "comparison.tex": to_latex(shown),
            "comparison.md": _page(results, shown, figures),
            "results.json": results.to_json_text(),
        }
        for name, text in texts.items():
            (stage / name).write_text(text, encoding="utf-8", newline="\n")
        written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    remove_stale(folder / "figures", {path.name for path in written})
    return [folder / path for path in written]


def _scaled(value: Number, scale: float) -> Number:
    return None if value is None else value * scale


def _compared(
    table: PaperTable, norm: str | None, eps: Number, method: str, printed_as: str | None, measured: tuple[Number, ...]
) -> Compared:
    found = None if printed_as is None or norm not in (None, table.norm) else table.row(printed_as, eps)
    nothing: tuple[Number, ...] = (None,) * len(measured)
    if found is None:
        return Compared(norm, eps, method, None, measured, None, nothing)
    recomputed = table.misprints.get((found.method, found.eps), nothing)
    return Compared(norm, eps, method, printed_as, measured, found.figures, recomputed)


def _table_rows(row: Compared, best: bool) -> Iterator[Row]:
    measured = [_cell(value) for value in row.measured]
    if best:
        measured[-1] = Cell(measured[-1].text, measured[-1].value, bold=True)
    kind = "clean" if row.eps is None else "attack"
    metrics = len(measured) - 2  # before Δ_MTL and Δ_Wor
    measured[:metrics] = [cell if cell.value is not None else Cell(NOT_FINITE) for cell in measured[:metrics]]
    yield Row(kind, (Cell(spec_of(row.method).title), *measured), row.norm, row.eps)
    if row.printed is None or row.differences is None:
        return
    marks = ["" if own is None else _MARK for own in row.recomputed]
    printed = [Cell(f"{value:.2f}{mark}", value) for value, mark in zip(row.printed, marks, strict=True)]
    yield Row("aside", (Cell(f"paper: {row.printed_as}"), *printed), row.norm, row.eps)
    differences = [_cell(value, sign="+") for value in row.differences]
    yield Row("aside", (Cell("difference"), *differences), row.norm, row.eps)


def _cell(value: Number, sign: str = "-") -> Cell:
    # Adding 0 to a rounded number makes −0 a 0.
    return Cell(MISSING if value is None else decimals(value, sign=sign), value)


def _caption(results: Results, table: PaperTable) -> str:
    low, high = results.clip_values or (0.0, 1.0)
    whole = table.data.counts["val"]
    beside = "" if results.samples == whole else f" (the paper: {whole})"
    return (
        f"Table {table.name} of Guo et al. (ICASSP 2025), {table.data.title}, {results.samples} samples{beside}. ε is "
        f"in the scale of the model's input, [{low:g}, {high:g}]. {describe_protocol(results.protocol)}"
    )


def _notes(results: Results, table: PaperTable) -> Iterator[str]:
    names = dict(zip(_FIGURES, ("", "", "", "Δ_MTL", "Δ_Wor"), strict=True))
    for row in compare(results, table):
        for name, printed, own in zip(names.values(), row.printed or (), row.recomputed, strict=False):
            if own is not None:
                where = describe_eps(row.norm, row.eps, results.clip_values)
                yield (
                    f"{_MARK} {where}, {row.printed_as}: the paper prints {name} {printed:.2f}; the metrics that it "
                    f"prints beside it give {own:.2f}."
                )
    yield from describe_results(results)
    if results.protocol == "pooled":
        yield "The paper's own figures are by the protocol auto-lambda, which averages errors batch by batch."


def _page(results: Results, table: Table, figures: list[tuple[str, str]]) -> str:
    lines = [
        f"# {escape.markdown(table.caption.partition(',')[0])}, measured beside printed",
        "",
        *origin(results),
        escape.markdown(table.caption),
        "",
        to_markdown(table),
        "",
        "- Δ of a task is its relative degradation, −100 % is ruin. Δ_MTL is the mean over the tasks, Δ_Wor the least "
        "degraded task; bold is the strongest measured Δ_Wor of a block. A difference is measured less printed.",
        "- Authors' form: as their published code has it, with losses that are means over batches of 4. Algorithm 1: "
        "as the paper writes it, sample by sample.",
        "",
        *show(figures),
        "Files: [comparison.csv](comparison.csv), [comparison.tex](comparison.tex), "
        "[comparison.json](comparison.json), [results.json](results.json).",
        "",
    ]
    return "\n".join(lines)
