"""What a call is given as labels: none, some, or in forms that are named where they will not do."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- none ---


class Weighted(nn.Module):
    """A weighted sum of the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, generator=torch.Generator().manual_seed(0)))

    def forward(self, x):
        return {"v": x.flatten(1) @ self.weight}


@pytest.mark.parametrize("shared", [True, False])
def test_a_patch_moves_where_the_error_is_0_and_has_no_slope(front, data, shared):
    """Without labels the error is |w · δ|, exactly 0 at first. It is greatest in one of two corners of the box: where
    w is positive all 1 and elsewhere all 0, or the other way round.
    """
    net, x = Weighted(), data[0]
    options = {"size": (2, 2), "steps": 30, "shared": shared, "ignore_patch": False}
    found = front.attack("MultiTaskPatch", net, [tasks.regression("v")], x, **options)
    up = (net.weight.view(3, 4, 4) > 0)[:, 1:3, 1:3].float()
    patches = found[:, :, 1:3, 1:3]
    for patch in patches:
        assert torch.equal(patch, up) or torch.equal(patch, 1 - up)
    outside = found.clone()
    outside[:, :, 1:3, 1:3] = x[:, :, 1:3, 1:3]
    assert torch.equal(outside, x)


@pytest.mark.parametrize("kind", ["MultiTaskPGD", "WorstTaskPGD", "MultiTaskAutoPGD", "UniversalMultiTaskPGD"])
def test_so_does_every_attack(front, data, kind):
    net, x = Weighted(), torch.full((4, 3, 4, 4), 0.5)
    found = front.attack(kind, net, [tasks.regression("v")], x, eps=0.1, steps=10)
    reached = (net(found)["v"] - net(x)["v"]).abs()
    torch.testing.assert_close(reached, 0.1 * net.weight.abs().sum().expand(4), rtol=1e-3, atol=0)


def test_what_starts_it_is_the_same_each_time(front, data):
    results = [
        front.attack("MultiTaskPatch", Weighted(), [tasks.regression("v")], data[0], size=(2, 2), steps=2, shared=False)
        for _ in range(2)
    ]
    assert torch.equal(*results)


# --- some ---

LEFT_ALONE = r"No targets of the task\(s\) \['{}'\] were given; the attack leaves them alone"


def wanted(data, *names):
    x, y = data
    targets = {"k": (y["k"] + 1) % 4, "v": y["v"] + 5}
    return x, {name: targets[name] for name in names}


def targeted(front, net, jobs, data, *names, **options):
    x, targets = wanted(data, *names)
    return front.attack("MultiTaskPGD", net, jobs, x, targets, eps=0.1, steps=5, targeted=True, **options)


def test_a_task_without_targets_is_dropped_with_one_warning(front, net, jobs, data):
    expected = targeted(front, net, jobs, data, "k", "v", method="single:v")
    with pytest.warns(RuntimeWarning, match=LEFT_ALONE.format("k")) as caught:
        found = targeted(front, net, jobs, data, "v", weighting=[1, 2])
    assert len(caught) == 1 and torch.equal(found, expected)


def test_one_that_has_no_weight_is_not_missed(front, net, jobs, data, quiet):
    expected = targeted(front, net, jobs, data, "k", "v", method="single:v")
    for options in ({"weighting": [0, 1]}, {"method": "single:v"}, {"method": "minmax", "weighting": [0.0, 2.0]}):
        assert torch.equal(targeted(front, net, jobs, data, "v", **options), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": [1, 0]}, r"should have targets of the tasks that it attacks. Found none of \['k'\]"),
        ({"method": "single:k"}, r"'single:k' should have targets of the tasks that it attacks. Found none of \['k'\]"),
        ({"method": "smta:k"}, r"'smta:k' should have a target of each task that it attacks"),
        ({"method": "stealthy:v"}, r"'stealthy:v' should have .* the true labels of each that it preserves"),
    ],
)
def test_where_nothing_is_left_it_is_an_error(front, net, jobs, data, options, message):
    with pytest.raises(ValueError, match=message):
        targeted(front, net, jobs, data, "v", **options)


def test_untargeted_attacks_need_labels_of_all_tasks(front, net, jobs, data):
    x, targets = wanted(data, "v")
    with pytest.raises(ValueError, match=r"missing: \['k'\]"):
        front.attack("MultiTaskPGD", net, jobs, x, targets, eps=0.1)


# --- forms ---


def test_labels_in_the_order_of_the_tasks(front, net, jobs, data):
    x, y = data
    expected = front.attack("MultiTaskPGD", net, jobs, x, y, eps=0.1, steps=2)
    for form in ((y["k"], y["v"]), [y["k"], y["v"]], (torch.from_numpy(y["k"]), torch.from_numpy(y["v"]))):
        assert torch.equal(front.attack("MultiTaskPGD", net, jobs, x, form, eps=0.1, steps=2), expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda y: {**y, "k": np.array(["cat"] * 8)}, TypeError, "'k'"),
        (lambda y: {**y, "k": (y["k"][:4], y["k"][4:])}, (TypeError, ValueError), "'k'"),
        (lambda y: {**y, "k": y["k"] + 1}, ValueError, r"'k'.*\[0, 3\]"),
        (lambda y: {**y, "v": np.full((8, 1), np.nan)}, ValueError, "'v'"),
        (lambda y: {**y, "k": y["k"][:5]}, ValueError, "8"),
        (lambda y: 7, TypeError, "Labels of the tasks"),
    ],
)
def test_labels_that_will_not_do_name_the_task(front, net, jobs, data, change, error, message):
    x, y = data
    passes = []
    handle = net.register_forward_hook(lambda *_: passes.append(1))
    with pytest.raises(error, match=message):
        front.attack("MultiTaskPGD", net, jobs, x, change(y), eps=0.1)
    handle.remove()
    assert not passes, "before any work"


def test_a_weighting_that_is_a_mapping_is_told_what_it_should_be(front, net, jobs):
    with pytest.raises(
        TypeError, match="`weighting` should be one of .* or a list of one weight for each task. Found dict"
    ):
        front.make("MultiTaskPGD", net, jobs, weighting={"k": 1.0})


@pytest.mark.parametrize("size", [1, 6])
def test_one_task_takes_what_a_loader_collates(front, net, jobs, data, size):
    x, y = data[0][:size], torch.as_tensor(data[1]["k"][:size])
    attack = front.make("MultiTaskPGD", net, jobs[:1], steps=2)
    expected = front.run(attack, x, y)
    assert torch.equal(front.run(attack, x, [y]), expected) and torch.equal(front.run(attack, x, (y,)), expected)


@pytest.mark.parametrize("empty", [{}, (None, None)])
def test_no_labels_at_all_are_told_in_the_hosts_words(front, net, jobs, data, empty):
    word = {"art": "y", "torchattacks": "labels"}[front.name]
    with pytest.raises(ValueError, match=f"Parameter `{word}` should hold the labels of at least one task"):
        front.run(front.make("MultiTaskPGD", net, jobs, steps=2), data[0], empty)
