"""Run attacks on a data set and measure what they did to every task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.evaluation.attack import Attack, named_attacks
from art_mtl.evaluation.results import Results
from art_mtl.evaluation.runs import Listener, run_attacks
from art_mtl.evaluation.samples import as_source

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["as_estimator", "evaluate"]


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
    chunk: int | None = None,
    store: str | Path | None = None,
    restart: bool = False,
    threads: int | None = None,
    ray: str | None = None,
    keep_adversarial: bool = False,
) -> Results:
    """Attack a model and measure the degradation to every task.

    Data-set metrics come from :mod:`torchmetrics`. Each adversarial input is checked first: same shape as the clean
    one, finite, inside the estimator's ``clip_values`` and, where the attack has ``eps`` and ``norm``, inside the ball.

    Args:
        estimator: The model with its tasks; or a stock ART ``PyTorchClassifier``, a model of the one task
            "classification".
        attacks: Name to attack, or attacks in a sequence. An attack is any object with ``generate(x, y)``; one with an
            attribute ``observer`` (this package's own) also tells its task weights and losses at every step.
        dataset: ``(x, y)`` with inputs ``(N, *input_shape)`` and labels in any form of
            :meth:`art_mtl.MultiTaskLabels.of`; or a map-style data set whose ``[i]`` is ``(input, labels)``, with
            labels in a dict or in the order of the tasks, whose samples are asked for when they are needed.
        batch_size: Samples at a time in measuring; attacks have their own.
        names: Names of the attacks in a sequence; by default each attack's ``name`` or its class's.
        seed: Set anew before each attack on each chunk, so that an outcome does not depend on those before it; the
            global random states are put back afterwards. None leaves them alone.
        limit: First samples to use; None for all.
        victim: What results call the model.
        command: Command line to record.
        progress: Show a progress bar.
        listener: Called for each attack, in order, with its result and the adversarial inputs of the first samples, at
            most 8.
        protocol: How errors are averaged: "pooled" over all valid places of the data set, or as "auto-lambda" does, and
            with it the paper's tables; see :data:`art_mtl.evaluation.measure.PROTOCOLS`.
        chunk: Samples that an attack is given in one call; parts of the data set know nothing of each other, and no
            more than one is in memory. None: all, which attacks that look at the whole data set need (universal ones,
            ε for each sample).
        store: Folder in which every finished part is kept, so that the same call goes on where a killed one stopped;
            see :mod:`art_mtl.evaluation.runs`. None keeps nothing.
        restart: Throw away the run that ``store`` holds.
        threads: CPU threads of torch, on which last bits of sums depend; None for as many as there are.
        ray: Devices that share out the parts; see :func:`art_mtl.evaluation.workers.work`.
        keep_adversarial: Keep all adversarial inputs with each part.

    Returns:
        Clean and attacked metrics, degradations, per-sample figures.

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
    pairs = named_attacks(attacks, names)
    source = as_source(dataset, estimator.tasks, limit)
    if chunk is not None and chunk < len(source):
        _check_whole(pairs, len(estimator.input_shape))
    return run_attacks(
        estimator,
        pairs,
        source,
        batch_size=batch_size,
        seed=seed,
        victim=victim,
        command=command,
        progress=progress,
        listener=listener,
        protocol=protocol,
        chunk=chunk,
        store=store,
        restart=restart,
        threads=threads,
        ray=ray,
        keep_adversarial=keep_adversarial,
    )


def _check_whole(attacks: Sequence[tuple[str, Attack]], axes: int) -> None:
    """Raise for attacks that cannot be given a part of the data set."""
    for name, attack in attacks:
        eps = getattr(attack, "eps", None)
        if isinstance(eps, np.ndarray) and eps.ndim > axes and len(eps) > 1:
            raise ValueError(
                f"Parameter `chunk` should be left out where ε differs between samples, as that of attack {name!r} is. "
                f"Found an ε of shape {eps.shape}."
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
            "Parameter `estimator` should be a PyTorchMultiTaskEstimator or an ART PyTorchClassifier. "
            f"Found {type(model).__name__}."
        )
    return model
