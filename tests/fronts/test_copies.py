"""Attacks and tasks can be pickled and copied, and are then what they were."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch

from art_mtl import tasks

KINDS = {
    "MultiTaskPGD": ((), {"eps": 0.1, "steps": 3}),
    "MinMaxMultiTaskPGD": ((), {"eps": 0.1, "steps": 3}),
    "WorstTaskPGD": ((), {"eps": 0.1, "steps": 3}),
    "MultiTaskAutoPGD": ((), {"eps": 0.1, "steps": 3}),
    "MultiTaskAutoAttack": ((), {"eps": 0.02, "version": "fast"}),
    "StealthyMultiTaskPGD": (("k",), {"eps": 0.1, "steps": 3}),
    "UniversalMultiTaskPGD": ((), {"eps": 0.1, "steps": 3}),
    "MultiTaskPatch": ((), {"size": (2, 2), "steps": 3}),
}


def saved(attack):
    """As joblib or a process that is spawned gets it."""
    return pickle.loads(pickle.dumps(attack))


def stored(attack):
    buffer = io.BytesIO()
    torch.save(attack, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS = {"pickle": saved, "torch.save": stored, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_is_copied_before_and_after_a_call(front, net, jobs, data, kind, way):
    arguments, options = KINDS[kind]
    attack = front.make(kind, net, jobs, *arguments, **options)
    before = WAYS[way](attack)
    expected = front.run(attack, *data)
    after = WAYS[way](attack)
    for other in (before, after):
        assert type(other) is type(attack) and repr(other) == repr(attack)
        found = front.run(other, *data)
        assert torch.equal(found, expected), "a copy begins with statistics of its own"


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_set_before_and_after_a_call(front, net, jobs, data, kind):
    arguments, options = KINDS[kind]
    change = {"version": "standard"} if "version" in options else front.options(steps=2)
    later = front.make(kind, net, jobs, *arguments, **options)
    front.run(later, *data)
    later.set_params(**change)
    assert all(getattr(later, name) == value for name, value in change.items())
    copied = WAYS["pickle"](later)
    assert repr(copied) == repr(later)
    if "steps" in options:
        sooner = front.make(kind, net, jobs, *arguments, **{**options, "steps": 2})
        expected = front.run(sooner, *data)
        assert torch.equal(front.run(later, *data), expected) and torch.equal(front.run(copied, *data), expected)


def test_a_copy_shares_no_statistics(for_torchattacks, net, jobs, data):
    x, y = data
    attack = for_torchattacks.make("WorstTaskPGD", net, jobs, norm="L2", eps=1.0)
    first = attack(x, y)
    other = copy.deepcopy(attack)
    attack(1 - x, y)
    second = attack(x, y)
    assert torch.equal(other(x, y), first) and not torch.equal(second, first)


def test_several_attacks_are_copied_together(for_torchattacks, net, jobs, data):
    members = [for_torchattacks.make("MultiTaskPGD", net, jobs, method, eps=0.1) for method in ("equal", "minmax")]
    attack = for_torchattacks.module.MultiAttack(members)
    for way in WAYS.values():
        before = way(attack)
        expected = attack(*data)
        for other in (before, way(attack)):
            assert torch.equal(other(*data), expected)


JOBS = {
    "classification": lambda: tasks.classification("k", 4),
    "segmentation": lambda: tasks.segmentation("k", 4, ignore_index=3),
    "regression": lambda: tasks.regression("k", output=0),
    "depth": lambda: tasks.depth("k"),
    "surface normals": lambda: tasks.surface_normals("k"),
    "multilabel": lambda: tasks.multilabel("k", 3),
}


@pytest.mark.parametrize("kind", JOBS)
def test_tasks_that_are_made_by_the_same_call_are_equal(kind):
    task = JOBS[kind]()
    for other in (JOBS[kind](), copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert other == task and hash(other) == hash(task)
    assert all(JOBS[other]() != task for other in JOBS if other != kind)


def test_attacks_whose_tasks_were_made_twice_go_together(for_torchattacks, net, data):
    def make(kind, classes=4):
        return for_torchattacks.make(kind, net, [tasks.classification("k", classes), tasks.regression("v")], eps=0.1)

    attack = for_torchattacks.module.MultiAttack([make("MultiTaskPGD"), make("WorstTaskPGD")])
    assert not torch.equal(attack(*data), data[0])
    with pytest.raises(ValueError, match="one model and the same tasks"):
        for_torchattacks.module.MultiAttack([make("MultiTaskPGD"), make("WorstTaskPGD", 5)])
