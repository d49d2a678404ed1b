"""Options: the same when given or set later, refused where they have no effect, named where they are unknown."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

KINDS = {
    "MultiTaskPGD": ((), {}),
    "MinMaxMultiTaskPGD": ((), {}),
    "WorstTaskPGD": ((), {}),
    "MultiTaskAutoPGD": ((), {}),
    "MultiTaskAutoAttack": ((), {"version": "fast"}),
    "StealthyMultiTaskPGD": (("k",), {}),
    "UniversalMultiTaskPGD": ((), {}),
    "MultiTaskPatch": ((), {"size": (2, 2)}),
}
"""Every class of both hosts, and what it cannot be made without."""


def make_minmax(front, net, jobs, **options):
    return front.make("MultiTaskPGD", net, jobs, **{"method": "minmax", "eps": 0.1, "steps": 5, **options})


# --- set later ---

CHANGES = [
    {"eps": 0.2},
    {"steps": 2},
    {"step_size": 0.003},
    {"norm": 2},
    {"gamma": 0.01},
    {"weight_step": 5.0},
    {"schedule": "linear"},
    {"objective": "log"},
    {"weighting": "uniform"},
    {"weighting": [0.0, 1.0]},
    {"weight_scope": "batch"},
    {"method": "worst-task"},
    {"decay": 0.9},
    {"keep": "best"},
    {"seed": 3},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change}")
def test_an_attribute_that_is_set_later_is_the_same_as_one_that_was_given(front, net, jobs, data, change):
    later, given = make_minmax(front, net, jobs), make_minmax(front, net, jobs, **change)
    before = front.run(later, *data)
    for name, value in front.options(**change).items():
        setattr(later, name, value)
    assert repr(later) == repr(given) and later.name == given.name
    found = front.run(later, *data)
    assert torch.equal(found, front.run(given, *data))
    if not {"keep", "seed"} & {*change}:
        assert not torch.equal(found, before)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("keep", "nonsense", ValueError),
        ("gamma", -1.0, ValueError),
        ("gamma", "1", TypeError),
        ("eps", 0, ValueError),
        ("step_size", -0.1, ValueError),
        ("steps", 0, ValueError),
        ("steps", 2.5, TypeError),
        ("norm", 3, ValueError),
        ("schedule", "exponential", ValueError),
        ("weighting", {"k": 1.0}, TypeError),
        ("seed", -1, ValueError),
        ("prepare", "int8", ValueError),
    ],
)
def test_what_the_constructor_refuses_is_refused_later_too(front, net, jobs, data, name, value, error):
    attack = make_minmax(front, net, jobs)
    named = front.words.get(name, name)
    before = getattr(attack, named)
    with pytest.raises(error, match=f"`{named}`"):
        setattr(attack, named, value)
    assert getattr(attack, named) is before
    with pytest.raises(error, match=f"`{named}`"):
        make_minmax(front, net, jobs, **{name: value})
    assert torch.equal(front.run(attack, *data), front.run(make_minmax(front, net, jobs), *data))


WRONG_TYPES = {
    "norm": [[2], None], "seed": [1.5, "a", True], "weight_group": [2.5, "x", True], "batch_size": [2.5, True],
    "size": [2, (2.5, 3), "ab"], "location": [1.0], "keep": [1], "schedule": [3], "objective": [3], "weight_scope": [1],
    "projection": [2], "l1_step": [1], "version": [1, None], "selection": [1], "variant": [1], "shared": [1, "yes"],
    "ignore_patch": [None], "random_start": [1], "random_eps": ["yes"], "prepare": [8], "steps": [1.5, None],
    "restarts": ["2"], "gamma": ["1"], "weight_step": [[1]], "decay": ["1"], "tolerance": ["1"], "bounds": [1, "01"],
    "eps": ["1", None], "step_size": ["1"], "transforms": [3], "attacked": [3], "preserved": [{"k"}], "method": [5],
    "weighting": [3],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_type_is_a_type_error(front, net, jobs, kind):
    """But for what ART raises; see tests/attacks/test_art_rules.py."""
    arguments, extra = KINDS[kind]
    attack = front.make(kind, net, jobs, *arguments, **extra)
    before, tried = repr(attack), 0
    for name, values in WRONG_TYPES.items():
        named = front.words.get(name, name)
        for value in values if named in attack.options else []:
            tried += 1
            with pytest.raises(TypeError, match=f"`{named}` should be"):
                attack.set_params(**{named: value})
    assert repr(attack) == before and tried >= 8


@pytest.mark.parametrize(
    ("weights", "error", "found"),
    [
        (np.array(1.0), TypeError, r"list of one weight for each task. Found shape \(\)"),
        (torch.tensor(1.0), TypeError, r"Found shape \(\)"),
        (np.ones((2, 1)), TypeError, r"Found shape \(2, 1\)"),
        (1.0, TypeError, "Found float"),
        ([1, "a"], TypeError, r"Found \[1, 'a'\]"),
        ([1, None], TypeError, r"Found \[1, None\]"),
        ([[1, 2]], TypeError, r"Found \[\[1, 2\]\]"),
        ([1, float("nan")], ValueError, r"weights ≥ 0, not all 0. Found \(1.0, nan\)"),
        ([], ValueError, "not all 0"),
        (torch.tensor([1.0, -2.0], requires_grad=True), ValueError, "not all 0"),
    ],
)
def test_weights_that_are_none_are_told_so(front, net, jobs, weights, error, found):
    with pytest.raises(error, match=f"`weighting` should be .*{found}"):
        front.make("MultiTaskPGD", net, jobs, weighting=weights)
    attack = front.make("MultiTaskPGD", net, jobs)
    with pytest.raises(error, match=f"`weighting` should be .*{found}"):
        attack.weighting = weights


@pytest.mark.parametrize(
    "weights",
    [
        (1, 2),
        np.array([1, 2]),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0, 2.0], requires_grad=True),
        [torch.tensor(1.0, requires_grad=True), np.float32(2)],
    ],
    ids=repr,
)
def test_weights_may_be_an_array_or_a_tensor_with_a_graph(front, net, jobs, data, weights):
    made = front.make("MultiTaskPGD", net, jobs, weighting=weights, steps=2)
    assert made.name == "equal(weighting=[1,2])"
    expected = front.attack("MultiTaskPGD", net, jobs, *data, weighting=[1.0, 2.0], steps=2)
    assert torch.equal(front.run(made, *data), expected)


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("worst-tsk", ValueError, "`method` should be one of .* Perhaps 'worst-task'?"),
        (5, TypeError, "`method` should be a name"),
        ("single:nope", ValueError, "'single:nope' should name one of the tasks"),
        ("stealthy:nope", ValueError, "`attacked` should name tasks"),
        ("jd:nope", ValueError, "'jd:nope' should be one of"),
    ],
)
def test_a_method_is_checked_where_it_is_set(front, net, jobs, method, error, message):
    attack = make_minmax(front, net, jobs)
    for attempt in (
        lambda: setattr(attack, "method", method),
        lambda: attack.set_params(method=method),
        lambda: make_minmax(front, net, jobs, method=method),
    ):
        with pytest.raises(error, match=message):
            attempt()
    assert attack.method == "minmax"
    attack.method = "stealthy"  # One assignment may be the first of two.
    attack.attacked = "k"
    assert attack.name == "stealthy:k"


@pytest.mark.parametrize("wrong", [5, None, 1.5])
def test_tasks_that_are_no_list_are_told_so(for_torchattacks, net, wrong):
    with pytest.raises(TypeError, match=f"`tasks` should be a list of art_mtl.Task .* Found {type(wrong).__name__}"):
        for_torchattacks.module.WorstTaskPGD(net, wrong)


@pytest.mark.parametrize("kind", ["WorstTaskPGD", "MultiTaskPatch"])
def test_bounds_of_shapes_that_do_not_go_together_are_told_so(for_torchattacks, net, jobs, kind):
    extra = KINDS[kind][1]
    with pytest.raises(ValueError, match=r"`bounds` .* Found shapes \(3, 1, 1\) and \(2, 1, 1\)"):
        for_torchattacks.make(kind, net, jobs, bounds=(torch.zeros(3, 1, 1), torch.ones(2, 1, 1)), **extra)


def test_several_options_are_set_all_together_or_not_at_all(front, net, jobs):
    attack = make_minmax(front, net, jobs)
    before = repr(attack)
    with pytest.raises(ValueError, match="`gamma`"):
        attack.set_params(**front.options(steps=7, keep="best", gamma=-1.0))
    assert repr(attack) == before
    step = front.words["step_size"]
    with pytest.raises(ValueError, match=f"'auto' has a step size of its own; leave `{step}` out"):
        attack.set_params(**front.options(steps=7, schedule="auto", step_size=0.01))
    assert repr(attack) == before
    attack.set_params(**front.options(steps=7, schedule="auto"))
    assert attack.schedule == "auto" and "=7" in repr(attack)
    with pytest.raises(ValueError, match="has no option `note`"):
        attack.set_params(note=1)


@pytest.mark.parametrize("error", [ImportError, RuntimeError, KeyboardInterrupt])
def test_nothing_is_set_where_another_error_ends_it(front, net, jobs, data, monkeypatch, error):
    """A method whose package is missing, for one."""

    def fail(self):
        raise error("no such package")

    attack = make_minmax(front, net, jobs)
    before, expected = repr(attack), front.run(attack, *data)
    with monkeypatch.context() as patched:
        patched.setattr("art_mtl.core.aggregators.TorchJD.make", fail)
        with pytest.raises(error, match="no such package"):
            attack.set_params(eps=0.2, method="jd:mgda")
    assert repr(attack) == before and attack.method == "minmax" and torch.equal(front.run(attack, *data), expected)


def test_options_that_stop_to_go_together_are_refused_at_the_call(front, net, jobs, data):
    attack = make_minmax(front, net, jobs, step_size=0.01)
    attack.schedule = "auto"
    with pytest.raises(ValueError, match="'auto' has a step size of its own"):
        front.run(attack, *data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_repr_has_what_differs_from_the_defaults(front, net, jobs, kind):
    arguments, extra = KINDS[kind]
    attack = front.make(kind, net, jobs, *arguments, **extra)
    assert repr(attack).startswith(f"{kind}(") and len(repr(attack)) < 120
    attack.prepare = "fp32"
    assert "prepare='fp32'" in repr(attack)


def test_a_repr_has_no_contents_and_no_addresses(front, net, jobs):
    attack = make_minmax(front, net, jobs, eps=np.full((8, 1, 1, 1), 0.1))
    assert "eps=ndarray of shape (8, 1, 1, 1)" in repr(attack)
    patch = front.make("MultiTaskPatch", net, jobs, size=(2, 2), transforms=[lambda canvas, mask, generator: None])
    assert " at 0x" not in repr(patch) and "transforms=[" in repr(patch)


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ((torch.zeros(3, 1, 1), torch.ones(1)), "bounds=[tensor of shape (3, 1, 1), tensor of shape (1,)]"),
        ((np.zeros((3, 1, 1)), 1), "bounds=[ndarray of shape (3, 1, 1), 1]"),
        ((torch.tensor(0.0), 2), "bounds=[tensor(0.), 2]"),
        (tuple(map(int, "01")), None),
        ([0.0, 1.0], None),
        ((torch.tensor(0.0), np.float32(1)), None),
    ],
)
def test_a_repr_has_bounds_of_any_kind_where_they_are_not_the_defaults(for_torchattacks, net, jobs, bounds, shown):
    attack = for_torchattacks.make("WorstTaskPGD", net, jobs, bounds=bounds)
    assert shown in repr(attack) if shown else "bounds" not in repr(attack)
    assert repr(pickle.loads(pickle.dumps(attack))) == repr(attack)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_has_the_same_repr(front, net, jobs, kind):
    arguments, extra = KINDS[kind]
    attack = front.make(kind, net, jobs, *arguments, **extra)
    assert repr(pickle.loads(pickle.dumps(attack))) == repr(copy.deepcopy(attack)) == repr(attack)


# --- one name or several ---


def test_one_task_is_attacked_or_preserved_by_its_name_at_every_door(front, net, jobs, data):
    for kind in ("StealthyMultiTaskPGD", "MultiTaskPGD"):
        method = {"method": "stealthy"} if kind == "MultiTaskPGD" else {}
        listed = front.make(kind, net, jobs, attacked=["v"], preserved=["k"], steps=2, **method)
        named = front.make(kind, net, jobs, attacked="v", preserved="k", steps=2, **method)
        later = front.make(kind, net, jobs, attacked="k", steps=2, **method)
        later.attacked = "v"
        later.preserved = "k"
        together = front.make(kind, net, jobs, attacked=["k"], steps=2, **method)
        together.set_params(attacked="v", preserved="k")
        expected = front.run(listed, *data)
        for attack in (named, later, together):
            assert attack.name == listed.name == "stealthy:v" and attack.attacked == "v"
            assert torch.equal(front.run(attack, *data), expected)
        with pytest.raises(ValueError, match=r"`attacked` should name tasks of .* Found \['nope'\]"):
            together.set_params(attacked="nope")
        with pytest.raises(TypeError, match="`attacked` should be the name of a task, or a list of some. Found 3"):
            together.attacked = 3


# --- without effect ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "auto", "step_size": 1e-4}, "'auto' has a step size of its own; leave `{step_size}` out"),
        ({"schedule": "auto", "decay": 0.9}, "'auto' has a momentum of its own"),
        ({"schedule": "auto", "keep": "last"}, "'auto' goes back to the best iterate"),
        ({"norm": 2, "l1_step": "one-pixel"}, "`l1_step` is for the norm 1"),
        ({"norm": 1, "l1_step": "one-pixel", "schedule": "auto"}, "`l1_step` is for .* a schedule without a rule"),
        ({"weight_scope": "batch"}, "'equal' has weights that do not depend on the samples; leave `weight_scope` out"),
        ({"weight_scope": "dataset"}, "'equal' has weights that do not depend on the samples"),
        ({"method": "single:k", "weight_scope": "batch"}, "'single:k' has weights that do not depend"),
        ({"method": "minmax", "weighting": [1, 2], "weight_scope": "batch"}, "weights that do not depend"),
        ({"weight_group": 2}, "`weight_group` is for weights that samples share. Method 'equal' has weights that do"),
        ({"method": "minmax", "weight_group": 2}, "`weight_group` is .* has weights for each sample"),
        ({"method": "worst-image", "weight_group": 2}, "`weight_group` is .* has weights for each sample"),
        ({"gamma": 0.5}, "`gamma` belongs to the min-max weightings"),
        ({"weight_step": 0.5}, "`weight_step` belongs to the min-max weightings"),
        ({"tolerance": 0.1}, "`tolerance` belongs to the method.*'stealthy'"),
        ({"attacked": ["k"]}, "`attacked` belongs to the method.*'stealthy' and 'smta'"),
        ({"method": "stealthy:k", "weighting": "uniform"}, "'stealthy:k' has a weighting of its own"),
    ],
)
def test_an_option_without_any_effect_is_refused(front, net, jobs, options, message):
    with pytest.raises(ValueError, match=message.format(**front.words)):
        front.make("MultiTaskPGD", net, jobs, eps=0.1, **options)


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"method": "minmax"}, {"weight_scope": "batch", "weight_group": 2}),
        ({"method": "minmax"}, {"weight_scope": "batch"}),
        ({"norm": 1, "eps": 1.0, "step_size": 0.5}, {"l1_step": "one-pixel"}),
        ({"method": "minmax"}, {"gamma": 0.01}),
    ],
)
def test_those_that_are_taken_have_one(front, net, jobs, data, options, extra):
    settings = {"eps": 0.1, "steps": 8, **options}
    plain, other = (front.attack("MultiTaskPGD", net, jobs, *data, **settings, **more) for more in ({}, extra))
    assert not torch.equal(plain, other)


def test_a_chunk_has_an_effect_where_a_call_is_cut_and_none_where_it_is_one_batch(front, net, jobs, data):
    settings = {"method": "worst-task", "eps": 0.1, "steps": 8}
    plain, other = (
        front.attack("MultiTaskPGD", net, jobs, *data, **settings, **more) for more in ({}, {"weight_group": 4})
    )
    assert torch.equal(plain, other) == (front.name == "torchattacks")


def test_a_seed_is_never_refused(front, net, jobs, data):
    plain, seeded = (front.attack("MultiTaskPGD", net, jobs, *data, steps=2, seed=seed) for seed in (None, 1))
    assert torch.equal(plain, seeded)


# --- unknown ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [("loss", "`objective`"), ("weights", "`weighting`"), ("epsilon", "`eps`"), ("random_star", None)],
)
def test_unknown_options_name_the_public_class_and_what_replaces_them(front, net, jobs, kind, name, meant):
    arguments, extra = KINDS[kind]
    with pytest.raises(TypeError) as caught:
        front.make(kind, net, jobs, *arguments, **extra, **{name: 0.1})
    said = str(caught.value)
    assert said.startswith(f"{kind} has no option `{name}`.") and "__init__" not in said
    assert meant is None or f"Perhaps {meant}?" in said


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_hosts_words_are_translated(front, net, jobs, kind):
    arguments, extra = KINDS[kind]
    words = {
        "art": {"alpha": "eps_step", "steps": "max_iter"},
        "torchattacks": {"eps_step": "alpha", "max_iter": "steps"},
    }
    for name, meant in words[front.name].items():
        with pytest.raises(TypeError, match=f"{kind} has no option `{name}`. Perhaps .*`{meant}`"):
            getattr(front.module, kind)(*front.victim(net, jobs), *arguments, **extra, **{name: 0.1})


@pytest.mark.parametrize(
    ("kind", "name", "takers"),
    [
        ("WorstTaskPGD", "attacked", ["MultiTaskPGD", "StealthyMultiTaskPGD", "MultiTaskAutoPGD"]),
        ("WorstTaskPGD", "method", ["MultiTaskPGD", "MultiTaskAutoPGD"]),
        ("MultiTaskPGD", "variant", ["MinMaxMultiTaskPGD"]),
        ("MultiTaskPGD", "size", ["MultiTaskPatch"]),
        ("MultiTaskPGD", "version", ["MultiTaskAutoAttack"]),
        ("MultiTaskPatch", "eps", ["MultiTaskPGD", "UniversalMultiTaskPGD"]),
        ("MultiTaskAutoAttack", "gamma", ["MultiTaskPGD", "WorstTaskPGD"]),
    ],
)
def test_an_option_of_other_attacks_names_them(front, net, jobs, kind, name, takers):
    arguments, extra = KINDS[kind]
    with pytest.raises(TypeError, match=f"{kind} decides `{name}` or has no use for it") as caught:
        front.make(kind, net, jobs, *arguments, **extra, **{name: "k"})
    named = str(caught.value).split("Those that take it: ")[1].rstrip(".").split(", ")
    assert set(takers) <= set(named) and kind not in named and len(named) == len(set(named))
    attack = front.make(kind, net, jobs, *arguments, **extra)
    with pytest.raises(AttributeError, match=f"{kind} decides `{name}`"):
        setattr(attack, name, "k")


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_show_every_option(front, kind):
    known = getattr(front.module, kind)
    shown = inspect.signature(known).parameters
    assert set(known.options) < set(shown) and all(f"\n        {name}" in known.__doc__ for name in known.options)


# --- grey levels ---


@pytest.mark.parametrize("kind", ["MultiTaskPGD", "WorstTaskPGD", "MultiTaskAutoPGD", "UniversalMultiTaskPGD"])
def test_a_radius_in_grey_levels_is_asked_about(front, net, jobs, kind):
    with pytest.warns(RuntimeWarning, match="`eps` is 8, more than the width 1 .* Did you mean 8/255?") as caught:
        attack = front.make(kind, net, jobs, eps=8)
    assert len(caught) == 1 and Path(caught[0].filename).parent == Path(__file__).parent
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        front.make(kind, net, jobs, eps=8 / 255)
        front.make(kind, net, jobs, eps=8, norm=2)
        front.make(kind, net, jobs, eps=8, bounds=(0, 255))
        assert attack.eps == 8


# --- exchanged parts ---


def test_the_name_says_which_parts_were_exchanged(front, net, jobs):
    def name(kind, **options):
        return front.make(kind, net, jobs, **options).name

    assert name("MinMaxMultiTaskPGD") == "minmax"
    assert name("MinMaxMultiTaskPGD", variant="official") == "minmax-official"
    assert name("MinMaxMultiTaskPGD", weighting="uniform") == "minmax(weighting=uniform)"
    assert name("MinMaxMultiTaskPGD", objective="log") == "minmax(objective=log)"
    assert name("MultiTaskPGD", method="equal", weighting=[1, 0.5]) == "equal(weighting=[1,0.5])"
    both = {"objective": "degradation", "weighting": "inner-minimiser"}
    assert name("MultiTaskPGD", **both) == "equal(objective=degradation, weighting=inner-minimiser)"
    assert name("WorstTaskPGD", gamma=0.1, keep="best") == "worst-task"


@pytest.mark.parametrize("options", [{"keep": "best"}, {"restarts": 3, "seed": 0}, {"schedule": "auto"}])
def test_a_method_with_exchanged_weighting_is_the_method_of_that_weighting(front, net, jobs, data, options):
    """It compares iterates and restarts as its new weighting does, not as the old one did."""
    settings = {"eps": 0.15, "steps": 6, **options}
    for method, weighting in (("equal", "minmax"), ("minmax", "uniform")):
        other = {"minmax": "minmax", "uniform": "equal"}[weighting]
        exchanged = front.attack("MultiTaskPGD", net, jobs, *data, method, weighting=weighting, **settings)
        assert torch.equal(exchanged, front.attack("MultiTaskPGD", net, jobs, *data, other, **settings))


# --- changed in place ---


@pytest.mark.parametrize("value", [-0.1, float("nan")])
@pytest.mark.parametrize("option", ["eps", "step_size"])
@pytest.mark.parametrize("kind", ["WorstTaskPGD", "MultiTaskPGD"])
def test_an_option_that_is_changed_in_place_is_checked_at_the_next_call(front, net, jobs, data, kind, option, value):
    radii = {"eps": np.full((1, 1, 1, 1), 0.1), "step_size": np.full((1, 1, 1, 1), 0.1)}
    attack = front.make(kind, net, jobs, steps=2, **radii)
    radii[option].fill(value)
    with pytest.raises(ValueError, match=f"`{front.words.get(option, option)}` should be positive and finite"):
        front.run(attack, *data)


def test_so_are_tensors_and_bounds(front, net, jobs, data):
    eps, bounds = torch.full((1, 1, 1, 1), 0.1), (np.zeros((1, 4, 4), np.float32), np.ones((1, 4, 4), np.float32))
    bounds = tuple(np.repeat(bound, 3, 0) for bound in bounds)
    if front.name == "torchattacks":
        bounds = tuple(torch.from_numpy(bound) for bound in bounds)
    attack = front.make("MultiTaskPGD", net, jobs, steps=2, eps=eps, bounds=bounds)
    owner = attack.estimator.clip_values if front.name == "art" else attack.bounds
    upper, name = owner[1], "clip_values" if front.name == "art" else "bounds"
    upper[...] = -1
    with pytest.raises(ValueError, match=f"`{name}` should be a smaller and a larger value"):
        front.run(attack, *data)
    upper[...] = 1
    front.run(attack, *data)
    eps.fill_(-0.1)
    with pytest.raises(ValueError, match="`eps` should be positive and finite"):
        front.run(attack, *data)


# --- where a patch lies, and what a found one is put on ---


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "either `size` or `mask`. Found neither"),
        ({"size": (2, 2), "mask": np.ones((4, 4))}, ValueError, "either `size` or `mask`. Found both"),
        ({"location": (0, 0), "mask": np.ones((4, 4))}, ValueError, "`location` belongs to `size`"),
        ({"mask": "abc"}, TypeError, "`mask` should be an array or a tensor of numbers.* Found str"),
        ({"mask": np.ones(4)}, ValueError, r"`mask` should have shape \(.*\). Found \(4,\)"),
        ({"mask": np.zeros((4, 4))}, ValueError, "`mask` should be other than 0 somewhere"),
    ],
)
def test_where_a_patch_lies_is_checked_when_it_is_made(front, net, jobs, options, error, message):
    with pytest.raises(error, match=message):
        front.make("MultiTaskPatch", net, jobs, **options)
    made = front.make("MultiTaskPatch", net, jobs, size=(2, 2))
    with pytest.raises(error, match=message):
        made.set_params(**{"size": None, **options})
    assert made.size == (2, 2) and made.mask is None


@pytest.mark.parametrize("kind", ["UniversalMultiTaskPGD", "MultiTaskPatch"])
def test_what_is_found_is_put_on_images_of_the_same_shape(front, net, jobs, data, kind):
    attack = front.make(kind, net, jobs, steps=1, **({"size": (2, 2)} if kind == "MultiTaskPatch" else {}))
    front.run(attack, *data)
    good, other = np.zeros((2, 3, 4, 4), np.float32), torch.zeros(2, 3, 4, 4)
    wrong = np.zeros((2, 3, 8, 8), np.float32)
    if front.name == "torchattacks":
        good, other, wrong = other, good, torch.from_numpy(wrong)
    assert attack.apply(good).shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"should have shape \(N, 3, 4, 4\).* Found \(2, 3, 8, 8\)"):
        attack.apply(wrong)
    with pytest.raises(TypeError, match="should be a (NumPy array|torch.Tensor). Found (Tensor|ndarray)"):
        attack.apply(other)
