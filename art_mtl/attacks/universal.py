"""One perturbation for a whole data set, with ART's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.estimators.classification import PyTorchClassifier
from tqdm.auto import tqdm

from art_mtl.attacks.multi_task_pgd import FloatArray, MultiTaskPGD
from art_mtl.attacks.posed import estimator_bounds, pose, pose_inputs
from art_mtl.core import frozen
from art_mtl.core.loop import NUDGE, RunConfig
from art_mtl.core.partial_targets import restrict, some_outputs
from art_mtl.core.searches.universal import Samples, check_shared, universal
from art_mtl.core.session import radius, warn_stopped
from art_mtl.estimators import PyTorchMultiTaskEstimator

_DECIDED = (
    "num_random_init",
    "random_eps",
    "weight_scope",
    "weight_group",
    "keep",
    "projection",
    "attacked",
    "preserved",
    "tolerance",
    "penalty",
)


class UniversalMultiTaskPGD(MultiTaskPGD):
    """One perturbation that degrades every task on all samples: min-max over the tasks of the data set.

    A step a batch, along the sum of the gradients of its samples; the weights look at the degradation that the
    perturbation does to all batches of about one pass. Every perturbed input lies inside the box.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        method: One whose objective is one number a sample: "worst-task" (least degradation over the tasks), "equal",
            "normalize", "dgba", "alternate", "minmax" or "single:<task>".
        norm: ``np.inf`` (or "inf"), 2 or 1.
        eps: Radius of the ball in the unit of ``x``, one number > 0.
        eps_step: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        decay: Momentum of the gradient.
        max_iter: ForwardBackward over the samples, ≥ 1.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, but ``num_random_init``, ``random_eps``,
            ``weight_scope``, ``weight_group``, ``keep``, ``projection`` and what belongs to task-selective methods.

    Attributes:
        noise: The perturbation of the last call, float32 of shape ``input_shape``; None before.

    Raises:
        ValueError: An argument out of its range, or a method that cannot share a perturbation.
        TypeError: An argument of the wrong type.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(6, 1, 8, 8)).astype(np.float32)
        >>> attack = UniversalMultiTaskPGD(estimator, eps=0.1, max_iter=5, batch_size=2, verbose=False)
        >>> noise = attack.fit(x, {"digit": [0, 1, 2, 3, 4, 5], "ink": x.mean((1, 2, 3))})
        >>> noise.shape, bool(abs(noise).max() <= 0.1)
        ((1, 8, 8), True)
        >>> unseen = np.zeros((3, 1, 8, 8), dtype=np.float32)
        >>> bool((attack.apply(unseen) == np.clip(noise, 0, 1)).all())
        True
    """

    attack_params = [name for name in MultiTaskPGD.attack_params if name not in _DECIDED]

    _batch_is_free = False

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        method: str = "worst-task",
        norm: float | str = np.inf,
        eps: float = 0.3,
        eps_step: float | None = None,
        decay: float | None = 0.9,
        max_iter: int = 10,
        **kwargs: Any,
    ) -> None:
        refused = [name for name in _DECIDED if name in kwargs]
        if refused:
            raise TypeError(f"{type(self).__name__} decides {list(_DECIDED)} itself; leave them out. Found {refused}.")
        self.noise: FloatArray | None = None
        settings = {"weight_scope": "batch", "keep": "last", **kwargs}
        super().__init__(estimator, method, norm, eps, eps_step, decay, max_iter, **settings)

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Find a perturbation for ``x``, and apply it; see :meth:`fit` and :meth:`apply`."""
        if kwargs:
            raise TypeError(f"generate() knows `x`, `y` and `mask`. Found {sorted(kwargs)}.")
        self.fit(x, y, mask)
        return self.apply(x)

    def fit(self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None) -> FloatArray:
        """Find one perturbation for all of ``x``.

        Args:
            x: As for :meth:`MultiTaskPGD.generate`, like ``y``.
            y: Labels, or targets.
            mask: 0 where nothing may change, broadcastable to one input.

        Returns:
            The perturbation, float32 of shape ``input_shape``, inside the ball.
        """
        posed = pose(self.estimator, x, y, mask, int(self.batch_size), bool(self.targeted))
        if posed.mask is not None and len(posed.mask) > 1:
            raise ValueError(
                f"Parameter `mask` should be one for all samples, shape (1, ...). Found {tuple(posed.mask.shape)}."
            )
        estimator: PyTorchMultiTaskEstimator = self.estimator
        device, tasks = estimator.device, tuple(estimator.tasks[k] for k in posed.kept)
        eps = radius("eps", self.eps, posed.inputs[:1])
        size = None if self.eps_step is None else radius("eps_step", self.eps_step, posed.inputs[:1]).to(device)
        stopped: list[int] = []
        steps = self.max_iter * -(-len(posed) // int(self.batch_size))
        with frozen(estimator.model), tqdm(total=steps, desc=self.name, disable=not self.verbose) as progress:
            found = universal(
                some_outputs(self._forward(posed.inputs), posed.kept),
                Samples(posed.inputs, posed.targets, device),
                tasks,
                restrict(self._assemble(), posed.kept, estimator.tasks),
                posed.threat(self.norm, eps, slice(None), device),
                RunConfig(self.max_iter, size, targeted=bool(self.targeted), l1_step=self.l1_step),
                int(self.batch_size),
                self.seed or 0,
                noise=NUDGE if posed.own_labels else 0.0,
                observer=self._observer(0, progress, [task.name for task in tasks]),
                stopped=stopped,
            )
        warn_stopped(stopped)
        noise: FloatArray = found[0].cpu().numpy()
        self.noise = noise
        return noise

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        """Inputs ``(N, *input_shape)``, seen before or not, with the perturbation, inside the clip values.

        Raises:
            ValueError: There is no perturbation yet, or the inputs do not fit.
        """
        if self.noise is None:
            raise ValueError("There should be a perturbation before it is applied; call `fit` first. Found none.")
        bounds = estimator_bounds(self.estimator)
        inputs = pose_inputs(self.estimator, x, bounds)
        return (inputs + torch.from_numpy(self.noise)).clamp(*bounds).numpy()

    def _check_params(self) -> None:
        super()._check_params()
        if np.size(self.eps) != 1:
            raise ValueError(f"Parameter `eps` should be one number for all samples. Found shape {np.shape(self.eps)}.")
        check_shared(self._assemble())
