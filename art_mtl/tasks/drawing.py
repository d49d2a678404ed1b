"""How labels are shown to people: as a picture, or as a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Drawn:
    """What a kind of task says about showing its labels.

    A *shown label* is a NumPy array of one sample in which −1 is a missing class and NaN a missing value. Predictions,
    decoded, are shown labels too.

    Attributes:
        is_map: Whether labels are pictures; else they are words.
        picture_key: What the colours of the picture mean, where that is no class and no value; for headings.
        over_image: Whether labels are drawn over the image that they belong to.
    """

    is_map: ClassVar[bool] = False
    picture_key: ClassVar[str] = ""
    over_image: ClassVar[bool] = False

    def shown(self, target: Any) -> Sequence[Any] | Array:
        """The shown label of each sample; None where the kind has no way of showing them."""
        return [None] * len(target)

    def picture(
        self, label: Any, limits: tuple[float, float] | None = None, image: Array | None = None
    ) -> Array | None:
        """A shown label as colours ``(H, W, 3)`` of red, green and blue in [0, 1], white where there is none.

        Args:
            label: Of one sample.
            limits: Values at the ends of the colour scale; None for those of the label itself.
            image: ``(C, H, W)`` in [0, 1], C of 1 or 3: what boxes and points are drawn over; None for white.

        Returns:
            None for kinds whose labels are words.
        """
        return None

    def limits(self, label: Any) -> tuple[float, float] | None:
        """The least and the greatest value of a shown label; None where colours are no scale of values."""
        return None

    def classes_in(self, label: Any) -> Array:
        """The classes that a shown label holds, integers; none where colours stand for something else."""
        return np.zeros(0, dtype=np.int64)

    def error_map(self, label: Any, truth: Any) -> Array | None:
        """How wrong a shown label is at each place, ``(H, W)``, at least 0, NaN where the truth is missing.

        For classes 1 where they differ; for values in their unit; for normals in degrees.

        Returns:
            None for kinds whose labels are words.
        """
        return None

    def answer(self, label: Any, class_names: Sequence[str] = ()) -> str:
        """A shown label as a word; "?" where it is missing."""
        if label is None:
            return "?"
        values = np.atleast_1d(label)
        if values.dtype.kind == "f" and np.isnan(values).all():
            return "?"
        return ", ".join(f"{value:.1f}" for value in values.ravel()[:4])

    def agrees(self, label: Any, truth: Any) -> bool:
        """Whether a prediction counts as right where it is shown; of values, whether it is off by at most 0.5."""
        if label is None or truth is None:
            return True
        return bool(np.max(abs(np.asarray(label, dtype=float) - truth)) <= 0.5)

    def caption(self, label: Any, unit: str = "") -> str:
        """What a picture of a label holds, such as "0.7 to 9.3 m, 2% not measured"."""
        return ""


def missing_share(missing: float, what: str) -> str:
    """The end of a caption.

    Examples:
        >>> missing_share(0.25, "unlabelled"), missing_share(0.001, "unlabelled"), missing_share(0.0, "unlabelled")
        (', 25% unlabelled', ', < 1% unlabelled', '')
    """
    if missing == 0:
        return ""
    return f", {missing:.0%} {what}" if missing >= 0.01 else f", < 1% {what}"
