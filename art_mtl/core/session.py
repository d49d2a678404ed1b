"""Batches that are attacked one after another, and what those that follow know of those before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core.batch import AttackBatch
from art_mtl.core.chunks import DEFAULT_CHUNK
from art_mtl.core.context import RunningStatistics
from art_mtl.core.forward import Forward, MicroBatching
from art_mtl.core.loop import Observer, attack
from art_mtl.core.method import Method
from art_mtl.core.run_log import RunLog
from art_mtl.core.threat import RunConfig
from art_mtl.prepared.signature import Path, differences, outside, signature
from art_mtl.tasks import Task

_ROOM = 1.25
"""How much longer than asked for a chunk may grow, so that a few samples need not begin one of their own."""


def content(value: Any) -> Any:
    """A setting as it is now, to be compared: tensors and arrays by their content, whatever becomes of them later.

    Examples:
        >>> eps = torch.tensor(0.1)
        >>> before = content([eps, "Linf"])
        >>> before == content([eps.clone(), "Linf"]), before == content([eps.mul_(2), "Linf"])
        (True, False)
    """
    if isinstance(value, (list, tuple)):
        return tuple(content(part) for part in value)
    if isinstance(value, Mapping):
        return tuple((name, content(part)) for name, part in value.items())
    if isinstance(value, Tensor):
        octets = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return tuple(value.shape), str(value.dtype), octets.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    return value


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
    _settings: object = None
    _model: dict[Path, Any] = field(default_factory=dict)
    _written: set[Path] | None = None

    def match(self, settings: object, model: Any) -> None:
        """Begin a new chunk where settings or model are others than those of the call before.

        Args:
            settings: Everything beside the model that decides a result.
            model: As :func:`~art_mtl.prepared.signature.signature` takes it. What its own forward pass writes, such as
                a counter, does not count; see :meth:`learn`.
        """
        found = signature(model, versions=False)
        if settings != self._settings or outside(differences(self._model, found), self._written or set()):
            self.reset()
            self._written = None
        self._settings, self._model = settings, found

    def learn(self, model: Any) -> None:
        """After the first call of a chunk: what of the model differs from before was written by its forward pass."""
        if self._written is None:
            found = signature(model, versions=False)
            written = differences(self._model, found)
            # Weights that a forward pass writes are compared with what they have become.
            self._written = {path for path in written if "_parameters" not in path}
            self._model = found

    def forget(self) -> None:
        """Begin a new chunk at the next call, whatever its state."""
        self.reset()
        self._settings = None

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
