"""The processes that train together: one, or as many as ``torchrun`` has started on one or several hosts."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = ["DEVICES", "ProcessGroup", "assemble", "is_first"]

DEVICES = ("auto", "cpu", "gpu")
_NEEDED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError)

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """What a process knows of the others.

    Attributes:
        rank: its number, from 0; the first one writes the files.
        size: how many there are.
        device: where it computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and shows progress."""
        return self.rank == 0

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes; each gets the same bits."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def by_first(self, work: Callable[[], T]) -> T:
        """Do something in the first process only, and give its result to all.

        Args:
            work: returns something that can be pickled.

        Raises:
            ValueError, TypeError, OSError, ImportError: What ``work`` raised, in every process.
        """
        if self.size == 1:
            return work()
        outcome: list[tuple[T | None, Exception | None] | None] = [None]
        if self.is_first:
            try:
                outcome = [(work(), None)]
            except _USER_ERRORS as error:
                outcome = [(None, error)]
        distributed.broadcast_object_list(outcome, src=0)
        if outcome[0] is None:
            raise RuntimeError("The first process should have sent its result. Found none.")
        result, failure = outcome[0]
        if failure is not None:
            raise failure
        return result  # type: ignore[return-value]

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to train: parameters as in the first process, gradients averaged over all.

        On GPUs batch normalisation counts the images of all processes; on CPUs, where torch cannot, each counts its
        own, and the first one's running figures are kept.
        """
        if self.size == 1:
            return model
        if self.device.type == "cuda":
            return nn.parallel.DistributedDataParallel(model, device_ids=[self.device.index])
        return nn.parallel.DistributedDataParallel(model)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)


def is_first() -> bool:
    """Whether this process is the first, or the only one, before they have been assembled."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def assemble(device: str = "auto") -> Iterator[ProcessGroup]:
    """The team of this process: by the environment that ``torchrun`` sets, else alone.

    Args:
        device: "auto" (a GPU where there is one), "cpu" or "gpu"; of several GPUs each process takes its own.

    Raises:
        ValueError: Another device, no GPU where one is asked for, fewer GPUs than processes on this host, or part of
            torchrun's variables missing.

    Examples:
        >>> with assemble("cpu") as team:
        ...     print(team.size, team.is_first, team.device)
        1 True cpu
    """
    if device not in DEVICES:
        raise ValueError(f"Parameter `device` should be one of {', '.join(DEVICES)}. Found {device!r}.")
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("Parameter `device` is 'gpu', for which torch should see a GPU. Found none.")
    cuda = device != "cpu" and torch.cuda.is_available()
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ProcessGroup(0, 1, torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu"))
        return
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {size}, for which the environment should hold {', '.join(_NEEDED)} too. Found no "
            f"{', '.join(missing)}. Start several processes with torchrun, or unset WORLD_SIZE."
        )
    with _group("nccl" if cuda else "gloo", where := _device(cuda)):
        yield ProcessGroup(_number("RANK", 0), size, where)


@contextmanager
def _group(backend: str, device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if distributed.is_initialized():  # by the program that calls this, which also ends it
        yield
        return
    distributed.init_process_group(backend)
    try:
        with warnings.catch_warnings():
            # A 1x1 convolution's gradient has one memory layout under two names; torch then copies a small matrix.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield
    finally:
        distributed.destroy_process_group()


def _device(cuda: bool) -> torch.device:
    if not cuda:
        return torch.device("cpu")
    local, found = _number("LOCAL_RANK", 0), torch.cuda.device_count()
    if local >= found:
        raise ValueError(
            f"This host should have a GPU for each of its processes, of which this is number {local + 1}. Found "
            f"{found}. Lower torchrun's --nproc-per-node."
        )
    return torch.device("cuda", local)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"The environment variable {name} should be a whole number. Found {text!r}.")
    return int(text)
