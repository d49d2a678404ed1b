"""The task-selective attack with torchattacks' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.families import TOLERANCE
from art_mtl.tasks import Task
from art_mtl.torchattacks.pgd import Bound, MultiTaskPGD


class StealthyMultiTaskPGD(MultiTaskPGD):
    """Degrade the attacked tasks while every preserved one changes by at most a tolerance.

    How the multipliers that hold tasks are found is said at :class:`art_mtl.attacks.StealthyMultiTaskPGD`. With
    ``weight_scope="dataset"`` (default) the metrics of everything attacked since :meth:`reset` are preserved; with
    "sample" each image's own errors and scores.

    Args:
        model: As for :class:`MultiTaskPGD`.
        tasks: K tasks.
        attacked: Name of the task to degrade, or a list of several.
        tolerance: Largest relative change of a preserved task, in (0, 1).
        eps: As for :class:`MultiTaskPGD`, like everything that follows.
        steps: T; holding takes 40 or more.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, ``preserved`` among it, but ``method``.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(64, 11)
        ...     def forward(self, x):
        ...         out = self.layer(x.flatten(1))
        ...         return out[:, :10], out[:, 10]
        >>> jobs = [tasks.classification("digit", 10), tasks.regression("ink")]
        >>> atk = StealthyMultiTaskPGD(Net(), jobs, "digit", tolerance=0.02, eps=0.1, steps=20)
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7]), "ink": torch.tensor([0.5, 0.4])})
        >>> bool((adv - images).abs().max() <= 0.1 + 1e-6)
        True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        attacked: str | Sequence[str],
        tolerance: float = TOLERANCE,
        eps: float | Tensor = 8 / 255,
        alpha: float | Tensor | None = None,
        steps: int = 100,
        random_start: bool = False,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        **kwargs: Any,
    ) -> None:
        settings = {"attacked": [attacked] if isinstance(attacked, str) else attacked, "tolerance": tolerance, **kwargs}
        super().__init__(model, tasks, "stealthy", eps, alpha, steps, random_start, bounds, norm, **settings)
