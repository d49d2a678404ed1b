"""The general attack, with ART's names."""

from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.core.options import MethodOptions


class MultiTaskPGD(MultiTaskAttack):
    """Projected gradient descent on all tasks of a multi-task model.

    The same names, order and meaning of arguments as ART's ``ProjectedGradientDescent``, with ``method`` before them
    and the options of the multi-task loop behind them. The data stay on the estimator's device from the first step to
    the last; T steps cost T forward and T backward passes.

    Args:
        estimator: A :class:`~art_mtl.estimators.PyTorchMultiTaskEstimator`, or a stock ART ``PyTorchClassifier`` (one
            task).
        {options}

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.
        measured: :class:`~art_mtl.core.batch_size.BatchSize` that ``batch_size="auto"`` has found; None before.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=5, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [3, 7], "ink": [0.5, 0.4]})
        >>> round(float(abs(x_adv - x).max()), 4)
        0.1
    """

    def __init__(
        self,
        estimator: Estimator,
        method: str = "equal",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        decay: float | None = None,
        max_iter: int = 100,
        targeted: bool = False,
        num_random_init: int = 0,
        batch_size: int | str = 32,
        random_eps: bool = False,
        summary_writer: Any = False,
        verbose: bool = True,
        **options: Unpack[MethodOptions],
    ) -> None:
        super().__init__(
            estimator, method=method, norm=norm, eps=eps, eps_step=eps_step, decay=decay, max_iter=max_iter,
            targeted=targeted, num_random_init=num_random_init, batch_size=batch_size, random_eps=random_eps,
            summary_writer=summary_writer, verbose=verbose, **options,
        )  # fmt: skip
