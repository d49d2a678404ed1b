"""Time to a given degradation, and the degradation that cheaper steps still do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from art_mtl.attacks import WorstTaskPGD
from art_mtl.core.methods import METHODS
from art_mtl.evaluation import evaluate
from art_mtl.evaluation.grid import GridCell, make_attack
from art_mtl.profiling import baselines
from art_mtl.profiling.subject import Subject
from art_mtl.profiling.timing import Ratio, compare

PUBLISHED = tuple(name for name, spec in METHODS.items() if spec.role == "baseline" and not spec.on_request)
PUBLISHED_STEPS = 20
_TRIED = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


@dataclass(frozen=True)
class TimeToDegradation:
    """How much sooner ``worst-task`` does the degradation of the best published method.

    Attributes:
        method: The best published one, by Δ_Wor after 20 steps.
        degradation: Its Δ_Wor, in percent.
        prepare: What ``worst-task`` ran on.
        steps: Those it needed; None if 20 are not enough.
        reached: Its Δ_Wor then, in percent.
        hosted: Time of 20 steps hosted in ART, relative to that of ``worst-task``; None without ``steps``.
    """

    method: str
    degradation: float
    prepare: str
    steps: int | None
    reached: float
    hosted: Ratio | None


def time_to_degradation(
    subject: Subject, preparations: Sequence[str] = ("fp32",), rounds: int = 5
) -> list[TimeToDegradation]:
    """Time to the best published method's 20-step Δ_Wor, hosted in ART, against ``worst-task`` on a prepared model.

    Published methods are run by this package, which gives the same iterates in less time; what is timed is ART's PGD on
    a hand-made estimator, whose passes they all need at least. Degradations are measured with the model as it is.

    Args:
        subject: A trained model and what to attack, in one batch.
        preparations: For ``worst-task``.
        rounds: Of the timing.

    Raises:
        ValueError: The model is not trained.
    """
    if not subject.trained:
        raise ValueError(f"Degradation needs a trained model, 'rooms' or 'digits'. Found {subject.name!r}.")
    degradations = {name: _degradation(subject, _published(subject, name)) for name in PUBLISHED}
    best = min(degradations, key=lambda name: degradations[name])
    return [_reach(subject, best, degradations[best], how, rounds) for how in preparations]


def degradation_by_preparation(
    subject: Subject, preparations: Sequence[str] = ("exact", "fp32", "bf16"), steps: int = 10
) -> dict[str, float]:
    """Δ_Wor of ``worst-task`` in percent, by what it runs on; always measured with the model as it is."""
    return {how: _degradation(subject, _worst_task(subject, steps, how)) for how in preparations}


def _reach(subject: Subject, method: str, degradation: float, how: str, rounds: int) -> TimeToDegradation:
    reached = 0.0
    for steps in _TRIED:
        attack = _worst_task(subject, steps, how)
        reached = _degradation(subject, attack)
        if reached <= degradation:
            variants: dict[str, Callable[[], object]] = {
                "ours": partial(attack.generate, subject.x, subject.y),
                "art": partial(baselines.hosted_in_art, subject, PUBLISHED_STEPS),
            }
            _, hosted = compare(variants, "ours", rounds, subject.estimator.device)
            return TimeToDegradation(method, degradation, how, steps, reached, hosted)
    return TimeToDegradation(method, degradation, how, None, reached, None)


def _published(subject: Subject, name: str) -> Any:
    return make_attack(subject.estimator, GridCell(name, "linf", subject.eps), PUBLISHED_STEPS, len(subject.x))


def _worst_task(subject: Subject, steps: int, how: str) -> Any:
    return WorstTaskPGD(
        subject.estimator, norm=np.inf, eps=subject.eps, max_iter=steps, batch_size=len(subject.x), prepare=how,
        verbose=False,
    )  # fmt: skip


def _degradation(subject: Subject, attack: Any) -> float:
    run = evaluate(subject.estimator, attack, (subject.x, subject.y), progress=False, batch_size=len(subject.x))
    worst = run.results.attacks[0].delta_wor
    if worst is None:
        raise ValueError(f"No task of {subject.name!r} has a clean metric that degradation could be measured against.")
    return 100 * worst
