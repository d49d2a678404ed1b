"""Files that are written whole or not at all, and read only where they are files; one run at a time in a folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
"""Name of the file that a process at work in a folder holds locked."""
PART = ".part"
"""How the names of files end that are being written."""
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def regular_file(path: str | os.PathLike[str], expected: str = "a file", limit: int | None = None) -> Path:
    """The path, once it is sure that it names a regular file, or a link to one: nothing that blocks when it is opened.

    Args:
        path: That a user gave, or that lies in a folder of the user's.
        expected: What it should be, for messages.
        limit: Most bytes that it may have.

    Raises:
        FileNotFoundError: There is nothing, or a link to nothing.
        ValueError: It is a folder, a pipe, a socket or a device, or too large.
        OSError: It cannot be reached.

    Examples:
        >>> regular_file("/dev/null", "a results file")
        Traceback (most recent call last):
            ...
        ValueError: /dev/null: expected a results file. Found a device.
    """
    path = Path(path)
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "a link to a file that does not exist" if path.is_symlink() else "no such file"
        raise FileNotFoundError(f"{path}: expected {expected}. Found {what}.") from error
    except ValueError as error:  # a null byte in the name
        raise ValueError(f"{str(path)!r}: expected the name of a file. Found: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for fits, name in _KINDS if fits(found.st_mode)), "something else")
        raise ValueError(f"{path}: expected {expected}. Found {kind}.")
    if limit is not None and found.st_size > limit:
        raise ValueError(f"{path}: expected {expected} of at most {limit} bytes. Found {found.st_size} bytes.")
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out; the lock goes with this process, however it ends.

    Args:
        folder: That is to be kept; it must exist.

    Raises:
        PermissionError: Nothing can be written there.
        BlockingIOError: Another run is at work there.
        OSError: The file system has no locks.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK
    lock = FileLock(path, timeout=0)
    try:
        with _told(folder, folder):
            lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"Expected {folder} to be free. Found another run at work in it; wait until it has ended."
        ) from error
    except NotImplementedError as error:
        raise OSError(f"Expected a file system that can lock {path}. Found: {error}.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told(folder: Path, path: str | Path) -> Iterator[None]:
    """Errors of writing into a folder, as those of what the user named, with what was expected; those of other folders
    stay as they are.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None and folder.absolute() not in Path(error.filename).absolute().parents:
            raise
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"Expected a place that can be written to ({error.strerror})"
            raise PermissionError(error.errno, reason, str(path)) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "The disk is full; what was there before stays. Make room, then try again"
            raise OSError(error.errno, reason, str(path)) from error
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Lend the name of a file to write, which on success becomes the file at ``path``; on failure nothing is left.

    It is there whole or not at all, also after a kill or a loss of power. A killed process may leave its part.

    Args:
        path: Of the file; its folder must exist.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
        >>> with whole(target) as part:
        ...     size = part.write_text("all of it")
        >>> target.read_text()
        'all of it'
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all; an existing one is replaced.

    Args:
        path: Of the file.
        text: Its content.
    """
    with _told(_nearest_existing(Path(path).parent), path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """Lend an empty folder; on success, move every file that was put there into ``folder``.

    While files are being made nothing in ``folder`` changes, and a failure leaves it as it was. Each file then arrives
    by one atomic rename. Files of other names that ``folder`` holds already stay.

    Args:
        folder: Where the files are to go; made, with its parents, if needed.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "report"
        >>> with staged_folder(target) as stage:
        ...     size = (stage / "table.md").write_text("| a |")
        >>> (target / "table.md").read_text()
        '| a |'
    """
    folder = Path(folder)
    home = _nearest_existing(folder)
    with _told(home, folder):
        # Beside the target, because a rename is atomic only within one file system.
        stage = Path(tempfile.mkdtemp(prefix=".art-mtl-", dir=home))
        try:
            yield stage
            for source in sorted(path for path in stage.rglob("*") if path.is_file()):
                target = folder / source.relative_to(stage)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _nearest_existing(folder: Path) -> Path:
    for candidate in (folder, *folder.resolve().parents):
        if candidate.is_dir():
            return candidate
        if candidate.exists():
            raise NotADirectoryError(f"A folder should be made at {str(folder)!r}. Found a file at {str(candidate)!r}.")
    raise FileNotFoundError(f"A folder should be made at {str(folder)!r}. Found none above it.")
