"""Patches: where they lie, what transformations do to them, and optima known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.core import RunConfig, attack, checks, make_method
from art_mtl.core.searches.patch import PatchPlace, PatchSearch, apply_patch, apply_transform, patch_mask
from art_mtl.core.searches.transforms import Brightness, Scale, Translate
from art_mtl.tasks import DenseTarget


def patch_method(name, case, shared):
    method = make_method(name, case.tasks, default_scope="batch" if shared else "sample", keep="last")
    return replace(method, first_step=0.2)


@pytest.fixture
def find_patch(make_setup):
    """``(case, mask) -> canvas (1, ...)``, or patched images where each has a patch of its own."""

    def run(case, mask, passes=6, shared=True, transforms=(), ignore=True, batch_size=2, seed=0, method="worst-task"):
        method = patch_method(method, case, shared)
        setup = make_setup(case, method, steps=passes, batch_size=batch_size, seed=seed)
        search = PatchSearch(PatchPlace(mask.to(case.x.dtype), tuple(transforms), ignore, shared))
        result = search.run(setup)
        if not shared:
            assert search.found is None
            return result
        assert torch.equal(result, apply_patch(case.x, search.found, mask))
        return search.found

    return run


def seed_of(seed=0):
    return torch.Generator().manual_seed(seed)


# --- places ---


def test_a_rectangle_lies_where_it_should():
    mask = patch_mask((3, 5, 6), (2, 3), (1, 2), None)
    assert mask.shape == (1, 1, 5, 6) and mask.sum() == 6 and mask[0, 0, 1:3, 2:5].all()
    assert patch_mask((3, 5, 6), (5, 6), None, None).all()
    shape = torch.eye(5, 6)
    assert torch.equal(patch_mask((3, 5, 6), None, None, 7 * shape)[0, 0], shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((3, 5, 6), (2, 3), (4, 0), None), "should lie inside the image of 5x6. Found 2x3 at row 4, column 0"),
        (((3, 5, 6), (2, 3), (0, 4), None), "should lie inside the image"),
        (((3, 5, 6), (6, 3), None, None), "should lie inside the image of 5x6. Found 6x3"),
        (((3, 5, 6), (2, 3), (-1, 0), None), "`location` should be two integers of at least 0"),
        (((3, 5, 6), (0, 3), None, None), "`size` should be two integers of at least 1"),
        (((3, 5, 6), None, None, None), "either `size` or `mask`. Found neither"),
        (((3, 5, 6), (2, 3), None, torch.ones(5, 6)), "Found both"),
        (((3, 5, 6), None, (0, 0), torch.ones(5, 6)), "`location` belongs to `size`"),
        (((3, 5, 6), None, None, torch.ones(6, 5)), r"`mask` should have shape \(5, 6\). Found \(6, 5\)"),
        (((3, 5, 6), None, None, torch.zeros(5, 6)), "Found no place for the patch"),
        (((12,), (2, 3), None, None), r"needs images of three dimensions. Found inputs of shape \(12,\)"),
    ],
)
def test_bad_places_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        patch_mask(*arguments)
    with pytest.raises(TypeError, match="`size` should be two integers"):
        patch_mask((3, 5, 6), (2.0, 3), None, None)


def test_labels_under_the_patch_do_not_count():
    mask = patch_mask((3, 4, 4), (2, 2), (0, 0), None)
    dense = DenseTarget(torch.zeros(2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool))
    coarse = DenseTarget(torch.zeros(2, 2, 2), torch.ones(2, 2, 2, dtype=torch.bool))
    single = DenseTarget(torch.zeros(2), torch.ones(2, dtype=torch.bool))
    several = DenseTarget(torch.zeros(2, 5), torch.ones(2, 5, dtype=torch.bool))
    found = [target.hidden(mask) for target in (dense, coarse, single, several)]
    assert torch.equal(found[0].valid, (mask[0] == 0).expand(2, -1, -1))
    assert found[1].valid.tolist() == [[[False, True], [True, True]]] * 2
    assert found[2].valid.all() and found[3].valid.all() and dense.valid.all()


@pytest.mark.parametrize("share", [False, True])
def test_objects_and_points_that_the_patch_covers_wholly_do_not_count(share):
    generator = np.random.default_rng(0)
    mask = torch.zeros(1, 1, 12, 16)
    mask[..., 2:9, 3:11] = 1
    low = generator.uniform(0, (10, 6), size=(40, 2))
    boxes = np.concatenate([low, low + generator.uniform(0.2, 6, size=(40, 2))], 1)
    inside = np.array([mask[0, 0, int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)].all() for x1, y1, x2, y2 in boxes])
    under = np.array([bool(mask[0, 0, int(y), int(x)]) for x, y in low])
    assert 0.1 < inside.mean() < under.mean() < 0.9
    unit = [16, 12] if share else [1, 1]
    options = {"image_size": (1, 1)} if share else {}
    things = tasks.detection("things", 2, **options)
    target = things.targets([{"boxes": boxes / [*unit, *unit], "labels": np.zeros(40, int)}])
    assert target.hidden(mask).valid[0].tolist() == (~inside).tolist() and target.valid.all()
    points = tasks.keypoints("points", 40, normalise=1, **options).targets((low / unit)[None])
    assert points.hidden(mask).valid[0].tolist() == (~under).tolist()
    assert points[:1].map(torch.clone).hidden(mask).valid[0].tolist() == (~under).tolist(), (
        "parts and copies know it too"
    )
    nothing = things.targets(things.nothing(1))
    assert nothing.hidden(torch.ones(1, 1, 12, 16)).valid.all(), "an empty image has no object to hide"


def test_a_covered_object_is_not_lost():
    things = tasks.detection("things", 2)
    target = things.targets([{"boxes": [[0, 0, 4, 4], [6, 6, 10, 10]], "labels": [0, 1]}])
    output = {"boxes": torch.tensor([[[6.0, 6, 10, 10]]]), "scores": torch.tensor([[[0.0, 0.9]]])}
    seen = target.hidden(patch_mask((3, 12, 12), (5, 5), (0, 0), None))
    for labels, expected in ((target, [1, 2]), (seen, [1, 1])):
        assert things.statistics(things.check_output(output, labels), labels)[0].tolist() == expected


# --- the search ---


@pytest.mark.parametrize("method", ["worst-task", "equal", "minmax"])
def test_a_patch_each_is_the_attack_that_may_change_only_its_place(dense_case, find_patch, method):
    case = dense_case(batch=3)
    mask = patch_mask(tuple(case.x.shape[1:]), (3, 3), (1, 2), None)
    result = find_patch(case, mask, method=method, shared=False, batch_size=3)
    threat = case.threat(math.inf, 1.0, mask)
    targets = [target.hidden(mask) for target in case.targets]
    expected = attack(
        case.forward, case.x, case.tasks, targets, patch_method(method, case, False), threat, RunConfig(6)
    )
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-12)
    assert torch.equal(result[:, :, mask[0, 0] == 0], case.x[:, :, mask[0, 0] == 0])
    assert (result != case.x).any()


def test_one_patch_is_the_corner_of_the_box_that_its_slopes_point_to(linear_case, find_patch):
    slopes = torch.linspace(-1, 1, 2 * 4 * 5).double().view(1, -1) + 0.01
    case = linear_case(slopes, torch.full((1,), 30.0).double(), batch=5)
    inner = case.forward
    case.forward, case.x = lambda x: inner(x.flatten(1)), case.x.view(5, 2, 4, 5)
    mask = patch_mask((2, 4, 5), (2, 2), (1, 2), None)
    canvas = find_patch(case, mask, passes=10)[0]
    expected = torch.where(slopes.view(2, 4, 5) > 0, 1.0, 0.0).double()
    place = (mask[0] != 0).expand(2, -1, -1)
    torch.testing.assert_close(canvas[place], expected[place], rtol=0, atol=1e-12)
    assert (canvas[~place] == 0.5).all()


@pytest.mark.parametrize("transforms", [(), (Translate(1), Scale(0.8, 1.2), Brightness(0.1))], ids=["plain", "eot"])
def test_one_patch_harms_what_is_around_it(dense_case, find_patch, transforms):
    case = dense_case(batch=4, dtype=torch.float32)
    mask = patch_mask(tuple(case.x.shape[1:]), (3, 3), None, None)
    canvas = find_patch(case, mask, passes=10, transforms=transforms)
    assert torch.equal(find_patch(case, mask, passes=10, transforms=transforms), canvas)
    targets = [target.hidden(mask) for target in case.targets]

    def total(patch):
        x = torch.where(mask != 0, patch, case.x)
        triples = zip(case.tasks, case.forward(x), targets, strict=True)
        return torch.stack([task.loss(output, target) for task, output, target in triples]).mean(1)

    grey = torch.full_like(canvas, 0.5)
    assert (canvas >= 0).all() and (canvas <= 1).all()
    assert (total(canvas) / total(grey)).mean() > 1.02


def test_labels_under_the_patch_can_be_made_to_count(dense_case, find_patch):
    case = dense_case(batch=3)
    mask = patch_mask(tuple(case.x.shape[1:]), (3, 3), None, None)
    assert not torch.equal(find_patch(case, mask), find_patch(case, mask, ignore=False))


def test_transformations_are_drawn_anew_for_each_step(dense_case, find_patch):
    case, seen = dense_case(batch=2), []

    def watch(canvas, mask, generator):
        seen.append(torch.rand(1, generator=generator).item())
        return canvas, mask

    mask = patch_mask(tuple(case.x.shape[1:]), (3, 3), None, None)
    with_it = find_patch(case, mask, passes=4, transforms=[watch])
    assert len(set(seen)) == 4
    torch.testing.assert_close(with_it, find_patch(case, mask, passes=4), rtol=0, atol=1e-9)


# --- transformations ---


def drawn(batch=64):
    canvas = torch.rand((batch, 2, 8, 9), generator=seed_of(1))
    mask = torch.zeros(batch, 1, 8, 9)
    mask[..., 2:5, 3:7] = 1
    return canvas, mask


def test_translation_moves_by_whole_pixels_in_all_directions():
    canvas, mask = drawn()
    moved, where = Translate(2)(canvas, mask, seed_of())
    shifts = set()
    for image, place, original in zip(moved, where[:, 0], canvas, strict=True):
        rows, columns = place.nonzero().T
        top, left = int(rows.min()), int(columns.min())
        assert place.sum() == 12 and abs(top - 2) <= 2 and abs(left - 3) <= 2
        assert torch.equal(image[:, top : top + 3, left : left + 4], original[:, 2:5, 3:7])
        shifts.add((top, left))
    assert len(shifts) > 20


def test_what_leaves_the_image_is_cut_off():
    canvas, mask = drawn()
    _, where = Translate(6)(canvas, mask, seed_of())
    assert where.sum((1, 2, 3)).min() < 12 and set(where.unique().tolist()) == {0.0, 1.0}


def test_scaling_is_about_the_middle_of_the_patch():
    canvas, mask = drawn()
    same, place = Scale(1.0, 1.0)(canvas, mask, seed_of())
    torch.testing.assert_close(same, canvas, rtol=0, atol=1e-5)
    torch.testing.assert_close(place, mask, rtol=0, atol=1e-5)
    _, larger = Scale(2.0, 2.0)(canvas, mask, seed_of())
    assert larger[0].sum().item() == pytest.approx(4 * 12, rel=0.05)
    weight = larger[0, 0]
    rows = torch.arange(8.0)
    assert ((weight.sum(1) * rows).sum() / weight.sum()).item() == pytest.approx(3.0, abs=1e-3)
    _, between = Scale(0.5, 2.0)(canvas, mask, seed_of())
    assert len(set(between.sum((1, 2, 3)).tolist())) > 32


def test_brightness_adds_one_number_a_sample():
    canvas, mask = drawn()
    brighter, place = Brightness(0.2)(canvas, mask, seed_of())
    added = (brighter - canvas).flatten(1)
    assert torch.equal(place, mask) and (added.std(1) < 1e-6).all()
    assert added.min() < -0.15 and added.max() > 0.15 and added.abs().max() <= 0.2 + 1e-6


@pytest.mark.parametrize("transform", [Translate(2), Scale(0.7, 1.4), Brightness(0.2)])
def test_gradients_go_through_and_draws_are_the_generators(transform):
    canvas, mask = drawn(4)
    leaf = canvas.clone().requires_grad_(True)
    moved, where = transform(leaf, mask, seed_of(3))
    (gradient,) = torch.autograd.grad((moved * where).sum(), leaf)
    assert (gradient.flatten(1).abs().sum(1) > 1).all()
    again, _ = transform(canvas, mask, seed_of(3))
    other, _ = transform(canvas, mask, seed_of(4))
    assert torch.equal(again, moved) and not torch.equal(other, moved)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Translate(0), "`pixels` should be an integer of at least 1"),
        (lambda: Translate(1.5), "`pixels` should be an integer"),
        (lambda: Scale(0.0, 1.0), "0 < low ≤ high"),
        (lambda: Scale(2.0, 1.0), "0 < low ≤ high"),
        (lambda: Brightness(0.0), "`change` should be positive"),
        (lambda: apply_transform(lambda c, m, g: c, *drawn(2), seed_of()), "should return .canvas, mask.*Found Tensor"),
        (lambda: apply_transform(lambda c, m, g: (c[:1], m), *drawn(2), seed_of()), "should return .canvas, mask"),
    ],
)
def test_bad_transformations_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_transformations_are_callables():
    with pytest.raises(TypeError, match="`transforms` should be a list of callables"):
        checks.callables("transforms", [0.5])
    with pytest.raises(TypeError, match="`transforms` should be a list of callables"):
        checks.callables("transforms", Translate(1))
