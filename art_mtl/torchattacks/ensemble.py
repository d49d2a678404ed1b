"""The parameter-free ensemble with torchattacks' names."""

from collections.abc import Sequence
from typing import Any

import torch

from art_mtl.core.configurable import arguments
from art_mtl.core.front_searches import EnsembleFront
from art_mtl.core.searches.ensemble import EnsembleSearch
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack


class MultiTaskAutoAttack(EnsembleFront, MultiTaskAttack):
    """An ensemble of attacks without parameters; of each sample the worst case over its members is kept.

    Members, budgets and criteria are those of :class:`art_mtl.attacks.MultiTaskAutoAttack`. Here the population is the
    batch of one call: give as many images as fit.

    Args:
        seed: Of the Square search; None draws from torch's global generator.

    Attributes:
        report: :class:`~art_mtl.core.searches.ensemble_report.EnsembleReport` of the last batch; None before.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MultiTaskAutoAttack(net, [tasks.classification("digit", 10)], eps=0.3, version="fast")
        >>> images = torch.rand(4, 1, 8, 8)
        >>> adv = atk(images, {"digit": net(images).argmax(1)})
        >>> atk.report.counts["worst-task"], atk.report.least
        (4, array([1., 1., 1., 1.]))
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        norm: str | float = "Linf",
        eps: Any = 8 / 255,
        version: str = "standard",
        selection: str = "population",
        bounds: tuple[Any, Any] = (0, 1),
        seed: int | None = 0,
        verbose: bool = False,
        prepare: Any = None,
    ) -> None:
        super().__init__(**arguments(locals()))
        self.supported_mode = ["default"]

    def _keep(self, search: EnsembleSearch) -> None:
        super()._keep(search)
        if self.verbose:
            print(self.report)
