"""Furnished rooms, drawn at random: which solids stand where, of what class and of what material."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field
from math import atan2, cos, pi, radians, sin, tan

import numpy as np

from art_mtl.data import _shading as look
from art_mtl.data._raycast import BOX, CYLINDER, ELLIPSOID, Bools, Camera, Floats, Ints, Solids
from art_mtl.data._shading import Light, Material, Sensor

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "picture", "sofa", "table", "tv", "wall", "window",
)  # fmt: skip
(BED, BOOK, CEILING, CHAIR, FLOOR, FURNITURE, OBJECT, PICTURE, SOFA, TABLE, TV, WALL, WINDOW) = range(13)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Everything a picture of a room needs.

    Attributes:
        size: (3,) extent of the room in metres.
        solids: what stands in it.
        labels: (M + 6,) class of every solid and then of every face of the room.
        materials: as many materials.
        casts: (M,) which solids throw shadows.
        pieces: (M,) number of the piece of furniture that each solid is part of.
        camera: where it is seen from.
        light: what lights it.
        sensor: the camera's faults.
    """

    size: Floats
    solids: Solids
    labels: Ints
    materials: list[Material]
    casts: Bools
    pieces: Ints
    camera: Camera
    light: Light
    sensor: Sensor


@dataclass(frozen=True)
class _Frame:
    """Where a piece of furniture stands: its own x runs along the wall, its y away from the wall, its z up."""

    x: float
    y: float
    yaw: float
    z: float = 0.0

    def at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        c, s = cos(self.yaw), sin(self.yaw)
        return self.x + c * x - s * y, self.y + s * x + c * y, self.z + z


@dataclass
class _Builder:
    """Collects solids, and knows which floor and which stretches of wall are taken."""

    rng: np.random.Generator
    size: tuple[float, float, float]
    kind: list[int] = field(default_factory=list)
    centre: list[tuple[float, float, float]] = field(default_factory=list)
    half: list[tuple[float, float, float]] = field(default_factory=list)
    yaw: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)
    casts: list[bool] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    hung: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    pieces: list[int] = field(default_factory=list)
    piece: int = 0

    # Chance

    def real(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    # Solids

    def add(
        self,
        frame: _Frame,
        label: int,
        material: Material,
        centre: tuple[float, float, float],
        extent: tuple[float, float, float],
        kind: int = BOX,
        casts: bool = True,
    ) -> None:
        """One solid of the given full extent, its centre in the frame's own axes."""
        self.kind.append(kind)
        self.centre.append(frame.at(*centre))
        self.half.append((extent[0] / 2, extent[1] / 2, extent[2] / 2))
        self.yaw.append(frame.yaw)
        self.labels.append(label)
        self.materials.append(material)
        self.casts.append(casts)
        self.pieces.append(self.piece)

    def begin(self) -> None:
        """Begin another piece of furniture: its solids of one class are one object."""
        self.piece += 1

    def slab(
        self, frame: _Frame, label: int, material: Material, x: float, y: float, low: float, high: float,
        width: float, depth: float, kind: int = BOX,
    ) -> None:  # fmt: skip
        """A solid that reaches from height ``low`` to ``high``."""
        self.add(frame, label, material, (x, y, (low + high) / 2), (width, depth, high - low), kind)

    def legs(
        self, frame: _Frame, label: int, material: Material, width: float, depth: float, top: float, thick: float
    ) -> None:
        for x in (-1, 1):
            for y in (-1, 1):
                self.slab(
                    frame, label, material, x * (width - thick) / 2, y * (depth - thick) / 2, 0, top, thick, thick
                )

    # Materials

    def _hsv(self, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Colour:
        rgb = colorsys.hsv_to_rgb(self.real(*hue) % 1, self.real(*saturation), self.real(*value))
        return rgb[0] ** 2.2, rgb[1] ** 2.2, rgb[2] ** 2.2

    def _textured(
        self, colour: Colour, texture: int, period: tuple[float, float], contrast: tuple[float, float]
    ) -> Material:
        factor = self.real(*contrast)
        other = (min(1, colour[0] * factor), min(1, colour[1] * factor), min(1, colour[2] * factor))
        return Material(colour, other, texture, self.real(*period), float(self.rng.random()))

    def paint(self) -> Material:
        """Paint or paper on walls and wardrobes."""
        if self.chance(0.55):
            colour = self._hsv((0, 1), (0, 0.14), (0.68, 0.96))
        else:
            colour = self._hsv((0, 1), (0.12, 0.5), (0.4, 0.9))
        texture = (look.MOTTLE, look.MOTTLE, look.MOTTLE, look.STRIPES, look.BRICKS, look.PLAIN)[self.whole(0, 5)]
        contrast = (0.9, 1.0) if texture == look.MOTTLE else (0.72, 0.95)
        return self._textured(colour, texture, (0.15, 0.6), contrast)

    def wood(self) -> Material:
        if self.chance(0.2):
            return self.paint()
        colour = self._hsv((0.04, 0.11), (0.25, 0.7), (0.2, 0.85))
        return self._textured(colour, look.WOOD, (0.1, 0.35), (0.35, 0.75))

    def front(self) -> Material:
        """The front of a cupboard: doors or drawers in wood or paint."""
        base = self.wood()
        dark = 0.35 if max(base.colour) > 0.08 else 2.5
        other = (min(1, base.colour[0] * dark), min(1, base.colour[1] * dark), min(1, base.colour[2] * dark))
        return Material(base.colour, other, look.PANELS, 0.4, float(self.rng.random()))

    def fabric(self) -> Material:
        if self.chance(0.3):
            colour = self._hsv((0.02, 0.14), (0.05, 0.6), (0.15, 0.9))
        else:
            colour = self._hsv((0, 1), (0.05, 0.75), (0.15, 0.9))
        texture = (look.MOTTLE, look.MOTTLE, look.STRIPES, look.TILES, look.PLAIN)[self.whole(0, 4)]
        return self._textured(colour, texture, (0.08, 0.3), (0.5, 1.4))

    def metal(self) -> Material:
        return Material(self._hsv((0.55, 0.65), (0, 0.1), (0.1, 0.7)))

    def bright(self) -> Material:
        """Toys, pots, cushions: any colour at all."""
        return self._textured(self._hsv((0, 1), (0.2, 0.95), (0.2, 0.95)), self.whole(0, 4), (0.05, 0.2), (0.4, 1.2))

    # Room to stand

    def free(self, frame: _Frame, width: float, depth: float, gap: float = 0.04) -> bool:
        """Take the floor under a piece of furniture if it is free and inside the room."""
        c, s = abs(cos(frame.yaw)), abs(sin(frame.yaw))
        rx, ry = (c * width + s * depth) / 2, (s * width + c * depth) / 2
        box = (frame.x - rx, frame.x + rx, frame.y - ry, frame.y + ry)
        if box[0] < 0 or box[2] < 0 or box[1] > self.size[0] or box[3] > self.size[1]:
            return False
        for other in self.taken:
            if (
                box[0] < other[1] + gap
                and box[1] > other[0] - gap
                and box[2] < other[3] + gap
                and box[3] > other[2] - gap
            ):
                return False
        self.taken.append(box)
        return True

    def wall(self, wall: int, along: float, out: float) -> _Frame:
        """A frame on one of the four walls (y-, x+, y+, x-), at a distance from it, facing the room."""
        w, length, _ = self.size
        x, y = ((along, out), (w - out, along), (along, length - out), (out, along))[wall]
        return _Frame(x, y, wall * pi / 2)

    def length(self, wall: int) -> float:
        return self.size[wall % 2]

    def against(
        self, walls: list[int], width: float, depth: float, height: float, tries: int = 10
    ) -> tuple[_Frame, int, float] | None:
        """A free place along one of the walls, or None."""
        for _ in range(tries):
            wall = walls[self.whole(0, len(walls) - 1)]
            span = self.length(wall) - width
            if span <= 0.05:
                continue
            along = width / 2 + self.real(0.02, span)
            frame = self.wall(wall, along, depth / 2 + 0.015)
            if self.blocked(wall, along - width / 2, along + width / 2, 0, height):
                continue
            if self.free(frame, width, depth):
                self.hung.append((wall, along - width / 2, along + width / 2, 0, height))
                return frame, wall, along
        return None

    def blocked(self, wall: int, a: float, b: float, low: float, high: float, gap: float = 0.05) -> bool:
        return any(
            w == wall and a < q + gap and b > p - gap and low < t + gap and high > s - gap
            for w, p, q, s, t in self.hung
        )

    def hang(self, walls: list[int], width: float, height: float, low: float, tries: int = 10) -> _Frame | None:
        """A free place on one of the walls, or None; the frame's origin is the lower edge's middle, on the wall."""
        for _ in range(tries):
            wall = walls[self.whole(0, len(walls) - 1)]
            span = self.length(wall) - width
            if span <= 0.2 or low + height > self.size[2] - 0.08:
                continue
            along = width / 2 + self.real(0.1, span)
            if not self.blocked(wall, along - width / 2, along + width / 2, low, low + height):
                self.hung.append((wall, along - width / 2, along + width / 2, low, low + height))
                base = self.wall(wall, along, 0)
                return _Frame(base.x, base.y, base.yaw, low)
        return None


# Furniture. Each piece stands with its back to -y and its front to +y of its frame.


def _clutter(b: _Builder, frame: _Frame, top: float, width: float, depth: float, count: int) -> None:
    """Small things on a table or a shelf."""
    for _ in range(count):
        x, y = b.real(-0.42, 0.42) * width, b.real(-0.35, 0.35) * depth
        choice = b.whole(0, 5)
        turned = _Frame(*frame.at(x, y, 0)[:2], frame.yaw + b.real(-0.6, 0.6), frame.z)
        if choice <= 1:
            level = top
            for _ in range(b.whole(1, 4)):
                thick = b.real(0.025, 0.05)
                b.slab(turned, BOOK, b.bright(), 0, 0, level, level + thick, b.real(0.16, 0.26), b.real(0.14, 0.2))
                level += thick
        elif choice == 2:
            row = Material((0.7, 0.68, 0.6), (0, 0, 0), look.BOOKS, b.real(0.03, 0.05), b.real(0, 1))
            b.slab(turned, BOOK, row, 0, 0, top, top + b.real(0.18, 0.28), b.real(0.15, 0.4), 0.16)
        elif choice == 3:
            size = b.real(0.08, 0.2)
            b.slab(turned, OBJECT, b.bright(), 0, 0, top, top + b.real(0.1, 0.3), size, size, CYLINDER)
        elif choice == 4:
            size = b.real(0.1, 0.24)
            b.slab(turned, OBJECT, b.bright(), 0, 0, top, top + size, size, size, ELLIPSOID)
        else:
            b.slab(turned, OBJECT, b.bright(), 0, 0, top, top + b.real(0.08, 0.25), b.real(0.1, 0.25), b.real(0.1, 0.2))


def _bed(b: _Builder, walls: list[int]) -> None:
    b.begin()
    width, depth, top = b.real(0.95, 1.9), b.real(1.95, 2.15), b.real(0.42, 0.62)
    place = b.against(walls, width, depth, 1.2)
    if place is None:
        return
    frame, sheet = place[0], b.fabric()
    b.slab(frame, BED, b.wood(), 0, 0, 0.06, 0.28, width, depth)
    b.slab(frame, BED, sheet, 0, 0.02, 0.28, top, width - 0.03, depth - 0.06)
    cover = b.real(0.45, 0.7) * depth
    b.slab(frame, BED, b.fabric(), 0, depth / 2 - cover / 2 + 0.01, b.real(0.14, 0.3), top + 0.03, width + 0.02, cover)
    b.slab(frame, BED, b.wood(), 0, -depth / 2 + 0.03, 0, b.real(0.75, 1.2), width + 0.02, 0.06)
    for i in range(1 if width < 1.3 else 2):
        x = 0.0 if width < 1.3 else (i - 0.5) * width / 2
        b.add(
            frame, OBJECT, b.fabric(), (x, -depth / 2 + 0.32, top + 0.07), (min(0.75, width / 2), 0.42, 0.2), ELLIPSOID
        )
    if b.chance(0.4):
        _clutter(b, frame, top + 0.03, 0.6 * width, 0.5 * depth, 1)
    for side in (-1, 1):
        if b.chance(0.7):
            _nightstand(b, frame, side * (width / 2 + 0.28), -depth / 2 + 0.22)


def _nightstand(b: _Builder, bed: _Frame, x: float, y: float) -> None:
    b.begin()
    frame = _Frame(*bed.at(x, y, 0)[:2], bed.yaw)
    if not b.free(frame, 0.42, 0.4, gap=0.0):
        return
    top = b.real(0.42, 0.6)
    b.slab(frame, FURNITURE, b.front(), 0, 0, 0.05, top, 0.42, 0.4)
    if b.chance(0.6):
        _table_lamp(b, frame, top)
    else:
        _clutter(b, frame, top, 0.3, 0.3, 1)


def _table_lamp(b: _Builder, frame: _Frame, top: float) -> None:
    b.slab(frame, OBJECT, b.metal(), 0, 0, top, top + 0.2, 0.05, 0.05, CYLINDER)
    shade = Material((0.9, 0.8, 0.6), glow=b.real(0.6, 1.6)) if b.chance(0.5) else b.bright()
    b.slab(frame, OBJECT, shade, 0, 0, top + 0.18, top + 0.4, 0.26, 0.26, CYLINDER)


def _sofa_at(b: _Builder, frame: _Frame, width: float, depth: float) -> None:
    b.begin()
    seat, back, arm = b.real(0.38, 0.46), b.real(0.72, 0.95), b.real(0.12, 0.22)
    cloth = b.fabric()
    b.slab(frame, SOFA, cloth, 0, 0, 0.05, seat - 0.1, width, depth)
    b.slab(frame, SOFA, cloth, 0, -depth / 2 + 0.12, seat - 0.1, back, width, 0.24)
    for x in (-1, 1):
        b.slab(frame, SOFA, cloth, x * (width - arm) / 2, 0.0, seat - 0.1, seat + b.real(0.12, 0.22), arm, depth)
    inner = width - 2 * arm
    count = max(1, round(inner / 0.65))
    lining = cloth if b.chance(0.7) else b.fabric()
    for i in range(count):
        middle = -inner / 2 + inner * (i + 0.5) / count
        b.slab(frame, SOFA, lining, middle, 0.1, seat - 0.1, seat, inner / count - 0.02, depth - 0.24)
        if b.chance(0.35):
            b.add(frame, OBJECT, b.fabric(), (middle, -depth / 2 + 0.32, seat + 0.17), (0.42, 0.2, 0.38), ELLIPSOID)


def _sofa(b: _Builder, walls: list[int]) -> None:
    width, depth = b.real(1.3, 2.4), b.real(0.8, 1.0)
    place = b.against(walls, width, depth, 0.95)
    if place is None:
        return
    _sofa_at(b, place[0], width, depth)
    front = _Frame(*place[0].at(b.real(-0.3, 0.3), depth / 2 + b.real(0.6, 0.9), 0)[:2], place[0].yaw)
    if b.chance(0.75):
        _coffee_table(b, front)


def _armchair(b: _Builder, walls: list[int]) -> None:
    place = b.against(walls, 0.95, 0.9, 0.95)
    if place is not None:
        _sofa_at(b, place[0], b.real(0.8, 0.95), b.real(0.78, 0.88))


def _coffee_table(b: _Builder, frame: _Frame) -> None:
    width, depth, top = b.real(0.7, 1.2), b.real(0.45, 0.7), b.real(0.36, 0.5)
    if b.free(frame, width, depth):
        _table_at(b, frame, width, depth, top)
        _clutter(b, frame, top, width, depth, b.whole(0, 3))


def _table_at(b: _Builder, frame: _Frame, width: float, depth: float, top: float) -> None:
    b.begin()
    wood, thick = b.wood(), b.real(0.03, 0.06)
    if b.chance(0.2):
        b.slab(frame, TABLE, wood, 0, 0, top - thick, top, width, depth, CYLINDER)
        b.slab(frame, TABLE, wood, 0, 0, 0.03, top - thick, 0.1, 0.1, CYLINDER)
        b.slab(frame, TABLE, wood, 0, 0, 0, 0.04, 0.5, 0.5, CYLINDER)
        return
    b.slab(frame, TABLE, wood, 0, 0, top - thick, top, width, depth)
    leg = wood if b.chance(0.7) else b.metal()
    b.legs(frame, TABLE, leg, width - 0.06, depth - 0.06, top - thick, b.real(0.04, 0.08))


def _chair(b: _Builder, frame: _Frame) -> None:
    """A chair whose back is at -y of its frame."""
    b.begin()
    width, seat, back = b.real(0.4, 0.52), b.real(0.42, 0.5), b.real(0.82, 1.05)
    if not b.free(frame, width, width, gap=0.0):
        return
    cloth = b.fabric() if b.chance(0.5) else b.wood()
    b.slab(frame, CHAIR, cloth, 0, 0, seat - 0.05, seat, width, width)
    if b.chance(0.25):  # an office chair
        b.slab(frame, CHAIR, b.metal(), 0, 0, 0.05, seat - 0.05, 0.07, 0.07, CYLINDER)
        b.slab(frame, CHAIR, b.metal(), 0, 0, 0, 0.06, 0.55, 0.55, CYLINDER)
        b.slab(frame, CHAIR, cloth, 0, -width / 2 + 0.03, seat + 0.08, back, width - 0.04, 0.06)
        return
    leg = b.wood() if b.chance(0.6) else b.metal()
    b.legs(frame, CHAIR, leg, width, width, seat - 0.05, 0.045)
    b.slab(frame, CHAIR, cloth, 0, -width / 2 + 0.025, seat + b.real(0.0, 0.25), back, width, 0.045)
    for x in (-1, 1):
        b.slab(frame, CHAIR, leg, x * (width - 0.045) / 2, -width / 2 + 0.0225, seat, back - 0.02, 0.044, 0.044)


def _dining(b: _Builder, walls: list[int]) -> None:
    width, depth, top = b.real(0.9, 1.7), b.real(0.75, 1.0), b.real(0.7, 0.78)
    for _ in range(6):
        x, y = b.real(0.25, 0.75) * b.size[0], b.real(0.25, 0.75) * b.size[1]
        frame = _Frame(x, y, b.real(-0.2, 0.2) + pi / 2 * b.whole(0, 1))
        if b.free(frame, width, depth):
            break
    else:
        return
    b.taken.pop()  # chairs are pushed under the table, so only its core keeps them out
    b.taken.append((frame.x - 0.2, frame.x + 0.2, frame.y - 0.2, frame.y + 0.2))
    _table_at(b, frame, width, depth, top)
    _clutter(b, frame, top, width, depth, b.whole(0, 4))
    for side in (-1, 1):
        for x in (-0.25, 0.25):
            if b.chance(0.75):
                seat = _Frame(*frame.at(x * width, side * (depth / 2 + b.real(0.05, 0.35)), 0)[:2], frame.yaw)
                turn = pi if side < 0 else 0
                _chair(b, _Frame(seat.x, seat.y, seat.yaw + turn + pi + b.real(-0.25, 0.25)))


def _desk(b: _Builder, walls: list[int]) -> None:
    width, depth, top = b.real(1.0, 1.6), b.real(0.55, 0.75), b.real(0.7, 0.78)
    place = b.against(walls, width, depth, 1.25)
    if place is None:
        return
    frame = place[0]
    _table_at(b, frame, width, depth, top)
    if b.chance(0.6):
        monitor = Material((0.03, 0.03, 0.03), texture=look.SCREEN, phase=b.real(0, 1))
        turned = _Frame(*frame.at(b.real(-0.2, 0.2), -0.1, 0)[:2], frame.yaw + b.real(-0.3, 0.3))
        b.slab(turned, OBJECT, b.metal(), 0, 0, top, top + 0.12, 0.12, 0.1)
        b.slab(turned, OBJECT, monitor, 0, 0.06, top + 0.1, top + 0.44, b.real(0.42, 0.6), 0.04)
    _clutter(b, frame, top, width, depth, b.whole(1, 4))
    if b.chance(0.85):
        chair = frame.at(b.real(-0.2, 0.2), depth / 2 + b.real(0.25, 0.6), 0)
        _chair(b, _Frame(chair[0], chair[1], frame.yaw + pi + b.real(-0.6, 0.6)))


def _cupboard(b: _Builder, walls: list[int]) -> None:
    b.begin()
    tall = b.chance(0.5)
    width, depth = b.real(0.7, 1.7), b.real(0.38, 0.62)
    height = b.real(1.75, 2.2) if tall else b.real(0.7, 1.15)
    place = b.against(walls, width, depth, height)
    if place is None:
        return
    b.slab(place[0], FURNITURE, b.front(), 0, 0, b.real(0, 0.08), height, width, depth)
    if not tall:
        _clutter(b, place[0], height, width, depth, b.whole(0, 4))


def _shelf(b: _Builder, walls: list[int]) -> None:
    b.begin()
    width, depth, height = b.real(0.7, 1.5), b.real(0.26, 0.36), b.real(1.1, 2.15)
    place = b.against(walls, width, depth, height)
    if place is None:
        return
    frame, wood, thick = place[0], b.wood(), 0.03
    b.slab(frame, FURNITURE, wood, 0, -depth / 2 + 0.01, 0, height, width, 0.02)
    for x in (-1, 1):
        b.slab(frame, FURNITURE, wood, x * (width - thick) / 2, 0, 0, height, thick, depth)
    count = max(2, round(height / 0.38))
    pitch = (height - thick) / count
    for i in range(count + 1):
        b.slab(frame, FURNITURE, wood, 0, 0, i * pitch, i * pitch + thick, width - 0.01, depth)
        if i == count:
            break
        left = -width / 2 + thick
        while left < width / 2 - 0.15:
            run = min(b.real(0.12, 0.45), width / 2 - thick - left)
            level = i * pitch + thick
            if b.chance(0.72):
                row = Material((0.7, 0.68, 0.6), (0, 0, 0), look.BOOKS, b.real(0.03, 0.055), b.real(0, 1))
                high = level + b.real(0.6, 0.92) * (pitch - thick)
                b.slab(frame, BOOK, row, left + run / 2, -0.01, level, high, run - 0.01, depth * b.real(0.55, 0.8))
            elif b.chance(0.5):
                size = min(run * 0.8, 0.2)
                kind = (BOX, ELLIPSOID, CYLINDER)[b.whole(0, 2)]
                b.slab(frame, OBJECT, b.bright(), left + run / 2, 0.02, level, level + 0.2, size, size, kind)
            left += run


def _television(b: _Builder, walls: list[int]) -> None:
    b.begin()
    width = b.real(0.9, 1.5)
    height = width * 0.58
    screen = Material((0.02, 0.02, 0.02), texture=look.SCREEN, phase=b.real(0, 1))
    if screen.phase > 0.55:
        screen = Material(screen.colour, texture=look.SCREEN, phase=screen.phase, glow=b.real(0.6, 1.4))
    if b.chance(0.35):
        frame = b.hang(walls, width, height, b.real(0.9, 1.2))
        if frame is not None:
            b.add(frame, TV, screen, (0, 0.04, height / 2), (width, 0.06, height))
        return
    stand = width + b.real(0.1, 0.6)
    top = b.real(0.4, 0.65)
    place = b.against(walls, stand, 0.42, top + height + 0.1)
    if place is None:
        return
    b.slab(place[0], FURNITURE, b.front(), 0, 0, 0.03, top, stand, 0.42)
    b.slab(place[0], TV, Material((0.02, 0.02, 0.02)), 0, 0, top, top + 0.06, 0.35, 0.2)
    b.slab(place[0], TV, screen, 0, 0, top + 0.05, top + 0.05 + height, width, 0.06)


def _standing(b: _Builder, walls: list[int]) -> None:
    """A lamp, a plant, a box or a ball on the floor."""
    choice = b.whole(0, 4)
    size = b.real(0.25, 0.45)
    for _ in range(8):
        frame = _Frame(b.real(0.3, b.size[0] - 0.3), b.real(0.3, b.size[1] - 0.3), b.real(-0.5, 0.5))
        if b.free(frame, size, size):
            break
    else:
        return
    if choice == 0:
        top = b.real(1.35, 1.7)
        b.slab(frame, OBJECT, b.metal(), 0, 0, 0, top, 0.035, 0.035, CYLINDER)
        b.slab(frame, OBJECT, b.metal(), 0, 0, 0, 0.03, 0.3, 0.3, CYLINDER)
        shade = Material((0.9, 0.8, 0.6), glow=b.real(0.6, 1.6)) if b.chance(0.5) else b.bright()
        b.slab(frame, OBJECT, shade, 0, 0, top - 0.1, top + 0.18, size, size, CYLINDER)
    elif choice == 1:
        pot = b.real(0.2, 0.4)
        leaves = Material((0.05, b.real(0.1, 0.25), 0.04), (0.02, 0.06, 0.02), look.MOTTLE, 0.08, b.real(0, 1))
        b.slab(frame, OBJECT, b.bright(), 0, 0, 0, pot, size * 0.7, size * 0.7, CYLINDER)
        for _ in range(b.whole(2, 4)):
            x, y, low = b.real(-0.1, 0.1), b.real(-0.1, 0.1), pot - 0.05 + b.real(0, 0.3)
            b.slab(
                frame,
                OBJECT,
                leaves,
                x,
                y,
                low,
                low + b.real(0.25, 0.5),
                b.real(0.25, 0.45),
                b.real(0.25, 0.45),
                ELLIPSOID,
            )
    elif choice == 2:
        b.slab(frame, OBJECT, b.bright(), 0, 0, 0, size, size, size, ELLIPSOID)
    else:
        b.slab(frame, OBJECT, b.bright(), 0, 0, 0, b.real(0.2, 0.5), size, size * b.real(0.6, 1))


def _window(b: _Builder, walls: list[int]) -> None:
    b.begin()
    width, height = b.real(0.8, 2.0), b.real(0.9, 1.4)
    frame = b.hang(walls, width + 0.3, height, b.real(0.75, 1.0))
    if frame is None:
        return
    glow = b.real(0.7, 2.6)
    trim = Material((0.75, 0.75, 0.72) if b.chance(0.7) else b.wood().colour)
    glass = Material(trim.colour, texture=look.PANES, phase=b.real(0, 1), glow=glow)
    b.add(frame, WINDOW, glass, (0, 0.015, height / 2), (width, 0.03, height), casts=False)
    for x in (-1, 1):
        b.add(frame, WINDOW, trim, (x * width / 2, 0.03, height / 2), (0.06, 0.06, height + 0.06), casts=False)
    for z in (0, 1):
        b.add(frame, WINDOW, trim, (0, 0.03, z * height), (width + 0.06, 0.06, 0.06), casts=False)
    if b.chance(0.35):
        base = b.fabric()
        dark = (base.colour[0] * 0.6, base.colour[1] * 0.6, base.colour[2] * 0.6)
        cloth = Material(base.colour, dark, look.FOLDS, b.real(0.1, 0.16), b.real(0, 1))
        for x in (-1, 1):
            b.add(
                frame,
                WINDOW,
                cloth,
                (x * width * 0.46, 0.1, height / 2),
                (width * 0.24, 0.05, height + 0.2),
                casts=False,
            )


def _door(b: _Builder, walls: list[int]) -> None:
    frame = b.hang(walls, 0.9, 2.02, 0.0)
    if frame is not None:
        b.add(frame, WALL, b.front(), (0, 0.02, 1.0), (0.85, 0.04, 2.0), casts=False)


def _picture(b: _Builder, walls: list[int]) -> None:
    b.begin()
    width, height = b.real(0.35, 1.1), b.real(0.35, 0.8)
    frame = b.hang(walls, width, height, b.real(1.2, 1.5))
    if frame is not None:
        border = b.wood().colour if b.chance(0.7) else b.metal().colour
        canvas = Material(border, texture=look.PAINTING, phase=b.real(0, 1))
        b.add(frame, PICTURE, Material(border), (0, 0.012, height / 2), (width, 0.024, height), casts=False)
        b.add(frame, PICTURE, canvas, (0, 0.014, height / 2), (width - 0.06, 0.026, height - 0.06), casts=False)


def _rug(b: _Builder) -> None:
    base = b.fabric()
    second = b._hsv((0, 1), (0.1, 0.7), (0.2, 0.9))
    cloth = Material(
        base.colour, second, (look.STRIPES, look.TILES, look.MOTTLE)[b.whole(0, 2)], b.real(0.15, 0.5), b.real(0, 1)
    )
    frame = _Frame(b.real(0.3, 0.7) * b.size[0], b.real(0.3, 0.7) * b.size[1], b.real(-0.2, 0.2))
    b.slab(frame, FLOOR, cloth, 0, 0, 0, 0.012, b.real(1.2, 2.4), b.real(1.0, 1.8))


_PIECES = {
    "bed": _bed, "sofa": _sofa, "armchair": _armchair, "dining": _dining, "desk": _desk, "cupboard": _cupboard,
    "shelf": _shelf, "tv": _television, "standing": _standing,
}  # fmt: skip

# What stands in a room of each kind, the large pieces first: (piece, probability).
_ROOMS: tuple[tuple[tuple[str, float], ...], ...] = (
    (("bed", 1), ("cupboard", 0.8), ("desk", 0.45), ("cupboard", 0.6), ("shelf", 0.5), ("tv", 0.6), ("armchair", 0.3)),
    (("sofa", 1), ("tv", 0.9), ("shelf", 0.7), ("sofa", 0.4), ("cupboard", 0.5), ("armchair", 0.5), ("dining", 0.3)),
    (("dining", 1), ("cupboard", 0.8), ("sofa", 0.4), ("shelf", 0.6), ("cupboard", 0.6), ("tv", 0.5), ("dining", 0.3)),
    (("desk", 1), ("shelf", 0.9), ("shelf", 0.7), ("bed", 0.4), ("cupboard", 0.5), ("sofa", 0.4), ("tv", 0.5),
     ("desk", 0.3)),
)  # fmt: skip


def _camera(b: _Builder) -> tuple[Camera, list[int]]:
    """A camera near a wall that looks across the room, and the walls it sees (the likelier ones twice)."""
    w, length, h = b.size
    wall = b.whole(0, 3)
    frame = b.wall(wall, b.length(wall) * b.real(0.12, 0.88), b.real(0.25, 0.9))
    eye = np.array([frame.x, frame.y, b.real(1.15, min(1.95, h - 0.4))], np.float32)
    target = (w * b.real(0.3, 0.7), length * b.real(0.3, 0.7))
    heading = atan2(target[1] - frame.y, target[0] - frame.x) + b.real(-0.35, 0.35)
    pitch, roll = radians(b.real(-4, 24)), radians(b.real(-3, 3))
    forward = np.array([cos(heading) * cos(pitch), sin(heading) * cos(pitch), -sin(pitch)])
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = cos(roll) * right + sin(roll) * down, cos(roll) * down - sin(roll) * right
    axes = np.stack([right, down, forward]).astype(np.float32)
    b.taken.append((frame.x - 0.6, frame.x + 0.6, frame.y - 0.6, frame.y + 0.6))
    ahead = _Frame(frame.x + 0.9 * cos(heading), frame.y + 0.9 * sin(heading), 0)
    b.taken.append((ahead.x - 0.45, ahead.x + 0.45, ahead.y - 0.45, ahead.y + 0.45))
    inward = [(k + 1) * pi / 2 for k in range(4)]
    facing = [-cos(heading - angle) for angle in inward]
    walls = [k for k in range(4) if facing[k] > -0.35] + 2 * [k for k in range(4) if facing[k] > 0.3]
    return Camera(eye, axes, tan(radians(b.real(58, 76)) / 2)), walls


def _light(b: _Builder) -> Light:
    w, length, h = b.size
    tint = np.array([1, b.real(0.88, 1.0), b.real(0.7, 1.05)], np.float32)
    position = np.array([w * b.real(0.2, 0.8), length * b.real(0.2, 0.8), h - b.real(0.1, 0.5)], np.float32)
    ambient = np.array([b.real(0.9, 1), 0.95, b.real(0.9, 1.1)], np.float32) * b.real(0.35, 0.75)
    return Light(position, tint * b.real(0.6, 1.5), ambient, b.real(1.5, 4))


def furnish(rng: np.random.Generator) -> Scene:
    """Draw a furnished room, a camera in it and its light.

    Args:
        rng: the only source of chance; the same state gives the same scene.

    Returns:
        The scene. All geometry is in metres.
    """
    size = (float(rng.uniform(2.9, 6.2)), float(rng.uniform(2.9, 6.2)), float(rng.uniform(2.3, 3.0)))
    b = _Builder(rng, size)
    camera, walls = _camera(b)
    for _ in range(b.whole(0, 2)):
        _window(b, walls)
    if b.chance(0.5):
        _door(b, walls)
    for name, probability in _ROOMS[b.whole(0, len(_ROOMS) - 1)]:
        if b.chance(probability):
            _PIECES[name](b, walls)
    for _ in range(b.whole(1, 4)):
        _standing(b, walls)
    for _ in range(b.whole(1, 4)):
        _picture(b, walls)
    if b.chance(0.5):
        _rug(b)

    wall, accent = b.paint(), b.paint() if b.chance(0.3) else None
    faces = [wall] * 4
    if accent is not None:
        faces[b.whole(0, 3)] = accent
    ceiling = Material(
        b._hsv((0, 1), (0, 0.1), (0.75, 1.0)), (0.6, 0.6, 0.6), look.MOTTLE, b.real(0.3, 1), b.real(0, 1)
    )
    floor = (b.wood(), b._textured(b.fabric().colour, look.TILES, (0.25, 0.6), (0.5, 0.9)), b.fabric())[b.whole(0, 2)]
    solids = Solids(
        np.array(b.kind, np.int64),
        np.array(b.centre, np.float32),
        np.array(b.half, np.float32),
        np.array(b.yaw, np.float32),
    )
    sensor = Sensor(
        exposure=b.real(0.16, 0.36),
        balance=np.array([b.real(0.9, 1.1), 1, b.real(0.88, 1.12)], np.float32),
        noise=b.real(0.004, 0.02),
        blur=b.real(0.4, 1.0),
        vignette=b.real(0, 0.35),
    )
    return Scene(
        np.array(size, np.float32),
        solids,
        np.array([*b.labels, WALL, WALL, WALL, WALL, FLOOR, CEILING], np.int64),
        [*b.materials, *faces, floor, ceiling],
        np.array(b.casts, np.bool_),
        np.array(b.pieces, np.int64),
        camera,
        _light(b),
        sensor,
    )
