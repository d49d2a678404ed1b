"""How the options of all commands are read and checked, and those that several commands have.

An option is read by its type as far as that goes. What it should be is then checked by the same type in the same words
as in Python; see :func:`art_mtl.core.checks.of_type`. Those of an experiment have the documentation of
:class:`~art_mtl.evaluation.experiment.Experiment`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

from tyro.conf import FlagCreatePairsOff, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from art_mtl.core import checks
from art_mtl.evaluation import experiment
from art_mtl.evaluation.experiment import Experiment

ENTRY = re.compile(r"^ {4}(?:    )?(\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)
_HELP = {name: " ".join(text.split()) for name, text in ENTRY.findall(Experiment.__doc__ or "")}
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", tuple[int, int]: "HxW", tuple[int, ...]: "CxHxW"}
PLACEHOLDERS = {"eps": "RADIUS", "root": "DIR", "checkpoint": "FILE"}
"""By name of an option, where its type alone does not tell."""

REGISTRY = ConstructorRegistry()
"""What ``tyro`` reads options by."""


@REGISTRY.primitive_rule
def _one_text(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """How a value of one text is read: None, a word, a number, a path, a size, or any of these."""
    members = [info.type] if get_origin(info.type) in (None, tuple, Literal) else get_args(info.type)
    kinds = [_plain(member) for member in members if member is not NoneType]
    metavars = [_metavar(kind) for kind in kinds]
    if not kinds or None in metavars:
        return None

    def show(value: Any) -> list[str]:
        return ["x".join(map(str, value)) if isinstance(value, tuple) else str(value)]

    metavar = "|".join(filter(None, metavars))
    return PrimitiveConstructorSpec(1, metavar, lambda texts: _value(texts[0], kinds), lambda value: True, show)


def _plain(kind: Any) -> Any:
    """A type without annotations; of tuples, ``tyro`` has types of an older form."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    return tuple[get_args(kind)] if get_origin(kind) is tuple else kind  # type: ignore[misc]


def _metavar(kind: Any) -> str | None:
    return f"{{{','.join(get_args(kind))}}}" if get_origin(kind) is Literal else METAVARS.get(kind)


def _value(text: str, kinds: Sequence[Any]) -> Any:
    """The value that a text stands for; the text itself where it stands for none."""
    if text == "None":
        return None
    if re.fullmatch(r"[1-9]\d{0,5}([x×][1-9]\d{0,5})*", text, re.ASCII):
        lengths = tuple(map(int, re.split("[x×]", text)))
        if tuple[int, ...] in kinds or (tuple[int, int] in kinds and len(lengths) == 2):
            return lengths
    for kind in (int, float):
        try:
            if kind in kinds and "_" not in text:
                return kind(text)
        except ValueError:
            continue
    return Path(text) if Path in kinds else text


def _told(name: str) -> Any:
    """The documentation of an experiment's option as help."""
    return arg(help=_HELP[name])


def _lengths(what: str) -> checks.Check:
    """Checks for lengths, of which this tells."""

    def check(name: str, found: Any) -> None:
        if not isinstance(found, tuple):
            raise TypeError(f"Parameter `{name}` should be {what}. Found {found!r}.")

    return check


_T = TypeVar("_T")
Maybe = Annotated[_T | None, arg(help_behavior_hint="")]
"""An option that may be left out; its documentation says what then holds."""
Flag = FlagCreatePairsOff[bool]
Size = Annotated[tuple[int, int], _lengths("a height and a width such as 288x384")]
Shape = Annotated[tuple[int, ...], _lengths("lengths such as 3x224x224")]
TableFormat = Literal["terminal", "markdown", "latex"]

Root = Annotated[Path | None, _told("root")]
Checkpoint = Annotated[Path | None, _told("checkpoint")]
Tasks = Annotated[Path | None, _told("tasks")]
Table = Annotated[Path | None, _told("data")]
Steps = Annotated[int, _told("steps")]
Limit = Annotated[int | None, _told("limit")]
Seed = Annotated[int, checks.integer(0), _told("seed")]
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

    def check(self) -> None:
        """Raise ValueError or TypeError unless every option is what its type says."""
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            checks.of_type(hints[field.name])(field.name, getattr(self, field.name))

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
