"""One table of results, shaped like the paper's, and its renderings: CSV, Markdown, HTML, LaTeX."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from art_mtl.core.methods import spec_of
from art_mtl.evaluation.experiment import fraction
from art_mtl.evaluation.report import escape
from art_mtl.evaluation.report.layout import (
    Cell,
    Row,
    Table,
    lay_out,
    screen_width,
    to_rich,
    to_text,
    wrap,
)
from art_mtl.evaluation.report.spelling import decimals, output_encoding, spelled
from art_mtl.evaluation.results import (
    AttackResult,
    Block,
    Interval,
    MeasureResult,
    Number,
    Results,
    TaskMetric,
    TaskResult,
)

MISSING = "–"
NOT_FINITE = "not finite"
_NORM_SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
_LINES = 40
"""Of a table that shows itself, at most."""
_NOTES = 20
"""Of these, notes at most."""

__all__ = [
    "Cell",
    "Row",
    "ShowsTable",
    "Table",
    "best_attacks",
    "compare_roles",
    "describe_eps",
    "describe_lost",
    "describe_results",
    "describe_warnings",
    "fraction",
    "make_table",
    "norm_symbol",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "to_text",
]


class ShowsTable(ABC):
    """What shows itself as a table: as text of at most 40 lines in a terminal, as HTML in a notebook."""

    _everything = ""
    """Where all rows and columns are to be found, as a clause."""

    @abstractmethod
    def table(self) -> Table:
        """The table, for :func:`to_markdown`, :func:`to_latex` and the like."""

    def __repr__(self) -> str:
        return _shortened(self.table(), self._everything)

    def _repr_html_(self) -> str:
        return to_html(self.table())


def _shortened(table: Table, everything: str) -> str:
    """Plain text of at most 40 lines: rows give way to notes, and what is missing is counted."""
    found = lay_out(table, elsewhere=everything)
    notes = _cut([line.text for line in found.notes], _NOTES)
    return "\n".join([*_cut([line.text for line in found.body], _LINES - len(notes), everything), *notes])


def _cut(lines: list[str], most: int, everything: str = "") -> list[str]:
    """At most so many lines; the last one counts those that are missing."""
    if len(lines) <= most:
        return lines

    def rest(count: int) -> list[str]:
        counted = spelled(f"… {count} more lines", output_encoding())
        return wrap("; ".join(filter(None, [counted, everything])), screen_width())

    kept = most - len(rest(len(lines)))
    return [*lines[:kept], *rest(len(lines) - kept)]


def make_table(results: Results, deltas: bool = False) -> Table:
    """The table of an evaluation: a clean row, then a block for each norm and radius with a row for each attack.

    The strongest Δ_Wor of a block is bold; a note says whether it is significantly so. Attacks on one task do not
    compete; the single-task reference that they make stands last in its block. What was warned of stands in the notes.

    Args:
        results: What was found.
        deltas: For machines: with a column Δ for each task, both ends of the interval as numbers, and the further
            measures with theirs.

    Examples:
        >>> from art_mtl.evaluation.results import Environment
        >>> task = TaskResult("depth", "depth", "aErr", False, 100.0, "m", 0.4057, (0.4057,))
        >>> results = Results("toy", (task,), (), (-1.0, 1.0), Environment({}, "cpu", "", None))
        >>> print(to_markdown(make_table(results)))  # doctest: +NORMALIZE_WHITESPACE
        | method | role | depth aErr ↓ (m ×100) | Δ_MTL (%) | Δ_Wor (%) | 95 % interval | per-image worst-task Δ (%) |
          gradient evaluations |
        | :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
        | clean |  | 40.57 | 0.00 | 0.00 |  | 0.00 |  |
    """
    names = tuple(f"Δ {task.name} (%)" for task in results.tasks) if deltas else ()
    interval = ("Δ_Wor 95 % from (%)", "Δ_Wor 95 % to (%)") if deltas else ("95 % interval",)
    last = ("per-image worst-task Δ (%)", "gradient evaluations")
    further = [text for one in results.measures for text in _measure_columns(one)] if deltas else []
    columns = ("method", "role", *map(heading, results.tasks), *names, "Δ_MTL (%)", "Δ_Wor (%)", *interval, *last)
    columns += tuple(further)
    clean = [_scaled(task.clean, task) for task in results.tasks]
    nothing = [_percent(0.0)] * (len(names) + 2)
    ends = [Cell("")] * len(interval)
    cells = [cell for one in results.measures for cell in _measure_cells(one, one.clean, one.clean_interval)]
    cells = cells if deltas else []
    rows = [Row("clean", (Cell("clean"), Cell(""), *clean, *nothing, *ends, _percent(0.0), Cell(""), *cells))]
    for block in results.blocks():
        rows += _block_rows(results, block, deltas)
    ranks = (0, 3, *[2] * (len(results.tasks) + len(names)), 1, 0, *[0] * len(interval), 5, 4, *[6] * len(further))
    return Table(columns, tuple(rows), _caption(results), tuple(describe_results(results)), ranks)


def best_attacks(block: Block) -> set[str]:
    """Names of the attacks that compete whose Δ_Wor is the strongest of the block, as printed: equal figures are
    equally good.
    """
    found = {attack.name: round(100 * (attack.delta_wor or 0.0), 2) for attack in block.ranked}
    return {name for name, value in found.items() if value == min(found.values())}


def heading(task: TaskMetric | MeasureResult, what: str = "") -> str:
    """Name, metric, direction, unit and scale of a task, or of a further measure of one; ``what`` stands before the
    unit.

    Examples:
        >>> heading(TaskResult("normals", "surface_normals", "mDist", False, 1.0, "degrees", 23.41, ()))
        'normals mDist ↓ (degrees)'
    """
    scale = f"×{task.scale:g}" if task.scale != 1 else ""
    unit = " ".join(part for part in (task.unit, scale) if part)
    arrow = "" if task.higher_is_better is None else " ↑" if task.higher_is_better else " ↓"
    name = task.task if isinstance(task, MeasureResult) else task.name
    return f"{name} {task.metric}{arrow}{what}" + (f" ({unit})" if unit else "")


def _measure_columns(measure: MeasureResult) -> tuple[str, str, str]:
    return heading(measure), heading(measure, " 95 % from"), heading(measure, " 95 % to")


def _measure_cells(measure: MeasureResult, value: Number, interval: Interval) -> Iterator[Cell]:
    yield _scaled(value, measure)
    yield from (Cell(MISSING) if end is None else _scaled(end, measure) for end in interval or (None, None))


def describe_eps(norm: str | None, eps: Number, clip_values: tuple[float, float] | None) -> str:
    """Norm and radius in the model's scale, and in [0, 1] if that is another one.

    Examples:
        >>> describe_eps("linf", 4 / 255, (-1.0, 1.0))
        'L∞, ε = 4/255 (2/255 in [0, 1])'
        >>> describe_eps("l2", 1.5, (0.0, 1.0))
        'L2, ε = 1.5'
    """
    symbol = norm_symbol(norm)
    if eps is None:
        return f"{symbol}, ε not stated"
    width = clip_values[1] - clip_values[0] if clip_values else 1.0
    also = f" ({fraction(eps / width)} in [0, 1])" if width != 1 else ""
    return f"{symbol}, ε = {fraction(eps)}{also}"


def norm_symbol(norm: str | None) -> str:
    """A norm as people write it."""
    return _NORM_SYMBOLS.get(norm or "", "norm not stated")


def describe_protocol(protocol: str) -> str:
    """How metrics were averaged, as a sentence.

    Examples:
        >>> describe_protocol("pooled")
        'Metrics are pooled over the data set.'
    """
    if protocol == "pooled":
        return "Metrics are pooled over the data set."
    return f"Metrics are those of the protocol {protocol}: errors are means of the means of batches of 4."


def describe_results(results: Results) -> list[str]:
    """What is to be said below a table: the verdict of each block, what Δ leaves out, what was warned of."""
    verdicts = [verdict for block in results.blocks() for verdict in _verdict(results, block)]
    return [*verdicts, *describe_lost(results), *describe_warnings(results)]


def _verdict(results: Results, block: Block) -> Iterator[str]:
    """Which attack is the strongest; nothing where no attack competes."""
    if block.strongest is None:
        return
    best, where = block.strongest, describe_eps(block.norm, block.eps, results.clip_values)
    said = f"{where}: the strongest attack is {_called(best)}, Δ_Wor {decimals(100 * (best.delta_wor or 0.0))} %"
    yield f"{said}. {compare_roles(results, block)}"


def compare_roles(results: Results, block: Block) -> str:
    """A sentence on whether the strongest attack is significantly stronger than the strongest of another role, or the
    next one where all have one role.

    Args:
        results: Where the block is from.
        block: With an attack that competes.
    """
    best, *others = block.ranked
    if not others:
        return "No other attack on all tasks ran."
    other_roles = [attack for attack in others if spec_of(attack.method).role != spec_of(best.method).role]
    runner_up = next(iter(other_roles or others))
    try:
        difference = results.difference(best, runner_up)
    except KeyError:  # results by hand, or of a file that lacks this one
        difference = None
    if difference is None or difference.delta_wor_interval is None:
        return f"There is no interval of its difference from {_called(runner_up)}."
    low, high = (decimals(100 * end) for end in difference.delta_wor_interval)
    interval = f"the paired 95 % interval of their difference, [{low}, {high}] points"
    if difference.stronger == best.name:
        return f"It is significantly stronger than {_called(runner_up)}: {interval}, excludes 0."
    return f"It is not significantly stronger than {_called(runner_up)}: {interval}, includes 0."


def _called(attack: AttackResult) -> str:
    return f"{attack.name} ({spec_of(attack.method).role})"


def describe_warnings(results: Results) -> Iterator[str]:
    """Each warning once, with all that it was given for."""
    given: dict[str, dict[str, None]] = {text: {"clean inputs": None} for text in results.warnings}
    for attack in results.attacks:
        for text in attack.warnings:
            given.setdefault(text, {})[attack.name] = None
    for text, names in given.items():
        yield f"Warning ({', '.join(names)}): {text}"


def describe_lost(results: Results) -> list[str]:
    """Sentences on the tasks that Δ leaves out: of all attacks, then attack by attack; none where there is none."""
    lost = [task.name for task in results.tasks if task.higher_is_better and task.clean == 0]
    notes = [f"Δ leaves out {', '.join(lost)}, whose clean score is 0."] if lost else []
    for attack in results.attacks:
        pairs = zip(results.tasks, attack.values, strict=True)
        lost = [task.name for task, value in pairs if value is None]
        if lost:
            where = describe_eps(attack.norm, attack.eps, results.clip_values)
            notes.append(f"{where}: Δ of {attack.name} leaves out {', '.join(lost)}, whose metric is not finite.")
    return notes


def to_csv(table: Table) -> str:
    """Comma-separated, full precision, unscaled; norm and radius in columns of their own, no headings between rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["norm", "eps", *(escape.csv_field(_plain(column)) for column in table.columns)])
    for row in table.rows:
        if row.kind == "block":
            continue
        values = [row.norm, row.eps, row.cells[0].text, *(cell.value for cell in row.cells[1:])]
        writer.writerow([escape.csv_field(v) if isinstance(v, str) else "" if v is None else repr(v) for v in values])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A Markdown table, without a line break at its end."""
    width = len(table.columns)
    lines = [_markdown_row(map(escape.markdown, table.columns)), "| :--- |" + " ---: |" * (width - 1)]
    for row in table.rows:
        texts = [_marked(escape.markdown(cell.text), "**", "**", cell.bold) for cell in row.cells]
        if row.kind == "block":
            texts = [f"**{texts[0]}**", *[""] * (width - 1)]
        lines.append(_markdown_row(texts))
    for note in table.notes:
        lines += ["", escape.markdown(note)]
    return "\n".join(lines)


def to_html(table: Table) -> str:
    """An HTML table, for a notebook or a page; it needs no style sheet and no script.

    Examples:
        >>> print(to_html(Table(("method", "a"), (Row("attack", (Cell("<b>"), Cell("1.00", 1.0, bold=True))),), "toy")))
        <table class="art-mtl">
        <caption>toy</caption>
        <thead><tr><th>method</th><th>a</th></tr></thead>
        <tbody>
        <tr class="attack"><td>&lt;b&gt;</td><td><b>1.00</b></td></tr>
        </tbody>
        </table>
    """
    heads = "".join(f"<th>{escape.html(column)}</th>" for column in table.columns)
    lines = [
        '<table class="art-mtl">',
        f"<caption>{escape.html(table.caption)}</caption>",
        f"<thead><tr>{heads}</tr></thead>",
        "<tbody>",
    ]
    for row in table.rows:
        cells = [_marked(escape.html(cell.text), "<b>", "</b>", cell.bold) for cell in row.cells]
        if row.kind == "block":
            inner = f'<th colspan="{len(table.columns)}">{cells[0]}</th>'
        else:
            inner = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr class="{escape.html(row.kind)}">{inner}</tr>')
    notes = [f"<p>{escape.html(note)}</p>" for note in table.notes]
    return "\n".join([*lines, "</tbody>", "</table>", *notes])


def to_latex(table: Table) -> str:
    """A LaTeX ``table`` with a plain ``tabular``; needs no package."""
    width = len(table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape.latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\hline",
        " & ".join(map(escape.latex, table.columns)) + r" \\",
        r"\hline",
    ]
    for row in table.rows:
        texts = [_marked(escape.latex(cell.text), r"\textbf{", "}", cell.bold) for cell in row.cells]
        if row.kind == "block":
            lines += [r"\hline", rf"\multicolumn{{{width}}}{{l}}{{{texts[0]}}} \\"]
        else:
            lines.append(" & ".join(texts) + r" \\")
    notes = [rf"\par {escape.latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", *notes, r"\end{table}", ""])


def _marked(text: str, before: str, after: str, bold: bool) -> str:
    return f"{before}{text}{after}" if bold else text


def _block_rows(results: Results, block: Block, deltas: bool) -> Iterator[Row]:
    yield Row("block", (Cell(describe_eps(block.norm, block.eps, results.clip_values)),))
    best = best_attacks(block)
    for attack in block.attacks:
        yield _attack_row(attack, results, deltas, attack.name in best)
    reference = results.reference(block)
    if reference is not None:
        yield _attack_row(reference, results, deltas, False)


def _attack_row(attack: AttackResult, results: Results, deltas: bool, best: bool) -> Row:
    spec = spec_of(attack.method)
    values = [_scaled(value, task) for value, task in zip(attack.values, results.tasks, strict=True)]
    degradations = [_percent(value) for value in attack.deltas] if deltas else []
    summary = (_percent(attack.delta_mtl), _percent(attack.delta_wor, best))
    interval = map(_percent, attack.delta_wor_interval or (None, None)) if deltas else [_interval(attack)]
    cells = (*values, *degradations, *summary, *interval, _percent(attack.least_degradation), _count(attack))
    if deltas:
        further = zip(results.measures, attack.measures, attack.measure_intervals, strict=True)
        cells += tuple(cell for one in further for cell in _measure_cells(*one))
    kind = "reference" if spec.is_reference else "attack"
    return Row(kind, (Cell(attack.name), Cell(spec.role, spec.role), *cells), attack.norm, attack.eps)


def _interval(attack: AttackResult) -> Cell:
    ends: Interval = attack.delta_wor_interval
    return Cell(MISSING if ends is None else "[{}, {}]".format(*(decimals(100 * end) for end in ends)))


def _count(attack: AttackResult) -> Cell:
    count = attack.gradient_evaluations
    return Cell(MISSING if count is None else f"{count:.4g}" if count < 1e4 else f"{count:.0f}", count)


def _scaled(value: Number, task: TaskResult | MeasureResult) -> Cell:
    return Cell(NOT_FINITE if value is None else decimals(value * task.scale), value)


def _percent(value: Number, bold: bool = False) -> Cell:
    return Cell(MISSING if value is None else decimals(100 * value), value, bold)


def _caption(results: Results) -> str:
    parts = [f"{results.victim}, {results.samples} samples."]
    if results.clip_values is not None:
        low, high = results.clip_values
        parts.append(f"ε is in the scale of the model's input, [{low:g}, {high:g}].")
    parts.append(describe_protocol(results.protocol))
    return " ".join(parts)


def _plain(column: str) -> str:
    """A heading for machines: without the scale, which CSV does not apply."""
    name, found, unit = column.rpartition(" (")
    if not found:
        return column
    unit = " ".join(part for part in unit.removesuffix(")").split() if not part.startswith(("×", "%")))
    return f"{name} ({unit})" if unit else name


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"
