"""The paper's attack, with ART's names."""

from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import AllTasksOptions


class MinMaxMultiTaskPGD(MultiTaskAttack):
    """The attack of Guo et al., "Robust Multi-task Adversarial Attacks Using Min-max Optimization", ICASSP 2025.

    Task weights on the simplex descend while the perturbation ascends, so that the task that is hardest to degrade gets
    the weight. Defaults where the paper is silent: γ = 1, α₂ = 1/30, start at ``x``, constant step, last iterate.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        {options}

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> MinMaxMultiTaskPGD(estimator, eps=8 / 255, max_iter=10, gamma=0.5).name
        'minmax'
    """

    def __init__(
        self,
        estimator: Estimator,
        variant: str = "paper",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(estimator, variant=variant, norm=norm, eps=eps, eps_step=eps_step, **options)
