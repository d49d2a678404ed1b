"""What the checks share: the model with its data, attacks varied from the one that is diagnosed, and how far two of
them differ beyond what the choice of samples explains.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from art.summary_writer import SummaryWriter
from torch import Tensor

from art_mtl.core.warn import AttackWarning
from art_mtl.evaluation.attack import Attack, generate
from art_mtl.evaluation.checks import norm_name
from art_mtl.evaluation.diagnosis.gradients import TaskGradient, task_gradients
from art_mtl.evaluation.grid import Cell, make_attack
from art_mtl.evaluation.measure import Evaluator, Measured
from art_mtl.evaluation.samples import Inputs
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

TOLERANCE = 0.01
"""Degradation that two runs of one attack may differ by for no reason: one point."""
SIGMAS = 3.0
"""Standard errors that a difference may have by the choice of samples: exceeded by chance once in 740 comparisons."""
RESAMPLES = 1000
"""Bootstrap resamples; they give a standard error to 2 %."""
_STEPS = 10


@dataclass(frozen=True)
class Outcome:
    """What an attack did.

    Attributes:
        measured: Metrics under attack.
        deltas: Δ of each task, ``(K,)``; NaN where undefined.
    """

    measured: Measured
    deltas: Tensor

    @property
    def worst(self) -> float:
        """Δ_Wor; NaN where no task's degradation is defined."""
        return float(_worst(self.deltas))


@dataclass(frozen=True)
class Excess:
    """By how much one degradation is stronger than another.

    Attributes:
        value: Of the population, in units of Δ.
        error: Its standard error, by paired bootstrap over the samples.
        limit: What it may be: the tolerance and three standard errors.
    """

    value: float
    error: float
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
        protocol: How errors are averaged.
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
    ) -> None:
        self.estimator, self.attack, self.batch_size, self.seed = estimator, attack, batch_size, seed
        self.tolerance = tolerance
        self.x, self.y = x, y
        self.evaluator = Evaluator(estimator, batch_size, protocol)
        self.clean = self.evaluator.measure(x, y, "on clean inputs", clean=True)
        self.evaluator.describe(self.clean)  # warns of a task whose degradation is undefined
        self.norm = norm_name(getattr(attack, "norm", None))
        self.eps: Any = getattr(attack, "eps", None)
        draws = np.random.default_rng(seed).multinomial(len(x), np.full(len(x), 1 / len(x)), size=RESAMPLES)
        self._draws = torch.as_tensor(draws, dtype=torch.float64)
        self._clean_draws = self._resample(self.clean)

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
        """The attack of the empirical bound on each task alone; not of tasks without a gradient."""
        made = {}
        for gradient in self.gradients:
            if gradient.connected:
                cell = Cell(f"single:{gradient.name}", str(self.norm), self.eps, "linear")
                attack: Any = make_attack(self.estimator, cell, self.steps or _STEPS, self.batch_size)
                attack.set_params(num_random_init=int(getattr(self.attack, "num_random_init", 0)))
                made[gradient.name] = self.run(cell.name, attack)
        return made

    def run(self, name: str, attack: Attack) -> Outcome:
        """What an attack does, measured on the model."""
        with _quietly():
            x_adv = generate(name, attack, self.x, self.y, self.estimator, self.seed).inputs
        measured = self.evaluator.measure(x_adv, self.y, f"under attack {name!r}")
        return Outcome(measured, self.evaluator.deltas(measured.values, self.clean.values))

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
        pick: Callable[[Tensor], Tensor] = _worst if task is None else lambda deltas: deltas[..., task]
        value = float(pick(than.deltas) - pick(stronger.deltas))
        spread = pick(self._resampled_deltas(than)) - pick(self._resampled_deltas(stronger))
        finite = spread[torch.isfinite(spread)]
        error = float(finite.std()) if len(finite) > 1 else 0.0
        return Excess(value, error, self.tolerance + SIGMAS * error)

    def _knows(self, name: str) -> bool:
        return hasattr(self.attack, "set_params") and name in getattr(self.attack, "attack_params", ())

    def _resampled_deltas(self, outcome: Outcome) -> Tensor:
        return self.evaluator.deltas(self._resample(outcome.measured), self._clean_draws)

    def _resample(self, measured: Measured) -> Tensor:
        """Metrics of every resample of the data set, ``(R, K)``."""
        pairs = zip(self.evaluator.tasks, measured.statistics, strict=True)
        return torch.stack([task.metric.value(rows.weighted(self._draws)) for task, rows in pairs], -1)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the warnings of attacks: what they say is what the checks find out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        yield


def _worst(deltas: Tensor) -> Tensor:
    """Δ_Wor of the last dimension: the greatest of the defined Δ; NaN where there is none."""
    greatest = torch.where(torch.isnan(deltas), float("-inf"), deltas).amax(-1)
    return torch.where(torch.isinf(greatest), float("nan"), greatest)


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
