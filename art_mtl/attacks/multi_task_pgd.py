"""The general attack with ART's names: arguments in, :mod:`art_mtl.core` does the work, an array out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator, LossGradientsMixin
from art.summary_writer import SummaryWriter, SummaryWriterDefault
from scipy.stats import truncnorm
from torch import Tensor
from tqdm.auto import tqdm

from art_mtl.attacks.batching import OWN_LABELS_BATCH, Batching
from art_mtl.attacks.logging import write_summary
from art_mtl.attacks.posed import Radius, as_estimator, estimator_bounds, pose
from art_mtl.core import Method, StepRecord, frozen, make_method
from art_mtl.core.batch_size import AUTO, BatchSize, check_batch_size
from art_mtl.core.device import send, send_target
from art_mtl.core.loop import Forward
from art_mtl.core.methods import check_number, choice
from art_mtl.core.optimizers.steps import L1_STEPS
from art_mtl.core.partial_targets import restrict, some_outputs
from art_mtl.core.session import Session, check_radius, check_seed, make_run_config, parse_norm, radius, rows
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.prepared import Preparation

__all__ = ["MultiTaskPGD", "Radius", "estimator_bounds"]

FloatArray = npt.NDArray[np.float32]

_KNOBS = (
    "objective",
    "weighting",
    "gamma",
    "weight_step",
    "weight_scope",
    "weight_group",
    "schedule",
    "keep",
    "projection",
    "attacked",
    "preserved",
    "tolerance",
    "penalty",
)


class MultiTaskPGD(EvasionAttack):  # type: ignore[misc]
    """Projected gradient descent on all tasks of a multi-task model.

    The same names, order and meaning of arguments as ART's ``ProjectedGradientDescent``, with ``method`` before them
    and the knobs of the multi-task loop behind them. The data stay on the estimator's device from the first step to the
    last; T steps cost T forward and T backward passes.

    Args:
        estimator: A :class:`~art_mtl.estimators.PyTorchMultiTaskEstimator`, or a stock ART ``PyTorchClassifier`` (one
            task).
        method: "equal" (Σ L_i: Mao et al. 2020), "normalize" (Σ L_i/L_i⁰), "dgba" (Σ log L_i: Zhang et al. 2023),
            "alternate" (one task a step: Ghamizi et al. 2022), "single:<task>", "minmax", "minmax-official",
            "worst-task", "stealthy" and "smta" (degrade ``attacked`` tasks, hold the others) or "jd:<aggregator>";
            "equal-official" and "normalize-official" are those of the paper's authors, "worst-image" is "worst-task"
            with weights for each image.
        norm: ``np.inf`` (or "inf"), 2 or 1.
        eps: Radius of the ball in the unit of ``x``, > 0; or an array broadcastable to ``x``: one a sample ``(N, 1, 1,
            1)``, for L∞ one a pixel too.
        eps_step: Step size, of the same kind; the size of the *first* step where ``schedule`` decays. None: 2.5 ε/T
            (L∞), 2 ε/T (L2), ε (L1) if constant; 2 ε if it decays, 3 ε with momentum.
        decay: Momentum of the gradient (Dong et al. 2018). None: the method's own: 0.5 of "worst-task" and
            "worst-image", 0.9 of "stealthy", none of the others.
        max_iter: T ≥ 1, the number of steps.
        targeted: The labels are what the outputs should become. Tasks without a label for any sample are left alone.
        num_random_init: 0 starts at ``x``; n > 0 makes n runs from random points of the ball and keeps the best of each
            sample.
        batch_size: Samples a batch, or "auto": measured at the first call, before the first step, and kept. It is part
            of the setting where samples share weights. If memory runs out later, pieces of a batch pass through the
            network one after another, which changes no result.
        random_eps: Draw ε, and with it the step size, anew for each call from a truncated normal distribution on (0,
            ε], as ART does (but ``eps`` keeps its value).
        summary_writer: As in ART: False, True, a folder, or a ``SummaryWriter``. Per-task losses and weights are logged
            at every step.
        verbose: Show a progress bar.
        objective: What is ascended: "loss", "log", "normalized", "relative", "degradation", "population" (that of
            "worst-task"), or with means over a batch "pooled-loss", "pooled-normalized", "pooled-relative".
        weighting: "uniform", "alternating", "minmax", "inner-minimiser", or one fixed weight a task.
        gamma: γ, pull towards equal weights, of the min-max weightings (≥ 0) and of "worst-task": in [0, 1], 0.3; above
            0 with ``weight_scope`` "sample" (0.3) and "batch" (0.1).
        weight_step: α₂, step size of the weights.
        weight_scope: Which samples share weights: "sample", "batch" or "dataset".
        weight_group: Neighbours that share weights ("batch"), samples of a chunk ("dataset").
        schedule: Step size: "constant", "linear" (to 0) or "cosine".
        keep: Return the "last" iterate or the "best" of each sample (one more forward pass).
        projection: "exact" (Euclidean, onto ball ∩ box), "box-then-ball" (ART's order) or "ball-then-box".
        attacked: Of "stealthy" and "smta": names of the tasks to degrade.
        preserved: Of the same: names of the tasks to hold; None for all others.
        tolerance: Of "stealthy": largest relative change of a preserved task; 0.05.
        penalty: Of "smta": weight of the preserved tasks; 1.
        l1_step: "adaptive" (Croce & Hein 2021) or "one-pixel" (ART's).
        seed: Of random starts; None draws from torch's global generator.
        prepare: What the gradient steps run on: None or "exact" for the model itself; "fp32", "bf16" or "fp16", and
            behind it any of ",memory-efficient", ",compile" and ",graphs", or a :class:`~art_mtl.prepared.Preparation`,
            for a private copy that computes the same, cheaper. The estimator keeps it, and makes it anew when the model
            has             changed.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.
        measured: :class:`~art_mtl.core.batch_size.BatchSize` that "auto" has found; None before.

    Raises:
        ValueError: An argument out of its range; the message names it.
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
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=5, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [3, 7], "ink": [0.5, 0.4]})
        >>> round(float(abs(x_adv - x).max()), 4)
        0.1
    """

    attack_params = EvasionAttack.attack_params + [
        "method",
        "norm",
        "eps",
        "eps_step",
        "decay",
        "max_iter",
        "targeted",
        "num_random_init",
        "batch_size",
        "random_eps",
        "summary_writer",
        "verbose",
        *_KNOBS,
        "l1_step",
        "seed",
        "prepare",
    ]
    # Whether a batch is no more than what fits; for some attacks it is a step.
    _batch_is_free = True
    _estimator_requirements = (BaseEstimator, LossGradientsMixin)

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        method: str = "equal",
        norm: float | str = np.inf,
        eps: Radius = 0.3,
        eps_step: Radius | None = None,
        decay: float | None = None,
        max_iter: int = 100,
        targeted: bool = False,
        num_random_init: int = 0,
        batch_size: int | str = 32,
        random_eps: bool = False,
        summary_writer: str | bool | SummaryWriter = False,
        verbose: bool = True,
        *,
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
        super().__init__(estimator=as_estimator(estimator), summary_writer=summary_writer)
        self.method = method
        self.norm = norm
        self.eps = eps
        self.eps_step = eps_step
        self.decay = decay
        self.max_iter = max_iter
        self.targeted = targeted
        self.num_random_init = num_random_init
        self.batch_size = batch_size
        self.random_eps = random_eps
        self.verbose = verbose
        self.objective = objective
        self.weighting = weighting
        self.gamma = gamma
        self.weight_step = weight_step
        self.weight_scope = weight_scope
        self.weight_group = weight_group
        self.schedule = schedule
        self.keep = keep
        self.projection = projection
        self.attacked = attacked
        self.preserved = preserved
        self.tolerance = tolerance
        self.penalty = penalty
        self.l1_step = l1_step
        self.seed = seed
        self.prepare = prepare
        self._batching = Batching()
        self.observer: Callable[[StepRecord], None] | None = None
        self._check_params()

    @property
    def name(self) -> str:
        """The method's name, as tables print it."""
        return self._assemble().name

    @property
    def measured(self) -> BatchSize | None:
        """What the batch size "auto" has found."""
        return self._batching.measured

    @property
    def summary_writer(self) -> SummaryWriter | None:
        """Where losses and weights are logged, or None."""
        return self._summary_writer

    @summary_writer.setter
    def summary_writer(self, writer: str | bool | SummaryWriter) -> None:
        self._summary_writer_arg = writer
        if isinstance(writer, SummaryWriter):
            self._summary_writer = writer
        else:
            self._summary_writer = SummaryWriterDefault(writer) if writer else None

    def generate(
        self, x: npt.NDArray[Any], y: Any = None, mask: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> FloatArray:
        """Attack ``x``.

        Args:
            x: ``(N, *input_shape)``, floating point, inside the estimator's ``clip_values``.
            y: Labels in any form of :meth:`art_mtl.MultiTaskLabels.of`. None: the model's own clean predictions, which
                is not possible for a targeted attack. A targeted attack leaves tasks alone that ``y`` does not name;
                "stealthy" and "smta" need targets of the attacked tasks and the true labels of the preserved ones.
            mask: 0 where nothing may change, broadcastable to ``x``.
            **kwargs: None is known.

        Returns:
            Adversarial inputs, ``(N, *input_shape)``, float32, within ε of ``x`` and inside the box.

        Raises:
            ValueError: Shapes, values or labels do not fit; the message says which, what was expected and what was
                found.
            TypeError: Wrong dtype, or an unknown keyword.
        """
        if kwargs:
            raise TypeError(f"generate() knows `x`, `y` and `mask`. Found {sorted(kwargs)}.")
        estimator: PyTorchMultiTaskEstimator = self.estimator
        size = OWN_LABELS_BATCH if self.batch_size == AUTO else int(self.batch_size)
        posed = pose(estimator, x, y, mask, size, bool(self.targeted))
        inputs, tasks = posed.inputs, tuple(estimator.tasks[k] for k in posed.kept)
        eps, eps_step = self._radii(inputs)
        plan = make_run_config(
            tasks,
            steps=self.max_iter,
            random_start=self.num_random_init > 0,
            restarts=max(1, self.num_random_init),
            targeted=self.targeted,
            own_labels=posed.own_labels,
            l1_step=self.l1_step,
            seed=self.seed,
            device=estimator.device,
        )
        method = restrict(self._assemble(), posed.kept, estimator.tasks)
        forward = self._forward(inputs)
        session = Session(some_outputs(forward, posed.kept), tasks, method, plan)
        with frozen(estimator.model):
            size = self._batching.size(self.batch_size, forward, inputs, session.largest, estimator.device)
        batches = list(session.batches(len(inputs), size))
        progress = tqdm(total=len(batches) * plan.restarts * plan.steps, desc=self.name, disable=not self.verbose)
        result = torch.empty_like(inputs)
        with frozen(estimator.model), progress:
            for index, batch in enumerate(batches):
                session.observer = self._observer(index, progress, [task.name for task in tasks])
                threat = posed.threat(self.norm, eps, batch, estimator.device)
                step_size = None if eps_step is None else rows(eps_step, batch, len(inputs)).to(estimator.device)
                result[batch] = session.attack(
                    send(inputs[batch], estimator.device),
                    [send_target(target[batch], estimator.device) for target in posed.targets],
                    threat,
                    step_size=step_size,
                    first_index=batch.start,
                ).cpu()
        session.warn()
        if self.summary_writer is not None:
            self.summary_writer.reset()
        return result.numpy()

    def set_params(self, **kwargs: Any) -> None:
        """Set attributes of ``attack_params``, after the same checks as in the constructor.

        Raises:
            ValueError: An unknown name or a bad value; nothing is changed then.
        """
        kept = ("observer", "_estimator", "_batching")
        before = {name: value for name, value in self.__dict__.items() if name not in kept}
        try:
            super().set_params(**kwargs)
        except (TypeError, ValueError):
            self.__dict__.update(before)
            raise
        if "batch_size" in kwargs or "prepare" in kwargs:
            self._batching.measured = None

    def _forward(self, inputs: Tensor) -> Forward:
        """What the gradient steps run on."""
        estimator: PyTorchMultiTaskEstimator = self.estimator
        return estimator.forward_prepared(self.prepare, inputs)

    def _method_name(self) -> str:
        return self.method

    def _assemble(self) -> Method:
        knobs = {knob: getattr(self, knob) for knob in _KNOBS}
        return make_method(self._method_name(), self.estimator.tasks, momentum=self.decay, **knobs)

    def _radii(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """ε and the step size of this call; both scaled alike where ε is drawn at random."""
        share: float | npt.NDArray[np.floating] = 1.0
        if self.random_eps:
            # A truncated normal with standard deviation ε/2 on (0, ε]: in units of ε the same for every ε.
            size = None if np.isscalar(self.eps) else np.shape(self.eps)
            share = truncnorm.rvs(0, 2, scale=0.5, size=size, random_state=self.seed)
            share = np.maximum(share, np.finfo(np.float32).eps)
        eps = radius("eps", self.eps * share, inputs)
        return eps, None if self.eps_step is None else radius("eps_step", self.eps_step * share, inputs)

    def _observer(self, batch: int, progress: tqdm[Any], names: list[str]) -> Callable[[StepRecord], None] | None:
        if self.observer is None and self.summary_writer is None and not self.verbose:
            return None

        def observe(record: StepRecord) -> None:
            progress.update()
            if self.summary_writer is not None:
                write_summary(self.summary_writer, self.estimator, names, record, batch, self.targeted)
            if self.observer is not None:
                self.observer(record)

        return observe

    def _check_params(self) -> None:
        super()._check_params()
        norm = parse_norm(self.norm)
        check_radius("eps", self.eps, norm)
        if self.eps_step is not None:
            check_radius("eps_step", self.eps_step, norm)
            if np.shape(self.eps) != np.shape(self.eps_step):
                raise ValueError(
                    f"Parameter `eps_step` should have the shape of `eps`, {np.shape(self.eps)}. "
                    f"Found {np.shape(self.eps_step)}."
                )
        for argument, least in (("max_iter", 1), ("num_random_init", 0)):
            value = getattr(self, argument)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"Parameter `{argument}` should be an integer of at least {least}. Found {value!r}.")
        for argument in ("targeted", "random_eps", "verbose"):
            if not isinstance(getattr(self, argument), (bool, np.bool_)):
                raise ValueError(f"Parameter `{argument}` should be a bool. Found {getattr(self, argument)!r}.")
        check_number("decay", self.decay, least=0)
        check_seed(self.seed)
        choice("l1_step", self.l1_step, L1_STEPS)
        check_batch_size(self.batch_size, self._batch_is_free)
        Preparation.parse(self.prepare)
        self._assemble()
