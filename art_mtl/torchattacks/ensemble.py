"""The parameter-free ensemble with torchattacks' names."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.checks import parse_norm
from art_mtl.core.config import AttackConfig
from art_mtl.core.searches.ensemble import EnsembleSearch
from art_mtl.core.searches.ensemble_members import make_members
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack


class MultiTaskAutoAttack(MultiTaskAttack):
    """An ensemble of attacks without parameters; of each sample the worst case over its members is kept.

    Members, budgets and criteria are those of :class:`art_mtl.attacks.MultiTaskAutoAttack`. Here the population is the
    batch of one call: give as many images as fit.

    Args:
        model: Returns the outputs of all tasks.
        tasks: K tasks.
        seed: Of the Square search; None draws from torch's global generator.
        {options}

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

    _always_shown = ("norm", "eps", "version")

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
        self.report: EnsembleReport | None = None
        super().__init__(
            model, tasks, method="worst-task", norm=norm, eps=eps, version=version, selection=selection,
            bounds=bounds, seed=seed, verbose=verbose, prepare=prepare,
        )  # fmt: skip
        self.supported_mode = ["default"]

    def _attack(self, search: Any, images: Tensor, labels: Any) -> Tensor:
        found = super()._attack(search, images, labels)
        self.report = search.report
        if self.verbose:
            print(self.report)
        return found

    def _search(self) -> EnsembleSearch:
        return EnsembleSearch(make_members(self.tasks, parse_norm(self.norm), self.version), self.selection)

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(steps=1, **settled)
