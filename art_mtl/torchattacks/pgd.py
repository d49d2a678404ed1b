"""The three attack classes with torchattacks' names: tensors in, :mod:`art_mtl.core` does the work, tensors out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from art_mtl.core import Method, StepRecord, ThreatModel, frozen, make_method
from art_mtl.core.loop import Forward, RunConfig
from art_mtl.core.methods import check_number, choice
from art_mtl.core.optimizers.steps import L1_STEPS
from art_mtl.core.partial_targets import restrict, some_outputs
from art_mtl.core.session import (
    Session,
    check_inputs,
    check_radius,
    check_seed,
    make_run_config,
    parse_norm,
    radius,
    warn_missing_labels,
)
from art_mtl.labels import MultiTaskLabels
from art_mtl.prepared import Preparation
from art_mtl.tasks import Target, Task
from art_mtl.torchattacks.base import MultiTaskAttack

Bound = float | Tensor


def check_bounds(bounds: Any) -> None:
    """Raise unless ``bounds`` are a smaller and a larger value, numbers or tensors."""
    pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
    if not pair or not all(isinstance(bound, (Real, Tensor)) for bound in bounds):
        raise TypeError(f"Parameter `bounds` should be two numbers or tensors. Found {bounds!r}.")
    # A NaN is not smaller than anything.
    if not bool((torch.as_tensor(bounds[0]) < torch.as_tensor(bounds[1])).all()):
        raise ValueError(f"Parameter `bounds` should be a smaller and a larger value. Found {bounds}.")


def bounds_like(bounds: tuple[Bound, Bound], images: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds as tensors of the images' type, on their device."""
    lower, upper = (torch.as_tensor(bound, dtype=images.dtype, device=images.device) for bound in bounds)
    return lower, upper


@dataclass(frozen=True)
class Posed:
    """What a call is about.

    Attributes:
        images: Clean images, inside the bounds.
        targets: Canonical labels of the tasks that have some.
        bounds: Smallest and largest allowed input.
        own_labels: Labels are the model's own predictions.
        kept: Places of the tasks that have labels, in order.
    """

    images: Tensor
    targets: list[Target]
    bounds: tuple[Tensor, Tensor]
    own_labels: bool
    kept: tuple[int, ...]


class MultiTaskPGD(MultiTaskAttack):
    """Projected gradient descent on all tasks of a multi-task model.

    The same names and meaning of arguments as ``torchattacks.PGD``, with ``tasks`` and ``method`` after the model.

    Args:
        model: Returns the outputs of all tasks.
        tasks: K tasks.
        method: "equal" (Σ L_i: Mao et al. 2020), "normalize" (Σ L_i/L_i⁰), "dgba" (Σ log L_i: Zhang et al. 2023),
            "alternate" (one task a step: Ghamizi et al. 2022), "single:<task>", "minmax", "minmax-official",
            "worst-task", "stealthy" and "smta" (degrade ``attacked`` tasks, hold the others) or "jd:<aggregator>";
            "equal-official" and "normalize-official" are those of the paper's authors, "worst-image" is "worst-task"
            with weights for each image.
        eps: Radius of the ball in the unit of the inputs (before normalisation), > 0, or a tensor broadcastable to
            them.
        alpha: Step size; of the *first* step where ``schedule`` decays. None: 2.5 ε/T (L∞), 2 ε/T (L2), ε (L1) if
            constant; 2 ε if it decays, 3 ε with momentum.
        steps: T ≥ 1.
        random_start: Start at a random point of the ball.
        bounds: Smallest and largest allowed input, numbers or tensors broadcastable to the inputs.
        norm: "Linf", "L2" or "L1".
        restarts: Independent random starts, the best of which is kept per sample; more than 1 needs ``random_start``.
        decay: Momentum of the gradient. None: the method's own.
        objective: What is ascended: "loss", "log", "normalized", "relative", "degradation", "population" (that of
            "worst-task"), or with means over a batch "pooled-loss", "pooled-normalized", "pooled-relative".
        weighting: "uniform", "alternating", "minmax", "inner-minimiser", or one fixed weight a task.
        gamma: γ, pull towards equal weights, of the min-max weightings (≥ 0) and of "worst-task": in [0, 1], 0.3; above
            0 with ``weight_scope`` "sample" (0.3) and "batch" (0.1).
        weight_step: α₂, step size of the weights.
        weight_scope: Which samples share weights: "sample", "batch" or "dataset" (all calls until :meth:`reset`, in
            chunks).
        weight_group: Neighbours that share weights ("batch"), samples of a chunk ("dataset").
        schedule: Step size: "constant", "linear" (to 0) or "cosine".
        keep: Return the "last" iterate or the "best" of each sample (one more forward pass).
        projection: "exact" (Euclidean, onto ball ∩ box), "box-then-ball" or "ball-then-box" (torchattacks' order).
        attacked: Of "stealthy" and "smta": names of the tasks to degrade.
        preserved: Of the same: names of the tasks to hold; None for all others.
        tolerance: Of "stealthy": largest relative change of a preserved task; 0.05.
        penalty: Of "smta": weight of the preserved tasks; 1.
        l1_step: "adaptive" (Croce & Hein 2021) or "one-pixel".
        seed: Of random starts; None draws from torch's global generator.
        prepare: What the gradient steps run on: None or "exact" for the model itself; "fp32", "bf16" or "fp16", and
            behind it any of ",memory-efficient", ",compile" and ",graphs", or a :class:`~art_mtl.prepared.Preparation`,
            for a private copy that computes the same, cheaper. It is kept, and made anew when the model has changed.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.

    Raises:
        ValueError: An argument out of its range; the message names it.
        TypeError: An argument of the wrong type.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x.flatten(1)[:, :10], x.mean((1, 2, 3))
        >>> atk = MultiTaskPGD(Net(), [tasks.classification("digit", 10), tasks.regression("ink")], eps=0.1)
        Failed to set device automatically, please try set_device() manual.
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7]), "ink": torch.tensor([0.5, 0.4])})
        >>> round((adv - images).abs().max().item(), 4)
        0.1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "equal",
        eps: float | Tensor = 8 / 255,
        alpha: float | Tensor | None = None,
        steps: int = 10,
        random_start: bool = False,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        *,
        restarts: int = 1,
        decay: float | None = None,
        objective: str | None = None,
        weighting: str | Sequence[float] | None = None,
        gamma: float | None = None,
        weight_step: float | None = None,
        weight_scope: str | None = None,
        weight_group: int | None = None,
        schedule: str | None = None,
        keep: str | None = None,
        projection: str | None = None,
        attacked: Sequence[str] | None = None,
        preserved: Sequence[str] | None = None,
        tolerance: float | None = None,
        penalty: float | None = None,
        l1_step: str = "adaptive",
        seed: int | None = None,
        prepare: Preparation | str | None = None,
    ) -> None:
        super().__init__(type(self).__name__, model, tasks)
        self.method = method
        self.eps = eps
        self.alpha = alpha
        self.steps = steps
        self.random_start = random_start
        self.bounds = bounds
        self.norm = norm
        self.restarts = restarts
        self.l1_step = l1_step
        self.seed = seed
        self.prepare = prepare
        self._knobs: dict[str, Any] = {
            "momentum": decay,
            "objective": objective,
            "weighting": weighting,
            "gamma": gamma,
            "weight_step": weight_step,
            "weight_scope": weight_scope,
            "weight_group": weight_group,
            "schedule": schedule,
            "keep": keep,
            "projection": projection,
            "attacked": attacked,
            "preserved": preserved,
            "tolerance": tolerance,
            "penalty": penalty,
        }
        self.observer: Callable[[StepRecord], None] | None = None
        self._session: Session | None = None
        self._settings: tuple[Any, ...] = ()
        self._check()

    def reset(self) -> None:
        """Forget the batches seen so far (they matter with ``weight_scope="dataset"`` only)."""
        self._session = None

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack a batch; called by ``__call__``, which see."""
        posed = self._pose(images, labels)
        images = posed.images
        eps = radius("eps", self.eps, images)
        alpha = None if self.alpha is None else radius("alpha", self.alpha, images)
        plan = make_run_config(
            [self.tasks[k] for k in posed.kept],
            steps=self.steps,
            random_start=self.random_start,
            restarts=self.restarts,
            targeted=self.targeted,
            own_labels=posed.own_labels,
            l1_step=self.l1_step,
            seed=self.seed,
            device=images.device,
        )
        session = self._resume(plan, posed)
        threat = ThreatModel(parse_norm(self.norm), eps, posed.bounds)
        with frozen(self.model, evaluate=False):
            adversarial = session.attack(images, posed.targets, threat, step_size=alpha)
        session.warn()
        return adversarial

    def _pose(self, images: Tensor, labels: Any) -> Posed:
        """The arguments of a call, checked, on the attack's device."""
        self._check()
        if not isinstance(images, Tensor):
            raise TypeError(f"Parameter `images` should be a torch.Tensor. Found {type(images).__name__}.")
        images = images.detach().to(self.device)
        bounds = bounds_like(self.bounds, images)
        images = check_inputs("images", images, bounds)
        own_labels = labels is None and not self.targeted
        given = self.predictions(images) if own_labels else self._targets(images, labels)
        kept = tuple(k for k, task in enumerate(self.tasks) if task.name in given.names)
        targets = self.canonical(given)
        partial = own_labels or isinstance(labels, MultiTaskLabels)
        warn_missing_labels([self.tasks[k] for k in kept], targets, partial, stacklevel=4)
        return Posed(images, targets, bounds, own_labels, kept)

    def _forward(self, images: Tensor) -> Forward:
        """What the gradient steps run on."""
        return self.outputs_prepared(self.prepare, images)

    def _resume(self, plan: RunConfig, posed: Posed) -> Session:
        """The session of the calls so far, or a new one where settings have changed since."""
        kept = posed.kept
        values = (self.norm, self.eps, self.alpha, *self.bounds)
        numbers = tuple(value for value in values if not isinstance(value, Tensor))
        method = restrict(self._assemble(), kept, self.tasks)
        settings = (method, kept, replace(plan, generator=None), numbers)
        if self._session is None or settings != self._settings:
            tasks = tuple(self.tasks[k] for k in kept)
            self._session = Session(self.outputs, tasks, method, plan)
        self._session.forward = some_outputs(self._forward(posed.images), kept)
        self._session.plan, self._session.observer, self._settings = plan, self.observer, settings
        return self._session

    @property
    def name(self) -> str:
        """The method's name, as tables print it."""
        return self._assemble().name

    def _targets(self, images: Tensor, labels: Any) -> Any:
        if self.targeted:
            if labels is None and self.attack_mode == "targeted(label)":
                raise ValueError(
                    "Parameter `labels` should hold the target labels in the mode 'targeted(label)'. Found None."
                )
            base = self.predictions(images) if labels is None else labels
            return self.labels(self.get_target_label(images, base), len(images), some=True)
        return self.labels(labels, len(images))

    def _method_name(self) -> str:
        return self.method

    def _assemble(self) -> Method:
        return make_method(self._method_name(), self.tasks, **self._knobs)

    def _check(self) -> None:
        norm = parse_norm(self.norm)
        check_radius("eps", self.eps, norm)
        if self.alpha is not None:
            check_radius("alpha", self.alpha, norm)
        for argument in ("steps", "restarts"):
            value = getattr(self, argument)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"Parameter `{argument}` should be an integer of at least 1. Found {value!r}.")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("Parameter `restarts` above 1 needs `random_start=True`: all runs would be the same.")
        check_bounds(self.bounds)
        check_number("decay", self._knobs["momentum"], least=0)
        check_seed(self.seed)
        choice("l1_step", self.l1_step, L1_STEPS)
        Preparation.parse(self.prepare)
        self._assemble()


class MinMaxMultiTaskPGD(MultiTaskPGD):
    """The attack of Guo et al., "Robust Multi-task Adversarial Attacks Using Min-max Optimization", ICASSP 2025.

    Defaults where the paper is silent: γ = 1, α₂ = 1/30, start at the images, constant step, last iterate.

    Args:
        model: As for :class:`MultiTaskPGD`.
        tasks: K tasks.
        variant: "paper" (Algorithm 1: raw per-sample losses, a row of weights for each sample, updated at the *new*
            perturbation) or "official" (the authors' published loop: relative losses of batch means, weights for each 4
            neighbours, both updates from the same forward pass, projection by scaling, then clamping).
        eps: As for :class:`MultiTaskPGD`, like everything that follows.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, but ``method``.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MinMaxMultiTaskPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=5)
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7])})
        >>> round((adv - images).abs().max().item(), 4)
        0.1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        variant: str = "paper",
        eps: float | Tensor = 8 / 255,
        alpha: float | Tensor | None = None,
        steps: int = 10,
        random_start: bool = False,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        **kwargs: Any,
    ) -> None:
        object.__setattr__(self, "variant", variant)
        super().__init__(model, tasks, "minmax", eps, alpha, steps, random_start, bounds, norm, **kwargs)

    def _method_name(self) -> str:
        choice("variant", self.variant, ("paper", "official"))
        return "minmax" if self.variant == "paper" else "minmax-official"


class WorstTaskPGD(MultiTaskPGD):
    """The strongest attack of this package on the *worst* task: min-max on reported degradation, not on losses.

    With ``weight_scope="dataset"`` (default) one row of weights balances the tasks over everything attacked since
    :meth:`reset`, in chunks of ``weight_group`` (256) samples; call :meth:`reset` between data sets. With "sample" each
    image is to lose *all* its tasks. The step size decays from 3 ε to 0 unless ``alpha`` says otherwise.

    Args:
        model: As for :class:`MultiTaskPGD`.
        tasks: K tasks.
        eps: As for :class:`MultiTaskPGD`, like everything that follows.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, but ``method``.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = WorstTaskPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=5)
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7])})
        >>> round((adv - images).abs().max().item(), 4)
        0.1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        eps: float | Tensor = 8 / 255,
        alpha: float | Tensor | None = None,
        steps: int = 10,
        random_start: bool = False,
        bounds: tuple[Bound, Bound] = (0, 1),
        norm: str | float = "Linf",
        **kwargs: Any,
    ) -> None:
        super().__init__(model, tasks, "worst-task", eps, alpha, steps, random_start, bounds, norm, **kwargs)
