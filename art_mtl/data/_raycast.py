"""Ray casting of a room full of simple solids, vectorised over (ray, solid) pairs.

World axes: x and y span the floor, z points up. Camera axes: x right, y down, z forward along the optical axis.
A camera ray is ``origin + t * direction`` with a direction whose forward component is 1, so ``t`` *is* the depth
along the optical axis; nothing is measured from pictures, every label is the exact answer of a ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BOX, ELLIPSOID, CYLINDER = 0, 1, 2

_NEAR = 0.05  # metres; nothing stands closer to the camera than this
_TINY = np.float32(1e-8)
_FAR = np.float32(np.inf)


@dataclass(frozen=True)
class Solids:
    """M solids that may be turned about the vertical, as a structure of arrays.

    Attributes:
        kind: (M,) ``BOX``, ``ELLIPSOID`` or ``CYLINDER`` (upright).
        centre: (M, 3) in metres.
        half: (M, 3) half extents along the solid's own axes, in metres.
        yaw: (M,) rotation about the vertical in radians.
    """

    kind: Ints
    centre: Floats
    half: Floats
    yaw: Floats

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: (3,) in metres.
        axes: (3, 3); the rows are the camera's right, down and forward axes in world coordinates.
        tan_half: tangent of half the horizontal angle of view.
    """

    position: Floats
    axes: Floats
    tan_half: float

    def focal(self, width: int) -> float:
        """Focal length in pixels for a picture of this width."""
        return width / 2 / self.tan_half

    def directions(self, height: int, width: int) -> Floats:
        """(3, H * W) world directions through the pixel centres, each with forward component 1."""
        focal = self.focal(width)
        u = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / focal
        v = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / focal
        right, down, forward = self.axes[:, :, None, None]
        return np.asarray(right * u + down * v[:, None] + forward, np.float32).reshape(3, -1)

    def to_camera(self, vectors: Floats) -> Floats:
        """(..., 3) vectors from world to camera axes.

        Not by a matrix product: those of BLAS differ between machines and start threads for a trifle.
        """
        return np.asarray(np.einsum("...w,cw->...c", vectors, self.axes), np.float32)


@dataclass(frozen=True)
class Hits:
    """What each of N camera rays meets first.

    Attributes:
        depth: (N,) depth along the optical axis in metres.
        surface: (N,) index of the solid, or M + face for the six faces of the room (x-, x+, y-, y+, z-, z+).
        point: (N, 3) world coordinates in metres.
        normal: (N, 3) unit normal in world coordinates, facing the camera.
        uv: (N, 2) coordinates on the surface in metres.
        relative: (N, 2) the same, divided by the half extent of the face (0 on the room itself).
        axis: (N,) the local axis of the face, 0..2 (vertical faces have 0 or 1).
    """

    depth: Floats
    surface: Ints
    point: Floats
    normal: Floats
    uv: Floats
    relative: Floats
    axis: Ints


def _rotate(vectors: Floats, cosine: Floats, sine: Floats) -> Floats:
    """Rotate (3, N) vectors about the vertical by the angle of the given cosine and sine."""
    x, y, z = vectors
    return np.stack([cosine * x - sine * y, sine * x + cosine * y, z])


def _quadratic(a: Floats, b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Both roots of a t^2 + 2 b t + c, an empty interval where there are none."""
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    a = np.maximum(a, _TINY)
    miss = discriminant < 0
    return np.where(miss, _FAR, (-b - root) / a), np.where(miss, -_FAR, (-b + root) / a)


def _intervals(origin: Floats, direction: Floats, half: Floats, kind: Ints) -> tuple[Floats, Floats, Floats]:
    """Where rays, (3, N) in the solids' own axes, enter and leave them, and where they enter each slab, (3, N).

    The round sides of ellipsoids and cylinders count as the slab of the first axis.
    """
    inverse: Floats = np.asarray(1 / np.where(np.abs(direction) < _TINY, _TINY, direction), np.float32)
    centre, reach = -origin * inverse, half * np.abs(inverse)
    near, far = centre - reach, centre + reach
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    for code, axes in ((ELLIPSOID, 3), (CYLINDER, 2)):
        rows = np.flatnonzero(kind == code)
        if rows.size == 0:
            continue
        o, d = (origin[:axes, rows] / half[:axes, rows]), (direction[:axes, rows] / half[:axes, rows])
        first, last = _quadratic((d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1)
        near[:axes, rows] = -np.inf
        near[0, rows] = first
        leave[rows] = last if axes == 3 else np.minimum(last, far[2, rows])
        if axes == 3:
            near[2, rows] = -np.inf
    return np.maximum(np.maximum(near[0], near[1]), near[2]), leave, near


def _enter(solids: Solids, origin: Floats, directions: Floats, ray: Ints, solid: Ints) -> Floats:
    """Ray parameter at which each (ray, solid) pair meets, infinite where it does not; directions are (3, N)."""
    cosine, sine = np.cos(solids.yaw), np.sin(solids.yaw)
    local = _rotate((origin - solids.centre).T, cosine, -sine)
    d = _rotate(directions[:, ray], cosine[solid], -sine[solid])
    enter, leave, _ = _intervals(local[:, solid], d, solids.half.T[:, solid], solids.kind[solid])
    return np.where((enter <= leave) & (enter > 0), enter, _FAR)


def _screen_pairs(solids: Solids, camera: Camera, height: int, width: int) -> tuple[Ints, Ints]:
    """(ray, solid) pairs for all pixels inside the bounding rectangle of each projected solid."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), np.float32).reshape(3, 8).T
    offsets = (signs[None] * solids.half[:, None]).reshape(-1, 3)
    turned = _rotate(offsets.T, np.repeat(np.cos(solids.yaw), 8), np.repeat(np.sin(solids.yaw), 8)).T
    corners = camera.to_camera(turned.reshape(-1, 8, 3) + solids.centre[:, None] - camera.position)
    z = corners[..., 2]
    focal = camera.focal(width)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = corners[..., 0] / np.maximum(z, _NEAR) * focal + width / 2
        y = corners[..., 1] / np.maximum(z, _NEAR) * focal + height / 2
    crossing = (z < _NEAR).any(axis=1)  # a corner behind the camera has no projection: take the whole picture
    visible = (z > _NEAR).any(axis=1)
    left = np.where(crossing, 0, np.clip(np.floor(x.min(1)), 0, width)).astype(np.int64)
    right = np.where(crossing, width, np.clip(np.ceil(x.max(1)), 0, width)).astype(np.int64)
    top = np.where(crossing, 0, np.clip(np.floor(y.min(1)), 0, height)).astype(np.int64)
    bottom = np.where(crossing, height, np.clip(np.ceil(y.max(1)), 0, height)).astype(np.int64)
    columns = np.maximum(right - left, 0)
    count = np.where(visible, columns * np.maximum(bottom - top, 0), 0)
    solid = np.repeat(np.arange(len(solids)), count)
    rank = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    row, column = np.divmod(rank, columns[solid])
    return (top[solid] + row) * width + left[solid] + column, solid


def trace(size: Floats, solids: Solids, camera: Camera, height: int, width: int) -> Hits:
    """Send one ray through every pixel of a room.

    Args:
        size: (3,) extent of the room, which spans from the origin to ``size``, in metres.
        solids: what stands in the room.
        camera: where it is seen from; it must be inside the room.
        height: rows of the picture.
        width: columns of the picture.

    Returns:
        The first hit of each of the H * W rays, row by row. Every ray hits something, at worst the room itself.
    """
    directions = camera.directions(height, width)
    eye = camera.position[:, None]
    safe = np.where(np.abs(directions) < _TINY, _TINY, directions)
    exits = (np.where(safe > 0, size[:, None], 0) - eye) / safe
    axis = np.argmin(exits, axis=0)
    pixels = np.arange(height * width)
    depth = exits[axis, pixels].astype(np.float32)
    outward = safe[axis, pixels] > 0
    surface = len(solids) + 2 * axis + outward

    ray, solid = _screen_pairs(solids, camera, height, width)
    t = _enter(solids, camera.position, directions, ray, solid)
    np.minimum.at(depth, ray, t)
    winner = t == depth[ray]
    surface[ray[winner]] = solid[winner]

    point = eye + depth * directions
    normal = np.zeros_like(point)
    normal[axis, pixels] = np.where(outward, -1, 1)
    uv = np.stack([np.where(axis == 0, point[1], point[0]), np.where(axis == 2, point[1], point[2])])
    relative = np.zeros_like(uv)

    hit = np.flatnonzero(surface < len(solids))
    of = surface[hit]
    cosine, sine = np.cos(solids.yaw[of]), np.sin(solids.yaw[of])
    half, kind = solids.half.T[:, of], solids.kind[of]
    origin = _rotate(eye - solids.centre.T[:, of], cosine, -sine)
    direction = _rotate(directions[:, hit], cosine, -sine)
    face = np.argmax(_intervals(origin, direction, half, kind)[2], axis=0)
    local = origin + depth[hit] * direction
    facing = np.zeros_like(local)
    columns = np.arange(len(hit))
    facing[face, columns] = -np.sign(direction[face, columns])
    round_side = np.flatnonzero((kind == ELLIPSOID) | ((kind == CYLINDER) & (face == 0)))
    gradient = local[:, round_side] / half[:, round_side] ** 2
    gradient[2, kind[round_side] == CYLINDER] = 0
    facing[:, round_side] = gradient / np.maximum(np.sqrt((gradient**2).sum(0)), _TINY)
    local_uv = np.stack([np.where(face == 0, local[1], local[0]), np.where(face == 2, local[1], local[2])])
    extent = np.stack([np.where(face == 0, half[1], half[0]), np.where(face == 2, half[1], half[2])])
    local_uv[0, round_side] = np.arctan2(local[1, round_side], local[0, round_side]) * half[0, round_side]
    normal[:, hit] = _rotate(facing, cosine, sine)
    uv[:, hit], relative[:, hit], axis[hit] = local_uv, local_uv / extent, face
    return Hits(depth, surface, point.T, normal.T, uv.T, relative.T, axis)


def shadowed(light: Floats, points: Floats, solids: Solids, casts: Bools) -> Bools:
    """Which points cannot see the light.

    Args:
        light: (3,) position of the light.
        points: (N, 3) points on surfaces.
        solids: what may stand in between.
        casts: (M,) which of the solids throw a shadow.

    Returns:
        (N,) True where a solid lies between the light and the point.
    """
    dark = np.zeros(len(points), np.bool_)
    if not casts.any():
        return dark
    casting = np.flatnonzero(casts)
    solids = Solids(solids.kind[casting], solids.centre[casting], solids.half[casting], solids.yaw[casting])
    towards = np.ascontiguousarray((points - light).T)
    centre = solids.centre - light
    along = np.einsum("ms,sn->mn", centre, towards)
    # A sphere about the solid meets the line when |c|^2 - (c.d)^2 / |d|^2 <= r^2: this leaves few pairs to cast.
    slack = np.maximum((centre**2).sum(1) - (solids.half**2).sum(1), 0)
    cosine = np.maximum(along, 0) / np.sqrt((towards**2).sum(0))
    solid, ray = np.nonzero(cosine > np.sqrt(slack)[:, None])
    t = _enter(solids, light, towards, ray, solid)
    dark[ray[t < 1 - 1e-3]] = True
    return dark
