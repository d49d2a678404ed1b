"""One perturbation for a whole data set, and the adversarial patch, with ART's names."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, FloatArray, MultiTaskAttack
from art_mtl.attacks.options import FIXED_BATCHES, PatchOptions, UniversalOptions
from art_mtl.core.checks import single_radius
from art_mtl.core.configurable import arguments
from art_mtl.core.front_searches import PatchFront, UniversalFront
from art_mtl.data.sources import unpack_data


class _FittedAttack(MultiTaskAttack):
    """Base of the attacks of this file: fit once, apply to any inputs."""

    option_table = FIXED_BATCHES
    _found: ClassVar[str]
    """The attribute that holds what was found."""

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        """Inputs ``(N, *input_shape)``, seen before or not, with what was found, inside the clip values.

        Raises:
            ValueError: Nothing was found yet, or the inputs do not fit.
        """
        kept = getattr(self, self._found)
        found = None if kept is None else torch.from_numpy(kept)[None]
        applied: FloatArray = self._applied("x", self._inputs(x), found, "clip_values").numpy()
        return applied

    def _keep(self, search: Any) -> None:
        if search.found is not None:
            setattr(self, self._found, search.found[0].cpu().numpy())


class UniversalMultiTaskPGD(UniversalFront, _FittedAttack):
    """One perturbation that degrades every task on all samples: min-max over the tasks of the data set.

    There is a step for each batch, along the sum of the gradients of its samples. The weights look at the degradation
    that the perturbation does to all batches of about one pass. Every perturbed input lies inside the box.

    Args:
        method: One whose objective is one number a sample: "worst-task" (least degradation over the tasks), "equal",
            "normalize", "dgba", "alternate", "minmax" or "single:<task>".
        eps: Radius of the ball in the unit of ``x``, one number > 0.
        eps_step: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        max_iter: Passes over the samples, ≥ 1.

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

    option_table = {**FIXED_BATCHES, "eps": replace(FIXED_BATCHES["eps"], check=single_radius)}
    noise: FloatArray | None = None
    _found = "noise"

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
        super().__init__(**arguments(locals()))

    def fit(self, x: Any, y: Any = None, mask: npt.NDArray[Any] | None = None) -> FloatArray:
        """Find one perturbation for all of ``x``.

        Args:
            x: As for :meth:`generate`; or a ``DataLoader`` or data set, all samples of which are read.
            y: Labels, or targets; None where ``x`` has them.
            mask: 0 where nothing may change, broadcastable to one input.

        Returns:
            The perturbation, float32 of shape ``input_shape``, inside the ball.
        """
        self.generate(*unpack_data(x, y, self.estimator.tasks), mask)
        return self.noise  # type: ignore[return-value]


class MultiTaskPatch(PatchFront, _FittedAttack):
    """A patch that degrades every task of the image around it: min-max over the tasks, unbounded inside the patch.

    The content of the patch is free inside the box. With ``shared`` one patch is found for all samples, by a step for
    each batch along the sum of their gradients; else each sample gets its own. With transformations the degradation is
    averaged over their draws (Athalye et al. 2018), one for each sample and step.

    Args:
        estimator: As for :class:`MultiTaskPGD`; its inputs are images, and it has clip values.
        method: One whose objective is one number a sample, as for :class:`~art_mtl.attacks.UniversalMultiTaskPGD`.
        max_iter: With ``shared`` passes over the samples, else steps.
        eps_step: Size of the first step; None: 0.2 of the box's width.
        seed: Of the transformations and of the order of the samples; None is 0.

    Attributes:
        patch: Of the last call with ``shared``: the patch on an empty image, float32 of the shape of an input, clipped
            to the box; None before.
        place: ``(H, W)``, boolean: where it is.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(6, 1, 8, 8)).astype(np.float32)
        >>> attack = MultiTaskPatch(estimator, size=(3, 3), max_iter=5, batch_size=2, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [0, 1, 2, 3, 4, 5]})
        >>> int((x_adv[0] != x[0]).sum()), bool((x_adv[0] == x[0])[:, ~attack.place].all())
        (9, True)
    """

    patch: FloatArray | None = None
    _found = "patch"
    _finder = "generate"
    _always_shown = ("method", "size", "max_iter")

    def __init__(
        self,
        estimator: Estimator,
        method: str = "worst-task",
        max_iter: int = 100,
        eps_step: float | None = None,
        **options: Unpack[PatchOptions],
    ) -> None:
        super().__init__(**arguments(locals()))

    @property
    def place(self) -> npt.NDArray[np.bool_]:
        """``(H, W)``, boolean: where the patch is."""
        where: npt.NDArray[np.bool_] = (self._patch_place(self.estimator.input_shape).mask.squeeze() != 0).numpy()
        return where

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Find the patch, and put it on ``x``, untransformed; other pixels are those of ``x``.

        Arguments are those of :meth:`MultiTaskPGD.generate`, but for ``mask``, which should be None: where the patch
        lies is an option of the attack.
        """
        if kwargs or mask is not None:
            found = [*(["mask"] if mask is not None else []), *sorted(kwargs)]
            raise TypeError(f"generate() knows `x` and `y`; the attack itself says where its patch is. Found {found}.")
        return super().generate(x, y)

    def _configure(self, **given: Any) -> None:
        lower, upper = self._bounds()
        if not bool(torch.isfinite(upper - lower).all()):
            raise ValueError("A patch needs an estimator with finite `clip_values`, between which its content lies.")
        super()._configure(eps=float((upper - lower).max()), **given)

    @property
    def _channels_first(self) -> bool:
        return bool(self.estimator.channels_first)

    def _check_params(self) -> None:
        super()._check_params()
        self._patch_place(self.estimator.input_shape)
