"""Normals from depth: exact on planes, near on spheres, absent where nothing was measured."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from art_mtl.data.prepare import NYUV2_CAMERA, Pinhole, normals_from_depth

REAL = Path(os.environ.get("ART_MTL_NYUV2", Path(__file__).parents[4] / "shared" / "data" / "nyuv2_10"))
CAMERA = Pinhole(60.0, 62.0, 40.3, 28.9)
SHAPE = (60, 80)


def rays(camera: Pinhole = CAMERA, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(shape)], -1)


def plane(normal: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Depth of the plane through a point; 0 where it is behind the camera or far."""
    with np.errstate(divide="ignore"):
        depth = (normal @ point) / (rays() @ normal)
    return np.where((depth > 0.1) & (depth < 30), depth, 0)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a.astype(float) * b).sum(-1), -1, 1)))


PLANES = [(0, 0, -1), (0, -1, 0), (0, 1, 0), (1, 0, 0), (-0.6, 0, -0.8), (0.3, -0.5, -0.7), (0.5, 0.7, -0.2)]


@pytest.mark.parametrize("direction", PLANES)
def test_planes_are_exact(direction: tuple[float, float, float]) -> None:
    normal = np.array(direction, float) / np.linalg.norm(direction)
    depth = plane(normal, -1.5 * normal)
    found = normals_from_depth(depth, CAMERA, edge=0.3)  # seen this coarsely, a floor's depth grows fast
    valid = (found != 0).any(-1)
    assert valid.sum() > 0.8 * (depth > 0).sum() and not found[depth == 0].any()
    assert angle(found[valid], normal).max() < 0.05, "and it faces the camera"


def test_a_floor_points_up_and_a_wall_at_the_camera() -> None:
    floor = normals_from_depth(plane(np.array([0.0, -1, 0]), np.array([0, 1.3, 0])), CAMERA)
    np.testing.assert_allclose(floor[-8, 40], [0, -1, 0], atol=1e-4)
    wall = normals_from_depth(np.full(SHAPE, 3.0), CAMERA)
    np.testing.assert_allclose(wall, np.broadcast_to([0, 0, -1], wall.shape), atol=1e-5)


def test_spheres_are_near() -> None:
    centre, radius = np.array([0.2, -0.1, 4.0]), 1.5
    ray = rays()
    a, b, c = (ray**2).sum(-1), ray @ centre, centre @ centre - radius**2
    discriminant = b**2 - a * c
    hit = discriminant > 0
    depth = np.where(hit, (b - np.sqrt(np.maximum(discriminant, 0))) / a, 0)
    true = (depth[..., None] * ray - centre) / radius
    found = normals_from_depth(depth, CAMERA, radius=2)
    front = hit & (discriminant > 0.3 * discriminant.max()) & (found != 0).any(-1)
    assert front.sum() > 500
    assert angle(found[front], true[front]).max() < 2.5
    assert angle(found[front], true[front]).mean() < 0.5


def test_surfaces_are_not_mixed_across_an_edge() -> None:
    near, far = np.array([0.6, 0, -0.8]), np.array([0.0, 0, -1])
    left = np.arange(SHAPE[1]) < 40
    depth = np.where(left, plane(near, np.array([0, 0, 1.5])), plane(far, np.array([0, 0, 4.0])))
    found = normals_from_depth(depth, CAMERA)
    valid = (found != 0).any(-1)
    assert valid[:, 30:50].mean() > 0.9
    assert angle(found, near)[valid & left].max() < 0.1 and angle(found, far)[valid & ~left].max() < 0.1


def test_lengths_are_one_or_zero_and_holes_stay() -> None:
    rng = np.random.default_rng(0)
    depth = (plane(np.array([0.3, -0.5, -0.7]), np.array([0, 0, 3.0])) * rng.uniform(0.99, 1.01, SHAPE)).astype(
        np.float32
    )
    depth[10:30, 20:50] = 0
    depth[20, 35] = 3.0  # a lone measurement fixes no plane
    depth[45:47] = np.where(np.arange(SHAPE[1]) % 2, depth[45:47], 0)
    found = normals_from_depth(depth, CAMERA)
    assert found.dtype == np.float32 and found.shape == (*SHAPE, 3)
    length = np.linalg.norm(found.astype(float), axis=-1)
    assert (np.isclose(length, 1, atol=1e-6) | (length == 0)).all()
    assert not length[depth == 0].any() and length[20, 35] == 0
    assert length[depth > 0].mean() > 0.9
    facing = (found * rays()).sum(-1)
    assert (facing[length > 0] < 0).all(), "every normal faces the camera"


def test_a_line_of_measurements_fixes_no_plane() -> None:
    depth = np.zeros((9, 9))
    depth[4] = 2.0
    assert not normals_from_depth(depth, CAMERA, radius=1).any()
    depth[3] = 2.0
    assert normals_from_depth(depth, CAMERA, radius=1).any()


def test_quantised_depth_is_evened_out() -> None:
    normal = np.array([0.2, -0.3, -0.9]) / np.linalg.norm([0.2, -0.3, -0.9])
    depth = plane(normal, np.array([0, 0, 3.0]))
    steps = 1 / (np.round(1 / depth * 400) / 400)  # a Kinect measures whole steps of disparity
    found = normals_from_depth(steps, CAMERA)
    assert angle(found, normal)[8:-8, 8:-8].mean() < 2
    assert angle(found, normal)[8:-8, 8:-8].mean() < 0.5 * angle(normals_from_depth(steps, CAMERA, radius=1), normal)[
        8:-8, 8:-8
    ].mean()  # fmt: skip


def test_the_camera_of_a_part_sees_the_same_normals() -> None:
    normal = np.array([0.3, -0.5, -0.7]) / np.linalg.norm([0.3, -0.5, -0.7])
    depth = plane(normal, np.array([0, 0, 3.0]))
    part = normals_from_depth(depth[10:40, 20:60], CAMERA.cropped(10, 20), edge=0.5)
    half = normals_from_depth(plane_at_half(normal), CAMERA.scaled(0.5, 0.5), edge=0.5)[5:20, 5:30]
    assert angle(part, normal).max() < 0.05 and angle(half, normal).max() < 0.05


def plane_at_half(normal: np.ndarray) -> np.ndarray:
    """What a camera of half as many pixels sees: its pixels look along the middle of four."""
    ray = rays().reshape(30, 2, 40, 2, 3).mean((1, 3))
    return np.asarray(normal @ np.array([0, 0, 3.0]) / (ray @ normal))


@pytest.mark.parametrize("depth", [np.zeros((3, 4, 1)), np.full((3, 4), -1.0), np.full((3, 4), np.nan)])
def test_wrong_depths_are_refused(depth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="`depth` should be"):
        normals_from_depth(depth, CAMERA)


@pytest.mark.skipif(not REAL.is_dir(), reason="no NYUv2 images; set ART_MTL_NYUV2 to a folder of them")
def test_real_depth_gives_normals_like_those_computed_otherwise() -> None:
    camera = NYUV2_CAMERA.cropped(47, 40).scaled(288 / 420, 384 / 560)
    means = []
    for path in sorted(REAL.glob("*/depth/*.npy")):
        depth, stored = np.load(path)[..., 0], np.load(path.parents[1] / "normal" / path.name).astype(np.float32)
        found = normals_from_depth(depth, camera, radius=3)
        both = (found != 0).any(-1) & (stored != 0).any(-1)
        assert both.sum() > 0.9 * (stored != 0).any(-1).sum()
        means.append(angle(found, stored)[both].mean())
    assert len(means) >= 3
    assert np.mean(means) < 12, "degrees; noise, windows and edges differ"
