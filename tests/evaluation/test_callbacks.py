"""Who hears of a run, of what, when, and what becomes of the run if a callback fails."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from art_mtl import attacks, tasks
from art_mtl import torchattacks as with_torchattacks
from art_mtl.evaluation import Callback, Run, evaluate, execution
from art_mtl.evaluation.callbacks import CallbackList
from art_mtl.evaluation.job import Job
from art_mtl.evaluation.units import CLEAN

JOBS = [tasks.classification("kind", 3), tasks.regression("ink")]
N, STEPS = 12, 3


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(12, 4)

    def forward(self, x):
        found = self.layer(x.flatten(1))
        return {"kind": 4 * found[:, :3], "ink": found[:, 3]}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def data(net):
    x = np.random.default_rng(0).uniform(size=(N, 3, 2, 2)).astype(np.float32)
    found = net(torch.from_numpy(x))
    return x, {"kind": found["kind"].argmax(1).numpy(), "ink": found["ink"].detach().numpy() + 0.3}


@pytest.fixture
def run(net, data):
    def run(given=("equal", "minmax"), **settings):
        own = {"eps": [0.1], "steps": STEPS, "chunk": 8, "batch_size": 4, "progress": False, "device": "cpu"}
        return evaluate((net, JOBS), given, data, **{**own, **settings})

    return run


def figures(found):
    return [replace(attack, seconds=0.0) for attack in found.results.attacks]


class Log(Callback):
    """Everything that it hears, in order."""

    def __init__(self):
        self.heard = []

    def on_begin(self, plan):
        self.heard.append(("begin", plan))

    def on_step(self, attack, chunk, record):
        self.heard.append(("step", (attack.name, chunk, record)))

    def on_unit(self, report):
        self.heard.append(("unit", report))

    def on_attack(self, result, examples):
        self.heard.append(("attack", (result, examples)))

    def on_end(self, run):
        self.heard.append(("end", run))

    def on_exception(self, error):
        self.heard.append(("exception", error))

    def of(self, hook):
        return [what for name, what in self.heard if name == hook]


def test_the_plan_says_what_will_be_done(run):
    log = Log()
    found = run(callbacks=log)
    (plan,) = log.of("begin")
    assert plan.experiment == found.experiment and plan.tasks == ("kind", "ink") and plan.samples == N
    assert [info.label for info in plan.attacks] == ["equal, linf 0.1", "minmax, linf 0.1"]
    assert (plan.done, plan.total) == (0, 4)
    assert log.heard[0][0] == "begin" and log.heard[-1] == ("end", found)


def test_every_step_of_attacks_that_are_named_is_heard_while_they_run(run):
    log = Log()
    found = run(callbacks=log)
    steps = log.of("step")
    # Chunks of 8 and 4 samples in batches of 4: two and one.
    assert [(name, chunk, record.step) for name, chunk, record in steps] == [
        (name, chunk, step)
        for chunk, batches in ((0, 2), (1, 1))
        for name in ("equal", "minmax")
        for _ in range(batches)
        for step in range(STEPS)
    ]
    for name in ("equal", "minmax"):
        mine = [record for other, _, record in steps if other == name]
        means = [torch.cat([r.weights for r in mine if r.step == t]).mean(0) for t in range(STEPS)]
        np.testing.assert_allclose(found[name].weights, torch.stack(means), rtol=1e-6)
        assert all(r.losses.shape == r.weights.shape == (4, 2) for r in mine)
    # It is live: the steps of a unit come before the unit.
    order = [name for name, _ in log.heard if name in ("step", "unit")]
    assert [len(list(group)) for name, group in itertools.groupby(order) if name == "step"] == [6, 6, 3, 3]


def test_an_attack_is_heard_of_as_soon_as_it_has_finished(run):
    log = Log()
    found = run(callbacks=log, chunk=N, keep_adversarial=True)
    hooks = [name for name, _ in log.heard if name != "step"]
    assert hooks == ["begin", "unit", "unit", "attack", "unit", "attack", "end"]
    (first, examples), (second, _) = log.of("attack")
    assert [first, second] == list(found)
    np.testing.assert_array_equal(examples.inputs, found.adversarial("equal")[list(examples.samples)])


def test_a_run_that_goes_on_tells_first_of_what_had_finished(run, tmp_path):
    class Stop(Callback):
        def on_unit(self, report):
            if report.done == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="goes on from there"):
        run(callbacks=Stop(), out=tmp_path)
    log = Log()
    found = run(callbacks=log, out=tmp_path)
    (plan,) = log.of("begin")
    assert (plan.done, plan.total) == (3, 4)
    assert [name for name, _ in log.heard if name != "step"] == ["begin", "attack", "unit", "attack", "end"]
    assert {name for name, _, _ in log.of("step")} == {"minmax"}
    assert figures(found) == figures(run())


def test_members_of_ensembles_say_their_names(run):
    log = Log()
    found = run(["auto-attack-fast"], callbacks=log)
    names = {record.member for _, _, record in log.of("step")}
    assert {"worst-task", "auto:worst-task", "auto:single:kind"} <= names and None not in names
    assert found["auto-attack-fast"].weights is None, "step t of one member is not step t of another"


def test_so_do_members_of_torchattacks_ensembles(net, run):
    members = [with_torchattacks.MultiTaskPGD(net, JOBS, name, eps=0.1, steps=2) for name in ("equal", "minmax")]
    own, log = [], Log()
    members[0].observer = own.append
    both = with_torchattacks.MultiAttack(members)
    run([both], callbacks=log)
    steps = log.of("step")
    assert {record.member for _, _, record in steps} == {"equal", "minmax"}
    assert len(own) == len(steps) / 2 and all(record.member is None for record in own)
    assert members[0].observer == own.append and members[1].observer is None and both.observer is None


def test_steps_of_a_universal_perturbation_are_counted_over_all_batches(run, data):
    estimator = run(["equal"])._live.setup.subject.estimator
    universal = attacks.UniversalMultiTaskPGD(estimator, "equal", eps=0.1, max_iter=2, batch_size=4, verbose=False)
    log = Log()
    run([universal], callbacks=log, chunk=N)
    assert [record.step for _, _, record in log.of("step")] == list(range(2 * 3))


HOOKS = ["on_begin", "on_step", "on_unit", "on_attack", "on_end"]


def failing(hook, errors="raise"):
    """A callback that fails in a hook, and counts its calls."""
    calls = []

    def fail(self, *_):
        calls.append(hook)
        raise ArithmeticError("no.")

    callback = type("Bad", (Log,), {hook: fail, "errors": errors})()
    callback.calls = calls
    return callback


@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_fails_ends_the_run_and_what_is_stored_stays(run, hook, tmp_path):
    bad, other = failing(hook), Log()
    with pytest.raises(
        RuntimeError, match=rf"Bad should raise no exception. Found ArithmeticError in {hook}: no\. What"
    ):
        run(callbacks=[other, bad], out=tmp_path)
    assert len(bad.calls) == 1
    for one in (bad, other):
        (error,) = one.of("exception")
        assert isinstance(error.__cause__, ArithmeticError)
    finished = {"on_begin": 0, "on_step": 0, "on_unit": 0, "on_attack": 3, "on_end": 4}[hook]
    assert Run.read(tmp_path).done == finished
    log = Log()
    found = run(callbacks=log, out=tmp_path)
    assert sum(report.attack is not None for report in log.of("unit")) == 4 - finished
    assert figures(found) == figures(run())


@pytest.mark.parametrize("hook", HOOKS)
def test_or_the_run_goes_on_without_it(run, hook):
    expected = figures(run())
    bad, other = failing(hook, errors="warn"), Log()
    with pytest.warns(RuntimeWarning, match=rf"ArithmeticError in {hook}: no\. The run goes on without it") as caught:
        found = run(callbacks=[bad, other])
    assert len(caught) == 1 and len(bad.calls) == 1, "it is called no more"
    assert figures(found) == expected and all(not attack.warnings for attack in found)
    assert [type(error) for error in bad.of("exception")] == [ArithmeticError]
    assert other.heard[-1] == ("end", found) and not other.of("exception")


def test_what_a_callback_warns_of_at_a_step_is_not_the_attack_s(run):
    class Warns(Callback):
        def on_step(self, attack, chunk, record):
            warnings.warn("hot", UserWarning, stacklevel=1)

    expected = figures(run())
    with pytest.warns(UserWarning, match="hot") as caught:
        found = run(callbacks=Warns())
    assert len(caught) == 4, "once a unit"
    assert figures(found) == expected


def test_callbacks_hear_how_a_run_ends(run, data):
    class Broken:
        def generate(self, x, y):
            raise LookupError("mine")

    log, bad = Log(), failing("on_exception")
    with (
        pytest.warns(RuntimeWarning, match="ArithmeticError in on_exception: no"),
        pytest.raises(LookupError, match="mine"),
    ):
        run([Broken()], callbacks=[bad, log])
    assert [str(error) for error in log.of("exception")] == ["mine"]
    unheard = Log()
    with pytest.raises(ValueError, match="no-such-attack"):
        run(["no-such-attack"], callbacks=unheard)
    assert unheard.heard == [], "the run had not begun"


@pytest.mark.parametrize(
    "callbacks, error, message",
    [
        ([Log], TypeError, "should hold objects of Callback. Found the class Log"),
        ([print], TypeError, "should hold objects of Callback. Found builtin_function_or_method"),
        (3, TypeError, "should hold objects of Callback. Found int"),
        ([type("Odd", (Callback,), {"losses_every": -1})()], ValueError, "`losses_every` should be .* Found -1"),
        ([type("Odd", (Callback,), {"errors": "ignore"})()], ValueError, "`errors` should be .* Found 'ignore'"),
    ],
)
def test_what_is_no_callback_is_refused_before_any_work(callbacks, error, message):
    with pytest.raises(error, match=message):
        evaluate("no such victim", callbacks=callbacks)


def test_losses_are_computed_as_often_as_all_together_need():
    def every(n):
        return type("Every", (Callback,), {"losses_every": n})()

    assert CallbackList([every(4), every(6), every(0)]).losses_every == 2
    assert CallbackList().losses_every == CallbackList(every(0)).losses_every == 0
    assert not CallbackList(every(1)).hears_steps and CallbackList([every(1), Log()]).hears_steps


def test_the_progress_bar_counts_attacks_and_its_clock_begins_with_them(run, monkeypatch, tmp_path):
    """A clean chunk takes 1000 seconds here, an attack on it 1: the pace is 1 unit a second, from first to last."""
    now, bars = [0.0], []
    compute = Job.compute

    def slow(self, unit, *others):
        now[0] += 1000 if unit.attack == CLEAN else 1
        return compute(self, unit, *others)

    class Bar(tqdm):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            bars.append(self)

        def update(self, n=1):
            super().update(n)
            shown = self.format_dict
            self.seen = [*getattr(self, "seen", []), (shown["n"], shown["total"], shown["elapsed"])]

    monkeypatch.setattr(Job, "compute", slow)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(execution, "tqdm", Bar)
    run(progress=True)
    assert bars[0].seen == [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4)] and bars[0].smoothing == 0
