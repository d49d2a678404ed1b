"""The strongest attack of the package, with ART's names."""

from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import AllTasksOptions


class WorstTaskPGD(MultiTaskAttack):
    """The strongest attack of this package on the *worst* task: min-max on reported degradation, not on losses.

    With ``weight_scope="dataset"`` (default) there is one row of weights. A controller on the degradation of each
    task's own data-set metric, over everything attacked so far, balances the tasks over the population: this is the
    figure Δ_Wor of the paper's tables. With "sample" each image is to lose *all* its tasks: the least degradation of
    the image itself is ascended, and the best iterate is returned. The step size falls from 3 ε to 0 unless
    ``eps_step`` says otherwise.

    With "dataset" the samples of a call are cut evenly into chunks of at most ``weight_group`` (256), which know
    nothing of each other. The batches of a chunk follow one another and share their statistics, so that results depend
    on the batch size, mildly.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        {options}

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> WorstTaskPGD(estimator, eps=8 / 255, max_iter=10).name
        'worst-task'
    """

    def __init__(
        self,
        estimator: Estimator,
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(estimator, method="worst-task", norm=norm, eps=eps, eps_step=eps_step, **options)
