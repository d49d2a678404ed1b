"""A run on disk: one SQLite database that is whole at every moment, and a lock.

A finished chunk is one transaction, so that a process may be killed at any moment. SQLite, because it is in Python's
standard library, checks and repairs itself when it is opened, and is read by anyone while a run goes on. Its rollback
journal rather than its write-ahead log: the log needs memory that all readers share, which the network folders of
clusters have not, and what it would save, milliseconds, is nothing beside a chunk.
"""

from __future__ import annotations

import errno
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.runs.records import Unit, UnitResult
from art_mtl.evaluation.runs.settings import differences
from art_mtl.evaluation.samples import Inputs
from art_mtl.files import LOCK, locked

DATABASE = "run.sqlite"
OWN_FILES = (DATABASE, f"{DATABASE}-journal", LOCK)
"""What a run keeps in its folder beside the report."""
APPLICATION = 0x61_6D_74_6C
"""``PRAGMA application_id``: "amtl" in ASCII."""
SCHEMA = 1
"""``PRAGMA user_version``."""
_WAIT = 60.0
"""Seconds to wait for a reader."""
_TABLES = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE attack (attack INTEGER PRIMARY KEY, name TEXT NOT NULL, method TEXT NOT NULL, norm TEXT, eps REAL,"
    " schedule TEXT, steps INTEGER)",
    "CREATE TABLE session (session INTEGER PRIMARY KEY, started TEXT NOT NULL, processes INTEGER NOT NULL)",
    "CREATE TABLE chunk (attack INTEGER, chunk INTEGER, session INTEGER NOT NULL, rank INTEGER NOT NULL,"
    " finished TEXT NOT NULL, seconds REAL NOT NULL, perturbation REAL NOT NULL, result BLOB NOT NULL, pictures BLOB,"
    " PRIMARY KEY (attack, chunk))",
)

__all__ = ["DATABASE", "OWN_FILES", "RunStore", "StoredRun", "holds_run"]


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

    @classmethod
    @contextmanager
    def opened(cls, folder: str | Path) -> Iterator[StoredRun]:
        """For reading.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: The database is damaged, of another program, or of a newer version of this one.
        """
        path = Path(folder) / DATABASE
        if not path.is_file():
            raise FileNotFoundError(f"Expected a run of `art-mtl benchmark --out` in {folder}. Found no {DATABASE}.")
        with _connected(path) as connection:
            connection.execute("PRAGMA query_only = ON")
            if not _is_run(connection, path):
                raise ValueError(f"{path}: expected a run. Found one that was killed before it had begun.")
            connection.execute("BEGIN")  # one moment of the run, whatever is written meanwhile
            yield cls(connection, path)

    def about(self) -> dict[str, Any]:
        """All that does not change: "settings", "environment", "victim", "scales", …"""
        rows = self.connection.execute("SELECT key, value FROM about")
        return {key: json.loads(value) for key, value in rows}

    def attacks(self) -> list[AttackInfo]:
        """In order."""
        rows = self.connection.execute("SELECT name, method, norm, eps, schedule, steps FROM attack ORDER BY attack")
        return [AttackInfo(*row) for row in rows]

    def finished(self) -> set[Unit]:
        """What has been stored."""
        return {Unit(*row) for row in self.connection.execute("SELECT attack, chunk FROM chunk")}

    def read(self, attack: int, chunks: Sequence[int] | None = None) -> list[UnitResult]:
        """What an attack came to, chunk by chunk; None for all that have been stored."""
        rows = self.connection.execute(
            "SELECT chunk, result, seconds, perturbation, pictures FROM chunk WHERE attack = ? ORDER BY chunk",
            (attack,),
        )
        wanted = None if chunks is None else set(chunks)
        return [
            UnitResult.decode(result, seconds, perturbation, _unpack(pictures))
            for chunk, result, seconds, perturbation, pictures in rows
            if wanted is None or chunk in wanted
        ]


class RunStore(StoredRun):
    """The same for the one process that writes.

    Args:
        connection: To its database.
        path: Of the database.
        session: Number of this sitting.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path, session: int) -> None:
        super().__init__(connection, path)
        self.session = session

    @classmethod
    @contextmanager
    def held(
        cls,
        folder: str | Path,
        about: Mapping[str, Any],
        attacks: Sequence[AttackInfo],
        processes: int = 1,
        restart: bool = False,
    ) -> Iterator[RunStore]:
        """Keep a folder for this run, which is begun or gone on with.

        Args:
            folder: Where; made if needed.
            about: JSON values. Of a run that is there "settings" must be the same; all else stays as it is.
            attacks: In order.
            processes: That work on it now.
            restart: Throw away the run that is there.

        Raises:
            ValueError: Another setting, or the database is damaged, of another program or of a newer version.
            BlockingIOError: Another process works in it.
            OSError: The folder cannot be written, or the disk is full.
        """
        path = Path(folder) / DATABASE
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            if restart:
                _discard(path)
            with _connected(path) as connection:
                if _is_run(connection, path):
                    _check(connection, path, about["settings"])
                session = _begin(connection, about, attacks, processes)
                yield cls(connection, path, session)

    def save(self, unit: Unit, finished: UnitResult, rank: int = 0) -> None:
        """Store a unit that has been worked; whole, or not at all.

        Raises:
            OSError: The disk is full; what was stored before stays.
        """
        row = (*unit, self.session, rank, _now(), finished.seconds, finished.perturbation, finished.encode())
        with _told(self.path), _transaction(self.connection):
            self.connection.execute(
                "INSERT INTO chunk (attack, chunk, session, rank, finished, seconds, perturbation, result, pictures)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, _pack(finished.shown)),
            )


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
    # Transactions are begun by hand: Python's own rules for them have changed from version to version.
    with _told(path), closing(
        sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
    ) as connection:  # fmt: skip
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
    if version > SCHEMA:
        raise ValueError(
            f"{path}: expected a run of schema {SCHEMA} or older. Found {version}, of a newer version of art_mtl."
        )
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise ValueError(f"{path}: expected a sound database. Found it damaged: {state}.")
    return True


def _check(connection: sqlite3.Connection, path: Path, settings: Mapping[str, Any]) -> None:
    (stored,) = connection.execute("SELECT value FROM about WHERE key = 'settings'").fetchone()
    found = differences(json.loads(stored), json.loads(json.dumps(settings)))
    if found:
        raise ValueError(
            f"{path.parent}: expected a run of the same settings, to go on with. Found {'; '.join(found)}. Choose "
            "another folder, give what it was begun with, or --restart to throw it away."
        )


def _begin(
    connection: sqlite3.Connection, about: Mapping[str, Any], attacks: Sequence[AttackInfo], processes: int
) -> int:
    """Make the tables, if need be, and note that work goes on; the number of this sitting."""
    connection.execute("PRAGMA synchronous = EXTRA")
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    with _transaction(connection):
        if not tables:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            for table in _TABLES:
                connection.execute(table)
            values = [(key, json.dumps(value, ensure_ascii=False)) for key, value in about.items()]
            connection.executemany("INSERT INTO about VALUES (?, ?)", values)
            rows = [(number, *info.to_json().values()) for number, info in enumerate(attacks, 1)]
            connection.executemany("INSERT INTO attack VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        cursor = connection.execute("INSERT INTO session (started, processes) VALUES (?, ?)", (_now(), processes))
    return int(cursor.lastrowid or 0)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as those of Python that say the same, with the reason in the user's terms."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
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


def _pack(inputs: Inputs | None) -> bytes | None:
    if inputs is None:
        return None
    buffer = io.BytesIO()
    np.save(buffer, inputs, allow_pickle=False)
    return buffer.getvalue()


def _unpack(data: bytes | None) -> Inputs | None:
    if data is None:
        return None
    inputs: Inputs = np.load(io.BytesIO(data), allow_pickle=False)
    return inputs


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
