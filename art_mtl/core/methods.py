"""The named methods: each only assembles parts."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from art_mtl.core.objectives import DEGRADATION, LOG, LOSS, NORMALIZED, RELATIVE, Objective, PooledLoss
from art_mtl.core.population import PopulationDamage
from art_mtl.core.problem import SCOPES
from art_mtl.core.steps import SCHEDULES
from art_mtl.core.weightings import Alternating, Fixed, InnerMinimiser, LogDamageControl, MinMax, Uniform, Weighting
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
    "population": PopulationDamage(),
}
WEIGHTINGS = ("uniform", "alternating", "minmax", "inner-minimiser")


@dataclass(frozen=True)
class Method:
    """An attack, assembled.

    Attributes:
        name: As tables print it.
        objective: What is ascended for each task, and what the weights look at.
        weighting: How tasks are weighted.
        scope: Which samples share weights: "sample", "batch" or "dataset".
        group: With scope "batch": neighbours that share weights (None: the whole batch). With "dataset": samples of a
            chain.
        schedule: "constant", "linear" or "cosine" step size.
        momentum: Decay of the gradient's momentum; 0 for none.
        keep: Return the "last" iterate or the "best".
        projection: "exact", "box-then-ball" or "ball-then-box".
        criterion: By what iterates and restarts are compared, per sample: "sum" of the objective over the tasks,
            "least" damage over the tasks, or "priced" damage at the weights on which the first restart ended.
    """

    name: str
    objective: Objective = LOSS
    weighting: Weighting = Uniform()
    scope: str = "sample"
    group: int | None = None
    schedule: str = "constant"
    momentum: float = 0.0
    keep: str = "last"
    projection: str = "exact"
    criterion: str = "sum"


def _single(task: str, tasks: Sequence[Task]) -> Method:
    names = [t.name for t in tasks]
    if task not in names:
        raise ValueError(f"Method 'single:{task}' should name one of the tasks {names}. Found {task!r}.")
    return Method(f"single:{task}", weighting=Fixed(tuple(float(name == task) for name in names)))


def worst_task(scope: str = "dataset", gamma: float = 0.1) -> Method:
    """The strongest attack here.

    Args:
        scope: "dataset": population-damage min-max, for the figure Δ_Wor of a data set. "sample": each image is to lose
            *all* its tasks: degradation objective, exact inner minimiser, best iterate. "batch": like "sample", with
            weights for the whole batch.
        gamma: Pull towards equal weights of the inner minimiser (scopes "sample" and "batch").
    """
    if scope == "dataset":
        return Method(
            "worst-task",
            objective=PopulationDamage(),
            weighting=LogDamageControl(),
            scope="dataset",
            group=256,
            schedule="linear",
            momentum=0.5,
            criterion="priced",
        )
    return Method(
        "worst-task",
        objective=DEGRADATION,
        weighting=InnerMinimiser(gamma),
        scope=scope,
        schedule="linear",
        keep="best",
        criterion="least",
    )


def _official(name: str, kind: str, weighting: Weighting, criterion: str) -> Method:
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
        criterion=criterion,
    )


METHODS: dict[str, Callable[[], Method]] = {
    "equal": lambda: Method("equal"),
    "normalize": lambda: Method("normalize", objective=NORMALIZED),
    "dgba": lambda: Method("dgba", objective=LOG),
    "alternate": lambda: Method("alternate", weighting=Alternating()),
    "minmax": lambda: Method("minmax", weighting=MinMax(), criterion="least"),
    "minmax-official": lambda: _official("minmax-official", "relative", MinMax(simultaneous=True), "least"),
    "worst-task": worst_task,
    "equal-official": lambda: _official("equal-official", "loss", Uniform(), "sum"),
    "normalize-official": lambda: _official("normalize-official", "normalized", Uniform(), "sum"),
}
ON_REQUEST = ("equal-official", "normalize-official")
"""Methods that "all" leaves out: "equal" and "normalize" as the authors' code has them, to reproduce their tables."""


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
) -> Method:
    """A named method, with parts exchanged where asked.

    Args:
        name: One of :func:`method_names`.
        tasks: The tasks it is for.
        objective: "loss", "log", "normalized", "relative", "pooled-loss", "pooled-normalized", "pooled-relative",
            "degradation" or "population" (that of "worst-task", with scope "dataset").
        weighting: "uniform", "alternating", "minmax", "inner-minimiser", or one fixed weight a task.
        gamma: γ of the min-max weightings: pull towards equal weights.
        weight_step: α₂ of the projected descent on the weights.
        weight_scope: "sample", "batch" or "dataset".
        weight_group: Neighbours that share weights ("batch"), samples of a chain ("dataset").
        schedule: "constant", "linear" or "cosine".
        momentum: Decay of the gradient's momentum.
        keep: "last" or "best".
        projection: "exact", "box-then-ball" or "ball-then-box".

    Raises:
        ValueError: An unknown name, or a knob that the method does not have.

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
    if name.startswith("single:"):
        method = _single(name.removeprefix("single:"), tasks)
    elif name == "worst-task":
        method = worst_task(weight_scope or "dataset")
    elif name in METHODS:
        method = METHODS[name]()
    else:
        close = difflib.get_close_matches(name, method_names(tasks), n=1)
        hint = f" Perhaps {close[0]!r}?" if close else ""
        raise ValueError(f"Parameter `method` should be one of {method_names(tasks)}. Found {name!r}.{hint}")

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
    if method.keep == "best" and method.criterion == "priced":
        # The iterates of a run have no prices in common yet.
        method = replace(method, criterion="least")
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
    if isinstance(weighting, InnerMinimiser) and weighting.gamma == 0:
        raise ValueError("Parameter `gamma` should be above 0 for the exact inner minimiser. Found 0.")
    if isinstance(method.objective, PopulationDamage) and method.scope != "dataset":
        raise ValueError("The objective 'population' looks at the data set; `weight_scope` should be 'dataset'.")
    if isinstance(method.objective, PooledLoss) and method.scope == "dataset":
        name = f"pooled-{method.objective.kind}"
        raise ValueError(f"The objective {name!r} pools a batch; `weight_scope` should be 'batch' or 'sample'.")
