"""Run attacks on a data set and measure what they did to every task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor

from art_mtl.evaluation import environment
from art_mtl.evaluation.checks import check_perturbation, norm_name
from art_mtl.evaluation.measure import Inputs, Judge, Measured
from art_mtl.evaluation.results import (
    AttackResult,
    Number,
    Results,
    Rows,
    known,
    mean_least_damage,
    summarise,
)
from art_mtl.evaluation.watch import Watch, observed, seeded
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

Listener = Callable[[AttackResult, Inputs], None]
"""Told each attack's result and adversarial inputs as soon as they are there."""

__all__ = ["Attack", "as_arrays", "evaluate", "named_attacks"]


class Attack(Protocol):
    """Anything that makes adversarial inputs: this package's attacks, ART's, yours."""

    def generate(self, x: npt.NDArray[Any], y: Any = None) -> npt.NDArray[Any]:
        """Adversarial inputs of the shape of ``x``."""
        ...


def evaluate(
    estimator: PyTorchMultiTaskEstimator,
    attacks: Mapping[str, Attack] | Sequence[Attack],
    dataset: Any,
    *,
    batch_size: int = 32,
    names: Sequence[str] | None = None,
    seed: int | None = None,
    limit: int | None = None,
    victim: str = "model",
    command: str | None = None,
    progress: bool = True,
    listener: Listener | None = None,
    protocol: str = "pooled",
) -> Results:
    """Attack a model and measure the damage to every task.

    Data-set metrics come from :mod:`torchmetrics`. Each adversarial input is checked first: same shape as the clean
    one, finite, inside the estimator's ``clip_values`` and, where the attack has ``eps`` and ``norm``, inside the ball.

    Args:
        estimator: The model with its tasks; or a stock ART ``PyTorchClassifier``, a model of the one task
            "classification".
        attacks: Name to attack, or attacks in a sequence. An attack is any object with ``generate(x, y)``; one with an
            attribute ``observer`` (this package's own) also tells its task weights and losses at every step.
        dataset: ``(x, y)`` with inputs ``(N, *input_shape)`` and labels in any form of
            :meth:`art_mtl.MultiTaskLabels.of`; or a map-style data set whose ``[i]`` is ``(input, dict of labels)``.
        batch_size: Samples at a time in measuring; attacks have their own.
        names: Names of the attacks in a sequence; by default each attack's ``name`` or its class's.
        seed: Set anew before each attack, so that its outcome does not depend on those before it; the global random
            states are put back afterwards. None leaves them alone.
        limit: First samples to use; None for all.
        victim: What results call the model.
        command: Command line to record.
        progress: Show a progress bar.
        listener: Called after each attack with its result and its adversarial inputs.
        protocol: How errors are averaged: "pooled" over all valid places of the data set, or as "auto-lambda" does, and
            with it the paper's tables; see :data:`art_mtl.evaluation.measure.PROTOCOLS`.

    Returns:
        Clean and attacked metrics, damages, per-sample figures.

    Raises:
        TypeError: An attack cannot ``generate``, or the data set has none of these forms.
        ValueError: Labels do not fit, names repeat, the protocol is unknown, or an attack broke its own promise.

    Examples:
        >>> import torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> from art_mtl.attacks import MultiTaskPGD
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": 10 * x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> x[0, 0, 0, 3] = x[1, 0, 0, 7] = 0.6
        >>> attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=5, verbose=False)
        >>> results = evaluate(estimator, [attack], (x, {"digit": [3, 7], "ink": [0.5, 0.4]}), progress=False)
        >>> results.tasks[0].clean, results["equal"].values[0]
        (1.0, 0.0)
    """
    estimator = as_estimator(estimator)
    return run_attacks(
        estimator,
        named_attacks(attacks, names),
        as_arrays(dataset, estimator.tasks, limit),
        batch_size=batch_size,
        seed=seed,
        victim=victim,
        command=command,
        progress=progress,
        listener=listener,
        protocol=protocol,
    )


def run_attacks(
    estimator: PyTorchMultiTaskEstimator,
    attacks: Sequence[tuple[str, Attack]],
    dataset: tuple[Inputs, MultiTaskLabels],
    *,
    batch_size: int,
    seed: int | None,
    victim: str,
    command: str | None,
    progress: bool,
    listener: Listener | None,
    protocol: str,
) -> Results:
    """What :func:`evaluate` does once its arguments are in canonical form; names may repeat from block to block."""
    if batch_size < 1:
        raise ValueError(f"Parameter `batch_size` should be at least 1. Found {batch_size}.")
    judge = Judge(estimator, *dataset, batch_size, protocol)
    clean = judge.measure(judge.x, "on clean inputs")
    tasks = judge.describe(clean)
    results = []
    for name, attack in _progress(attacks, progress):
        result, x_adv = _run(name, attack, judge, clean, seed)
        results.append(result)
        if listener is not None:
            listener(result, x_adv)
    return Results(
        victim=victim,
        tasks=tasks,
        attacks=tuple(results),
        clip_values=input_range(estimator.clip_values),
        environment=environment.describe(str(estimator.device), seed),
        command=command,
        protocol=protocol,
    )


def as_arrays(dataset: Any, tasks: Sequence[Task], limit: int | None = None) -> tuple[Inputs, MultiTaskLabels]:
    """Inputs and labels from any of the forms that :func:`evaluate` takes.

    Args:
        dataset: See :func:`evaluate`.
        tasks: Whose labels are wanted.
        limit: First samples to take; None for all.

    Returns:
        float32 ``(N, ...)`` and the labels of exactly these tasks, as NumPy arrays.

    Raises:
        TypeError: It has none of these forms.
        ValueError: It is empty, or the labels do not fit.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"Parameter `limit` should be at least 1, or None. Found {limit}.")
    names = [task.name for task in tasks]
    if isinstance(dataset, tuple) and len(dataset) == 2:
        x, y = dataset
        x = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float32)
    elif hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__"):
        count = len(dataset) if limit is None else min(limit, len(dataset))
        samples = [dataset[i] for i in range(count)]
        x = np.stack([np.asarray(image, dtype=np.float32) for image, _ in samples]) if samples else np.empty((0, 0))
        y = [labels for _, labels in samples]
    else:
        raise TypeError(
            "Parameter `dataset` should be (x, y), or a data set whose [i] is (input, dict of labels). "
            f"Found {type(dataset).__name__}."
        )
    if len(x) == 0:
        raise ValueError("Parameter `dataset` should hold at least one sample. Found none.")
    labels = MultiTaskLabels.of(y, names, size=len(x)).numpy()
    return cast(Inputs, x[:limit]), labels[:limit]


def named_attacks(
    attacks: Mapping[str, Attack] | Sequence[Attack], names: Sequence[str] | None = None
) -> list[tuple[str, Attack]]:
    """Attacks with their names, checked."""
    if isinstance(attacks, Mapping):
        if names is not None:
            raise ValueError("Parameter `names` should be left out where `attacks` is a mapping. Found both.")
        pairs = list(attacks.items())
    else:
        attacks = [attacks] if hasattr(attacks, "generate") else list(attacks)
        found = [_own_name(attack) for attack in attacks] if names is None else list(names)
        if len(found) != len(attacks):
            raise ValueError(f"Parameter `names` should have {len(attacks)} names, one an attack. Found {len(found)}.")
        pairs = list(zip(found, attacks, strict=True))
    for name, attack in pairs:
        if not callable(getattr(attack, "generate", None)):
            raise TypeError(f"Attack {name!r} should have a method `generate(x, y)`. Found {type(attack).__name__}.")
        if getattr(attack, "targeted", False):
            raise ValueError(
                f"Attack {name!r} should be untargeted: damage is measured against the true labels. "
                "Found `targeted=True`; generate its inputs with target labels and compare metrics yourself."
            )
    keys = [(name, str(getattr(attack, "norm", None)), str(getattr(attack, "eps", None))) for name, attack in pairs]
    repeated = sorted({name for key, (name, _) in zip(keys, pairs, strict=True) if keys.count(key) > 1})
    if repeated:
        raise ValueError(
            "Attacks of one norm and radius should have distinct names; pass a mapping or `names`. "
            f"Found {repeated} repeated."
        )
    return pairs


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
            "Parameter `estimator` should be a PyTorchMultiTaskEstimator or an ART PyTorchClassifier. "
            f"Found {type(model).__name__}."
        )
    return model


def _own_name(attack: Any) -> str:
    name = getattr(attack, "name", None)
    return name if isinstance(name, str) else type(attack).__name__


def generate(name: str, attack: Attack, judge: Judge, seed: int | None) -> tuple[Inputs, float, float]:
    """An attack's inputs, checked, the largest norm of a perturbation, and the seconds that the attack took."""
    with seeded(seed):
        start = time.perf_counter()
        x_adv = np.asarray(attack.generate(judge.x, judge.y))
        seconds = time.perf_counter() - start
    perturbation = check_perturbation(name, attack, judge.x, x_adv, judge.estimator.clip_values)
    return x_adv.astype(np.float32, copy=False), perturbation, seconds


def _run(name: str, attack: Attack, judge: Judge, clean: Measured, seed: int | None) -> tuple[AttackResult, Inputs]:
    watch = Watch()
    with observed(attack, watch):
        x_adv, perturbation, seconds = generate(name, attack, judge, seed)
    attacked = judge.measure(x_adv, f"under attack {name!r}")
    deltas = _numbers(judge.deltas(attacked.values, clean.values))
    sample_deltas = _rows(judge.deltas(attacked.samples, clean.samples))
    mean, least = summarise(deltas)
    result = AttackResult(
        name=name,
        method=_own_name(attack),
        norm=norm_name(getattr(attack, "norm", None)),
        eps=greatest_eps(getattr(attack, "eps", None)),
        schedule=getattr(attack, "schedule", None),
        steps=_steps(attack),
        values=_numbers(attacked.values),
        deltas=deltas,
        delta_mtl=mean,
        delta_wor=least,
        least_damage=mean_least_damage(sample_deltas),
        sample_values=_rows(attacked.samples),
        sample_deltas=sample_deltas,
        perturbation=perturbation,
        seconds=seconds,
        samples=len(x_adv),
        weights=watch.mean(watch.weights),
        losses=watch.mean(watch.losses),
    )
    return result, x_adv


def _progress(chosen: Sequence[tuple[str, Attack]], show: bool) -> Iterator[tuple[str, Attack]]:
    if not show:
        yield from chosen
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("done,"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task("attacks", total=len(chosen))
        for name, attack in chosen:
            bar.update(job, description=_caption(name, attack))
            yield name, attack
            bar.advance(job)


def _caption(name: str, attack: Any) -> str:
    norm, eps = norm_name(getattr(attack, "norm", None)), greatest_eps(getattr(attack, "eps", None))
    return name if norm is None or eps is None else f"{name}, {norm} {eps:.3g}"


def _steps(attack: Any) -> int | None:
    steps = getattr(attack, "max_iter", None)
    return int(steps) if isinstance(steps, (int, np.integer)) and steps > 0 else None


def greatest_eps(eps: Any) -> float | None:
    if eps is None or isinstance(eps, (str, bool)):
        return None
    return float(np.max(np.asarray(eps, dtype=np.float64)))


def input_range(clip_values: Any) -> tuple[float, float] | None:
    if clip_values is None:
        return None
    low, high = clip_values
    return float(np.min(low)), float(np.max(high))


def _numbers(values: Tensor) -> tuple[Number, ...]:
    return tuple(known(value) for value in values.tolist())


def _rows(values: Tensor) -> Rows:
    return tuple(_numbers(row) for row in values)
