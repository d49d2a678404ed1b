"""Samples of a gallery for a page: pictures as data that the page holds, and words."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from art_mtl.evaluation.report.charts import minus
from art_mtl.evaluation.report.drawn_samples import DrawnSample, Maps, Words, shrunk
from art_mtl.evaluation.report.gallery import ShowsSamples, both_ends
from art_mtl.evaluation.report.pictures import perturbation_gain
from art_mtl.evaluation.report.spelling import decimals
from art_mtl.evaluation.results import AttackResult, Results, summarise

Array = npt.NDArray[Any]

_SIDE = 128
"""Pixels of a picture's longer side, at most."""
_SMALL = 64
"""Up to this side pictures of inputs lose nothing."""

__all__ = ["ShownAttack", "ShownMaps", "ShownPicture", "ShownSample", "data_uri", "show_samples"]


@dataclass(frozen=True)
class ShownPicture:
    """A picture.

    Attributes:
        caption: What it shows.
        uri: Its data.
    """

    caption: str
    uri: str


@dataclass(frozen=True)
class ShownMaps:
    """One task of a sample as pictures; see :class:`~art_mtl.evaluation.report.drawn_samples.Maps`."""

    task: str
    pictures: tuple[ShownPicture, ...]
    scales: str
    classes: tuple[tuple[str, str], ...]


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
    inputs: tuple[ShownPicture, ...]
    maps: tuple[ShownMaps, ...]
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


def show_samples(heading: str, gallery: ShowsSamples, attack: AttackResult, results: Results) -> ShownAttack:
    """What a page shows of an attack.

    Args:
        heading: Over it.
        gallery: Of which :meth:`~art_mtl.evaluation.Gallery.shows` is true.
        attack: Whose samples.
        results: Where the attack is from.
    """
    least, most = both_ends(gallery.drawn(attack))
    gain = perturbation_gain([*least, *most])
    shown = (tuple(_sample(one, gain, results) for one in end) for end in (least, most))
    return ShownAttack(heading, *shown)


def _sample(sample: DrawnSample, gain: float, results: Results) -> ShownSample:
    inputs = (
        ShownPicture("clean input", _photograph(sample.clean / 255)),
        ShownPicture("attacked input", _photograph(sample.attacked / 255)),
        ShownPicture(f"perturbation ×{gain:g}", _photograph(0.5 + gain * sample.perturbation)),
    )
    return ShownSample(
        _heading(sample, results), inputs, tuple(map(_maps, sample.maps)), tuple(map(_words, sample.words))
    )


def _heading(sample: DrawnSample, results: Results) -> str:
    worst = summarise(sample.deltas)[1]
    if worst is None:
        return f"Sample {sample.place}"
    safest = results.tasks[sample.deltas.index(worst)].name
    return f"Sample {sample.place}: its safest task, {safest}, at {minus(decimals(100 * worst, 0))} %"


def _maps(maps: Maps) -> ShownMaps:
    pictures = [ShownPicture(one.caption, data_uri(one.pixels / 255, lossy=maps.over_image)) for one in maps.pictures]
    errors = [ShownPicture(one.caption, data_uri(one.pixels / 255)) for one in maps.errors]
    return ShownMaps(maps.task, (*pictures, *errors), maps.scales, maps.classes)


def _words(words: Words) -> Words:
    return replace(words, truth=minus(words.truth), clean=minus(words.clean), attacked=minus(words.attacked))


def _photograph(image: Array) -> str:
    """An input ``(H, W, C)``."""
    picture = np.clip(image.astype(float), 0, 1)
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

    pixels = np.ascontiguousarray((255 * shrunk(picture, _SIDE)).round().astype(np.uint8))
    written = io.BytesIO()
    if lossy:
        imsave(written, pixels, format="jpg", pil_kwargs={"quality": 85, "subsampling": 0})
    else:
        imsave(written, pixels, format="png")
    kind = "jpeg" if lossy else "png"
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"
