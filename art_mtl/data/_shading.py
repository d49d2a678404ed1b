"""What surfaces look like: procedural textures, light, and the camera's own faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_mtl.data._raycast import Bools, Camera, Floats, Hits, Ints, Solids, shadowed

_Reals = NDArray[np.floating[Any]]

PLAIN, STRIPES, TILES, WOOD, MOTTLE, PANELS, BOOKS, PAINTING, PANES, SCREEN, BRICKS, FOLDS = range(12)


@dataclass(frozen=True)
class Material:
    """How one surface looks.

    Attributes:
        colour: linear RGB in [0, 1].
        second: the texture's other colour.
        texture: one of the texture codes of this module.
        period: size of the texture's pattern in metres.
        phase: what makes two surfaces of the same texture differ, in [0, 1).
        glow: light given off, in units of a fully lit white wall.
    """

    colour: tuple[float, float, float]
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)
    texture: int = PLAIN
    period: float = 0.2
    phase: float = 0.0
    glow: float = 0.0


@dataclass(frozen=True)
class Light:
    """A lamp that throws shadows, over ambient light that does not.

    Attributes:
        position: (3,) in metres.
        colour: (3,) linear RGB.
        ambient: (3,) linear RGB.
        reach: distance in metres at which the lamp has fallen to half.
    """

    position: Floats
    colour: Floats
    ambient: Floats
    reach: float


@dataclass(frozen=True)
class Sensor:
    """The camera's own faults.

    Attributes:
        exposure: what the mean luminance of the picture is brought to.
        balance: (3,) white balance error.
        noise: standard deviation of the sensor's noise at mid grey, in [0, 1] units.
        blur: weight of a 3 x 3 binomial blur, in [0, 1].
        vignette: fall of brightness at the corners.
    """

    exposure: float
    balance: Floats
    noise: float
    blur: float
    vignette: float


@dataclass(frozen=True)
class _Patch:
    """Texture coordinates and parameters of the pixels that share one texture."""

    u: Floats
    v: Floats
    ru: Floats
    rv: Floats
    period: Floats
    phase: Floats


def _hash(*values: Floats) -> Floats:
    """A number in [0, 1) that looks random, from whole numbers."""
    mixed = sum((value * factor for value, factor in zip(values, (12.9898, 78.233, 37.719), strict=False)))
    return np.asarray(np.mod(np.sin(mixed) * 4375.85, 1), np.float32)


def _line(distance: Floats, width: float) -> Floats:
    """1 on a line (distance 0), falling to 0 at ``width``."""
    return np.asarray(np.clip(1 - distance / width, 0, 1), np.float32)


def _edge(x: _Reals) -> Floats:
    """Distance of x to the nearest whole number."""
    return np.asarray(np.abs(x - np.round(x)), np.float32)


def _stripes(p: _Patch) -> Floats:
    return np.asarray(0.5 + 0.5 * np.clip(3 * np.sin(2 * np.pi * (p.u / p.period + p.phase)), -1, 1), np.float32)


def _tiles(p: _Patch) -> Floats:
    a, b = p.u / p.period + p.phase, p.v / p.period
    checker = np.mod(np.floor(a) + np.floor(b), 2) * np.where(p.phase < 0.5, 0.6, 0.08)
    return np.asarray(np.maximum(checker, _line(np.minimum(_edge(a), _edge(b)), 0.06)), np.float32)


def _wood(p: _Patch) -> Floats:
    plank = np.floor(p.u / p.period)
    shift = _hash(plank, np.floor(100 * p.phase))
    grain = np.sin(2 * np.pi * (5 * p.u / p.period + 0.5 * np.sin(3 * p.v / p.period * 0.3 + 6 * shift)) + 9 * shift)
    seam = _line(_edge(p.u / p.period), 0.05)
    return np.asarray(np.clip(0.35 * shift + 0.12 + 0.12 * grain + 0.6 * seam, 0, 1), np.float32)


def _mottle(p: _Patch) -> Floats:
    a, b, s = p.u / p.period, p.v / p.period, 6.28 * p.phase
    return np.asarray(
        0.5 + 0.25 * np.sin(4.1 * a + s) * np.sin(3.7 * b - s) + 0.25 * np.sin(7.3 * a - 5.9 * b + 2 * s), np.float32
    )


def _panels(p: _Patch) -> Floats:
    columns = 1 + np.floor(3 * p.phase)
    rows = 1 + np.floor(np.mod(30 * p.phase, 4))
    a, b = columns * (p.ru + 1) / 2, rows * (p.rv + 1) / 2
    seam = np.maximum(_line(_edge(a), 0.03), _line(_edge(b), 0.05))
    knob = _line(np.hypot((np.mod(a, 1) - 0.5) / columns, (np.mod(b, 1) - 0.8) / rows), 0.045)
    return np.asarray(np.where(p.ru == 0, 0, np.maximum(seam, 0.9 * np.sqrt(knob))), np.float32)


def _bricks(p: _Patch) -> Floats:
    row = np.floor(p.v / (p.period * 0.4))
    a = p.u / p.period + 0.5 * np.mod(row, 2)
    mortar = np.maximum(_line(_edge(a), 0.05), _line(_edge(p.v / (p.period * 0.4)), 0.12))
    return np.asarray(np.maximum(mortar, 0.45 * _hash(np.floor(a), row)), np.float32)


def _folds(p: _Patch) -> Floats:
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * (p.u / p.period + p.phase)), np.float32)


# Textures that blend the material's two colours: each returns the share of the second, in [0, 1].
_BLENDS: dict[int, Callable[[_Patch], Floats]] = {
    STRIPES: _stripes, TILES: _tiles, WOOD: _wood, MOTTLE: _mottle, PANELS: _panels, BRICKS: _bricks, FOLDS: _folds,
}  # fmt: skip


def _rainbow(hue: _Reals, saturation: _Reals, value: _Reals) -> Floats:
    """(N, 3) linear RGB of smoothly varying hue."""
    wheel = 0.5 + 0.5 * np.cos(2 * np.pi * (hue[:, None] + np.array([0, 1 / 3, 2 / 3], np.float32)))
    return np.asarray((1 - saturation[:, None] * (1 - wheel)) * value[:, None], np.float32)


def _books(p: _Patch) -> Floats:
    spine = np.floor(p.u / p.period + 7 * p.phase)
    rank = np.floor(100 * p.phase)
    tone, tint = _hash(spine, rank), _hash(spine, rank + 31)
    colour = _rainbow(tone, 0.25 + 0.6 * tint, 0.08 + 0.6 * _hash(spine, rank + 57))
    gap = _line(_edge(p.u / p.period + 7 * p.phase), 0.16)
    label = (np.abs(p.rv - 0.35) < 0.14) & (tint > 0.5)
    return np.asarray(colour * (1 - 0.8 * gap)[:, None] + 0.35 * label[:, None], np.float32)


def _painting(p: _Patch) -> Floats:
    s = p.phase
    horizon = 0.5 * np.mod(7 * s, 1) - 0.3 + 0.25 * np.sin(3 * p.ru + 20 * s) + 0.1 * np.sin(7 * p.ru + 50 * s)
    sky = _rainbow(np.mod(s * 13 + 0.1 * p.rv, 1), 0.5 * np.ones_like(s), 0.5 + 0.25 * p.rv)
    land = _rainbow(np.mod(s * 29 + 0.15 * p.ru, 1), 0.6 * np.ones_like(s), 0.25 + 0.15 * p.rv)
    colour = np.where((p.rv > horizon)[:, None], sky, land)
    sun = np.hypot(p.ru - 1.2 * (np.mod(17 * s, 1) - 0.5), p.rv - 0.5) < 0.25 + 0.3 * np.mod(23 * s, 1)
    colour = np.where(sun[:, None], _rainbow(np.mod(41 * s, 1), 0.7 * np.ones_like(s), 0.7 + 0 * s), colour)
    mat = np.maximum(np.abs(p.ru), np.abs(p.rv)) > 0.84
    return np.asarray(np.where(mat[:, None], 0.75, colour), np.float32)


def _panes(p: _Patch) -> Floats:
    columns, rows = 1 + np.floor(3 * p.phase), 1 + np.floor(np.mod(10 * p.phase, 2))
    a, b = columns * (p.ru + 1) / 2, rows * (p.rv + 1) / 2
    bar = (_edge(a) < 0.05 * columns / 2) | (_edge(b) < 0.06 * rows / 2)
    far = 0.35 * np.sin(4 * p.ru + 30 * p.phase) * np.mod(5 * p.phase, 1) - 0.35
    sky = np.stack([0.75 + 0.25 * p.rv * -1, 0.85 - 0.1 * p.rv, 0.95 + 0 * p.rv], 1)
    trees = _rainbow(np.full_like(p.ru, -0.3), 0.6 + 0 * p.ru, 0.22 + 0.1 * np.sin(23 * p.ru + 11 * p.rv))
    view = np.where((p.rv < far)[:, None], trees, sky)
    return np.asarray(np.where(bar[:, None], 0.35, view), np.float32)


def _screen(p: _Patch) -> Floats:
    on = p.phase > 0.55
    s = np.mod(19 * p.phase, 1)
    glare = 0.02 + 0.1 * np.clip(1 - np.abs(p.ru - p.rv + 2 * s - 1) * 2, 0, 1)
    show = _rainbow(np.mod(s + 0.25 * p.ru, 1), 0.6 + 0 * s, 0.35 + 0.2 * np.sin(4 * p.rv + 9 * s) * np.cos(3 * p.ru))
    bezel = np.maximum(np.abs(p.ru) * 1.03, np.abs(p.rv)) > 0.93
    return np.asarray(np.where(bezel[:, None], 0.015, np.where(on[:, None], show, glare[:, None])), np.float32)


# Textures that bring their own colours; they cover the front of a solid, the other faces keep the plain colour.
_PICTURES: dict[int, Callable[[_Patch], Floats]] = {
    BOOKS: _books, PAINTING: _painting, PANES: _panes, SCREEN: _screen,
}  # fmt: skip


def _paint(hits: Hits, materials: list[Material], footprint: Floats) -> tuple[Floats, Floats]:
    """Reflectance (N, 3) and glow (N,) of every hit."""
    of: Ints = hits.surface
    texture = np.array([m.texture for m in materials])[of]
    first = np.array([m.colour for m in materials], np.float32)[of]
    second = np.array([m.second for m in materials], np.float32)[of]
    period = np.array([m.period for m in materials], np.float32)[of]
    phase = np.array([m.phase for m in materials], np.float32)[of]
    glow = np.array([m.glow for m in materials], np.float32)[of]
    colour = first.copy()
    for code in np.unique(texture):
        if code == PLAIN:
            continue
        rows = np.flatnonzero(texture == code)
        if code in _PICTURES:
            front = hits.axis[rows] == 1
            glow[rows[~front]] = 0
            rows = rows[front]
        patch = _Patch(
            hits.uv[rows, 0],
            hits.uv[rows, 1],
            hits.relative[rows, 0],
            hits.relative[rows, 1],
            period[rows],
            phase[rows],
        )
        if code in _PICTURES:
            colour[rows] = _PICTURES[int(code)](patch)
        else:
            # A pattern finer than a pixel would only alias, so it fades into its mean.
            sharp = np.clip(period[rows] / (2.5 * footprint[rows]), 0, 1)
            share = (0.25 + sharp * (_BLENDS[int(code)](patch) - 0.25))[:, None]
            colour[rows] = first[rows] * (1 - share) + second[rows] * share
    return colour, glow


def _corners(size: Floats, hits: Hits) -> Floats:
    """Ambient light left where two faces of the room meet, and above the floor, in (0, 1]."""
    gap = np.minimum(hits.point, size - hits.point)
    sideways = 1 - np.abs(hits.normal)
    shade = 1 - 0.38 * sideways * np.exp(-np.maximum(gap, 0) / 0.3)
    return np.asarray(shade[:, 0] * shade[:, 1] * shade[:, 2], np.float32)


def _blur(image: Floats, weight: float) -> Floats:
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    soft = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return np.asarray(image + weight * (soft - image), np.float32)


def photograph(
    size: Floats,
    solids: Solids,
    materials: list[Material],
    light: Light,
    casts: Bools,
    camera: Camera,
    sensor: Sensor,
    hits: Hits,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """The picture a sensor takes of the hits.

    Args:
        size: (3,) extent of the room in metres.
        solids: what stands in the room.
        materials: one per solid and then one per face of the room, as ``Hits.surface`` counts them.
        light: the lamp and the ambient light.
        casts: (M,) which solids throw shadows.
        camera: where the picture is taken from.
        sensor: the camera's faults.
        hits: what :func:`art_mtl.data._raycast.trace` returned.
        shape: (H, W).
        rng: source of the noise.

    Returns:
        (H, W, 3) uint8 sRGB.
    """
    height, width = shape
    view = hits.point - camera.position
    distance = np.sqrt(np.einsum("ij,ij->i", view, view))
    slant = np.maximum(np.abs(np.einsum("ij,ij->i", view, hits.normal)) / distance, 0.15)
    albedo, glow = _paint(hits, materials, hits.depth / camera.focal(width) / slant)

    towards = light.position - hits.point
    squared = np.einsum("ij,ij->i", towards, towards)
    lambert = np.maximum(np.einsum("ij,ij->i", towards, hits.normal) / np.sqrt(squared), 0)
    lambert /= 1 + squared / light.reach**2
    lit = np.flatnonzero(lambert > 0)
    lambert[lit[shadowed(light.position, hits.point[lit] + 2e-3 * hits.normal[lit], solids, casts)]] = 0
    upward = 0.8 + 0.2 * hits.normal[:, 2:]
    shine = light.ambient * upward * _corners(size, hits)[:, None] + light.colour * lambert[:, None]
    radiance = albedo * np.where(glow[:, None] > 0, glow[:, None], shine)

    image: Floats = radiance.reshape(height, width, 3)
    u = (np.arange(width, dtype=np.float32) + 0.5) / width - 0.5
    v = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    corner: Floats = np.asarray(1 - sensor.vignette * 2 * (u**2 + v[:, None] ** 2), np.float32)
    image = image * corner[..., None] * sensor.balance
    image = image * np.float32(sensor.exposure / max(float(np.minimum(image, 1).mean()), 1e-3))
    image = _blur(image.astype(np.float32), sensor.blur)
    image = np.where(image > 0.6, 1 - 0.4 * np.exp(-(image - 0.6) / 0.4), image)  # highlights roll off as film does
    srgb = np.maximum(image, 0) ** (1 / 2.2)
    srgb = srgb + rng.standard_normal(srgb.shape, np.float32) * sensor.noise * (0.5 + np.sqrt(np.maximum(image, 0)))
    return np.round(255 * np.clip(srgb, 0, 1)).astype(np.uint8)
