"""The registry of methods: what each is called, what it is for, and what it is told. Nothing of torch is imported here.

Another package adds a method of its own by an entry point of the group ``art_mtl.methods`` that names a
:class:`MethodSpec`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from art_mtl.tasks import Task

ENTRY_POINTS = "art_mtl.methods"
AGGREGATORS = ("aligned-mtl", "cagrad", "dualproj", "imtl-g", "mgda", "pcgrad", "upgrad")
"""The weightings of TorchJD that ``jd:<aggregator>`` knows."""
TOLERANCE = 0.05
"""Largest relative change of a preserved task where the user gives none."""


@dataclass(frozen=True)
class MethodSpec:
    """What a method is.

    Attributes:
        name: As options and tables name it; of a family the part before the colon.
        build: ``"module:function"``; the function is called with a :class:`~art_mtl.core.assembly.Request` and returns
            a :class:`~art_mtl.core.method.Method`.
        role: "baseline" (published elsewhere), "ours", "reference" (single tasks, to which others are compared) or
            "ensemble".
        description: One line for people.
        member: Of a family, what follows the colon: "task" or "aggregator"; None for a method by itself.
        on_request: Whether "all" leaves it out.
        options: Options that it alone knows.
        decides: Options that it decides itself.
    """

    name: str
    build: str
    role: str
    description: str
    member: str | None = None
    on_request: bool = False
    options: tuple[str, ...] = ()
    decides: tuple[str, ...] = ()


_ASSEMBLY = "art_mtl.core.assembly:"


def _spec(name: str, role: str, description: str, **more: Any) -> MethodSpec:
    """A method of this package, which a function of its name makes."""
    return MethodSpec(name, _ASSEMBLY + more.pop("build", name.replace("-", "_")), role, description, **more)


def _selective(name: str, role: str, description: str, own: str) -> MethodSpec:
    """A method that degrades one task and preserves the others, with an option of its own."""
    more = {"options": ("attacked", "preserved", own), "decides": ("objective", "weighting")}
    return _spec(name, role, description, member="task", on_request=True, **more)


def _by_name(*specs: MethodSpec) -> Mapping[str, MethodSpec]:
    return MappingProxyType({spec.name: spec for spec in specs})


METHODS: Mapping[str, MethodSpec] = _by_name(
    _spec("equal", "baseline", "sum of the task losses (Mao et al. 2020)"),
    _spec("normalize", "baseline", "sum of the losses, each divided by its clean value"),
    _spec("dgba", "baseline", "sum of the logarithms of the losses (Zhang et al. 2023)"),
    _spec("alternate", "baseline", "one task a step, in turn (Ghamizi et al. 2022)"),
    _spec("minmax", "baseline", "min-max over task weights, Algorithm 1 of Guo et al. 2025"),
    _spec("minmax-official", "baseline", "min-max as the authors' published code has it"),
    _spec("worst-task", "ours", "population-degradation min-max: the strongest degradation of the least degraded task"),
    _spec("equal-official", "baseline", "equal as the authors' published code has it", on_request=True),
    _spec("normalize-official", "baseline", "normalize as the authors' published code has it", on_request=True),
    _spec(
        "worst-image", "ours", "worst-task with weights for each image, which is to lose all its tasks", on_request=True
    ),
)
"""The methods by themselves."""

FAMILIES: Mapping[str, MethodSpec] = _by_name(
    _spec(
        "single",
        "reference",
        "all weight on one task; together they make the empirical limit of Δ_Wor",
        member="task",
    ),
    _selective(
        "stealthy", "ours", "degrades one task while no other changes by more than 5 %; 40 steps or more", "tolerance"
    ),
    _selective("smta", "baseline", "degrades one task, minus the change of the others (Guo et al. 2024)", "penalty"),
    _spec(
        "jd",
        "baseline",
        "gradients combined by TorchJD: upgrad, mgda, pcgrad, cagrad, …",
        build="aggregated",
        member="aggregator",
        on_request=True,
    ),
)
"""The methods that come in families, one for each task or aggregator."""


@cache
def installed() -> Mapping[str, MethodSpec]:
    """The methods that other packages add, by name.

    Raises:
        TypeError: An entry point does not name a :class:`MethodSpec`.
    """
    found = {}
    for entry in entry_points(group=ENTRY_POINTS):
        spec = entry.load()
        if not isinstance(spec, MethodSpec):
            raise TypeError(f"Entry point {entry.value!r} of {ENTRY_POINTS!r} should be a MethodSpec. Found {spec!r}.")
        found[spec.name] = spec
    return MappingProxyType(found)


def method_names(tasks: Sequence[Task] = ()) -> list[str]:
    """Names of all methods by themselves; with tasks, one "single:<task>" for each, first."""
    return [f"single:{task.name}" for task in tasks] + [*METHODS, *installed()]


def family_names(tasks: Sequence[Task]) -> list[str]:
    """Names of the methods that only run on request: "stealthy:<task>", "smta:<task>" and "jd:<aggregator>"."""
    by_task = [f"{family}:{task.name}" for family in ("stealthy", "smta") for task in tasks]
    return by_task + [f"jd:{name}" for name in AGGREGATORS]


def find_method(name: str, tasks: Sequence[Task]) -> tuple[MethodSpec, str]:
    """The method of a name, and what the name has after a colon.

    Raises:
        TypeError: It is no name.
        ValueError: It is unknown; the message has the nearest one.
    """
    if not isinstance(name, str):
        raise TypeError(f"Parameter `method` should be a name, one of {method_names(tasks)}. Found {name!r}.")
    family, _, member = name.partition(":")
    if family in FAMILIES and (member or "attacked" in FAMILIES[family].options):
        return FAMILIES[family], member
    spec = METHODS.get(name) or installed().get(name)
    if spec is None:
        known = [*method_names(tasks), *family_names(tasks)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Perhaps {close[0]!r}?" if close else ""
        raise ValueError(f"Parameter `method` should be one of {known}. Found {name!r}.{hint}")
    return spec, ""
