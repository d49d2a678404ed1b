"""The adversarial patch, with ART's names."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, FittedAttack, FloatArray, as_estimator, estimator_bounds
from art_mtl.attacks.options import OPTIONS, PatchOptions
from art_mtl.core.checks import fixed_batch_size
from art_mtl.core.config import AttackConfig
from art_mtl.core.searches.patch import PATCH_STEP, PatchPlace, PatchSearch, apply_patch, patch_mask


class MultiTaskPatch(FittedAttack):
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
        {options}

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

    option_table = {
        **OPTIONS,
        "batch_size": replace(OPTIONS["batch_size"], check=fixed_batch_size, doc="Samples a step."),
    }
    _always_shown = ("method", "size", "max_iter")

    def __init__(
        self,
        estimator: Estimator,
        size: tuple[int, int] | None = None,
        location: tuple[int, int] | None = None,
        mask: npt.NDArray[Any] | None = None,
        transforms: Sequence[Callable[..., Any]] = (),
        shared: bool = True,
        ignore_patch: bool = True,
        method: str = "worst-task",
        max_iter: int = 100,
        eps_step: float | None = None,
        seed: int | None = None,
        **options: Unpack[PatchOptions],
    ) -> None:
        self.patch: FloatArray | None = None
        lower, upper = estimator_bounds(as_estimator(estimator, type(self)))
        if not bool(torch.isfinite(upper - lower).all()):
            raise ValueError("A patch needs an estimator with finite `clip_values`, between which its content lies.")
        settled = {"decay": 0.9, "keep": "last", **options}
        super().__init__(
            estimator, size=size, location=location, mask=mask, transforms=transforms, shared=shared,
            ignore_patch=ignore_patch, method=method, max_iter=max_iter, eps_step=eps_step, seed=seed,
            norm=np.inf, eps=float((upper - lower).max()), **settled,
        )  # fmt: skip

    @property
    def place(self) -> npt.NDArray[np.bool_]:
        """``(H, W)``, boolean: where the patch is."""
        where: npt.NDArray[np.bool_] = (self._mask().squeeze() != 0).numpy()
        return where

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Find the patch, and put it on ``x``, untransformed.

        Args:
            x: Images, as for :meth:`MultiTaskPGD.generate`.
            y: Labels, or targets.
            mask: None; where the patch lies is an option of the attack.
            **kwargs: None is known.

        Returns:
            The patched images, float32, inside the box; other pixels are those of ``x``.
        """
        if kwargs or mask is not None:
            found = [*(["mask"] if mask is not None else []), *sorted(kwargs)]
            raise TypeError(f"generate() knows `x` and `y`; the attack itself says where its patch is. Found {found}.")
        search = self._search()
        result = self._attack(search, x, y)
        if search.found is not None:
            self.patch = search.found[0].cpu().numpy()
        return result

    def _put_on(self, inputs: Tensor) -> Any:
        if self.patch is None:
            raise ValueError("There should be a shared patch before it is applied; call `generate` first. Found none.")
        return apply_patch(inputs, torch.from_numpy(self.patch), self._mask()).numpy()

    def _search(self) -> PatchSearch:
        return PatchSearch(
            PatchPlace(
                mask=self._mask(),
                transforms=tuple(self.transforms),
                ignore=bool(self.ignore_patch),
                shared=bool(self.shared),
                channels_first=self.estimator.channels_first,
            )
        )

    def _mask(self) -> Tensor:
        estimator = self.estimator
        return patch_mask(tuple(estimator.input_shape), self.size, self.location, self.mask, estimator.channels_first)

    def _config(self, **settled: Any) -> AttackConfig:
        scope = "batch" if self.shared else "sample"
        return super()._config(first_step=PATCH_STEP, default_scope=scope, **settled)

    def _check_params(self) -> None:
        super()._check_params()
        if "eps" in self.__dict__:
            self._mask()
