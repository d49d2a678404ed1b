"""A table, and how it is shown in as many columns of text as there are: in a terminal, in a pipe, as ``repr``.

No number is ever broken. Where the room is short, in this order: headings and texts are wrapped, the least important
columns are left out, names are broken, and the table is transposed, a block for each of its columns.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from art_mtl.evaluation.report import escape
from art_mtl.evaluation.report.spelling import output_encoding, spelled

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

WIDTH = 80
"""Columns of text where there is no terminal."""
_READABLE = 20
"""A column of sentences is not made narrower than this where another layout fits."""
_LATE = 3
"""Columns of a greater rank are left out before a name is broken."""
_GAP = 2
_PIECE = re.compile(r"(?:\[[^\[\]]{,60}\]|\S)+(?: [%*†][^\w\s]*(?=\s|$))?")
"""What is kept together: a word, a number with its mark or percent sign, an interval."""
_PART = re.compile(r"(?<=[^\W\d][:_-])(?=[^\W\d])")
"""Where a word that is too long may be broken: in "single:depth" and "worst-task", in no number."""
_STYLES = {
    "head": "bold", "block": "bold cyan", "reference": "dim italic", "clean": "green", "aside": "dim", "figure": "bold",
}  # fmt: skip

__all__ = ["WIDTH", "Cell", "Layout", "Line", "Row", "Table", "lay_out", "screen_width", "to_rich", "to_text", "wrap"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: As people read it.
        value: What is behind it: a number, unscaled, or a word; or None.
        bold: Whether it is the best of its block.
    """

    text: str
    value: float | str | None = None
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        kind: "clean", "attack", "reference" for attacks on one task, "aside" for what stands beside the row above it,
            or "block" for a heading over the rows that follow, which has one cell.
        cells: As many as the table has columns, or one.
        norm: Of an attack.
        eps: Of an attack.
    """

    kind: str
    cells: tuple[Cell, ...]
    norm: str | None = None
    eps: float | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Headings, in plain Unicode.
        rows: From top to bottom.
        caption: What it shows.
        notes: Stand below it.
        ranks: Of each column, how soon it is left out where the room is short: the greatest number first, 0 never.
            None given: no column is left out.
        keys: So many columns at the left name a row.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str
    notes: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    keys: int = 1


@dataclass(frozen=True)
class Line:
    """One line of text.

    Attributes:
        text: Of the line.
        kind: That of its row, or "caption", "head", "rule", "note", "figure" for the heading of a transposed column.
        bold: Where the text is of cells that are the best of their block: beginnings and ends.
    """

    text: str
    kind: str
    bold: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Layout:
    """The lines of a table.

    Attributes:
        body: Caption and table.
        notes: What stands below it.
    """

    body: tuple[Line, ...]
    notes: tuple[Line, ...]


def screen_width() -> int:
    """Columns of the terminal, or of the variable COLUMNS; 80 where there is neither, such as in a pipe."""
    return shutil.get_terminal_size((WIDTH, 24)).columns


def to_text(table: Table, width: int | None = None, encoding: str | None = None, elsewhere: str = "") -> str:
    """Plain text in columns.

    Args:
        table: To show.
        width: Columns of text. None: those of the terminal, 80 where there is none.
        encoding: What it cannot show is written in words. None: that of standard output.
        elsewhere: Where columns that are left out are to be found, as a clause.

    Examples:
        >>> table = Table(("method", "a"), (Row("attack", (Cell("equal"), Cell("-1.00", -0.01))),), "toy")
        >>> print(to_text(table, encoding="utf-8"))
        toy
        method      a
        ─────────────
        equal   -1.00
    """
    found = lay_out(table, width, encoding, elsewhere)
    return "\n".join(line.text for line in (*found.body, *found.notes))


def to_rich(table: Table, elsewhere: str = "") -> _OnScreen:
    """For ``rich``'s ``Console.print``, in the columns and the encoding of that console.

    Args:
        table: To show.
        elsewhere: Where columns that are left out are to be found, as a clause.
    """
    return _OnScreen(table, elsewhere)


@dataclass(frozen=True)
class _OnScreen:
    """What ``rich`` prints."""

    table: Table
    elsewhere: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        found = lay_out(self.table, options.max_width, options.encoding, self.elsewhere)
        for line in (*found.body, *found.notes):
            # Text, and not markup, since names may hold rich's square brackets.
            text = Text(line.text, style=_STYLES.get(line.kind, ""), no_wrap=True, overflow="ignore")
            for start, end in line.bold:
                text.stylize("bold yellow", start, end)
            yield text


def lay_out(table: Table, width: int | None = None, encoding: str | None = None, elsewhere: str = "") -> Layout:
    """The lines of a table; see :func:`to_text`."""
    width = screen_width() if width is None else width
    encoding = output_encoding() if encoding is None else encoding
    table = _spelled(table, encoding)
    kept = (
        _kept(table, width, _READABLE, down_to=_LATE, broken=False)
        or _kept(table, width, _READABLE)
        or _kept(table, width, 0)
    )
    left_out = [] if kept is None else [name for i, name in enumerate(table.columns) if i not in kept]
    body = [Line(text, "caption") for text in wrap(table.caption, width)]
    body += _transposed(table, width) if kept is None else _in_columns(table, width, kept, spelled("─", encoding))
    notes = list(table.notes)
    if left_out:
        notes.insert(
            0, f"Left out in {width} columns: {', '.join(left_out)}; {elsewhere or 'a wider terminal shows them'}."
        )
    return Layout(tuple(body), tuple(Line(text, "note") for note in notes for text in wrap(note, width)))


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most so many columns of text, in which no number is broken; longer ones stand alone.

    Examples:
        >>> wrap("Δ_Wor -29.06 % [-31.06, -28.06]", 16)
        ['Δ_Wor -29.06 %', '[-31.06, -28.06]']
    """
    lines = [""]
    for piece in (part for whole in _PIECE.findall(text) for part in _parts(whole, width)):
        longer = f"{lines[-1]} {piece}" if lines[-1] else piece
        if lines[-1] and _size(longer) > width:
            lines.append(piece)
        else:
            lines[-1] = longer
    return lines


def _parts(piece: str, width: int) -> list[str]:
    """A piece, in parts where it is longer than so many columns of text."""
    return [piece] if _size(piece) <= width else _PART.split(piece)


def _spelled(table: Table, encoding: str) -> Table:
    """With nothing that a terminal would obey, and nothing that it cannot show."""

    def shown(text: str) -> str:
        return spelled(escape.plain(text), encoding)

    rows = [replace(row, cells=tuple(replace(c, text=shown(c.text)) for c in row.cells)) for row in table.rows]
    columns, notes = tuple(map(shown, table.columns)), tuple(map(shown, table.notes))
    return replace(table, columns=columns, rows=tuple(rows), caption=shown(table.caption), notes=notes)


def _kept(table: Table, width: int, readable: int, down_to: int = 0, broken: bool = True) -> list[int] | None:
    """The columns that are shown; None where the most important ones do not fit.

    Args:
        table: To show.
        width: Columns of text.
        readable: Texts are not made narrower than this.
        down_to: Columns of this rank and of lower ones count as the most important.
        broken: Whether names may be broken.
    """
    least = [_least(table, i, readable, broken) for i in range(len(table.columns))]
    ranks = table.ranks or (0,) * len(least)
    for rank in range(max(ranks), down_to - 1, -1):
        kept = [i for i, own in enumerate(ranks) if own <= rank]
        if _total(least[i] for i in kept) <= width:
            return kept
    return None


def _least(table: Table, column: int, readable: int, broken: bool = True) -> int:
    """The narrowest that a column may be."""
    texts = _texts(table, column)
    pieces = [piece for text in (table.columns[column], *texts) for piece in _PIECE.findall(text)]
    sentences = column >= table.keys and _is_text(table, column)
    least = min(max(map(_size, texts), default=0), readable) if sentences else 0
    parts = [part for piece in pieces for part in _parts(piece, 0)] if broken else pieces
    return max([least, *map(_size, parts)])


def _in_columns(table: Table, width: int, kept: Sequence[int], rule: str) -> Iterator[Line]:
    """Headings, a rule of that character, rows."""
    for readable, broken in ((_READABLE, False), (_READABLE, True), (0, True)):
        widths = [_least(table, i, readable, broken) for i in kept]
        if _total(widths) <= width:
            break
    # First the cells get what they ask for, from left to right, then the headings.
    cells = [max(map(_size, _texts(table, i)), default=0) for i in kept]
    for asked in (cells, [_size(table.columns[i]) for i in kept]):
        for place, size in enumerate(asked):
            widths[place] = max(widths[place], min(size, widths[place] + width - _total(widths)))
    left = [i < table.keys or _is_text(table, i) for i in kept]
    yield from _row([Cell(table.columns[i]) for i in kept], widths, left, "head")
    yield Line(rule * _total(widths), "rule")
    for row in table.rows:
        if row.kind == "block":
            yield from (Line(text, "block") for text in wrap(row.cells[0].text, width))
        else:
            yield from _row([row.cells[i] for i in kept], widths, left, row.kind)


def _row(cells: Sequence[Cell], widths: Sequence[int], left: Sequence[bool], kind: str) -> Iterator[Line]:
    """A row, whose cells may have several lines; headings stand at the bottom of theirs."""
    wrapped = [wrap(cell.text, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, wrapped))
    for number in range(height):
        text, bold = "", []
        for cell, lines, width, is_left in zip(cells, wrapped, widths, left, strict=True):
            place = number - (height - len(lines) if kind == "head" else 0)
            own = lines[place] if 0 <= place < len(lines) else ""
            space = " " * (width - _size(own))
            if cell.bold:
                start = len(text) + (0 if is_left else len(space))
                bold.append((start, start + len(own)))
            text += (own + space if is_left else space + own) + " " * _GAP
        yield Line(text.rstrip(), kind, tuple(bold))


def _transposed(table: Table, width: int) -> Iterator[Line]:
    """A block for each column, the most important one first."""
    keys, ranks = table.keys, table.ranks or (0,) * len(table.columns)
    for column in sorted(range(keys, len(table.columns)), key=lambda i: ranks[i]):
        yield from (Line(text, "figure") for text in wrap(table.columns[column], width))
        for row in table.rows:
            if row.kind == "block":
                yield from (Line(text, "block") for text in wrap(row.cells[0].text, width))
            elif row.cells[column].text:
                cell, name = row.cells[column], " ".join(one.text for one in row.cells[:keys])
                yield from _named(name, cell, width, row.kind)


def _named(name: str, cell: Cell, width: int, kind: str) -> Iterator[Line]:
    """A name and what belongs to it, on one line where that fits."""
    taken = _size(name) + _size(cell.text)
    space = max(_GAP, min(width, WIDTH // 2) - taken)
    if taken + space <= width:
        start = len(name) + space
        text = f"{name}{' ' * space}{cell.text}"
        yield Line(text, kind, ((start, len(text)),) if cell.bold else ())
        return
    yield from (Line(text, kind) for text in wrap(name, width))
    yield from (Line(f"  {text}", kind) for text in wrap(cell.text, max(width - 2, 1)))


def _texts(table: Table, column: int) -> list[str]:
    return [row.cells[column].text for row in table.rows if row.kind != "block"]


def _is_text(table: Table, column: int) -> bool:
    """Whether a column holds words, no numbers."""
    return all(re.search(r"[^\W\d_]{2}", text) for text in _texts(table, column) if text)


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


def _size(text: str) -> int:
    """Columns that a terminal gives a text: two to each wide letter of East Asia, none to an accent."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
