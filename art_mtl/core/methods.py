"""The registry of methods: the only place that says what a method is. Nothing of torch is imported here.

Another package adds a method of its own by an entry point of the group ``art_mtl.methods`` that names a
:class:`MethodSpec`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from art_mtl.entry_points import declared, label, load
from art_mtl.near_names import perhaps

if TYPE_CHECKING:
    from art_mtl.tasks import Task

ENTRY_POINTS = "art_mtl.methods"
AGGREGATORS = ("aligned-mtl", "cagrad", "dualproj", "imtl-g", "mgda", "pcgrad", "upgrad")
"""The weightings of TorchJD that ``jd:<aggregator>`` knows."""
TOLERANCE = 0.05
"""Largest relative change of a preserved task where the user gives none."""
ROLES = ("baseline", "ours", "reference", "ensemble", "foreign")
AUTO_PGD = "auto-pgd"
"""Any method under Auto-PGD's rule, by itself "worst-task"."""


@dataclass(frozen=True)
class MethodSpec:
    """What a method is.

    Attributes:
        name: As options and tables name it; of a family the part before the colon.
        build: ``"module:function"``; the function is called with a :class:`~art_mtl.core.assembly.Request` and returns
            a :class:`~art_mtl.core.method.Method`. "" where ``attack`` is all there is.
        role: "baseline" (published elsewhere), "ours", "reference" (single tasks, to which others are compared),
            "ensemble", or "foreign" (an attack of which nothing is known).
        description: One line for people.
        member: Of a family, what follows the colon: "task" or "aggregator"; None for a method by itself.
        on_request: Whether "all" leaves it out.
        options: Options that it alone knows.
        decides: Options that it decides itself.
        title: What pages call it; "" for its name.
        colour: In figures, as ``"#rrggbb"``; None for one that is still free.
        own_schedule: Whether its step schedule is part of it, so that a grid has one row of it.
        adapts: Whether its task weights move from step to step.
        shares: Whether the samples of a chunk share their weights, so that an evaluation says how many these are.
        cost: Gradient evaluations a sample: "T" (the steps), "K T" (for each of K tasks), or words.
        attack: ``"module:class"`` of the attack that an evaluation runs, with ART's names of options.
        settings: Options of ``attack``, beside what the evaluation gives.

    Raises:
        ValueError: Another role, or a colour of another form.

    Examples:
        >>> spec_of("minmax").gradient_evaluations(steps=10, num_tasks=3)
        10
        >>> spec_of("jd:upgrad").gradient_evaluations(steps=10, num_tasks=3)
        30
    """

    name: str
    build: str
    role: str
    description: str
    member: str | None = None
    on_request: bool = False
    options: tuple[str, ...] = ()
    decides: tuple[str, ...] = ()
    title: str = ""
    colour: str | None = None
    own_schedule: bool = False
    adapts: bool = False
    shares: bool = False
    cost: str = "T"
    attack: str = "art_mtl.attacks:MultiTaskPGD"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(
                f"The role of method {self.name!r} should be one of {', '.join(ROLES)}. Found {self.role!r}."
            )
        if self.colour is not None and not re.fullmatch("#[0-9a-f]{6}", self.colour):
            raise ValueError(f"The colour of method {self.name!r} should be '#rrggbb'. Found {self.colour!r}.")
        object.__setattr__(self, "title", self.title or self.name)

    @property
    def is_ours(self) -> bool:
        """Whether it is a method of this package."""
        return self.role == "ours"

    @property
    def is_reference(self) -> bool:
        """Whether it attacks one task alone, to which attacks on all tasks are compared."""
        return self.role == "reference"

    @property
    def pattern(self) -> str:
        """Its name, of a family with what follows: "single:<task>"."""
        return self.name if self.member is None else f"{self.name}:<{self.member}>"

    def gradient_evaluations(self, steps: int, num_tasks: int) -> int | None:
        """Gradient evaluations a sample; None where ``cost`` is in words.

        Args:
            steps: T.
            num_tasks: K.
        """
        return {"T": steps, "K T": num_tasks * steps}.get(self.cost)

    def names(self, tasks: Sequence[Task]) -> list[str]:
        """Every name that the method goes by on these tasks."""
        members = {None: [], "task": [task.name for task in tasks], "aggregator": list(AGGREGATORS)}[self.member]
        return [self.name] if self.member is None else [f"{self.name}:{member}" for member in members]


_ASSEMBLY = "art_mtl.core.assembly:"


def _spec(name: str, role: str, description: str, **more: Any) -> MethodSpec:
    """A method of this package, which a function of its name makes."""
    return MethodSpec(name, _ASSEMBLY + more.pop("build", name.replace("-", "_")), role, description, **more)


def _selective(name: str, role: str, description: str, own: str, **more: Any) -> MethodSpec:
    """A method that degrades one task and preserves the others, with an option of its own."""
    more |= {"options": ("attacked", "preserved", own), "decides": ("objective", "weighting")}
    return _spec(name, role, description, member="task", on_request=True, **more)


def _by_name(*specs: MethodSpec) -> Mapping[str, MethodSpec]:
    return MappingProxyType({spec.name: spec for spec in specs})


METHODS: Mapping[str, MethodSpec] = _by_name(
    _spec("equal", "baseline", "sum of the task losses (Mao et al. 2020)", title="Equal", colour="#4c78a8"),
    _spec("normalize", "baseline", "sum of the losses, each divided by its clean value", title="Normalize",
          colour="#54a24b"),
    _spec("dgba", "baseline", "sum of the logarithms of the losses (Zhang et al. 2023)", title="DGBA",
          colour="#b279a2"),
    _spec("alternate", "baseline", "one task a step, in turn (Ghamizi et al. 2022)", title="Alternate",
          colour="#9d755d"),
    _spec("minmax", "baseline", "min-max over task weights, Algorithm 1 of Guo et al. 2025",
          title="Min-max, Algorithm 1", colour="#f58518", adapts=True),
    _spec("minmax-official", "baseline", "min-max as the authors' published code has it",
          title="Min-max, authors' form", colour="#d0a215", adapts=True),
    _spec("worst-task", "ours",
          "population-degradation min-max: the strongest degradation of the least degraded task",
          title="worst-task (ours)", colour="#d1242f", own_schedule=True, adapts=True, shares=True),
    _spec("equal-official", "baseline", "equal as the authors' published code has it", on_request=True,
          title="Equal, authors' form", colour="#6baed6"),
    _spec("normalize-official", "baseline", "normalize as the authors' published code has it", on_request=True,
          title="Normalize, authors' form", colour="#98df8a"),
    _spec("worst-image", "ours", "worst-task with weights for each image, which is to lose all its tasks",
          on_request=True, title="worst-image (ours)", colour="#f28e8e", own_schedule=True, adapts=True),
)  # fmt: skip
"""The methods by themselves."""

FAMILIES: Mapping[str, MethodSpec] = _by_name(
    # A reference is worth what its attacks are: the objective, momentum and schedule of worst-task, on one task.
    _spec("single", "reference", "all weight on one task; the smallest of these degradations is an empirical limit "
          "of Δ_Wor", member="task", title="single-task reference", colour="#222222", own_schedule=True, shares=True,
          settings={"objective": "population", "decay": 0.5, "schedule": "linear"}),
    _selective("stealthy", "ours", "degrades one task while no other changes by more than 5 %; 40 steps or more",
               "tolerance", own_schedule=True, shares=True),
    _selective("smta", "baseline", "degrades one task, minus the change of the others (Guo et al. 2024)", "penalty"),
    _spec("jd", "baseline", "gradients combined by TorchJD: upgrad, mgda, pcgrad, cagrad, …", build="aggregated",
          member="aggregator", on_request=True, cost="K T"),
)  # fmt: skip
"""The methods that come in families, one for each task or aggregator."""


def _preset(name: str, role: str, description: str, attack: str, **more: Any) -> MethodSpec:
    """An attack that a class of its own assembles."""
    attack = f"art_mtl.attacks:{attack}"
    return MethodSpec(name, "", role, description, on_request=True, own_schedule=True, attack=attack, **more)


PRESETS: Mapping[str, MethodSpec] = _by_name(
    _preset(AUTO_PGD, "ours", "worst-task under Auto-PGD's rule", "MultiTaskAutoPGD", title="Auto-PGD",
            colour="#0b7a75", adapts=True, shares=True, settings={"method": "worst-task"}),
    _preset("auto-attack", "ensemble", "the ensemble without parameters: the strongest result of several attacks for "
            "each sample", "MultiTaskAutoAttack", title="AutoAttack", colour="#5b3fa0",
            cost="up to 100 (3 + K + 3 for each classification), and 1000 queries", settings={"version": "standard"}),
    _preset("auto-attack-fast", "ensemble", "auto-attack in short", "MultiTaskAutoAttack", title="AutoAttack, fast",
            colour="#9c89cf", cost="up to 20 (2 + K), and 200 queries", settings={"version": "fast"}),
)  # fmt: skip
"""The attacks that are made of other methods."""


@cache
def installed() -> Mapping[str, MethodSpec]:
    """The methods that other packages add, by name.

    Raises:
        ImportError: A package is broken.
        TypeError: An entry point does not name a :class:`MethodSpec`.
        ValueError: A name is taken.
    """
    found: dict[str, MethodSpec] = {}
    for entry in declared(ENTRY_POINTS).values():
        spec = load(entry, "a MethodSpec")
        if not isinstance(spec, MethodSpec):
            raise TypeError(f"{label(entry)} should be a MethodSpec. Found {spec!r}.")
        if spec.name in {**METHODS, **FAMILIES, **PRESETS, **found} and spec is not found.get(spec.name):
            raise ValueError(f"{label(entry)} should have a name of its own. Found {spec.name!r}, which is taken.")
        found[spec.name] = spec
    return MappingProxyType(found)


def registry() -> Mapping[str, MethodSpec]:
    """Every method by name, those of other packages last."""
    return MappingProxyType({**FAMILIES, **METHODS, **PRESETS, **installed()})


def spec_of(name: str) -> MethodSpec:
    """What is known of the method of a row; of an attack from elsewhere a neutral spec of the role "foreign".

    Args:
        name: Of a method; of a family's member, with the part behind the colon.

    Examples:
        >>> spec_of("single:depth").role, spec_of("MyAttack").role
        ('reference', 'foreign')
    """
    known = registry()
    family = known.get(name.partition(":")[0])
    if name not in known and family is not None and (family.member is not None or family.name == AUTO_PGD):
        return family
    return known.get(name) or MethodSpec(name, "", "foreign", "an attack of another package", cost="not known")


def descriptions() -> dict[str, str]:
    """One line for people about every method, by its pattern; what "all" leaves out is marked."""
    return {s.pattern: s.description + ("; not in 'all'" if s.on_request else "") for s in registry().values()}


def single_task_references(tasks: Sequence[str]) -> dict[str, str]:
    """Name of the attack that each task's reference is, by task."""
    families = [spec for spec in FAMILIES.values() if spec.is_reference]
    return {task: f"{spec.name}:{task}" for spec in families for task in tasks}


def method_names(tasks: Sequence[Task] = ()) -> list[str]:
    """Names of all methods by themselves; with tasks, one "single:<task>" for each, first."""
    return [name for spec in registry().values() if spec.build and _is_general(spec) for name in spec.names(tasks)]


def family_names(tasks: Sequence[Task]) -> list[str]:
    """Names of the methods that only run on request: "stealthy:<task>", "smta:<task>" and "jd:<aggregator>"."""
    return [name for spec in registry().values() if not _is_general(spec) for name in spec.names(tasks)]


def preset_names() -> list[str]:
    """Names of the attacks that are made of other methods, and of those of other packages that have no method."""
    return [spec.name for spec in registry().values() if not spec.build]


def _is_general(spec: MethodSpec) -> bool:
    """Whether it is a method by itself, or a family that "all" has."""
    return spec.member is None or not spec.on_request


def find_method(name: str, tasks: Sequence[Task]) -> tuple[MethodSpec, str]:
    """The method of a name, and what the name has after a colon.

    Raises:
        TypeError: It is no name.
        ValueError: It is unknown; the message has the nearest one.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"Parameter `method` should be a name, one of {', '.join(method_names(tasks))}. Found {name!r}."
        )
    family, colon, member = name.partition(":")
    spec = registry().get(family)
    if spec is None or not spec.build or not _names_a_method(spec, colon, member):
        known = [*method_names(tasks), *family_names(tasks)]
        raise ValueError(
            f"Parameter `method` should be one of {', '.join(known)}. Found {name!r}.{perhaps(name, known)}"
        )
    return spec, member


def _names_a_method(spec: MethodSpec, colon: str, member: str) -> bool:
    """Whether a name of this method has all that it needs; options may say which tasks a method attacks."""
    if colon:
        return bool(member) and spec.member is not None
    return spec.member is None or "attacked" in spec.options
