"""From the name of a method and its options to the method: each only assembles parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from importlib import import_module
from types import MappingProxyType
from typing import Any

from torch import Tensor

from art_mtl.core.aggregators import TorchJD
from art_mtl.core.checks import number, one_of, optional, task_weights
from art_mtl.core.method import Method
from art_mtl.core.methods import AGGREGATORS, AUTO_PGD, TOLERANCE, MethodSpec, find_method, registry
from art_mtl.core.objectives.constrained import ConstrainedObjective, Multipliers, Roles
from art_mtl.core.objectives.loss_objectives import (
    DEGRADATION,
    LOG,
    LOSS,
    NORMALIZED,
    RELATIVE,
    Objective,
    PerSample,
    PooledLoss,
)
from art_mtl.core.objectives.population import PopulationDegradation
from art_mtl.core.optimizers.schedules import LINEAR, SCHEDULES
from art_mtl.core.options import METHOD_PARTS, SCOPES
from art_mtl.core.weightings import (
    Alternating,
    Fixed,
    InnerMinimiser,
    LogDegradationControl,
    MinMax,
    Uniform,
    Weighting,
    least,
)
from art_mtl.tasks import Target, Task

OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
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
)
WEIGHTINGS: Mapping[str, Callable[[], Weighting]] = MappingProxyType(
    {"uniform": Uniform, "alternating": Alternating, "minmax": MinMax, "inner-minimiser": InnerMinimiser}
)
_STEALTHY_STEP = 0.3
"""First step of a stealthy attack as a share of ε: a larger one throws preserved tasks far off at once."""


@dataclass(frozen=True)
class Request:
    """What a method is made from.

    Attributes:
        member: What its name has after the colon; "" for none.
        tasks: K tasks.
        options: The options that were given, of :data:`~art_mtl.core.options.METHOD_PARTS`.
    """

    member: str
    tasks: tuple[Task, ...]
    options: Mapping[str, Any]


def make_method(
    name: str,
    tasks: Sequence[Task],
    *,
    momentum: float | None = None,
    default_scope: str | None = None,
    **options: Any,
) -> Method:
    """A named method, with parts exchanged where asked.

    A method whose objective or weighting was exchanged says so in its name, and compares iterates as its new weighting
    does.

    Args:
        name: One of :func:`~art_mtl.core.methods.method_names` or :func:`~art_mtl.core.methods.family_names`; or
            "stealthy" or "smta" with ``attacked``.
        tasks: The tasks that it is for.
        momentum: Decay of the gradient's momentum; None for the method's own.
        default_scope: Takes the place of ``weight_scope`` where that is not given: what a search works with.
        **options: Those of :class:`~art_mtl.core.options.MethodOptions` that make a method, such as ``objective``,
            ``weighting`` or ``schedule``; None for the method's own.

    Raises:
        TypeError: An unknown option, or one of a wrong type.
        ValueError: An unknown name, or an option that the method has no use for.
        ImportError: A method "jd:…" without TorchJD.

    Examples:
        >>> from art_mtl import tasks
        >>> make_method("minmax", [tasks.depth("depth")], gamma=0.2).weighting
        MinMax(gamma=0.2, weight_step=0.03333333333333333, simultaneous=False)
        >>> make_method("minmax", [tasks.depth("depth")], weighting="uniform").name
        'minmax(weighting=uniform)'
    """
    spec, member = find_method(name, tasks)
    optional(number(0))("momentum", momentum)
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in METHOD_PARTS:
            raise TypeError(f"A method has no option `{option}`. Its options are {list(METHOD_PARTS)}.")
        METHOD_PARTS[option].check(option, value)
    _check_own_options(name, spec, given)
    module, _, function = spec.build.partition(":")
    told = given if default_scope is None else {"weight_scope": default_scope, **given}
    method = getattr(import_module(module), function)(Request(member, tuple(tasks), MappingProxyType(told)))
    return _settle(_exchange(method, tasks, given, momentum), given, momentum)


def _check_own_options(name: str, spec: MethodSpec, given: Mapping[str, Any]) -> None:
    """Raise where an option belongs to other methods, or is one that the method decides."""
    for option, value in given.items():
        owners = [other.name for other in registry().values() if option in other.options]
        if owners and spec.name not in owners:
            raise ValueError(
                f"Parameter `{option}` belongs to the method(s) {' and '.join(map(repr, owners))}. "
                f"Found method {name!r}."
            )
        if option in spec.decides:
            raise ValueError(f"Method {name!r} has a {option} of its own; leave `{option}` out. Found {value!r}.")


def _exchange(method: Method, tasks: Sequence[Task], given: Mapping[str, Any], momentum: float | None) -> Method:
    """The method with the parts that were given, each in the place that its option names."""
    made: Mapping[str, Callable[[Any], Any]] = {
        "objective": OBJECTIVES.__getitem__,
        "weighting": lambda value: _weighting(value, tasks),
        "schedule": SCHEDULES.__getitem__,
        "keep": lambda value: value == "best",
    }
    changes: dict[str, Any] = {} if momentum is None else {"momentum": momentum}
    numbers = {}
    for option, value in given.items():
        part, _, field = (METHOD_PARTS[option].sets or "").partition(".")
        if field:
            numbers[option] = field
        elif part:
            changes[part] = made[option](value) if option in made else value
    if "objective" in changes:
        changes.setdefault("scope", changes["objective"].needs_scope or method.scope)
    if "weighting" in changes:
        changes["selection_score"] = None
    parts = [f"{part}={_shown(given[part])}" for part in ("objective", "weighting") if part in given]
    name = f"{method.name}({', '.join(parts)})" if parts else method.name
    method = replace(method, name=name, **changes)
    return replace(method, weighting=_tuned(method, {numbers[option]: given[option] for option in numbers}))


def _shown(part: Any) -> str:
    return part if isinstance(part, str) else "[" + ",".join(f"{value:g}" for value in task_weights(part)) + "]"


def _tuned(method: Method, numbers: Mapping[str, Any]) -> Weighting:
    """The weighting with the numbers that were given."""
    weighting: Any = method.weighting
    known = {field.name for field in fields(weighting)}
    for number_of in numbers:
        if number_of not in known:
            raise ValueError(
                f"Parameter `{number_of}` belongs to the min-max weightings. Method {method.name!r} weights its tasks "
                f"by {type(weighting).__name__}."
            )
    tuned: Weighting = replace(weighting, **numbers)
    return tuned


def _settle(method: Method, given: Mapping[str, Any], momentum: float | None) -> Method:
    """The method once what was given goes together, or an error that says what does not."""
    objective = method.objective
    if method.schedule.rule_of_its_own:
        method = _by_own_rule(method, given, momentum)
    elif method.keep_best and isinstance(method.weighting, LogDegradationControl):
        # The iterates of a run have no task weights in common yet.
        method = replace(method, selection_score=least)
    if method.aggregator is not None and method.scope != "sample":
        raise ValueError(
            f"Method {method.name!r} combines the gradients of each sample; `weight_scope` should be 'sample'. "
            f"Found {method.scope!r}."
        )
    if objective.needs_scope not in (None, method.scope):
        raise ValueError(
            f"The objective of method {method.name!r} looks at the data set; `weight_scope` should be "
            f"{objective.needs_scope!r}. Found {method.scope!r}."
        )
    if objective.pools and objective.needs_scope is None and method.scope == "dataset":
        raise ValueError(
            f"The objective of method {method.name!r} pools a batch; `weight_scope` should be 'batch' or 'sample'. "
            "Found 'dataset'."
        )
    _check_sharing(method, given)
    return method


def _by_own_rule(method: Method, given: Mapping[str, Any], momentum: float | None) -> Method:
    """The method under a rule that leaves nothing of a step to choose."""
    if momentum is not None:
        raise ValueError(
            f"The schedule 'auto' has a momentum of its own; leave that of the gradient out. Found {momentum!r}."
        )
    if given.get("keep") == "last":
        raise ValueError("The schedule 'auto' goes back to the best iterate and returns it. Found keep='last'.")
    return replace(method, name=f"{AUTO_PGD}:{method.name}", momentum=0.0, keep_best=True)


def _check_sharing(method: Method, given: Mapping[str, Any]) -> None:
    """Raise where it was said which samples share weights, and it makes no difference."""
    if given.get("weight_scope", "sample") != "sample" and not method.shares:
        raise ValueError(
            f"Method {method.name!r} has weights that do not depend on the samples; leave `weight_scope` out. "
            f"Found {given['weight_scope']!r}."
        )
    if "weight_group" in given and (method.scope == "sample" or not method.shares):
        raise ValueError(
            f"Parameter `weight_group` is for weights that samples share. Method {method.name!r} has "
            f"{'weights for each sample' if method.shares else 'weights that do not depend on the samples'}."
        )


def _weighting(weighting: str | Sequence[float], tasks: Sequence[Task]) -> Weighting:
    if isinstance(weighting, str):
        return WEIGHTINGS[weighting]()
    weights = task_weights(weighting)
    if len(weights) != len(tasks):
        raise ValueError(f"Parameter `weighting` should be {len(tasks)} weights ≥ 0, not all 0. Found {weights}.")
    return Fixed(weights)


# --- the methods by themselves ---


def equal(request: Request) -> Method:
    """Σ L_i: Mao et al. (2020); Ghamizi et al. (2022)."""
    return Method("equal")


def normalize(request: Request) -> Method:
    """Σ L_i / L_i⁰."""
    return Method("normalize", objective=NORMALIZED)


def dgba(request: Request) -> Method:
    """Σ log L_i: Zhang et al. (2023)."""
    return Method("dgba", objective=LOG)


def alternate(request: Request) -> Method:
    """One task a step, in turn: Ghamizi et al. (2022)."""
    return Method("alternate", weighting=Alternating())


def minmax(request: Request) -> Method:
    """Algorithm 1 of Guo et al. (ICASSP 2025)."""
    return Method("minmax", weighting=MinMax())


def minmax_official(request: Request) -> Method:
    """Min-max as in the authors' published code."""
    return _official("minmax-official", "relative", MinMax(simultaneous=True))


def equal_official(request: Request) -> Method:
    """Σ L_i as in the authors' published code."""
    return _official("equal-official", "loss", Uniform())


def normalize_official(request: Request) -> Method:
    """Σ L_i / L_i⁰ as in the authors' published code."""
    return _official("normalize-official", "normalized", Uniform())


def _official(name: str, kind: str, weighting: Weighting) -> Method:
    """What the authors' published code has in common: losses pooled and weights shared by 4 neighbours, and a
    projection that scales to the ball, then clamps to the box.
    """
    return Method(name, PooledLoss(kind), weighting, scope="batch", group=4, projection="ball-then-box")


def worst_task(request: Request) -> Method:
    """The strongest attack here.

    With the scope "dataset": population-degradation min-max, for the figure Δ_Wor of a data set. With "sample" each
    image is to lose *all* its tasks: degradation objective, exact inner minimiser with γ = 0.3, best iterate. With
    "batch": the same with weights for the whole batch, and γ = 0.1.
    """
    scope = request.options.get("weight_scope", "dataset")
    if scope == "dataset":
        return Method(
            "worst-task",
            objective=PopulationDegradation(),
            weighting=LogDegradationControl(),
            scope="dataset",
            group=256,
            schedule=LINEAR,
            momentum=0.5,
        )
    return Method(
        "worst-task",
        objective=DEGRADATION,
        weighting=InnerMinimiser(gamma=0.3 if scope == "sample" else 0.1),
        scope=scope,
        schedule=LINEAR,
        momentum=0.5,
        keep_best=True,
    )


def worst_image(request: Request) -> Method:
    """``worst-task`` with weights for each image."""
    scope = request.options.get("weight_scope", "sample")
    if scope != "sample":
        raise ValueError(
            f"Method 'worst-image' has weights for each image; with `weight_scope` {scope!r} use 'worst-task'."
        )
    options = MappingProxyType({**request.options, "weight_scope": "sample"})
    return replace(worst_task(replace(request, options=options)), name="worst-image")


# --- families ---


def single(request: Request) -> Method:
    """All weight on one task."""
    names = [task.name for task in request.tasks]
    if request.member not in names:
        raise ValueError(
            f"Method 'single:{request.member}' should name one of the tasks {names}. Found {request.member!r}."
        )
    return Method(f"single:{request.member}", weighting=Fixed(tuple(float(name == request.member) for name in names)))


def aggregated(request: Request) -> Method:
    """The gradients of the tasks' losses, combined by a method of TorchJD for each sample."""
    if request.member not in AGGREGATORS:
        raise ValueError(f"Method 'jd:{request.member}' should be one of {[f'jd:{name}' for name in AGGREGATORS]}.")
    made = TorchJD(request.member)
    made.make()  # So that what is missing shows before any work.
    return Method(f"jd:{request.member}", aggregator=made)


def stealthy(request: Request) -> Method:
    """Degrade the attacked tasks while every preserved one changes by at most the tolerance.

    With the scope "dataset" the metrics of the population are preserved, and the last iterate is returned. With
    "sample" and "batch": each sample's errors and scores, or their mean over the batch; the best iterate of each sample
    that keeps within the tolerance is returned, or the one that is least beyond it.
    """
    scope = request.options.get("weight_scope", "dataset")
    one_of(*SCOPES)("weight_scope", scope)
    name, roles, attacked = _roles("stealthy", request)
    population = scope == "dataset"
    return Method(
        name,
        objective=ConstrainedObjective(roles, PopulationDegradation() if population else DEGRADATION),
        weighting=Multipliers(roles, request.options.get("tolerance", TOLERANCE)),
        scope=scope,
        group=256 if population else None,
        schedule=LINEAR,
        momentum=0.9,
        keep_best=not population,
        score_fn=_half_targeted_degradation(attacked),
        first_step=_STEALTHY_STEP,
    )


def smta(request: Request) -> Method:
    """Stealthy multi-task attack (Guo et al. 2024, arXiv 2411.17936): ascend ``r_t − penalty · Σ_others |r_j|``, with r
    the relative loss ``(L − L⁰)/L⁰``; the penalty is set by hand.
    """
    name, roles, attacked = _roles("smta", request)
    penalty = request.options.get("penalty", 1.0)
    pairs = zip(roles.attacked, roles.preserved, strict=True)
    return Method(
        name,
        objective=ConstrainedObjective(roles, RELATIVE, degradations=False),
        weighting=Fixed(tuple(float(aimed) + penalty * float(kept) for aimed, kept in pairs)),
        score_fn=_constrained_loss(attacked),
    )


def _roles(family: str, request: Request) -> tuple[str, Roles, frozenset[str]]:
    """The name of a task-selective method, who is degraded and preserved, and the names of the former."""
    attacked = request.options.get("attacked")
    if bool(request.member) == (attacked is not None):
        raise ValueError(
            f"Method {family!r} should say which tasks to degrade, by `attacked` or as '{family}:<task>'. "
            f"Found {'both' if request.member else 'neither'}."
        )
    wanted = [request.member] if attacked is None else attacked
    roles = make_roles(wanted, request.options.get("preserved"), request.tasks)
    names = [task.name for task, aimed in zip(request.tasks, roles.attacked, strict=True) if aimed]
    return f"{family}:{'+'.join(names)}", roles, frozenset(names)


def make_roles(attacked: str | Sequence[str], preserved: str | Sequence[str] | None, tasks: Sequence[Task]) -> Roles:
    """Who is degraded and who preserved.

    Args:
        attacked: Name of the task to degrade, or names of several.
        preserved: Name or names of the tasks to preserve; None for all others.
        tasks: K tasks.

    Raises:
        ValueError: An unknown name, a task that is both, or no attacked task.
    """
    names = [task.name for task in tasks]
    attacked = [attacked] if isinstance(attacked, str) else attacked
    preserved = [preserved] if isinstance(preserved, str) else preserved
    for argument, given in (("attacked", attacked), ("preserved", preserved)):
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


# The same object for the same tasks, so that equal methods are equal.


@cache
def _half_targeted_degradation(attacked: frozenset[str]) -> PerSample:
    return PerSample(partial(_half_targeted, attacked=attacked), DEGRADATION.reference, saturates=True)


@cache
def _constrained_loss(attacked: frozenset[str]) -> PerSample:
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
