"""Auto-PGD with ART's names."""

from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import AutoPGDOptions


class MultiTaskAutoPGD(MultiTaskAttack):
    """Auto-PGD (Croce & Hein, ICML 2020, section 3; for L1 Croce & Hein, ICML 2021) on any objective: no step size to
    choose.

    L∞ and L2: the step starts at 2 ε, and moves have inertia 0.75. At checkpoints of shrinking distance the step of a
    sample is halved, and the sample goes back to its best iterate, if its objective has risen in fewer than 0.75 of the
    steps or has come to a halt. L1: sparse steps whose number of coordinates follows that of the best iterate. The best
    iterate is returned: T forward and T backward passes, and one forward for the last iterate.

    The weights of "worst-task" (and of other min-max methods) move from step to step, and the objective with them. So
    the values of the best and of the last iterate are kept task by task, and "risen" and "best" are judged at the
    weights of now. Values are degradations of the sample, 1 − e⁰/e or 1 − s/s⁰, where the objective itself is not one
    number a sample that lasts from step to step, as in "worst-task". They are compared by the method's own rule:
    summed, weighted, or the least of them. In 10 steps checkpoints are one to three apart, and :class:`WorstTaskPGD`
    was stronger in what was measured.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        {options}

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> attack = MultiTaskAutoPGD(estimator, eps=0.1, max_iter=10, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [3, 7]})
        >>> round(float(abs(x_adv - x).max()), 4)
        0.1
    """

    def __init__(
        self,
        estimator: Estimator,
        method: str = "worst-task",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        max_iter: int = 100,
        **options: Unpack[AutoPGDOptions],
    ) -> None:
        settled = {"schedule": "auto", **options}
        super().__init__(estimator, method=method, norm=norm, eps=eps, max_iter=max_iter, **settled)
