"""Min-max adversarial attacks on multi-task networks, for ART and torchattacks.

Examples:
    >>> from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, Task, tasks
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from art_mtl.version import __version__

if TYPE_CHECKING:
    from art_mtl import tasks
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.labels import MultiTaskLabels
    from art_mtl.tasks import Task

__all__ = ["MultiTaskLabels", "PyTorchMultiTaskEstimator", "Task", "__version__", "tasks"]

_HOMES = {"MultiTaskLabels": "labels", "PyTorchMultiTaskEstimator": "estimators", "Task": "tasks"}


def __getattr__(name: str) -> Any:
    """What is asked for, when it is first asked for: torch and ART take seconds that many uses do not need."""
    if name == "tasks":
        return import_module("art_mtl.tasks")
    if name in _HOMES:
        return getattr(import_module(f"art_mtl.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
