"""The loop stays on its device, and never waits for it: what a machine without a GPU can show of that.

Tensors on torch's "meta" device have shapes and no values. Whatever would copy a value to the host (``.item()``, ``if``
on a tensor, ``nonzero``) fails there, and so does an operation that mixes them with tensors of the CPU.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from art_mtl.core import METHODS, RunConfig, ThreatModel, attack, make_method
from art_mtl.core.context import RunningStatistics
from art_mtl.core.optimizers.schedules import CONSTANT
from art_mtl.core.optimizers.universal_step import Perturbation, SharedSchedule
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.callbacks import Callback, CallbackList
from art_mtl.evaluation.step_recorder import StepRecorder, observed

NORMS = [math.inf, 2.0, 1.0]


def _on_meta(case, norm):
    threat = case.threat(norm, 0.1)
    bounds = tuple(bound.to("meta") for bound in threat.bounds)
    threat = ThreatModel(norm, threat.eps.to("meta"), bounds, torch.ones_like(case.x, device="meta"))
    targets = [target.to("meta") for target in case.targets]
    weights = torch.empty(8, 3, 1, 1, device="meta", dtype=case.x.dtype)

    def forward(x):
        out = torch.nn.functional.conv2d(x, weights)
        return [out[:, :4], out[:, 4:5], out[:, 5:]]

    return replace(case, forward=forward, x=case.x.to("meta"), targets=targets), threat


INFO = AttackInfo("equal", "equal", "linf", 0.1, None, 2)
PLANS = {
    "plain": RunConfig(2),
    "restarts": RunConfig(2, start=1.0, restarts=2),
    "targeted": RunConfig(2, targeted=True),
}
CASES = [(norm, "plain") for norm in NORMS] + [(math.inf, "restarts"), (math.inf, "targeted")]


@pytest.mark.parametrize("norm, plan", CASES)
@pytest.mark.parametrize("name", [*METHODS, "single:depth", "stealthy:depth", "smta:depth"])
def test_every_method_stays_on_the_device_and_never_waits_for_it(dense_case, name, norm, plan):
    case, threat = _on_meta(dense_case(dtype=torch.float32), norm)
    method = make_method(name, case.tasks)
    statistics = {}
    for _ in range(2):
        result = attack(
            case.forward, case.x, case.tasks, case.targets, method, threat, PLANS[plan], statistics=statistics
        )
        assert result.device.type == "meta" and result.shape == case.x.shape
    assert all(isinstance(sums, RunningStatistics) for sums in statistics.values())


@pytest.mark.parametrize(
    "knobs", [{"keep": "best"}, {"projection": "ball-then-box"}, {"weighting": "minmax"}, {"schedule": "auto"}]
)
def test_so_do_the_knobs(dense_case, knobs):
    case, threat = _on_meta(dense_case(dtype=torch.float32), 2.0)
    for name in ("equal", "worst-task"):
        method = make_method(name, case.tasks, **knobs)
        seen = []
        result = attack(
            case.forward, case.x, case.tasks, case.targets, method, threat, RunConfig(2), observer=seen.append
        )
        assert result.device.type == "meta" and all(record.losses.device.type == "meta" for record in seen)


class Follows(Callback):
    """Keeps what it is told on the device."""

    def __init__(self):
        self.seen = 0.0

    def on_step(self, attack, chunk, record):
        self.seen = self.seen + (record.weights * record.losses).mean()


class Waits(Callback):
    def on_step(self, attack, chunk, record):
        record.weights.mean().item()


def watched(case, method, threat, plan, *callbacks):
    """An attack as an evaluation watches it, with losses at every step."""
    hearing, recorder, observed_attack = CallbackList(callbacks), StepRecorder(1), SimpleNamespace(observer=None)
    with observed(observed_attack, recorder, partial(hearing.on_step, INFO, 0)):
        attack(case.forward, case.x, case.tasks, case.targets, method, threat, plan, observer=observed_attack.observer)
    return recorder


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", [*METHODS, "stealthy:depth"])
def test_a_watched_loop_does_not_wait_either(dense_case, name, plan):
    case, threat = _on_meta(dense_case(dtype=torch.float32), math.inf)
    follows = Follows()
    recorder = watched(case, make_method(name, case.tasks), threat, PLANS[plan], follows)
    told = [follows.seen, *recorder.weights.values(), *recorder.losses.values()]
    assert len(told) == 1 + 2 * 2 and all(one.device.type == "meta" for one in told)


def test_a_callback_that_waits_would_be_caught(dense_case):
    case, threat = _on_meta(dense_case(dtype=torch.float32), math.inf)
    with pytest.raises(RuntimeError, match="Waits should raise no exception. Found .* in on_step"):
        watched(case, make_method("equal", case.tasks), threat, RunConfig(2), Waits())


@pytest.mark.parametrize("norm", NORMS)
def test_so_does_the_rule_of_auto_pgd_at_its_checkpoints(dense_case, norm):
    case, threat = _on_meta(dense_case(dtype=torch.float32), norm)
    for name in ("equal", "worst-task"):
        method = make_method(name, case.tasks, schedule="auto")
        result = attack(case.forward, case.x, case.tasks, case.targets, method, threat, RunConfig(9))
        assert result.device.type == "meta" and result.shape == case.x.shape


def test_a_wait_would_be_caught(dense_case):
    case, threat = _on_meta(dense_case(dtype=torch.float32), math.inf)
    inner = case.forward

    def waiting(x):
        return inner(x if x.sum() > 0 else x)

    with pytest.raises(RuntimeError):
        attack(waiting, case.x, case.tasks, case.targets, make_method("equal", case.tasks), threat, RunConfig(1))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", ["sample", "batch"])
def test_so_do_multipliers_by_sample_and_shared_perturbations(dense_case, scope, norm):
    case, threat = _on_meta(dense_case(dtype=torch.float32), norm)
    stealthy = make_method("stealthy:depth", case.tasks, weight_scope=scope)
    shared = Perturbation(torch.zeros_like(case.x[:1]), total=3)
    minmax = make_method("minmax", case.tasks, weight_scope=scope, momentum=0.9)
    minmax = replace(minmax, schedule=SharedSchedule(shared, CONSTANT))
    for method in (stealthy, minmax):
        result = attack(case.forward, case.x, case.tasks, case.targets, method, threat, RunConfig(3))
        assert result.device.type == "meta" and result.shape == case.x.shape
    assert shared.taken == 3 and shared.delta.device.type == "meta"
