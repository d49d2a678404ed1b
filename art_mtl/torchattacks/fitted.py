"""One perturbation for many images, and the adversarial patch, with torchattacks' names."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from art_mtl.core.checks import finite_bounds, single_radius
from art_mtl.core.config import AttackConfig
from art_mtl.core.configurable import arguments
from art_mtl.core.front_searches import PatchFront, UniversalFront
from art_mtl.data.sources import unpack_data
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack
from art_mtl.torchattacks.options import OPTIONS, PatchOptions, UniversalOptions


class _FittedAttack(MultiTaskAttack):
    """Base of the attacks of this file: fit once, apply to any images."""

    found: Tensor | None = None

    def fit(self, images: Any, labels: Any = None) -> Tensor:
        """Find it for these images ``(N, ...)``, in batches, and return it, in the unit of the bounds.

        Args:
            images: As for a call of the attack; or a ``DataLoader`` or data set, all samples of which are read.
            labels: Labels of all tasks, or targets; None where ``images`` has them.
        """
        images, labels = unpack_data(images, labels, self.tasks)
        self(torch.as_tensor(images), labels)
        if self.found is None:
            raise ValueError("There is nothing that all images share: each has its own.")
        return self.found

    def apply(self, images: Tensor) -> Tensor:
        """Images ``(N, ...)``, seen before or not, with what was found, inside the bounds.

        Raises:
            TypeError: The images are no tensor.
            ValueError: Nothing has been found yet, or the images do not fit.
        """
        scaled, images = self._normalization_applied is True, self._here(images)
        applied: Tensor = self._applied("images", self.inverse_normalize(images) if scaled else images, self.found)
        return self.normalize(applied) if scaled else applied

    def _keep(self, search: Any) -> None:
        self.found = search.found

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(batch_size=int(self.batch_size), **settled)


class UniversalMultiTaskPGD(UniversalFront, _FittedAttack):
    """One perturbation that degrades every task on all images: min-max over the tasks.

    A call of the attack finds it for the images it is given and applies it to them; :meth:`fit` returns it, and
    :meth:`apply` puts it on other images.

    Args:
        eps: Radius of the ball, one number > 0.
        alpha: Size of the first step; None: as for :class:`MultiTaskPGD` without momentum, over all steps of all
            passes.
        steps: Passes over the images.
        seed: Of the order of the images; None is 0.

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
    defaults = {"decay": 0.9}

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
        **options: Unpack[UniversalOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class MultiTaskPatch(PatchFront, _FittedAttack):
    """A patch that degrades every task of the image around it.

    A call of the attack finds the patch for the images it is given and puts it on them. With ``shared`` :meth:`fit`
    returns the patch on an empty image, and :meth:`apply` puts it on other images.

    Args:
        model: Returns the outputs of all tasks; its inputs are images (B, C, H, W).
        method: One whose objective is one number a sample.
        alpha: Size of the first step; None: 0.2 of the box's width.
        steps: With ``shared`` passes over the images, else steps.
        bounds: Smallest and largest allowed input, finite.
        seed: Of the transformations and of the order of the images; None is 0.

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
        method: str = "worst-task",
        alpha: float | None = None,
        steps: int = 100,
        bounds: tuple[Any, Any] = (0, 1),
        **options: Unpack[PatchOptions],
    ) -> None:
        super().__init__(**arguments(locals()))
