"""The words of a command line, checked before they are read: what is missing or unknown is told with what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from art_mtl.cli.console import PROGRAM
from art_mtl.cli.declarations import Option, commands, options, split_words
from art_mtl.cli.options import Group
from art_mtl.near_names import perhaps

__all__ = ["check_words", "in_options"]


def check_words(arguments: Sequence[str]) -> None:
    """Raise ValueError unless the words are a command, its options with a value each, and all that has to be given."""
    words, rest = split_words(arguments)
    kind = commands()[words]
    said = f"{PROGRAM} {words}".strip()
    try:
        if issubclass(kind, Group):
            _refuse_group(said, words, rest)
        _check_command(said, list(options(kind)), rest)
    except ValueError as error:
        raise ValueError(f"{error} (see {said} --help)") from None


def _refuse_group(said: str, words: str, rest: Sequence[str]) -> None:
    below = [name.rpartition(" ")[2] for name in commands() if name and name.rpartition(" ")[0] == words]
    found = f"{rest[0]!r}.{perhaps(rest[0], below)}" if rest else "none."
    raise ValueError(f"{said} should be followed by one of {', '.join(below)}. Found {found}")


def _check_command(said: str, known: Sequence[Option], rest: Sequence[str]) -> None:
    flags = {flag: option for option in known for flag in option.flags}
    plain, given = [], set[str]()
    for flag, values in _parts(rest):
        if not flag:
            plain += values
            continue
        option = flags.get(flag)
        if option is None:
            near = perhaps(flag.strip("-"), [known[2:] for known in flags]).replace("'", "'--", 1)
            raise ValueError(f"{said} has no option {flag}.{near}")
        given.add(option.name)
        count = len(values) if option.is_list else 1 if option.metavar else 0
        if option.metavar and not values:
            raise ValueError(f"Option {flag} should be followed by {_one(option.metavar)}. Found nothing.")
        plain += values[count:]
    taken = next((option for option in known if option.is_positional), None)
    if taken is None and plain:
        raise ValueError(f"{said} should be followed by options. Found {plain[0]!r}.")
    if taken is not None and len(plain) > 1 and not taken.is_list:
        raise ValueError(
            f"{said} should be followed by one {_one(taken.metavar)}. Found {len(plain)}: {', '.join(plain)}."
        )
    if taken is not None and taken.is_required and not plain and not taken.is_list:
        raise ValueError(f"{said} should be followed by {taken.metavar}. Found nothing.")
    missing = [_one(one.usage) for one in known if one.is_required and not one.is_positional and one.name not in given]
    if missing:
        raise ValueError(f"{said} should be told {', '.join(missing)}. Found none.")


def _parts(rest: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option with what follows it up to the next; first "" with what precedes all options."""
    flag, values = "", list[str]()
    for word in rest:
        if re.match(r"--?[A-Za-z]", word):
            yield flag, values
            flag, equals, value = word.partition("=")
            flag, values = flag.replace("_", "-"), [value] if equals else []
        else:
            values.append(word)
    yield flag, values


def _one(metavar: str) -> str:
    """Of what may be left out, or may come several times, one."""
    return metavar.strip("[]").removesuffix(" ...")


def in_options(message: str, arguments: Sequence[str]) -> str:
    """A message that names parameters as one that names the options of the command: ```restart=True``` as --restart.

    What is said of a line of a file stays, as its keys have the names of parameters.
    """
    known = {option.field: option for option in options(commands()[split_words(arguments)[0]])}

    def option(found: re.Match[str]) -> str:
        own = known.get(found["name"]) or known.get(found["name"].removesuffix("s"))  # one of what others have several
        if own is None:
            return found[0]
        if own.is_positional:
            return "The argument" if found["parameter"] else own.metavar
        return f"{'Option ' if found['parameter'] else ''}{own.flags[0]}"

    pattern = r"(?P<parameter>Parameter )?`(?P<name>\w+)(=\w*)?`"
    return message if ", line " in message else re.sub(pattern, option, message)
