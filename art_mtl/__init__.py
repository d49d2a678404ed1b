"""Min-max adversarial attacks on multi-task networks, for ART and torchattacks.

Examples:
    >>> from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, Task, tasks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from art_mtl import tasks
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task
from art_mtl.version import __version__

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["MultiTaskLabels", "PyTorchMultiTaskEstimator", "Task", "__version__", "tasks"]


def __getattr__(name: str) -> Any:
    """The estimator, when it is first asked for: it imports ART, which takes seconds that many uses do not need."""
    if name == "PyTorchMultiTaskEstimator":
        from art_mtl.estimators import PyTorchMultiTaskEstimator

        return PyTorchMultiTaskEstimator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
