"""The benchmark: a grid of methods × norms × radii × step schedules on one victim."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.core import METHODS, MethodSpec, family_names, method_names
from art_mtl.core.chunks import DEFAULT_CHUNK
from art_mtl.core.methods import FAMILIES
from art_mtl.evaluation.attack import Attack
from art_mtl.evaluation.batch_size import settle_batch_size
from art_mtl.evaluation.checks import NORMS
from art_mtl.evaluation.measure import check_protocol
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.runs import Listener, run_attacks
from art_mtl.tasks import Task
from art_mtl.team import ProcessGroup

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.victims import Victim
    from art_mtl.prepared import Preparation

SCHEDULES = ("published", "linear", "cosine", "restarts")
ENSEMBLES: Mapping[str, str] = {"auto-attack": "standard", "auto-attack-fast": "fast"}
"""Names of the ensemble in a grid, and the version that each is."""
DEVICES = ("auto", "cpu", "gpu")
Radii = Mapping[str, Sequence[float]]

__all__ = ["DEVICES", "SCHEDULES", "Cell", "benchmark", "make_attack", "make_estimator", "plan_grid", "plan_radii"]


@dataclass(frozen=True)
class Cell:
    """One attack of the grid.

    Attributes:
        method: One of :func:`art_mtl.core.method_names` or :func:`art_mtl.core.family_names`.
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
            >>> Cell("equal", "linf", 0.1, "linear").name, Cell("single:depth", "linf", 0.1, "linear").name
            ('equal + linear step', 'single:depth')
        """
        if self.schedule is None or self.method.startswith("single:"):
            return self.method
        if self.schedule == "restarts":
            return f"{self.method} + linear step, best of {self.restarts}"
        return f"{self.method} + {self.schedule} step"


def benchmark(
    victim: Victim,
    methods: Sequence[str] = ("all",),
    *,
    norms: Sequence[str] | None = None,
    eps: Radii | Sequence[float] | None = None,
    steps: int = 10,
    schedules: Sequence[str] = ("published",),
    restarts: int = 2,
    limit: int | None = None,
    batch_size: int | str = 32,
    seed: int = 0,
    device: str = "auto",
    command: str | None = None,
    progress: bool = True,
    listener: Listener | None = None,
    protocol: str = "pooled",
    split: str = "test",
    chunk: int = DEFAULT_CHUNK,
    store: str | Path | None = None,
    restart: bool = False,
    team: ProcessGroup | None = None,
    prepare: Preparation | str | None = None,
) -> Results:
    """Run a grid of attacks on a victim's test data.

    Baselines get a row for each of ``schedules``: "published" is their own step size, constant; "linear" falls to 0,
    which makes most of them stronger ("equal + linear step"). ``worst-task``, ``worst-image``, ``stealthy:<task>``,
    ``auto-pgd`` and the ensembles have their own schedule, and ``single:<task>``, of which the reference is made
    (:meth:`Results.reference`), the objective, momentum and schedule of ``worst-task`` with all weight on
    one task; each of these gets one row.

    Args:
        victim: See :func:`art_mtl.evaluation.victims.load_victim`.
        methods: Names of :func:`art_mtl.core.method_names` or :func:`art_mtl.core.family_names`; "all" is every one of
            the former, with a ``single:<task>`` for each task, but for those that are on request only. Also
            "auto-pgd", which is ``worst-task`` under Auto-PGD's rule, and those of :data:`ENSEMBLES`.
        norms: Of "linf", "l2", "l1"; None for those of ``eps`` or, without, of the victim's defaults.
        eps: By norm, or for every one of ``norms`` (left out: "linf"), radii in the scale of the model's input; None
            for the victim's defaults.
        steps: T.
        schedules: Of "published", "linear", "cosine", "restarts".
        restarts: Random starts of the schedule "restarts".
        limit: First samples of the test data to use; None for all.
        batch_size: Samples at a time; "auto" is measured before the first attack, see
            :func:`~art_mtl.core.batch_size.measure_batch_size`.
        seed: Of every attack.
        device: "auto", "cpu" or "gpu".
        command: Command line to record.
        progress: Show a progress bar.
        listener: Called for each attack, in order, with its result and the adversarial inputs of the first samples, at
            most 8.
        protocol: How errors are averaged; see :func:`art_mtl.evaluation.evaluate`.
        split: "test" or "train" data.
        chunk: Neighbouring samples that are read, attacked and stored together, over which ``worst-task`` shares its
            weights; a multiple of 4, the group of the authors' published loop. No more than one chunk is in memory.
        store: Folder in which every finished chunk is kept, so that the same call goes on where a killed one stopped.
            None keeps nothing.
        restart: Throw away the run that ``store`` holds.
        team: Processes that share out the chunks, from :func:`art_mtl.team.assemble`; None for this one alone. Every
            process gets the same results.
        prepare: What the gradient steps run on, as for :class:`~art_mtl.attacks.MultiTaskPGD`; results are measured
            with the model itself.

    Returns:
        One :class:`AttackResult` a cell, block by block.

    Raises:
        ValueError: An argument is not one of its values; raised before any attack runs. Or ``store`` holds a run of
            other settings, weights, data or versions; the message tells them one by one.
        BlockingIOError: Another process works in ``store``.
        OSError: ``store`` cannot be written, or the disk is full; what was stored before stays.

    Examples:
        >>> from art_mtl.evaluation import benchmark, load_victim
        >>> victim = load_victim("digits")
        >>> results = benchmark(victim, ["equal", "worst-task"], eps=[0.05], steps=3, limit=8, progress=False)
        >>> [attack.name for attack in results.attacks]
        ['equal', 'worst-task']
    """
    if steps < 1:
        raise ValueError(f"Parameter `steps` should be at least 1. Found {steps}.")
    if restarts < 1:
        raise ValueError(f"Parameter `restarts` should be at least 1. Found {restarts}.")
    if chunk < 4 or chunk % 4:
        raise ValueError(f"Parameter `chunk` should be a multiple of 4. Found {chunk}.")
    check_protocol(protocol)
    cells = plan_grid(victim.tasks, methods, plan_radii(victim, norms, eps), schedules, restarts)
    estimator = make_estimator(victim, device)
    source = victim.source(split, limit)
    batch_size = settle_batch_size(batch_size, estimator, source, prepare, store, restart, team)
    attacks = [(cell.name, make_attack(estimator, cell, steps, batch_size, chunk, prepare=prepare)) for cell in cells]
    return run_attacks(
        estimator,
        attacks,
        source,
        batch_size=batch_size,
        seed=seed,
        victim=victim.name,
        command=command,
        progress=progress,
        listener=listener,
        protocol=protocol,
        chunk=chunk,
        store=store,
        restart=restart,
        team=team,
    )


def plan_radii(
    victim: Victim, norms: Sequence[str] | None = None, eps: Radii | Sequence[float] | None = None
) -> dict[str, tuple[float, ...]]:
    """Radii by norm, in order, each once; see :func:`benchmark`.

    Raises:
        ValueError: An unknown norm, a radius that is not positive, or a norm that is left without one.
    """
    given: Radii = {} if eps is None else eps if isinstance(eps, Mapping) else dict.fromkeys(norms or ("linf",), eps)
    chosen = list(norms) if norms else list(given) or list(victim.eps)
    planned = {}
    for norm in dict.fromkeys([*chosen, *given]):
        if norm not in NORMS:
            raise ValueError(f"Parameter `norms` should be of {list(NORMS)}. Found {norm!r}.")
        if norm not in chosen:
            raise ValueError(f"Parameter `eps` should be of the norms {chosen}. Found radii of {norm!r}.")
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
) -> list[Cell]:
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
    everything = [name for name in method_names(tasks) if not (name in METHODS and METHODS[name].on_request)]
    known = [*method_names(tasks), *family_names(tasks), "auto-pgd", *ENSEMBLES]
    names = list(dict.fromkeys(name for method in methods for name in (everything if method == "all" else [method])))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Perhaps {close[0]!r}?" if close else ""
            raise ValueError(f"Parameter `methods` should be of {['all', *known]}. Found {name!r}.{hint}")
    for schedule in schedules:
        if schedule not in SCHEDULES:
            raise ValueError(f"Parameter `schedules` should be of {list(SCHEDULES)}. Found {schedule!r}.")
    if not names or not schedules:
        raise ValueError(f"A grid should have at least one method and one schedule. Found {names}, {list(schedules)}.")
    return [
        Cell(name, norm, radius, schedule, restarts)
        for norm, values in radii.items()
        for radius in values
        for name in names
        for schedule in _schedules(name, schedules)
    ]


def _schedules(method: str, asked: Sequence[str]) -> Iterator[str | None]:
    if method.startswith("single:"):
        yield "linear"
    elif method in ("worst-task", "worst-image", "auto-pgd", *ENSEMBLES) or method.startswith("stealthy:"):
        yield None
    else:
        yield from (None if schedule == "published" else schedule for schedule in dict.fromkeys(asked))


def check_device(device: str) -> None:
    """Raise ValueError unless ``device`` is one of :data:`DEVICES`, and there."""
    import torch

    if device not in DEVICES:
        raise ValueError(f"Parameter `device` should be one of {list(DEVICES)}. Found {device!r}.")
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


def make_attack(
    estimator: PyTorchMultiTaskEstimator,
    cell: Cell,
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
        prepare: As for :func:`benchmark`.
    """
    from art_mtl.attacks import (
        MinMaxMultiTaskPGD,
        MultiTaskAutoAttack,
        MultiTaskAutoPGD,
        MultiTaskPGD,
        WorstTaskPGD,
    )

    common: dict[str, Any] = {
        "norm": NORMS[cell.norm], "eps": cell.eps, "batch_size": batch_size, "prepare": prepare, "verbose": False,
    }  # fmt: skip
    if cell.method in ENSEMBLES:
        return MultiTaskAutoAttack(estimator, version=ENSEMBLES[cell.method], **common)
    if cell.method == "auto-pgd":
        return MultiTaskAutoPGD(estimator, max_iter=steps, **common)
    settings = {**common, "max_iter": steps, "schedule": cell.schedule}
    if cell.schedule == "restarts":
        settings |= {"schedule": "linear", "keep": "best", "num_random_init": cell.restarts}
    if cell.method == "worst-task" or cell.method.startswith(("single:", "stealthy:")):
        settings["weight_group"] = chunk
    if cell.method == "minmax":
        attack: Attack = MinMaxMultiTaskPGD(estimator, variant="paper", **settings)
    elif cell.method == "minmax-official":
        attack = MinMaxMultiTaskPGD(estimator, variant="official", **settings)
    elif cell.method == "worst-task":
        attack = WorstTaskPGD(estimator, **settings)
    elif cell.method.startswith("single:"):
        # A reference is worth what its attacks are: the objective, momentum and schedule of worst-task, on one task.
        attack = MultiTaskPGD(estimator, method=cell.method, objective="population", decay=0.5, **settings)
        attack.shown_as = cell.method
    else:
        attack = MultiTaskPGD(estimator, method=cell.method, **settings)
    return attack


def _described(spec: MethodSpec) -> tuple[str, str]:
    name = spec.name if spec.member is None else f"{spec.name}:<{spec.member}>"
    return name, spec.description + ("; not in 'all'" if spec.on_request else "")


DESCRIPTIONS: Mapping[str, str] = {
    **dict(map(_described, (*FAMILIES.values(), *METHODS.values()))),
    "auto-pgd": "worst-task under Auto-PGD's rule; not in 'all'",
    "auto-attack": "the ensemble without parameters, 'auto-attack-fast' its short version; not in 'all'",
}
"""One line a method, for people."""
