"""A model, data and attacks for runs on many devices. Every call of an attack is written to a file."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import Results, evaluate, make_table, to_csv

SAMPLES, CHUNK = 24, 4
CHUNKS = SAMPLES // CHUNK


class Net(torch.nn.Module):
    """Segmentation into 3 classes and depth."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.last = torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.Conv2d(8, 4, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.last(torch.relu(self.first(x)))
        return {"seg": 3 * out[:, :3], "depth": 2 + out[:, 3:]}


class Noted:
    """An attack that writes name, chunk and process of every call to a file.

    Args:
        inner: What it runs.
        calls: The file.
        seconds: To wait in each call.
        fault: What happens in the chunk that is marked by ``at``: an exception is raised, "exit" ends the process.
        at: Number of a chunk.
        processes: A call waits until so many processes have called, so that on a busy machine too each has its part.
    """

    def __init__(
        self, inner: Any, calls: Path, seconds: float = 0.0, fault: Any = None, at: int = 0, processes: int = 1
    ) -> None:
        self.inner, self.calls, self.seconds, self.fault, self.at = inner, calls, seconds, fault, at
        self.processes = processes
        self.name, self.norm, self.eps = inner.name, inner.norm, inner.eps

    def generate(self, x: np.ndarray, y: Any = None) -> np.ndarray:
        """Adversarial inputs."""
        chunk = CHUNK_OF[mark(x)]
        descriptor = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{self.name} {chunk} {os.getpid()}\n".encode())
        os.close(descriptor)
        end = time.monotonic() + 120
        while len({process for _, _, process in called(self.calls)}) < self.processes and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(self.seconds)
        if self.fault is not None and chunk == self.at:
            if self.fault == "exit":
                os._exit(1)
            raise self.fault
        return self.inner.generate(x, y)


def mark(x: np.ndarray) -> str:
    """By what a chunk is known."""
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def inputs() -> np.ndarray:
    """In [0, 1]; the same in every process."""
    return np.random.default_rng(0).uniform(0, 1, (SAMPLES, 1, 6, 8)).astype(np.float32)


CHUNK_OF = {mark(inputs()[c * CHUNK : (c + 1) * CHUNK]): c for c in range(CHUNKS)}


def make_estimator(device: str = "cpu") -> PyTorchMultiTaskEstimator:
    """Of the net."""
    both = [tasks.segmentation("seg", 3), tasks.depth("depth")]
    return PyTorchMultiTaskEstimator(Net().eval(), both, (1, 6, 8), clip_values=(0.0, 1.0), device_type=device)


def data(estimator: PyTorchMultiTaskEstimator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels near the model's own answers."""
    raw = estimator.predict(inputs())
    return inputs(), {"seg": raw["seg"].argmax(1), "depth": raw["depth"] + 0.1}


def run(
    calls: Path, *, seconds: float = 0.0, fault: Any = None, at: int = 0, processes: int = 1, **options: Any
) -> Results:
    """Two attacks on all chunks."""
    estimator = make_estimator()
    inner = [
        MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=3, num_random_init=1, verbose=False),
        WorstTaskPGD(estimator, eps=0.1, max_iter=3, weight_group=CHUNK, verbose=False),
    ]
    attacks = [Noted(attack, calls, seconds, fault, at, processes) for attack in inner]
    settings = {"seed": 0, "chunk": CHUNK, "batch_size": 3, "progress": False, "threads": 1, **options}
    return evaluate(estimator, attacks, data(estimator), **settings).results


def table(results: Results) -> str:
    """What must not depend on who computed it."""
    return to_csv(make_table(results))


def figures(results: Results) -> list[dict[str, Any]]:
    """All that was found but the time it took."""
    return [{**vars(attack), "seconds": 0} for attack in results.attacks]


def called(calls: Path) -> list[tuple[str, int, int]]:
    """Name, chunk and process of every call so far."""
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [(name, int(chunk), int(process)) for name, chunk, process in map(str.split, lines)]


def ended(calls: Path) -> set[int]:
    """The processes of the calls so far that are no more, when there are some."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        gone = {process for _, _, process in called(calls) if not _command(process)}
        if gone:
            return gone
        time.sleep(0.05)
    raise AssertionError("expected a process that has ended; found none")


def _command(process: int) -> bytes:
    """Empty for one that has ended, reaped or not."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def check_calls(calls: Path, killed: set[int]) -> int:
    """Raise unless every unit was computed, and none again but what a killed process was at; how many were."""
    units: dict[tuple[str, int], list[int]] = {}
    for name, chunk, process in called(calls):
        units.setdefault((name, chunk), []).append(process)
    assert len(units) == 2 * CHUNKS
    again = {unit: processes for unit, processes in units.items() if len(processes) > 1}
    assert all(set(processes[:-1]) <= killed for processes in again.values()), (again, killed)
    assert all(processes[-1] not in killed or len(processes) == 1 for processes in units.values())
    return len(again)
