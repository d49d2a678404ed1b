"""The adversarial patch, with ART's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor
from tqdm.auto import tqdm

from art_mtl.attacks.multi_task_pgd import FloatArray, MultiTaskPGD
from art_mtl.attacks.posed import Posed, as_estimator, estimator_bounds, pose, pose_inputs
from art_mtl.core import Method, frozen
from art_mtl.core.loop import RunConfig
from art_mtl.core.partial_targets import restrict, some_outputs
from art_mtl.core.searches.patch import PATCH_STEP, PatchSearch, check_transforms, patch_mask
from art_mtl.core.searches.transforms import Transform
from art_mtl.core.searches.universal import Samples, check_shared
from art_mtl.core.session import radius, warn_stopped
from art_mtl.estimators import PyTorchMultiTaskEstimator

_KNOWN = (
    "batch_size",
    "decay",
    "targeted",
    "verbose",
    "objective",
    "weighting",
    "gamma",
    "weight_step",
    "schedule",
    "prepare",
)


class MultiTaskPatch(MultiTaskPGD):
    """A patch that degrades every task of the image around it: min-max over the tasks, unbounded inside the patch.

    The content of the patch is free inside the box. With ``shared`` one patch is found for all samples, by a step a
    batch along the sum of their gradients; else each sample gets its own. With transformations its degradation is
    averaged over their draws (Athalye et al. 2018), a draw a sample and step.

    Args:
        estimator: As for :class:`MultiTaskPGD`; its inputs are images (C, H, W), and it has clip values.
        size: Height and width of the patch, in pixels; or ``mask``.
        location: Row and column of its upper left corner; None: the middle of the image.
        mask: ``(H, W)``, not 0 where the patch is; in place of a rectangle.
        transforms: Callables, such as :class:`~art_mtl.core.searches.transforms.Translate`,
            :class:`~art_mtl.core.searches.transforms.Scale` and :class:`~art_mtl.core.searches.transforms.Brightness`;
            see :mod:`art_mtl.core.searches.transforms`.
        shared: One patch for all samples.
        ignore_patch: Labels under the patch (where it lies untransformed) do not count, so that what is degraded is the
            rest of the image.
        method: One whose objective is one number a sample, as for :class:`~art_mtl.attacks.UniversalMultiTaskPGD`.
        max_iter: With ``shared`` passes over the samples, else steps.
        eps_step: Size of the first step; None: 0.2 of the box's width.
        seed: Of the transformations and of the order of the samples; None is 0.
        **kwargs: ``batch_size``, ``decay`` (0.9 if left out), ``targeted``, ``verbose``, ``objective``, ``weighting``,
            ``gamma``, ``weight_step``, ``schedule`` and ``prepare``, as for :class:`MultiTaskPGD`.

    Attributes:
        patch: Of the last call with ``shared``: the patch on an empty image, float32 (C, H, W), clipped to the box;
            None before.
        place: ``(H, W)``, boolean: where it is.

    Raises:
        ValueError: An argument out of its range, a patch that leaves the image, or an estimator without clip values.
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
        >>> attack = MultiTaskPatch(estimator, size=(3, 3), max_iter=5, batch_size=2, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [0, 1, 2, 3, 4, 5], "ink": x.mean((1, 2, 3))})
        >>> int((x_adv[0] != x[0]).sum()), bool((x_adv[0] == x[0])[:, ~attack.place].all())
        (9, True)
    """

    attack_params = [
        *(name for name in MultiTaskPGD.attack_params if name in (*_KNOWN, "method", "max_iter", "eps_step", "seed")),
        "size",
        "location",
        "mask",
        "transforms",
        "shared",
        "ignore_patch",
    ]

    _batch_is_free = False

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        size: tuple[int, int] | None = None,
        location: tuple[int, int] | None = None,
        mask: npt.NDArray[Any] | None = None,
        transforms: Sequence[Transform] = (),
        shared: bool = True,
        ignore_patch: bool = True,
        method: str = "worst-task",
        max_iter: int = 100,
        eps_step: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - set(_KNOWN))
        if unknown:
            raise TypeError(f"{type(self).__name__} knows {list(_KNOWN)} besides its own arguments. Found {unknown}.")
        self.size = size
        self.location = location
        self.mask = mask
        self.transforms = transforms
        self.shared = shared
        self.ignore_patch = ignore_patch
        self.patch: FloatArray | None = None
        estimator = as_estimator(estimator)
        lower, upper = estimator_bounds(estimator)
        if not bool(torch.isfinite(upper - lower).all()):
            raise ValueError("A patch needs an estimator with finite `clip_values`, between which its content lies.")
        settings = {"decay": 0.9, "weight_scope": "batch" if shared else "sample", "keep": "last", **kwargs}
        super().__init__(
            estimator, method, np.inf, float((upper - lower).max()), eps_step, max_iter=max_iter, seed=seed, **settings
        )

    @property
    def place(self) -> npt.NDArray[np.bool_]:
        """``(H, W)``, boolean: where the patch is."""
        where: npt.NDArray[np.bool_] = (self._place()[0, 0] != 0).numpy()
        return where

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Find the patch, and put it on ``x``, untransformed.

        Args:
            x: As for :meth:`MultiTaskPGD.generate`, like ``y``.
            y: Labels, or targets.
            mask: None; where the patch lies is an argument of the attack.
            **kwargs: None is known.

        Returns:
            The patched images, float32, inside the box; other pixels are those of ``x``.
        """
        if kwargs or mask is not None:
            found = [*(["mask"] if mask is not None else []), *sorted(kwargs)]
            raise TypeError(f"generate() knows `x` and `y`; the attack itself says where its patch is. Found {found}.")
        posed = pose(self.estimator, x, y, None, int(self.batch_size), bool(self.targeted))
        search, stopped = self._search(posed), list[int]()
        names = [task.name for task in search.tasks]
        total = self.max_iter * -(-len(posed) // int(self.batch_size))
        with frozen(self.estimator.model), tqdm(total=total, desc=self.name, disable=not self.verbose) as progress:
            if self.shared:
                self.patch = search.one(self._observer(0, progress, names), stopped)[0].cpu().numpy()
                result = self.apply(x)
            else:
                result = search.own(lambda batch: self._observer(batch, progress, names), stopped).numpy()
        warn_stopped(stopped)
        return result

    def apply(self, x: npt.NDArray[Any]) -> FloatArray:
        """Images ``(N, C, H, W)``, seen before or not, with the shared patch on them.

        Raises:
            ValueError: There is no patch yet, or the inputs do not fit.
        """
        if self.patch is None:
            raise ValueError("There should be a shared patch before it is applied; call `generate` first. Found none.")
        inputs = pose_inputs(self.estimator, x, estimator_bounds(self.estimator))
        return torch.where(self._place() != 0, torch.from_numpy(self.patch), inputs).numpy()

    def _search(self, posed: Posed) -> PatchSearch:
        estimator: PyTorchMultiTaskEstimator = self.estimator
        device = estimator.device
        size = None if self.eps_step is None else radius("eps_step", self.eps_step, posed.inputs[:1]).to(device)
        return PatchSearch(
            forward=some_outputs(self._forward(posed.inputs), posed.kept),
            samples=Samples(posed.inputs, posed.targets, device),
            tasks=tuple(estimator.tasks[k] for k in posed.kept),
            method=restrict(self._assemble(), posed.kept, estimator.tasks),
            mask=self._place().to(device),
            bounds=(posed.bounds[0].to(device), posed.bounds[1].to(device)),
            plan=RunConfig(self.max_iter, size, targeted=bool(self.targeted)),
            transforms=tuple(self.transforms),
            ignore=bool(self.ignore_patch),
            batch_size=int(self.batch_size),
            seed=self.seed or 0,
        )

    def _place(self) -> Tensor:
        mask = None if self.mask is None else torch.as_tensor(np.asarray(self.mask))
        return patch_mask(tuple(self.estimator.input_shape), self.size, self.location, mask)

    def _assemble(self) -> Method:
        return replace(super()._assemble(), first_step=PATCH_STEP)

    def _check_params(self) -> None:
        super()._check_params()
        self._place()
        for argument in ("shared", "ignore_patch"):
            if not isinstance(getattr(self, argument), (bool, np.bool_)):
                raise ValueError(f"Parameter `{argument}` should be a bool. Found {getattr(self, argument)!r}.")
        check_transforms(self.transforms)
        check_shared(self._assemble())
