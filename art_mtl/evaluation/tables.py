"""One table of results, shaped like the paper's, and its renderings: terminal, CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from art_mtl.evaluation.results import AttackResult, Block, Number, Results, TaskResult

if TYPE_CHECKING:
    import rich.table

    from art_mtl.evaluation.measure import MetricSpec

MISSING = "–"
NOT_FINITE = "not finite"
_NORM_SYMBOLS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "ε": r"$\varepsilon$",
    "∞": r"$\infty$",
    "–": "--",
    "−": "$-$",
    "†": r"$\dagger$",
}
_MARKDOWN = {"\\": "\\\\", "|": r"\|", "*": r"\*", "`": r"\`", "<": "&lt;"}

__all__ = [
    "Cell",
    "Row",
    "Table",
    "best_attacks",
    "describe_eps",
    "make_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_rich",
]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: As people read it.
        value: The number behind it, unscaled, or None.
        bold: Whether it is the best of its block.
    """

    text: str
    value: Number = None
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        kind: "clean", "attack", "bound", "aside" for what stands beside the row above it, or "block" for a heading over
            the rows that follow, which has one cell.
        cells: As many as the table has columns, or one.
        norm: Of an attack.
        eps: Of an attack.
    """

    kind: str
    cells: tuple[Cell, ...]
    norm: str | None = None
    eps: Number = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Headings, in plain Unicode.
        rows: From top to bottom.
        caption: What it shows.
        notes: Stand below it.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...] = ()


def make_table(results: Results, deltas: bool = False) -> Table:
    """The table of an evaluation: a clean row, then a block for each norm and radius with a row for each attack.

    The strongest Δ_Wor of a block is bold; the bound, which is no attack, stands last in its block and does not
    compete.

    Args:
        results: What was found.
        deltas: With a column Δ for each task.

    Examples:
        >>> from art_mtl.evaluation.results import Environment
        >>> task = TaskResult("depth", "depth", "aErr", False, 100.0, "m", 0.4057, (0.4057,))
        >>> results = Results("toy", (task,), (), (-1.0, 1.0), Environment({}, "cpu", "", None))
        >>> print(to_markdown(make_table(results)))
        | method | depth aErr ↓ (m ×100) | Δ_MTL (%) | Δ_Wor (%) | mean least Δ (%) |
        | :--- | ---: | ---: | ---: | ---: |
        | clean | 40.57 | 0.00 | 0.00 | 0.00 |
    """
    names = tuple(f"Δ {task.name} (%)" for task in results.tasks) if deltas else ()
    columns = ("method", *map(heading, results.tasks), *names, "Δ_MTL (%)", "Δ_Wor (%)", "mean least Δ (%)")
    clean = [_scaled(task.clean, task) for task in results.tasks]
    nothing = [_percent(0.0)] * (len(names) + 3)
    rows = [Row("clean", (Cell("clean"), *clean, *nothing))]
    for block in results.blocks():
        rows += _block_rows(results, block, deltas)
    return Table(columns, tuple(rows), _caption(results), tuple(describe_lost(results)))


def best_attacks(block: Block) -> set[str]:
    """Names of the attacks whose Δ_Wor is the strongest of the block, as printed: equal figures are equally good.

    An attack under which a metric is not finite is not compared: its Δ_Wor is that of fewer tasks.
    """
    compared = [attack for attack in block.attacks if attack.delta_wor is not None and None not in attack.values]
    found = {attack.name: round(100 * (attack.delta_wor or 0.0), 2) for attack in compared}
    return {name for name, value in found.items() if value == min(found.values())}


def heading(task: TaskResult | MetricSpec) -> str:
    """Name, metric, direction, unit and scale of a task.

    Examples:
        >>> heading(TaskResult("normals", "surface_normals", "mDist", False, 1.0, "degrees", 23.41, ()))
        'normals mDist ↓ (degrees)'
    """
    scale = f"×{task.scale:g}" if task.scale != 1 else ""
    unit = " ".join(part for part in (task.unit, scale) if part)
    arrow = "↑" if task.higher_is_better else "↓"
    return f"{task.name} {task.metric} {arrow}" + (f" ({unit})" if unit else "")


def describe_eps(norm: str | None, eps: Number, clip_values: tuple[float, float] | None) -> str:
    """Norm and radius in the model's scale, and in [0, 1] if that is another one.

    Examples:
        >>> describe_eps("linf", 4 / 255, (-1.0, 1.0))
        'L∞, ε = 4/255 (2/255 in [0, 1])'
        >>> describe_eps("l2", 1.5, (0.0, 1.0))
        'L2, ε = 1.5'
    """
    symbol = _NORM_SYMBOLS.get(norm or "", "norm not stated")
    if eps is None:
        return f"{symbol}, ε not stated"
    width = clip_values[1] - clip_values[0] if clip_values else 1.0
    also = f" ({fraction(eps / width)} in [0, 1])" if width != 1 else ""
    return f"{symbol}, ε = {fraction(eps)}{also}"


def describe_protocol(protocol: str) -> str:
    """How metrics were averaged, as a sentence.

    Examples:
        >>> describe_protocol("pooled")
        'Metrics are pooled over the data set.'
    """
    if protocol == "pooled":
        return "Metrics are pooled over the data set."
    return f"Metrics are those of the protocol {protocol}: errors are means of the means of batches of 4."


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


def fraction(value: float) -> str:
    """A radius as people write it: short decimals, or grey levels of 255.

    Examples:
        >>> fraction(8 / 255), fraction(1 / 510), fraction(0.05), fraction(5.0)
        ('8/255', '0.5/255', '0.05', '5')
    """
    if float(f"{value:.3g}") != value and value < 1:
        levels = round(2 * 255 * value)
        if abs(levels - 2 * 255 * value) < 1e-6:
            return f"{levels / 2:g}/255"
    return f"{value:.6g}"


def to_rich(table: Table) -> rich.table.Table:
    """For the terminal."""
    import rich.box
    import rich.table
    from rich.text import Text

    made = rich.table.Table(title=Text(table.caption), box=rich.box.SIMPLE_HEAD, title_justify="left", title_style="")
    if table.notes:
        made.caption, made.caption_justify, made.caption_style = Text("\n".join(table.notes)), "left", ""
    for i, column in enumerate(table.columns):
        # Text, not str: names of tasks and victims may hold rich's square brackets.
        name = Text(column.replace(" ", "\n", 1))
        made.add_column(name, justify="left" if i == 0 else "right", overflow="fold", no_wrap=i == 0)
    for row in table.rows:
        if row.kind == "block":
            made.add_section()
            made.add_row(Text(row.cells[0].text, style="bold cyan"))
            continue
        style = {"bound": "dim italic", "clean": "green", "aside": "dim"}.get(row.kind, "")
        made.add_row(*(Text(cell.text, style="bold yellow" if cell.bold else style) for cell in row.cells))
    return made


def to_csv(table: Table) -> str:
    """Comma-separated, full precision, unscaled; norm and radius in columns of their own, no headings between rows."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["norm", "eps", *(_plain(column) for column in table.columns)])
    for row in table.rows:
        if row.kind == "block":
            continue
        numbers = ["" if cell.value is None else repr(cell.value) for cell in row.cells[1:]]
        writer.writerow([row.norm or "", "" if row.eps is None else repr(row.eps), row.cells[0].text, *numbers])
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A Markdown table, without a line break at its end."""
    width = len(table.columns)
    lines = [_markdown_row(table.columns), "| :--- |" + " ---: |" * (width - 1)]
    for row in table.rows:
        texts = [_markdown_cell(cell) for cell in row.cells]
        if row.kind == "block":
            texts = [f"**{texts[0]}**", *[""] * (width - 1)]
        lines.append(_markdown_row(texts))
    for note in table.notes:
        lines += ["", _escape_markdown(note)]
    return "\n".join(lines)


def to_latex(table: Table) -> str:
    """A LaTeX ``table`` with a plain ``tabular``; needs no package."""
    width = len(table.columns)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}",
        r"\hline",
        " & ".join(map(escape_latex, table.columns)) + r" \\",
        r"\hline",
    ]
    for row in table.rows:
        texts = [_latex_cell(cell) for cell in row.cells]
        if row.kind == "block":
            lines += [r"\hline", rf"\multicolumn{{{width}}}{{l}}{{{texts[0]}}} \\"]
        else:
            lines.append(" & ".join(texts) + r" \\")
    notes = [rf"\par {escape_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\hline", r"\end{tabular}", *notes, r"\end{table}", ""])


def escape_latex(text: str) -> str:
    r"""Text as LaTeX prints it.

    Examples:
        >>> print(escape_latex("Δ_Wor (%) of a_b"))
        $\Delta_{\mathrm{Wor}}$ (\%) of a\_b
    """
    for name in ("MTL", "Wor"):
        text = text.replace(f"Δ_{name}", f"\0{name}\0")
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    for name in ("MTL", "Wor"):
        escaped = escaped.replace(f"\0{name}\0", rf"$\Delta_{{\mathrm{{{name}}}}}$")
    return _minus(escaped.replace("Δ", r"$\Delta$"))


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _minus(text: str) -> str:
    """A leading hyphen of a number as a minus."""
    return re.sub(r"^-\d+(\.\d+)?", lambda number: f"${number[0]}$", text)


def _block_rows(results: Results, block: Block, deltas: bool) -> Iterator[Row]:
    yield Row("block", (Cell(describe_eps(block.norm, block.eps, results.clip_values)),))
    best = best_attacks(block)
    for attack in block.attacks:
        yield _attack_row("attack", attack, results, deltas, attack.name in best)
    bound = results.reference(block)
    if bound is not None:
        yield _attack_row("bound", bound, results, deltas, False)


def _attack_row(kind: str, attack: AttackResult, results: Results, deltas: bool, best: bool) -> Row:
    values = [_scaled(value, task) for value, task in zip(attack.values, results.tasks, strict=True)]
    degradations = [_percent(value) for value in attack.deltas] if deltas else []
    summary = (_percent(attack.delta_mtl), _percent(attack.delta_wor, best), _percent(attack.least_degradation))
    return Row(kind, (Cell(attack.name), *values, *degradations, *summary), attack.norm, attack.eps)


def _scaled(value: Number, task: TaskResult) -> Cell:
    return Cell(NOT_FINITE if value is None else f"{value * task.scale:.2f}", value)


def _percent(value: Number, bold: bool = False) -> Cell:
    return Cell(MISSING if value is None else f"{100 * value + 0.0:.2f}", value, bold)


def _caption(results: Results) -> str:
    parts = [f"{results.victim}, {results.samples} samples."]
    if results.clip_values is not None:
        low, high = results.clip_values
        parts.append(f"ε is in the scale of the model's input, [{low:g}, {high:g}].")
    parts.append(describe_protocol(results.protocol))
    return " ".join(parts)


def _plain(column: str) -> str:
    """A heading for machines: without the scale, which CSV does not apply."""
    name, _, unit = column.partition(" (")
    unit = " ".join(part for part in unit.removesuffix(")").split() if not part.startswith(("×", "%")))
    return f"{name} ({unit})" if unit else name


def _markdown_row(texts: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = _escape_markdown(cell.text)
    return f"**{text}**" if cell.bold else text


def _escape_markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(letter, letter) for letter in text)
