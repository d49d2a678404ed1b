"""What the commands' dataclasses declare: commands by their words, and their options. Nothing slow is imported."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from art_mtl.cli.commands import COMMANDS
from art_mtl.cli.options import ENTRY, METAVARS, PLACEHOLDERS, Group

__all__ = ["Option", "commands", "options", "split_words"]


@dataclass(frozen=True)
class Option:
    """One option, or an argument without a name.

    Attributes:
        field: Of the dataclass.
        name: On the command line, without hyphens.
        usage: As it is written on the command line.
        metavar: What follows it, or stands in its place; "" where nothing does.
        is_positional: Whether it is an argument without a name.
        is_required: Whether it has to be given.
        text: What it is, with its default.
    """

    field: str
    name: str
    usage: str
    metavar: str
    is_positional: bool
    is_required: bool
    text: str

    @property
    def flags(self) -> list[str]:
        """As it is named on the command line."""
        return [word for word in self.usage.split() if word.startswith("--")]

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return self.metavar.endswith("...")


def commands() -> dict[str, type]:
    """All commands by their words: "benchmark", "data prepare nyuv2", …, groups of commands too; "" is the program."""
    return {"": Group, **dict(_below(COMMANDS))}


def split_words(arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The words of the command that a command line begins with, and the rest."""
    words, known = "", commands()
    for place, argument in enumerate(arguments):
        longer = f"{words} {argument}".strip()
        if longer not in known:
            return words, arguments[place:]
        words = longer
    return words, ()


def options(kind: Any) -> Iterator[Option]:
    """The options of a command, those of dataclasses in it too."""
    if issubclass(kind, Group):
        return
    hints, texts = get_type_hints(kind, include_extras=True), _documented(kind)
    for field in fields(kind):
        hint, notes = _bare(hints[field.name])
        if is_dataclass(hint) and isinstance(hint, type):
            yield from options(hint)
            continue
        name = next((one.name for one in notes if getattr(one, "name", None)), field.name)
        text = next((one.help for one in notes if getattr(one, "help", None)), texts.get(field.name, ""))
        metavar = next((one.metavar for one in notes if getattr(one, "metavar", None)), None) or _metavar(
            hint, field.name
        )
        flag, is_required = f"--{name.replace('_', '-')}", field.default is MISSING and hint is not bool
        is_positional = any(note in get_args(Positional[int])[1:] for note in notes)
        if is_positional:
            usage = metavar if is_required or metavar.startswith("[") else f"[{metavar}]"
        elif hint is bool:
            usage, metavar = f"{flag} | --no-{flag[2:]}" if field.default else flag, ""
        else:
            usage = f"{flag} {metavar}"
        default = "Required." if is_required else _default(field.default)
        text = " ".join(filter(None, [re.sub(r"\bNone( given)?: ", "Default: ", text), default]))
        yield Option(field.name, name, usage, metavar, is_positional, is_required, text)


def _bare(hint: Any) -> tuple[Any, list[Any]]:
    """A type without ``Annotated`` and ``| None``, and what was annotated."""
    notes: list[Any] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        notes += more
    if get_origin(hint) in (Union, types.UnionType):
        parts = [one for one in get_args(hint) if one is not types.NoneType]
        hint = parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007, made of values
    return hint, notes


def _metavar(hint: Any, name: str) -> str:
    if get_origin(hint) is Annotated:
        return _metavar(get_args(hint)[0], name)
    if hint in METAVARS:
        return PLACEHOLDERS.get(name) or METAVARS[hint]
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"{_metavar(get_args(hint)[0], name)} ..."
    if get_origin(hint) is Union:
        return "|".join(_metavar(one, name) for one in get_args(hint))
    return "VALUE"


def _default(value: Any) -> str:
    """A default, as a sentence; of an option that may be left out its own text says what happens then."""
    if value is None or value is False or value == ():
        return ""
    shown = {True: "yes"}.get(value) if isinstance(value, bool) else None
    if isinstance(value, tuple):
        shown = ("x" if all(isinstance(one, int) for one in value) else " ").join(map(str, value))
    return f"Default: {shown or value}."


def _documented(kind: type) -> dict[str, str]:
    """What docstrings say of the fields of a dataclass, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= {name: " ".join(text.split()) for name, text in ENTRY.findall(base.__doc__ or "")}
    return found


def _below(named: Mapping[str, type], before: str = "") -> Iterator[tuple[str, type]]:
    for name, kind in named.items():
        yield f"{before}{name}", kind
        if issubclass(kind, Group):
            hint = get_type_hints(kind, include_extras=True)["command"]
            inner = {notes[0].name: one for one, notes in map(_bare, get_args(hint))}
            yield from _below(inner, f"{before}{name} ")
