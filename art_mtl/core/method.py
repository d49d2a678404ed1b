"""What an attack is made of."""

from __future__ import annotations

from dataclasses import dataclass

from art_mtl.core.aggregators import Aggregator
from art_mtl.core.objectives.loss_objectives import LOSS, Objective, PerSample
from art_mtl.core.weightings import Uniform, Weighting


@dataclass(frozen=True)
class Method:
    """An attack, assembled.

    Attributes:
        name: As tables print it.
        objective: What is ascended for each task, and what the weights look at.
        weighting: How tasks are weighted.
        scope: Which samples share weights: "sample", "batch" or "dataset".
        group: With scope "batch": neighbours that share weights (None: the whole batch). With "dataset": samples of a
            chunk.
        schedule: "constant", "linear" or "cosine" step size; "auto" for Auto-PGD's rule.
        momentum: Decay of the gradient's momentum; 0 for none.
        keep: Return the "last" iterate or the "best".
        projection: "exact", "box-then-ball" or "ball-then-box".
        selection: By what iterates and restarts are compared, per sample: "sum" of the objective over the tasks,
            "least" degradation over the tasks, or "weighted" degradation at the weights on which the first restart
            ended.
        score_fn: The per-sample values that the selection looks at; None: the objective where they are summed and it
            has them, else the degradation.
        aggregator: Combines the tasks' gradients of each sample; None: they are weighted and added up, at the cost of
            one backward pass.
        first_step: Size of the first step as a share of ε where the user gives none; None: by norm and schedule.
    """

    name: str
    objective: Objective = LOSS
    weighting: Weighting = Uniform()
    scope: str = "sample"
    group: int | None = None
    schedule: str = "constant"
    momentum: float = 0.0
    keep: str = "last"
    projection: str = "exact"
    selection: str = "sum"
    score_fn: PerSample | None = None
    aggregator: Aggregator | None = None
    first_step: float | None = None
