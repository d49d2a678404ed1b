"""Who works what: the processes of a team take units in order and hand what they found to the first one.

The work goes through a key-value store of :mod:`torch.distributed` that the first process serves, not through
collectives: these want all processes at one place at once, and time out where one chunk takes longer than the next.
Folders need not be shared between hosts, because only the first process writes.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from art_mtl.evaluation.runs.records import Unit, UnitResult
from art_mtl.team import ProcessGroup

Compute = Callable[[Unit], UnitResult]
Save = Callable[[Unit, UnitResult, int], None]
"""Unit, what it came to, rank of the process that worked it; called in the first process, by one thread."""
T = TypeVar("T")

_POLL = 0.05
"""Seconds between two looks for news."""
_STARTING = timedelta(minutes=5)
_LAST_ANSWER = 60.0
"""Seconds that the first process waits for the others to have read the result."""

__all__ = ["share_out"]


def share_out(
    team: ProcessGroup, pending: Sequence[Unit], compute: Compute, save: Save, conclude: Callable[[], T]
) -> T:
    """Work all units, each once; return in every process what the first one concludes.

    Args:
        team: The processes.
        pending: What is to be done, the same in all processes.
        compute: Works one unit.
        save: Keeps what it came to, called in the first process only, in the order in which units are finished.
        conclude: Called in the first process when all is saved; its result must be one that can be pickled.

    Raises:
        ValueError: Another process failed; the message is its own.
        OSError: The first process has gone.
    """
    if team.size == 1:
        for unit in pending:
            save(unit, compute(unit), 0)
        return conclude()
    with _member(team, pending) as member:
        return member.lead(compute, save, conclude) if team.is_first else member.follow(compute)


@contextmanager
def _member(team: ProcessGroup, pending: Sequence[Unit]) -> Iterator[_Member]:
    host = os.environ["MASTER_ADDR"]
    server = TCPStore(host, 0, is_master=True, timeout=_STARTING, wait_for_workers=False) if team.is_first else None
    port = team.by_first(lambda: server.port if server is not None else 0)
    store = server or TCPStore(host, port, is_master=False, timeout=_STARTING)
    try:
        yield _Member(team, store, pending)
    except DistError as error:
        raise OSError(f"The first process should be there until all is done. Found it gone: {error}") from error


class _Member:
    """Where units are taken and results handed in.

    Args:
        team: The processes.
        store: That all of them reach.
        pending: Units by number.
    """

    def __init__(self, team: ProcessGroup, store: TCPStore, pending: Sequence[Unit]) -> None:
        self.team, self.store, self.pending = team, store, pending
        self.fault: BaseException | None = None

    def lead(self, compute: Compute, save: Save, conclude: Callable[[], T]) -> T:
        """Work, while a thread saves what all processes hand in."""
        stopped = threading.Event()
        writer = threading.Thread(target=self._collect, args=(save, stopped), daemon=True)
        writer.start()
        try:
            with self._telling():
                self._work(compute)
                writer.join()
                if self.fault is not None:
                    raise self.fault
                self._check()
                result = conclude()
        finally:
            stopped.set()
            writer.join()
        self.store.set("result", pickle.dumps(result))  # type: ignore[arg-type]
        self._await_last_answers()
        return result

    def follow(self, compute: Compute) -> Any:
        """Work, then wait for the result."""
        with self._telling():
            self._work(compute)
        while not self.store.check(["result"]):
            self._check()
            time.sleep(_POLL)
        result = pickle.loads(self.store.get("result"))
        self.store.add("final_messages", 1)
        return result

    def _work(self, compute: Compute) -> None:
        while self.fault is None:
            self._check()
            number = self.store.add("taken", 1) - 1
            if number >= len(self.pending):
                return
            finished = compute(self.pending[number])
            self.store.set(f"unit {number}", pickle.dumps((self.team.rank, finished)))  # type: ignore[arg-type]

    def _collect(self, save: Save, stopped: threading.Event) -> None:
        """Save units as they come, until all are there or something failed."""
        outstanding, taken = set[int](), 0
        try:
            while not stopped.is_set() and (outstanding or taken < len(self.pending)):
                now = min(self.store.add("taken", 0), len(self.pending))
                outstanding |= set(range(taken, now))
                taken = now
                arrived = [number for number in sorted(outstanding) if self.store.check([f"unit {number}"])]
                for number in arrived:
                    rank, finished = pickle.loads(self.store.get(f"unit {number}"))
                    save(self.pending[number], finished, rank)
                    self.store.delete_key(f"unit {number}")
                    outstanding.remove(number)
                if not arrived:
                    if self.store.check(["fault"]):
                        return
                    time.sleep(_POLL)
        except BaseException as error:  # told by the thread that waits for this one
            self.fault = error

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Let the others know of a failure."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, DistError) and not self.store.check(["fault"]):
                self.store.set("fault", f"{self.team.rank} {type(error).__name__}: {error}")
            raise

    def _check(self) -> None:
        if self.store.check(["fault"]):
            rank, _, told = self.store.get("fault").decode().partition(" ")
            raise ValueError(f"Process {rank} of the run failed: {told}")

    def _await_last_answers(self) -> None:
        end = time.monotonic() + _LAST_ANSWER
        while self.store.add("final_messages", 0) < self.team.size - 1 and time.monotonic() < end:
            time.sleep(_POLL)
