"""Auto-PGD and the parameter-free ensemble with torchattacks' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from art_mtl.core import ThreatModel, frozen
from art_mtl.core.methods import choice
from art_mtl.core.optimizers.apgd import refuse_step_arguments
from art_mtl.core.searches.ensemble import Ensemble
from art_mtl.core.searches.ensemble_members import Member, make_members
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.core.searches.population_choice import SELECTIONS
from art_mtl.core.session import check_inputs, check_radius, check_seed, parse_norm, radius, warn_missing_labels
from art_mtl.labels import MultiTaskLabels
from art_mtl.prepared import Preparation
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack
from art_mtl.torchattacks.pgd import Bound, MultiTaskPGD, bounds_like, check_bounds

_CHOSEN = ("alpha", "decay", "schedule", "keep", "l1_step")


class MultiTaskAutoPGD(MultiTaskPGD):
    """Auto-PGD (Croce & Hein, ICML 2020, section 3; for L1 Croce & Hein, ICML 2021) on any objective: no step size to
    choose.

    What the rule does, and how it judges progress where task weights move, is said at
    :class:`art_mtl.attacks.MultiTaskAutoPGD`. The best iterate of each sample is returned: ``steps`` forward and
    backward passes, and one forward for the last iterate.

    Args:
        model: As for :class:`MultiTaskPGD`.
        tasks: K tasks.
        method: As for :class:`MultiTaskPGD`.
        eps: Radius of the ball in the unit of the inputs (before normalisation), > 0, or a tensor.
        steps: T ≥ 1. In 10 steps checkpoints are one to three apart, and ``WorstTaskPGD``
            was stronger in what was measured.
        random_start: Start at a random point of the ball.
        bounds: Smallest and largest allowed input, numbers or tensors broadcastable to the inputs.
        norm: "Linf", "L2" or "L1".
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, but ``alpha``, ``decay``, ``schedule``, ``keep`` and
            ``l1_step``, which the rule decides.

    Raises:
        ValueError: An argument out of its range; the message names it.
        TypeError: An argument of the wrong type, or one that the rule decides.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MultiTaskAutoPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=10)
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7])})
        >>> round((adv - images).abs().max().item(), 4)
        0.1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "worst-task",
        eps: float | Tensor = 8 / 255,
        steps: int = 100,
        random_start: bool = False,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        **kwargs: Any,
    ) -> None:
        refuse_step_arguments(type(self).__name__, _CHOSEN, kwargs)
        super().__init__(model, tasks, method, eps, None, steps, random_start, bounds, norm, schedule="auto", **kwargs)


class MultiTaskAutoAttack(MultiTaskAttack):
    """An ensemble of attacks without parameters; of each sample the worst case over its members is kept.

    Members, budgets and criteria are those of :class:`art_mtl.attacks.MultiTaskAutoAttack`. Here the population is the
    batch of one call: give as many images as fit.

    Args:
        model: Returns the outputs of all tasks.
        tasks: K tasks.
        norm: "Linf", "L2" or "L1".
        eps: Radius of the ball in the unit of the inputs (before normalisation), > 0, or a tensor.
        version: "standard" or "fast".
        selection: What the worst case is: "population" or "sample".
        bounds: Smallest and largest allowed input, numbers or tensors broadcastable to the inputs.
        seed: Of the Square search; None draws from torch's global generator.
        verbose: Print the report of each batch.
        prepare: What the members' steps run on, as for :class:`MultiTaskPGD`; the model itself decides.

    Attributes:
        report: :class:`~art_mtl.core.searches.ensemble_report.EnsembleReport` of the last batch; None before.

    Raises:
        ValueError: An argument out of its range; the message names it.
        TypeError: An argument of the wrong type.

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
        eps: float | Tensor = 8 / 255,
        version: str = "standard",
        selection: str = "population",
        bounds: tuple[Bound, Bound] = (0, 1),
        seed: int | None = 0,
        verbose: bool = False,
        prepare: Preparation | str | None = None,
    ) -> None:
        super().__init__("MultiTaskAutoAttack", model, tasks)
        self.supported_mode = ["default"]
        self.norm = norm
        self.eps = eps
        self.version = version
        self.selection = selection
        self.bounds = bounds
        self.seed = seed
        self.verbose = verbose
        self.prepare = prepare
        self.report: EnsembleReport | None = None
        self._check()

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack a batch, and set :attr:`report`; called by ``__call__``, which see."""
        self._check()
        if not isinstance(images, Tensor):
            raise TypeError(f"Parameter `images` should be a torch.Tensor. Found {type(images).__name__}.")
        images = images.detach().to(self.device)
        bounds = bounds_like(self.bounds, images)
        images = check_inputs("images", images, bounds)
        given = self.predictions(images) if labels is None else self.labels(labels, len(images))
        targets = self.canonical(given)
        warn_missing_labels(self.tasks, targets, partial=labels is None or isinstance(labels, MultiTaskLabels))
        ensemble = Ensemble(
            forward=self.outputs,
            tasks=self.tasks,
            members=self._members(),
            selection=self.selection,
            batch_size=len(images),
            seed=self.seed,
            device=images.device,
            steps_on=self.outputs_prepared(self.prepare, images),
        )
        threat = ThreatModel(parse_norm(self.norm), radius("eps", self.eps, images), bounds)
        with frozen(self.model, evaluate=False):
            adversarial, self.report = ensemble.attack(images, targets, threat, own_labels=labels is None)
        if self.verbose:
            print(self.report)
        return adversarial

    def _members(self) -> tuple[Member, ...]:
        return make_members(self.tasks, parse_norm(self.norm), self.version)

    def _check(self) -> None:
        check_radius("eps", self.eps, parse_norm(self.norm))
        check_bounds(self.bounds)
        choice("selection", self.selection, SELECTIONS)
        check_seed(self.seed)
        Preparation.parse(self.prepare)
        self._members()
