"""THE loop: forward → objectives → weights → one backward → step → projection.

T steps cost T forwards and T backwards. The forward at one iterate serves both updates: its values move the weights of
that round, and the scalar that those weights make of the same values gives the gradient of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from art_mtl.core.aggregators import combine
from art_mtl.core.context import BatchContext, RunningStatistics, StepRecord, stack_columns
from art_mtl.core.forward import Forward, ForwardBackward, MicroBatching, zero_nonfinite
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import ObjectiveValues, Outputs
from art_mtl.core.optimizers.steps import random_start
from art_mtl.core.run_log import RunLog
from art_mtl.core.selection import BestIterate, choose, keep_best
from art_mtl.core.threat import FeasibleSet, RunConfig, ThreatModel
from art_mtl.tasks import Target, Task
from art_mtl.tasks.base import Saturation

Observer = Callable[[StepRecord], None]


def attack(
    forward: Forward,
    x: Tensor,
    tasks: Sequence[Task],
    targets: Sequence[Target],
    method: Method,
    threat: ThreatModel,
    config: RunConfig,
    *,
    statistics: dict[int, RunningStatistics] | None = None,
    observer: Observer | None = None,
    log: RunLog | None = None,
    first_index: int = 0,
    micro_batching: MicroBatching | None = None,
) -> Tensor:
    """Attack one batch.

    Args:
        forward: Inputs to one raw output a task.
        x: Clean inputs, ``(B, ...)``, inside the bounds.
        tasks: K tasks.
        targets: Canonical labels of each task, on the device of ``x``.
        method: What to do.
        threat: What is allowed.
        config: How long and from where.
        statistics: With scope "dataset": what is known of the chunk, by restart; this batch is added.
        observer: Called at every step with detached tensors.
        log: Gets what went wrong.
        first_index: Index of the first sample, for the log.
        micro_batching: How much of a batch passes through the network at once; made smaller where memory runs out,
            which changes no result.

    Returns:
        Adversarial inputs, ``(B, ...)``, feasible.
    """
    statistics = {} if statistics is None else statistics
    network = ForwardBackward(forward, MicroBatching() if micro_batching is None else micro_batching, tasks)

    def restarts() -> Iterator[tuple[Tensor, Tensor]]:
        compared_at: Tensor | None = None
        for restart in range(config.restarts):
            known = statistics.setdefault(restart, RunningStatistics())
            known.discard()
            context = BatchContext(
                tuple(tasks), tuple(targets), config.steps, config.targeted, method.scope, method.group, known
            )
            run = _Run(network, x, context, method, threat, config, restart, observer)
            adversarial, score, weights = run(compared_at)
            compared_at = weights if compared_at is None else compared_at
            if log is not None:
                run.report(log, first_index)
            yield adversarial, score

    kept = keep_best(restarts())
    for known in statistics.values():
        known.commit(len(x))
    return kept.inputs


class _Run:
    """One restart on one batch: the state of the loop."""

    def __init__(
        self,
        network: ForwardBackward,
        x: Tensor,
        context: BatchContext,
        method: Method,
        threat: ThreatModel,
        config: RunConfig,
        restart: int,
        observer: Observer | None,
    ) -> None:
        self.network, self.x, self.context, self.method = network, x, context, method
        self.config, self.restart, self.observer = config, restart, observer
        self.feasible = FeasibleSet(x, threat, method.projection)
        self.step_rule = method.schedule.begin(self.feasible, config, method.momentum, method.first_step)
        self.score_fn = method.scored_by()
        self.scores = method.keep_best or config.restarts > 1
        self.alive = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self.zeroed = self.moved = torch.zeros_like(self.alive)
        self.flat: set[str] = set()
        # Of each task, which samples' outputs are probabilities, and for which no gradient is left, where it begins.
        self.saturation: list[Saturation | None] | None = None
        # The last iterate of each sample with finite outputs, and what it is compared by.
        self.good = x
        self.values_at_good: Tensor | None = None

    def __call__(self, compared_at: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The adversarial inputs, the score of each sample if scores are wanted, and the weights of the last step.

        Args:
            compared_at: The weights at which restarts are compared, those on which the first one ended; None for it.
        """
        x_adv = self._start()
        clean = self._clean_outputs()
        best = BestIterate(self.x, self._selection_score)
        for step in range(self.config.steps):
            x_adv, weights = self._advance(step, x_adv, clean, best)
        compared_at = weights if compared_at is None else compared_at
        if not self.scores:
            return x_adv, best.score(compared_at), weights
        with torch.no_grad():
            outputs = self._checked(self.network.no_grad(x_adv))
            finite = self.context.finite(outputs)
            values = self._values(outputs, finite)
            if self.values_at_good is not None:
                x_adv, values = choose(finite, x_adv, self.good), choose(finite, values, self.values_at_good)
            best.see(x_adv, values, compared_at)
            return best.x, best.score(compared_at), weights

    def _advance(self, step: int, x_adv: Tensor, clean: Outputs | None, best: BestIterate) -> tuple[Tensor, Tensor]:
        """The next iterate, and the weights that led to it. Nothing else of a step outlives it: its memory is free when
        the next forward pass begins.
        """
        rule = self.step_rule
        leaf = x_adv.detach().requires_grad_(rule.needs_gradient)
        with torch.set_grad_enabled(rule.needs_gradient):
            outputs = self._checked((self.network.forward if rule.needs_gradient else self.network.no_grad)(leaf))
            if step == 0:
                self._begin(self._detached(outputs) if clean is None else clean)
            found = self.objective(outputs, step)
            weights = self.weighting(found.weighting_inputs, found.mask, step)
            gradient, weights = self._gradient(leaf, found, weights, step)
        with torch.no_grad():
            self.alive = self.alive & self._finite(outputs, found)
            self.good = choose(self.alive, x_adv, self.good)
            gradient = self._usable(gradient)
            if self.method.keep_best:
                values = self._values(outputs, self.alive)
                best.see(x_adv, values, weights, gradient if rule.needs_best_gradient else None)
            elif self.scores and step == self.config.steps - 1:
                self.values_at_good = self._values(outputs, self.alive)
            if self.observer is not None:
                self._observe(self.observer, step, x_adv, gradient, outputs, weights)
            return choose(self.alive, rule(step, x_adv, gradient, best), self.good), weights

    def _start(self) -> Tensor:
        start = self.step_rule.start()
        if start is not None:
            return start
        if self.config.start == 0:
            return self.x
        threat = self.feasible.threat
        delta = random_start(self.x, threat.eps, threat.norm, self.config.start, self.config.generator)
        return self.feasible.project(self.feasible.masked(delta))

    def _clean_outputs(self) -> Outputs | None:
        """Outputs on clean inputs, by a forward of their own only where the first step does not show them."""
        needed = self.method.objective.needs_clean or (self.scores and self.score_fn.needs_clean)
        if self.config.start == 0 or not needed:
            return None
        return self._checked(self.network.no_grad(self.x))

    def _begin(self, clean: Outputs) -> None:
        self.objective = self.method.objective.begin(self.context, clean)
        self.weighting = self.method.weighting.begin(self.config.steps)
        self.references = self.score_fn.references(self.context, clean) if self.scores else []

    def _checked(self, outputs: Outputs) -> Outputs:
        triples = list(zip(self.context.tasks, outputs, self.context.targets, strict=True))
        if self.saturation is None:
            self.saturation = [task.saturation(output, target) for task, output, target in triples]
        return [task.check_output(output, target) for task, output, target in triples]

    def _detached(self, outputs: Outputs) -> Outputs:
        return [task.detach_output(output) for task, output in zip(self.context.tasks, outputs, strict=True)]

    def _gradient(self, leaf: Tensor, found: ObjectiveValues, weights: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """A vector-Jacobian product: no parameter gradients, nothing written to ``.grad``. 0 for rules without one.

        Returned with the weights that made it, which are an aggregator's own where the method has one.
        """
        if not self.step_rule.needs_gradient:
            return torch.zeros_like(leaf), weights
        rows = weights if len(found.objectives[0]) == len(weights) else weights[self.context.group_index]
        columns = [column.to(value.dtype) for column, value in zip(rows.unbind(1), found.objectives, strict=True)]
        used = [(v, w) for v, w in zip(found.objectives, columns, strict=True) if v.requires_grad]
        if len(used) < len(columns):
            pairs = zip(self.context.tasks, found.objectives, strict=True)
            self.flat |= {task.name for task, value in pairs if not value.requires_grad}
        gradient: Tensor | None = None
        if used and self.method.aggregator is not None:
            return combine(self.method.aggregator, found.objectives, leaf, rows, step, self.network.gradient)
        if used:
            gradient = self.network.gradient([v for v, _ in used], [w for _, w in used])
        if gradient is None:
            raise ValueError("The model's outputs do not depend on its inputs by anything differentiable.")
        return gradient, weights

    def _usable(self, gradient: Tensor) -> Tensor:
        """The gradient, 0 where it is not finite, where nothing may change and where an attack has ended."""
        gradient, zeroed = zero_nonfinite(gradient)
        self.zeroed = self.zeroed | (self.alive & zeroed)
        self.moved = self.moved | (gradient != 0).flatten(1).any(1)
        return self.feasible.masked(choose(self.alive, gradient, 0.0))

    def _finite(self, outputs: Outputs, found: ObjectiveValues) -> Tensor:
        """Which samples may go on, ``(B,)``. A saturating objective hides an infinite output: there outputs count."""
        finite = self.alive
        if len(found.objectives[0]) == len(self.x):
            finite = torch.isfinite(stack_columns(found.objectives)).all(1)
            if not self.method.objective.saturates:
                return finite
        return finite & self.context.finite(outputs)

    def _values(self, outputs: Outputs, finite: Tensor) -> Tensor:
        """By what iterates and restarts are compared, task by task, ``(B, K)``; NaN where outputs are not finite, which
        a saturating value would hide.
        """
        values = torch.stack(self.score_fn.values(self.context, outputs, self.references), 1)
        return torch.where(finite[:, None], values, float("nan"))

    def _selection_score(self, values: Tensor, weights: Tensor) -> Tensor:
        """What such values are worth at these weights, ``(B,)``."""
        own = self.method.selection_score
        return (self.method.weighting.selection_score if own is None else own)(values, weights, self.context)

    def _observe(
        self, observer: Observer, step: int, x_adv: Tensor, gradient: Tensor, outputs: Outputs, weights: Tensor
    ) -> None:
        context = self.context
        weights = torch.where(context.has_label, weights[context.group_index], torch.zeros_like(weights[:1]))
        detached = self._detached(outputs)

        def losses() -> Tensor:
            triples = zip(context.tasks, detached, context.targets, strict=True)
            return stack_columns([task.loss(output, target) for task, output, target in triples])

        observer(StepRecord(step, self.restart, self.x, x_adv, detached, gradient, weights, losses))

    def report(self, log: RunLog, first_index: int) -> None:
        """Tell the log what went wrong; on a GPU this waits for the device."""

        def indices(samples: Tensor) -> set[int]:
            return set((samples.nonzero()[:, 0] + first_index).tolist())

        log.stopped |= indices(~self.alive)
        log.zeroed |= indices(self.zeroed)
        log.flat |= self.flat
        linear = self.network.linear
        for place, (task, found) in enumerate(zip(self.context.tasks, self.saturation or [], strict=False)):
            if found is not None:
                # Whatever their values, what a matrix product or a convolution returns is no probabilities.
                doubtful = set() if place in linear else indices(found.doubtful)
                log.add_saturation(task.name, indices(found.probabilities), indices(found.lost), doubtful)
        moved = self.moved | (not self.step_rule.needs_gradient)
        log.still |= indices(self.alive & ~moved)
        log.moved |= indices(moved)
