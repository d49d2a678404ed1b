"""Kinds of task that other packages bring."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from art_mtl.entry_points import declared, label, load, package_of
from art_mtl.tasks.base import Task

GROUP = "art_mtl.tasks"


@dataclass(frozen=True)
class InstalledKind:
    """A function of another package that makes a task; the package is imported at the first call.

    Attributes:
        name: Of the entry point.
        package: The distribution that brings it.
        entry: Says where the function is.
    """

    name: str
    package: str
    entry: EntryPoint

    def __call__(self, *args: Any, **kwargs: Any) -> Task:
        """The task.

        Raises:
            ImportError: The package is broken.
            TypeError: What it makes is no task.
        """
        made = load(self.entry, "a function that makes an art_mtl.Task")(*args, **kwargs)
        if not isinstance(made, Task):
            raise TypeError(f"{label(self.entry)} should make an art_mtl.Task. Found {type(made).__name__}.")
        return made


def installed() -> dict[str, InstalledKind]:
    """The kinds that installed packages declare in the entry-point group ``art_mtl.tasks``, by name.

    Nothing is imported before a task is made. A package declares a function that returns a
    :class:`~art_mtl.tasks.Task`, in its ``pyproject.toml`` for instance::

        [project.entry-points."art_mtl.tasks"]
        keypoints = "my_package.keypoints:keypoints"

    Raises:
        ValueError: Two packages declare one name.

    Examples:
        >>> from art_mtl import tasks
        >>> "segmentation" in tasks.installed()  # kinds of this package are functions of art_mtl.tasks
        False
    """
    return {name: InstalledKind(name, package_of(entry), entry) for name, entry in declared(GROUP).items()}
