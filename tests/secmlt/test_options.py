"""Options: checked, the same when set later, named where they are unknown; and the host that is not installed."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import art_mtl

pytest.importorskip("secmlt")
from secmlt.adv.evasion.pgd import PGDNative
from secmlt.trackers.trackers import LossTracker, PredictionTracker, ScoresTracker

from art_mtl import secmlt
from art_mtl.secmlt import MinMaxMultiTaskPGD, MultiTaskAutoPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.secmlt.options import OPTIONS

KINDS = {"MultiTaskPGD": {}, "MinMaxMultiTaskPGD": {}, "WorstTaskPGD": {}, "MultiTaskAutoPGD": {},
         "StealthyMultiTaskPGD": {"attacked": ["k"]}}  # fmt: skip
SETTINGS = {"method": "minmax", "epsilon": 0.1, "num_steps": 5}


def make(kind, jobs, **options):
    return getattr(secmlt, kind)(jobs, **{**KINDS[kind], **options})


def inputs(loader):
    return torch.cat([x for x, _ in loader])


def test_the_names_and_their_order_are_those_of_the_host():
    theirs = list(inspect.signature(PGDNative).parameters)[:-1]
    ours = list(inspect.signature(MultiTaskPGD).parameters)
    assert ours[0] == "tasks" and ours[1 : len(theirs) + 1] == theirs
    defaults = inspect.signature(PGDNative).parameters
    for name in ("y_target", "lb", "ub", "trackers"):
        assert MultiTaskPGD.options[name].default == defaults[name].default


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_show_every_option(kind):
    known = getattr(secmlt, kind)
    shown = inspect.signature(known).parameters
    assert set(known.options) < set(shown) and all(f"\n        {name}" in known.__doc__ for name in known.options)
    assert set(known.decided).isdisjoint(shown) and "\n        tasks:" in known.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_what_the_class_of_the_same_name_for_art_takes(kind):
    from art_mtl import attacks

    shared = set(OPTIONS) & set(attacks.MultiTaskPGD.option_table)
    ours = set(getattr(secmlt, kind).options) & shared
    theirs = set(getattr(attacks, kind).options) & shared
    assert ours - theirs <= {"l1_step", "penalty", "weight_step", "gamma"} and theirs <= ours


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": 0.2}, {"num_steps": 2}, {"step_size": 0.003}, {"perturbation_model": "l2"}, {"gamma": 0.01},
        {"schedule": "linear"}, {"objective": "log"}, {"weighting": [0.0, 1.0]}, {"weight_scope": "batch"},
        {"method": "worst-task"}, {"decay": 0.9}, {"y_target": {"k": 1, "v": 0.0}}, {"lb": 0.2, "ub": 0.8},
        {"keep": "best"}, {"random_start": True, "seed": 3},
    ],
    ids=str,
)  # fmt: skip
def test_an_attribute_that_is_set_later_is_the_same_as_one_that_was_given(net, jobs, data, change):
    x, y = data
    batches = [(0.2 + 0.6 * x, y)]
    later, given = MultiTaskPGD(jobs, **SETTINGS), MultiTaskPGD(jobs, **{**SETTINGS, **change})
    before = inputs(later(net, batches))
    for name, value in change.items():
        setattr(later, name, value)
    assert repr(later) == repr(given) and later.name == given.name
    found = inputs(later(net, batches))
    assert torch.equal(found, inputs(given(net, batches)))
    assert "keep" in change or not torch.equal(found, before)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("perturbation_model", "l0", ValueError),
        ("epsilon", 0, ValueError),
        ("epsilon", "8/255", TypeError),
        ("num_steps", 0, ValueError),
        ("num_steps", 2.5, TypeError),
        ("step_size", -0.1, ValueError),
        ("random_start", 1, TypeError),
        ("lb", "0", TypeError),
        ("ub", float("inf"), ValueError),
        ("trackers", LossTracker, TypeError),
        ("trackers", [LossTracker(), 1], TypeError),
        ("keep", "nonsense", ValueError),
        ("gamma", -1.0, ValueError),
        ("seed", -1, ValueError),
        ("prepare", "int8", ValueError),
    ],
)
def test_what_the_constructor_refuses_is_refused_later_too(jobs, name, value, error):
    with pytest.raises(error, match=f"`{name}` should .*Found|`{name}`"):
        MultiTaskPGD(jobs, **{**SETTINGS, name: value})
    attack = MultiTaskPGD(jobs, **SETTINGS)
    before = getattr(attack, name)
    with pytest.raises(error, match=f"`{name}`"):
        setattr(attack, name, value)
    assert getattr(attack, name) is before


def test_options_that_do_not_go_together_are_refused(net, jobs, loader):
    with pytest.raises(ValueError, match="`lb` and `ub` should be a smaller and a larger value. Found"):
        MultiTaskPGD(jobs, lb=1.0, ub=0.0)
    with pytest.raises(ValueError, match="'auto' has a step size of its own; leave `step_size` out"):
        MultiTaskPGD(jobs, schedule="auto", step_size=0.1)
    attack = MultiTaskPGD(jobs, **SETTINGS)
    before = repr(attack)
    with pytest.raises(ValueError, match="`lb` and `ub`"):
        attack.set_params(num_steps=7, lb=2.0)
    assert repr(attack) == before
    attack.lb = 2.0
    with pytest.raises(ValueError, match="`lb` and `ub`"):
        attack(net, loader)
    with pytest.raises(ValueError, match="should say which tasks to degrade, by `attacked`"):
        secmlt.StealthyMultiTaskPGD(jobs)


@pytest.mark.parametrize("tracker", [ScoresTracker, PredictionTracker])
def test_a_tracker_of_the_scores_of_one_task_is_refused_beside_several(jobs, tracker):
    with pytest.raises(ValueError, match=f"`trackers` should hold none that is for one task. Found {tracker.__name__}"):
        MultiTaskPGD(jobs, trackers=[LossTracker(), tracker()])
    MultiTaskPGD(jobs[:1], trackers=tracker())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("eps", "`epsilon`"),
        ("steps", "`num_steps`"),
        ("bounds", "`lb` and `ub`"),
        ("step_sise", "step_size"),
        ("foo", None),
    ],
)
def test_unknown_options_name_the_class_and_what_replaces_them(kind, name, meant, jobs):
    if (kind, name) == ("MultiTaskAutoPGD", "step_sise"):  # It has no step size to mean.
        meant = None
    with pytest.raises(TypeError) as caught:
        make(kind, jobs, **{name: 0.1})
    said = str(caught.value)
    assert said.startswith(f"{kind} has no option `{name}`.") and (meant is None or f"Perhaps {meant}?" in said)


@pytest.mark.parametrize(
    ("kind", "name", "takers"),
    [
        (WorstTaskPGD, "method", ["MultiTaskPGD", "MultiTaskAutoPGD"]),
        (WorstTaskPGD, "attacked", ["MultiTaskPGD", "MultiTaskAutoPGD", "StealthyMultiTaskPGD"]),
        (MultiTaskPGD, "variant", ["MinMaxMultiTaskPGD"]),
        (MultiTaskAutoPGD, "step_size", ["MultiTaskPGD", "MinMaxMultiTaskPGD", "WorstTaskPGD", "StealthyMultiTaskPGD"]),
    ],
)
def test_what_a_class_decides_names_those_that_take_it(kind, name, takers, jobs):
    message = f"{kind.__name__} decides `{name}` or has no use for it. Those that take it: "
    with pytest.raises(TypeError, match=message) as caught:
        kind(jobs, **{name: "k"})
    assert set(str(caught.value).split("take it: ")[1].rstrip(".").split(", ")) == set(takers)
    with pytest.raises(AttributeError, match=message):
        setattr(kind(jobs), name, "k")


def test_defaults_of_a_preset_are_shown_as_such(jobs):
    assert MultiTaskAutoPGD.options["num_steps"].default == 100 and MultiTaskPGD.options["num_steps"].default == 10
    attack = MultiTaskAutoPGD(jobs)
    assert (attack.method, attack.num_steps, attack.schedule) == ("worst-task", 100, "auto")
    assert MinMaxMultiTaskPGD(jobs, variant="official").name == "minmax-official"


def test_inputs_outside_the_box_are_an_error_with_the_hosts_words(net, jobs, data):
    x, y = data
    with pytest.raises(ValueError, match=r"`samples` should lie within `lb` and `ub`, \[0, 0.5\]"):
        MultiTaskPGD(jobs, ub=0.5)(net, [(x, y)])
    with pytest.warns(RuntimeWarning, match="`epsilon` is 8, more than the width 1 .* Did you mean 8/255?"):
        MultiTaskPGD(jobs, epsilon=8)


def test_a_model_of_another_kind_is_refused(jobs, loader):
    with pytest.raises(TypeError, match="Unsupported model type"):
        MultiTaskPGD(jobs)("net", loader)


def test_without_the_host_the_message_says_what_to_install():
    code = "import sys\nsys.modules['secmlt'] = None\nimport art_mtl.secmlt"
    root = Path(art_mtl.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    last = ran.stderr.strip().splitlines()[-1]
    assert last == "ImportError: art_mtl.secmlt needs secml-torch. Install it with: pip install '.[secmlt]'"


def test_an_option_that_is_changed_in_place_is_checked_at_the_next_call(net, jobs, loader):
    epsilon = torch.full((1, 1, 1, 1), 0.1)
    attack = WorstTaskPGD(jobs, epsilon=epsilon, num_steps=2)
    epsilon.fill_(-0.1)
    with pytest.raises(ValueError, match="`epsilon` should be positive and finite"):
        attack(net, loader)


def test_a_loader_of_arrays_is_named(net, jobs, data):
    x, y = data
    with pytest.raises(TypeError, match="`samples` should be a torch.Tensor. Found ndarray"):
        list(MultiTaskPGD(jobs)(net, [(x.numpy(), y)], stream=True))


def test_one_task_is_attacked_by_its_name(jobs):
    attack = secmlt.StealthyMultiTaskPGD(jobs, attacked="k")
    assert attack.name == secmlt.StealthyMultiTaskPGD(jobs, attacked=["k"]).name == "stealthy:k"
    attack.attacked = "v"
    assert attack.name == "stealthy:v" and MultiTaskPGD(jobs, method="smta", attacked="v").name == "smta:v"


def test_tasks_that_are_no_list_are_told_so():
    with pytest.raises(TypeError, match="`tasks` should be a list of art_mtl.Task objects. Found int"):
        WorstTaskPGD(5)


def test_a_method_is_checked_where_it_is_set(jobs):
    attack = MultiTaskPGD(jobs)
    with pytest.raises(ValueError, match="Perhaps 'worst-task'?"):
        attack.method = "worst-tsk"
    assert attack.method == "equal"
