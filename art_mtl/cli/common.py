"""What the commands share: the parser, numbers, the console, messages."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "art-mtl"
VICTIMS = "rooms, rooms-robust, digits, multilabel, nyuv2, cityscapes or PATH.py:function"
"""What ``--victim`` takes."""
_NARROWEST = 150


class Parser(argparse.ArgumentParser):
    """Tells an error in one line."""

    def error(self, message: str) -> NoReturn:
        """One line, no usage."""
        say(f"error: {message} (see {self.prog} --help)")
        raise SystemExit(2)


def add_command(commands: Any, name: str, **texts: str) -> argparse.ArgumentParser:
    """A subcommand with the options that all have."""
    command: argparse.ArgumentParser = commands.add_parser(name, **texts)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def count(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    return _integer(text, least=1)


def batch_size(text: str) -> int | str:
    """An argument that is a whole number of at least 1, or "auto"."""
    return text if text == "auto" else count(text)


def preparation(text: str) -> str:
    """An argument that :meth:`art_mtl.prepared.Preparation.parse` understands."""
    from art_mtl.prepared import Preparation

    try:
        Preparation.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def seed(text: str) -> int:
    """An argument that is a whole number of at least 0."""
    return _integer(text, least=0)


def _integer(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; found {text!r}")
    return int(text)


def console() -> Console:
    """For standard output; wide where that is a file, so that tables do not wrap."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_NARROWEST)


def say(message: str) -> None:
    """A message to people, on standard error."""
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """In place of :func:`warnings.showwarning`."""
    say(f"warning: {one_line(message)}")


class Told(logging.Handler):
    """What the package logs, as messages to people."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        say(one_line(record.getMessage()))


@contextmanager
def logs_told() -> Iterator[None]:
    """Show what the package logs, from information upwards."""
    log, handler = logging.getLogger("art_mtl"), Told()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def one_line(message: object) -> str:
    """White space, line breaks too, as single spaces."""
    return " ".join(str(message).split())
