"""Methods that come in families, one for each task or aggregator: "single:", "stealthy:", "smta:" and "jd:"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

from torch import Tensor

from art_mtl.core.aggregators import TORCHJD, TorchJD
from art_mtl.core.method import Method
from art_mtl.core.objectives.constrained import ConstrainedObjective, Multipliers, Roles
from art_mtl.core.objectives.loss_objectives import DEGRADATION, RELATIVE, PerSample
from art_mtl.core.objectives.population import PopulationDegradation
from art_mtl.core.weightings import Fixed
from art_mtl.tasks import Target, Task

TOLERANCE = 0.05
"""Largest relative change of a preserved task where the user gives none."""
_STEALTHY_STEP = 0.3
"""First step of a stealthy attack as a share of ε: a larger one throws preserved tasks far off at once."""


def family_names(tasks: Sequence[Task]) -> list[str]:
    """Names of the methods that only run on request: "stealthy:<task>", "smta:<task>" and "jd:<aggregator>"."""
    by_task = [f"{family}:{task.name}" for family in ("stealthy", "smta") for task in tasks]
    return by_task + [f"jd:{name}" for name in TORCHJD]


def single(task: str, tasks: Sequence[Task]) -> Method:
    """All weight on one task."""
    names = [t.name for t in tasks]
    if task not in names:
        raise ValueError(f"Method 'single:{task}' should name one of the tasks {names}. Found {task!r}.")
    return Method(f"single:{task}", weighting=Fixed(tuple(float(name == task) for name in names)))


def make_roles(attacked: Sequence[str], preserved: Sequence[str] | None, tasks: Sequence[Task]) -> Roles:
    """Who is degraded and who preserved.

    Args:
        attacked: Names of the tasks to degrade, at least one.
        preserved: Names of the tasks to hold; None for all others.
        tasks: K tasks.

    Raises:
        TypeError: Names that are not in a sequence.
        ValueError: An unknown name, a task that is both, or no attacked task.
    """
    names = [task.name for task in tasks]
    for argument, given in (("attacked", attacked), ("preserved", preserved)):
        if isinstance(given, str) or (given is not None and not isinstance(given, Sequence)):
            raise TypeError(f"Parameter `{argument}` should be a list of tasks' names. Found {given!r}.")
        unknown = [name for name in given or () if name not in names]
        if unknown:
            raise ValueError(f"Parameter `{argument}` should name tasks of {names}. Found {unknown}.")
    if not attacked:
        raise ValueError(f"Parameter `attacked` should name at least one of the tasks {names}. Found none.")
    both = [name for name in preserved or () if name in attacked]
    if both:
        raise ValueError(
            f"A task should be attacked or preserved, not both; leave it out of `preserved`. Found {both} in both."
        )
    kept = [name for name in names if name not in attacked] if preserved is None else preserved
    return Roles(tuple(name in attacked for name in names), tuple(name in kept for name in names))


def stealthy(name: str, roles: Roles, tasks: Sequence[Task], scope: str, tolerance: float) -> Method:
    """Degrade the attacked tasks while every preserved one changes by at most the tolerance.

    Args:
        name: As tables print it.
        roles: Who is attacked, who is preserved.
        tasks: K tasks.
        scope: "dataset": the metrics of the population are preserved, and the last iterate is returned. "sample" and
            "batch": each sample's errors and scores, or their mean over the batch; the best iterate of each sample
            that keeps within the tolerance is returned, or the one that is least beyond it.
        tolerance: Largest relative change of a preserved task, in (0, 1).
    """
    attacked = frozenset(task.name for task, aimed in zip(tasks, roles.attacked, strict=True) if aimed)
    population = scope == "dataset"
    return Method(
        name,
        objective=ConstrainedObjective(roles, PopulationDegradation() if population else DEGRADATION),
        weighting=Multipliers(roles, tolerance),
        scope=scope,
        group=256 if population else None,
        schedule="linear",
        momentum=0.9,
        keep="last" if population else "best",
        score_fn=_half_targeted_degradation(attacked),
        first_step=_STEALTHY_STEP,
    )


def smta(name: str, roles: Roles, tasks: Sequence[Task], penalty: float) -> Method:
    """Stealthy multi-task attack (Guo et al. 2024, arXiv 2411.17936): ascend ``r_t − penalty · Σ_others |r_j|``, with r
    the relative loss ``(L − L⁰)/L⁰``; the penalty is set by hand.

    Args:
        name: As tables print it.
        roles: Who is attacked, who is preserved.
        tasks: K tasks.
        penalty: p ≥ 0, weight of the preserved tasks.
    """
    attacked = frozenset(task.name for task, aimed in zip(tasks, roles.attacked, strict=True) if aimed)
    weights = [
        float(aimed) + penalty * float(kept) for aimed, kept in zip(roles.attacked, roles.preserved, strict=True)
    ]
    return Method(
        name,
        objective=ConstrainedObjective(roles, RELATIVE, degradations=False),
        weighting=Fixed(tuple(weights)),
        score_fn=_held_back_loss(attacked),
    )


def combined(aggregator: str) -> Method:
    """The gradients of the tasks' losses, combined by a method of TorchJD for each sample.

    Raises:
        ValueError: An unknown aggregator.
        ImportError: TorchJD, or a solver that it needs, is not installed.
    """
    if aggregator not in TORCHJD:
        raise ValueError(f"Method 'jd:{aggregator}' should be one of {[f'jd:{name}' for name in TORCHJD]}.")
    made = TorchJD(aggregator)
    made.make()  # So that what is missing shows before any work.
    return Method(f"jd:{aggregator}", aggregator=made)


# The same object for the same tasks, so that equal methods are equal.


@cache
def _half_targeted_degradation(attacked: frozenset[str]) -> PerSample:
    return PerSample(partial(_half_targeted, attacked=attacked), DEGRADATION.reference, saturates=True)


@cache
def _held_back_loss(attacked: frozenset[str]) -> PerSample:
    return PerSample(partial(_held_back, attacked=attacked), RELATIVE.reference)


def _half_targeted(
    task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool, attacked: frozenset[str]
) -> Tensor:
    """Degradation, towards targets of the attacked tasks alone."""
    return DEGRADATION.value(task, output, target, reference, targeted and task.name in attacked)


def _held_back(
    task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool, attacked: frozenset[str]
) -> Tensor:
    """Relative loss of the attacked tasks, minus its size of the others."""
    aimed = task.name in attacked
    value = RELATIVE.value(task, output, target, reference, targeted and aimed)
    return value if aimed else -value.abs()
