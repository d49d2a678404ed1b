"""One head of a multi-task model as a stock ART estimator, and a stock ART classifier as a model of one task."""

from __future__ import annotations

from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from art.estimators.regression.pytorch import PyTorchRegressor
from torch import Tensor

from art_mtl import tasks
from art_mtl.estimators.base import MultiTaskBase
from art_mtl.precision import dtype_of
from art_mtl.tasks import Task


class TaskHead(torch.nn.Module):
    """A model of several outputs as a model of one tensor; it shares the model, parameters and all.

    Args:
        model: The multi-task model.
        task: The task whose output is wanted.
        position: The task's place among the tasks of the model, for outputs that are sequences.
        count: How many tasks the model has.

    Examples:
        >>> from art_mtl import tasks
        >>> head = TaskHead(torch.nn.Linear(4, 3), tasks.classification("kind", 3), position=0, count=1)
        >>> head(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, model: torch.nn.Module, task: Task, position: int, count: int) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.position, self.count = position, count

    def forward(self, x: Tensor) -> Tensor:
        """The task's raw output, ``(B, ...)``."""
        # Some of ART's NumPy defences hand over float64.
        output: Tensor = self.task.select(self.model(x.to(dtype_of(self.model))), self.position, self.count)
        return output


class ScalarHead(TaskHead):
    """A regression head with one value a sample, ``(B, 1)``: all that ART's regressor can take.

    Raises:
        ValueError: The head has several values a sample.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The value, ``(B, 1)``."""
        output = super().forward(x)
        if output.shape not in ((len(x),), (len(x), 1)):
            raise ValueError(
                f"The output of task {self.task.name!r} should have one value a sample to be seen through ART's "
                f"PyTorchRegressor, which flattens it. Found shape {tuple(output.shape)}."
            )
        return output.reshape(-1, 1)


def view_task(estimator: MultiTaskBase, name: str) -> Any:
    """One head of an estimator as a stock ART estimator, see :meth:`PyTorchMultiTaskEstimator.task_view`.

    Args:
        estimator: The estimator; the view shares its model, optimizer, bounds and defences.
        name: The task.

    Raises:
        ValueError: There is no such task, or ART has no estimator for it.
    """
    names = [task.name for task in estimator.tasks]
    if name not in names:
        raise ValueError(f"Parameter `name` should be one of the tasks {names}. Found {name!r}.")
    position = names.index(name)
    task = estimator.tasks[position]
    shared = {
        "input_shape": estimator.input_shape,
        "optimizer": estimator.optimizer,
        "channels_first": estimator.channels_first,
        "clip_values": estimator.clip_values,
        "preprocessing_defences": estimator.preprocessing_defences,
        "preprocessing": estimator.preprocessing,
        "device_type": estimator.device_type,
    }
    if task.art_view == "classifier":
        return PyTorchClassifier(
            model=TaskHead(estimator.model, task, position, len(names)),
            loss=torch.nn.CrossEntropyLoss(),
            **task.art_arguments,
            **shared,
        )
    if task.art_view == "regressor":
        return PyTorchRegressor(
            model=ScalarHead(estimator.model, task, position, len(names)), loss=torch.nn.L1Loss(), **shared
        )
    raise ValueError(
        f"Task {name!r} should be a classification or a regression with one value a sample: ART has no estimator for "
        f"a {task.kind} head. Use this estimator itself, with the attacks that do not ask for a classifier."
    )


def classifier_arguments(classifier: Any) -> dict[str, Any]:
    """What a multi-task estimator is made of when it stands for a stock ART classifier.

    Args:
        classifier: ART's ``PyTorchClassifier``, with ``CrossEntropyLoss`` or ``NLLLoss``.

    Raises:
        TypeError: It is another estimator.
        ValueError: Its loss is another one, weighted or smoothed, or it has postprocessing defences.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise TypeError(f"Parameter `classifier` should be ART's PyTorchClassifier. Found {type(classifier).__name__}.")
    _check_loss(classifier.loss)
    return {
        # ART wraps the user's module in one that returns a list of layer outputs; `.model` is the user's own.
        "model": classifier.model,
        "tasks": [tasks.classification("classification", classifier.nb_classes)],
        "input_shape": classifier.input_shape,
        "clip_values": classifier.clip_values,
        "optimizer": classifier.optimizer,
        "channels_first": classifier.channels_first,
        "preprocessing_defences": classifier.preprocessing_defences,
        "postprocessing_defences": classifier.postprocessing_defences,
        "preprocessing": classifier.preprocessing,
        "device_type": classifier.device_type,
    }


def _check_loss(loss: Any) -> None:
    # On log-probabilities the cross-entropy is the negative log-likelihood, in value and in gradient.
    if not isinstance(loss, (torch.nn.CrossEntropyLoss, torch.nn.NLLLoss)):
        raise ValueError(
            f"The classifier's loss should be CrossEntropyLoss or NLLLoss. Found {type(loss).__name__}; "
            "make a PyTorchMultiTaskEstimator with a tasks.custom task for it."
        )
    if loss.weight is not None or getattr(loss, "label_smoothing", 0.0) != 0.0:
        raise ValueError(
            "The classifier's loss should have neither class weights nor label smoothing. "
            f"Found weight={loss.weight}, label_smoothing={getattr(loss, 'label_smoothing', 0.0)}."
        )
