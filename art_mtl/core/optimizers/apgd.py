"""Auto-PGD: step sizes that follow the progress of each sample.

Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", ICML
2020, section 3; for L1 Croce & Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers", ICML
2021, section 3. Both go by whether the objective has risen. Where task weights move from step to step, the objective is
another one at every step: then "risen" is judged at the weights of now, for both iterates (see
:class:`~art_mtl.core.selection.BestIterate`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from art_mtl.core.optimizers.step_rule import StepRule
from art_mtl.core.optimizers.steps import FIRST_L1_SHARE, L1_SPARSER, sparse_direction, support
from art_mtl.core.selection import BestIterate, choose
from art_mtl.core.threat import FeasibleSet

_INERTIA = 0.75
"""α: share of the new step in a move; the rest repeats the last move."""
_ENOUGH = 0.75
"""ρ: share of the steps between two checkpoints that must have risen for the step size to stay."""
_SHRINK = 1.5
_LEAST_SHARE = 0.1
_STILL_FALLING = 0.95


def checkpoints(steps: int) -> list[int]:
    """Where the step size may be halved: ``⌈p_j T⌉`` below T, with p_0 = 0, p_1 = 0.22 and ``p_{j+1} = p_j + max(p_j −
    p_{j−1} − 0.03, 0.06)``.

    Examples:
        >>> checkpoints(100)
        [22, 41, 57, 70, 80, 87, 93, 99]
        >>> checkpoints(10)
        [3, 5, 6, 7, 8, 9]
    """
    found, before, percent = set(), 0, 22
    while percent <= 100:
        found.add(-(-percent * steps // 100))
        before, percent = percent, percent + max(percent - before - 3, 6)
    return sorted(step for step in found if step < steps)


class AutoSteps(StepRule):
    """Auto-PGD for L∞ and L2.

    ``z = P(x_t + η u)``, ``x_{t+1} = P(x_t + α (z − x_t) + (1 − α)(x_t − x_{t−1}))``, with α = 0.75 and η = 2 ε at
    first. At a checkpoint η is halved, and the sample goes on from its best iterate, if fewer than 0.75 of the steps
    since the last one have risen, or if neither step size nor best value have changed since. Checkpoints are acted upon
    as soon as the value there is known.

    Args:
        feasible: Where the iterates may lie.
        steps: T.
    """

    needs_best_gradient = True

    def __init__(self, feasible: FeasibleSet, steps: int) -> None:
        self.feasible = feasible
        places = checkpoints(steps)
        self.since = dict(zip(places, (b - a for a, b in zip([0, *places], places, strict=False)), strict=True))
        size = len(feasible.x)
        self.share = torch.ones(size, dtype=feasible.x.dtype, device=feasible.x.device)
        self.rises = torch.zeros(size, dtype=torch.float32, device=feasible.x.device)
        self.changed = torch.zeros(size, dtype=torch.bool, device=feasible.x.device)
        self.previous: Tensor | None = None

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        if step > 0:
            self.rises = self.rises + best.rose
            self.changed = self.changed | best.better
        if step in self.since:
            x_adv, gradient = self._check(self.since[step], x_adv, gradient, best)
        feasible, before = self.feasible, self.previous
        size = 2 * feasible.threat.eps * feasible.each(self.share)
        ahead = feasible.project((x_adv + size * feasible.direction(gradient, x_adv, step)) - feasible.x)
        self.previous = x_adv
        if before is None:
            return ahead
        moved = x_adv + _INERTIA * (ahead - x_adv) + (1 - _INERTIA) * (x_adv - before)
        return feasible.project(moved - feasible.x)

    def _check(self, length: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> tuple[Tensor, Tensor]:
        halve = (self.rises < _ENOUGH * length) | ~self.changed
        self.share = torch.where(halve, self.share / 2, self.share)
        self.rises = torch.zeros_like(self.rises)
        # A step size that has just changed may stay once without a new best value.
        self.changed = halve
        return _go_back(halve, x_adv, gradient, best)


class SparseAutoSteps(StepRule):
    """Auto-PGD for L1.

    The step ``P(x_t + η u)`` goes along the k greatest coordinates that can still move, without inertia; η = ε and k =
    0.2 d at first. Every 0.04 T steps k becomes the number of coordinates that the best iterate changes, divided by
    1.5. If that number has fallen by more than 5 % since the last time, η is ε again and the sample goes on from its
    best iterate; if not, η is divided by 1.5, down to ε/10.

    Args:
        feasible: Where the iterates may lie.
        steps: T.
    """

    needs_best_gradient = True

    def __init__(self, feasible: FeasibleSet, steps: int) -> None:
        self.feasible, self.every = feasible, max(1, 4 * steps // 100)
        size, places = len(feasible.x), feasible.x[0].numel()
        self.share = torch.ones(size, dtype=feasible.x.dtype, device=feasible.x.device)
        self.support = torch.full((size,), float(places), dtype=torch.float32, device=feasible.x.device)
        self.count = (FIRST_L1_SHARE * self.support).clamp(min=1)

    def __call__(self, step: int, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> Tensor:
        feasible = self.feasible
        if step > 0 and step % self.every == 0:
            x_adv, gradient = self._check(x_adv, gradient, best)
        eps, bounds = feasible.threat.eps, feasible.threat.bounds
        unit = sparse_direction(gradient, x_adv, bounds, self.count.long()[:, None], feasible.slack)
        return feasible.project((x_adv + eps * feasible.each(self.share) * unit) - feasible.x)

    def _check(self, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> tuple[Tensor, Tensor]:
        changed = support(self.feasible.x, best.x, self.feasible.slack).to(self.support.dtype)
        falling = changed < _STILL_FALLING * self.support
        # A best iterate that changes nothing yet says nothing about how many coordinates are wanted.
        self.count = torch.where(changed > 0, (changed / L1_SPARSER).clamp(min=1), self.count)
        smaller = (self.share / _SHRINK).clamp(min=_LEAST_SHARE)
        self.share = torch.where(falling, torch.ones_like(smaller), smaller)
        self.support = changed
        return _go_back(falling, x_adv, gradient, best)


def _go_back(samples: Tensor, x_adv: Tensor, gradient: Tensor, best: BestIterate) -> tuple[Tensor, Tensor]:
    """Iterate and gradient, those of the best iterate for the ``samples`` that are true.

    Its gradient is the one found there, at the weights of then: at those of now it would cost one more pass.
    """
    back = gradient if best.gradient is None else best.gradient
    return choose(samples, best.x, x_adv), choose(samples, back, gradient)
