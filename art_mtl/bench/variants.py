"""Everything that is timed, on the same batch and for the same number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.bench import baselines
from art_mtl.bench.subject import Subject

LIMIT = "limit"
_RIVALS: dict[str, Callable[[Subject, int], object]] = {
    LIMIT: baselines.limit,
    "art": baselines.hosted_in_art,
    "torchattacks": baselines.torchattacks_loop,
    "authors": baselines.authors_loop,
    "two-forwards": baselines.literal_algorithm,
}
_OURS: dict[str, tuple[Callable[..., Any], str | None]] = {
    "equal": (MultiTaskPGD, None),
    "minmax": (MinMaxMultiTaskPGD, None),
    "worst-task": (WorstTaskPGD, None),
    "equal:fp32": (MultiTaskPGD, "fp32"),
    "minmax:fp32": (MinMaxMultiTaskPGD, "fp32"),
    "worst-task:fp32": (WorstTaskPGD, "fp32"),
    "minmax:fp32,memory-efficient": (MinMaxMultiTaskPGD, "fp32,memory-efficient"),
    "minmax:bf16": (MinMaxMultiTaskPGD, "bf16"),
    "minmax:bf16,memory-efficient": (MinMaxMultiTaskPGD, "bf16,memory-efficient"),
    "minmax:fp32,compile": (MinMaxMultiTaskPGD, "fp32,compile"),
    "minmax:bf16,graphs": (MinMaxMultiTaskPGD, "bf16,graphs"),
}
VARIANTS = {
    LIMIT: "one forward + one backward to the input, nothing else",
    "equal": "ours: MultiTaskPGD('equal')",
    "minmax": "ours: MinMaxMultiTaskPGD, Algorithm 1",
    "worst-task": "ours: WorstTaskPGD",
    **{
        name: f"ours: {name.partition(':')[0]} on a model prepared by {how!r}"
        for name, (_, how) in _OURS.items()
        if how
    },
    "art": "ART's PGD on a hand-made estimator, parameter gradients included",
    "torchattacks": "a loop as torchattacks writes it",
    "authors": "the authors' published loop, re-derived",
    "two-forwards": "Algorithm 1 with two forwards, no parameter gradients",
}
"""Name to what it is."""
USUAL = (LIMIT, "equal", "minmax", "worst-task", "equal:fp32", "minmax:fp32", "worst-task:fp32", 
         "minmax:fp32,memory-efficient",
         "art", "torchattacks", "authors", "two-forwards")  # fmt: skip
"""Those that every machine runs in reasonable time."""


def make_variants(subject: Subject, steps: int, names: Sequence[str] = USUAL) -> dict[str, Callable[[], object]]:
    """What to time.

    Args:
        subject: The model and the batch.
        steps: T.
        names: Of :data:`VARIANTS`; "limit" is always there.

    Raises:
        ValueError: An unknown name.
    """
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise ValueError(f"Parameter `names` should be of {list(VARIANTS)}. Found {unknown}.")
    chosen = dict.fromkeys([LIMIT, *names])
    return {
        name: partial(_RIVALS[name], subject, steps) if name in _RIVALS else _own(subject, steps, name)
        for name in chosen
    }


def _own(subject: Subject, steps: int, name: str) -> Callable[[], object]:
    make, prepare = _OURS[name]
    attack = make(
        subject.estimator, norm=np.inf, eps=subject.eps, eps_step=baselines.SHARE * subject.eps, max_iter=steps,
        batch_size=len(subject.x), prepare=prepare, verbose=False,
    )  # fmt: skip
    return partial(attack.generate, subject.x, subject.y)
