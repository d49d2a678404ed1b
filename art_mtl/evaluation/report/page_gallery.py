"""Samples of a gallery for a page: pictures as data that the page holds, and words."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from art_mtl.evaluation.report.charts import minus
from art_mtl.evaluation.report.gallery import Gallery, Sample, most_degraded
from art_mtl.evaluation.report.pictures import TaskStyle, View, answer, perturbation_gain, seen_classes, shared_limits
from art_mtl.evaluation.results import AttackResult, Results, summarise
from art_mtl.tasks.colours import value_picture

Array = npt.NDArray[Any]

_MAPS = 2
"""Samples at either end, at most, where tasks are drawn as maps."""
_SIDE = 128
"""Pixels of a picture's longer side, at most."""
_SMALL = 64
"""Up to this side pictures of inputs lose nothing."""

__all__ = ["Picture", "ShownAttack", "ShownSample", "Words", "data_uri", "show_samples"]


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        caption: What it shows.
        uri: Its data.
    """

    caption: str
    uri: str


@dataclass(frozen=True)
class Maps:
    """One task of a sample as pictures.

    Attributes:
        task: Its name.
        pictures: Truth, clean prediction, attacked prediction, and where these two are wrong.
        scales: What the colours of values and of errors mean.
        classes: Names and colours of the classes that occur, where they have names.
    """

    task: str
    pictures: tuple[Picture, ...]
    scales: str
    classes: tuple[tuple[str, str], ...]


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
class ShownSample:
    """One sample.

    Attributes:
        heading: Which one it is, and how much it is degraded.
        inputs: The clean input, the adversarial one, and their difference.
        maps: Tasks that are drawn.
        words: Tasks that are written.
    """

    heading: str
    inputs: tuple[Picture, ...]
    maps: tuple[Maps, ...]
    words: tuple[Words, ...]


@dataclass(frozen=True)
class ShownAttack:
    """The samples that an attack degrades least, and those that it degrades most."""

    heading: str
    least: tuple[ShownSample, ...]
    most: tuple[ShownSample, ...]

    @property
    def is_wide(self) -> bool:
        """Whether tasks are drawn, which takes room."""
        return any(sample.maps for sample in self.least)


def show_samples(heading: str, gallery: Gallery, attack: AttackResult, results: Results) -> ShownAttack:
    """What a page shows of an attack.

    Args:
        heading: Over it.
        gallery: Of which :meth:`~art_mtl.evaluation.Gallery.shows` is true.
        attack: Whose samples.
        results: Where the attack is from.
    """
    samples = gallery.samples(attack)
    styles = gallery.styles(samples)
    border = most_degraded(samples) or len(samples)
    ends = samples[:border], samples[border:]
    if any(style.is_dense for style in styles):
        ends = ends[0][:_MAPS], ends[1][:_MAPS]
    gain = perturbation_gain([sample.attacked for sample in samples])
    least, most = (tuple(_sample(one, styles, gain, results) for one in end) for end in ends)
    return ShownAttack(heading, least, most)


def _sample(sample: Sample, styles: Sequence[TaskStyle], gain: float, results: Results) -> ShownSample:
    clean, attacked = sample.clean.image, sample.attacked.image
    inputs = (
        Picture("clean input", _photograph(clean)),
        Picture("attacked input", _photograph(attacked)),
        Picture(f"perturbation ×{gain:g}", _photograph(0.5 + gain * (attacked - clean))),
    )
    return ShownSample(
        _heading(sample, results),
        inputs,
        tuple(_maps(sample, style) for style in styles if style.is_dense),
        tuple(_words(sample, style) for style in styles if not style.is_dense),
    )


def _heading(sample: Sample, results: Results) -> str:
    worst = summarise(sample.deltas)[1]
    if worst is None:
        return f"Sample {sample.place}"
    safest = results.tasks[sample.deltas.index(worst)].name
    return f"Sample {sample.place}: its safest task, {safest}, at {minus(f'{100 * worst + 0.0:.0f}')} %"


def _maps(sample: Sample, style: TaskStyle) -> Maps:
    task = style.task
    views: tuple[View, ...] = (sample.truth, sample.clean, sample.attacked)
    labels = [view.labels[style.name] for view in views]
    limits = shared_limits(style, views)
    drawn = [task.picture(label, limits, view.image) for label, view in zip(labels, views, strict=True)]
    captions = ("truth", "clean prediction", "attacked prediction")
    pictures = [
        Picture(c, data_uri(p, lossy=task.over_image)) for c, p in zip(captions, drawn, strict=True) if p is not None
    ]
    scales = [] if limits is None else [f"colours from {limits[0]:.3g} to {limits[1]:.3g} {style.unit}".strip()]
    if task.picture_key:
        scales.append(task.picture_key)
    errors = [task.error_map(label, labels[0]) for label in labels[1:]]
    found = [np.asarray(error, dtype=float) for error in errors if error is not None]
    if len(found) == 2:
        largest = error_limit(found)
        pictures += [
            Picture(f"{name} error: {_mean(error, style)}", data_uri(value_picture(error, 0.0, largest)))
            for name, error in zip(("clean", "attacked"), found, strict=True)
        ]
        unit = f"{largest:.3g} {style.unit}".strip()
        scales.append("yellow where it is wrong" if task.has_classes else f"errors from dark (0) to yellow ({unit})")
    return Maps(style.name, tuple(pictures), "; ".join(scales), tuple(seen_classes(style, views)))


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


def _words(sample: Sample, style: TaskStyle) -> Words:
    truth, clean, attacked = (view.labels[style.name] for view in (sample.truth, sample.clean, sample.attacked))
    agrees = style.task.agrees
    said = [minus(answer(style, label)) for label in (truth, clean, attacked)]
    return Words(style.name, said[0], said[1], said[2], agrees(clean, truth), agrees(attacked, truth))


def _photograph(image: Array) -> str:
    """An input ``(C, H, W)`` in [0, 1]."""
    picture = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    return data_uri(np.broadcast_to(picture, (*picture.shape[:2], 3)), lossy=max(picture.shape[:2]) > _SMALL)


def data_uri(picture: Array, lossy: bool = False) -> str:
    """A picture as a URI that holds it, PNG, or JPEG where it may lose something; a large one is made smaller.

    Args:
        picture: ``(H, W, 3)`` in [0, 1].
        lossy: Whether it may.

    Examples:
        >>> data_uri(np.zeros((2, 2, 3)))[:30]
        'data:image/png;base64,iVBORw0K'
    """
    from matplotlib.image import imsave

    every = -(-max(picture.shape[:2]) // _SIDE)
    pixels = np.ascontiguousarray((255 * picture[::every, ::every]).round().astype(np.uint8))
    written = io.BytesIO()
    if lossy:
        imsave(written, pixels, format="jpg", pil_kwargs={"quality": 85, "subsampling": 0})
    else:
        imsave(written, pixels, format="png")
    kind = "jpeg" if lossy else "png"
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"
