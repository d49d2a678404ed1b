"""Where the units of a run are computed: in this process, or by the workers of a Ray cluster.

A worker is a Ray actor with a GPU or some CPU cores of its own, which loads model, attacks and data once. It has one
unit at a time, so that a slow one gets fewer. Only this process, the driver, stores results: hosts share no folder. A
unit whose worker has gone is handed to another one. Ray could restart the worker (``max_restarts``), but would wait for
room to do so: where a whole host has gone, that is for ever, while the hosts that are left could do the work.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from art_mtl.core.warn import warn
from art_mtl.evaluation import environment

if TYPE_CHECKING:
    import socket

    from art_mtl.evaluation.job import Job, OnStep
    from art_mtl.evaluation.units import Unit, UnitResult

Save = Callable[["Unit", "UnitResult", int], None]
"""Told a unit, what it came to, and the number of the worker that computed it."""

_OLDEST = (2, 52)
"""The first version of Ray with token authentication."""
_TRIES = 3
"""How often a unit may end the process that computes it, and workers in a row may end before they are ready."""
_LOOK = 1.0
"""Seconds between two looks for hosts that have joined."""
_PATIENCE = 600.0
"""Seconds to wait for a worker where there is none."""
_ANSWER = 10.0
"""Seconds in which a cluster should answer."""
_HELLO, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\4"
"""How HTTP/2, and with it gRPC, begins (RFC 9113, section 3.4), and the type of the first frame of the answer."""
_OBJECT_STORE = 100 * 2**20
"""Bytes of shared memory of a local Ray, beside the model and the data."""

_log = logging.getLogger(__name__)

__all__ = ["check_not_torchrun", "cpu_threads", "work"]


def check_not_torchrun() -> None:
    """Raise ValueError where ``torchrun`` has started several processes: an evaluation is started as one."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise ValueError(
            f"An evaluation should be started as one process. Found WORLD_SIZE={size}, which torchrun sets. Write "
            "`art-mtl benchmark … --ray local` for all devices of this host, `--ray auto` for those of a Ray cluster; "
            "from Python, `evaluate(…, ray='local')`."
        )


def work(
    job: Job,
    pending: Sequence[Unit],
    save: Save,
    ray: str | None = None,
    on_step: OnStep | None = None,
) -> None:
    """Compute units.

    Args:
        job: What they are part of.
        pending: What is to be done, in the order in which it is begun.
        save: Told of every unit that is finished, in this process, one after another.
        ray: None computes all of them here. "local" starts Ray on this host: a worker for each GPU or, where the model
            is on the CPU, for every ``job.threads`` cores. "auto" joins the Ray cluster of this host, an address any.
        on_step: Called at every step of the attacks that this process runs; see :meth:`Job.compute`.

    Raises:
        ImportError: Ray is not installed, or too old.
        ConnectionError: There is no cluster to join.
        ValueError: Model, attacks or data cannot be sent to workers; or a host has other versions of packages.
        OSError: A unit has ended its process several times, or no host has room for a worker.

    Whatever a unit raises ends the work, in a worker as it does here.
    """
    if ray is None:
        with cpu_threads(job.threads):
            for unit in pending:
                save(unit, job.compute(unit, on_step), 0)
    elif pending:
        engine = _engine(ray)
        packed = _packed(engine, job)
        with _connected(engine, ray, len(packed)):
            _Crew(engine, job, packed, pending, save, growing=ray != "local").run()


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads of the CPU; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _engine(address: str) -> ModuleType:
    """Ray itself: without telemetry, with token authentication where this process starts it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == "local" and "ray" not in sys.modules:  # which reads it when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise ImportError("Several devices should have Ray: pip install '.[ray]'. Found it missing.") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _OLDEST:
        raise ImportError(
            f"Several devices should have Ray {_OLDEST[0]}.{_OLDEST[1]} or newer. Found {ray.__version__}."
        )
    return ray


@contextmanager
def _connected(ray: ModuleType, address: str, size: int) -> Iterator[None]:
    """A cluster, to be left, or ended if it was started here; one that the user's program is in is used as it is."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE + 2 * size}
    else:
        _check_reachable(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Ray's future
            ray.init(**options)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
        yield
    except ConnectionError as error:
        raise _no_cluster(address, error) from error
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise ConnectionError unless a cluster answers there, by TLS if this process uses it: Ray would try for ever."""
    import socket

    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "://" in address:  # "auto", and forms that only Ray knows
        return
    host = host.strip("[]")
    try:
        with socket.create_connection((host, int(port)), timeout=_ANSWER) as plain, _secured(plain, host) as connection:
            connection.sendall(_HELLO)
            if connection.recv(4)[3:] != _SETTINGS:
                raise OSError("no gRPC by the same RAY_USE_TLS")
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _secured(connection: socket.socket, host: str) -> socket.socket:
    """The same, or TLS in it, as Ray's own environment variables tell."""
    if os.environ.get("RAY_USE_TLS", "").lower() not in ("1", "true"):
        return connection
    import ssl

    context = ssl.create_default_context(cafile=os.environ.get("RAY_TLS_CA_CERT"))
    if "RAY_TLS_SERVER_CERT" in os.environ:
        context.load_cert_chain(os.environ["RAY_TLS_SERVER_CERT"], os.environ.get("RAY_TLS_SERVER_KEY"))
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(connection, server_hostname=host)


def _no_cluster(address: str, error: Exception) -> ConnectionError:
    return ConnectionError(
        f"Parameter `ray` should be 'local', 'auto' or the address of a running cluster with the same token and TLS. "
        f"Found {address!r}: {error}"
    )


@dataclass(frozen=True)
class _Failure:
    """What a unit raised, and where."""

    error: Exception
    trace: str


class _WorkerTraceback(Exception):
    """Shown as the cause of what a unit raised in a worker."""


class Worker:
    """A process of the cluster.

    Args:
        packages: The versions that this host should have.
        threads: Of torch.
    """

    def __init__(self, packages: Mapping[str, str], threads: int) -> None:
        self.packages, self.threads = packages, threads
        self.job: Job | None = None

    def load(self, packed: Any) -> bytes:
        """Load model, attacks and data; the host, the process and whether the cluster asks for a token, pickled."""
        return _pickled(lambda: self._load(packed))

    def compute(self, unit: Unit) -> bytes:
        """A :class:`UnitResult`, or :class:`_Failure`, pickled: Ray's own copies would share memory with its store."""
        return _pickled(lambda: self._compute(unit))

    def _load(self, packed: Any) -> tuple[str, int, bool]:
        import socket

        host = socket.gethostname()
        packages = environment.describe("", None).packages
        found = [
            f"{name} {here} there, {packages.get(name, 'none')} here"
            for name, here in self.packages.items()
            if packages.get(name) != here
        ]
        if found:
            raise ValueError(
                f"Host {host} should have the packages of the host that started the run. Found {'; '.join(found)}."
            )
        torch.set_num_threads(self.threads)
        self.job = pickle.loads(packed)
        return host, os.getpid(), os.environ.get("RAY_AUTH_MODE", "").lower() == "token"

    def _compute(self, unit: Unit) -> UnitResult:
        if self.job is None:
            raise RuntimeError("A worker should have been loaded before it computes. Found it empty.")
        return self.job.compute(unit)


def _pickled(compute: Callable[[], Any]) -> bytes:
    try:
        return pickle.dumps(compute())
    except Exception as error:  # the user's, to be raised where the user sees it
        trace = traceback.format_exc()
        try:
            return pickle.dumps(_Failure(pickle.loads(pickle.dumps(error)), trace))
        except Exception:  # one that cannot be sent
            return pickle.dumps(_Failure(RuntimeError(f"{type(error).__name__}: {error}"), trace))


@dataclass(frozen=True)
class _Hand:
    """A worker, seen from the driver."""

    number: int
    actor: Any


class _Crew:
    """The workers, what they are at, and what is to be done.

    Args:
        ray: The engine, connected.
        job: What units are part of.
        packed: The same, for workers.
        pending: Units.
        save: Told of every unit that is finished.
        growing: Hosts may join.
    """

    def __init__(
        self, ray: ModuleType, job: Job, packed: bytes, pending: Sequence[Unit], save: Save, growing: bool
    ) -> None:
        self.ray, self.job, self.save, self.growing = ray, job, save, growing
        self.queue, self.lost = deque(pending), Counter["Unit"]()
        self.at_work: dict[Any, tuple[_Hand, Unit | None]] = {}
        """What is waited for: a unit, or None where a worker loads."""
        self.idle: list[_Hand] = []
        self.hired, self.stillborn, self.asked = 0, 0, False
        self.need = self._needed()
        self.packed = ray.put(packed)
        self.packages = environment.describe("", None).packages

    def run(self) -> None:
        """Until all units are finished."""
        news = time.monotonic()
        try:
            while self._left():
                self._hire()
                self._assign()
                ready, _ = self.ray.wait(list(self.at_work), timeout=_LOOK)
                for reference in ready:
                    self._settle(reference)
                if ready or any(unit is not None for _, unit in self.at_work.values()):
                    news = time.monotonic()
                elif time.monotonic() - news > _PATIENCE:
                    raise OSError(
                        f"The cluster should have a host with {self._needs()} for a worker. Found none for "
                        f"{_PATIENCE / 60:.0f} minutes."
                    )
        finally:
            for hand in [*self.idle, *(hand for hand, _ in self.at_work.values())]:
                self.ray.kill(hand.actor)

    def _needed(self) -> dict[str, float]:
        """Resources of a worker."""
        threads = self.job.threads
        if self.job.evaluator.estimator.device.type == "cpu":
            return {"CPU": threads or torch.get_num_threads()}
        found = [node["Resources"] for node in self._nodes() if node["Resources"].get("GPU")]
        share = min((int(each.get("CPU", 1) // each["GPU"]) for each in found), default=1)
        return {"CPU": threads or max(share, 1), "GPU": 1}

    def _needs(self) -> str:
        gpu = "a GPU and " if "GPU" in self.need else ""
        return f"{gpu}{self.need['CPU']:g} free CPU core(s)"

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _room(self) -> int:
        """How many workers the hosts that are there can have."""
        resources = [node["Resources"] for node in self._nodes()]
        return sum(min(int(each.get(kind, 0) // count) for kind, count in self.need.items()) for each in resources)

    def _left(self) -> int:
        return len(self.queue) + sum(unit is not None for _, unit in self.at_work.values())

    def _hire(self) -> None:
        """A worker wherever there is room; where hosts may join, one more, which waits for them."""
        room = self._room()
        if not room and not self.growing:
            raise ValueError(f"A worker should have {self._needs()}. Found fewer on this host; lower `threads`.")
        if not room and not self.hired:
            _log.warning("The run waits for a host with %s to join the cluster.", self._needs())
        kind = self.ray.remote(num_cpus=self.need["CPU"], num_gpus=self.need.get("GPU", 0))(Worker)
        for _ in range(min(self._left(), room + self.growing) - len(self.idle) - len(self.at_work)):
            actor = kind.remote(self.packages, int(self.need["CPU"]))
            self.at_work[actor.load.remote(self.packed)] = _Hand(self.hired, actor), None
            self.hired += 1

    def _assign(self) -> None:
        while self.idle and self.queue:
            hand, unit = self.idle.pop(), self.queue.popleft()
            self.at_work[hand.actor.compute.remote(unit)] = hand, unit

    def _settle(self, reference: Any) -> None:
        """Take what a worker hands in, or note that it has gone."""
        hand, unit = self.at_work.pop(reference)
        try:
            found = pickle.loads(self.ray.get(reference))
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            self.ray.kill(hand.actor)
            self._count(unit, error)
            return
        self.idle.append(hand)
        if isinstance(found, _Failure):
            raise found.error from _WorkerTraceback(f"\n{found.trace}")
        if unit is not None:
            self.save(unit, found, hand.number)
            return
        self.stillborn = 0
        host, process, token = found
        _log.info("Worker %d is at work on host %s, process %d.", hand.number, host, process)
        if not token and not self.asked:
            self.asked = True
            warn(
                "The Ray cluster asks for no token: whoever reaches its ports can run code on its hosts. Start it with "
                "RAY_AUTH_MODE=token.",
                RuntimeWarning,
            )

    def _count(self, unit: Unit | None, error: Exception) -> None:
        if unit is None:
            self.stillborn += 1
            if self.stillborn == _TRIES:
                raise OSError(
                    f"A worker should load model, attacks and data. Found {_TRIES} in a row that ended before: {error}"
                ) from error
            return
        self.queue.appendleft(unit)
        self.lost[unit] += 1
        _log.warning("A worker has gone; %s, chunk %d, is computed again.", self.job.label(unit), unit.chunk)
        if self.lost[unit] == _TRIES:
            raise OSError(
                f"{self.job.label(unit)}, chunk {unit.chunk}, should end with a result. Found that it has ended its "
                f"worker {_TRIES} times: {error}"
            ) from error


def _packed(ray: ModuleType, job: Job) -> bytes:
    from art_mtl.evaluation.sending import pack

    parts = {"the model": job.evaluator, "the data": job.source}
    parts |= {f"attack {info.name!r}": attack for info, attack in job.attacks}
    return pack(ray.cloudpickle, job, parts)
