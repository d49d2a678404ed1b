"""Pictures of labels: arrays of red, green and blue in [0, 1], without any library for plots."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CLASS_COLOURS = (
    "#e6194b", "#c08552", "#aad4e5", "#7b4fa3", "#b9b4a7", "#f2a65a", "#f032e6", "#ffe119", "#2f6db5", "#46b17b",
    "#22223b", "#d8e2dc", "#42d4f4", "#808000", "#000075", "#fabed4", "#9a6324", "#3cb44b", "#ff5f00",
)  # fmt: skip
"""Colours of classes, told apart by eye; further classes take them from the start again."""

_LONG_SIDE, _EDGE, _REACH = 256, 4, 4
"""Pixels: the longer side of a picture of boxes or points; how thick a frame is; how far a point reaches."""

# The 256 colours of matplotlib's viridis, by Nathaniel Smith, Stéfan van der Walt and Eric Firing (CC0), 8 bits each.
_VIRIDIS = (
    "RAFURAJVRANXRQVYRQZaRQhbRglcRgteRgxfRg5hRw9iRxFjRxJlRxRmRxVnRxZpRxhqSBlrSBpsSBxuSB1vSB5wSCBxSCFySCJzSCN0RyV1RyZ2"
    "Ryd3Ryh4Ryp5Ryt6Ryx7Ri18Ri98RjB9RjF+RTJ/RTR/RTWARTaBRDeBRDmCQzqDQzuDQzyEQj2EQj6FQkCFQUGGQUKGQEOHQESHP0WHP0eIPkiI"
    "PkmJPUqJPUuJPUyJPE2KPE6KO1CKO1GKOlKLOlOLOVSLOVWLOFaLOFeMN1iMN1mMNlqMNluMNVyMNV2MNF6NNF+NM2CNM2GNMmKNMmONMWSNMWWN"
    "MWaNMGeNMGiNL2mNL2qNLmuOLmyOLm2OLW6OLW+OLHCOLHGOLHKOK3OOK3SOKnWOKnaOKneOKXiOKXmOKHqOKHqOKHuOJ3yOJ32OJ36OJn+OJoCO"
    "JoGOJYKOJYONJISNJIWNJIaNI4eNI4iNI4mNIomNIoqNIouNIYyNIY2MIY6MII+MIJCMIJGMH5KMH5OLH5SLH5WLH5aLHpeKHpiKHpmKHpmKHpqJ"
    "HpuJHpyJHp2IHp6IHp+IHqCHH6GHH6KGH6OGIKSFIKWFIaaFIaeEIqeEI6iDI6mCJKqCJauBJqyBJ62AKK5/Ka9/KrB+K7F9LLF9LrJ8L7N7MLR6"
    "MrV6M7Z5Nbd4Nrh3OLl2Obl2O7p1Pbt0PrxzQL1yQr5xRL5wRb9vR8BuScFtS8JsTcJrT8NpUcRoU8VnVcZmV8ZlWcdkW8hiXslhYMlgYspfZMtd"
    "Z8xcacxba81Zbc5YcM5Wcs9VdNBUd9BSedFRfNJPftJOgdNMg9NLhtRJiNVHi9VGjdZEkNZDktdBldc/l9g+mtg8ndk6n9k4oto3pdo1p9szqtsy"
    "rdwwr9wust0std0rt90put4nvd4mv98kwt8ixd8hx+AfyuAezeAdz+Ec0uEb1OEa1+IZ2uIY3OIY3+MY4eMY5OMY5+QZ6eQZ7OQa7uUb8eUc8+Ue"
    "9uYf+OYh+uYi/eck"
)


def class_picture(classes: Array) -> Array:
    """Classes ``(H, W)``, less than 0 where there is none, to colours ``(H, W, 3)``; white where there is none.

    Examples:
        >>> class_picture(np.array([[0, -1]])).round(2).tolist()
        [[[0.9, 0.1, 0.29], [1.0, 1.0, 1.0]]]
    """
    palette = _palette()
    picture: Array = palette[classes % len(palette)]
    picture[classes < 0] = 1.0
    return picture


def mask_picture(masks: Array) -> Array:
    """Masks ``(L, H, W)`` of 1, 0 and NaN to colours ``(H, W, 3)``: the mean of the colours of all that are 1 there,
    light grey where none is, white where none is known.

    Examples:
        >>> mask_picture(np.array([[[1.0, 0.0, np.nan]]])).round(2).tolist()
        [[[0.9, 0.1, 0.29], [0.93, 0.93, 0.93], [1.0, 1.0, 1.0]]]
    """
    palette, there = _palette(), masks > 0.5
    colours = palette[np.arange(len(masks)) % len(palette)]
    total = np.tensordot(there.astype(float), colours, axes=(0, 0))
    count = there.sum(0)[..., None]
    picture: Array = np.where(count > 0, total / np.maximum(count, 1), 0.93)
    picture[np.isnan(masks).all(0)] = 1.0
    return picture


def box_picture(
    boxes: Array, classes: Array, size: tuple[float, float] | None = None, image: Array | None = None
) -> Array:
    """Boxes ``(M, 4)`` of corners x1, y1, x2, y2, with classes ``(M,)``, to colours ``(H, W, 3)``: frames over the
    image, or on white.

    Args:
        boxes: In the unit of ``size``.
        classes: Integers; frames of class less than 0 are grey.
        size: Height and width of the image in the unit of the boxes; None for its pixels, or for the extent of the
            boxes. The picture's longer side has 256 pixels.
        image: ``(C, H, W)`` in [0, 1], C of 1 or 3; None for white.

    Examples:
        >>> picture = box_picture(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([0]), (1.0, 2.0))
        >>> picture.shape, picture[0, 0].round(2).tolist(), picture[5, 5].tolist()
        ((128, 256, 3), [0.9, 0.1, 0.29], [1.0, 1.0, 1.0])
    """
    palette = _palette()
    picture, scale = _canvas(size, image, boxes.reshape(-1, 2))
    height, width = picture.shape[:2]
    for box, number in zip(boxes, classes, strict=True):
        left, right = np.clip((box[[0, 2]] * scale[0]).astype(int), 0, width - 1)
        top, bottom = np.clip((box[[1, 3]] * scale[1]).astype(int), 0, height - 1)
        colour = palette[int(number) % len(palette)] if number >= 0 else 0.6
        for edge in range(_EDGE):
            low, high = min(top + edge, bottom), max(bottom - edge, top)
            near, far = min(left + edge, right), max(right - edge, left)
            picture[[low, high], left : right + 1] = colour
            picture[top : bottom + 1, [near, far]] = colour
    return picture


def point_picture(points: Array, size: tuple[float, float] | None = None, image: Array | None = None) -> Array:
    """Points ``(P, 2)`` as x and y, NaN where there is none, to colours ``(H, W, 3)``: squares over the image, or on
    white.

    Args:
        points: In the unit of ``size``.
        size: Height and width of the image in the unit of the points; None for its pixels, or for the extent of the
            points. The picture's longer side has 256 pixels.
        image: ``(C, H, W)`` in [0, 1], C of 1 or 3; None for white.

    Examples:
        >>> picture = point_picture(np.array([[5.0, 5.0], [np.nan, 1.0]]), (10.0, 10.0))
        >>> picture.shape, picture[128, 128].round(2).tolist(), int((picture < 1).any(-1).sum())
        ((256, 256, 3), [0.9, 0.1, 0.29], 81)
    """
    palette = _palette()
    picture, scale = _canvas(size, image, points)
    height, width = picture.shape[:2]
    for number, point in enumerate(points):
        if not np.isnan(point).any():
            column, row = np.clip((point * scale).astype(int), 0, [width - 1, height - 1])
            part = tuple(slice(max(0, place - _REACH), place + _REACH + 1) for place in (row, column))
            picture[part] = palette[number % len(palette)]
    return picture


def _canvas(size: tuple[float, float] | None, image: Array | None, places: Array) -> tuple[Array, Array]:
    """The image, or white, and how many pixels there are for each unit of ``size``, across and down.

    Args:
        size: Height and width; None for those of the image, or for the extent of the places.
        image: ``(C, H, W)``; None for white.
        places: ``(P, 2)`` as x and y.
    """
    known = places[~np.isnan(places).any(1)]
    extent = size or (max(known[:, 1].max(initial=0.0), 1.0), max(known[:, 0].max(initial=0.0), 1.0))
    shape = extent if image is None else image.shape[1:]
    height, width = (max(1, round(side * _LONG_SIDE / max(shape))) for side in shape)
    scale = _LONG_SIDE / max(shape) * np.divide(shape, size or shape)[::-1]
    if image is None:
        return np.ones((height, width, 3)), scale
    rows, columns = (
        ((np.arange(side) + 0.5) * given / side).astype(int)
        for side, given in zip((height, width), image.shape[1:], strict=True)
    )
    pixels = np.clip(np.moveaxis(image[:, rows[:, None], columns], 0, -1), 0, 1)
    return np.array(np.broadcast_to(pixels, (height, width, 3))), scale


def _palette() -> Array:
    return np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in CLASS_COLOURS])


def value_picture(values: Array, low: float, high: float) -> Array:
    """Values ``(H, W)``, NaN where there is none, to colours of viridis ``(H, W, 3)``; white where there is none.

    Args:
        values: Reals.
        low: What has the first colour, and so has everything below.
        high: What has the last colour, and so has everything above.

    Examples:
        >>> value_picture(np.array([[1.0, 3.0, np.nan]]), 1.0, 3.0).round(2).tolist()
        [[[0.27, 0.01, 0.33], [0.99, 0.91, 0.14], [1.0, 1.0, 1.0]]]
    """
    # In the middle of what 8 bits round to.
    table = (np.frombuffer(base64.b64decode(_VIRIDIS), np.uint8).reshape(256, 3) + 0.5) / 255
    missing = np.isnan(values)
    share = (np.where(missing, low, values) - low) / (high - low) if high > low else np.zeros(values.shape)
    picture: Array = table[np.clip(share * 256, 0, 255).astype(int)]
    picture[missing] = 1.0
    return picture
