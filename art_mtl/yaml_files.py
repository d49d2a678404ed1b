"""YAML files of plain values, read safely, with the line of every entry."""

from __future__ import annotations

import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from art_mtl.near_names import perhaps

LONGEST = 2**16
"""Most bytes of a file."""

Place = tuple[str | int, ...]
"""Keys and indices that lead to an entry."""

__all__ = ["Document", "Place", "read_yaml", "unknown_key"]


@dataclass(frozen=True)
class Document:
    """What a YAML file holds.

    Attributes:
        path: Of the file.
        values: The mapping in it.
        lines: The line of every key, and of every entry of a list.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Place, int] = field(repr=False)

    def where(self, *place: str | int) -> str:
        """File and line of an entry, or of the nearest one around it, for a message."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}, line {self.lines[place]}" if place else str(self.path)


def unknown_key(what: str, key: object, known: Collection[str]) -> str:
    """What is wrong with a key.

    Examples:
        >>> unknown_key("an experiment", "stepz", ["steps", "seed"])
        "Expected a key of an experiment. Found 'stepz'. Perhaps 'steps'?"
    """
    hint = perhaps(key, known) or f" The keys are {', '.join(known)}."
    return f"Expected a key of {what}. Found {key!r}.{hint}"


def read_yaml(path: str | Path, what: str, depth: int) -> Document:
    """A file with a mapping of plain values.

    Values are made one by one, after the events of the whole file have been looked at: no tag chooses a class, no alias
    repeats what is large, nothing is nested deeply.

    Args:
        path: Of the file.
        what: What it should be, "an experiment" for instance, for messages.
        depth: Most levels of mappings and lists.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, no mapping, larger than 64 KiB, or uses tags or aliases; a key is no text or comes
            twice. The message has the file and the line.
    """
    import yaml

    path = Path(path)
    text = _text_of(path, what)
    try:
        _check_events(yaml, path, text, depth)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        where = path if error.problem_mark is None else f"{path}, line {error.problem_mark.line + 1}"
        raise ValueError(f"{where}: Expected YAML. Found a fault: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: Expected YAML. Found a fault: {' '.join(str(error).split())}.") from None
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}: Expected {what}, keys with values. Found something else.")
    reader = _Reader(yaml, loader, path, what)
    return Document(path, reader.value(node, ()), reader.lines)


def _check_events(yaml: Any, path: Path, text: str, most: int) -> None:
    """Raise for what no file needs."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{path}, line {0 if event.start_mark is None else event.start_mark.line + 1}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise ValueError(f"{where}: Expected no anchors or aliases. Found {event.anchor!r}.")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise ValueError(f"{where}: Expected no tags. Found {tag!r}.")
        if depth > most:
            raise ValueError(f"{where}: Expected values, or lists of values. Found more levels.")


class _Reader:
    """Makes values of nodes, and notes their lines."""

    def __init__(self, yaml: Any, loader: Any, path: Path, what: str) -> None:
        self.yaml, self.loader, self.path, self.what = yaml, loader, path, what
        self.lines: dict[Place, int] = {}

    def value(self, node: Any, place: Place) -> Any:
        """The value of a node at a place."""
        if isinstance(node, self.yaml.SequenceNode):
            return [self._entry(part, (*place, index), part) for index, part in enumerate(node.value)]
        if not isinstance(node, self.yaml.MappingNode):
            return self._plain(node, node)
        found: dict[str, Any] = {}
        for key_node, part in node.value:
            where = f"{self.path}, line {key_node.start_mark.line + 1}"
            key = self._plain(key_node, key_node)
            if not isinstance(key, str):
                raise ValueError(f"{where}: Expected a key of {self.what}. Found {key!r}.")
            inner = (*place, key)
            if key in found:
                raise ValueError(f"{where}: Expected each key once. Found {key!r}, as on line {self.lines[inner]}.")
            found[key] = self._entry(part, inner, key_node)
        return found

    def _entry(self, node: Any, place: Place, marked: Any) -> Any:
        self.lines[place] = marked.start_mark.line + 1
        return self.value(node, place)

    def _plain(self, node: Any, marked: Any) -> Any:
        try:
            return self.loader.construct_object(node, deep=True)
        except (self.yaml.YAMLError, ValueError):
            line = marked.start_mark.line + 1
            raise ValueError(f"{self.path}, line {line}: Expected a value. Found one that cannot be read.") from None


def _text_of(path: Path, what: str) -> str:
    """The content of a small, regular file of UTF-8."""
    subject = what[:1].upper() + what[1:]
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError(f"{subject} should be a YAML file. Found that {str(path)!r} is no regular file.")
    except FileNotFoundError:
        raise FileNotFoundError(f"{subject} should be a YAML file. Found no file {str(path)!r}.") from None
    with path.open("rb") as file:
        data = file.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise ValueError(f"{subject} should have at most {LONGEST} bytes. Found that {str(path)!r} has more.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: Expected UTF-8. Found a fault: {error.reason}.") from None
