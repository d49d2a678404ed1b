"""One perturbation for many images, and the adversarial patch, with torchattacks' names."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from art_mtl.core.batch import check_inputs, radius
from art_mtl.core.checks import finite_bounds, host_array, single_radius
from art_mtl.core.config import AttackConfig
from art_mtl.core.options import FittedParts
from art_mtl.core.searches.patch import PATCH_STEP, PatchPlace, PatchSearch, apply_patch, check_place, patch_mask
from art_mtl.core.searches.universal import UniversalSearch, check_shared
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack
from art_mtl.torchattacks.options import OPTIONS, UniversalOptions


class _FittedAttack(MultiTaskAttack):
    """What the attacks of this file have in common: fit once, apply to any images."""

    def __init__(self, model: torch.nn.Module, tasks: Sequence[Task], **options: Any) -> None:
        self.found: Tensor | None = None
        super().__init__(model, tasks, **options)

    def fit(self, images: Tensor, labels: Any = None) -> Tensor:
        """Find it for these images ``(N, ...)``, in batches, and return it, in the unit of the bounds.

        Args:
            images: As for a call of the attack.
            labels: Labels of all tasks, or targets.
        """
        self(images, labels)
        if self.found is None:
            raise ValueError("There is nothing that all images share: each has its own.")
        return self.found

    def apply(self, images: Tensor) -> Tensor:
        """Images ``(N, ...)``, seen before or not, with what was found, inside the bounds.

        Raises:
            TypeError: The images are no tensor.
            ValueError: Nothing has been found yet, or the images do not fit.
        """
        if self.found is None:
            raise ValueError("There should be something to apply; call `fit` first. Found none.")
        scaled = self._normalization_applied is True
        images = self._here(images)
        if images.shape[1:] != self.found.shape[1:]:
            raise ValueError(
                f"Parameter `images` should have shape (N, {', '.join(map(str, self.found.shape[1:]))}), as those that "
                f"it was found for. Found {tuple(images.shape)}."
            )
        images = self.inverse_normalize(images) if scaled else images
        lower, upper = (radius("bounds", bound, images) for bound in self.bounds)
        applied = self._put_on(check_inputs("images", images, (lower, upper)), self.found, (lower, upper))
        return self.normalize(applied) if scaled else applied

    def _put_on(self, images: Tensor, found: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} should say how it is put on images.")

    def _attack(self, search: Any, images: Tensor, labels: Any) -> Tensor:
        result = super()._attack(search, images, labels)
        self.found = search.found
        return result

    def _batch_size(self) -> int:
        return int(self.batch_size)

    def _check_params(self) -> None:
        super()._check_params()
        check_shared(self._config().assemble(self.tasks))


class UniversalMultiTaskPGD(_FittedAttack):
    """One perturbation that degrades every task on all images: min-max over the tasks.

    A call of the attack finds it for the images it is given and applies it to them; :meth:`fit` returns it, and
    :meth:`apply` puts it on other images.

    Args:
        model: Returns the outputs of all tasks.
        tasks: K tasks.
        method: See :class:`art_mtl.attacks.UniversalMultiTaskPGD`.
        eps: Radius of the ball, one number > 0.
        alpha: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        steps: Passes over the images.
        seed: Of the order of the images; None is 0.
        {options}

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

    option_table = {**OPTIONS, "eps": replace(OPTIONS["eps"], check=single_radius)}

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "worst-task",
        eps: float = 8 / 255,
        alpha: float | None = None,
        steps: int = 10,
        bounds: tuple[Any, Any] = (0, 1),
        norm: str | float = "Linf",
        *,
        batch_size: int = 32,
        decay: float | None = 0.9,
        seed: int | None = None,
        **options: Unpack[UniversalOptions],
    ) -> None:
        settled = {"keep": "last", **options}
        super().__init__(
            model, tasks, method=method, eps=eps, alpha=alpha, steps=steps, bounds=bounds, norm=norm,
            batch_size=batch_size, decay=decay, seed=seed, **settled,
        )  # fmt: skip

    def _search(self) -> UniversalSearch:
        return UniversalSearch()

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(default_scope="batch", **settled)

    def _put_on(self, images: Tensor, found: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        return (images + found).clamp(*bounds)


class MultiTaskPatch(_FittedAttack):
    """A patch that degrades every task of the image around it.

    A call of the attack finds the patch for the images it is given and puts it on them. With ``shared`` :meth:`fit`
    returns the patch on an empty image, and :meth:`apply` puts it on other images.

    Args:
        model: Returns the outputs of all tasks; its inputs are images (B, C, H, W).
        tasks: K tasks.
        method: One whose objective is one number a sample.
        alpha: Size of the first step; None: 0.2 of the box's width.
        steps: With ``shared`` passes over the images, else steps.
        bounds: Smallest and largest allowed input, finite.
        seed: Of the transformations and of the order of the images; None is 0.
        {options}

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

    option_table = {**OPTIONS, "bounds": replace(OPTIONS["bounds"], check=finite_bounds)}
    _always_shown = ("method", "size", "steps")

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        size: tuple[int, int] | None = None,
        location: tuple[int, int] | None = None,
        mask: Tensor | None = None,
        transforms: Sequence[Callable[..., Any]] = (),
        shared: bool = True,
        ignore_patch: bool = True,
        method: str = "worst-task",
        alpha: float | None = None,
        steps: int = 100,
        bounds: tuple[Any, Any] = (0, 1),
        *,
        batch_size: int = 32,
        decay: float | None = 0.9,
        seed: int | None = None,
        **options: Unpack[FittedParts],
    ) -> None:
        settled = {"keep": "last", "norm": "Linf", **options}
        super().__init__(
            model, tasks, size=size, location=location, mask=mask, transforms=transforms, shared=shared,
            ignore_patch=ignore_patch, method=method, alpha=alpha, steps=steps, bounds=bounds, batch_size=batch_size,
            decay=decay, seed=seed, **settled,
        )  # fmt: skip

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        return self._attack(PatchSearch(self._place(images)), images, labels)

    def _place(self, images: Tensor) -> PatchPlace:
        place = patch_mask(tuple(images.shape[1:]), self.size, self.location, self.mask)
        return PatchPlace(place, tuple(self.transforms), bool(self.ignore_patch), bool(self.shared))

    def _put_on(self, images: Tensor, found: Tensor, bounds: tuple[Tensor, Tensor]) -> Tensor:
        return apply_patch(images, found, self._place(images).mask)

    def _check_params(self) -> None:
        super()._check_params()
        check_place(self.size, self.location, self.mask)

    def _config(self, **settled: Any) -> AttackConfig:
        width = max(float((host_array(self.bounds[1]) - host_array(self.bounds[0])).max()), 0.0)
        scope = "batch" if self.shared else "sample"
        return super()._config(eps=width, first_step=PATCH_STEP, default_scope=scope, **settled)
