"""One perturbation for a whole data set, with ART's names."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, FittedAttack, FloatArray, estimator_bounds
from art_mtl.attacks.options import OPTIONS, UniversalOptions
from art_mtl.core.checks import fixed_batch_size, single_radius
from art_mtl.core.config import AttackConfig
from art_mtl.core.searches.universal import UniversalSearch


class UniversalMultiTaskPGD(FittedAttack):
    """One perturbation that degrades every task on all samples: min-max over the tasks of the data set.

    There is a step for each batch, along the sum of the gradients of its samples. The weights look at the degradation
    that the perturbation does to all batches of about one pass. Every perturbed input lies inside the box.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        method: One whose objective is one number a sample: "worst-task" (least degradation over the tasks), "equal",
            "normalize", "dgba", "alternate", "minmax" or "single:<task>".
        eps: Radius of the ball in the unit of ``x``, one number > 0.
        eps_step: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        max_iter: Passes over the samples, ≥ 1.
        {options}

    Attributes:
        noise: The perturbation of the last call, float32 of shape ``input_shape``; None before.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(6, 1, 8, 8)).astype(np.float32)
        >>> attack = UniversalMultiTaskPGD(estimator, eps=0.1, max_iter=5, batch_size=2, verbose=False)
        >>> noise = attack.fit(x, {"digit": [0, 1, 2, 3, 4, 5]})
        >>> noise.shape, bool(abs(noise).max() <= 0.1)
        ((1, 8, 8), True)
        >>> unseen = np.zeros((3, 1, 8, 8), dtype=np.float32)
        >>> bool((attack.apply(unseen) == np.clip(noise, 0, 1)).all())
        True
    """

    option_table = {
        **OPTIONS,
        "eps": replace(OPTIONS["eps"], check=single_radius),
        "batch_size": replace(OPTIONS["batch_size"], check=fixed_batch_size, doc="Samples a step."),
    }

    def __init__(
        self,
        estimator: Estimator,
        method: str = "worst-task",
        norm: float | str = np.inf,
        eps: float = 0.3,
        eps_step: float | None = None,
        decay: float | None = 0.9,
        max_iter: int = 10,
        **options: Unpack[UniversalOptions],
    ) -> None:
        self.noise: FloatArray | None = None
        settled = {"keep": "last", **options}
        super().__init__(
            estimator, method=method, norm=norm, eps=eps, eps_step=eps_step, decay=decay, max_iter=max_iter, **settled
        )

    def fit(self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None) -> FloatArray:
        """Find one perturbation for all of ``x``.

        Args:
            x: As for :meth:`generate`.
            y: Labels, or targets.
            mask: 0 where nothing may change, broadcastable to one input.

        Returns:
            The perturbation, float32 of shape ``input_shape``, inside the ball.
        """
        self.generate(x, y, mask)
        noise: FloatArray = self.noise  # type: ignore[assignment]
        return noise

    def _attack(self, search: Any, x: npt.NDArray[Any], y: Any, mask: Any = None) -> FloatArray:
        found = super()._attack(search, x, y, mask)
        self.noise = search.found[0].cpu().numpy()
        return found

    def _search(self) -> UniversalSearch:
        return UniversalSearch()

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(default_scope="batch", **settled)

    def _put_on(self, inputs: Tensor) -> Any:
        if self.noise is None:
            raise ValueError("There should be a perturbation before it is applied; call `fit` first. Found none.")
        return (inputs + torch.from_numpy(self.noise)).clamp(*estimator_bounds(self.estimator)).numpy()
