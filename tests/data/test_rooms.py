"""Rooms: labels obey geometry, and a scene is a function of its index."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from art_mtl.data import CLASSES, THINGS, Rooms, RoomsDetection
from art_mtl.data._raycast import BOX, CYLINDER, ELLIPSOID, Camera, Solids, _enter, shadowed, trace
from art_mtl.data._scene import furnish
from art_mtl.data.rooms import Rendering, _objects, render

SIZE = np.array([4, 6, 3], np.float32)


def level_camera() -> Camera:
    """At (2, 1, 1.5), looking along +y."""
    axes = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    return Camera(np.array([2, 1, 1.5], np.float32), axes, tan_half=0.6)


def solids(*parts: tuple[int, tuple[float, ...], tuple[float, ...], float]) -> Solids:
    kind, centre, half, yaw = zip(*parts, strict=True) if parts else ((), np.empty((0, 3)), np.empty((0, 3)), ())
    return Solids(
        np.array(kind, np.int64), np.array(centre, np.float32), np.array(half, np.float32), np.array(yaw, np.float32)
    )


@pytest.fixture(scope="module")
def views() -> list[Rendering]:
    dataset = Rooms("test")
    return [dataset.rendering(i) for i in range(30)]


def points(view: Rendering) -> np.ndarray:
    """(H, W, 3) positions in camera axes."""
    height, width = view.depth.shape
    focal = width / 2 / view.tan_half
    u = (np.arange(width) + 0.5 - width / 2) / focal
    v = (np.arange(height) + 0.5 - height / 2) / focal
    return np.stack(np.broadcast_arrays(u[None], v[:, None], 1.0), 2) * view.depth[..., None].astype(np.float64)


def test_depth_is_measured_along_the_optical_axis() -> None:
    hits = trace(SIZE, solids(), level_camera(), 40, 60)
    far_wall = hits.surface == 3
    assert far_wall.sum() > 500
    np.testing.assert_allclose(hits.depth[far_wall], 5.0, rtol=1e-5)
    np.testing.assert_allclose(hits.normal[far_wall], [[0, -1, 0]] * far_wall.sum(), atol=1e-6)
    assert set(hits.surface) == {0, 1, 3, 4, 5}, "both side walls, the far wall, floor and ceiling"


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_solids_are_met_where_they_stand(kind: int) -> None:
    hits = trace(SIZE, solids((kind, (2, 4, 1.5), (0.3, 0.5, 0.4), 0.0)), level_camera(), 41, 61)
    middle = 20 * 61 + 30
    assert hits.surface[middle] == 0
    assert hits.depth[middle] == pytest.approx(2.5, abs=1e-5)
    np.testing.assert_allclose(hits.normal[middle], [0, -1, 0], atol=1e-3)
    # The silhouette of the front face: +-0.3 to the sides at depth 2.5 for a box, elsewhere no wider.
    row = (hits.surface.reshape(41, 61)[20] == 0).sum()
    focal = 61 / 2 / 0.6
    widest = 2 * 0.3 / 2.5 * focal
    assert row <= widest + 1
    assert row >= widest - 1 if kind == BOX else row >= 0.7 * widest


def test_a_turned_box_shows_a_turned_face() -> None:
    yaw = 0.4
    hits = trace(SIZE, solids((BOX, (2, 4, 1.5), (0.5, 0.5, 0.5), yaw)), level_camera(), 41, 61)
    np.testing.assert_allclose(hits.normal[20 * 61 + 32], [np.sin(yaw), -np.cos(yaw), 0], atol=1e-5)


def test_sphere_normals_point_away_from_its_centre() -> None:
    centre = np.array([2.2, 3.5, 1.4], np.float32)
    hits = trace(SIZE, solids((ELLIPSOID, tuple(centre), (0.6, 0.6, 0.6), 0.7)), level_camera(), 41, 61)
    ball = hits.surface == 0
    assert ball.sum() > 50
    np.testing.assert_allclose((hits.point[ball] - centre) / 0.6, hits.normal[ball], atol=2e-3)


def test_culling_loses_no_hit() -> None:
    for seed in range(5):
        scene = furnish(np.random.default_rng(seed))
        hits = trace(scene.size, scene.solids, scene.camera, 30, 40)
        directions = scene.camera.directions(30, 40)
        ray, solid = (grid.ravel() for grid in np.mgrid[:1200, : len(scene.solids)])
        every = _enter(scene.solids, scene.camera.position, directions, ray, solid).reshape(1200, -1)
        empty = trace(scene.size, solids(), scene.camera, 30, 40)
        np.testing.assert_allclose(hits.depth, np.minimum(every.min(1), empty.depth), rtol=1e-5)


def test_shadows_are_what_the_light_does_not_see() -> None:
    for seed in range(5):
        scene = furnish(np.random.default_rng(seed))
        hits = trace(scene.size, scene.solids, scene.camera, 24, 32)
        light = scene.light.position
        towards = np.ascontiguousarray((hits.point - light).T)
        ray, solid = (grid.ravel() for grid in np.mgrid[: 24 * 32, : len(scene.solids)])
        every = _enter(scene.solids, light, towards, ray, solid).reshape(24 * 32, -1)
        expected = (every[:, scene.casts] < 1 - 1e-3).any(1)
        np.testing.assert_array_equal(shadowed(light, hits.point, scene.solids, scene.casts), expected)
        assert not shadowed(light, hits.point, scene.solids, np.zeros_like(scene.casts)).any()


def test_normals_agree_with_differences_of_depth(views: list[Rendering]) -> None:
    for view in views:
        p, n, inverse = points(view), view.normals, 1 / view.depth.astype(np.float64)
        across, down = p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1]
        estimate = np.cross(down, across)
        estimate /= np.linalg.norm(estimate, axis=2, keepdims=True)
        # On a plane, and hardly elsewhere, the inverse of depth is an affine function of the pixel.
        bends = [
            np.abs(inverse[1:-1, 2:] + inverse[1:-1, :-2] - 2 * inverse[1:-1, 1:-1]),
            np.abs(inverse[2:, 1:-1] + inverse[:-2, 1:-1] - 2 * inverse[1:-1, 1:-1]),
        ]
        flat = np.maximum(*bends) < 3e-6 * inverse[1:-1, 1:-1]
        angle = np.degrees(np.arccos(np.clip((estimate * n[1:-1, 1:-1]).sum(2)[flat], -1, 1)))
        assert flat.mean() > 0.5
        assert (angle < 0.5).mean() > 0.9995
        assert np.median(angle) < 0.02


def test_normals_are_unit_vectors_that_face_the_camera(views: list[Rendering]) -> None:
    for view in views:
        np.testing.assert_allclose(np.linalg.norm(view.normals, axis=2), 1, atol=1e-5)
        assert ((view.normals * points(view)).sum(2) < 1e-3).all()


def test_floors_lie_below_and_ceilings_above(views: list[Rendering]) -> None:
    floor, ceiling = CLASSES.index("floor"), CLASSES.index("ceiling")
    both = 0
    for view in views:
        ground, top = view.segmentation == floor, view.segmentation == ceiling
        if ground.any():
            up = np.median(view.normals[ground], axis=0)
            assert up[1] < -0.8, "camera axes have y down"
            height = points(view) @ up
            assert np.median(height[ground]) < height[~ground].min() + 0.2
        if ground.any() and top.any():
            both += 1
            np.testing.assert_allclose(np.median(view.normals[top], axis=0), -up, atol=1e-4)
    assert both > 3


def test_every_pixel_is_labelled_and_every_class_occurs(views: list[Rendering]) -> None:
    count = np.bincount(np.concatenate([view.segmentation.ravel() for view in views]), minlength=13)
    assert len(count) == len(CLASSES) == 13 and (count > 0).all()
    for view in views:
        assert view.segmentation.min() >= 0
        assert view.depth.min() > 0.3 and view.depth.max() < np.hypot(6.2, 6.2)
        assert len(np.unique(view.segmentation)) >= 4
        assert 20 < view.image.mean() < 235 and view.image.std() > 10


def test_a_scene_is_the_same_at_every_resolution() -> None:
    coarse, fine = (Rooms("test", height=48 * k, width=64 * k).rendering(3) for k in (1, 3))
    # The middle of a coarse pixel is the middle of the middle one of its nine fine pixels.
    np.testing.assert_allclose(coarse.depth, fine.depth[1::3, 1::3], rtol=1e-4)
    np.testing.assert_array_equal(coarse.segmentation, fine.segmentation[1::3, 1::3])


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    some = Rooms("train", size=4, height=24, width=32)
    first = [some[i] for i in range(4)]
    more = Rooms("train", size=9, height=24, width=32)
    for i in (2, 0, 3, 1):
        image, labels = more[i]
        assert image.equal(first[i][0])
        assert all(labels[name].equal(first[i][1][name]) for name in labels)
    others = [Rooms("test", height=24, width=32)[0], Rooms("train", height=24, width=32, seed=1)[0], first[1]]
    for image, labels in others:
        assert not image.equal(first[0][0])
        assert not labels["depth"].equal(first[0][1]["depth"])


def test_no_scene_occurs_in_both_splits() -> None:
    train, test = (Rooms(split, size=25, height=16, width=16).arrays()[1]["depth"] for split in ("train", "test"))
    assert len({np.asarray(depth).tobytes() for depth in [*train, *test]}) == 50


def test_boxes_are_those_of_the_pixels_in_which_objects_are_seen() -> None:
    """Every ray against every solid, and every pixel by itself."""
    height, width, kept, left_out = 48, 64, 0, 0
    for seed in (0, 7, 8, 12, 13, 17, 18):
        scene = furnish(np.random.default_rng(seed))
        hits = trace(scene.size, scene.solids, scene.camera, height, width)
        boxes, things = _objects(scene, hits.surface.reshape(height, width))
        directions = scene.camera.directions(height, width)
        ray, solid = (grid.ravel() for grid in np.mgrid[: height * width, : len(scene.solids)])
        every = _enter(scene.solids, scene.camera.position, directions, ray, solid).reshape(height * width, -1)
        walls = trace(scene.size, solids(), scene.camera, height, width).depth
        seen: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for place in range(height * width):
            nearest = int(every[place].argmin())
            if every[place, nearest] <= walls[place] and CLASSES[scene.labels[nearest]] in THINGS:
                thing = THINGS.index(CLASSES[scene.labels[nearest]])
                seen.setdefault((thing, int(scene.pieces[nearest])), []).append(divmod(place, width))
        expected = set()
        for (thing, _), pixels in seen.items():
            top, bottom = min(row for row, _ in pixels), max(row for row, _ in pixels) + 1
            first, last = min(column for _, column in pixels), max(column for _, column in pixels) + 1
            if len(pixels) >= 12 and bottom - top >= 3 and last - first >= 3:
                expected.add((thing, first, top, last, bottom))
        assert {(thing, *box) for thing, box in zip(things.tolist(), boxes.tolist(), strict=True)} == expected
        kept, left_out = kept + len(expected), left_out + len(seen) - len(expected)
    assert kept > 25 and left_out > 3


def test_rooms_for_detection_are_the_same_scenes_with_boxes() -> None:
    plain, more = Rooms("test", size=3, height=48, width=64), RoomsDetection("test", size=3, height=48, width=64)
    image, labels = more[1]
    assert image.equal(plain[1][0]) and all(labels[name].equal(label) for name, label in plain[1][1].items())
    view = more.rendering(1)
    assert labels["detection"]["boxes"].equal(torch.tensor(view.boxes)) and len(view.boxes) > 1
    assert labels["detection"]["labels"].equal(torch.tensor(view.things)) and view.things.max() < len(THINGS)
    x, y = more.arrays(2)
    assert y["detection"].shape == (2,) and y["detection"].dtype == object
    np.testing.assert_array_equal(y["detection"][1]["boxes"], view.boxes)
    x, y = more.arrays()
    np.testing.assert_array_equal(y["detection"][1]["boxes"], view.boxes)
    assert len(x) == len(y["detection"]) == 3 and y["detection"][2]["labels"].dtype == np.int64


def test_arrays_and_items_have_the_layout_of_the_tasks() -> None:
    dataset = Rooms("test", size=3, height=24, width=32)
    x, labels = dataset.arrays()
    assert x.shape == (3, 3, 24, 32) and x.dtype == np.float32 and x.min() >= -1 and x.max() <= 1
    assert labels["segmentation"].shape == (3, 24, 32) and labels["segmentation"].dtype == np.int64
    assert labels["depth"].shape == (3, 1, 24, 32) and labels["normals"].shape == (3, 3, 24, 32)
    view = dataset.rendering(1)
    np.testing.assert_allclose((x[1] + 1) / 2 * 255, view.image.transpose(2, 0, 1), atol=1e-3)
    np.testing.assert_array_equal(labels["normals"][1], view.normals.transpose(2, 0, 1))
    np.testing.assert_array_equal(dataset[1][1]["depth"][0].numpy(), view.depth)


def test_the_picture_shows_the_scene() -> None:
    """Neighbouring pixels differ more where the label changes than where it does not."""
    edge, flat = [], []
    for seed in range(12):
        view = render(np.random.default_rng(seed))
        jump = np.abs(np.diff(view.image.astype(float).mean(2), axis=1))
        change = np.diff(view.segmentation, axis=1) != 0
        edge.append(jump[change].mean())
        flat.append(jump[~change].mean())
    assert np.mean(edge) > 2 * np.mean(flat)


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="`split` should be one of train, test. Found 'val'"):
        Rooms("val")
    for name, value in (("size", 0), ("height", 8), ("width", 15), ("seed", -1)):
        with pytest.raises(ValueError, match=f"`{name}`.*Found {value}"):
            Rooms(**{name: value})
