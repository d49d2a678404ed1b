"""Diagnose an attack on a model: is the degradation that it reports to be believed?"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from tqdm.auto import tqdm

from art_mtl.data.sources import Inputs, as_arrays, check_one_form
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import Attack, greatest_eps, input_range, named_attacks
from art_mtl.evaluation.diagnosis import checks
from art_mtl.evaluation.diagnosis.diagnosis_context import TOLERANCE, DiagnosisContext
from art_mtl.evaluation.diagnosis.records import Check, Diagnosis
from art_mtl.evaluation.diagnosis.sanity_checks import SANITY_CHECKS
from art_mtl.evaluation.grid import as_estimator
from art_mtl.evaluation.hosts import hosted
from art_mtl.evaluation.measure import check_protocol
from art_mtl.tasks.picking import describe

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

QUERIES = 200

__all__ = ["diagnose"]


def diagnose(
    estimator: PyTorchMultiTaskEstimator,
    attack: Attack,
    x: Any,
    y: Any = None,
    *,
    surrogate: PyTorchMultiTaskEstimator | None = None,
    queries: int = QUERIES,
    tolerance: float = TOLERANCE,
    batch_size: int = 32,
    seed: int = 0,
    limit: int | None = None,
    protocol: str = "pooled",
    chunk: int | None = None,
    victim: str = "model",
    command: str | None = None,
    progress: bool = False,
) -> Diagnosis:
    """Eleven checks of whether the degradation that an attack reports is that which the model can suffer.

    A weak attack and a robust model look alike. They are sanity checks for unreliable attacks: a sound attack passes
    them on every sound model (Carlini et al. 2019, "On evaluating adversarial robustness", section 3; Athalye et al.
    2018, "Obfuscated gradients give a false sense of security", section 3.1; Pintor et al. 2022, "Indicators of attack
    failure"): gradients exist, forward passes repeat, finite differences agree with the gradient, more steps and a
    larger ε are never weaker, twice the steps are no stronger, a huge ε ruins everything, and neither noise, nor an
    attack on all tasks instead of one, nor a search without gradients, nor inputs made on a surrogate are stronger.
    What a failure means and what to do about it stands in each check.

    Degradations are compared on the same samples. One is called stronger than another where it is stronger by more than
    ``tolerance`` and three standard errors of the difference, taken by a paired bootstrap over the samples. Where three
    standard errors are so much that a failure of 20 points could pass, the check is inconclusive: use 64 samples or
    more. Attacks are varied on copies; ``attack`` stays as it is. The whole takes as long as about 20 runs of the
    attack.

    Args:
        estimator: The model with its tasks; or a stock ART ``PyTorchClassifier``.
        attack: Of this package, ART, torchattacks or secml-torch, untargeted, made for this model. Checks that need an
            ``eps``, ``norm``, ``max_iter`` or ``estimator`` that it lacks are not applicable.
        x: Inputs, ``(N, *input_shape)``, inside the estimator's ``clip_values``; or a ``DataLoader`` or data set.
        y: Their true labels, in any form of :meth:`art_mtl.MultiTaskLabels.of`; None where ``x`` has them.
        surrogate: A model of the same tasks on which inputs are made for "transfer". None: a copy of the model itself
            that passes gradients straight through rounding and ``detach``, has its logits cooled and its gradients
            averaged over noise on the inputs (:class:`art_mtl.evaluation.diagnosis.surrogate.Surrogate`).
        queries: Forward passes of the search by queries, at least 2.
        tolerance: Degradation, as a fraction, that two runs may differ by for no reason; and the share of samples that
            may lack a gradient. At least 0.
        batch_size: Samples at a time; attacks have their own.
        seed: Of everything that is random.
        limit: First samples to use; None for all.
        protocol: How errors are averaged; see :func:`art_mtl.evaluation.evaluate`, which found what is diagnosed.
        chunk: Samples that the attack is given in one call, as in that evaluation; None for all.
        victim: What the diagnosis calls the model.
        command: Command line to record.
        progress: Show a progress bar over the checks.

    Returns:
        The checks; :attr:`Diagnosis.failed` names those that failed.

    Raises:
        TypeError: The attack cannot ``generate``, or the estimator or surrogate is of another class.
        ValueError: The attack is targeted or made for another model, the surrogate has other tasks or another input
            shape, or a number is out of its range.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> from art_mtl.attacks import WorstTaskPGD
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         rounded = torch.round(x)  # a gradient of 0 everywhere
        ...         return {"bright": torch.stack([0.5 - rounded.mean((1, 2, 3)), rounded.mean((1, 2, 3)) - 0.5], 1)}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("bright", 2)], input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(32, 1, 8, 8)).astype(np.float32)
        >>> y = {"bright": estimator.predict(x)["bright"].argmax(1)}
        >>> attack = WorstTaskPGD(estimator, eps=0.1, max_iter=3, verbose=False)
        >>> diagnose(estimator, attack, x, y, queries=10).failed
        ('gradient', 'differentiable', 'huge-eps', 'black-box', 'transfer')
    """
    check_protocol(protocol)
    model = as_estimator(estimator)
    [(name, attack)] = named_attacks([hosted(attack, model, batch_size)])
    _check_settings(model, attack, surrogate, queries, tolerance, batch_size)
    check_one_form(x, y)
    inputs, labels = as_arrays(x if y is None else (x, y), model.tasks, limit)
    _check_outputs(model, inputs[:1])
    lab = DiagnosisContext(model, attack, inputs, labels, batch_size, seed, tolerance, protocol, chunk)
    attackable = any(gradient.connected for gradient in lab.gradients)
    made: dict[str, Callable[[], Check]] = {
        **{key: partial(check, lab) for key, check in {**checks.FREE, **checks.ATTACKING}.items()},
        "black-box": lambda: checks.black_box(lab, queries),
        "transfer": lambda: checks.transfer(lab, surrogate),
    }
    found = []
    for key in tqdm(SANITY_CHECKS, desc=f"diagnose {name}", disable=not progress):
        if attackable or key in checks.FREE:
            found.append(made[key]())
        else:
            found.append(Check.skipped(key, "no task has a gradient, so the attack cannot run"))
    return Diagnosis(
        victim=victim,
        attack=name,
        norm=lab.norm,
        eps=greatest_eps(lab.eps),
        steps=lab.steps,
        samples=len(inputs),
        delta_wor=None if not attackable or math.isnan(lab.direct.worst) else lab.direct.worst,
        clip_values=input_range(model.clip_values),
        checks=tuple(found),
        environment=environment.describe(str(model.device), seed),
        command=command,
        protocol=protocol,
        chunk=chunk,
    )


def _check_outputs(model: PyTorchMultiTaskEstimator, x: Inputs) -> None:
    for task, output in zip(model.tasks, model.raw_outputs(x), strict=True):
        if not isinstance(output, Tensor):
            raise ValueError(
                f"The model's output for task {task.name!r} should be a tensor: the sanity checks compare and project "
                f"outputs. Found {describe(output)}."
            )


def _check_settings(
    model: PyTorchMultiTaskEstimator, attack: Any, surrogate: Any, queries: int, tolerance: float, batch_size: int
) -> None:
    for argument, value, least in (("queries", queries, 2), ("batch_size", batch_size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"Parameter `{argument}` should be an integer of at least {least}. Found {value!r}.")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"Parameter `tolerance` should be finite and at least 0. Found {tolerance!r}.")
    own = getattr(attack, "estimator", None)
    if own is not None and own.model is not model.model:
        raise ValueError(
            "Parameter `attack` should be made for the model that is diagnosed. Found an attack on another model, a "
            f"{type(own.model).__name__}; make it with this estimator."
        )
    if surrogate is None:
        return
    other = as_estimator(surrogate)
    expected, found = ([task.name for task in side.tasks] for side in (model, other))
    if expected != found or tuple(other.input_shape) != tuple(model.input_shape):
        raise ValueError(
            f"Parameter `surrogate` should have the tasks {expected} and inputs of shape {tuple(model.input_shape)}. "
            f"Found the tasks {found} and inputs of shape {tuple(other.input_shape)}."
        )
