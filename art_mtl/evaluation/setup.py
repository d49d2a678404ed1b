"""What a run attacks, and with what: made of an experiment, and of the objects that a file cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.core.front_searches import FittedFront
from art_mtl.data.sources import Source, as_source
from art_mtl.evaluation.attack import Attack, AttackInfo, attack_info, named_attacks, own_name
from art_mtl.evaluation.batch_size import settle_batch_size
from art_mtl.evaluation.experiment import LIVE, Experiment
from art_mtl.evaluation.further_measures import Asked, Measure, make_measures
from art_mtl.evaluation.grid import as_estimator, make_attack, make_estimator, plan_grid, plan_radii
from art_mtl.evaluation.hosts import hosted
from art_mtl.evaluation.results import choose
from art_mtl.zoo.victims import Victim, load_victim, victim_names

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["Setup", "describe_attack", "list_attacks", "set_up", "set_up_again", "title_of"]


@dataclass(frozen=True)
class Subject:
    """What is attacked, on which data.

    Attributes:
        name: As results call it.
        estimator: The model.
        source: The data.
        eps: Its own radii, by norm.
        class_names: By task, names of its classes.
    """

    name: str
    estimator: PyTorchMultiTaskEstimator
    source: Source
    eps: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Setup:
    """A run before it runs.

    Attributes:
        experiment: What was asked for, with the chunk that it came to.
        subject: What is attacked.
        batch_size: Samples at a time, also where it was measured.
        attacks: Names and attacks, in order.
        measures: What is measured beside the metrics of the tasks.
    """

    experiment: Experiment
    subject: Subject
    batch_size: int
    attacks: list[tuple[str, Attack]]
    measures: tuple[Measure, ...] = ()

    @cached_property
    def infos(self) -> list[AttackInfo]:
        """What is known of each attack, in order."""
        return [attack_info(name, attack) for name, attack in self.attacks]

    def attack(self, key: Any) -> Attack:
        """One of the attacks.

        Args:
            key: As for :class:`~art_mtl.evaluation.Results`.

        Raises:
            KeyError: There is none, or there are several of that name.
        """
        return self.attacks[self.infos.index(choose(self.infos, key))][1]


def set_up(
    what: Any,
    attacks: Sequence[Any],
    data: Any,
    experiment: Experiment,
    *,
    bounds: tuple[Any, Any] | None = None,
    measures: Sequence[Asked] = (),
    whole: bool = False,
    folder: str | Path | None = None,
    restart: bool = False,
) -> Setup:
    """Load the model and the data, and make the attacks; see :func:`art_mtl.evaluation.evaluate`.

    Args:
        what: The model.
        attacks: As :func:`list_attacks` makes them.
        data: Likewise; None for the victim's own.
        experiment: All other settings.
        bounds: Smallest and largest input, of ``(model, tasks)``.
        measures: As :func:`~art_mtl.evaluation.further_measures.list_measures` makes them.
        whole: Whether an attack that looks at all samples gets all of them in one chunk.
        folder: Where the run is stored, with the batch size that was measured; None where it is not.
        restart: The run that ``folder`` holds will be thrown away.

    Raises:
        TypeError: Something is of a wrong type.
        ValueError: Something does not fit.
    """
    subject = _subject(what, data, experiment, bounds)
    further = make_measures(measures, subject.estimator.tasks)
    if whole and any(map(_wants_all, attacks)):
        experiment = replace(experiment, chunk=max(len(subject.source), 4))
    asked, prepare = experiment.batch_size, experiment.prepare
    size = settle_batch_size(asked, subject.estimator, subject.source, prepare, folder, restart)
    return Setup(experiment, subject, size, _pairs(attacks, subject, experiment, size), further)


def set_up_again(
    experiment: Experiment,
    victim: Any = None,
    data: Any = None,
    *,
    bounds: tuple[Any, Any] | None = None,
    folder: str | Path | None = None,
) -> Setup:
    """The very attacks of an experiment, those that are named, on its model, which is loaded or given again.

    Args:
        experiment: Of a run.
        victim: What was evaluated; None loads the experiment's victim, if it is one that is listed by name.
        data: The data; None for the victim's own.
        bounds: Smallest and largest input, of ``(model, tasks)``.
        folder: Where the run is stored.

    Raises:
        TypeError: Something is of a wrong type.
        ValueError: The victim has to be given, or something does not fit.
    """
    if victim is None and experiment.victim not in victim_names():
        raise ValueError(
            "Parameter `victim` should be given again: nothing that a folder names is executed, and no object is in "
            f"it. Found a run of {experiment.victim!r}."
        )
    what = experiment.victim if victim is None else victim
    experiment = replace(experiment, victim=title_of(what))
    if not isinstance(what, str):
        experiment = replace(experiment, root=None, checkpoint=None, tasks=None, data=None)
    named = [attack for attack in experiment.attacks if not attack.startswith(LIVE)]
    return set_up(what, named, data, experiment, bounds=bounds, folder=folder)


def list_attacks(attacks: Any) -> list[Any]:
    """Names and attack objects, one by one, from any of the forms that :func:`art_mtl.evaluation.evaluate` takes.

    Raises:
        TypeError: A dict holds something else than names and attack objects.
    """
    if isinstance(attacks, Mapping):
        for name, attack in attacks.items():
            if not isinstance(name, str) or not name or isinstance(attack, str):
                raise TypeError(f"A dict of attacks should hold names and attack objects. Found {name!r}: {attack!r}.")
        return [_Named(name, attack) for name, attack in attacks.items()]
    if isinstance(attacks, str) or not isinstance(attacks, Iterable):
        return [attacks]
    return list(attacks)


def title_of(what: Any) -> str:
    """The victim as an experiment names it."""
    if isinstance(what, str):
        return what
    return LIVE + (what.name if isinstance(what, Victim) else _kind(what[0] if isinstance(what, tuple) else what))


def _kind(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def describe_attack(attack: Any) -> str:
    """An attack object as an experiment shows it: its name or class, and its parameters."""
    named = isinstance(attack, _Named)
    inner = attack.attack if named else attack
    text = repr(inner) if type(inner).__module__.startswith("art_mtl.") else _kind(inner)
    return LIVE + (f"{attack.name} = {text}" if named else text)


@dataclass(frozen=True)
class _Named:
    """An attack object with the name that the user gave it."""

    name: str
    attack: Any


def _check_applies(what: Any, experiment: Experiment, bounds: tuple[Any, Any] | None) -> None:
    """Raise for what is given and would have no effect."""
    unused = {
        "bounds": bounds is not None and not isinstance(what, tuple),
        "root": experiment.root is not None and not isinstance(what, str),
        "checkpoint": experiment.checkpoint is not None and not isinstance(what, str),
        "tasks": experiment.tasks is not None and not isinstance(what, str),
        "data": experiment.data is not None and not isinstance(what, str),
        "split": experiment.split != "test" and not isinstance(what, (str, Victim)),
    }
    for name, is_unused in unused.items():
        if is_unused:
            raise ValueError(f"Parameter `{name}` should be left out for {title_of(what).removeprefix(LIVE)!r}.")


def _subject(what: Any, data: Any, experiment: Experiment, bounds: tuple[Any, Any] | None) -> Subject:
    _check_applies(what, experiment, bounds)
    if isinstance(what, str):
        what = load_victim(what, **experiment.victim_options)
    if isinstance(what, Victim):
        source = what.source(experiment.split, experiment.limit) if data is None else None
        estimator = make_estimator(what, experiment.device)
        source = source or _fitting(data, estimator, experiment.limit)
        return Subject(what.name, estimator, source, what.eps, what.class_names)
    if data is None:
        raise ValueError("Parameter `data` should be given where `what` is no victim. Found None.")
    if not isinstance(what, tuple):
        estimator = as_estimator(what)
        return Subject("model", estimator, _fitting(data, estimator, experiment.limit))
    if len(what) != 2:
        raise TypeError(f"What is evaluated should be (model, tasks). Found a tuple of {len(what)}.")
    victim = Victim.of(*what, data, bounds=(0.0, 1.0) if bounds is None else bounds)
    estimator = make_estimator(victim, experiment.device)
    return Subject("model", estimator, victim.source("test", experiment.limit))


def _fitting(data: Any, estimator: PyTorchMultiTaskEstimator, limit: int | None) -> Source:
    """The data.

    Raises:
        ValueError: A sample is not what the model takes, a batch for instance.
    """
    source = as_source(data, estimator.tasks, limit)
    if not isinstance(data, tuple):
        found, expected = source.read(slice(0, 1))[0].shape[1:], tuple(estimator.input_shape)
        if found != expected:
            advice = "; give a DataLoader" if found[1:] == expected else ""
            raise ValueError(
                f"Parameter `data` should hold samples with inputs of shape {expected}. Found inputs of shape {found} "
                f"as one sample{advice}."
            )
    return source


def _pairs(given: Sequence[Any], subject: Subject, experiment: Experiment, size: int) -> list[tuple[str, Attack]]:
    """Names and attacks: the grid of those that are named, then the objects."""
    estimator, pairs = subject.estimator, list[tuple[str, Attack]]()
    names = [attack for attack in given if isinstance(attack, str)]
    if names:
        if experiment.chunk % 4 and experiment.chunk < len(subject.source):
            raise ValueError(
                "Parameter `chunk` should be a multiple of 4, the group of the paper's published loop. "
                f"Found {experiment.chunk}."
            )
        radii = plan_radii(subject, list(experiment.norm) or None, experiment.radii)
        cells = plan_grid(estimator.tasks, names, radii, experiment.schedule, experiment.restarts)
        chunk, prepare = experiment.chunk, experiment.prepare
        pairs = [
            (cell.name, make_attack(estimator, cell, experiment.steps, size, chunk, prepare=prepare)) for cell in cells
        ]
    for one in given:
        if isinstance(one, _Named):
            pairs.append((one.name, hosted(one.attack, estimator, size)))
        elif not isinstance(one, str):
            attack = hosted(one, estimator, size)
            pairs.append((own_name(attack), attack))
    pairs = named_attacks([attack for _, attack in pairs], [name for name, _ in pairs])
    _check_whole(pairs, len(estimator.input_shape), experiment.chunk, len(subject.source))
    return pairs


def _wants_all(attack: Any) -> bool:
    """Whether an attack object looks at all samples at once."""
    inner = attack.attack if isinstance(attack, _Named) else attack
    eps = getattr(inner, "eps", None)
    return isinstance(inner, FittedFront) or (isinstance(eps, np.ndarray) and eps.ndim > 0 and len(eps) > 1)


def _check_whole(attacks: Sequence[tuple[str, Attack]], axes: int, chunk: int, samples: int) -> None:
    """Raise for attacks that cannot be given a part of the data set."""
    for name, attack in attacks:
        eps = getattr(attack, "eps", None)
        if chunk < samples and isinstance(eps, np.ndarray) and eps.ndim > axes and len(eps) > 1:
            raise ValueError(
                f"Parameter `chunk` should be left out where ε differs between samples, as that of attack {name!r} is. "
                f"Found an ε of shape {eps.shape}."
            )
