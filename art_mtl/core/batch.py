"""One call of an attack: inputs, labels, radii, bounds and mask, checked, as tensors that are sliced in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core.checks import host_array, shorten
from art_mtl.core.device import send, send_target
from art_mtl.core.inference import normal_tensors
from art_mtl.core.threat import ThreatModel
from art_mtl.core.warn import warn
from art_mtl.labels import MultiTaskLabels
from art_mtl.projections import between
from art_mtl.tasks import Target, Task
from art_mtl.tasks.picking import describe

_SLACK = 1e-5
"""Share of the box's width by which inputs may overshoot it, from rounding; they are clamped."""


@dataclass(frozen=True)
class Names:
    """What a host calls the arguments of a call, for messages."""

    inputs: str = "x"
    labels: str = "y"
    eps: str = "eps"
    step_size: str = "eps_step"
    bounds: str = "clip_values"


@dataclass(frozen=True)
class AttackBatch:
    """Some samples, and what may be done to them; every tensor but the inputs is broadcastable to them.

    Attributes:
        inputs: Clean inputs ``(N, ...)``, inside the bounds.
        targets: Canonical labels of the tasks that have some.
        eps: Radius, ``(N or 1, ...)``.
        bounds: Lower and upper bound, each ``(N or 1, ...)``.
        step_size: Size of the first step, ``(N or 1, ...)``; None for the method's own.
        mask: 0 where nothing may change, ``(N or 1, ...)``; None: everywhere.
        own_labels: Labels are the model's own clean predictions.
        kept: Places of the tasks that have labels, in order.
    """

    inputs: Tensor
    targets: tuple[Target, ...]
    eps: Tensor
    bounds: tuple[Tensor, Tensor]
    step_size: Tensor | None = None
    mask: Tensor | None = None
    own_labels: bool = False
    kept: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: slice | Tensor) -> AttackBatch:
        """Some of the samples."""

        def part(tensor: Tensor) -> Tensor:
            return rows(tensor, index, len(self))

        return replace(
            self,
            inputs=self.inputs[index],
            targets=tuple(target[index] for target in self.targets),
            eps=part(self.eps),
            bounds=(part(self.bounds[0]), part(self.bounds[1])),
            step_size=None if self.step_size is None else part(self.step_size),
            mask=None if self.mask is None else part(self.mask),
        )

    def to(self, device: torch.device) -> AttackBatch:
        """The same on another device; nothing waits for the copy."""
        return replace(
            self,
            inputs=send(self.inputs, device),
            targets=tuple(send_target(target, device) for target in self.targets),
            eps=send(self.eps, device),
            bounds=(send(self.bounds[0], device), send(self.bounds[1], device)),
            step_size=None if self.step_size is None else send(self.step_size, device),
            mask=None if self.mask is None else send(self.mask, device),
        )

    def threat(self, norm: float) -> ThreatModel:
        """What the attacker may do."""
        return ThreatModel(norm, self.eps, self.bounds, self.mask)


def rows(tensor: Tensor, index: slice | Tensor, size: int) -> Tensor:
    """The part of a tensor, broadcastable to ``size`` samples, that belongs to some of them."""
    return tensor[index] if len(tensor) == size and size > 1 else tensor


def radius(argument: str, value: Any, x: Tensor) -> Tensor:
    """``value`` as a tensor with as many dimensions as ``x``, broadcastable to it, on its device.

    Raises:
        ValueError: It cannot be broadcast.
    """
    given = value if isinstance(value, Tensor) else torch.from_numpy(host_array(value))
    tensor: Tensor = normal_tensors(given.to(device=x.device, dtype=x.dtype))
    try:
        torch.broadcast_to(tensor, x.shape)
    except RuntimeError:
        raise ValueError(
            f"Parameter `{argument}` should be broadcastable to the inputs, {tuple(x.shape)}; one value a sample "
            f"has shape {(len(x), *[1] * (x.ndim - 1))}. Found shape {tuple(tensor.shape)}."
        ) from None
    return tensor.reshape(*[1] * (x.ndim - tensor.ndim), *tensor.shape)


def check_tensor(argument: str, x: Any) -> None:
    """Raise TypeError unless ``x`` is a tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"Parameter `{argument}` should be a torch.Tensor. Found {type(x).__name__}.")


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


def check_mask(mask: Any, inputs: Tensor) -> Tensor | None:
    """A mask as a tensor broadcastable to the inputs; None stays None.

    Raises:
        ValueError: It is not finite, or does not fit.
    """
    if mask is None:
        return None
    if not bool(torch.isfinite(torch.from_numpy(host_array(mask))).all()):
        raise ValueError("Parameter `mask` should be finite: 0 where nothing may change. Found NaN or infinity.")
    return radius("mask", mask, inputs)


def check_targets(
    tasks: Sequence[Task], labels: Any, size: int, *, some: bool, own: bool, argument: str = "y"
) -> tuple[tuple[int, ...], tuple[Target, ...]]:
    """Places of the tasks that have labels, and their canonical labels; one warning a task for samples without any.

    Args:
        tasks: K tasks.
        labels: In any form of :meth:`art_mtl.MultiTaskLabels.of`.
        size: N.
        some: Tasks may be missing, but not all of them.
        own: They are the model's own predictions, of which nothing can be missing for want of a label.
        argument: Name of the labels in messages.

    Raises:
        TypeError: Labels of a wrong type.
        ValueError: They do not fit, or a task has no label at all.
    """
    # A container may be one batch of many, as a trainer cuts it out, and lack all labels of a task.
    partial = own or isinstance(labels, MultiTaskLabels)
    found = MultiTaskLabels.of(labels, [task.name for task in tasks], size, partial, some, argument)
    kept = tuple(k for k, task in enumerate(tasks) if task.name in found.names)
    named = [tasks[k] for k in kept]
    targets = tuple(task.targets(found[task.name], found.present(task.name)) for task in named)
    for task, target in zip(named, targets, strict=True):
        _check_some_labels(task, target, partial)
    return kept, targets


def predicted_labels(tasks: Sequence[Task], outputs: Sequence[Any]) -> MultiTaskLabels:
    """The labels that raw outputs stand for, where none are given.

    Args:
        tasks: K tasks.
        outputs: The raw output of each.

    Raises:
        ValueError: The outputs of a task stand for no labels.
    """
    decoded = {task.name: task.decode(output) for task, output in zip(tasks, outputs, strict=True)}
    for task, output in zip(tasks, outputs, strict=True):
        if decoded[task.name] is None:
            raise ValueError(
                f"The labels of task {task.name!r} should be given, or its `decode` should make them of the model's "
                f"output. Found no labels, and an output that is {describe(output)}."
            )
    return MultiTaskLabels(decoded)


def named_targets(argument: str, target: Any, tasks: Sequence[Task]) -> Mapping[str, Any]:
    """One target for all samples, by task; empty for None.

    Args:
        argument: Name of the target in messages.
        target: Task name to a number, or to an array of the shape of one label; of one task it will do without a name.
        tasks: K tasks.

    Raises:
        ValueError: It is of no task, or of an unknown one, or has no name.
    """
    names = [task.name for task in tasks]
    if target is None:
        return {}
    found = {names[0]: target} if len(names) == 1 and not isinstance(target, Mapping) else target
    if not isinstance(found, Mapping) or not found or not set(found) <= set(names):
        raise ValueError(
            f"Parameter `{argument}` should be None or a dict of one target for each of some of the tasks {names}. "
            f"Found {target!r}."
        )
    return found


def constant_targets(
    tasks: Sequence[Task], labels: Any, size: int, partial_targets: Mapping[str, Any], preserves: Callable[[int], bool]
) -> MultiTaskLabels:
    """The same targets for all samples, beside the true labels of the other tasks that are preserved.

    Args:
        tasks: K tasks.
        labels: The true ones, in any form of :meth:`art_mtl.MultiTaskLabels.of`; targets have their shape and type.
        size: N.
        partial_targets: As of :func:`named_targets`.
        preserves: Whether the task at a place is to be preserved.

    Raises:
        TypeError: Labels of a wrong type.
        ValueError: Labels or targets do not fit.
    """
    known = MultiTaskLabels.of(labels, [task.name for task in tasks], size, argument="labels").numpy()
    targets = {name: np.full_like(known.dense(name), host_array(target)) for name, target in partial_targets.items()}
    kept = {
        task.name: known[task.name] for k, task in enumerate(tasks) if preserves(k) and task.name not in partial_targets
    }
    return MultiTaskLabels({**targets, **kept}, {name: known.present(name) for name in kept})


def _check_some_labels(task: Task, target: Target, partial: bool) -> None:
    missing = (~target.has_label).nonzero()[:, 0].tolist()
    if len(missing) == len(target) and not partial:
        raise ValueError(
            f"Task {task.name!r} should have a label for at least one sample. All labels are missing or ignored; "
            "give a batch that may lack a task as a MultiTaskLabels."
        )
    if missing:
        warn(f"Task {task.name!r} has no valid label on sample(s) {shorten(missing)}; it does not count there.")
