"""How many samples a batch should hold: measured on the spot."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from art_mtl.core.forward import Forward, ForwardBackward, MicroBatching, out_of_memory
from art_mtl.prepared import saved_activations
from art_mtl.structure import tensors_in

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

LEAST_GAIN = 0.05
"""Doubling a batch goes on as long as it raises the samples a second by this share."""
_REPEATS = 2
_USABLE = 0.5
"""Share of the host's free memory that activations may take: what else a pass needs is of their size."""


@dataclass(frozen=True)
class BatchSize:
    """What was measured.

    Attributes:
        size: Samples a batch.
        reason: Why not more: "gain", "memory" or "samples" (there are no more).
        rates: Batch size to samples a second, of one forward and one backward pass.
    """

    size: int
    reason: str
    rates: dict[int, float] = field(compare=False)

    @property
    def ran_out(self) -> bool:
        """Whether there were no more samples to try."""
        return self.reason == "samples"


def measure_batch_size(forward: Forward, x: Tensor, device: torch.device) -> BatchSize:
    """Double the batch until memory, the gain or the samples end; one log line.

    A batch is measured by one forward pass and one backward pass to the inputs, the faster of two. Costs about four
    such passes over the largest batch tried.

    Args:
        forward: Inputs on ``device`` to one raw output a task, differentiable; parameters are not differentiated.
        x: Clean inputs ``(N, ...)``, on any device; as many as a batch may hold.
        device: Where the network computes.

    Raises:
        RuntimeError: Out of memory with one sample.

    Examples:
        >>> found = measure_batch_size(lambda x: [x.sum((1, 2, 3))], torch.rand(1, 1, 8, 8), torch.device("cpu"))
        >>> found.size, found.reason
        (1, 'samples')
    """
    rates: dict[int, float] = {}
    best, reason = 1, "samples"
    room = _room(forward, x[:1].to(device)) if device.type == "cpu" else len(x)
    for size in _doublings(len(x)):
        if size > room:
            reason = "memory"
            break
        try:
            rates[size] = size / _seconds(forward, x[:size].to(device))
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
            reason = "memory"
            break
        if size > 1 and rates[size] < (1 + LEAST_GAIN) * rates[best]:
            reason = "gain"
            break
        best = size
    if reason == "memory" and device.type == "cuda":
        torch.cuda.empty_cache()
    _log.info("Batch size %d (%s): %s samples a second.", best, reason, {n: round(r, 1) for n, r in rates.items()})
    return BatchSize(best, reason, rates)


def _doublings(most: int) -> Iterator[int]:
    """1, 2, 4, … and ``most``."""
    size = 1
    while size < most:
        yield size
        size *= 2
    yield most


class _Whole(MicroBatching):
    """Batches as they are: what does not fit is what is measured."""

    def attempt(self, samples: int, run: Callable[[int], _Result]) -> _Result:
        return run(samples)


def _pass(forward: Forward, x: Tensor) -> None:
    network = ForwardBackward(forward, _Whole())
    outputs = [output for output in tensors_in(network.forward(x)) if output.requires_grad]
    if outputs:
        network.gradient(outputs, [torch.ones_like(output) for output in outputs])


def _seconds(forward: Forward, x: Tensor) -> float:
    if len(x) == 1:
        _pass(forward, x)  # What is set up once does not count.
    return min(_timed(lambda: _pass(forward, x), x.device) for _ in range(_REPEATS))


def _timed(run: Callable[[], None], device: torch.device) -> float:
    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    start = wait()
    run()
    return max(wait() - start, 1e-9)


def _room(forward: Forward, x: Tensor) -> float:
    """Samples whose activations the host has room for; infinity if it does not say, at least 1.

    A host that has promised more memory than it has kills the process in place of raising an error.
    """
    free = _free_memory()
    if free is None:
        return float("inf")
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        own = saved_activations(lambda: forward(leaf.clone()), [leaf])
    return max(1.0, _USABLE * free / max(own, 1))


def _free_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass  # Not Linux.
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
