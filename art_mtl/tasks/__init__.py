"""Tasks: what a model's output means, how wrong it is, and how its quality is reported.

A :class:`Task` binds one output of a model to a loss, to a differentiable stand-in for its metric and to the metric
itself. The ready-made ones are

- one label an image: :func:`classification`, :func:`binary`, :func:`multilabel`, :func:`ordinal`, :func:`regression`
  and :func:`embedding`;
- maps: :func:`segmentation`, :func:`binary_segmentation`, :func:`multilabel_segmentation`, :func:`depth`,
  :func:`disparity`, :func:`surface_normals` and :func:`image`;
- objects and points: :func:`detection` and :func:`keypoints`.

:func:`custom` makes one from callables, and :func:`installed` lists those of other packages. Each kind is one file,
which holds everything that is particular to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from art_mtl.tasks.base import Measures, Task
from art_mtl.tasks.binary import binary
from art_mtl.tasks.binary_segmentation import binary_segmentation
from art_mtl.tasks.classification import classification
from art_mtl.tasks.custom import custom
from art_mtl.tasks.dense import depth, disparity
from art_mtl.tasks.detection import detection
from art_mtl.tasks.elementwise import ElementwiseTask
from art_mtl.tasks.embedding import embedding
from art_mtl.tasks.image import image
from art_mtl.tasks.installed import installed
from art_mtl.tasks.keypoints import keypoints
from art_mtl.tasks.multilabel import multilabel
from art_mtl.tasks.multilabel_segmentation import multilabel_segmentation
from art_mtl.tasks.normals import surface_normals
from art_mtl.tasks.ordinal import ordinal
from art_mtl.tasks.picking import OutputPicker
from art_mtl.tasks.regression import regression
from art_mtl.tasks.segmentation import segmentation
from art_mtl.tasks.target import DenseTarget, RaggedTarget, Target

__all__ = [
    "DenseTarget",
    "ElementwiseTask",
    "Measures",
    "OutputPicker",
    "RaggedTarget",
    "Target",
    "Task",
    "binary",
    "binary_segmentation",
    "check_tasks",
    "classification",
    "custom",
    "depth",
    "detection",
    "disparity",
    "embedding",
    "image",
    "installed",
    "keypoints",
    "multilabel",
    "multilabel_segmentation",
    "ordinal",
    "regression",
    "segmentation",
    "surface_normals",
]


def check_tasks(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks as a tuple.

    Raises:
        TypeError: They are no sequence, or one of them is not a :class:`Task`.
        ValueError: There is none, or two share a name.
    """
    if isinstance(tasks, Task):
        tasks = [tasks]
    if not isinstance(tasks, Iterable):
        raise TypeError(f"Parameter `tasks` should be a list of art_mtl.Task objects. Found {type(tasks).__name__}.")
    found = tuple(tasks)
    for task in found:
        if not isinstance(task, Task):
            raise TypeError(f"Parameter `tasks` should hold art_mtl.Task objects. Found {type(task).__name__}.")
    names = [task.name for task in found]
    if not names:
        raise ValueError("Parameter `tasks` should hold at least one task. Found none.")
    if len(set(names)) < len(names):
        raise ValueError(f"Parameter `tasks` should have distinct names. Found {names}.")
    return found
