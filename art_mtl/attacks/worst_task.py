"""The strongest attack of the package, with ART's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_mtl.attacks.multi_task_pgd import MultiTaskPGD, Radius
from art_mtl.estimators import PyTorchMultiTaskEstimator


class WorstTaskPGD(MultiTaskPGD):
    """The strongest attack of this package on the *worst* task: min-max on reported degradation, not on losses.

    With ``weight_scope="dataset"`` (default) one row of weights, a controller on the degradation of each task's own
    data-set metric over everything attacked so far, balances the tasks over the population: the figure Δ_Wor of the
    paper's tables. With "sample" each image is to lose *all* its tasks: the least degradation of the image itself is
    ascended, and the best iterate returned. The step size decays from 3 ε to 0 unless ``eps_step`` says otherwise.

    With "dataset" the samples of a call are cut into chunks of ``weight_group`` (256) that know nothing of each other;
    batches of a chunk follow one another and share their statistics, so results depend on the batch size, mildly.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        norm: As for :class:`MultiTaskPGD`, like everything that follows.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, but ``method``.

    Examples:
        >>> import torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> WorstTaskPGD(estimator, eps=8 / 255, max_iter=10).name
        'worst-task'
    """

    attack_params = [name for name in MultiTaskPGD.attack_params if name != "method"]

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        norm: float | str = np.inf,
        eps: Radius = 0.3,
        eps_step: Radius | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(estimator, "worst-task", norm, eps, eps_step, **kwargs)
