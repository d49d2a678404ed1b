"""What both fronts do around the loop: check, convert, share out weights over batches, start, report what is out of
play.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.core.context import RunningStatistics, StepRecord
from art_mtl.core.forward import MicroBatching
from art_mtl.core.loop import NUDGE, Forward, attack
from art_mtl.core.method import Method
from art_mtl.core.threat import RunConfig, ThreatModel
from art_mtl.projections import between
from art_mtl.tasks import Target, Task

DEFAULT_CHUNK = 256
"""Samples of a chunk, the part of a data set over which weights are shared, where the method does not say."""

_SLACK = 1e-5
"""Share of the box's width by which inputs may overshoot it, from rounding; they are clamped."""


@dataclass
class Session:
    """Batches that are attacked one after another and may share weights.

    Args:
        forward: Inputs to one raw output a task, differentiable.
        tasks: K tasks.
        method: What to do.
        plan: How long and from where.
        observer: Called at every step of every batch.
        stopped: Indices of samples whose attack ended early, by non-finite outputs or gradients; see :meth:`warn`.
        pieces: How much of a batch passes through the network at once; made smaller where memory runs out.
    """

    forward: Forward
    tasks: tuple[Task, ...]
    method: Method
    plan: RunConfig
    observer: Callable[[StepRecord], None] | None = None
    stopped: list[int] = field(default_factory=list)
    pieces: MicroBatching = field(default_factory=MicroBatching)
    _carry: dict[int, RunningStatistics] = field(default_factory=dict)
    _in_chunk: int = 0

    def reset(self) -> None:
        """Forget earlier batches."""
        self._carry, self._in_chunk = {}, 0

    @property
    def chunk(self) -> int:
        """Samples of a chunk."""
        return self.method.group or DEFAULT_CHUNK

    @property
    def largest(self) -> int | None:
        """Samples that a batch can hold, whatever its size; None for any number."""
        return self.chunk if self.method.scope == "dataset" else None

    def batches(self, size: int, batch_size: int) -> Iterator[slice]:
        """Cut ``size`` samples into batches.

        With scope "dataset" no batch straddles two chunks; with scope "batch" batches hold whole groups, if they are
        large enough for one.
        """
        chunk = self.chunk if self.method.scope == "dataset" else size
        group = self.method.group or 1
        if self.method.scope == "batch" and batch_size >= group:
            batch_size -= batch_size % group
        for start in range(0, size, chunk):
            for first in range(start, min(start + chunk, size), batch_size):
                yield slice(first, min(first + batch_size, start + chunk, size))

    def attack(
        self,
        x: Tensor,
        targets: Sequence[Target],
        threat: ThreatModel,
        step_size: Tensor | None = None,
        first_index: int = 0,
    ) -> Tensor:
        """Attack one batch; a new chunk begins where this batch would overfill the old one.

        A batch that fails leaves no trace in the running sums.
        """
        if self._in_chunk + len(x) > self.chunk:
            self.reset()
        carry = {restart: sums.copy() for restart, sums in self._carry.items()}
        adversarial = attack(
            self.forward,
            x,
            self.tasks,
            targets,
            self.method,
            threat,
            replace(self.plan, step_size=step_size),
            carry=carry if self.method.scope == "dataset" else None,
            observer=self.observer,
            stopped=self.stopped,
            first_index=first_index,
            pieces=self.pieces,
        )
        self._carry, self._in_chunk = carry, self._in_chunk + len(x)
        return adversarial

    def warn(self) -> None:
        """Warn once of all samples whose attack ended early, and forget them."""
        indices, self.stopped = self.stopped, []
        warn_stopped(indices, stacklevel=4)


def make_run_config(
    tasks: Sequence[Task],
    *,
    steps: int,
    random_start: bool,
    restarts: int,
    targeted: bool,
    own_labels: bool,
    l1_step: str,
    seed: int | None,
    device: torch.device,
) -> RunConfig:
    """How long and from where.

    Where labels are the model's own outputs and some task is an error, the gradient is exactly 0 at the clean input;
    such an attack starts from a small noise of a fixed seed.
    """
    nudge = own_labels and not random_start and not all(task.decides for task in tasks)
    generator = None
    if seed is not None or nudge:
        generator = torch.Generator(device).manual_seed(0 if seed is None else int(seed))
    return RunConfig(
        steps=steps,
        start=1.0 if random_start else NUDGE if nudge else 0.0,
        restarts=restarts,
        targeted=targeted,
        l1_step=l1_step,
        generator=generator,
    )


def parse_norm(norm: float | str) -> float:
    """``math.inf``, 2.0 or 1.0 from what either host calls it.

    Raises:
        ValueError: Any other norm.

    Examples:
        >>> parse_norm("Linf"), parse_norm(2)
        (inf, 2.0)
    """
    names = {"inf": math.inf, "linf": math.inf, "l2": 2.0, "2": 2.0, "l1": 1.0, "1": 1.0}
    if isinstance(norm, str) and norm.lower() in names:
        return names[norm.lower()]
    if isinstance(norm, numbers.Real) and norm in (math.inf, 2, 1):
        return float(norm)
    raise ValueError(f"Parameter `norm` should be infinity, 2 or 1 ('Linf', 'L2', 'L1'). Found {norm!r}.")


def check_radius(argument: str, value: float | npt.NDArray[np.floating] | Tensor, norm: float) -> None:
    """Raise unless ``value`` is positive and finite, and has a shape that the norm can have.

    Raises:
        TypeError: Neither a number nor an array.
        ValueError: Not positive, not finite, or one a pixel where the norm needs one a sample.
    """
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, np.ndarray, Tensor)):
        raise TypeError(f"Parameter `{argument}` should be a number or an array. Found {type(value).__name__}.")
    array = np.asarray(value.cpu() if isinstance(value, Tensor) else value, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all() or not (array > 0).all():
        raise ValueError(f"Parameter `{argument}` should be positive and finite. Found {value}.")
    if norm != math.inf and array.size > 1 and (array.ndim < 2 or array[0].size > 1):
        raise ValueError(
            f"Parameter `{argument}` should be one number a sample, shape (N, 1, ..., 1), for L{norm:g}; "
            f"one a pixel is for L-infinity. Found shape {array.shape}."
        )


def check_seed(seed: int | None) -> None:
    """Raise unless ``seed`` is None or an integer of at least 0."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0):
        raise ValueError(f"Parameter `seed` should be None or an integer of at least 0. Found {seed!r}.")


def radius(argument: str, value: float | npt.NDArray[np.floating] | Tensor, x: Tensor) -> Tensor:
    """``value`` as a tensor with as many dimensions as ``x``, broadcastable to it, on its device.

    Raises:
        ValueError: It cannot be broadcast.
    """
    tensor = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    try:
        torch.broadcast_to(tensor, x.shape)
    except RuntimeError:
        raise ValueError(
            f"Parameter `{argument}` should be broadcastable to the inputs, {tuple(x.shape)}; one value a sample "
            f"has shape {(len(x), *[1] * (x.ndim - 1))}. Found shape {tuple(tensor.shape)}."
        ) from None
    return tensor.reshape(*[1] * (x.ndim - tensor.ndim), *tensor.shape)


def rows(tensor: Tensor, batch: slice | Tensor, size: int) -> Tensor:
    """The part of a broadcastable tensor that belongs to a batch, or to chosen samples, out of ``size``."""
    return tensor[batch] if len(tensor) == size and size > 1 else tensor


def check_inputs(argument: str, x: Tensor, bounds: tuple[Tensor, Tensor], found: str = "bounds") -> Tensor:
    """The inputs, clamped to the box; they may overshoot it by rounding only.

    Args:
        argument: Name of the inputs in messages.
        x: ``(B, ...)``.
        bounds: Lower and upper bound, broadcastable to ``x``.
        found: Name of the bounds in messages.

    Raises:
        TypeError: Not floating point.
        ValueError: Empty, NaN, infinite or outside.
    """
    if not x.is_floating_point():
        raise TypeError(f"Parameter `{argument}` should hold floating-point numbers. Found {x.dtype}.")
    if x.numel() == 0:
        raise ValueError(f"Parameter `{argument}` should hold at least one sample. Found shape {tuple(x.shape)}.")
    lower, upper = bounds
    slack = torch.where(torch.isfinite(upper - lower), (upper - lower) * _SLACK, torch.zeros_like(upper))
    # One comparison settles all of it: the greatest overshoot is NaN where an input is.
    if not bool((torch.maximum(lower - x, x - upper) - slack).amax() <= 0):
        if not torch.isfinite(x).all():
            bad = (~torch.isfinite(x)).flatten(1).any(1).nonzero()[0].item()
            raise ValueError(f"Parameter `{argument}` should be finite. Found NaN or infinity, first in sample {bad}.")
        raise ValueError(
            f"Parameter `{argument}` should lie within `{found}`, [{lower.min().item():g}, {upper.max().item():g}]. "
            f"Found values in [{x.min().item():g}, {x.max().item():g}]."
        )
    return between(x, lower, upper)


def shorten(indices: Sequence[int]) -> str:
    """Sample numbers for a message.

    Examples:
        >>> shorten([3, 5])
        '[3, 5]'
    """
    more = f" and {len(indices) - 10} more" if len(indices) > 10 else ""
    return f"{list(indices[:10])}{more}"


def warn_stopped(indices: Sequence[int], stacklevel: int = 3) -> None:
    """Warn once of the samples with these indices, whose attack ended early."""
    if indices:
        warnings.warn(
            f"The model's output or gradient was not finite for sample(s) {shorten(indices)}; "
            "their attack ended at the last good iterate.",
            RuntimeWarning,
            stacklevel=stacklevel,
        )


def warn_missing_labels(
    tasks: Sequence[Task], targets: Sequence[Target], partial: bool = False, stacklevel: int = 3
) -> None:
    """Warn once a task, with indices, of samples none of whose places count for it.

    Args:
        tasks: K tasks.
        targets: Canonical labels of each.
        partial: The labels may be one batch of many, so a task may count nowhere.
        stacklevel: Whose line the warning names; 3: the caller of the caller.

    Raises:
        ValueError: A task counts nowhere, and the labels are not partial.
    """
    for task, target in zip(tasks, targets, strict=True):
        out = ~target.has_label
        if bool(out.all()) and not partial:
            raise ValueError(
                f"Task {task.name!r} should have a label for at least one sample. All labels are missing or ignored; "
                "give a batch that may lack a task as a MultiTaskLabels."
            )
        indices = out.nonzero()[:, 0].tolist()
        if indices:
            warnings.warn(
                f"Task {task.name!r} has no valid label on sample(s) {shorten(indices)}; it is out of play there.",
                RuntimeWarning,
                stacklevel=stacklevel,
            )
