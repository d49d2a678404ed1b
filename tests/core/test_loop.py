"""Laws of the loop, for every method."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_mtl import tasks
from art_mtl.core import Method, RunConfig, ThreatModel, attack, make_method
from art_mtl.core.methods import METHODS, method_names
from art_mtl.core.run_log import RunLog
from art_mtl.core.weightings import InnerMinimiser, LogDegradationControl, MinMax
from art_mtl.projections import sample_norm

NORMS = [math.inf, 2.0, 1.0]
EPS = {math.inf: 0.1, 2.0: 1.5, 1.0: 10.0}
ALL = ["single:depth", *METHODS]
PER_SAMPLE = ["single:depth", "equal", "normalize", "dgba", "alternate", "minmax", "worst-task"]


def per_sample(name, case, **knobs) -> Method:
    return make_method(name, case.tasks, weight_scope="sample", **knobs)


def run(case, method, threat, plan, **kwargs):
    if isinstance(method, str):
        method = make_method(method, case.tasks)
    return attack(case.forward, case.x, case.tasks, case.targets, method, threat, plan, **kwargs)


# --- feasible, and weights on the simplex ---


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(ALL),
    norm=st.sampled_from(NORMS),
    scale=st.sampled_from([0.01, 0.3, 1.0, 10.0]),
    order=st.sampled_from([None, "exact", "box-then-ball", "ball-then-box"]),
    start=st.sampled_from([0.0, 1.0]),
    scope=st.sampled_from([None, "sample", "batch"]),
    one_each=st.booleans(),
    edge=st.booleans(),
    seed=st.integers(0, 99),
)
def test_results_are_feasible(dense_case, name, norm, scale, order, start, scope, one_each, edge, seed):
    case = dense_case(batch=3, dtype=torch.float32, seed=seed)
    if edge:
        case.x = case.x.round()
    eps = torch.full((3, 1, 1, 1), EPS[norm] * scale)
    if one_each:
        eps = eps * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)
    seen, steps = [], 3
    scope = scope if make_method(name, case.tasks).shares and name != "worst-image" else None
    method = make_method(name, case.tasks, projection=order, weight_scope=scope)
    plan = RunConfig(steps, start=start, generator=torch.Generator().manual_seed(seed))
    result = run(case, method, case.threat(norm, eps), plan, observer=seen.append)
    for x in [result, *(record.inputs for record in seen)]:
        assert (x >= 0).all() and (x <= 1).all()
        moved = x.double() - case.x.double()
        if norm == math.inf:
            assert (moved.abs() <= eps.double() + torch.finfo(torch.float32).eps).all()
        else:
            rounding = sample_norm(torch.full_like(moved, torch.finfo(torch.float32).eps / 2), norm)
            assert (sample_norm(moved, norm) <= eps.double() * (1 + 1e-5) + rounding).all()
    assert len(seen) == steps
    for record in seen:
        assert torch.isfinite(record.gradient).all() and (record.weights >= 0).all()
        if isinstance(method.weighting, (MinMax, InnerMinimiser, LogDegradationControl)):
            torch.testing.assert_close(record.weights.sum(1), torch.ones(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ALL)
def test_attacks_do_harm(dense_case, name, norm):
    case = dense_case(batch=4, dtype=torch.float32)
    seen = []
    run(case, name, case.threat(norm, EPS[norm]), RunConfig(8), observer=seen.append)
    attacked = [1] if name == "single:depth" else [0, 1, 2]
    assert (seen[-1].losses.mean(0)[attacked] > 1.02 * seen[0].losses.mean(0)[attacked]).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scope", ["sample", None])
@pytest.mark.parametrize("name", ALL)
def test_targeted_attacks_move_towards_their_targets(dense_case, name, norm, scope):
    case = dense_case(batch=4, dtype=torch.float32)
    other = dense_case(batch=4, dtype=torch.float32, seed=5)
    case.targets = other.targets
    seen = []
    method = make_method(name, case.tasks, weight_scope=scope)
    run(case, method, case.threat(norm, EPS[norm]), RunConfig(10, targeted=True), observer=seen.append)
    if name == "single:depth":
        assert (seen[-1].losses[:, 1] < seen[0].losses[:, 1]).all()
    else:
        assert (seen[-1].losses / seen[0].losses).mean() < 0.98


# --- samples and tasks ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", PER_SAMPLE)
def test_with_scope_sample_batch_mates_do_not_matter(dense_case, name, norm):
    case, plan = dense_case(batch=4), RunConfig(4)
    threat = case.threat(norm, EPS[norm])
    whole = run(case, per_sample(name, case), threat, plan)
    for index in ([2], [3, 0, 1]):
        part = case[index]
        found = run(part, per_sample(name, part), threat, plan)
        torch.testing.assert_close(found, whole[index], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ALL if name != "alternate"])
@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_the_order_of_tasks_does_not_matter(dense_case, name, norm):
    case = dense_case(batch=5)
    threat, plan, order = case.threat(norm, EPS[norm]), RunConfig(4), [2, 0, 1]
    whole, seen = run(case, name, threat, plan), []
    turned = run(case.only(order), name, threat, plan, observer=seen.append)
    torch.testing.assert_close(turned, whole, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_a_task_without_valid_label_is_as_if_it_were_not_there(dense_case, name):
    case, plan = dense_case(batch=3), RunConfig(4)
    case.targets[0].valid[1] = False
    threat, seen = case.threat(math.inf, 0.1), []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(case, per_sample(name, case), threat, plan, observer=seen.append)
    rest = case.only([1, 2])[[1]]
    expected = run(rest, per_sample(name, rest), threat, plan)
    torch.testing.assert_close(result[[1]], expected, rtol=0, atol=1e-9)
    for record in seen:
        assert record.weights[1, 0] == 0 and record.losses[1, 0] == 0
        assert torch.isfinite(record.weights).all() and torch.isfinite(record.gradient).all()


@pytest.mark.parametrize("name", [*ALL, "single:seg"])
def test_a_sample_without_any_label_stays_clean(dense_case, name):
    case = dense_case(batch=3)
    for target in case.targets:
        target.valid[1] = False
    for keep in ("last", "best"):
        method = make_method(name, case.tasks, keep=keep)
        result = run(case, method, case.threat(math.inf, 0.1), RunConfig(3))
        assert torch.equal(result[1], case.x[1]) and not torch.equal(result[0], case.x[0])


def test_groups_share_weights_and_know_nothing_of_each_other(dense_case):
    case, threat, plan = dense_case(batch=5), dense_case().threat(math.inf, 0.1), RunConfig(5)
    method = make_method("minmax", case.tasks, weight_scope="batch", weight_group=2, weight_step=1.0)
    seen = []
    whole = run(case, method, threat, plan, observer=seen.append)
    w = seen[-1].weights
    assert torch.equal(w[0], w[1]) and torch.equal(w[2], w[3]) and not torch.equal(w[0], w[2])
    for index in ([0, 1], [2, 3], [4]):
        part = case[index]
        torch.testing.assert_close(run(part, method, threat, plan), whole[index], rtol=0, atol=1e-9)


def test_minmax_over_a_data_set_sees_the_mean_of_earlier_batches_too(plain, dense_case):
    case, threat, steps = dense_case(batch=5), dense_case().threat(math.inf, 0.1), 4
    method = make_method("minmax", case.tasks, weight_scope="dataset", weight_step=1.0)
    statistics, records = {}, []
    for index in ([0, 1, 2], [3, 4]):
        run(case[index], method, threat, RunConfig(steps), statistics=statistics, observer=records.append)
    first, second = records[:steps], records[steps:]
    w = torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(1, steps):
        mean = torch.cat([first[step].losses, second[step].losses]).mean(0)
        w = torch.tensor(plain.simplex((w - (mean + (w - 1 / 3))).numpy()))
        torch.testing.assert_close(second[step].weights, w.expand(2, 3), rtol=0, atol=1e-9)


# --- budget of forwards and backwards ---


class Counter:
    def __init__(self, forward):
        self.inner, self.forwards, self.backwards = forward, 0, 0

    def __call__(self, x):
        self.forwards += 1
        if x.requires_grad:
            x = x * 1
            x.register_hook(self._count)
        return self.inner(x)

    def _count(self, gradient):
        self.backwards += 1


@pytest.mark.parametrize(
    ("name", "knobs", "plan", "extra"),
    [
        *((name, {}, {}, int(name == "worst-image")) for name in ALL),
        *((name, {"keep": "best"}, {}, 1) for name in ("equal", "normalize", "minmax")),
        ("worst-task", {"weight_scope": "sample"}, {}, 1),
        *((name, {}, {"start": 1.0}, 0) for name in ("equal", "dgba", "alternate", "minmax")),
        *((name, {}, {"start": 1.0}, 1) for name in ("normalize", "minmax-official", "worst-task")),
        ("equal", {"keep": "best"}, {"start": 1.0}, 1),
        ("normalize", {"keep": "best"}, {"start": 1.0}, 2),
        ("worst-task", {"weight_scope": "sample"}, {"start": 1.0}, 2),
    ],
)
def test_t_steps_cost_t_forwards_and_t_backwards(dense_case, name, knobs, plan, extra):
    case, steps = dense_case(batch=2, dtype=torch.float32), 5
    case.forward = Counter(case.forward)
    method = make_method(name, case.tasks, **knobs)
    run(case, method, case.threat(math.inf, 0.1), RunConfig(steps, **plan))
    assert (case.forward.forwards, case.forward.backwards) == (steps + extra, steps)


def test_restarts_cost_one_more_forward_each(dense_case):
    case, steps = dense_case(batch=2, dtype=torch.float32), 5
    case.forward = Counter(case.forward)
    run(case, "equal", case.threat(math.inf, 0.1), RunConfig(steps, start=1.0, restarts=3))
    assert (case.forward.forwards, case.forward.backwards) == (3 * (steps + 1), 3 * steps)


# --- what is kept ---


def _losses(case, x):
    return torch.stack([t.loss(o, y) for t, o, y in zip(case.tasks, case.forward(x), case.targets, strict=True)], 1)


def test_restarts_keep_the_best_of_each_sample(dense_case):
    case = dense_case(batch=8)
    threat, steps, restarts = case.threat(math.inf, 0.3), 2, 4
    generator = torch.Generator().manual_seed(3)
    runs = torch.stack(
        [run(case, "equal", threat, RunConfig(steps, start=1.0, generator=generator)) for _ in range(restarts)]
    )
    score = torch.stack([_losses(case, x).sum(1) for x in runs])
    best = score.argmax(0)
    assert len(best.unique()) > 1  # no single restart wins everywhere
    plan = RunConfig(steps, start=1.0, restarts=restarts, generator=torch.Generator().manual_seed(3))
    result = run(case, "equal", threat, plan)
    assert torch.equal(result, runs[best, torch.arange(8)])


def test_keep_best_returns_the_best_iterate(dense_case):
    case, seen = dense_case(batch=8), []
    threat, plan = case.threat(math.inf, 0.2), RunConfig(6, step_size=torch.tensor(0.2, dtype=torch.float64))
    last = run(case, "equal", threat, plan, observer=seen.append)
    iterates = torch.stack([record.inputs for record in seen] + [last])
    score = torch.stack([_losses(case, x).sum(1) for x in iterates])
    best = score.argmax(0)
    assert (best < 6).any() and (best > 0).all()
    result = run(case, make_method("equal", case.tasks, keep="best"), threat, plan)
    assert torch.equal(result, iterates[best, torch.arange(8)])


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_keep_best_is_never_worse_than_clean(dense_case, name):
    case = dense_case(batch=4)
    method = per_sample(name, case, keep="best")
    result = run(case, method, case.threat(math.inf, 0.1), RunConfig(3))
    assert (_losses(case, result).sum(1) > _losses(case, case.x).sum(1)).all()


# --- mask, radius a sample and a pixel, start ---


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(6, 7), (1, 6, 7), (3, 1, 6, 7), (3, 3, 6, 7)])
def test_masked_pixels_stay(dense_case, norm, start, shape):
    case = dense_case(batch=3, dtype=torch.float32)
    mask = (torch.rand(shape) < 0.5).float()
    mask = mask.reshape(*[1] * (4 - mask.ndim), *shape)
    for name in ("equal", "worst-task"):
        result = run(case, name, case.threat(norm, EPS[norm], mask), RunConfig(3, start=start))
        moved = (result != case.x).expand_as(result)
        assert not moved[(mask == 0).expand_as(result)].any() and moved.any()


@pytest.mark.parametrize("norm", NORMS)
def test_each_sample_has_its_own_radius(dense_case, norm):
    case = dense_case(batch=3)
    eps = EPS[norm] * torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64).view(3, 1, 1, 1)
    result = run(case, "equal", case.threat(norm, eps), RunConfig(6))
    torch.testing.assert_close(sample_norm(result - case.x, norm), eps, rtol=1e-6, atol=0)
    for b in range(3):
        part = case[[b]]
        alone = run(part, "equal", part.threat(norm, eps[b].item()), RunConfig(6))
        torch.testing.assert_close(alone, result[[b]], rtol=0, atol=1e-9)


def test_each_pixel_has_its_own_radius(dense_case):
    case = dense_case(batch=2)
    eps = torch.rand((1, 3, 6, 7), dtype=torch.float64) * 0.2
    eps[..., :2] = 0
    result = run(case, "minmax", case.threat(math.inf, eps), RunConfig(6))
    assert ((result - case.x).abs() <= eps + 1e-15).all() and torch.equal(result[..., :2], case.x[..., :2])
    assert ((result - case.x).abs() >= eps * 0.99).double().mean() > 0.5


def test_a_generator_makes_starts_repeatable_and_leaves_the_global_one_alone(dense_case):
    case, before = dense_case(batch=2), torch.get_rng_state()
    threat = case.threat(math.inf, 0.1)
    a, b, c = (
        run(case, "equal", threat, RunConfig(2, start=1.0, generator=torch.Generator().manual_seed(s)))
        for s in (1, 1, 2)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.get_rng_state())
    run(case, "worst-task", threat, RunConfig(2))
    assert torch.equal(before, torch.get_rng_state())


def test_inputs_and_labels_are_left_alone(dense_case):
    case = dense_case(batch=2)
    x = case.x.clone()
    labels = [target.value.clone() for target in case.targets]
    run(case, "minmax", case.threat(math.inf, 0.1), RunConfig(3))
    assert torch.equal(x, case.x) and not case.x.requires_grad
    assert all(torch.equal(a, t.value) for a, t in zip(labels, case.targets, strict=True))


def test_parameters_get_no_gradient(dense_case):
    case = dense_case(batch=2, dtype=torch.float32)
    scale = torch.nn.Parameter(torch.ones(()))
    inner = case.forward
    case.forward = lambda x: [o * scale for o in inner(x)]
    run(case, "worst-task", case.threat(math.inf, 0.1), RunConfig(3))
    assert scale.grad is None


# --- trouble ---


class _Slope(torch.autograd.Function):
    """The identity, with ``value`` for its gradient where ``bad`` is true."""

    @staticmethod
    def forward(ctx, x, bad, value):
        ctx.save_for_backward(bad)
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        (bad,) = ctx.saved_tensors
        return torch.where(bad, torch.full_like(gradient, ctx.value), gradient), None, None


class GradientTrouble:
    """From its k-th call on, one sample's gradient is ``value`` in the upper rows."""

    def __init__(self, forward, sample, first, value, rows=3):
        self.inner, self.sample, self.first, self.value, self.rows, self.calls = forward, sample, first, value, rows, 0

    def __call__(self, x):
        self.calls += 1
        bad = torch.zeros_like(x, dtype=torch.bool)
        bad[self.sample, :, : self.rows] = self.calls > self.first
        return self.inner(_Slope.apply(x, bad, self.value))


class Trouble:
    """From its k-th call on, one sample's output is not finite."""

    def __init__(self, forward, sample, first, kind):
        self.inner, self.sample, self.first, self.kind, self.calls = forward, sample, first, kind, 0

    def __call__(self, x):
        self.calls += 1
        bad = (torch.arange(len(x)) == self.sample).view(-1, 1, 1, 1) & (self.calls > self.first)
        outputs = self.inner(x)
        value = float(self.kind)
        return [outputs[0], torch.where(bad, torch.full_like(outputs[1], value), outputs[1]), outputs[2]]


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("name", [n for n in PER_SAMPLE if n != "single:depth"])
def test_a_sample_that_is_not_finite_ends_at_its_last_good_iterate(dense_case, name, first, kind):
    case, plan, seen = dense_case(batch=3, dtype=torch.float32), RunConfig(5), []
    threat, method = case.threat(math.inf, 0.1), per_sample(name, case, keep="last")
    healthy = run(case, method, threat, plan, observer=seen.append)
    case.forward = Trouble(case.forward, sample=1, first=first, kind=kind)
    log = RunLog()
    result = run(case, method, threat, plan, first_index=10, log=log)
    assert log == RunLog(stopped={11}, still={11} & log.still)
    assert torch.equal(result[[0, 2]], healthy[[0, 2]])
    good = first - 1
    assert torch.equal(result[1], seen[good].inputs[1] if good >= 0 else case.x[1])


@pytest.mark.parametrize("kind", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", [n for n in PER_SAMPLE if n != "single:depth"])
def test_entries_of_a_gradient_that_are_not_finite_are_0_and_the_sample_goes_on(dense_case, name, kind):
    """As if the true gradient were 0 there: bit by bit the attack of a network with that slope."""
    case, plan, seen = dense_case(batch=3, dtype=torch.float32), RunConfig(5), []
    threat, method = case.threat(math.inf, 0.1), per_sample(name, case, keep="last")
    inner, results, logs = case.forward, [], []
    for value in (kind, "0"):
        case.forward, log = GradientTrouble(inner, sample=1, first=2, value=float(value)), RunLog()
        results.append(run(case, method, threat, plan, first_index=10, observer=seen.append, log=log))
        logs.append(log)
    assert logs == [RunLog(zeroed={11}), RunLog()]
    assert torch.equal(*results) and all(torch.isfinite(record.gradient).all() for record in seen)
    top, rest = seen[3].gradient[1, :, :3], seen[3].gradient[1, :, 3:]
    assert not top.any() and rest.any(), "the entries that are finite still count"


def test_a_gradient_without_any_finite_entry_moves_nothing(dense_case):
    case = dense_case(batch=3, dtype=torch.float32)
    threat, method = case.threat(math.inf, 0.1), per_sample("equal", case, keep="last")
    healthy = run(case, method, threat, RunConfig(4))
    case.forward, log = GradientTrouble(case.forward, 1, 0, float("nan"), rows=6), RunLog()
    result = run(case, method, threat, RunConfig(4), log=log)
    assert torch.equal(result[1], case.x[1]) and torch.equal(result[[0, 2]], healthy[[0, 2]])
    assert log == RunLog(zeroed={1}, still={1})


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("norm", NORMS)
def test_with_shared_weights_the_others_stay_finite_and_feasible(dense_case, name, norm):
    case, seen = dense_case(batch=3, dtype=torch.float32), []
    case.forward = Trouble(case.forward, sample=1, first=1, kind="nan")
    log = RunLog()
    result = run(case, name, case.threat(norm, EPS[norm]), RunConfig(4), observer=seen.append, log=log)
    assert log.stopped == {1}
    assert torch.isfinite(result).all() and (result >= 0).all() and (result <= 1).all()
    assert all(torch.isfinite(record.weights[[0, 2]]).all() for record in seen)
    assert not torch.equal(result[0], case.x[0])


def test_best_iterates_and_restarts_pass_over_what_is_not_finite(dense_case):
    for knobs, plan in [({"keep": "best"}, {}), ({}, {"start": 1.0, "restarts": 2})]:
        case = dense_case(batch=3, dtype=torch.float32)
        case.forward = Trouble(case.forward, sample=1, first=2, kind="nan")
        method = make_method("equal", case.tasks, **knobs)
        log = RunLog()
        result = run(case, method, case.threat(math.inf, 0.1), RunConfig(4, **plan), log=log)
        assert log.stopped == {1}
        assert torch.isfinite(result).all()


def test_outputs_that_do_not_depend_on_the_inputs_are_an_error(dense_case):
    case = dense_case(batch=2)
    fixed = [o.detach() for o in case.forward(case.x)]
    case.forward = lambda x: fixed
    with pytest.raises(ValueError, match="do not depend on its inputs"):
        run(case, "equal", case.threat(math.inf, 0.1), RunConfig(2))


def test_outputs_that_do_not_fit_the_labels_name_the_task(dense_case):
    case = dense_case(batch=2)
    inner = case.forward
    case.forward = lambda x: [o[..., :-1] if i == 1 else o for i, o in enumerate(inner(x))]
    with pytest.raises(ValueError, match="task 'depth' should have shape"):
        run(case, "equal", case.threat(math.inf, 0.1), RunConfig(2))


@pytest.mark.parametrize("name", ALL)
def test_perfect_outputs_are_attacked_from_a_nudge(dense_case, name):
    """Labels that are the model's own outputs: losses and degradations start at 0, gradients of errors too."""
    case, seen = dense_case(batch=3, dtype=torch.float32), []
    clean = case.forward(case.x)
    case.targets = [t.targets(t.decode(o)) for t, o in zip(case.tasks, clean, strict=True)]
    plan = RunConfig(8, start=0.01, generator=torch.Generator().manual_seed(0))
    run(case, name, case.threat(math.inf, 0.1), plan, observer=seen.append)
    attacked = [1] if name == "single:depth" else [0, 1, 2]
    assert all(torch.isfinite(record.weights).all() and torch.isfinite(record.losses).all() for record in seen)
    assert (seen[-1].losses.mean(0)[attacked] > 2 * seen[0].losses.mean(0)[attacked].clamp(min=1e-3)).all()


@pytest.mark.parametrize("scope", ["sample", "dataset"])
def test_perfect_normals_alone_leave_the_clean_point(dense_case, scope):
    """The differentiable angle must have a slope where the outputs are right but for a nudge."""
    case, seen = dense_case(batch=3, dtype=torch.float32).only([2]), []
    case.targets = [case.tasks[0].targets(case.forward(case.x)[0])]
    plan = RunConfig(8, start=0.01, generator=torch.Generator().manual_seed(0))
    method = make_method("worst-task", case.tasks, weight_scope=scope)
    result = run(case, method, case.threat(math.inf, 0.1), plan, observer=seen.append)
    after = case.tasks[0].score(case.forward(result)[0], case.targets[0])
    assert (after > 5).all()


def test_every_name_runs_on_single_label_tasks():
    """Classification, multi-label and regression heads, one without label on sample 0."""
    weight = torch.randn(9, 6)

    def forward(x):
        out = torch.tanh(x) @ weight.T
        return [out[:, :4], out[:, 4:7], out[:, 7:]]

    task_list = [tasks.classification("kind", 4), tasks.multilabel("tags", 3), tasks.regression("age")]
    x = torch.rand(5, 6)
    outputs = forward(x)
    targets = [
        task_list[0].targets(outputs[0], torch.tensor([False, True, True, True, True]).numpy()),
        task_list[1].targets(outputs[1]),
        task_list[2].targets(outputs[2] + 0.1),
    ]
    threat = ThreatModel(math.inf, torch.tensor([[0.3]]), (torch.zeros(1, 1), torch.ones(1, 1)))
    for name in method_names(task_list):
        seen = []
        attack(forward, x, task_list, targets, make_method(name, task_list), threat, RunConfig(6), observer=seen.append)
        assert (seen[-1].losses.sum(0) > seen[0].losses.sum(0)).any()
        assert torch.isfinite(seen[-1].weights).all() and seen[-1].weights[0, 0] == 0
