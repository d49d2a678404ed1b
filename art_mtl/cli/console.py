"""What the commands tell people: messages on standard error, tables on standard output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from art_mtl.evaluation.report.tables import Table

PROGRAM = "art-mtl"
_NARROWEST = 150


def console() -> Console:
    """For standard output; wide where that is a file, so that tables do not wrap."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_NARROWEST)


def show_table(table: Table, form: str, caption: bool = True) -> None:
    """Print a table.

    Args:
        table: To print.
        form: "terminal", "markdown" or "latex".
        caption: Whether Markdown has the caption above the table.
    """
    from art_mtl.evaluation.report.tables import to_latex, to_markdown, to_rich

    if form == "terminal":
        console().print(to_rich(table))
    elif form == "latex":
        sys.stdout.write(to_latex(table))
    else:
        sys.stdout.write(f"{table.caption}\n\n{to_markdown(table)}\n" if caption else f"{to_markdown(table)}\n")


def say(message: object) -> None:
    """A message to people, one line on standard error."""
    print(f"{PROGRAM}: {one_line(message)}", file=sys.stderr)


def one_line(message: object) -> str:
    """White space, line breaks too, as single spaces, and nothing that a terminal would obey or not show.

    Examples:
        >>> one_line("a\\n  name with \\x1b[2Jescapes")
        'a name with [2Jescapes'
    """
    return " ".join("".join(c if c.isprintable() or c.isspace() else "" for c in str(message)).split())


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """In place of :func:`warnings.showwarning`."""
    say(f"warning: {message}")


class _LogLines(logging.Handler):
    """What the package logs, as messages to people."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        say(record.getMessage())


@contextmanager
def log_shown() -> Iterator[None]:
    """Show what the package logs, from information upwards."""
    log, handler = logging.getLogger("art_mtl"), _LogLines()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
