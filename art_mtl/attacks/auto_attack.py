"""The parameter-free ensemble, with ART's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator, LossGradientsMixin
from tqdm.auto import tqdm

from art_mtl.attacks.posed import Radius, as_estimator, pose
from art_mtl.core import ThreatModel, frozen
from art_mtl.core.methods import choice
from art_mtl.core.searches.ensemble import Ensemble
from art_mtl.core.searches.ensemble_members import Member, make_members
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.core.searches.population_choice import SELECTIONS
from art_mtl.core.session import check_radius, check_seed, parse_norm, radius
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.prepared import Preparation


class MultiTaskAutoAttack(EvasionAttack):  # type: ignore[misc]
    """An ensemble of attacks without parameters; of each sample the worst case over its members is kept.

    After AutoAttack (Croce & Hein, ICML 2020). Members of "standard", 100 steps each: ``worst-task`` with its falling
    step, the same under Auto-PGD's rule, all tasks of each image at once, each task alone, classifications towards
    their three likeliest wrong classes, and a Square search of 1000 queries (Andriushchenko et al. 2020; L∞ and L2),
    which needs no gradients. "fast": 20 steps, without the third and the targeted ones, and 200 queries. Segmentation
    is never targeted: at each pixel the untargeted margin has the likeliest wrong class as its target already.

    A sample all of whose tasks are at full degradation (a score of 0 by the sample's own metric; an error never is)
    leaves before the next member. What decides is hard metrics, measured by forward passes on every member's result.

    Args:
        estimator: A :class:`~art_mtl.estimators.PyTorchMultiTaskEstimator`, or a stock ART ``PyTorchClassifier``.
        norm: ``np.inf`` (or "inf"), 2 or 1.
        eps: Radius of the ball in the unit of ``x``, > 0; or an array broadcastable to ``x``.
        version: "standard" or "fast".
        selection: What the worst case is. "population": of each sample the member is kept so that the least degraded
            task of *all* samples is degraded most; this figure, Δ_Wor of the paper's tables, is never weaker than that
            of any member. "sample": the member that does the greatest *least* degradation over the sample's tasks, ties
            by its degradation; no sample is less degraded than by any member.
        batch_size: Samples a batch.
        seed: Of the Square search; None draws from torch's global generator.
        verbose: Show a progress bar.
        prepare: What the members' steps run on, as for :class:`~art_mtl.attacks.MultiTaskPGD`. What decides is measured
            with the model itself.

    Attributes:
        report: :class:`~art_mtl.core.searches.ensemble_report.EnsembleReport` of the last call: which member won where;
            None before.

    Raises:
        ValueError: An argument out of its range; the message names it.
        TypeError: An argument of the wrong type.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": 9 * x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.random.default_rng(0).uniform(size=(4, 1, 8, 8)).astype(np.float32)
        >>> attack = MultiTaskAutoAttack(estimator, eps=0.1, version="fast", verbose=False)
        >>> x_adv = attack.generate(x)
        >>> attack.report.members
        ('worst-task', 'auto:worst-task', 'auto:single:digit', 'auto:single:ink', 'square')
        >>> sum(attack.report.counts.values())
        4
    """

    attack_params = EvasionAttack.attack_params + [
        "norm",
        "eps",
        "version",
        "selection",
        "batch_size",
        "seed",
        "verbose",
        "prepare",
    ]
    _estimator_requirements = (BaseEstimator, LossGradientsMixin)

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        norm: float | str = np.inf,
        eps: Radius = 0.3,
        version: str = "standard",
        selection: str = "population",
        batch_size: int = 32,
        seed: int | None = 0,
        verbose: bool = True,
        prepare: Preparation | str | None = None,
    ) -> None:
        super().__init__(estimator=as_estimator(estimator))
        self.norm = norm
        self.eps = eps
        self.version = version
        self.selection = selection
        self.batch_size = batch_size
        self.seed = seed
        self.verbose = verbose
        self.prepare = prepare
        self.report: EnsembleReport | None = None
        self._check_params()

    @property
    def name(self) -> str:
        """As tables print it."""
        return "auto-attack" if self.version == "standard" else f"auto-attack, {self.version}"

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> npt.NDArray[np.float32]:
        """Attack ``x``, and set :attr:`report`. Results of all members are kept until the end: one copy of ``x`` each.

        Args:
            x: ``(N, *input_shape)``, floating point, inside the estimator's ``clip_values``.
            y: Labels in any form of :meth:`art_mtl.MultiTaskLabels.of`. None: the model's own clean predictions.
            mask: 0 where nothing may change, broadcastable to ``x``.
            **kwargs: None is known.

        Returns:
            Adversarial inputs, ``(N, *input_shape)``, float32, within ε of ``x`` and inside the box.

        Raises:
            ValueError: Shapes, values or labels do not fit; the message says which.
            TypeError: Wrong dtype, or an unknown keyword.
        """
        if kwargs:
            raise TypeError(f"generate() knows `x`, `y` and `mask`. Found {sorted(kwargs)}.")
        estimator: PyTorchMultiTaskEstimator = self.estimator
        posed = pose(estimator, x, y, mask, self.batch_size)
        ensemble = Ensemble(
            forward=estimator.forward_tasks,
            tasks=estimator.tasks,
            members=self._members(),
            selection=self.selection,
            batch_size=self.batch_size,
            seed=self.seed,
            device=estimator.device,
            steps_on=estimator.forward_prepared(self.prepare, posed.inputs),
        )
        threat = ThreatModel(parse_norm(self.norm), radius("eps", self.eps, posed.inputs), posed.bounds, posed.mask)
        total = len(posed) * sum(member.steps for member in ensemble.members)
        with frozen(estimator.model), tqdm(total=total, desc=self.name, disable=not self.verbose) as bar:

            def progress(member: str, steps: int) -> None:
                bar.set_description(f"{self.name}: {member}", refresh=False)
                bar.update(steps)

            result, self.report = ensemble.attack(
                posed.inputs, posed.targets, threat, posed.own_labels, progress if self.verbose else None
            )
        return result.numpy()

    def set_params(self, **kwargs: Any) -> None:
        """Set attributes of ``attack_params``, after the same checks as in the constructor.

        Raises:
            ValueError: An unknown name or a bad value; nothing is changed then.
        """
        before = {name: getattr(self, name) for name in self.attack_params}
        try:
            super().set_params(**kwargs)
        except (TypeError, ValueError):
            self.__dict__.update(before)
            raise

    def _members(self) -> tuple[Member, ...]:
        return make_members(self.estimator.tasks, parse_norm(self.norm), self.version)

    def _check_params(self) -> None:
        super()._check_params()
        check_radius("eps", self.eps, parse_norm(self.norm))
        choice("selection", self.selection, SELECTIONS)
        if (
            isinstance(self.batch_size, bool)
            or not isinstance(self.batch_size, (int, np.integer))
            or self.batch_size < 1
        ):
            raise ValueError(f"Parameter `batch_size` should be an integer of at least 1. Found {self.batch_size!r}.")
        if not isinstance(self.verbose, (bool, np.bool_)):
            raise ValueError(f"Parameter `verbose` should be a bool. Found {self.verbose!r}.")
        check_seed(self.seed)
        Preparation.parse(self.prepare)
        self._members()
