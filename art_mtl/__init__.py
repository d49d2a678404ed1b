"""Min-max adversarial attacks on multi-task networks, for ART and torchattacks.

Examples:
    >>> from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, Task, tasks
"""

from __future__ import annotations

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task
from art_mtl.version import __version__

__all__ = ["MultiTaskLabels", "PyTorchMultiTaskEstimator", "Task", "__version__", "tasks"]
