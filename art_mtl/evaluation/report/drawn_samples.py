"""Samples as pictures and words: all that a gallery shows of them, without the model and the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from art_mtl.tasks import Task
from art_mtl.tasks.colours import CLASS_COLOURS, value_picture

Array = npt.NDArray[Any]

LARGEST_SIDE = 512
"""Pixels of a picture's longer side, at most; of a larger one every second, third, … is kept."""
_ROWS = ("truth", "clean prediction", "attacked prediction")

__all__ = [
    "LARGEST_SIDE",
    "DrawnSample",
    "Maps",
    "Picture",
    "TaskStyle",
    "View",
    "Words",
    "draw_sample",
    "error_limit",
    "shrunk",
]


@dataclass(frozen=True)
class TaskStyle:
    """How to draw a task's labels.

    Attributes:
        task: The task, which knows how its labels look.
        unit: Of its values, for the colour bar.
        class_names: Of its classes, if known.
    """

    task: Task
    unit: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.task.name

    def answer(self, label: Any) -> str:
        """A label as a word; "?" where it is missing.

        Examples:
            >>> from art_mtl import tasks
            >>> TaskStyle(tasks.regression("sum")).answer(np.array([7.25]))
            '7.2'
        """
        return self.task.answer(label, self.class_names)


@dataclass(frozen=True)
class View:
    """One input and what is true or predicted of it.

    Attributes:
        image: ``(C, H, W)`` in [0, 1], C of 1 or 3.
        labels: By task its shown label; see :class:`art_mtl.tasks.drawing.Drawn`.
        title: What this is.
    """

    image: Array
    labels: Mapping[str, Any]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        caption: What it shows.
        pixels: ``(H, W, 3)``, 8 bits.
    """

    caption: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Maps:
    """One task of a sample as pictures.

    Attributes:
        task: Its name.
        pictures: Truth, clean prediction, attacked prediction, all three or none.
        errors: Where the two predictions are wrong, both or none.
        unit: Of the values, for the colour bar.
        limits: Values at the ends of the colour scale; None where colours are no scale of values.
        scales: What the colours of values and of errors mean.
        classes: Names and colours of the classes that occur, where they have names.
        over_image: Whether the pictures are drawn over the image.
    """

    task: str
    pictures: tuple[Picture, ...]
    errors: tuple[Picture, ...]
    unit: str
    limits: tuple[float, float] | None
    scales: str
    classes: tuple[tuple[str, str], ...]
    over_image: bool = False


@dataclass(frozen=True)
class Words:
    """One task of a sample in words, and whether the two predictions are right."""

    task: str
    truth: str
    clean: str
    attacked: str
    clean_is_right: bool
    attacked_is_right: bool


@dataclass(frozen=True)
class DrawnSample:
    """One sample.

    Attributes:
        place: In the data set, from 0.
        deltas: Its signed degradations under the attack, one a task; None where undefined.
        clean: The clean input, ``(H, W, C)``, 8 bits, C of 1 or 3.
        attacked: The adversarial input, likewise.
        perturbation: Their difference where black is 0 and white 1, ``(H, W, C)``, float16.
        maps: Tasks that are drawn.
        words: Tasks that are written.
    """

    place: int
    deltas: tuple[float | None, ...]
    clean: np.ndarray
    attacked: np.ndarray
    perturbation: np.ndarray
    maps: tuple[Maps, ...]
    words: tuple[Words, ...]


def draw_sample(
    place: int, deltas: Sequence[float | None], views: tuple[View, View, View], styles: Sequence[TaskStyle]
) -> DrawnSample:
    """A sample drawn. The pictures of a task share one colour scale, which holds the attacked values too.

    Args:
        place: In the data set, from 0.
        deltas: Its signed degradations.
        views: The clean input with its labels, with what the model makes of it, and the adversarial input.
        styles: What to draw.
    """
    clean, attacked = (shrunk(np.moveaxis(view.image, 0, -1)) for view in views[1:])
    return DrawnSample(
        place,
        tuple(deltas),
        _pixels(clean),
        _pixels(attacked),
        (attacked - clean).astype(np.float16),
        tuple(_maps(views, style) for style in styles if style.task.is_map),
        tuple(_words(views, style) for style in styles if not style.task.is_map),
    )


def shrunk(picture: Array, side: int = LARGEST_SIDE) -> Array:
    """Every n-th pixel of a picture ``(H, W, C)``, so that none of its sides is longer than ``side``."""
    every = -(-max(picture.shape[:2]) // side)
    return picture[::every, ::every]


def _pixels(picture: Array) -> Array:
    """A picture of reals in [0, 1] in 8 bits."""
    found: Array = np.ascontiguousarray((255 * np.clip(picture, 0, 1)).round().astype(np.uint8))
    return found


def _maps(views: Sequence[View], style: TaskStyle) -> Maps:
    task, labels = style.task, [view.labels[style.name] for view in views]
    found = [one for label in labels if (one := task.limits(label)) is not None]
    limits = (float(min(low for low, _ in found)), float(max(high for _, high in found))) if found else None
    drawn = [
        p
        for view, label in zip(views, labels, strict=True)
        if (p := task.picture(label, limits, view.image)) is not None
    ]
    pictures = zip(_ROWS, drawn, strict=True) if drawn else ()
    scales = [] if limits is None else [f"colours from {limits[0]:.3g} to {limits[1]:.3g} {style.unit}".strip()]
    scales += [task.picture_key] if task.picture_key else []
    errors = [np.asarray(e, dtype=float) for label in labels[1:] if (e := task.error_map(label, labels[0])) is not None]
    largest = error_limit(errors)
    if errors:
        unit = f"{largest:.3g} {style.unit}".strip()
        scales.append("yellow where it is wrong" if task.has_classes else f"errors from dark (0) to yellow ({unit})")
    return Maps(
        style.name,
        tuple(Picture(caption, _pixels(shrunk(picture))) for caption, picture in pictures),
        tuple(
            Picture(f"{name} error: {_mean(error, style)}", _pixels(shrunk(value_picture(error, 0.0, largest))))
            for name, error in zip(("clean", "attacked"), errors, strict=False)
        ),
        style.unit,
        limits,
        "; ".join(scales),
        _seen_classes(style, labels),
        task.over_image,
    )


def error_limit(errors: Sequence[Array]) -> float:
    """The greatest finite error, at which the colours of error maps end.

    Examples:
        >>> error_limit([np.array([0.5, np.nan]), np.array([40.0, np.inf])])
        40.0
    """
    return max((float(error[np.isfinite(error)].max(initial=0.0)) for error in errors), default=0.0)


def _mean(error: Array, style: TaskStyle) -> str:
    known = error[np.isfinite(error)]
    if not known.size:
        return "unknown"
    mean = float(known.mean())
    return f"{100 * mean:.0f} % wrong" if style.task.has_classes else f"mean {mean:.2g} {style.unit}".strip()


def _seen_classes(style: TaskStyle, labels: Sequence[Array]) -> tuple[tuple[str, str], ...]:
    """Name and colour of each class that occurs in one of the labels, where classes have names."""
    seen = {int(c) for label in labels for c in style.task.classes_in(label)}
    named = sorted(c for c in seen if 0 <= c < len(style.class_names))
    return tuple((style.class_names[c], CLASS_COLOURS[c % len(CLASS_COLOURS)]) for c in named)


def _words(views: Sequence[View], style: TaskStyle) -> Words:
    truth, clean, attacked = (view.labels[style.name] for view in views)
    return Words(
        style.name,
        style.answer(truth),
        style.answer(clean),
        style.answer(attacked),
        style.task.agrees(clean, truth),
        style.task.agrees(attacked, truth),
    )
