"""THE loop: forward → values → weights → one backward → step → projection.

T steps cost T forwards and T backwards. The forward at one iterate serves both updates: its values move the weights of
that round, and the scalar that those weights make of the same values gives the gradient of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from art_mtl.core.aggregators import combine
from art_mtl.core.context import BatchContext, RunningStatistics, StepRecord, stack_columns
from art_mtl.core.device import row_like
from art_mtl.core.forward import Forward, ForwardBackward, MicroBatching
from art_mtl.core.method import Method
from art_mtl.core.objectives.constrained import Multipliers, stealthy_merit
from art_mtl.core.objectives.loss_objectives import DEGRADATION, ObjectiveValues, Outputs, PerSample
from art_mtl.core.objectives.population import least_degradation
from art_mtl.core.optimizers.pgd import make_step_rule
from art_mtl.core.optimizers.steps import random_start
from art_mtl.core.selection import BestIterate, choose
from art_mtl.core.threat import FeasibleSet, RunConfig, ThreatModel
from art_mtl.core.weightings import Fixed
from art_mtl.tasks import Target, Task
from art_mtl.tasks.base import sample_sum

__all__ = ["NUDGE", "Forward", "RunConfig", "ThreatModel", "attack"]

NUDGE = 0.01
"""Share of ε of the random start where labels are the model's own outputs: there an absolute error has gradient exactly
0.
"""


def attack(
    forward: Forward,
    x: Tensor,
    tasks: Sequence[Task],
    targets: Sequence[Target],
    method: Method,
    threat: ThreatModel,
    plan: RunConfig,
    *,
    carry: dict[int, RunningStatistics] | None = None,
    observer: Callable[[StepRecord], None] | None = None,
    stopped: list[int] | None = None,
    first_index: int = 0,
    pieces: MicroBatching | None = None,
) -> Tensor:
    """Attack one batch.

    Args:
        forward: Inputs to one raw output a task.
        x: Clean inputs, ``(B, ...)``, inside the bounds.
        tasks: K tasks.
        targets: Canonical labels of each task, on the device of ``x``.
        method: What to do.
        threat: What is allowed.
        plan: How long and from where.
        carry: With scope "dataset": running sums of the earlier batches by restart; updated.
        observer: Called at every step with detached tensors.
        stopped: Gets the indices of samples whose attack ended early, at the last iterate where outputs and gradient
            were finite.
        first_index: Index of the first sample, for ``stopped``.
        pieces: How much of a batch passes through the network at once; made smaller where memory runs out, which
            changes no result.

    Returns:
        Adversarial inputs, ``(B, ...)``, feasible.
    """
    carry = {} if carry is None else carry
    passes = ForwardBackward(forward, MicroBatching() if pieces is None else pieces, tasks)
    best: Tensor | None = None
    best_score: Tensor | None = None
    task_weights: Tensor | None = None
    alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(plan.restarts):
        own = carry.setdefault(restart, RunningStatistics())
        own.samples += len(x)
        problem = BatchContext(tuple(tasks), tuple(targets), plan.steps, plan.targeted, method.scope, method.group, own)
        run = _Run(passes, x, problem, method, threat, plan, restart, observer, task_weights)
        adversarial, score = run()
        task_weights = run.task_weights
        alive &= run.alive
        if best is None or best_score is None:
            best, best_score = adversarial, score
        else:
            better = score > best_score
            best, best_score = choose(better, adversarial, best), torch.where(better, score, best_score)
    if stopped is not None:
        stopped += ((~alive).nonzero()[:, 0] + first_index).tolist()
    return x if best is None else best


class _Run:
    """One restart on one batch: the state of the loop."""

    def __init__(
        self,
        passes: ForwardBackward,
        x: Tensor,
        problem: BatchContext,
        method: Method,
        threat: ThreatModel,
        plan: RunConfig,
        restart: int,
        observer: Callable[[StepRecord], None] | None,
        task_weights: Tensor | None,
    ) -> None:
        # Weights at which degradations are compared: those on which the first restart ended, the same for all.
        self.task_weights = task_weights
        self.passes, self.x, self.problem, self.method = passes, x, problem, method
        self.threat, self.plan, self.restart, self.observer = threat, plan, restart, observer
        self.region = FeasibleSet(x, threat, method.projection)
        self.moves = make_step_rule(method, self.region, plan)
        objective = method.objective
        own = objective if method.selection == "sum" and isinstance(objective, PerSample) else DEGRADATION
        self.scorer = own if method.score_fn is None else method.score_fn
        self.alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
        # The last iterate of each sample with finite outputs and gradient.
        self.good = x
        self.keep_best = method.keep == "best"
        self.scores = self.keep_best or plan.restarts > 1

    def __call__(self) -> tuple[Tensor, Tensor]:
        """The adversarial inputs and, if restarts are compared or best iterates kept, the score of each sample."""
        x_adv = self._start()
        clean = self._clean_outputs()
        best = BestIterate(self.x, self._merit)
        for step in range(self.plan.steps):
            x_adv, weights = self._advance(step, x_adv, clean, best)

        self.task_weights = weights if self.task_weights is None else self.task_weights
        if not self.scores:
            return x_adv, best.score(self.task_weights)
        if not self.keep_best:
            best = BestIterate(self.good, self._merit)
        with torch.no_grad():
            best.see(x_adv, self._values(self._checked(self.passes.no_grad(x_adv))), self.task_weights)
            return best.x, best.score(self.task_weights)

    def _advance(self, step: int, x_adv: Tensor, clean: Outputs | None, best: BestIterate) -> tuple[Tensor, Tensor]:
        """The next iterate, and the weights that led to it. Nothing else of a step outlives it: its memory is free when
        the next forward pass begins.
        """
        leaf = x_adv.detach().requires_grad_(self.moves.needs_gradient)
        with torch.set_grad_enabled(self.moves.needs_gradient):
            outputs = self._checked((self.passes.forward if self.moves.needs_gradient else self.passes.no_grad)(leaf))
            if step == 0:
                self._begin(self._detached(outputs) if clean is None else clean)
            valuation = self.objective(outputs, step)
            weights = self.weighting(valuation.weigh, valuation.known, step)
            gradient, weights = self._gradient(leaf, valuation, weights, step)
        with torch.no_grad():
            self.alive = self.alive & self._finite(outputs, valuation, gradient)
            self.good = choose(self.alive, x_adv, self.good)
            gradient = self.region.masked(choose(self.alive, gradient, 0.0))
            if self.keep_best:
                best.see(x_adv, self._values(outputs), weights, gradient if self.moves.needs_best_gradient else None)
            if self.observer is not None:
                self._observe(step, x_adv, gradient, outputs, weights)
            return choose(self.alive, self.moves(step, x_adv, gradient, best), self.good), weights

    def _start(self) -> Tensor:
        if self.plan.shared is not None:
            return self.plan.shared.applied(self.x, self.threat.bounds)
        if self.plan.start == 0:
            return self.x
        delta = random_start(self.x, self.threat.eps, self.threat.norm, self.plan.start, self.plan.generator)
        return self.region.project(self.region.masked(delta))

    def _clean_outputs(self) -> Outputs | None:
        """Outputs on clean inputs, by a forward of their own only where the first step does not show them."""
        needed = self.method.objective.needs_clean or (self.scores and self.scorer.needs_clean)
        if self.plan.start == 0 or not needed:
            return None
        return self._checked(self.passes.no_grad(self.x))

    def _begin(self, clean: Outputs) -> None:
        self.objective = self.method.objective.begin(self.problem, clean)
        self.weighting = self.method.weighting.begin(self.plan.steps)
        self.references = self.scorer.references(self.problem, clean) if self.scores else []

    def _checked(self, outputs: Outputs) -> Outputs:
        triples = zip(self.problem.tasks, outputs, self.problem.targets, strict=True)
        return [task.check_output(output, target) for task, output, target in triples]

    def _detached(self, outputs: Outputs) -> Outputs:
        return [task.detach_output(output) for task, output in zip(self.problem.tasks, outputs, strict=True)]

    def _gradient(self, leaf: Tensor, valuation: ObjectiveValues, weights: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A vector-Jacobian product: no parameter gradients, nothing written to ``.grad``. 0 for moves without one.

        Returned with the weights that made it, which are a aggregator's own where the method has one.
        """
        if not self.moves.needs_gradient:
            return torch.zeros_like(leaf), weights
        rows = weights if len(valuation.ascend[0]) == len(weights) else weights[self.problem.row]
        columns = [column.to(value.dtype) for column, value in zip(rows.unbind(1), valuation.ascend, strict=True)]
        used = [(v, w) for v, w in zip(valuation.ascend, columns, strict=True) if v.requires_grad]
        if not used:
            raise ValueError("The model's outputs do not depend on its inputs by anything differentiable.")
        if self.method.aggregator is not None:
            return combine(self.method.aggregator, valuation.ascend, leaf, rows, step, self.passes.gradient)
        gradient = self.passes.gradient([v for v, _ in used], [w for _, w in used])
        if gradient is None:
            raise ValueError("The model's outputs do not depend on its inputs by anything differentiable.")
        return gradient, weights

    def _finite(self, outputs: Outputs, valuation: ObjectiveValues, gradient: Tensor) -> Tensor:
        """Which samples may go on, ``(B,)``. A saturating objective hides an infinite output, so outputs count there
        too; a logit of -inf is a class ruled out.
        """
        finite = torch.isfinite(sample_sum(gradient))
        if len(valuation.ascend[0]) == len(self.x):
            finite = finite & torch.isfinite(stack_columns(valuation.ascend)).all(1)
            if not self.method.objective.saturates:
                return finite
        for task, output in zip(self.problem.tasks, outputs, strict=True):
            finite = finite & task.finite(output)
        return finite

    def _values(self, outputs: Outputs) -> Tensor:
        """By what iterates and restarts are compared, task by task, ``(B, K)``."""
        return torch.stack(self.scorer.values(self.problem, outputs, self.references), 1)

    def _merit(self, values: Tensor, weights: Tensor) -> Tensor:
        """What such values are worth at these weights, ``(B,)``."""
        if isinstance(self.method.weighting, Multipliers):
            return stealthy_merit(values, self.problem, self.method.weighting)
        if self.method.selection == "least":
            return least_degradation(values.unbind(1), self.problem.has_label)
        if self.method.selection == "weighted":
            return (values * weights[self.problem.row]).sum(1)
        if isinstance(self.method.weighting, Fixed):
            return (values * row_like(self.method.weighting.weights, values)).sum(1)
        return values.sum(1)

    def _observe(self, step: int, x_adv: Tensor, gradient: Tensor, outputs: Outputs, weights: Tensor) -> None:
        if self.observer is None:
            return
        weights = torch.where(self.problem.has_label, weights[self.problem.row], torch.zeros_like(weights[:1]))
        detached = self._detached(outputs)

        def losses() -> Tensor:
            triples = zip(self.problem.tasks, detached, self.problem.targets, strict=True)
            return stack_columns([task.loss(output, target) for task, output, target in triples])

        self.observer(StepRecord(step, self.restart, x_adv, gradient, weights, losses))
