"""The checks: each takes a diagnosis_context and returns what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from art_mtl.evaluation.checks import NORMS
from art_mtl.evaluation.diagnosis.diagnosis_context import SIGMAS, DiagnosisContext, Excess, Outcome
from art_mtl.evaluation.diagnosis.gradients import (
    describe_gradients,
    disagreement,
    resolution,
    task_gradients,
    unexplained,
)
from art_mtl.evaluation.diagnosis.records import Check
from art_mtl.evaluation.diagnosis.search import Grey, Noise, QuerySearch, grey_radius
from art_mtl.evaluation.diagnosis.surrogate import make_surrogate
from art_mtl.evaluation.hosts import HostedAttack, SingleTaskAttack
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.statistics import unseen

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

GROWTH = (1, 2, 4)
"""Multiples of the number of steps and of ε."""
EXPLAINED = 0.5
"""Share of the change of an output that its gradient must explain: at least half."""
_NO_BALL = "the attack has no `norm` and `eps`"
_NO_DEGRADATION = "no task's degradation is defined"
_NO_BOX = "the model has no `clip_values`"
_PROBED_SHARE = 0.01
"""Share of the box in which gradients are probed where the attack has no ball."""


def gradient(lab: DiagnosisContext) -> Check:
    """A sample without a gradient for a task is not attacked there: the share of such samples bounds what degradation
    is lost, so it is held to the tolerance of degradations.
    """
    lost = max(task.lost for task in lab.gradients)
    margin = unseen(len(lab.x), NormalDist().cdf(-SIGMAS))
    return Check.of("gradient", lost, lab.tolerance, describe_gradients(lab.gradients), margin)


def deterministic(lab: DiagnosisContext) -> Check:
    """Two passes may differ by rounding: half the digits of what the model computes in."""
    repeated, mixed = disagreement(lab.estimator, lab.x, lab.batch_size)
    seen = f"outputs differ by {_share(repeated)} when repeated, by {_share(mixed)} in other batches"
    largest = min(max(repeated, mixed), 1e6)
    return Check.of("deterministic", largest, resolution(lab.estimator), seen)


def differentiable(lab: DiagnosisContext) -> Check:
    """The gradient must explain at least half of how outputs change."""
    from art_mtl.precision import dtype_of

    dtype = dtype_of(lab.estimator.model)
    if torch.finfo(dtype).bits < 32:
        return Check.skipped("differentiable", f"finite differences need float32; the model computes in {dtype}")
    if lab.norm is not None and lab.has_ball:
        norm, eps = lab.norm, lab.eps
    elif lab.estimator.clip_values is not None:
        norm, eps = "linf", _PROBED_SHARE * 2 * grey_radius(lab.estimator, "linf")
    else:
        return Check.skipped("differentiable", f"{_NO_BALL}, and {_NO_BOX}")
    shares = unexplained(lab.estimator, lab.x, norm, eps, lab.batch_size, lab.seed)
    known = {name: min(share, 1e6) for name, share in shares.items() if not math.isnan(share)}
    if not known:
        return Check.skipped("differentiable", "no output changes along any of the directions tried")
    seen = "not explained by the gradient: " + ", ".join(f"{name} {_share(share)}" for name, share in known.items())
    return Check.of("differentiable", max(known.values()), 1 - EXPLAINED, seen)


def more_steps(lab: DiagnosisContext) -> Check:
    """T, 2T and 4T steps."""
    if lab.steps is None:
        return Check.skipped("more-steps", "the attack has no number of steps, `max_iter`")
    counts = [f"{lab.steps * factor} steps" for factor in GROWTH]
    return _never_weaker(lab, "more-steps", [lab.direct, *lab.longer], counts)


def convergence(lab: DiagnosisContext) -> Check:
    """T and 2T steps."""
    if lab.steps is None:
        return Check.skipped("convergence", "the attack has no number of steps, `max_iter`")
    twice = lab.longer[0]
    seen = f"Δ_Wor {_percent(lab.direct)} ({lab.steps} steps), {_percent(twice)} ({2 * lab.steps} steps)"
    return _reported("convergence", [lab.excess(twice, lab.direct)], seen)


def larger_eps(lab: DiagnosisContext) -> Check:
    """ε, 2ε and 4ε."""
    if not lab.has_ball or not lab.can_set("eps"):
        return Check.skipped("larger-eps", f"{_NO_BALL} that can be set")
    later = [lab.run(f"{factor} eps", lab.with_eps(factor * lab.eps)) for factor in GROWTH[1:]]
    return _never_weaker(lab, "larger-eps", [lab.direct, *later], ["ε", *(f"{factor}ε" for factor in GROWTH[1:])])


def huge_eps(lab: DiagnosisContext) -> Check:
    """Half the box: every input can be turned into the same grey one."""
    if lab.norm is None or not lab.has_ball or not lab.can_set("eps"):
        return Check.skipped("huge-eps", f"{_NO_BALL} that can be set")
    if lab.estimator.clip_values is None:
        return Check.skipped("huge-eps", _NO_BOX)
    largest = max(grey_radius(lab.estimator, lab.norm), float(np.max(lab.eps)))
    eps = np.full_like(lab.eps, largest) if isinstance(lab.eps, np.ndarray) else largest
    attacked = lab.run("huge eps", lab.with_eps(eps))
    grey = lab.run("grey inputs", Grey(lab.estimator), whole=True)
    random = lab.run("huge noise", Noise(lab.estimator, lab.norm, eps, lab.seed), whole=True)
    seen = (
        f"Δ_Wor {_percent(attacked)} at ε = {largest:.4g}, {_percent(grey)} on grey inputs, {_percent(random)} by noise"
    )
    baseline = random if random.worst < grey.worst else grey
    return _reported("huge-eps", [lab.excess(baseline, attacked)], seen)


def noise(lab: DiagnosisContext) -> Check:
    """One random step to the edge of the ball."""
    if lab.norm is None or not lab.has_ball:
        return Check.skipped("noise", _NO_BALL)
    random = lab.run("noise", Noise(lab.estimator, lab.norm, lab.eps, lab.seed), whole=True)
    seen = f"Δ_Wor {_percent(lab.direct)} by the attack, {_percent(random)} by noise"
    return _reported("noise", [lab.excess(random, lab.direct)], seen)


def reference(lab: DiagnosisContext) -> Check:
    """Each task alone, by the attack of the benchmark's single-task reference, with as many steps."""
    if lab.norm is None or not lab.has_ball:
        return Check.skipped("reference", _NO_BALL)
    missing = [name for name in lab.names if name not in lab.singles]
    if missing:
        return Check.skipped("reference", f"no gradient of {', '.join(missing)}, so no attack on it alone")
    excesses = [lab.excess(lab.direct, lab.singles[name], task=k) for k, name in enumerate(lab.names)]
    k = max(range(len(excesses)), key=lambda k: _suspicion(excesses[k]))
    name = lab.names[k]
    least = max(float(lab.singles[name].deltas[k]) for k, name in enumerate(lab.names))
    seen = (
        f"{name} {_percent(lab.direct, k)} by the attack on all tasks, {_percent(lab.singles[name], k)} by that on it "
        f"alone; Δ_Wor {_percent(lab.direct)}, reference {decimals(100 * least, 1)} %"
    )
    return _reported("reference", [excesses[k]], seen)


def black_box(lab: DiagnosisContext, queries: int) -> Check:
    """A search by queries on the least degraded task, against the stronger of the two gradient attacks on it."""
    if lab.norm is None or not lab.has_ball:
        return Check.skipped("black-box", _NO_BALL)
    if lab.norm == "l1":
        return Check.skipped("black-box", "the search is for L∞ and L2")
    if math.isnan(lab.direct.worst):
        return Check.skipped("black-box", _NO_DEGRADATION)
    k = int(torch.where(torch.isnan(lab.direct.deltas), -math.inf, lab.direct.deltas).argmax())
    name = lab.names[k]
    search = QuerySearch(lab.estimator, name, lab.norm, lab.eps, queries, lab.batch_size, lab.seed)
    searched = lab.run("query search", search, whole=True)
    baselines = [lab.direct, *([lab.singles[name]] if name in lab.singles else [])]
    strongest = min(baselines, key=lambda outcome: float(outcome.deltas[k]))
    seen = f"{name} {_percent(strongest, k)} by gradients, {_percent(searched, k)} by {queries} queries"
    return _reported("black-box", [lab.excess(searched, strongest, task=k)], seen)


def transfer(lab: DiagnosisContext, surrogate: PyTorchMultiTaskEstimator | None) -> Check:
    """The same attack made on a surrogate and measured on the model."""
    if getattr(lab.attack, "estimator", None) is None or isinstance(lab.attack, (HostedAttack, SingleTaskAttack)):
        return Check.skipped("transfer", "the attack has no `estimator` that could be replaced by a surrogate")
    kind = "the surrogate"
    if surrogate is None:
        if lab.norm is None or not lab.has_ball:
            return Check.skipped("transfer", _NO_BALL)
        # Half the size that each value of noise spread evenly over the input has at the edge of the ball.
        noise = 0.5 * float(np.max(lab.eps)) / lab.x[0].size ** (1 / NORMS[lab.norm])
        surrogate = make_surrogate(lab.estimator, lab.x, lab.y, noise, lab.batch_size, lab.seed)
        kind = "a straight-through, cooled, noise-averaged copy"
    if not any(task.connected for task in task_gradients(surrogate, lab.x, lab.y, lab.batch_size)):
        return Check.skipped("transfer", "the surrogate has no gradient either; give one as `surrogate`")
    carried = lab.run("transfer", lab.vary(surrogate))
    seen = f"Δ_Wor {_percent(lab.direct)} by the attack, {_percent(carried)} when made on {kind}"
    return _reported("transfer", [lab.excess(carried, lab.direct)], seen)


FREE: Mapping[str, Callable[[DiagnosisContext], Check]] = MappingProxyType(
    {"gradient": gradient, "deterministic": deterministic, "differentiable": differentiable}
)
"""Checks that run no attack."""
ATTACKING: Mapping[str, Callable[[DiagnosisContext], Check]] = MappingProxyType(
    {
        "more-steps": more_steps,
        "convergence": convergence,
        "larger-eps": larger_eps,
        "huge-eps": huge_eps,
        "noise": noise,
        "reference": reference,
    }
)
"""Checks that run the attack and need nothing else."""


def _never_weaker(lab: DiagnosisContext, name: str, outcomes: Sequence[Outcome], labels: Sequence[str]) -> Check:
    """Each outcome at least as strong as all before it."""
    seen = "Δ_Wor " + ", ".join(f"{_percent(o)} ({label})" for o, label in zip(outcomes, labels, strict=True))
    return _reported(name, [lab.excess(before, after) for before, after in combinations(outcomes, 2)], seen)


def _reported(name: str, excesses: Sequence[Excess], seen: str) -> Check:
    """The most suspicious of several comparisons."""
    excess = max(excesses, key=_suspicion)
    if math.isnan(excess.value):
        return Check.skipped(name, _NO_DEGRADATION)
    return Check.of(name, excess.value, excess.limit, seen, excess.margin)


def _suspicion(excess: Excess) -> tuple[bool, float]:
    """What is reported of several comparisons: one that fails, else the one that might be the worst; one that is
    undefined last.
    """
    most = excess.value + excess.margin
    return excess.value > excess.limit, -math.inf if math.isnan(most) else most


def _percent(outcome: Outcome, task: int | None = None) -> str:
    """Δ_Wor, or the Δ of one task."""
    return f"{decimals(100 * (outcome.worst if task is None else float(outcome.deltas[task])), 1)} %"


def _share(share: float) -> str:
    return f"{100 * share:.0f} %" if share > 0.1 else f"{100 * share:.2g} %"
