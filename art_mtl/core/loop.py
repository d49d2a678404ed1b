"""THE loop: forward → values → weights → one backward → step → projection.

T steps cost T forwards and T backwards. The forward at one iterate serves both updates: its values move the weights of
that round, and the scalar that those weights make of the same values gives the gradient of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_mtl.core.methods import Method
from art_mtl.core.objectives import DEGRADATION, Outputs, PerSample, Valuation
from art_mtl.core.population import least_damage
from art_mtl.core.problem import Carry, Problem, StepRecord, stack_columns
from art_mtl.core.steps import accumulate, default_step_size, direction, random_start, step_factor
from art_mtl.core.weightings import Fixed
from art_mtl.projections import project
from art_mtl.tasks import Target, Task

Forward = Callable[[Tensor], Outputs]
"""Inputs ``(B, ...)`` to one raw output a task, differentiable in the inputs."""

NUDGE = 0.01
"""Share of ε of the random start where labels are the model's own outputs: there an absolute error has gradient exactly
0.
"""


@dataclass(frozen=True)
class Threat:
    """What the attacker may do.

    Attributes:
        norm: ``math.inf``, 2 or 1.
        eps: Radius, in the unit of the inputs; a tensor broadcastable to them (one a sample or, for L∞, a pixel).
        bounds: Lower and upper bound of the inputs, tensors broadcastable to them.
        mask: 0 where nothing may change, broadcastable to the inputs; None: everywhere.
    """

    norm: float
    eps: Tensor
    bounds: tuple[Tensor, Tensor]
    mask: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """How long and from where.

    Attributes:
        steps: T ≥ 1.
        step_size: At step 0, broadcastable to the inputs; None for the default of the method's schedule.
        start: Share of ε of a random start; 0 starts at the clean input.
        restarts: Independent runs, the best of which is kept per sample.
        targeted: Labels are what the outputs should become.
        l1_step: See :func:`art_mtl.core.steps.direction`.
        generator: Source of randomness; None for torch's global one.
    """

    steps: int
    step_size: Tensor | None = None
    start: float = 0.0
    restarts: int = 1
    targeted: bool = False
    l1_step: str = "adaptive"
    generator: torch.Generator | None = None


def attack(
    forward: Forward,
    x: Tensor,
    tasks: Sequence[Task],
    targets: Sequence[Target],
    method: Method,
    threat: Threat,
    plan: Plan,
    *,
    carry: dict[int, Carry] | None = None,
    observer: Callable[[StepRecord], None] | None = None,
    stopped: list[int] | None = None,
    first_index: int = 0,
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

    Returns:
        Adversarial inputs, ``(B, ...)``, feasible.
    """
    carry = {} if carry is None else carry
    best: Tensor | None = None
    best_score: Tensor | None = None
    prices: Tensor | None = None
    alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for restart in range(plan.restarts):
        own = carry.setdefault(restart, Carry())
        own.samples += len(x)
        problem = Problem(tuple(tasks), tuple(targets), plan.steps, plan.targeted, method.scope, method.group, own)
        run = _Run(forward, x, problem, method, threat, plan, restart, observer, prices)
        adversarial, score = run(compare=plan.restarts > 1)
        prices = run.prices
        alive &= run.alive
        if best is None or best_score is None:
            best, best_score = adversarial, score
        else:
            better = score > best_score
            best, best_score = _where(better, adversarial, best), torch.where(better, score, best_score)
    if stopped is not None:
        stopped += ((~alive).nonzero()[:, 0] + first_index).tolist()
    return x if best is None else best


class _Run:
    """One restart on one batch: the state of the loop."""

    def __init__(
        self,
        forward: Forward,
        x: Tensor,
        problem: Problem,
        method: Method,
        threat: Threat,
        plan: Plan,
        restart: int,
        observer: Callable[[StepRecord], None] | None,
        prices: Tensor | None,
    ) -> None:
        # Weights at which damages are compared: those on which the first restart ended, the same for all.
        self.prices = prices
        self.forward, self.x, self.problem, self.method = forward, x, problem, method
        self.threat, self.plan, self.restart, self.observer = threat, plan, restart, observer
        size = plan.step_size
        self.step_size = (
            default_step_size(method.schedule, threat.norm, threat.eps, plan.steps) if size is None else size
        )
        objective = method.objective
        self.scorer = objective if method.criterion == "sum" and isinstance(objective, PerSample) else DEGRADATION
        self.alive = torch.ones(len(x), dtype=torch.bool, device=x.device)

    def __call__(self, compare: bool) -> tuple[Tensor, Tensor]:
        """The adversarial inputs and, if ``compare`` or best iterates are kept, the score of each sample."""
        keep_best = self.method.keep == "best"
        self.scores = compare or keep_best
        x_adv = self._start()
        clean = self._clean_outputs()
        momentum: Tensor | None = None
        good = best = self.x
        score = torch.full((len(self.x),), float("-inf"), device=self.x.device)

        for step in range(self.plan.steps):
            leaf = x_adv.detach().requires_grad_(True)
            with torch.enable_grad():
                outputs = self._outputs(leaf)
                if step == 0:
                    self._begin([o.detach() for o in outputs] if clean is None else clean)
                valuation = self.objective(outputs, step)
                weights = self.weighting(valuation.weigh, valuation.known, step)
                gradient = self._gradient(leaf, valuation, weights)
            with torch.no_grad():
                self.alive = self.alive & self._finite(outputs, valuation, gradient)
                good = _where(self.alive, x_adv, good)
                gradient = _where(self.alive, gradient, 0.0)
                if self.threat.mask is not None:
                    gradient = torch.where(self.threat.mask == 0, 0.0, gradient)
                if keep_best:
                    best, score = _update_best(x_adv, self._score(outputs, weights), best, score)
                if self.observer is not None:
                    self._observe(step, x_adv, gradient, outputs, weights)
                momentum = accumulate(momentum, gradient, self.method.momentum)
                x_adv = _where(self.alive, self._advance(x_adv, momentum, step), good)

        self.prices = weights if self.prices is None else self.prices
        if self.scores:
            with torch.no_grad():
                last = self._score(self._outputs(x_adv), weights)
            return _update_best(x_adv, last, best if keep_best else good, score)
        return x_adv, score

    def _start(self) -> Tensor:
        if self.plan.start == 0:
            return self.x
        delta = random_start(self.x, self.threat.eps, self.threat.norm, self.plan.start, self.plan.generator)
        if self.threat.mask is not None:
            delta = torch.where(self.threat.mask == 0, 0.0, delta)
        return self._project(delta)

    def _clean_outputs(self) -> Outputs | None:
        """Outputs on clean inputs, by a forward of their own only where the first step does not show them."""
        needed = self.method.objective.needs_clean or (self.scores and self.scorer.needs_clean)
        if self.plan.start == 0 or not needed:
            return None
        with torch.no_grad():
            return self._outputs(self.x)

    def _begin(self, clean: Outputs) -> None:
        self.objective = self.method.objective.begin(self.problem, clean)
        self.weighting = self.method.weighting.begin(self.plan.steps)
        self.references = self.scorer.references(self.problem, clean) if self.scores else []

    def _outputs(self, x: Tensor) -> Outputs:
        outputs = self.forward(x)
        triples = zip(self.problem.tasks, outputs, self.problem.targets, strict=True)
        return [task.check_output(output, target) for task, output, target in triples]

    def _gradient(self, leaf: Tensor, valuation: Valuation, weights: Tensor) -> Tensor:
        """A vector-Jacobian product: no parameter gradients, nothing written to ``.grad``."""
        rows = weights if len(valuation.ascend[0]) == len(weights) else weights[self.problem.row]
        columns = [column.to(value.dtype) for column, value in zip(rows.unbind(1), valuation.ascend, strict=True)]
        used = [(v, w) for v, w in zip(valuation.ascend, columns, strict=True) if v.requires_grad]
        if not used:
            raise ValueError("The model's outputs do not depend on its inputs by anything differentiable.")
        (gradient,) = torch.autograd.grad(
            [v for v, _ in used], leaf, grad_outputs=[w for _, w in used], allow_unused=True
        )
        if gradient is None:
            raise ValueError("The model's outputs do not depend on its inputs by anything differentiable.")
        return gradient

    def _finite(self, outputs: Outputs, valuation: Valuation, gradient: Tensor) -> Tensor:
        """Which samples may go on, ``(B,)``. A saturating objective hides an infinite output, so outputs count there
        too; a logit of -inf is a class ruled out.
        """
        finite = torch.isfinite(_sample_sum(gradient))
        if len(valuation.ascend[0]) == len(self.x):
            finite = finite & torch.isfinite(stack_columns(valuation.ascend)).all(1)
            if not self.method.objective.saturates:
                return finite
        for task, output in zip(self.problem.tasks, outputs, strict=True):
            total = _sample_sum(output.detach())
            finite = finite & (torch.isfinite(total) if task.margin_elements is None else total < float("inf"))
        return finite

    def _advance(self, x_adv: Tensor, ascent: Tensor, step: int) -> Tensor:
        unit = direction(ascent, self.threat.norm, self.x, x_adv, self.threat.bounds, step, self.plan.l1_step)
        size = self.step_size * step_factor(self.method.schedule, step, self.plan.steps)
        return self._project((x_adv + size * unit) - self.x)

    def _project(self, delta: Tensor) -> Tensor:
        threat = self.threat
        return project(delta, self.x, threat.eps, threat.norm, threat.bounds, self.method.projection)

    def _score(self, outputs: Outputs, weights: Tensor) -> Tensor:
        """By what iterates and restarts are compared, ``(B,)``."""
        with torch.no_grad():
            values = self.scorer.values(self.problem, outputs, self.references)
        if self.method.criterion == "least":
            return least_damage(values, self.problem.in_play)
        stacked = torch.stack(values, 1)
        if self.method.criterion == "priced":
            prices = weights if self.prices is None else self.prices
            return (stacked * prices[self.problem.row]).sum(1)
        if isinstance(self.method.weighting, Fixed):
            return (stacked * stacked.new_tensor(self.method.weighting.weights)).sum(1)
        return stacked.sum(1)

    def _observe(self, step: int, x_adv: Tensor, gradient: Tensor, outputs: Outputs, weights: Tensor) -> None:
        if self.observer is None:
            return
        weights = torch.where(self.problem.in_play, weights[self.problem.row], torch.zeros_like(weights[:1]))
        detached = [output.detach() for output in outputs]

        def losses() -> Tensor:
            triples = zip(self.problem.tasks, detached, self.problem.targets, strict=True)
            return stack_columns([task.loss(output, target) for task, output, target in triples])

        self.observer(StepRecord(step, self.restart, x_adv, gradient, weights, losses))


def _update_best(x_adv: Tensor, score: Tensor, best: Tensor, best_score: Tensor) -> tuple[Tensor, Tensor]:
    better = score > best_score
    return _where(better, x_adv, best), torch.where(better, score, best_score)


def _sample_sum(output: Tensor) -> Tensor:
    """Sum of each sample, ``(B,)``: finite only if its terms are, and one pass in any memory layout."""
    wide = torch.float32 if output.dtype in (torch.float16, torch.bfloat16) else output.dtype
    places = tuple(range(1, output.ndim))
    return output.sum(places, dtype=wide) if places else output


def _where(samples: Tensor, yes: Tensor, no: Tensor | float) -> Tensor:
    if samples.device.type == "cpu" and bool(samples.all()):
        return yes  # Looking costs nothing here; on a GPU it would wait for the device.
    return torch.where(samples.view(-1, *[1] * (yes.ndim - 1)), yes, no)
