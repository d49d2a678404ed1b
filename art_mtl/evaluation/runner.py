"""The one call: attack a model with everything that was asked for, and measure what it did to every task."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from art_mtl.core.chunks import DEFAULT_CHUNK
from art_mtl.core.chunks import chunks as cut_chunks
from art_mtl.evaluation.callbacks import Callback, CallbackList
from art_mtl.evaluation.execution import run_attacks
from art_mtl.evaluation.experiment import Experiment
from art_mtl.evaluation.further_measures import describe_measures, list_measures
from art_mtl.evaluation.report.gallery import Gallery
from art_mtl.evaluation.report.write import check_folder
from art_mtl.evaluation.run import Live, Run
from art_mtl.evaluation.setup import describe_attack, list_attacks, set_up, title_of

__all__ = ["evaluate"]


def evaluate(
    what: Any,
    attacks: Any = ("all",),
    data: Any = None,
    *,
    norm: str | Sequence[str] = (),
    eps: Any = (),
    steps: int = 10,
    schedule: str | Sequence[str] = "published",
    restarts: int = 2,
    limit: int | None = None,
    split: str = "test",
    batch_size: int | str = 32,
    chunk: int | None = None,
    prepare: str = "exact",
    seed: int = 0,
    protocol: str = "pooled",
    device: str = "auto",
    threads: int | None = None,
    bounds: tuple[Any, Any] | None = None,
    root: str | Path | None = None,
    checkpoint: str | Path | None = None,
    tasks: str | Path | None = None,
    keep_adversarial: bool = False,
    measures: Any = (),
    out: str | Path | None = None,
    restart: bool = False,
    repair: bool = False,
    force: bool = False,
    accept: Sequence[str] = (),
    ray: str | None = None,
    callbacks: Callback | Sequence[Callback] = (),
    progress: bool = True,
    command: str | None = None,
) -> Run:
    """Attack a model and measure the degradation of every task.

    Data-set metrics come from :mod:`torchmetrics`. Each adversarial input is checked first: same shape as the clean
    one, finite, inside the estimator's ``clip_values`` and, where the attack has ``eps`` and ``norm``, inside the ball.

    Args:
        what: The name of a victim (see :func:`art_mtl.evaluation.load_victim`), a :class:`~art_mtl.evaluation.Victim`,
            an estimator, a stock ART ``PyTorchClassifier``, or ``(model, tasks)`` of a torch module and its tasks. Or
            an :class:`~art_mtl.evaluation.Experiment`, which says all that decides the numbers.
        attacks: Names that ``art-mtl list`` shows ("all" is every method that is not on request), attack objects of
            this package, ART, torchattacks or secml-torch, anything with ``generate(x, y)``; one, or a list that mixes
            them; or a dict of names and objects. Each name gets a row for every norm, radius and step schedule; each
            object gets one row, with its own settings.
        data: ``(x, y)`` with inputs ``(N, *input_shape)`` and labels in any form of :meth:`art_mtl.MultiTaskLabels.of`;
            a map-style data set whose ``[i]`` is ``(input, labels)``; a ``DataLoader``, of which the data set and the
            collate function are used; or an iterable of samples ``(input, labels)``, which is read once. Batches come
            from a ``DataLoader`` alone: each element of any other iterable is one sample. A victim brings its own; that
            of a model file is the path of a table, see :class:`art_mtl.data.TableDataset`.
        norm: Of "linf", "l2", "l1", as any host writes them. None given: those of the radii, or the victim's.
        eps: Radii in the scale of the model's input, for the attacks that are named: numbers, or texts such as "2/255"
            and "l2:1.0"; or a dict of norms and radii. None given: the victim's.
        steps: T, gradient steps of the attacks that are named.
        schedule: Step schedules of the named baselines, a row each: "published" is their own step size, "linear" falls
            to 0, "cosine" too, "restarts" is linear, the best iterate of several random starts.
        restarts: Random starts of the schedule "restarts".
        limit: First samples to use; None for all.
        split: "test" or "train" data, of a victim.
        batch_size: Samples at a time, or "auto", which measures what fits.
        chunk: Neighbouring samples that are read, attacked and stored together; parts of the data set know nothing of
            each other, and no more than one is in memory. None: 256, or all samples where an attack object looks at all
            of them (ε for each sample, universal perturbations, patches).
        prepare: What the gradient steps of the named attacks run on; see :class:`~art_mtl.attacks.MultiTaskPGD`.
            Results are measured with the model itself.
        seed: Set anew before each attack on each chunk, so that an outcome does not depend on those before it.
        protocol: How errors are averaged: "pooled" over all valid places of the data set, or as "auto-lambda" does, and
            with it the paper's tables.
        device: "auto" (a GPU where there is one), "cpu" or "gpu"; an estimator knows its own.
        threads: CPU threads of torch; None for torch's own number.
        bounds: Smallest and largest input, of ``(model, tasks)``. None: 0 and 1.
        root: Folder of the data of a victim that is named.
        checkpoint: Weights of a victim that is named.
        tasks: The ``tasks.yaml`` of a victim that is a model file.
        keep_adversarial: Keep all adversarial inputs, in ``out`` or in memory; see :meth:`Run.adversarial`.
        measures: What stands in the run's frame and report beside the metric that Δ uses, by task: names of
            ``task.further_metrics``, torchmetrics metrics or callables that make one, one or a list of them, or a dict
            that names them: ``{"seg": ["pixel-accuracy", MulticlassF1Score(13)]}``. Or texts as the command takes them.
        out: Folder in which every finished part is kept, so that the same call goes on where a killed one stopped.
            None: the run lasts as long as the process.
        restart: Throw away the run that ``out`` holds.
        repair: Compute again the units of ``out`` that are damaged; without it they are an error that names them.
        force: Write to ``out`` even if it holds other files.
        accept: Names of settings that may differ from those of the run in ``out``, such as "versions".
        ray: "local", "auto" or the address of a cluster: share the work out over its devices. None: this process.
        callbacks: One, or several; they hear of the run while it goes on.
        progress: Show a progress bar.
        command: Command line to record.

    Returns:
        The run, which shows its table.

    Raises:
        TypeError: Something is of a wrong type; the message says what was expected.
        ValueError: An argument is out of its range, labels do not fit, names repeat, or an attack broke its own
            promise; or ``out`` holds a run of other settings, weights, data or versions, which the message lists.
        BlockingIOError: Another process works in ``out``.
        OSError: ``out`` cannot be written, or the disk is full; what was stored before stays.
        RuntimeError: A callback raised an exception; what was stored before stays.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import tasks
        >>> from art_mtl.attacks import MultiTaskPGD
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": 10 * x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> jobs = [tasks.classification("digit", 10), tasks.regression("ink")]
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> x[0, 0, 0, 3] = x[1, 0, 0, 7] = 0.6
        >>> run = evaluate((Net(), jobs), ["equal", "worst-task"], (x, {"digit": [3, 7], "ink": [0.5, 0.4]}),
        ...     eps=[0.1], steps=5, progress=False)
        >>> run.results.tasks[0].clean, run["equal"].values[0]
        (1.0, 0.0)
    """
    asked_for = dict(locals())
    hearing = CallbackList(callbacks)
    if isinstance(what, Experiment):
        what.check_names()
        own = {name: value for name, value in asked_for.items() if name in _OF_AN_EXPERIMENT}
        given_too = [name for name, value in own.items() if value is not _DEFAULTS[name] and value != _DEFAULTS[name]]
        if given_too:
            raise ValueError(
                "An experiment says itself what it runs; make another by dataclasses.replace. "
                f"Found {', '.join(given_too)} beside it."
            )
        experiment, given, further = what, list(what.attacks), list_measures(what.measures)
        what = experiment.victim
    else:
        given, further = list_attacks(attacks), list_measures(measures)
        asked: dict[str, Any] = {
            "victim": title_of(what),
            "attacks": tuple(attack if isinstance(attack, str) else describe_attack(attack) for attack in given),
            "norm": (norm,) if isinstance(norm, (str, numbers.Real)) else tuple(norm),
            "eps": tuple(_radii(eps)),
            "schedule": (schedule,) if isinstance(schedule, str) else tuple(schedule),
            "chunk": DEFAULT_CHUNK if chunk is None else chunk,
            "steps": steps, "restarts": restarts, "limit": limit, "split": split, "batch_size": batch_size,
            "prepare": prepare, "seed": seed, "protocol": protocol, "device": device, "threads": threads,
            "root": root, "checkpoint": checkpoint, "tasks": tasks,
            "data": data if isinstance(data, (str, Path)) else None, "keep_adversarial": keep_adversarial,
            "measures": describe_measures(further),
        }  # fmt: skip
        experiment = Experiment(**asked)
        data = None if experiment.data is not None else data
    if out is not None:
        check_folder(out, force)
    setup = set_up(
        what, given, data, experiment, bounds=bounds, measures=further, whole=chunk is None, folder=out, restart=restart
    )
    experiment, subject = setup.experiment, setup.subject
    gallery = Gallery(subject.estimator, subject.source, subject.class_names)
    hearing.append(gallery)
    with hearing.hearing_of_exceptions():
        results, chunks = run_attacks(
            subject.estimator,
            setup.attacks,
            subject.source,
            batch_size=setup.batch_size,
            experiment=experiment,
            measures=setup.measures,
            victim=subject.name,
            command=command,
            progress=progress,
            callbacks=hearing,
            gallery=gallery,
            out=out,
            restart=restart,
            repair=repair,
            accept=(accept,) if isinstance(accept, str) else tuple(accept),
            ray=ray,
        )
        total = len(setup.attacks) * len(cut_chunks(len(subject.source), min(experiment.chunk, len(subject.source))))
        run = Run(
            found=results,
            experiment=experiment,
            folder=None if out is None else Path(out),
            done=total,
            total=total,
            samples=len(subject.source),
            _live=Live(setup, gallery, chunks),
        )
        hearing.on_end(run)
    return run


_OF_AN_EXPERIMENT = {*(one.name for one in fields(Experiment)), "attacks", "data", "bounds"}
_DEFAULTS = {name: one.default for name, one in inspect.signature(evaluate).parameters.items()}


def _radii(eps: Any) -> Iterator[str]:
    """Radii as an experiment holds them; numbers keep all their digits."""
    if isinstance(eps, Mapping):
        for norm, values in eps.items():
            yield from (f"{norm}:{text}" for text in _radii(values))
        return
    for value in [eps] if isinstance(eps, (str, numbers.Real)) else eps:
        yield value if isinstance(value, str) else repr(float(value))
