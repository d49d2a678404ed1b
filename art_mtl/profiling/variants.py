"""Everything that is timed, on the same batch and for the same number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.prepared import Preparation
from art_mtl.profiling import baselines
from art_mtl.profiling.subject import Subject

LIMIT = "limit"
_METHODS: dict[str, Callable[..., Any]] = {
    "equal": MultiTaskPGD, "minmax": MinMaxMultiTaskPGD, "worst-task": WorstTaskPGD
}  # fmt: skip
_BASELINES: dict[str, tuple[Callable[[Subject, int], object], str]] = {
    "art": (baselines.hosted_in_art, "ART's PGD on a hand-made estimator, parameter gradients included"),
    "torchattacks": (baselines.torchattacks_loop, "a loop as torchattacks writes it"),
    "authors": (baselines.authors_loop, "the authors' published loop, re-derived"),
    "two-forwards": (baselines.literal_algorithm, "Algorithm 1 with two forwards, no parameter gradients"),
    LIMIT: (baselines.limit, "one forward + one backward to the input, nothing else"),
}
USUAL = (LIMIT, *_METHODS, *(f"{name}:fp32" for name in _METHODS), "minmax:fp32,memory-efficient",
         "art", "torchattacks", "authors", "two-forwards")  # fmt: skip
"""Those that every machine runs in reasonable time."""
ALL = (*USUAL, "minmax:bf16", "worst-task:bf16", "minmax:bf16,memory-efficient", "minmax:fp32,compile",
       "minmax:bf16,graphs")  # fmt: skip
"""Those that ``art-mtl bench --variants all`` times."""


def describe(name: str) -> str:
    """What a variant is.

    Args:
        name: "limit", "art", "torchattacks", "authors", "two-forwards", or "equal", "minmax" or "worst-task", alone or
            with a preparation of the model, such as "minmax:bf16,graphs".

    Raises:
        ValueError: An unknown name.

    Examples:
        >>> describe("minmax:bf16")
        "ours: MinMaxMultiTaskPGD on a model prepared by 'bf16'"
    """
    if name in _BASELINES:
        return _BASELINES[name][1]
    make, how = _parse(name)
    return f"ours: {make.__name__}" + (f" on a model prepared by {how!r}" if how else "")


def make_variants(subject: Subject, steps: int, names: Sequence[str] = USUAL) -> dict[str, Callable[[], object]]:
    """What to time.

    Args:
        subject: The model and the batch.
        steps: T.
        names: As :func:`describe` reads them; "limit" is always there.

    Raises:
        ValueError: An unknown name.
    """
    return {name: _make(subject, steps, name) for name in dict.fromkeys([LIMIT, *names])}


def _parse(name: str) -> tuple[Callable[..., Any], str | None]:
    method, _, how = name.partition(":")
    if method not in _METHODS:
        known = [*_BASELINES, *_METHODS]
        raise ValueError(f"A variant should be one of {known}, the last three with a preparation as in 'minmax:bf16' "
                         f"if wished. Found {name!r}.")  # fmt: skip
    if how:
        Preparation.parse(how)
    return _METHODS[method], how or None


def _make(subject: Subject, steps: int, name: str) -> Callable[[], object]:
    if name in _BASELINES:
        return partial(_BASELINES[name][0], subject, steps)
    make, how = _parse(name)
    attack = make(
        subject.estimator, norm=np.inf, eps=subject.eps, eps_step=baselines.SHARE * subject.eps, max_iter=steps,
        batch_size=len(subject.x), prepare=how, verbose=False,
    )  # fmt: skip
    return partial(attack.generate, subject.x, subject.y)
