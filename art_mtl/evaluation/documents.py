"""Frozen dataclasses as JSON documents: an exact round trip, and every field checked where a file is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from art_mtl.files import regular_file, write_text

__all__ = ["Document", "Layout"]

_LARGEST = 1 << 31
"""Bytes of a file that is read."""
DocumentType = TypeVar("DocumentType", bound="Document")


@dataclass(frozen=True)
class Layout:
    """How the documents of a class are told from others.

    Attributes:
        kind: What messages call one: "a diagnosis".
        format: Of its entry "format".
        version: Of its entry "version".
        indent: Of the text; None for one line.
    """

    kind: str
    format: str
    version: int
    indent: int | None = None


class Document:
    """What a frozen dataclass inherits to be written as a document of its :attr:`layout`, and read."""

    layout: ClassVar[Layout]

    def check(self) -> None:
        """Raise ValueError where fields that are right by themselves do not go together."""

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
    def from_json_text(cls: type[DocumentType], text: str | bytes, name: str = "The text") -> DocumentType:
        """What :meth:`to_json_text` made the text of.

        Args:
            text: In UTF-8 if it is bytes.
            name: Of its file, for messages.

        Raises:
            ValueError: It is no such text, from another version, or a field is missing, unknown or wrong; the message
                says where.
        """
        kind, layout = f"{name}: expected {cls.layout.kind}", cls.layout
        try:
            found = msgspec.json.decode(text)
            if not isinstance(found, dict) or found.pop("format", None) != layout.format:
                raise ValueError(f"it is no JSON document of format {layout.format!r}")
            version = found.pop("version", None)
            if version != layout.version:
                raise ValueError(f"it is of version {str(version)[:80]}, not {layout.version}")
            document = msgspec.convert(found, cls)
            _check_names(found, document, "$")
            document.check()
        except (ValueError, RecursionError, OverflowError) as error:
            raise ValueError(f"{kind}. Found a fault: {error}.") from error
        return document

    @classmethod
    def from_json(cls: type[DocumentType], path: str | Path) -> DocumentType:
        """What :meth:`to_json` wrote to the file, equal to the last bit.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no regular file, or holds something else.
        """
        return cls.from_json_text(regular_file(path, cls.layout.kind, _LARGEST).read_bytes(), str(path))


def _check_names(entry: Any, record: Any, where: str) -> None:
    """Raise unless what was read of a record has its fields, all of them and no other.

    Raises:
        msgspec.ValidationError: It has not.
    """
    if is_dataclass(record):
        names = {part.name for part in fields(record)}
        found = set(entry) if isinstance(entry, Mapping) else set()
        if found != names:
            raise msgspec.ValidationError(
                f"the fields of {type(record).__name__} are {sorted(names)}; missing {sorted(names - found)}, "
                f"unknown {sorted(found - names)} - at `{where}`"
            )
        for name in names:
            _check_names(entry[name], getattr(record, name), f"{where}.{name}")
    elif isinstance(record, tuple) and record and is_dataclass(record[0]):
        for i, (part, one) in enumerate(zip(entry, record, strict=True)):
            _check_names(part, one, f"{where}[{i}]")
