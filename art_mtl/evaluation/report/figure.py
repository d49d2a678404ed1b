"""Figures that nothing global knows of and that notebooks show."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as _Figure

__all__ = ["Figure"]


class Figure(_Figure):
    """A figure that is made without pyplot, lays itself out, and shows itself as the last line of a notebook's cell.

    Args:
        width: In inches.
        height: In inches.

    Examples:
        >>> Figure(2, 1)._repr_png_()[1:4]
        b'PNG'
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        written: Any = io.BytesIO()
        self.savefig(written, format="png")
        return bytes(written.getvalue())
