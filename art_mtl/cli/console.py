"""What the commands tell people: messages on standard error, tables on standard output."""

from __future__ import annotations

import io
import logging
import os
import select
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.evaluation.report.spelling import HANDLER, output_encoding, spelled

if TYPE_CHECKING:
    from rich.console import Console

    from art_mtl.evaluation.report.layout import Table

PROGRAM = "art-mtl"
NOTHING_KEPT = "nothing is kept without --out DIR, with which the run can also go on after an interruption."

_INDENT = 24
_NARROW = 60
"""In fewer columns of text there is no room for two of them."""


def console() -> Console:
    """For standard output, as wide as the terminal; 80 columns where there is none."""
    from rich.console import Console

    from art_mtl.evaluation.report.layout import screen_width

    return Console(width=screen_width())


def show_table(table: Table, form: str, caption: bool = True, elsewhere: str = "") -> None:
    """Print a table.

    Args:
        table: To print.
        form: "terminal", "markdown" or "latex".
        caption: Whether Markdown has the caption above the table.
        elsewhere: Where columns are to be found that the terminal has no room for, as a clause.
    """
    from art_mtl.evaluation.report.layout import to_rich
    from art_mtl.evaluation.report.tables import to_latex, to_markdown

    if form == "terminal":
        screen = console()
        with screen.capture() as shown:
            screen.print(to_rich(table, elsewhere), soft_wrap=True)
        sys.stdout.write(shown.get())
    elif form == "latex":
        sys.stdout.write(to_latex(table))
    else:
        sys.stdout.write(f"{table.caption}\n\n{to_markdown(table)}\n" if caption else f"{to_markdown(table)}\n")


def two_columns(entries: Mapping[str, str]) -> Iterator[str]:
    """Lines with names on the left and texts on the right; the texts below the names where there is no room.

    Args:
        entries: Texts by name.
    """
    from art_mtl.evaluation.report.layout import screen_width, wrap

    width, encoding = screen_width(), output_encoding()
    indent = _INDENT if width >= _NARROW else 4
    for name, text in entries.items():
        lines, left = wrap(spelled(text, encoding), max(width - indent, 1)), f"  {name}"
        if len(left) + 2 > indent:
            yield left
            left = ""
        yield from (f"{left if place == 0 else '':<{indent}}{line}" for place, line in enumerate(lines))


def say(message: object) -> None:
    """A message to people, one line on standard error, above a progress bar."""
    text = f"{PROGRAM}: {one_line(message)}"
    bar = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if bar is None:
        print(text, file=sys.stderr)
    else:
        bar.write(text, file=sys.stderr)


def say_written(written: Sequence[Path], first: str = "report.html") -> None:
    """Say where the files of a report are, and which to read first.

    Args:
        written: The files.
        first: Name of that one, where there are several.
    """
    start = next((path for path in written if path.name == first), written[0])
    say(f"{len(written)} file{'s' * (len(written) > 1)} in {start.parent}; start with {start}")


@contextmanager
def all_shown() -> Iterator[None]:
    """Standard output and standard error write in words what their encoding cannot show."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors=HANDLER)
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            with suppress(OSError, ValueError):  # closed, or nobody reads it
                stream.reconfigure(errors=errors)


def unread() -> bool:
    """Whether standard output or standard error cannot be written any more; what is printed there is then dropped."""
    found = False
    for stream in (sys.stdout, sys.stderr):
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):  # a stream of Python's own
            continue
        try:
            stream.flush()
            lost = _has_no_reader(descriptor)
        except OSError:
            lost = True
        if lost:
            found = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return found


def _has_no_reader(descriptor: int) -> bool:
    """Whether a pipe is closed at its other end; what was written to it may be lost already."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def interruption_says(message: str) -> Iterator[None]:
    """Ctrl-C means this, where nothing more exact is said."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or message) from None


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
