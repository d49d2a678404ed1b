"""What a prepared folder says of itself: what it was made from, how, and the checksum of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from art_mtl.data._base import JOURNAL, MANIFEST
from art_mtl.files import PART, whole

__all__ = ["FORMAT", "Entry", "Journal", "Manifest", "fingerprint", "read_journal", "read_manifest", "write_whole"]

FORMAT = 1
_CHUNK = 1 << 20
_HEAD = ("format", "data", "source", "settings", "counts")


@dataclass(frozen=True)
class Entry:
    """One finished file.

    Attributes:
        bytes: its size.
        sha256: of its content, in hexadecimal.
    """

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Entry:
        """That of the file as it lies on disk, which is read in full."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
                size += len(block)
        return cls(size, digest.hexdigest())

    def matches(self, path: Path) -> bool:
        """Whether the file is there and has this size and checksum."""
        return path.is_file() and path.stat().st_size == self.bytes and Entry.of(path) == self


@dataclass(frozen=True)
class Manifest:
    """The content of MANIFEST.json.

    Attributes:
        data: name of the data set, such as "nyuv2".
        source: what identifies that from which it was made (JSON values).
        settings: how it was made (JSON values).
        counts: samples by split.
        files: by path within the folder, with forward slashes.
    """

    data: str
    source: Mapping[str, Any]
    settings: Mapping[str, Any]
    counts: Mapping[str, int]
    files: Mapping[str, Entry]

    def with_files(self, files: Mapping[str, Entry]) -> Manifest:
        """The same with other files."""
        return replace(self, files=dict(files))

    def head(self) -> dict[str, Any]:
        """All but the files, as JSON values."""
        return {"format": FORMAT, **{name: _plain(getattr(self, name)) for name in _HEAD[1:]}}

    def to_json(self) -> str:
        """As it is written, files in the order of their names."""
        files = {name: {"bytes": e.bytes, "sha256": e.sha256} for name, e in sorted(self.files.items())}
        return json.dumps({**self.head(), "files": files}, indent=1) + "\n"


class Journal:
    """The files finished so far, a line each, written out at once; what a killed run leaves behind.

    Args:
        folder: the prepared folder.
        manifest: its head is the first line; its files follow.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        lines = [json.dumps(manifest.head()), *(_line(name, entry) for name, entry in manifest.files.items())]
        self._path = folder / JOURNAL
        write_whole(self._path, "".join(f"{line}\n" for line in lines).encode())
        self._file = self._path.open("ab")

    def add(self, files: Mapping[str, Entry]) -> None:
        """Record finished files, so that they outlast a kill and a loss of power."""
        self._file.write("".join(f"{_line(name, entry)}\n" for name, entry in files.items()).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Stop writing; the file stays."""
        self._file.close()

    def remove(self) -> None:
        """The folder is whole: nothing is left to go on with."""
        self.close()
        self._path.unlink()


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a prepared folder; None where it has none.

    Raises:
        ValueError: If it is damaged or of another format.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected a manifest of format {FORMAT}. Found something else ({_reason(error)}). "
            "If it is damaged, delete it and prepare the data again."
        ) from error


def read_journal(folder: str | Path) -> Manifest | None:
    """What an unfinished run had finished; None where there is no such run. A line cut short by a kill is left out.

    Raises:
        ValueError: If its first line is damaged or of another format.
    """
    path = Path(folder) / JOURNAL
    if not path.is_file():
        return None
    head, *lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    try:
        manifest = _parse({**json.loads(head), "files": {}})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{path}: expected the record of an unfinished run, of format {FORMAT}. Found something else "
            f"({_reason(error)}). Delete the folder and prepare the data again."
        ) from error
    files: dict[str, Entry] = {}
    for line in lines:  # the last is empty, or was cut short
        try:
            name, size, digest = json.loads(line)
            files[name] = Entry(int(size), str(digest))
        except (ValueError, TypeError):
            break
    return manifest.with_files(files)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a kill or a loss of power."""
    with whole(path) as part:
        part.write_bytes(content)


def sweep(folder: Path) -> None:
    """Delete what killed runs left half-written."""
    for part in folder.rglob(f".*{PART}"):
        part.unlink(missing_ok=True)


def fingerprint(files: Iterable[str | Path], root: str | Path | None = None) -> str:
    """A short mark of many source files: their names and sizes, and the first and last MiB of each of at most 8.

    Args:
        files: that exist.
        root: names count from here, so that a moved source keeps its mark; None takes bare file names.

    Returns:
        64 hexadecimal digits.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> size = path.write_text("hello")
        >>> before = fingerprint([path])
        >>> size = path.write_text("hallo")
        >>> fingerprint([path]) == before
        False
    """
    paths = sorted(Path(file) for file in files)
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        name = path.name if root is None else path.relative_to(root).as_posix()
        digest.update(f"{name}\0{size}\n".encode())
        if len(paths) <= 8:
            with path.open("rb") as file:
                digest.update(file.read(_CHUNK))
                file.seek(max(0, size - _CHUNK))
                digest.update(file.read(_CHUNK))
    return digest.hexdigest()


def _line(name: str, entry: Entry) -> str:
    return json.dumps([name, entry.bytes, entry.sha256])


def _parse(document: Mapping[str, Any]) -> Manifest:
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}")
    files = {name: Entry(int(e["bytes"]), str(e["sha256"])) for name, e in document["files"].items()}
    counts = {str(split): int(count) for split, count in document["counts"].items()}
    return Manifest(str(document["data"]), dict(document["source"]), dict(document["settings"]), counts, files)


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _plain(value: Any) -> Any:
    """As it comes back from JSON, so that tuples equal lists."""
    return json.loads(json.dumps(dict(value) if isinstance(value, Mapping) else value))
