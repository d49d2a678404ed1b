"""Augmentation: what each kind of label needs, and nothing invented."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from art_mtl.data import augment, flip

HEIGHT, WIDTH = 12, 16


def sample(seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Every pixel of every label tells where it comes from."""
    g = torch.Generator().manual_seed(seed)
    place = torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH)
    normals = torch.nn.functional.normalize(torch.randn(3, HEIGHT, WIDTH, generator=g), dim=0)
    depth = 1.0 + place[None].float()
    disparity = 1.0 + place[None].float()
    segmentation = place.clone()
    hole = torch.rand(HEIGHT, WIDTH, generator=g) < 0.2
    normals[:, hole], depth[:, hole], disparity[:, hole], segmentation[hole] = 0, 0, -1, -1
    labels = {"segmentation": segmentation, "depth": depth, "disparity": disparity, "normals": normals}
    return torch.rand(3, HEIGHT, WIDTH, generator=g) * 2 - 1, labels


def run(seed: int, scales: tuple[float, ...] = (1.0, 1.2, 1.5), crop: tuple[int, int] = (HEIGHT, WIDTH)):
    image, labels = sample()
    return augment(image, labels, scales=scales, crop=crop, generator=torch.Generator().manual_seed(seed))


def test_flip_mirrors_and_negates_the_x_of_normals() -> None:
    x, labels = sample()
    batch = {name: torch.stack([label, label]) for name, label in labels.items()}
    images, flipped = flip(torch.stack([x, x]), batch, torch.tensor([False, True]))
    assert torch.equal(images[0], x) and torch.equal(images[1], x.flip(-1))
    for name, label in labels.items():
        assert torch.equal(flipped[name][0], label)
        mirrored = label.flip(-1)
        expected = torch.stack([-mirrored[0], mirrored[1], mirrored[2]]) if name == "normals" else mirrored
        assert torch.equal(flipped[name][1], expected)


def test_boxes_are_mirrored_with_their_image() -> None:
    rows = [{"boxes": torch.tensor([[1.0, 2.0, 4.0, 6.0]]), "labels": torch.tensor([3])} for _ in range(2)]
    rows.append({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)})
    x = torch.zeros(3, 1, HEIGHT, WIDTH)
    x[:, :, 2:6, 1:4] = 1
    images, flipped = flip(x, {"things": rows}, torch.tensor([False, True, True]))
    for image, row, expected in zip(images, flipped["things"], ([1, 2, 4, 6], [12, 2, 15, 6], None), strict=True):
        assert row["boxes"].tolist() == ([] if expected is None else [expected])
        if expected is not None:
            left, top, right, bottom = expected
            assert image[0, top:bottom, left:right].sum() == image.sum() == 12 and row["labels"].tolist() == [3]


def test_flipping_twice_gives_back_what_was() -> None:
    x, labels = sample()
    batch, both = {name: label[None] for name, label in labels.items()}, torch.tensor([True])
    again_x, again = flip(*flip(x[None], batch, both), both)
    assert torch.equal(again_x[0], x)
    assert all(torch.equal(again[name][0], label) for name, label in labels.items())


def test_nothing_changes_without_scale_crop_and_flip() -> None:
    image, labels = sample()
    seen = set()
    for seed in range(20):
        new, augmented = run(seed, scales=(1.0,))
        if torch.equal(augmented["segmentation"], labels["segmentation"]):
            assert torch.equal(new, image)
            assert all(torch.equal(augmented[name], labels[name]) for name in labels)
            seen.add("as it was")
        else:
            assert torch.equal(new, image.flip(-1))
            assert torch.equal(augmented["segmentation"], labels["segmentation"].flip(-1))
            seen.add("mirrored")
    assert seen == {"as it was", "mirrored"}


@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.2, 1.5]), st.sampled_from([(12, 16), (6, 8), (12, 8), (1, 1)]))
@settings(max_examples=60, deadline=None)
def test_labels_come_from_one_place_each_and_are_never_mixed(seed: int, scale: float, crop: tuple[int, int]) -> None:
    _, labels = sample()
    image, new = run(seed, (scale,), crop)
    assert tuple(image.shape) == (3, *crop) and new["segmentation"].shape == crop
    place = new["segmentation"]
    valid = place >= 0
    assert torch.equal(new["depth"][0][valid], (1.0 + place[valid]) / scale), "depth is divided"
    assert torch.equal(new["disparity"][0][valid], (1.0 + place[valid]) * scale), "disparity is multiplied"
    source = labels["normals"].flatten(1)[:, place[valid].long()]
    assert torch.equal(new["normals"][1:, valid], source[1:])
    assert torch.equal(new["normals"][0, valid].abs(), source[0].abs())
    assert (new["depth"][0][~valid] == 0).all() and (new["disparity"][0][~valid] == -1).all()
    assert (new["normals"][:, ~valid] == 0).all(), "marks of what is not valid stay"
    row, column = place // WIDTH, place % WIDTH
    pairs = valid[:, 1:] & valid[:, :-1]
    steps = (column[:, 1:] - column[:, :-1])[pairs]
    assert (steps >= 0).all() or (steps <= 0).all(), "left to right or right to left, never both"
    assert (row[1:] - row[:-1])[valid[1:] & valid[:-1]].ge(0).all()


def test_a_mirrored_sample_has_negated_normals_and_others_not() -> None:
    _, labels = sample()
    seen = set()
    for seed in range(20):
        _, new = run(seed)
        place = new["segmentation"]
        pairs = (place[:, 1:] >= 0) & (place[:, :-1] >= 0)
        mirrored = bool(((place[:, 1:] - place[:, :-1])[pairs] < 0).any())
        valid = place >= 0
        source = labels["normals"][0].flatten()[place[valid]]
        assert torch.equal(new["normals"][0, valid], -source if mirrored else source)
        seen.add(mirrored)
    assert seen == {False, True}


def test_images_are_blended_between_their_own_pixels() -> None:
    ramp = torch.arange(WIDTH, dtype=torch.float32).expand(1, HEIGHT, WIDTH).contiguous()
    for seed in range(10):
        image, _ = augment(ramp, {}, scales=[2.0], crop=(HEIGHT, WIDTH), generator=torch.Generator().manual_seed(seed))
        steps = (image[0, 0, 1:] - image[0, 0, :-1]).abs()
        inner = steps[1:-1]
        torch.testing.assert_close(inner, torch.full_like(inner, 0.5))
        assert image.min() >= 0 and image.max() <= WIDTH - 1


def test_the_generator_alone_decides() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        (one, first), (two, second) = run(7), run(7)
        assert torch.equal(one, two) and all(torch.equal(first[name], second[name]) for name in first)
    generator = torch.Generator().manual_seed(1)
    image, labels = sample()
    for scales, crop in itertools.product([(1.0,), (1.0, 1.5)], [(12, 16), (4, 4)]):
        augment(image, labels, scales=scales, crop=crop, generator=generator)
    fixed = torch.Generator().manual_seed(1)
    torch.rand(16, generator=fixed, dtype=torch.float64)
    assert torch.equal(generator.get_state(), fixed.get_state()), "four numbers a sample, whatever happens"


def test_scales_crops_and_flips_all_occur() -> None:
    scales = {round(float(new["depth"].max() / (1 + new["segmentation"].max())), 4) for _, new in map(run, range(40))}
    assert scales == {1.0, round(1 / 1.2, 4), round(1 / 1.5, 4)}
    corners = {int(run(seed, (1.0,), (2, 2))[1]["segmentation"].max()) for seed in range(60)}
    assert len(corners) > 30


@pytest.mark.parametrize(
    ("scales", "crop", "message"),
    [((), (4, 4), "`scales`"), ((0.5,), (4, 4), r"`scales`.*\(0.5,\)"), ((1.0,), (13, 4), r"`crop`.*\(13, 4\)"),
     ((1.0,), (0, 4), "`crop`")],
)  # fmt: skip
def test_wrong_parameters_are_named(scales: tuple[float, ...], crop: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(0, scales, crop)


def test_the_input_is_not_written_to() -> None:
    image, labels = sample()
    before = [image.clone(), *(label.clone() for label in labels.values())]
    for seed in range(5):
        new, _ = augment(image, labels, scales=[1.0, 1.5], crop=(12, 16), generator=torch.Generator().manual_seed(seed))
        new.add_(1)
    assert all(torch.equal(one, two) for one, two in zip(before, [image, *labels.values()], strict=True))
    assert np.isfinite(image.numpy()).all()
