"""One perturbation for many images, and the adversarial patch, with torchattacks' names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from art_mtl.core import Method, ThreatModel, frozen
from art_mtl.core.loop import NUDGE, RunConfig
from art_mtl.core.partial_targets import restrict, some_outputs
from art_mtl.core.searches.patch import PATCH_STEP, PatchSearch, check_transforms, patch_mask
from art_mtl.core.searches.transforms import Transform
from art_mtl.core.searches.universal import Samples, check_shared, universal
from art_mtl.core.session import check_inputs, parse_norm, radius, warn_stopped
from art_mtl.tasks import Task
from art_mtl.torchattacks.pgd import Bound, MultiTaskPGD, bounds_like


class _Shared(MultiTaskPGD):
    """What the attacks of this file have in common: fit once, apply to any images."""

    def __init__(self, *args: Any, batch_size: int, **kwargs: Any) -> None:
        self.batch_size = batch_size
        self.found: Tensor | None = None
        super().__init__(*args, **kwargs)

    def fit(self, images: Tensor, labels: Any = None) -> Tensor:
        """Find it for these images ``(N, ...)``, in batches, and return it, in the unit of the bounds.

        Args:
            images: As for a call of the attack, like ``labels``.
            labels: Labels of all tasks, or targets.
        """
        self(images, labels)
        if self.found is None:
            raise ValueError("There is nothing that all images share: each has its own.")
        return self.found

    def apply(self, images: Tensor) -> Tensor:
        """Images ``(N, ...)``, seen before or not, with what was found, inside the bounds.

        Raises:
            ValueError: Nothing has been found yet, or the images do not fit.
        """
        if self.found is None:
            raise ValueError("There should be something to apply; call `fit` first. Found none.")
        scaled = self._normalization_applied is True
        images = images.detach().to(self.device)
        images = self.inverse_normalize(images) if scaled else images
        bounds = bounds_like(self.bounds, images)
        applied = self._put_on(check_inputs("images", images, bounds), bounds)
        return self.normalize(applied) if scaled else applied

    def _put_on(self, images: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        raise TypeError(f"{type(self).__name__} should say how it is put on images.")

    def _check(self) -> None:
        super()._check()
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise ValueError(f"Parameter `batch_size` should be an integer of at least 1. Found {self.batch_size!r}.")
        check_shared(self._assemble())


class UniversalMultiTaskPGD(_Shared):
    """One perturbation that degrades every task on all images: min-max over the tasks.

    A call of the attack finds it for the images it is given and applies it to them; :meth:`fit` returns it, and
    :meth:`apply` puts it on other images.

    Args:
        model: As for :class:`MultiTaskPGD`.
        tasks: K tasks.
        method: See :class:`art_mtl.attacks.UniversalMultiTaskPGD`.
        eps: Radius of the ball, one number > 0.
        alpha: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        steps: ForwardBackward over the images.
        bounds: As for :class:`MultiTaskPGD`, like ``norm``.
        batch_size: Images a step.
        decay: Momentum of the gradient.
        seed: Of the order of the images; None is 0.
        **kwargs: ``objective``, ``weighting``, ``gamma``, ``weight_step``, ``schedule``, ``prepare`` and ``l1_step``.

    Attributes:
        found: The perturbation, ``(1, ...)``; None before.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = UniversalMultiTaskPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=3, batch_size=2)
        >>> images = torch.rand(6, 1, 8, 8)
        >>> noise = atk.fit(images, {"digit": torch.arange(6)})
        >>> torch.equal(atk.apply(images), (images + noise).clamp(0, 1))
        True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "worst-task",
        eps: float = 8 / 255,
        alpha: float | None = None,
        steps: int = 10,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        *,
        batch_size: int = 32,
        decay: float | None = 0.9,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        _check_known(kwargs, (*_PARTS, "l1_step"))
        super().__init__(
            model, tasks, method, eps, alpha, steps, False, bounds, norm, decay=decay, seed=seed,
            batch_size=batch_size, weight_scope="batch", keep="last", **kwargs,
        )  # fmt: skip

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Find the perturbation and apply it; called by ``__call__``, which see."""
        posed = self._pose(images, labels)
        eps = radius("eps", self.eps, posed.images[:1])
        alpha = None if self.alpha is None else radius("alpha", self.alpha, posed.images[:1])
        stopped: list[int] = []
        with frozen(self.model, evaluate=False):
            self.found = universal(
                some_outputs(self._forward(posed.images), posed.kept),
                Samples(posed.images, posed.targets, posed.images.device),
                [self.tasks[k] for k in posed.kept],
                restrict(self._assemble(), posed.kept, self.tasks),
                ThreatModel(parse_norm(self.norm), eps, posed.bounds),
                RunConfig(self.steps, alpha, targeted=self.targeted, l1_step=self.l1_step),
                self.batch_size,
                self.seed or 0,
                noise=NUDGE if posed.own_labels else 0.0,
                observer=self.observer,
                stopped=stopped,
            )
        warn_stopped(stopped)
        return self._put_on(posed.images, posed.bounds)

    def _put_on(self, images: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        return images if self.found is None else (images + self.found).clamp(*bounds)

    def _check(self) -> None:
        super()._check()
        if isinstance(self.eps, Tensor) and self.eps.numel() != 1:
            raise ValueError(f"Parameter `eps` should be one number for all images. Found shape {self.eps.shape}.")


class MultiTaskPatch(_Shared):
    """A patch that degrades every task of the image around it.

    A call of the attack finds the patch for the images it is given and puts it on them. With ``shared`` :meth:`fit`
    returns the patch on an empty image, and :meth:`apply` puts it on other images.

    Args:
        model: As for :class:`MultiTaskPGD`; its inputs are images (B, C, H, W).
        tasks: K tasks.
        size: Height and width of the patch, in pixels; or ``mask``.
        location: Row and column of its upper left corner; None: the middle of the image.
        mask: ``(H, W)``, not 0 where the patch is; in place of a rectangle.
        transforms: See :class:`art_mtl.attacks.MultiTaskPatch`, like what follows.
        shared: One patch for all images.
        ignore_patch: Labels under the patch do not count.
        method: One whose objective is one number a sample.
        alpha: Size of the first step; None: 0.2 of the box's width.
        steps: With ``shared`` passes over the images, else steps.
        bounds: Smallest and largest allowed input, finite.
        batch_size: Images a step.
        decay: Momentum of the gradient.
        seed: Of the transformations and of the order of the images; None is 0.
        **kwargs: ``objective``, ``weighting``, ``gamma``, ``weight_step``, ``schedule`` and ``prepare``.

    Attributes:
        found: The shared patch on an empty image, ``(1, C, H, W)``; None before.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MultiTaskPatch(net, [tasks.classification("digit", 10)], size=(3, 3), steps=5)
        >>> images = torch.rand(6, 1, 8, 8)
        >>> adv = atk(images, {"digit": torch.arange(6)})
        >>> int((adv[0] != images[0]).sum())
        9
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        size: tuple[int, int] | None = None,
        location: tuple[int, int] | None = None,
        mask: Tensor | None = None,
        transforms: Sequence[Transform] = (),
        shared: bool = True,
        ignore_patch: bool = True,
        method: str = "worst-task",
        alpha: float | None = None,
        steps: int = 100,
        bounds: tuple[Bound, Bound] = (0, 1),
        *,
        batch_size: int = 32,
        decay: float | None = 0.9,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        _check_known(kwargs, _PARTS)
        self.size, self.location, self.mask = size, location, mask
        self.transforms, self.shared, self.ignore_patch = transforms, shared, ignore_patch
        check_transforms(transforms)
        super().__init__(
            model, tasks, method, 1.0, alpha, steps, False, bounds, math.inf, decay=decay, seed=seed,
            batch_size=batch_size, weight_scope="batch" if shared else "sample", keep="last", **kwargs,
        )  # fmt: skip

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Find the patch and put it on the images; called by ``__call__``, which see."""
        posed = self._pose(images, labels)
        stopped: list[int] = []
        alpha = None if self.alpha is None else radius("alpha", self.alpha, posed.images[:1])
        search = PatchSearch(
            forward=some_outputs(self._forward(posed.images), posed.kept),
            samples=Samples(posed.images, posed.targets, posed.images.device),
            tasks=tuple(self.tasks[k] for k in posed.kept),
            method=restrict(self._assemble(), posed.kept, self.tasks),
            mask=self._place(posed.images),
            bounds=posed.bounds,
            plan=RunConfig(self.steps, alpha, targeted=self.targeted),
            transforms=tuple(self.transforms),
            ignore=self.ignore_patch,
            batch_size=self.batch_size,
            seed=self.seed or 0,
        )
        with frozen(self.model, evaluate=False):
            if self.shared:
                self.found = search.one(self.observer, stopped)
                patched = self._put_on(posed.images, posed.bounds)
            else:
                patched = search.own(lambda batch: self.observer, stopped)
        warn_stopped(stopped)
        return patched

    def _put_on(self, images: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        return images if self.found is None else torch.where(self._place(images) != 0, self.found, images)

    def _place(self, images: Tensor) -> Tensor:
        mask = None if self.mask is None else torch.as_tensor(self.mask)
        return patch_mask(tuple(images.shape[1:]), self.size, self.location, mask).to(images.device)

    def _assemble(self) -> Method:
        return replace(super()._assemble(), first_step=PATCH_STEP)

    def _check(self) -> None:
        super()._check()
        if not all(bool(torch.isfinite(torch.as_tensor(bound)).all()) for bound in self.bounds):
            raise ValueError(f"A patch needs finite `bounds`, between which its content lies. Found {self.bounds}.")


_PARTS = ("objective", "weighting", "gamma", "weight_step", "schedule", "prepare")


def _check_known(given: dict[str, Any], known: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"Besides its own arguments the attack knows {list(known)}. Found {unknown}.")
