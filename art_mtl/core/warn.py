"""Warnings that name the line of the user's own code."""

from __future__ import annotations

import sys
import warnings

_PACKAGE = __name__.partition(".")[0]
_HOSTS = (_PACKAGE, "torchattacks", "art", "secmlt", "torch", "contextlib")


class AttackWarning(RuntimeWarning):
    """Something that makes the result of an attack another one than it looks."""


def warn(message: str, category: type[Warning] = AttackWarning) -> None:
    """Warn, with the first line outside this package and its hosts as the place."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _HOSTS:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
