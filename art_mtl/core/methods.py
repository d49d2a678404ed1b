"""The named methods: each only assembles parts."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from art_mtl.core.context import SCOPES
from art_mtl.core.families import TOLERANCE, combined, family_names, make_roles, single, smta, stealthy
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import DEGRADATION, LOG, LOSS, NORMALIZED, RELATIVE, Objective, PooledLoss
from art_mtl.core.objectives.population import PopulationDegradation
from art_mtl.core.optimizers.steps import SCHEDULES
from art_mtl.core.weightings import (
    Alternating,
    Fixed,
    InnerMinimiser,
    LogDegradationControl,
    MinMax,
    Uniform,
    Weighting,
)
from art_mtl.tasks import Task

PROJECTIONS = ("exact", "box-then-ball", "ball-then-box")
KEEPS = ("last", "best")
OBJECTIVES: dict[str, Objective] = {
    "loss": LOSS,
    "log": LOG,
    "normalized": NORMALIZED,
    "relative": RELATIVE,
    "pooled-loss": PooledLoss("loss"),
    "pooled-normalized": PooledLoss("normalized"),
    "pooled-relative": PooledLoss("relative"),
    "degradation": DEGRADATION,
    "population": PopulationDegradation(),
}
WEIGHTINGS = ("uniform", "alternating", "minmax", "inner-minimiser")


def worst_task(scope: str = "dataset") -> Method:
    """The strongest attack here.

    Args:
        scope: "dataset": population-degradation min-max, for the figure Δ_Wor of a data set. "sample": each image is to
            lose
            *all* its tasks: degradation objective, exact inner minimiser with γ = 0.3, best iterate. "batch": the same
            with weights for the whole batch, and γ = 0.1.
    """
    if scope == "dataset":
        return Method(
            "worst-task",
            objective=PopulationDegradation(),
            weighting=LogDegradationControl(),
            scope="dataset",
            group=256,
            schedule="linear",
            momentum=0.5,
            selection="weighted",
        )
    return Method(
        "worst-task",
        objective=DEGRADATION,
        weighting=InnerMinimiser(gamma=0.3 if scope == "sample" else 0.1),
        scope=scope,
        schedule="linear",
        momentum=0.5,
        keep="best",
        selection="least",
    )


def _official(name: str, kind: str, weighting: Weighting, selection: str) -> Method:
    """What the authors' published code has in common: losses pooled and weights shared by 4 neighbours, and a
    projection that scales to the ball, then clamps to the box.
    """
    return Method(
        name,
        objective=PooledLoss(kind),
        weighting=weighting,
        scope="batch",
        group=4,
        projection="ball-then-box",
        selection=selection,
    )


METHODS: dict[str, Callable[[], Method]] = {
    "equal": lambda: Method("equal"),
    "normalize": lambda: Method("normalize", objective=NORMALIZED),
    "dgba": lambda: Method("dgba", objective=LOG),
    "alternate": lambda: Method("alternate", weighting=Alternating()),
    "minmax": lambda: Method("minmax", weighting=MinMax(), selection="least"),
    "minmax-official": lambda: _official("minmax-official", "relative", MinMax(simultaneous=True), "least"),
    "worst-task": worst_task,
    "equal-official": lambda: _official("equal-official", "loss", Uniform(), "sum"),
    "normalize-official": lambda: _official("normalize-official", "normalized", Uniform(), "sum"),
    "worst-image": lambda: replace(worst_task("sample"), name="worst-image"),
}
ON_REQUEST = ("equal-official", "normalize-official", "worst-image")
"""Methods that "all" leaves out: "equal" and "normalize" as the authors' code has them, to reproduce their tables, and
"worst-task" with weights for each image.
"""


def method_names(tasks: Sequence[Task] = ()) -> list[str]:
    """Names of all methods; with tasks, one "single:<task>" for each, first."""
    return [f"single:{task.name}" for task in tasks] + list(METHODS)


def make_method(
    name: str,
    tasks: Sequence[Task],
    *,
    objective: str | None = None,
    weighting: str | Sequence[float] | None = None,
    gamma: float | None = None,
    weight_step: float | None = None,
    weight_scope: str | None = None,
    weight_group: int | None = None,
    schedule: str | None = None,
    momentum: float | None = None,
    keep: str | None = None,
    projection: str | None = None,
    attacked: Sequence[str] | None = None,
    preserved: Sequence[str] | None = None,
    tolerance: float | None = None,
    penalty: float | None = None,
) -> Method:
    """A named method, with parts exchanged where asked.

    Args:
        name: One of :func:`method_names` or :func:`~art_mtl.core.families.family_names`; or "stealthy" or "smta" with
            ``attacked``.
        tasks: The tasks it is for.
        objective: "loss", "log", "normalized", "relative", "pooled-loss", "pooled-normalized", "pooled-relative",
            "degradation" or "population" (that of "worst-task", with scope "dataset").
        weighting: "uniform", "alternating", "minmax", "inner-minimiser", or one fixed weight a task.
        gamma: γ of the min-max weightings and of "worst-task": pull towards equal weights.
        weight_step: α₂ of the projected descent on the weights.
        weight_scope: "sample", "batch" or "dataset".
        weight_group: Neighbours that share weights ("batch"), samples of a chunk ("dataset").
        schedule: "constant", "linear", "cosine" or "auto": Auto-PGD's rule, which has its own momentum and keeps the
            best iterate.
        momentum: Decay of the gradient's momentum.
        keep: "last" or "best".
        projection: "exact", "box-then-ball" or "ball-then-box".
        attacked: Of "stealthy" and "smta": names of the tasks to degrade.
        preserved: Of the same: names of the tasks to hold; None for all others.
        tolerance: Of "stealthy": largest relative change of a preserved task, in (0, 1); 0.05.
        penalty: Of "smta": weight of the preserved tasks, ≥ 0; 1.

    Raises:
        ValueError: An unknown name, or a knob that the method does not have.
        ImportError: A method "jd:…" without TorchJD.

    Examples:
        >>> from art_mtl import tasks
        >>> make_method("minmax", [tasks.depth("depth")], gamma=0.2).weighting
        MinMax(gamma=0.2, weight_step=0.03333333333333333, simultaneous=False)
    """
    if not isinstance(name, str):
        raise TypeError(f"Parameter `method` should be a name, one of {method_names(tasks)}. Found {name!r}.")
    check_number("gamma", gamma, least=0)
    check_number("weight_step", weight_step, least=0, above=True)
    check_number("momentum", momentum, least=0)
    if weight_group is not None and (not isinstance(weight_group, numbers.Integral) or weight_group < 1):
        raise ValueError(f"Parameter `weight_group` should be an integer of at least 1. Found {weight_group!r}.")
    choice("weight_scope", weight_scope, SCOPES)
    choice("objective", objective, tuple(OBJECTIVES))
    choice("schedule", schedule, SCHEDULES)
    choice("keep", keep, KEEPS)
    choice("projection", projection, PROJECTIONS)
    selective: dict[str, Any] = {
        "attacked": attacked,
        "preserved": preserved,
        "tolerance": tolerance,
        "penalty": penalty,
    }
    family, _, member = name.partition(":")
    _check_selective(family, selective)
    if family == "single" and member:
        method = single(member, tasks)
    elif family == "jd" and member:
        method = combined(member)
    elif family in _SELECTIVE:
        _check_own_parts(name, objective=objective, weighting=weighting)
        method = _selective(family, member, tasks, weight_scope or "dataset", **selective)
    elif name == "worst-task":
        method = worst_task(weight_scope or "dataset")
    elif name == "worst-image" and weight_scope not in (None, "sample"):
        raise ValueError(
            f"Method 'worst-image' has weights for each image; with `weight_scope` {weight_scope!r} use 'worst-task'."
        )
    elif name in METHODS:
        method = METHODS[name]()
    else:
        known = [*method_names(tasks), *family_names(tasks)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Perhaps {close[0]!r}?" if close else ""
        raise ValueError(f"Parameter `method` should be one of {known}. Found {name!r}.{hint}")

    if objective == "population" and weight_scope is None:
        weight_scope = "dataset"
    changes: dict[str, Any] = {
        "objective": OBJECTIVES[objective] if objective else None,
        "weighting": None if weighting is None else _weighting(weighting, tasks),
        "scope": weight_scope,
        "group": weight_group,
        "schedule": schedule,
        "momentum": momentum,
        "keep": keep,
        "projection": projection,
    }
    method = replace(method, **{field: value for field, value in changes.items() if value is not None})
    if method.schedule == "auto":
        method = _automatic(method, momentum, keep)
    elif method.keep == "best" and method.selection == "weighted":
        # The iterates of a run have no prices in common yet.
        method = replace(method, selection="least")
    knobs = {"gamma": gamma, "weight_step": weight_step}
    given = {knob: value for knob, value in knobs.items() if value is not None}
    for knob in given:
        if not hasattr(method.weighting, knob):
            raise ValueError(
                f"Parameter `{knob}` belongs to the min-max weightings. Method {name!r} weights its tasks by "
                f"{type(method.weighting).__name__}."
            )
    if given:
        method = replace(method, weighting=replace(method.weighting, **given))  # type: ignore[type-var]
    _check(method)
    return method


_SELECTIVE = {"stealthy": ("attacked", "preserved", "tolerance"), "smta": ("attacked", "preserved", "penalty")}
"""Methods that degrade some tasks and hold others, and the knobs that they alone have."""


def _check_selective(family: str, knobs: dict[str, Any]) -> None:
    """Raise where a knob of the task-selective methods is given to another, or out of range."""
    for knob, value in knobs.items():
        if value is not None and knob not in _SELECTIVE.get(family, ()):
            owners = " and ".join(repr(owner) for owner, own in _SELECTIVE.items() if knob in own)
            raise ValueError(f"Parameter `{knob}` belongs to the method(s) {owners}. Found method {family!r}.")
    check_number("penalty", knobs["penalty"], least=0)
    check_number("tolerance", knobs["tolerance"], least=0, above=True)
    if knobs["tolerance"] is not None and knobs["tolerance"] >= 1:
        raise ValueError(f"Parameter `tolerance` should be below 1, a relative change. Found {knobs['tolerance']!r}.")


def _check_own_parts(name: str, **parts: Any) -> None:
    for part, value in parts.items():
        if value is not None:
            raise ValueError(f"Method {name!r} has a {part} of its own; leave `{part}` out. Found {value!r}.")


def _selective(
    family: str,
    member: str,
    tasks: Sequence[Task],
    scope: str,
    attacked: Sequence[str] | None,
    preserved: Sequence[str] | None,
    tolerance: float | None,
    penalty: float | None,
) -> Method:
    """A method that degrades the tasks ``attacked``, or the one that its name has after the colon, and holds others."""
    if bool(member) == (attacked is not None):
        raise ValueError(
            f"Method {family!r} should say which tasks to degrade, by `attacked` or as '{family}:<task>'. "
            f"Found {'both' if member else 'neither'}."
        )
    roles = make_roles(attacked if attacked is not None else [member], preserved, tasks)
    name = f"{family}:{'+'.join(t.name for t, aimed in zip(tasks, roles.attacked, strict=True) if aimed)}"
    if family == "smta":
        return smta(name, roles, tasks, 1.0 if penalty is None else penalty)
    return stealthy(name, roles, tasks, scope, TOLERANCE if tolerance is None else tolerance)


def _automatic(method: Method, momentum: float | None, keep: str | None) -> Method:
    """The method under Auto-PGD's rule, which leaves nothing of a step to choose."""
    if momentum is not None:
        raise ValueError(
            f"The schedule 'auto' has a momentum of its own; leave that of the gradient out. Found {momentum!r}."
        )
    if keep == "last":
        raise ValueError("The schedule 'auto' goes back to the best iterate and returns it. Found keep='last'.")
    return replace(method, momentum=0.0, keep="best")


def check_number(argument: str, found: Any, least: float, above: bool = False) -> None:
    """Raise unless ``found`` is None or a finite number that is at least (or ``above``) ``least``."""
    if found is None:
        return
    number = isinstance(found, numbers.Real) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or found < least or (above and found == least):
        how = f"above {least}" if above else f"of at least {least}"
        raise ValueError(f"Parameter `{argument}` should be a finite number {how}. Found {found!r}.")


def choice(argument: str, found: str | None, options: Sequence[str]) -> None:
    """Raise a ValueError unless ``found`` is None or one of ``options``."""
    if found is not None and (not isinstance(found, str) or found not in options):
        raise ValueError(f"Parameter `{argument}` should be one of {list(options)}. Found {found!r}.")


def _weighting(weighting: str | Sequence[float], tasks: Sequence[Task]) -> Weighting:
    if isinstance(weighting, str):
        choice("weighting", weighting, WEIGHTINGS)
        made: dict[str, Callable[[], Weighting]] = {
            "uniform": Uniform,
            "alternating": Alternating,
            "minmax": MinMax,
            "inner-minimiser": InnerMinimiser,
        }
        return made[weighting]()
    weights = tuple(float(weight) for weight in weighting)
    usable = all(math.isfinite(weight) and weight >= 0 for weight in weights)
    if len(weights) != len(tasks) or not usable or sum(weights) == 0:
        raise ValueError(f"Parameter `weighting` should be {len(tasks)} weights ≥ 0, not all 0. Found {weights}.")
    return Fixed(weights)


def _check(method: Method) -> None:
    weighting = method.weighting
    if method.aggregator is not None and method.scope != "sample":
        raise ValueError(
            f"Method {method.name!r} combines the gradients of each sample; `weight_scope` should be 'sample'. "
            f"Found {method.scope!r}."
        )
    if isinstance(weighting, InnerMinimiser) and weighting.gamma == 0:
        raise ValueError("Parameter `gamma` should be above 0 for the exact inner minimiser. Found 0.")
    if isinstance(method.objective, PopulationDegradation) and method.scope != "dataset":
        raise ValueError("The objective 'population' looks at the data set; `weight_scope` should be 'dataset'.")
    if isinstance(method.objective, PooledLoss) and method.scope == "dataset":
        name = f"pooled-{method.objective.kind}"
        raise ValueError(f"The objective {name!r} pools a batch; `weight_scope` should be 'batch' or 'sample'.")
