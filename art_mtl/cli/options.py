"""Options that several commands have, each written once.

Those of an experiment have the types and the documentation of :class:`~art_mtl.evaluation.experiment.Experiment`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import FlagCreatePairsOff, arg
from tyro.constructors import PrimitiveConstructorSpec

from art_mtl.core.checks import AUTO
from art_mtl.evaluation import experiment
from art_mtl.evaluation.experiment import Experiment

_ENTRY = re.compile(r"^ {4}(?:    )?(\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)
_HELP = {name: " ".join(text.split()) for name, text in _ENTRY.findall(Experiment.__doc__ or "")}


def _read(metavar: str, read: Callable[[str], Any], expected: str) -> Any:
    """A type of argument: ``read`` raises a ValueError for what is not ``expected``."""

    def parse(texts: list[str]) -> Any:
        try:
            return read(texts[0])
        except ValueError:
            raise ValueError(f"expected {expected}; found {texts[0]!r}") from None

    def show(value: Any) -> list[str]:
        return ["x".join(map(str, value)) if isinstance(value, tuple) else str(value)]

    return PrimitiveConstructorSpec(1, metavar, parse, lambda value: True, show)


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise ValueError
        return int(text)

    return read


def _positive(text: str) -> float:
    if not 0 < float(text) < float("inf"):
        raise ValueError
    return float(text)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", text, re.ASCII)
    if match is None:
        raise ValueError
    return int(match[1]), int(match[2])


def _lengths(text: str) -> tuple[int, ...]:
    if re.fullmatch(r"[1-9]\d*([x×][1-9]\d*)*", text, re.ASCII) is None:
        raise ValueError
    return tuple(int(length) for length in re.split("[x×]", text))


def _told(name: str) -> Any:
    """The documentation of an experiment's option as help."""
    return arg(help=_HELP[name])


def _count_or_auto(text: str) -> int | str:
    return text if text == AUTO else _whole(1)(text)


_COUNT = _read("N", _whole(1), "a whole number of at least 1")
_NATURAL = _read("N", _whole(0), "a whole number of at least 0")
_BATCH_SIZE = _read("N|auto", _count_or_auto, "a whole number of at least 1, or auto")

# An option that may be left out has a type of its own: errors of `Count | None` would speak of None, too.
Count = Annotated[int, _COUNT]
MaybeCount = Annotated[int | None, _COUNT]
Natural = Annotated[int, _NATURAL]
MaybeNatural = Annotated[int | None, _NATURAL]
MaybePositive = Annotated[float | None, _read("X", _positive, "a positive number")]
MaybeBatchSize = Annotated[int | Literal["auto"] | None, _BATCH_SIZE]
_SIZE = _read("HxW", _size, "a height and a width such as 288x384")
Size = Annotated[tuple[int, int], _SIZE]
MaybeSize = Annotated[tuple[int, int] | None, _SIZE]
_SHAPE = _read("CxHxW", _lengths, "lengths such as 3x224x224")
MaybeShape = Annotated[tuple[int, ...] | None, _SHAPE]
Flag = FlagCreatePairsOff[bool]
TableFormat = Literal["terminal", "markdown", "latex"]

Root = Annotated[Path | None, _told("root")]
Checkpoint = Annotated[Path | None, _told("checkpoint")]
Tasks = Annotated[Path | None, _told("tasks")]
Table = Annotated[Path | None, _told("data")]
Steps = Annotated[Count, _told("steps")]
Limit = Annotated[MaybeCount, _told("limit")]
Seed = Annotated[Natural, _told("seed")]
Protocol = Annotated[experiment.Protocol, _told("protocol")]
Device = Annotated[experiment.Device, _told("device")]


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """What the commands share.

    Attributes:
        debug: Show the traceback of an error.
    """

    with_torchrun: ClassVar[bool] = False
    """Whether ``torchrun`` may start several processes of it."""

    debug: Flag = False

    @abstractmethod
    def run(self, command_line: str) -> None:
        """Do what the command is for.

        Args:
            command_line: To be recorded.
        """


@dataclass(frozen=True, kw_only=True)
class Group:
    """Commands of one kind.

    Attributes:
        command: The one that was chosen.
    """

    command: Any


@dataclass(frozen=True, kw_only=True)
class QuietCommand(Command):
    """A command that takes a while.

    Attributes:
        quiet: Show no progress bar.
    """

    quiet: Flag = False


@dataclass(frozen=True, kw_only=True)
class WritingCommand(QuietCommand):
    """A command that writes a folder.

    Attributes:
        out: Folder for what is found: the run, so that it can go on if interrupted, tables, JSON, pictures.
        force: Write to --out even if it holds other files.
    """

    out: Path | None = None
    force: Flag = False
