"""Members of the ensemble: attacks that fail for different reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from art_mtl.core.assembly import make_method
from art_mtl.core.checks import one_of
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import DEGRADATION, PerSample
from art_mtl.core.objectives.population import PopulationDegradation
from art_mtl.core.optimizers.schedules import SQUARE
from art_mtl.core.weightings import LogDegradationControl
from art_mtl.losses import masked_mean
from art_mtl.tasks import Target, Task


@dataclass(frozen=True)
class Member:
    """One attack of an ensemble.

    Attributes:
        name: As reports print it.
        method: What it does.
        steps: T.
        rank: Classifications are attacked towards the class with the rank-th greatest other logit; None: away from the
            label.
    """

    name: str
    method: Method
    steps: int
    rank: int | None = None


@dataclass(frozen=True)
class Budget:
    """What a version of the ensemble spends.

    Attributes:
        steps: T of each member that takes gradients.
        queries: Of the Square search.
        ranks: Targeted members.
        per_image: Whether a member attacks all tasks of each image.
    """

    steps: int
    queries: int
    ranks: int
    per_image: bool


VERSIONS = {
    "standard": Budget(steps=100, queries=1000, ranks=3, per_image=True),
    "fast": Budget(steps=20, queries=200, ranks=0, per_image=False),
}


def make_members(tasks: Sequence[Task], norm: float, version: str = "standard") -> tuple[Member, ...]:
    """The members of a version, in the order in which they run.

    Args:
        tasks: K tasks.
        norm: ``math.inf``, 2 or 1. There is no Square search for L1.
        version: "standard" or "fast".

    Raises:
        ValueError: An unknown version.

    Examples:
        >>> from art_mtl import tasks
        >>> [m.name for m in make_members([tasks.classification("kind", 3), tasks.depth("depth")], 2.0, "fast")]
        ['worst-task', 'auto:worst-task', 'auto:single:kind', 'auto:single:depth', 'square']
    """
    one_of(*VERSIONS)("version", version)
    budget = VERSIONS[version]
    auto = make_method("worst-task", tasks, schedule="auto")
    members = [
        Member("worst-task", make_method("worst-task", tasks), budget.steps),
        Member("auto:worst-task", auto, budget.steps),
    ]
    if budget.per_image:
        image = make_method("worst-task", tasks, weight_scope="sample", schedule="auto")
        members.append(Member("auto:worst-image", image, budget.steps))
    for task in tasks if len(tasks) > 1 else ():
        single = make_method(f"single:{task.name}", tasks, objective="population", schedule="auto")
        members.append(Member(f"auto:single:{task.name}", single, budget.steps))
    wrong = max((task.num_wrong_classes for task in tasks if task.num_wrong_classes > 1), default=0)
    for rank in range(1, min(budget.ranks, wrong) + 1):
        members.append(Member(f"auto:targeted-{rank}", auto, budget.steps, rank))
    if norm in (math.inf, 2):
        members.append(Member("square", square_search(), budget.queries))
    return tuple(members)


def square_search() -> Method:
    """Square search on the worst task: population weights, and a score that no saturated softmax flattens."""
    return Method(
        "square",
        objective=PopulationDegradation(),
        weighting=LogDegradationControl(),
        scope="dataset",
        group=256,
        schedule=SQUARE,
        keep_best=True,
        score_fn=SOFT_FLIPS,
    )


def _margin_width(task: Task, clean: Tensor, target: Target) -> Tensor:
    """Mean size of a sample's clean margins; where there is no decision, its clean error or score."""
    seen = task.measure(clean, target)
    if seen.margins is None or seen.counted is None:
        return task.score(clean, target).clamp(min=task.score_floor)
    return masked_mean(seen.margins.abs(), seen.counted).clamp(min=1e-12)


def _soft_flips(task: Task, output: Tensor, target: Target, reference: Tensor | None, targeted: bool) -> Tensor:
    if not task.decides or reference is None:
        return DEGRADATION.value(task, output, target, reference, targeted)
    seen = task.measure(output, target)
    if seen.margins is None or seen.counted is None:
        raise TypeError(f"Task {task.name!r} decides, so it should measure margins. Found none.")
    width = reference.view(-1, *[1] * (seen.margins.ndim - 1))
    flipped = masked_mean((-seen.margins / width).sigmoid(), seen.counted)
    return -flipped if targeted else flipped


SOFT_FLIPS = PerSample(_soft_flips, _margin_width, saturates=True)
"""Share of a sample's decisions that are flipped, softly, in units of its own clean margins; degradation of errors."""
