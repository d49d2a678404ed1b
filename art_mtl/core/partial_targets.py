"""Targets for some of the tasks: the others are left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from art_mtl.core.method import Method
from art_mtl.core.objectives.constrained import ConstrainedObjective, Multipliers
from art_mtl.core.objectives.loss_objectives import Outputs
from art_mtl.core.weightings import Fixed
from art_mtl.tasks import Task


def some_outputs(forward: Callable[[Tensor], Outputs], kept: Sequence[int]) -> Callable[[Tensor], Outputs]:
    """The forward pass that shows the outputs of some of the tasks."""

    def run(x: Tensor) -> Outputs:
        outputs = forward(x)
        return [outputs[k] for k in kept]

    return run


def restrict(method: Method, kept: Sequence[int], tasks: Sequence[Task]) -> Method:
    """The method, made for all tasks, for those of them that have targets.

    Args:
        method: Made for all ``tasks``.
        kept: Places of the tasks that have targets, in order.
        tasks: K tasks.

    Raises:
        ValueError: A task that it attacks, or holds, is not among them.
    """
    weighting, objective = method.weighting, method.objective
    if isinstance(objective, ConstrainedObjective):
        wanted: Sequence[float] = [
            a or h for a, h in zip(objective.roles.attacked, objective.roles.preserved, strict=True)
        ]
    else:
        wanted = weighting.weights if isinstance(weighting, Fixed) and 0 in weighting.weights else [0.0] * len(tasks)
    lost = [task.name for k, task in enumerate(tasks) if wanted[k] and k not in kept]
    if lost:
        raise ValueError(
            f"Method {method.name!r} should have a target of each task that it attacks, and the true labels of each "
            f"that it holds. Found none of {lost}."
        )
    if isinstance(weighting, Fixed):
        weighting = Fixed(tuple(weighting.weights[k] for k in kept))
    if isinstance(weighting, Multipliers):
        weighting = replace(weighting, roles=weighting.roles.only(kept))
    if isinstance(objective, ConstrainedObjective):
        objective = replace(objective, roles=objective.roles.only(kept))
    return replace(method, weighting=weighting, objective=objective)
