"""A run on disk: one SQLite database that is whole at every moment, and a lock.

A finished chunk is one transaction, so that a process may be killed at any moment. SQLite, because it is in Python's
standard library, checks and repairs itself when it is opened, and is read by anyone while a run goes on. Its rollback
journal rather than its write-ahead log: the log needs memory that all readers share, which the network folders of
clusters have not, and what it would save, milliseconds, is nothing beside a chunk.
"""

from __future__ import annotations

import errno
import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from art_mtl.core.chunks import chunks as cut_chunks
from art_mtl.data.sources import Inputs
from art_mtl.differences import check_same
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import StoredMeasure, StoredMetric
from art_mtl.evaluation.results import Environment
from art_mtl.evaluation.units import (
    CLEAN,
    Unit,
    UnitResult,
    pack_examples,
    pack_inputs,
    unpack_examples,
    unpack_inputs,
)
from art_mtl.files import LOCK, locked, regular_file

DATABASE = "run.sqlite"
_FIXED = ("attacks.in order", "samples", "chunk", "protocol")
"""Settings by which stored units are told apart, so that they cannot differ."""
OWN_FILES = (DATABASE, f"{DATABASE}-journal", LOCK)
"""What a run keeps in its folder beside the report."""
APPLICATION = 0x61_6D_74_6C
"""``PRAGMA application_id``: "amtl" in ASCII."""
SCHEMA = 4
"""``PRAGMA user_version``."""
_WAIT = 60.0
"""Seconds to wait for a reader."""
_MOST_CHUNKS = 1 << 20
_TABLES = {
    "about": "CREATE TABLE about (document BLOB NOT NULL, checksum BLOB NOT NULL)",
    "session": ("CREATE TABLE session (session INTEGER PRIMARY KEY, started TEXT NOT NULL, accepted TEXT NOT NULL)"),
    "chunk": (
        "CREATE TABLE chunk (attack INTEGER, chunk INTEGER, session INTEGER NOT NULL, rank INTEGER NOT NULL,"
        " finished TEXT NOT NULL, checksum BLOB NOT NULL, result BLOB NOT NULL, pictures BLOB, inputs BLOB,"
        " inputs_checksum BLOB, PRIMARY KEY (attack, chunk))"
    ),
    "gallery": "CREATE TABLE gallery (attack INTEGER PRIMARY KEY, checksum BLOB NOT NULL, samples BLOB NOT NULL)",
}
_UNIT = "SELECT attack, chunk, session, rank, finished, checksum, result, pictures FROM chunk"

__all__ = ["DATABASE", "OWN_FILES", "RunStore", "StoredRun", "holds_run"]


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that does not change."""

    settings: dict[str, Any]
    environment: Environment
    command: str | None
    victim: str
    clip_values: tuple[float, float] | None
    protocol: Literal["pooled", "auto-lambda"]
    samples: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    chunk: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    scales: Annotated[tuple[StoredMetric, ...], msgspec.Meta(min_length=1)]
    measures: tuple[StoredMeasure, ...]
    attacks: tuple[AttackInfo, ...]


def holds_run(folder: str | Path) -> bool:
    """Whether there is a run in a folder, or something that calls itself one."""
    return (Path(folder) / DATABASE).is_file()


class StoredRun:
    """What a folder tells of a run, finished or not, also while it goes on.

    Args:
        connection: To its database.
        path: Of the database, for messages.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection, self.path = connection, path
        self._about = _read_about(connection, path)
        self.chunks = cut_chunks(self._about.samples, min(self._about.chunk, self._about.samples))

    @classmethod
    @contextmanager
    def opened(cls, folder: str | Path) -> Iterator[StoredRun]:
        """For reading.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: The database is damaged, of another program, or of another version of this one.
        """
        path = Path(folder) / DATABASE
        if not path.exists():
            what = f"no {DATABASE}" if Path(folder).is_dir() else "no such folder"
            raise FileNotFoundError(f"There is no run at {folder}. Expected its folder. Found {what}.")
        with _connected(path) as connection:
            connection.execute("PRAGMA query_only = ON")
            if not _is_run(connection, path):
                raise ValueError(f"{path}: expected a run. Found one that was killed before it had begun.")
            connection.execute("BEGIN")  # one moment of the run, whatever is written meanwhile
            yield cls(connection, path)

    def about(self) -> dict[str, Any]:
        """All that does not change: "settings", "environment", "victim", "scales", …"""
        found: dict[str, Any] = msgspec.to_builtins(self._about)
        return found

    def attacks(self) -> list[AttackInfo]:
        """In order."""
        return list(self._about.attacks)

    def finished(self) -> set[Unit]:
        """What has been stored."""
        return {self._checked_unit(*row) for row in self.connection.execute("SELECT attack, chunk FROM chunk")}

    def read(self, attack: int, chunks: Sequence[int] | None = None) -> list[UnitResult]:
        """What an attack came to, chunk by chunk; None for all that have been stored.

        Raises:
            ValueError: A unit is damaged; the message names it.
        """
        wanted = None if chunks is None else set(chunks)
        rows = self.connection.execute(f"{_UNIT} WHERE attack = ? ORDER BY chunk", (attack,))
        return [self._result(row) for row in rows if wanted is None or row[1] in wanted]

    def data(self) -> dict[int, str]:
        """The hash of the inputs and labels of each chunk that has been measured."""
        rows = self.connection.execute(f"{_UNIT} WHERE attack = ?", (CLEAN,))
        return {row[1]: self._result(row).data for row in rows}

    def adversarial(self, unit: Unit) -> Inputs | None:
        """All adversarial inputs of a unit; None where they were not kept.

        Raises:
            ValueError: They are damaged.
        """
        query = "SELECT attack, chunk, inputs, inputs_checksum FROM chunk WHERE attack = ? AND chunk = ?"
        row = self.connection.execute(query, unit).fetchone()
        if row is None or row[2] is None:
            return None
        if _checksum(row[:3]) != row[3]:
            raise self._damaged(unit, "its inputs have another checksum")
        return unpack_inputs(row[2])

    def gallery(self) -> dict[int, bytes]:
        """By number of an attack the samples that are shown of it.

        Raises:
            ValueError: They are damaged; the message names the attack.
        """
        found = {}
        for attack, checksum, samples in self.connection.execute("SELECT attack, checksum, samples FROM gallery"):
            unit = self._checked_unit(attack, 0)
            if _checksum((attack, samples)) != checksum:
                raise self.damaged_gallery(unit.attack, "they have another checksum")
            found[attack] = samples
        return found

    def damaged_gallery(self, attack: int, reason: str) -> ValueError:
        """What is wrong with the samples that are shown of an attack."""
        return ValueError(
            f"{self.path}: expected the samples that are shown of {self._name(attack)}. Found them damaged ({reason}). "
            "The command or call that made the run draws them again; nothing else is computed."
        )

    def damaged(self) -> list[Unit]:
        """Units that are not what was stored, all of them; their numbers, as far as these can be told."""
        query = _UNIT.replace(" FROM", ", inputs, inputs_checksum FROM")
        return [
            Unit(*row[:2])
            for row in self.connection.execute(query)
            if _checksum((*row[:5], *row[6:8])) != row[5]
            or (row[8] is not None and _checksum((*row[:2], row[8])) != row[9])
        ]

    def check_units(self, repair: bool) -> None:
        """Raise for a unit that is damaged, or delete it."""
        damaged = self.damaged()
        if not damaged:
            return
        if not repair:
            names = "; ".join(map(self.label, damaged[:8])) + ("; …" if len(damaged) > 8 else "")
            raise ValueError(
                f"{self.path}: expected units that are what was stored. Found {len(damaged)} damaged: {names}. "
                "`repair=True` computes them again, and nothing else; `restart=True` discards the run."
            )
        with _transaction(self.connection):
            self.connection.executemany("DELETE FROM chunk WHERE attack IS ? AND chunk IS ?", damaged)

    def label(self, unit: Unit) -> str:
        """What a unit is, for people: attack and chunk."""
        return f"{self._name(unit.attack)}, chunk {unit.chunk}"

    def _name(self, attack: Any) -> str:
        known = isinstance(attack, int) and 0 < attack <= len(self._about.attacks)
        return "clean inputs" if attack == CLEAN else self._about.attacks[attack - 1].label if known else repr(attack)

    def _checked_unit(self, attack: Any, chunk: Any) -> Unit:
        numbers = type(attack) is int and type(chunk) is int
        if not numbers or not (0 <= attack <= len(self._about.attacks) and 0 <= chunk < len(self.chunks)):
            raise ValueError(
                f"{self.path}: expected units of {len(self._about.attacks)} attacks and {len(self.chunks)} chunks. "
                f"Found one of attack {attack!r}, chunk {chunk!r}."
            )
        return Unit(attack, chunk)

    def _result(self, row: tuple[Any, ...]) -> UnitResult:
        unit = self._checked_unit(*row[:2])
        if _checksum((*row[:5], *row[6:])) != row[5]:
            raise self._damaged(unit, "it has another checksum")
        try:
            found = UnitResult.decode(row[6], unpack_examples(row[7], self.chunks[unit.chunk]))
            size = self.chunks[unit.chunk].stop - self.chunks[unit.chunk].start
            if len(found.part) != size or found.part.has_label.shape[1] != len(self._about.scales):
                raise ValueError(f"its labels are of shape {tuple(found.part.has_label.shape)}")
        except (ValueError, TypeError) as error:
            raise self._damaged(unit, str(error)) from error
        return found

    def _damaged(self, unit: Unit, reason: str) -> ValueError:
        return ValueError(
            f"{self.path}: expected what was stored of {self.label(unit)}. Found it damaged ({reason}). "
            "`repair=True` computes it again."
        )


class RunStore(StoredRun):
    """The same for the one process that writes.

    Args:
        connection: To its database.
        path: Of the database.
        accepted: Settings that differ from those that the run was begun with.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, accepted: Sequence[str] = ()) -> None:
        super().__init__(connection, path)
        self.accepted, self.session = accepted, 0

    @classmethod
    @contextmanager
    def held(
        cls,
        folder: str | Path,
        about: Mapping[str, Any],
        attacks: Sequence[AttackInfo],
        restart: bool = False,
        repair: bool = False,
        accept: Collection[str] = (),
    ) -> Iterator[RunStore]:
        """Keep a folder for this run, which is begun or gone on with.

        Args:
            folder: Where; made if needed.
            about: JSON values. Of a run that is there "settings" must be the same; all else stays as it is.
            attacks: In order.
            restart: Throw away the run that is there.
            repair: Throw away its damaged units, which are then to be computed again.
            accept: Settings that may differ, by name, or by the first part of their name: "versions".

        Raises:
            ValueError: Another setting; a unit is damaged; or the database is, is of another program or of another
                version.
            BlockingIOError: Another process works in it.
            OSError: The folder cannot be written, or the disk is full.
        """
        path = Path(folder) / DATABASE
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            if restart:
                _discard(path)
            with _connected(path) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                accepted: list[str] = []
                if _is_run(connection, path):
                    stored = StoredRun(connection, path)
                    advice = "Use another `out=`, or `restart=True` to discard it."
                    holder = f"{path.parent} holds a run"
                    accepted = check_same(stored._about.settings, about["settings"], holder, advice, accept, _FIXED)
                    stored.check_units(repair)
                else:
                    _begin(connection, about, attacks)
                yield cls(connection, path, accepted)

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        """Store a unit that has been worked; whole, or not at all.

        Raises:
            OSError: The disk is full; what was stored before stays.
        """
        packed = (finished.encode(), pack_examples(finished.examples))
        inputs = pack_inputs(finished.adversarial)
        with _told(self.path), _transaction(self.connection):
            start = (*unit, self.session or self._new_session(), rank, _now())
            row = (*start, _checksum((*start, *packed)), *packed, inputs, inputs and _checksum((*unit, inputs)))
            self.connection.execute("INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.session = start[2]

    def save_gallery(self, attack: int, samples: bytes) -> None:
        """Store the samples that are shown of an attack, in place of earlier ones.

        Raises:
            OSError: The disk is full; what was stored before stays.
        """
        row = (attack, _checksum((attack, samples)), samples)
        with _told(self.path), _transaction(self.connection):
            self.connection.execute("INSERT OR REPLACE INTO gallery VALUES (?, ?, ?)", row)

    def _new_session(self) -> int:
        """Note that work goes on: only now, so that a run that is refused stays as it was."""
        row = (_now(), ", ".join(self.accepted))
        cursor = self.connection.execute("INSERT INTO session (started, accepted) VALUES (?, ?)", row)
        return int(cursor.lastrowid or 0)


def _checksum(parts: Sequence[Any]) -> bytes:
    """Of integers, strings, bytes and None."""
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()


def _read_about(connection: sqlite3.Connection, path: Path) -> _About:
    rows = connection.execute("SELECT document, checksum FROM about").fetchall()
    try:
        [(document, checksum)] = rows
        if not isinstance(document, bytes) or _checksum((document,)) != checksum:
            raise ValueError("its description has another checksum")
        about = msgspec.json.decode(document, type=_About)
        if -(-about.samples // about.chunk) > _MOST_CHUNKS:
            raise ValueError(f"{about.samples} samples in chunks of {about.chunk}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a sound run. Found it damaged: {error}. `restart=True` discards it."
        ) from error
    return about


def _discard(path: Path) -> None:
    """Delete a run, damaged or not, but nothing that another program made."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(100)
        whole = len(head) == 100 and head.startswith(b"SQLite format 3")
        if whole and head[68:72] != APPLICATION.to_bytes(4, "big"):
            raise ValueError(f"{path}: expected the database of a benchmark run. Found one of another program.")
    for name in (DATABASE, f"{DATABASE}-journal"):
        path.with_name(name).unlink(missing_ok=True)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    for name in (DATABASE, f"{DATABASE}-journal"):
        own = path.with_name(name)
        if own.exists() or own.is_symlink():
            regular_file(own, "the database of a benchmark run")
    # Transactions are begun by hand: Python's own rules for them have changed from version to version.
    with _told(path), closing(
        sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    ) as connection:  # fmt: skip
        connection.execute("PRAGMA trusted_schema = OFF")
        yield connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_run(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the database is that of a run; False if it is still empty.

    Raises:
        ValueError: It is damaged, of another program, or newer.
    """
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return False
    if application != APPLICATION:
        raise ValueError(f"{path}: expected the database of a benchmark run. Found one of another program.")
    if version != SCHEMA:
        raise ValueError(f"{path}: expected a run of schema {SCHEMA}. Found {version}, of another version of art_mtl.")
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    if dict(found) != _TABLES or tables != len(_TABLES) + 1:  # and one index; no view that could run for ever
        raise ValueError(f"{path}: expected the tables of a benchmark run. Found others.")
    (state,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        raise ValueError(f"{path}: expected a sound database. Found it damaged: {' '.join(str(state).split())}.")
    return True


def _begin(connection: sqlite3.Connection, about: Mapping[str, Any], attacks: Sequence[AttackInfo]) -> None:
    """Make the tables."""
    document = msgspec.json.encode({**about, "attacks": [asdict(info) for info in attacks]})
    with _transaction(connection):
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        for table in _TABLES.values():
            connection.execute(table)
        connection.execute("INSERT INTO about VALUES (?, ?)", (document, _checksum((document,))))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as those of Python that say the same, with the reason in the user's terms."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        text = "".join(one if one.isprintable() else "?" for one in str(error))
        if "disk is full" in text:
            reason = "The disk is full; what was stored before stays. Make room, then run the same command again"
            raise OSError(errno.ENOSPC, reason, str(path)) from error
        if "readonly" in text or "unable to open" in text:
            raise PermissionError(errno.EACCES, f"Expected a folder that can be written ({text})", str(path)) from error
        if "locked" in text:
            raise BlockingIOError(errno.EAGAIN, "Expected the run to be readable. Found it kept", str(path)) from error
        if isinstance(error, sqlite3.OperationalError) and "I/O" in text:
            raise OSError(errno.EIO, f"The disk failed ({text}); what was stored before stays", str(path)) from error
        raise ValueError(f"{path}: expected the database of a benchmark run. Found it unreadable: {text}.") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
