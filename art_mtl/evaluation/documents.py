"""Frozen dataclasses as JSON documents: an exact round trip, and files of another kind refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from art_mtl.files import write_text

__all__ = ["Document", "Layout"]

Record = TypeVar("Record")
DocumentType = TypeVar("DocumentType", bound="Document")


@dataclass(frozen=True)
class Layout:
    """How the documents of a class are told from others.

    Attributes:
        kind: What messages call one: "a diagnosis".
        format: Of its entry "format".
        version: The newest, of its entry "version".
        one: Fields that hold another dataclass, and its class.
        many: Fields that hold a tuple of another dataclass, and its class.
        older: Versions that can still be read, and the fields that they lack.
        indent: Of the text; None for one line.
    """

    kind: str
    format: str
    version: int
    one: Mapping[str, type]
    many: Mapping[str, type]
    older: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    indent: int | None = None

    def fields_of(self, text: str) -> dict[str, Any]:
        """The fields that a document holds, their records made.

        Raises:
            ValueError: It is no such document, or of a version that is not known.
        """
        kind = self.kind.capitalize()
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{kind} should be a JSON document. Found a fault: {error}.") from error
        if not isinstance(document, dict) or document.pop("format", None) != self.format:
            raise ValueError(f"{kind} should be a JSON document of format {self.format!r}. Found something else.")
        version = document.pop("version", None)
        if version not in (self.version, *self.older):
            newest = f"{self.version} or older" if self.older else self.version
            raise ValueError(f"{kind} should be of version {newest}. Found version {version!r}.")
        document.update(self.older.get(version, {}))
        for name, record in self.many.items():
            entries = document.get(name)
            if not isinstance(entries, list):
                raise ValueError(f"{kind} should have a list {name!r}. Found {type(entries).__name__}.")
            document[name] = [_read(record, entry) for entry in entries]
        for name, record in self.one.items():
            document[name] = _read(record, document.get(name))
        return document


class Document:
    """What a frozen dataclass inherits to be written as a document of its :attr:`layout`, and read."""

    layout: ClassVar[Layout]

    def to_json_text(self) -> str:
        """This as a JSON document."""
        head = {"format": self.layout.format, "version": self.layout.version}
        document = {**head, **asdict(self)}  # type: ignore[call-overload]
        return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=self.layout.indent) + "\n"

    def to_json(self, path: str | Path) -> None:
        """Write this to a file, whole or not at all.

        Args:
            path: Of the file; an existing one is replaced.
        """
        write_text(path, self.to_json_text())

    @classmethod
    def from_json_text(cls: type[DocumentType], text: str) -> DocumentType:
        """What :meth:`to_json_text` made the text of.

        Raises:
            ValueError: It is no such text, or from a newer version.
        """
        return _read(cls, cls.layout.fields_of(text))

    @classmethod
    def from_json(cls: type[DocumentType], path: str | Path) -> DocumentType:
        """What :meth:`to_json` wrote to the file, equal to the last bit.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It holds something else.
        """
        path = Path(path)
        if not path.is_file():
            kind = cls.layout.kind.capitalize()
            raise FileNotFoundError(f"{kind} should be a JSON file. Found no file {str(path)!r}.")
        return cls.from_json_text(path.read_text(encoding="utf-8"))


def _read(record: type[Record], entry: Any) -> Record:
    """A record of that class from what :func:`dataclasses.asdict` and JSON made of it.

    Raises:
        ValueError: Its fields are others.
    """
    names = {part.name for part in fields(record)}  # type: ignore[arg-type]
    if not isinstance(entry, dict) or set(entry) != names:
        found = sorted(entry) if isinstance(entry, dict) else type(entry).__name__
        raise ValueError(f"A {record.__name__} should have the fields {sorted(names)}. Found {found}.")
    return record(**{name: _tupled(value) for name, value in entry.items()})


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list) else value
