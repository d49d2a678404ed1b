"""What may have been meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest", "perhaps"]


def nearest(found: object, known: Iterable[str]) -> str | None:
    """The name that is spelled most like another; None where none is near.

    Examples:
        >>> nearest("digts", ["rooms", "digits"]), nearest("cat", ["rooms", "digits"])
        ('digits', None)
    """
    return next(iter(difflib.get_close_matches(str(found), list(known), n=1)), None)


def perhaps(found: object, known: Iterable[str]) -> str:
    """What may have been meant, to end a message with; nothing where no name is near.

    Examples:
        >>> perhaps("digts", ["rooms", "digits"])
        " Perhaps 'digits'?"
    """
    close = nearest(found, known)
    return "" if close is None else f" Perhaps {close!r}?"
