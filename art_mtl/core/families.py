"""Methods that come in families, one for each task or combiner: "single:", "stealthy:", "smta:" and "jd:"."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

from torch import Tensor

from art_mtl.core.combiners import TORCHJD, TorchJD
from art_mtl.core.method import Method
from art_mtl.core.objectives import DEGRADATION, RELATIVE, PerSample
from art_mtl.core.population import PopulationDamage
from art_mtl.core.stealth import Held, Multipliers, Roles
from art_mtl.core.weightings import Fixed
from art_mtl.tasks import Target, Task

TOLERANCE = 0.05
"""Largest relative change of a held task where the user gives none."""
_STEALTHY_STEP = 0.3
"""First step of a stealthy attack as a share of ε: a larger one throws held tasks far off at once."""


def family_names(tasks: Sequence[Task]) -> list[str]:
    """Names of the methods that only run on request: "stealthy:<task>", "smta:<task>" and "jd:<combiner>"."""
    by_task = [f"{family}:{task.name}" for family in ("stealthy", "smta") for task in tasks]
    return by_task + [f"jd:{name}" for name in TORCHJD]


def single(task: str, tasks: Sequence[Task]) -> Method:
    """All weight on one task."""
    names = [t.name for t in tasks]
    if task not in names:
        raise ValueError(f"Method 'single:{task}' should name one of the tasks {names}. Found {task!r}.")
    return Method(f"single:{task}", weighting=Fixed(tuple(float(name == task) for name in names)))


def make_roles(chosen: Sequence[str], held: Sequence[str] | None, tasks: Sequence[Task]) -> Roles:
    """Who is damaged and who held.

    Args:
        chosen: Names of the tasks to damage, at least one.
        held: Names of the tasks to hold; None for all others.
        tasks: K tasks.

    Raises:
        TypeError: Names that are not in a sequence.
        ValueError: An unknown name, a task that is both, or no chosen task.
    """
    names = [task.name for task in tasks]
    for argument, given in (("chosen", chosen), ("held", held)):
        if isinstance(given, str) or (given is not None and not isinstance(given, Sequence)):
            raise TypeError(f"Parameter `{argument}` should be a list of tasks' names. Found {given!r}.")
        unknown = [name for name in given or () if name not in names]
        if unknown:
            raise ValueError(f"Parameter `{argument}` should name tasks of {names}. Found {unknown}.")
    if not chosen:
        raise ValueError(f"Parameter `chosen` should name at least one of the tasks {names}. Found none.")
    both = [name for name in held or () if name in chosen]
    if both:
        raise ValueError(f"A task should be chosen or held, not both; leave it out of `held`. Found {both} in both.")
    kept = [name for name in names if name not in chosen] if held is None else held
    return Roles(tuple(name in chosen for name in names), tuple(name in kept for name in names))


def stealthy(name: str, roles: Roles, tasks: Sequence[Task], scope: str, tolerance: float) -> Method:
    """Damage the chosen tasks while every held one changes by at most the tolerance.

    Args:
        name: As tables print it.
        roles: Who is chosen, who is held.
        tasks: K tasks.
        scope: "dataset": the metrics of the population are held, and the last iterate is returned. "sample" and
            "batch": each sample's errors and scores, or their mean over the batch; the best iterate of each sample
            that keeps within the tolerance is returned, or the one that is least beyond it.
        tolerance: Largest relative change of a held task, in (0, 1).
    """
    chosen = frozenset(task.name for task, aimed in zip(tasks, roles.chosen, strict=True) if aimed)
    population = scope == "dataset"
    return Method(
        name,
        objective=Held(roles, PopulationDamage() if population else DEGRADATION),
        weighting=Multipliers(roles, tolerance),
        scope=scope,
        group=256 if population else None,
        schedule="linear",
        momentum=0.9,
        keep="last" if population else "best",
        judge=_half_targeted_degradation(chosen),
        first_step=_STEALTHY_STEP,
    )


def smta(name: str, roles: Roles, tasks: Sequence[Task], price: float) -> Method:
    """Stealthy multi-task attack (Guo et al. 2024, arXiv 2411.17936): ascend ``r_t − price · Σ_others |r_j|``, with r
    the relative loss ``(L − L⁰)/L⁰``; the price is set by hand.

    Args:
        name: As tables print it.
        roles: Who is chosen, who is held.
        tasks: K tasks.
        price: p ≥ 0, weight of the held tasks.
    """
    chosen = frozenset(task.name for task, aimed in zip(tasks, roles.chosen, strict=True) if aimed)
    weights = [float(aimed) + price * float(kept) for aimed, kept in zip(roles.chosen, roles.held, strict=True)]
    return Method(
        name,
        objective=Held(roles, RELATIVE, damages=False),
        weighting=Fixed(tuple(weights)),
        judge=_held_back_loss(chosen),
    )


def combined(combiner: str) -> Method:
    """The gradients of the tasks' losses, combined by a method of TorchJD for each sample.

    Raises:
        ValueError: An unknown combiner.
        ImportError: TorchJD, or a solver that it needs, is not installed.
    """
    if combiner not in TORCHJD:
        raise ValueError(f"Method 'jd:{combiner}' should be one of {[f'jd:{name}' for name in TORCHJD]}.")
    made = TorchJD(combiner)
    made.make()  # So that what is missing shows before any work.
    return Method(f"jd:{combiner}", combiner=made)


# The same object for the same tasks, so that equal methods are equal.


@cache
def _half_targeted_degradation(chosen: frozenset[str]) -> PerSample:
    return PerSample(partial(_half_targeted, chosen=chosen), DEGRADATION.reference, saturates=True)


@cache
def _held_back_loss(chosen: frozenset[str]) -> PerSample:
    return PerSample(partial(_held_back, chosen=chosen), RELATIVE.reference)


def _half_targeted(
    task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool, chosen: frozenset[str]
) -> Tensor:
    """Degradation, towards targets of the chosen tasks alone."""
    return DEGRADATION.value(task, output, target, reference, targeted and task.name in chosen)


def _held_back(
    task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool, chosen: frozenset[str]
) -> Tensor:
    """Relative loss of the chosen tasks, minus its size of the others."""
    aimed = task.name in chosen
    value = RELATIVE.value(task, output, target, reference, targeted and aimed)
    return value if aimed else -value.abs()
