"""What other packages add: objects that they declare by entry points. Only what is installed is ever imported."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any

__all__ = ["declared", "label", "load", "package_of"]


def declared(group: str, taken: Collection[str] = ()) -> dict[str, EntryPoint]:
    """The entry points of a group, by name. Nothing is imported.

    Args:
        group: For instance "art_mtl.tasks".
        taken: Names that are this package's own.

    Raises:
        ValueError: Two packages declare one name, or a package one that is taken.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if entry.name in taken or other.value != entry.value:
            by = "by art_mtl" if entry.name in taken else f"by the package {package_of(other)}"
            raise ValueError(
                f"{label(entry)} should have a name of its own. Found {entry.name!r}, which is taken {by}."
            )
    return found


def package_of(entry: EntryPoint) -> str:
    """The distribution that declares an entry point; "?" where it does not say."""
    return entry.dist.name if entry.dist is not None else "?"


def label(entry: EntryPoint) -> str:
    """What messages call an entry point.

    Examples:
        >>> label(EntryPoint("mine", "my_package:mine", "art_mtl.tasks"))
        "Entry point 'my_package:mine' of 'art_mtl.tasks'"
    """
    return f"Entry point {entry.value!r} of {entry.group!r}"


def load(entry: EntryPoint, what: str) -> Any:
    """Import what an entry point names.

    Args:
        entry: Of an installed package.
        what: It should be, for messages.

    Raises:
        ImportError: The package is broken.
    """
    try:
        return entry.load()
    except Exception as error:
        raise ImportError(f"{label(entry)} should be {what}. Found {type(error).__name__}: {error}") from error
