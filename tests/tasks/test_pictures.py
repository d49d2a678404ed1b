"""Pictures and words of labels."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from art_mtl import tasks
from art_mtl.tasks.colours import CLASS_COLOURS, class_picture, value_picture

NAN = float("nan")


def test_values_have_the_colours_of_matplotlib():
    values = np.concatenate([np.linspace(-0.2, 3.4, 4000), [0.5, 3.0, 0.5 + 2.5 / 256]]).reshape(1, -1)
    expected = mpl.colormaps["viridis"](mpl.colors.Normalize(0.5, 3.0)(values), bytes=True)[..., :3]
    np.testing.assert_array_equal((255 * value_picture(values, 0.5, 3.0)).astype(np.uint8), expected)
    assert (value_picture(np.array([[NAN]]), 0, 1) == 1).all()
    np.testing.assert_array_equal(value_picture(np.full((1, 1), 2.0), 2.0, 2.0), value_picture(np.zeros((1, 1)), 0, 1))


def test_classes_have_their_colours_and_what_is_ignored_is_white():
    picture = class_picture(np.array([[0, 18, 19, -1]]))
    expected = [to_rgb(CLASS_COLOURS[0]), to_rgb(CLASS_COLOURS[18]), to_rgb(CLASS_COLOURS[0]), (1, 1, 1)]
    np.testing.assert_array_equal(picture[0], expected)


MAPS = {
    "segmentation": (tasks.segmentation("t", 3, ignore_index=255), np.array([[[0, 2], [255, 1]]]), (1, 0)),
    "depth": (tasks.depth("t"), np.array([[[1.0, 2.0], [0.0, 4.0]]]), (1, 0)),
    "disparity": (tasks.disparity("t", invalid=NAN), np.array([[[1.0, 2.0], [NAN, 0.0]]]), (1, 0)),
    "surface_normals": (
        tasks.surface_normals("t"), np.array([[[[0, 0], [0, 0.6]], [[0, 0], [0, 0.8]], [[1, -1.0], [0, 0]]]]), (1, 0),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "y", "hole"), MAPS.values(), ids=MAPS)
def test_pictures_are_colours_with_white_holes(task, y, hole):
    target = task.targets(y)
    assert torch.equal(~target.valid[0], torch.eye(2, dtype=torch.bool).new_tensor([[False, False], [True, False]]))
    label = task.shown(target)[0]
    picture = task.picture(label, task.limits(label))
    assert task.is_map and picture.shape == (2, 2, 3) and picture.min() >= 0 and picture.max() <= 1
    white = (picture == 1).all(-1)
    assert white[hole] and white.sum() == 1
    assert "25% " in task.caption(label)


def test_error_maps_say_how_wrong_a_prediction_is_and_where_nothing_is_known():
    (seg, y, _), (depth, metres, _) = MAPS["segmentation"], MAPS["depth"]
    truth = seg.shown(seg.targets(y))[0]
    np.testing.assert_array_equal(seg.error_map(np.array([[0, 1], [2, 1]]), truth), [[0, 1], [NAN, 0]])
    far = depth.shown(depth.targets(metres))[0]
    np.testing.assert_array_equal(depth.error_map(np.array([[3.0, 1.5], [7.0, 4.0]]), far), [[2, 0.5], [NAN, 0]])
    normals, vectors, _ = MAPS["surface_normals"]
    up = normals.shown(normals.targets(vectors))[0]  # z, −z; nothing, (0.6, 0.8, 0)
    x_axis = np.zeros_like(up)
    x_axis[0] = 2.0
    np.testing.assert_allclose(normals.error_map(x_axis, up), [[90, 90], [NAN, np.rad2deg(np.arccos(0.6))]], atol=1e-5)
    np.testing.assert_allclose(normals.error_map(up, up), [[0, 0], [NAN, 0]], atol=1e-5)
    assert tasks.classification("kind", 3).error_map(np.array(1), np.array(2)) is None
    assert depth.limits(np.array([[[1.0, np.inf], [NAN, 3.0]]])) == (1.0, 3.0), "infinity has no place on a scale"


def test_captions_say_what_a_map_holds():
    depth, normals = MAPS["depth"], MAPS["surface_normals"]
    assert depth[0].caption(depth[0].shown(depth[0].targets(depth[1]))[0], "m") == "1 to 4 m, 25% not measured"
    assert depth[0].caption(np.full((1, 2, 2), NAN)) == "nothing measured"
    assert depth[0].limits(np.full((1, 2, 2), NAN)) == (0.0, 1.0)
    assert tasks.segmentation("s", 3).caption(np.array([[0, 2]])) == "2 classes"
    assert normals[0].caption(np.ones((3, 2, 2))) == "all measured"


def test_words():
    tags, kind, value = tasks.multilabel("t", 3), tasks.classification("c", 3), tasks.regression("r")
    shown = tags.shown(tags.targets(np.array([[1, 0, -1], [-1, -1, -1]])))
    assert [tags.answer(label) for label in shown] == ["{0}", "?"]
    assert tags.answer(shown[0], ["sky", "sea"]) == "{sky}"
    assert tags.agrees(np.array([1, 0, 1]), shown[0]) and not tags.agrees(np.array([0, 0, 1]), shown[0])
    shown = kind.shown(kind.targets(np.array([2, 0]), np.array([True, False])))
    assert [kind.answer(label) for label in shown] == ["2", "?"] and not kind.agrees(np.array(1), shown[0])
    shown = value.shown(value.targets(np.array([[1.26, 2], [3, 4]]), np.array([True, False])))
    assert [value.answer(label) for label in shown] == ["1.3, 2.0", "?"]
    assert value.agrees(np.array([1.7, 2.4]), shown[0]) and not value.agrees(np.array([1.7, 2.6]), shown[0])
    assert kind.picture(shown[0]) is None and kind.limits(shown[0]) is None
