"""The benchmark: a grid of methods × norms × radii × step schedules on one victim."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from art_mtl.core import checks, family_names, method_names
from art_mtl.core.methods import preset_names, spec_of
from art_mtl.evaluation.attack import Attack
from art_mtl.evaluation.checks import NORMS
from art_mtl.near_names import perhaps
from art_mtl.tasks import Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.prepared import Preparation
    from art_mtl.zoo.victims import Victim

SCHEDULES = ("published", "linear", "cosine", "restarts")
DEVICES = ("auto", "cpu", "gpu")
Radii = Mapping[str, Sequence[float]]

__all__ = ["DEVICES", "SCHEDULES", "GridCell", "make_attack", "make_estimator", "plan_grid", "plan_radii"]


@dataclass(frozen=True)
class GridCell:
    """One attack of the grid.

    Attributes:
        method: A name of the registry; see :mod:`art_mtl.core.methods`.
        norm: "linf", "l2" or "l1".
        eps: Radius in the scale of the model's input.
        schedule: Step schedule; None for the method's own.
        restarts: Random starts, with the schedule "restarts".
    """

    method: str
    norm: str
    eps: float
    schedule: str | None = None
    restarts: int = 2

    @property
    def name(self) -> str:
        """As tables print it.

        Examples:
            >>> GridCell("equal", "linf", 0.1, "linear").name, GridCell("single:depth", "linf", 0.1, "linear").name
            ('equal + linear step', 'single:depth')
        """
        if self.schedule is None or spec_of(self.method).own_schedule:
            return self.method
        if self.schedule == "restarts":
            return f"{self.method} + linear step, best of {self.restarts}"
        return f"{self.method} + {self.schedule} step"


class HasRadii(Protocol):
    """What has a name and radii of its own, by norm: a victim, for instance."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def eps(self) -> Mapping[str, tuple[float, ...]]:
        """Radii by norm."""
        ...


def plan_radii(
    victim: HasRadii, norms: Sequence[str] | None = None, eps: Radii | Sequence[float] | None = None
) -> dict[str, tuple[float, ...]]:
    """Radii by norm, in order, each once; see :func:`art_mtl.evaluation.evaluate`.

    Raises:
        ValueError: An unknown norm, a radius that is not positive, or a norm that is left without one.
    """
    given: Radii = {} if eps is None else eps if isinstance(eps, Mapping) else dict.fromkeys(norms or ("linf",), eps)
    wanted = list(norms) if norms else list(given) or list(victim.eps)
    planned = {}
    for norm in dict.fromkeys([*wanted, *given]):
        checks.one_of(*NORMS)("norm", norm)
        if norm not in wanted:
            raise ValueError(f"Parameter `eps` should have radii of {', '.join(wanted)}. Found one of {norm}.")
        radii = given.get(norm) or (victim.eps.get(norm, ()) if eps is None else ())
        if not radii:
            raise ValueError(
                f"Parameter `eps` should give radii for {norm}; victim {victim.name!r} has no default. Found none."
            )
        for radius in radii:
            if not 0 < radius < float("inf"):
                raise ValueError(f"Parameter `eps` should be positive and finite. Found {radius}.")
        planned[norm] = tuple(dict.fromkeys(float(radius) for radius in radii))
    if not planned:
        raise ValueError(f"Parameter `eps` should give radii; victim {victim.name!r} has no default. Found none.")
    return planned


def plan_grid(
    tasks: Sequence[Task],
    methods: Sequence[str],
    radii: Radii,
    schedules: Sequence[str] = ("published",),
    restarts: int = 2,
) -> list[GridCell]:
    """All cells of a grid, block by block.

    Args:
        tasks: Of the victim.
        methods: Names, or "all".
        radii: By norm.
        schedules: Of "published", "linear", "cosine", "restarts".
        restarts: Random starts of the schedule "restarts".

    Raises:
        ValueError: An unknown method or schedule.

    Examples:
        >>> from art_mtl import tasks
        >>> cells = plan_grid([tasks.depth("depth")], ["equal", "worst-task"], {"l2": [1.0]}, ["published", "linear"])
        >>> [cell.name for cell in cells]
        ['equal', 'equal + linear step', 'worst-task']
    """
    known = [*method_names(tasks), *family_names(tasks), *preset_names()]
    everything = [name for name in known if not spec_of(name).on_request]
    names = list(dict.fromkeys(name for method in methods for name in (everything if method == "all" else [method])))
    for name in names:
        if name not in known:
            listed = ", ".join(["all", *known])
            raise ValueError(f"Parameter `attacks` should be one of {listed}. Found {name!r}.{perhaps(name, known)}")
    for schedule in schedules:
        checks.one_of(*SCHEDULES)("schedule", schedule)
    if not names or not schedules:
        raise ValueError(f"A grid should have at least one attack and one schedule. Found {names}, {list(schedules)}.")
    asked = [None if schedule == "published" else schedule for schedule in dict.fromkeys(schedules)]
    return [
        GridCell(name, norm, radius, schedule, restarts)
        for norm, values in radii.items()
        for radius in values
        for name in names
        for schedule in ([None] if spec_of(name).own_schedule else asked)
    ]


def check_device(device: str) -> None:
    """Raise ValueError unless ``device`` is one of :data:`DEVICES`, and there."""
    import torch

    checks.one_of(*DEVICES)("device", device)
    if device == "gpu" and not torch.cuda.is_available():
        raise ValueError("Parameter `device` is 'gpu', for which torch should see a GPU. Found none.")


def make_estimator(victim: Victim, device: str = "auto") -> PyTorchMultiTaskEstimator:
    """The victim as an ART estimator.

    Args:
        victim: The model, its tasks and input range.
        device: "cpu", "gpu", or "auto" for a GPU where there is one.

    Raises:
        ValueError: Another device, or no GPU where one is asked for.
    """
    from art_mtl.estimators import PyTorchMultiTaskEstimator

    check_device(device)
    return PyTorchMultiTaskEstimator(
        victim.model,
        tasks=victim.tasks,
        input_shape=victim.input_shape,
        clip_values=victim.clip_values,
        device_type="cpu" if device == "cpu" else "gpu",
    )


def as_estimator(model: Any) -> PyTorchMultiTaskEstimator:
    """The estimator itself, or a stock ART classifier as a model of one task.

    Raises:
        TypeError: Anything else.
    """
    from art.estimators.classification import PyTorchClassifier

    from art_mtl.estimators import PyTorchMultiTaskEstimator

    if isinstance(model, PyTorchClassifier):
        return PyTorchMultiTaskEstimator.from_classifier(model)
    if not isinstance(model, PyTorchMultiTaskEstimator):
        raise TypeError(
            "What is evaluated should be the name of a victim, a Victim, a PyTorchMultiTaskEstimator, an ART "
            f"PyTorchClassifier, or (model, tasks). Found {type(model).__name__}."
        )
    return model


def make_attack(
    estimator: PyTorchMultiTaskEstimator,
    cell: GridCell,
    steps: int,
    batch_size: int,
    chunk: int | None = None,
    *,
    prepare: Preparation | str | None = None,
) -> Attack:
    """The ART attack of one cell.

    Args:
        estimator: The victim's.
        cell: Of the grid.
        steps: T.
        batch_size: Samples at a time.
        chunk: Samples over which it may share weights; None for the method's own number.
        prepare: As for :func:`art_mtl.evaluation.evaluate`.
    """
    spec = spec_of(cell.method)
    module, _, name = spec.attack.partition(":")
    make = getattr(import_module(module), name)
    told: dict[str, Any] = {
        "method": cell.method, "norm": NORMS[cell.norm], "eps": cell.eps, "max_iter": steps, "schedule": cell.schedule,
        "weight_group": chunk if spec.shares else None, "batch_size": batch_size, "prepare": prepare, "verbose": False,
    }  # fmt: skip
    if cell.schedule == "restarts":
        told |= {"schedule": "linear", "keep": "best", "num_random_init": cell.restarts}
    takes = inspect.signature(make).parameters
    attack: Attack = make(estimator, **{**{name: told[name] for name in told if name in takes}, **spec.settings})
    attack.shown_as = cell.method  # type: ignore[attr-defined]  # Its own name says more than a table needs.
    return attack
