"""One run at a time in a folder."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
"""Name of the file that a process at work in a folder holds locked."""

__all__ = ["LOCK", "locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out; the lock goes with this process, however it ends.

    Raises:
        PermissionError: Nothing can be written there.
        BlockingIOError: Another run is at work there.
        OSError: The file system has no locks.
    """
    path = folder / LOCK
    try:
        file = path.open("ab")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            error.errno, f"Expected a folder that can be written to ({error.strerror})", str(folder)
        ) from error
    with file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise BlockingIOError(
                    f"Expected {folder} to be free. Found another run at work in it; wait until it has ended."
                ) from error
            raise OSError(f"Expected a file system that can lock {path}. Found: {error}.") from error
        yield
