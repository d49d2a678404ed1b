"""One call's tensors: each is cut with the samples in one place, and what does not fit is named."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from art_mtl import MultiTaskLabels, tasks
from art_mtl.core import make_method
from art_mtl.core.batch import AttackBatch, check_inputs, check_mask, check_targets, radius, rows
from art_mtl.core.searches.per_sample import PerSampleSearch

JOBS = (tasks.classification("kind", 3), tasks.regression("size"))
SHAPES = {"whole": (1, 1, 1, 1), "sample": (5, 1, 1, 1), "pixel": (1, 3, 6, 7), "both": (5, 3, 6, 7)}


def drawn(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_batch(case, kind, **changes):
    shape = SHAPES[kind]
    tensors = {"eps": drawn(shape, 1), "step_size": drawn(shape, 2), "mask": (drawn(shape, 3) < 0.7).double()}
    bounds = (-drawn(shape, 4), 1 + drawn(shape, 5))
    return AttackBatch(case.x, tuple(case.targets), bounds=bounds, **{**tensors, **changes})


# --- cutting ---


@pytest.mark.parametrize("index", [slice(1, 4), slice(4, 5), torch.tensor([3, 0])], ids=["part", "one", "some"])
@pytest.mark.parametrize("kind", SHAPES)
def test_every_tensor_is_cut_with_the_samples(dense_case, kind, index):
    batch = make_batch(dense_case(batch=5), kind)
    part = batch[index]
    assert torch.equal(part.inputs, batch.inputs[index]) and len(part) == len(batch.inputs[index])
    for target, whole in zip(part.targets, batch.targets, strict=True):
        assert torch.equal(target.value, whole.value[index]) and torch.equal(target.valid, whole.valid[index])
    whole_threat, threat = batch.threat(2.0), part.threat(2.0)
    pairs = [(part.step_size, batch.step_size), (threat.eps, whole_threat.eps), (threat.mask, whole_threat.mask)]
    for found, whole in (*pairs, *zip(threat.bounds, whole_threat.bounds, strict=True)):
        expected = whole.expand(5, 3, 6, 7)[index]
        assert torch.equal(found.expand_as(expected), expected)
        assert found.shape[1:] == whole.shape[1:], "nothing is spread out"


def test_what_is_not_given_stays_out(dense_case):
    part = make_batch(dense_case(batch=5), "sample", step_size=None, mask=None)[1:3]
    assert part.step_size is None and part.threat(math.inf).mask is None and part.threat(math.inf).norm == math.inf


def test_of_a_single_sample_nothing_is_cut():
    assert rows(torch.ones(1, 1), slice(0, 1), 1).shape == (1, 1)
    assert rows(torch.ones(1, 2), torch.tensor([0, 0]), 1).shape == (1, 2)


def test_a_batch_goes_to_a_device_as_a_whole(dense_case):
    there = make_batch(dense_case(batch=5), "sample").to(torch.device("meta"))
    tensors = [there.inputs, there.eps, *there.bounds, there.step_size, there.mask]
    tensors += [tensor for target in there.targets for tensor in (target.value, target.valid)]
    assert {tensor.device.type for tensor in tensors} == {"meta"} and len(there) == 5


@pytest.mark.parametrize("norm", [math.inf, 2.0])
def test_the_batch_size_decides_nothing_where_every_sample_has_its_own(dense_case, make_setup, norm):
    """Radius, step, mask and bounds of each sample, in batches of 2 and alone."""
    case = dense_case(batch=5)
    eps, step = (0.05 + 0.1 * drawn(SHAPES["sample"], seed) for seed in (1, 2))
    setup = make_setup(case, make_method("minmax", case.tasks), norm, eps, first_step=step, steps=3, batch_size=2)
    setup.batch = replace(
        setup.batch,
        mask=(drawn(SHAPES["both"], 3) < 0.7).double(),
        bounds=(case.x - 0.2 * drawn(SHAPES["both"], 4), case.x + 0.2 * drawn(SHAPES["both"], 5)),
    )
    found = PerSampleSearch().run(setup)
    for b in range(5):
        alone = PerSampleSearch().run(replace(setup, batch=setup.batch[b : b + 1]))
        torch.testing.assert_close(found[b : b + 1], alone, rtol=0, atol=1e-9)
    moved = found - case.x
    assert not moved[setup.batch.mask == 0].any() and (moved.flatten(1).abs().amax(1) > 0.01).all()
    assert (found >= setup.batch.bounds[0]).all() and (found <= setup.batch.bounds[1]).all()


# --- what does not fit ---


@pytest.mark.parametrize("value", [0.3, np.full((4, 1, 1), 0.3), torch.full((1,), 0.3)])
def test_a_radius_gets_the_dimensions_of_the_inputs(value):
    found = radius("eps", value, torch.zeros(4, 3, 2, dtype=torch.float64))
    assert found.ndim == 3 and found.dtype == torch.float64
    torch.testing.assert_close(found.expand(4, 3, 2), torch.full((4, 3, 2), 0.3, dtype=torch.float64))


def test_a_radius_that_cannot_be_spread_is_named_with_what_would_do():
    says = r"`alpha` should be broadcastable to the inputs, \(4, 3, 2\); one value a sample has shape \(4, 1, 1\)."
    with pytest.raises(ValueError, match=says + r" Found shape \(4,\)"):
        radius("alpha", np.ones(4), torch.zeros(4, 3, 2))


X = torch.full((3, 2), 0.5)
BAD_X = [
    (X.int(), TypeError, "`images` should hold floating-point numbers. Found torch.int32"),
    (X[:0], ValueError, r"`images` should hold at least one sample. Found shape \(0, 2\)"),
    (torch.tensor([[0.5], [math.nan]]), ValueError, "`images` should be finite.*first in sample 1"),
    (torch.tensor([[0.5], [-math.inf]]), ValueError, "`images` should be finite.*first in sample 1"),
    (X + 1, ValueError, r"`images` should lie within `box`, \[0, 1\]. Found values in \[1.5, 1.5\]"),
    (X - 0.51, ValueError, "`images` should lie within `box`"),
]


@pytest.mark.parametrize(("x", "error", "message"), BAD_X)
def test_inputs_that_will_not_do_are_named(x, error, message):
    with pytest.raises(error, match=message):
        check_inputs("images", x, (torch.zeros(1, 1), torch.ones(1, 1)), "box")


def test_inputs_may_overshoot_by_rounding_and_are_clamped():
    x = torch.tensor([[1 + 1e-6, -1e-6, 0.5]])
    assert check_inputs("x", x, (torch.zeros(1, 1), torch.ones(1, 1))).tolist() == [[1.0, 0.0, 0.5]]
    wide = (torch.tensor([[-math.inf]]), torch.tensor([[math.inf]]))
    assert torch.equal(check_inputs("x", x, wide), x)


def test_masks():
    assert check_mask(None, X) is None
    assert check_mask(np.array([0, 2]), X).tolist() == [[0.0, 2.0]]
    with pytest.raises(ValueError, match="`mask` should be finite"):
        check_mask([0.0, math.nan], X)
    with pytest.raises(ValueError, match="`mask` should be broadcastable"):
        check_mask(np.ones(3), X)


def test_targets_of_some_tasks():
    labels = {"size": np.zeros((3, 1), np.float32)}
    kept, targets = check_targets(JOBS, labels, 3, some=True, own=False)
    assert kept == (1,) and len(targets) == 1 and len(targets[0]) == 3
    with pytest.raises(ValueError, match="kind"):
        check_targets(JOBS, labels, 3, some=False, own=False)


def test_samples_without_a_label_are_named_once():
    labels = MultiTaskLabels(
        {"kind": np.zeros(3, int), "size": np.zeros((3, 1))}, present={"kind": [True, False, False]}
    )
    with pytest.warns(RuntimeWarning, match=r"Task 'kind' has no valid label on sample\(s\) \[1, 2\]") as caught:
        kept, targets = check_targets(JOBS, labels, 3, some=False, own=False)
    assert len(caught) == 1 and kept == (0, 1) and targets[0].has_label.tolist() == [True, False, False]
    with pytest.raises(ValueError, match="'far' should have a label for at least one sample"):
        check_targets([tasks.depth("far")], {"far": np.zeros((3, 1, 2, 2), np.float32)}, 3, some=False, own=False)
