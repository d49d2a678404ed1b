"""Making many files from sources: in parallel, with progress, and in such a way that a kill costs nothing.

Each file is written beside its place and renamed into it, then recorded with its size and checksum in a journal. A
second run of the same plan verifies what the journal lists and makes the rest. When all files are there and verified,
``MANIFEST.json`` takes the journal's place. As long as the journal exists, the data sets of this package refuse the
folder.
"""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from art_mtl.data._base import JOURNAL, MANIFEST, check_count
from art_mtl.data.prepare.manifest import (
    Entry,
    Journal,
    Manifest,
    fingerprint,
    read_journal,
    read_manifest,
    sweep,
    write_whole,
)
from art_mtl.differences import check_same
from art_mtl.files import LOCK, locked

__all__ = ["Job", "Plan", "Prepared", "Progress", "fingerprint", "npy", "run", "stray_files", "text_job"]

_FULL = (errno.ENOSPC, errno.EDQUOT)

Progress = Callable[[int, int], None]
"""Told how many jobs are done, and how many there are."""


@dataclass(frozen=True)
class Job:
    """The making of one or more files that belong together.

    Attributes:
        files: their paths within the prepared folder, with forward slashes, such as "train/image/0.npy".
        make: returns the content of each, in order. It runs in another process, which is a fresh interpreter, so it
            must be picklable: a function of a module, or a :func:`functools.partial` of one. The same sources and
            settings must give the same bytes. What it raises (ValueError or OSError, naming the source) ends the run.
    """

    files: tuple[str, ...]
    make: Callable[[], Sequence[bytes]]


@dataclass(frozen=True)
class Plan:
    """A folder to be made.

    Attributes:
        data: name of the data set, such as "nyuv2".
        jobs: no two of them make the same file.
        counts: samples by split.
        source: what identifies the source (JSON values; :func:`fingerprint` helps). No absolute path: a source that
            was moved is still the same.
        settings: what else the files depend on (JSON values), with a number that changes when the method does. A folder
            that was begun from another source, or with other settings, is refused.
    """

    data: str
    jobs: Sequence[Job]
    counts: Mapping[str, int]
    source: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A folder that is whole.

    Attributes:
        folder: where it is.
        manifest: what it holds.
        made: files made by this run.
        kept: files that an earlier run had made, verified.
        seconds: how long this run took.
    """

    folder: Path
    manifest: Manifest
    made: int
    kept: int
    seconds: float


def npy(array: NDArray[Any]) -> bytes:
    """The content of a ``.npy`` file.

    Examples:
        >>> np.load(io.BytesIO(npy(np.arange(3))))
        array([0, 1, 2])
    """
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def text_job(name: str, lines: Sequence[str]) -> Job:
    """The making of a text file from its lines."""
    return Job((name,), partial(_constant, "".join(f"{line}\n" for line in lines).encode()))


def _constant(content: bytes) -> list[bytes]:
    return [content]


def run(plan: Plan, folder: str | Path, *, processes: int | None = None, progress: Progress | None = None) -> Prepared:
    """Make all files of a plan, or those that an earlier, interrupted run has left to make.

    Args:
        plan: what to make.
        folder: where to; made if needed. It must be empty or have been begun by the same plan.
        processes: how many at a time; None takes the number of CPUs this process may use. With 1 everything happens in
            this process; with more, a script that calls this needs ``if __name__ == "__main__":``.
        progress: called after every job, at first with those already done.

    Returns:
        The folder, complete: every file is there with its checksum, and no other.

    Raises:
        ValueError: If the folder holds something else, or was begun from another source or with other settings; or if
            a source is faulty.
        BlockingIOError: If another run is at work in the folder.
        OSError: If the disk is full, or a process was killed. What is finished stays; run the same again to go on.
    """
    begun, folder = time.perf_counter(), Path(folder)
    if processes is not None:
        check_count("processes", processes)
    count = _cpus() if processes is None else processes
    head = Manifest(plan.data, plan.source, plan.settings, plan.counts, {})
    _check_target(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        known = _known(folder, head)
        sweep(folder)
        with _telling_what_is_left(folder, plan):
            kept = _kept(plan, folder, known)
            journal = Journal(folder, head.with_files(kept))
            try:
                made = _make_rest(plan, folder, kept, journal, count, progress)
            finally:
                journal.close()
            manifest = head.with_files({**kept, **made})
            _verify(folder, manifest, made)
            write_whole(folder / MANIFEST, manifest.to_json().encode())
            journal.remove()
    return Prepared(folder, manifest, len(made), len(kept), time.perf_counter() - begun)


def stray_files(folder: str | Path, manifest: Manifest) -> list[str]:
    """Files of a prepared folder that its manifest does not list, sorted; hidden ones are left alone."""
    folder = Path(folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(name for name in found - set(manifest.files) - {MANIFEST} if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _cpus() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder to prepare the data in. Found the file {folder}.")
    ours = (MANIFEST, JOURNAL, LOCK)
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in ours):
        some = ", ".join(sorted(path.name for path in folder.iterdir())[:3])
        raise ValueError(
            f"Expected an empty folder, or one that an earlier run of the same command began. Found other things in "
            f"{folder}: {some}. Choose another folder."
        )


def _known(folder: Path, head: Manifest) -> dict[str, Entry]:
    """The files that earlier runs finished, once it is sure that they were to make the same."""
    found = read_journal(folder) or read_manifest(folder)
    if found is None:
        return {}
    check_same(
        found.head(), head.head(), f"{folder} holds files that were made", "Use another folder, or delete this one."
    )
    return dict(found.files)


@contextmanager
def _telling_what_is_left(folder: Path, plan: Plan) -> Iterator[None]:
    """Say of a full disk and of a killed process what they mean."""
    try:
        yield
    except BrokenProcessPool as error:
        raise OSError(
            f"A process that was making {folder} ended abruptly; perhaps memory ran out. What is finished stays: run "
            "the same command again to go on, with fewer processes if it happens again."
        ) from error
    except OSError as error:
        if error.errno not in _FULL:
            raise
        known = read_journal(folder)
        done = {} if known is None else known.files
        total = sum(len(job.files) for job in plan.jobs)
        each = sum(entry.bytes for entry in done.values()) / len(done) if done else 0
        needed = f", about {each * (total - len(done)) / 1e6:,.0f} MB more" if done else ""
        raise OSError(
            f"The disk of {folder} is full: {len(done)} of {total} files are there and stay. Make room{needed}, then "
            "run the same command again; it goes on from there."
        ) from error


def _kept(plan: Plan, folder: Path, known: Mapping[str, Entry]) -> dict[str, Entry]:
    """The files of the jobs that an earlier run has done, read and compared with its checksums."""
    kept: dict[str, Entry] = {}
    for job in plan.jobs:
        entries = {name: known[name] for name in job.files if name in known}
        if len(entries) == len(job.files) and all(entry.matches(folder / name) for name, entry in entries.items()):
            kept.update(entries)
    return kept


def _make_rest(
    plan: Plan, folder: Path, kept: Mapping[str, Entry], journal: Journal, processes: int, progress: Progress | None
) -> dict[str, Entry]:
    """Do the jobs that are left, recording each as it ends."""
    jobs = [job for job in plan.jobs if not all(name in kept for name in job.files)]
    made: dict[str, Entry] = {}
    if progress is not None:
        progress(len(plan.jobs) - len(jobs), len(plan.jobs))
    for left, entries in enumerate(_results(jobs, folder, min(processes, len(jobs))), start=1 - len(jobs)):
        journal.add(entries)
        made.update(entries)
        if progress is not None:
            progress(len(plan.jobs) + left, len(plan.jobs))
    return made


def _results(jobs: Sequence[Job], folder: Path, processes: int) -> Iterator[dict[str, Entry]]:
    """What each job made, in the order in which they end. Jobs under way when one fails still end, and count."""
    if processes < 2:
        yield from (_work(folder, job) for job in jobs)
        return
    # A fresh interpreter each: a fork would copy the threads' locks of this one, and the lock on the folder.
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker)
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        futures: list[Future[dict[str, Entry]]] = [pool.submit(_work, folder, job) for job in jobs]
        failure: BaseException | None = None
        for future in as_completed(futures):
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                yield future.result()
            elif failure is None:
                failure = error
                for other in futures:
                    other.cancel()
        if failure is not None:
            raise failure


def _begin_worker() -> None:
    """One thread each; deaf to Ctrl-C, which the parent handles; gone as soon as the parent is."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


def _work(folder: Path, job: Job) -> dict[str, Entry]:
    """Make the files of one job."""
    contents = job.make()
    if len(contents) != len(job.files):
        raise RuntimeError(f"A job should make {len(job.files)} files, {job.files}. Found {len(contents)}.")
    entries = {}
    for name, content in zip(job.files, contents, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        entries[name] = Entry(len(content), hashlib.sha256(content).hexdigest())
    return entries


def _verify(folder: Path, manifest: Manifest, made: Mapping[str, Entry]) -> None:
    """Raise unless the files made now lie on disk as they were made, and no files that nobody made."""
    wrong = [name for name, entry in made.items() if not entry.matches(folder / name)]
    if wrong:
        raise OSError(
            f"{folder / wrong[0]}: expected the file as it was written. Found it changed or gone, as {len(wrong)} of "
            f"{len(made)} files are. Run the same command again; if this happens again, check the disk."
        )
    stray = stray_files(folder, manifest)
    if stray:
        raise ValueError(
            f"{folder}: expected no files but those that this command makes. Found {len(stray)} others, the first "
            f"{stray[0]}. Move them away and run the same command again."
        )
