"""What the checks share: the model with its data, attacks varied from the one that is diagnosed, and how far two of
them differ beyond what the choice of samples explains.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from art.summary_writer import SummaryWriter
from torch import Tensor

from art_mtl.core.warn import AttackWarning
from art_mtl.data.sources import Inputs, Source, as_source
from art_mtl.evaluation.attack import Attack, attack_info
from art_mtl.evaluation.checks import norm_name
from art_mtl.evaluation.diagnosis.gradients import TaskGradient, task_gradients
from art_mtl.evaluation.grid import GridCell, make_attack
from art_mtl.evaluation.job import Job
from art_mtl.evaluation.measure import Evaluator, protocol_labels, total
from art_mtl.evaluation.statistics import Resampled, degradations, margin, resampled_metrics, worst_degradation
from art_mtl.evaluation.units import CLEAN, Unit
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

TOLERANCE = 0.01
"""Degradation that two runs of one attack may differ by for no reason: one point."""
SIGMAS = 3.0
"""Standard errors that a difference may have by the choice of samples: exceeded by chance once in 740 comparisons."""
_STEPS = 10


@dataclass(frozen=True)
class Outcome:
    """What an attack did.

    Attributes:
        metrics: Under attack, ``(K,)``, with their resamples.
        resampled: Δ of each task, ``(K,)``, with its resamples; NaN where undefined.
    """

    metrics: Resampled
    resampled: Resampled

    @property
    def deltas(self) -> Tensor:
        """Δ of each task."""
        return self.resampled.value

    @property
    def worst(self) -> float:
        """Δ_Wor; NaN where no task's degradation is defined."""
        return float(worst_degradation(self.resampled).value)


@dataclass(frozen=True)
class Excess:
    """By how much one degradation is stronger than another.

    Attributes:
        value: On these samples, in units of Δ.
        margin: By how much it may differ from that of the population: three standard errors, by paired bootstrap over
            the samples.
        limit: What it may be: the tolerance and the margin.
    """

    value: float
    margin: float
    limit: float


class DiagnosisContext:
    """A model, its data and an attack.

    Args:
        estimator: The model.
        attack: Untargeted.
        x: Inputs, ``(N, ...)``.
        y: Labels.
        batch_size: Samples at a time.
        seed: Of every attack and of the bootstrap.
        tolerance: See :data:`TOLERANCE`.
        protocol: How errors are averaged; one of :data:`art_mtl.evaluation.measure.PROTOCOLS`.
        chunk: Samples that the attack is given in one call; None for all.
    """

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator,
        attack: Attack,
        x: Inputs,
        y: MultiTaskLabels,
        batch_size: int,
        seed: int,
        tolerance: float,
        protocol: str = "pooled",
        chunk: int | None = None,
    ) -> None:
        self.estimator, self.attack, self.batch_size, self.seed = estimator, attack, batch_size, seed
        self.tolerance, self.chunk = tolerance, chunk
        self.evaluator = Evaluator(estimator, batch_size, protocol)
        self.x, self.y = x, protocol_labels(self.evaluator.tasks, y, protocol)
        job = Job(self.evaluator, self._source, [], chunk, seed)
        clean = [job.compute(Unit(CLEAN, place)).part for place in range(len(job.chunks))]
        measured = total(self.evaluator.scales, clean, "on clean inputs")
        self.evaluator.describe(measured)  # warns of a task whose degradation is undefined
        self._clean = resampled_metrics(self.evaluator.scales, clean).around(measured.values)
        self.norm = norm_name(getattr(attack, "norm", None))
        self.eps: Any = getattr(attack, "eps", None)

    @property
    def names(self) -> list[str]:
        """Of the tasks."""
        return [task.name for task in self.evaluator.tasks]

    @property
    def has_ball(self) -> bool:
        """Whether the attack says in which ball it stays."""
        return self.norm is not None and isinstance(self.eps, (int, float, np.ndarray, np.number))

    @property
    def steps(self) -> int | None:
        """T, where the attack can be given another."""
        steps = getattr(self.attack, "max_iter", None)
        if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or not self._knows("max_iter"):
            return None
        return int(steps) if steps > 0 else None

    @cached_property
    def gradients(self) -> list[TaskGradient]:
        """The gradient of each task's loss on the clean inputs."""
        return task_gradients(self.estimator, self.x, self.y, self.batch_size)

    @cached_property
    def direct(self) -> Outcome:
        """The attack itself."""
        return self.run(str(getattr(self.attack, "name", type(self.attack).__name__)), self.vary())

    @cached_property
    def singles(self) -> dict[str, Outcome]:
        """The attack of the single-task reference on each task, prepared, restarted and in chunks as the attack that is
        diagnosed; not of tasks without a gradient.
        """
        made = {}
        for gradient in self.gradients:
            if gradient.connected:
                cell = GridCell(f"single:{gradient.name}", str(self.norm), self.eps, "linear")
                prepare = getattr(self.attack, "prepare", None)
                steps = self.steps or _STEPS
                attack: Any = make_attack(self.estimator, cell, steps, self.batch_size, self.chunk, prepare=prepare)
                attack.set_params(num_random_init=int(getattr(self.attack, "num_random_init", 0)))
                made[gradient.name] = self.run(cell.name, attack)
        return made

    @cached_property
    def longer(self) -> list[Outcome]:
        """The attack with twice and four times its steps."""
        counts = [factor * (self.steps or _STEPS) for factor in (2, 4)]
        return [self.run(f"{count} steps", self.vary(max_iter=count)) for count in counts]

    def run(self, name: str, attack: Attack, *, whole: bool = False) -> Outcome:
        """What an attack does, measured on the model: by the same work as in an evaluation.

        Args:
            name: For messages.
            attack: What to run.
            whole: Give it all samples in one call.
        """
        job = Job(
            self.evaluator,
            self._source,
            [(attack_info(name, attack), attack)],
            None if whole else self.chunk,
            self.seed,
        )
        with _quietly():
            parts = [job.compute(Unit(1, place)).part for place in range(len(job.chunks))]
        measured = total(self.evaluator.scales, parts, f"under attack {name!r}")
        metrics = resampled_metrics(self.evaluator.scales, parts).around(measured.values)
        return Outcome(metrics, degradations(self.evaluator.scales, metrics, self._clean))

    def vary(self, estimator: PyTorchMultiTaskEstimator | None = None, **changes: Any) -> Any:
        """A copy of the attack with other parameters, or aimed at another model; the attack itself stays as it is."""
        made = _copy(self.attack, estimator)
        if self._knows("verbose"):
            changes["verbose"] = False
        if changes:
            with _quietly():
                made.set_params(**changes)
        return made

    def with_eps(self, eps: Any) -> Any:
        """A copy of the attack with another ε; a step size that is set grows with it."""
        step = getattr(self.attack, "eps_step", None)
        if step is None or not self._knows("eps_step"):
            return self.vary(eps=eps)
        return self.vary(eps=eps, eps_step=step * (eps / self.eps))

    def can_set(self, name: str) -> bool:
        """Whether the attack is one of which copies with another value of a parameter can be made."""
        return self._knows(name) and hasattr(self.attack, name)

    def excess(self, stronger: Outcome, than: Outcome, task: int | None = None) -> Excess:
        """By how much the degradation of one attack is stronger than that of another.

        Args:
            stronger: Suspected of being the stronger one.
            than: The other.
            task: Compare the degradation to this task; None for Δ_Wor.
        """
        weak, strong = (
            worst_degradation(outcome.resampled) if task is None else outcome.resampled[task]
            for outcome in (than, stronger)
        )
        difference = weak - strong
        allowed = margin(difference, SIGMAS)
        return Excess(float(difference.value), allowed, self.tolerance + allowed)

    def _knows(self, name: str) -> bool:
        return hasattr(self.attack, "set_params") and name in getattr(self.attack, "attack_params", ())

    @cached_property
    def _source(self) -> Source:
        return as_source((self.x, self.y), self.estimator.tasks)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of attacks: what they say is what the checks find out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        yield


def _copy(attack: Any, estimator: Any) -> Any:
    """A deep copy that shares the model, or that has another one in its place wherever the attack holds it.

    Deep, because some attacks of ART hold the attack that does the work; a writer of summaries is shared, too.
    """
    own = getattr(attack, "estimator", None)
    kept = [value for value in getattr(attack, "__dict__", {}).values() if isinstance(value, SummaryWriter)]
    memo = {id(part): part for part in kept}
    if own is not None:
        memo[id(own)] = own if estimator is None else estimator
        memo[id(own.model)] = own.model
    return copy.deepcopy(attack, memo)
