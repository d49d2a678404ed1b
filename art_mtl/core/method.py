"""What an attack is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from art_mtl.core.aggregators import Aggregator
from art_mtl.core.objectives.loss_objectives import DEGRADATION, LOSS, Objective, PerSample
from art_mtl.core.optimizers.schedules import CONSTANT, Schedule
from art_mtl.core.warn import warn
from art_mtl.core.weightings import SelectionScore, Uniform, Weighting
from art_mtl.tasks import Task


@dataclass(frozen=True)
class Method:
    """An attack, assembled.

    Attributes:
        name: As tables print it.
        objective: What is ascended for each task, and what the weights look at.
        weighting: How tasks are weighted, and by what iterates and restarts are compared.
        scope: Which samples share weights: "sample", "batch" or "dataset".
        group: With scope "batch": neighbours that share weights (None: the whole batch). With "dataset": samples of a
            chunk.
        schedule: Makes the rule by which iterates move.
        momentum: Decay of the gradient's momentum; 0 for none.
        keep_best: Return the best iterate in place of the last.
        projection: "exact", "box-then-ball" or "ball-then-box".
        selection_score: By what iterates and restarts are compared, in place of the weighting's own.
        score_fn: The values of each task that the selection score looks at; None: the objective where the weighting
            compares objectives and it is one number a sample, else the degradation.
        aggregator: Combines the tasks' gradients of each sample; None: they are weighted and added up, at the cost of
            one backward pass.
        first_step: Size of the first step as a share of ε where the user gives none; None: by norm and schedule.
    """

    name: str
    objective: Objective = LOSS
    weighting: Weighting = Uniform()
    scope: str = "sample"
    group: int | None = None
    schedule: Schedule = CONSTANT
    momentum: float = 0.0
    keep_best: bool = False
    projection: str = "exact"
    selection_score: SelectionScore | None = None
    score_fn: PerSample | None = None
    aggregator: Aggregator | None = None
    first_step: float | None = None

    @property
    def shares(self) -> bool:
        """Whether it matters which samples share weights."""
        return self.weighting.adapts or self.objective.pools

    def scored_by(self) -> PerSample:
        """The values of each sample's tasks that iterates and restarts are compared by."""
        if self.score_fn is not None:
            return self.score_fn
        own = self.objective.per_sample if self.weighting.compares_objectives and self.selection_score is None else None
        return DEGRADATION if own is None else own

    def restrict(self, kept: Sequence[int], tasks: Sequence[Task]) -> Method:
        """The method, made for all ``tasks``, for those of them that have labels.

        A task without any is left alone, with a warning where it would have been attacked.

        Args:
            kept: Places of the tasks that have labels, in order.
            tasks: K tasks.

        Raises:
            ValueError: The method cannot do without a task that has none, or attacks no other.
        """
        lost = [
            k for k in range(len(tasks)) if k not in kept and (self.weighting.uses(k) or self.objective.requires(k))
        ]
        names = [tasks[k].name for k in lost]
        if any(self.objective.requires(k) for k in lost):
            raise ValueError(
                f"Method {self.name!r} should have a target of each task that it attacks, and the true labels of each "
                f"that it preserves. Found none of {names}."
            )
        if not any(self.weighting.uses(k) for k in kept):
            raise ValueError(
                f"Method {self.name!r} should have targets of the tasks that it attacks. Found none of {names}."
            )
        if lost:
            warn(f"No targets of the task(s) {names} were given; the attack leaves them alone.")
        return replace(self, weighting=self.weighting.restrict(kept), objective=self.objective.restrict(kept))
