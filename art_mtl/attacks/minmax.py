"""The paper's attack, with ART's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_mtl.attacks.multi_task_pgd import MultiTaskPGD, Radius
from art_mtl.core.methods import choice
from art_mtl.estimators import PyTorchMultiTaskEstimator


class MinMaxMultiTaskPGD(MultiTaskPGD):
    """The attack of Guo et al., "Robust Multi-task Adversarial Attacks Using Min-max Optimization", ICASSP 2025.

    Task weights on the simplex descend while the perturbation ascends, so that the task that is hardest to degrade gets
    the weight. Defaults where the paper is silent: γ = 1, α₂ = 1/30, start at ``x``, constant step, last iterate.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        variant: "paper" is Algorithm 1: the raw per-sample losses, a row of weights for each sample, the weights
            updated at the *new* perturbation. "official" is the loop that the authors published: relative losses of
            batch means, one row of weights for each 4 neighbours, both updates from the same forward pass, projection
            by scaling, then clamping.
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
        >>> MinMaxMultiTaskPGD(estimator, eps=8 / 255, max_iter=10, gamma=0.5).name
        'minmax'
    """

    attack_params = ["variant", *(name for name in MultiTaskPGD.attack_params if name != "method")]

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        variant: str = "paper",
        norm: float | str = np.inf,
        eps: Radius = 0.3,
        eps_step: Radius | None = None,
        **kwargs: Any,
    ) -> None:
        self.variant = variant
        super().__init__(estimator, "minmax", norm, eps, eps_step, **kwargs)

    def _method_name(self) -> str:
        choice("variant", self.variant, ("paper", "official"))
        return "minmax" if self.variant == "paper" else "minmax-official"
