"""Batches that are attacked one after another, and what those that follow know of those before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import Tensor

from art_mtl.core.batch import AttackBatch
from art_mtl.core.chunks import DEFAULT_CHUNK
from art_mtl.core.context import RunningStatistics
from art_mtl.core.forward import Forward, MicroBatching
from art_mtl.core.loop import Observer, attack
from art_mtl.core.method import Method
from art_mtl.core.run_log import RunLog
from art_mtl.core.threat import RunConfig
from art_mtl.tasks import Task

_ROOM = 1.25
"""How much longer than asked for a chunk may grow, so that a few samples need not begin one of their own."""


def versions(tensors: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    """What is another one where a tensor was replaced or written to."""
    return tuple((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)


@dataclass
class Session:
    """Running statistics of one chunk, by restart.

    Attributes:
        statistics: They matter with the scope "dataset" only.
        samples: How many the chunk holds so far.
        micro_batching: How much of a batch passes through the network at once.
    """

    statistics: dict[int, RunningStatistics] = field(default_factory=dict)
    samples: int = 0
    micro_batching: MicroBatching = field(default_factory=MicroBatching)
    _state: object = None

    def match(self, state: object) -> None:
        """Begin a new chunk where the state is another one than that of the call before."""
        if state != self._state:
            self.reset()
            self._state = state

    def reset(self) -> None:
        """Begin a new chunk."""
        self.statistics, self.samples = {}, 0

    def make_room(self, method: Method, samples: int) -> None:
        """Begin a new chunk where ``samples`` more would overfill this one; a few may join it all the same.

        For hosts that hand over batch by batch, and cannot say how many will follow.
        """
        chunk = method.group or DEFAULT_CHUNK
        together = self.samples + samples
        few = samples <= (_ROOM - 1) * chunk and together <= _ROOM * chunk
        if together > chunk and not (few and self.samples <= chunk):
            self.reset()

    def attack(
        self,
        forward: Forward,
        tasks: tuple[Task, ...],
        method: Method,
        config: RunConfig,
        batch: AttackBatch,
        norm: float,
        *,
        observer: Observer | None = None,
        log: RunLog | None = None,
        first_index: int = 0,
    ) -> Tensor:
        """Attack one batch, on its device; it counts for those that follow."""
        found = attack(
            forward,
            batch.inputs,
            tasks,
            batch.targets,
            method,
            batch.threat(norm),
            replace(config, step_size=batch.step_size),
            statistics=self.statistics if method.scope == "dataset" else None,
            observer=observer,
            log=log,
            first_index=first_index,
            micro_batching=self.micro_batching,
        )
        self.samples += len(batch)
        return found
