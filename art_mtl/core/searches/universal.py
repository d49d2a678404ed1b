"""One perturbation for a whole data set: Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017.

Found by stochastic gradient ascent, a step a batch (Shafahi et al., "Universal adversarial training", AAAI 2020), with
min-max over the tasks: one row of weights, moved by what the perturbation does to all batches of about one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, StepRecord
from art_mtl.core.loop import Forward, attack
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import Objective, Outputs, PerSample
from art_mtl.core.objectives.loss_objectives import Run as ObjectiveRun
from art_mtl.core.optimizers.steps import random_start
from art_mtl.core.threat import Perturbation, RunConfig, ThreatModel
from art_mtl.core.weightings import Run, Weighting
from art_mtl.tasks import Target, Task


@dataclass(frozen=True)
class Samples:
    """A data set, and where it is to be attacked.

    Attributes:
        inputs: Clean inputs ``(N, ...)``, on any device.
        targets: Labels of each task, beside them.
        device: Where batches are brought.
    """

    inputs: Tensor
    targets: Sequence[Target]
    device: torch.device

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, chosen: Tensor) -> tuple[Tensor, list[Target]]:
        """Some of the samples, by their indices."""
        here = chosen.to(self.inputs.device)
        return self.inputs[here].to(self.device), [target[here].to(self.device) for target in self.targets]


@dataclass(frozen=True)
class Batch:
    """Some of the samples.

    Attributes:
        clean: Clean inputs, ``(B, ...)``.
        targets: Labels of each task.
        base: What the perturbation is added to, ``(B, ...)``.
        forward: From the perturbed base to one raw output a task.
    """

    clean: Tensor
    targets: list[Target]
    base: Tensor
    forward: Forward


@dataclass(frozen=True)
class Against:
    """A per-sample objective whose references are known beforehand.

    Args:
        inner: The objective.
        references: For each task ``(B,)``, or None.
    """

    inner: PerSample
    references: tuple[Tensor | None, ...]
    needs_clean: bool = False

    @property
    def saturates(self) -> bool:
        return self.inner.saturates

    def begin(self, problem: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        return self.inner.against(problem, self.references)


class Continued:
    """A weighting that goes on from batch to batch.

    It is shown the mean of the values over the last ``window`` batches or so, and told the number of batches as the
    step.
    """

    def __init__(self, inner: Weighting, steps: int, window: int) -> None:
        self._run, self._window = inner.begin(steps), window
        self._step = 0
        self._mean: Tensor | None = None
        self._seen: Tensor | None = None

    def begin(self, steps: int) -> Run:
        return self._next

    def _next(self, values: Tensor, known: Tensor, step: int) -> Tensor:
        if self._mean is None or self._seen is None:
            self._mean, self._seen = torch.zeros_like(values), torch.zeros_like(values)
        self._seen = self._seen + known
        share = 1 / self._seen.clamp(1, self._window)
        self._mean = torch.where(known, self._mean + share * (values - self._mean), self._mean)
        weights = self._run(self._mean, self._seen > 0, self._step)
        self._step += 1
        return weights


def universal(
    forward: Forward,
    samples: Samples,
    tasks: Sequence[Task],
    method: Method,
    threat: ThreatModel,
    plan: RunConfig,
    batch_size: int,
    seed: int,
    *,
    noise: float = 0.0,
    observer: Callable[[StepRecord], None] | None = None,
    stopped: list[int] | None = None,
) -> Tensor:
    """One perturbation ``(1, ...)`` of all samples, inside the ball.

    Args:
        forward: Inputs to one raw output a task.
        samples: The data set.
        tasks: K tasks.
        method: See :func:`check_shared`.
        threat: What is allowed; ε is one number, and the mask one for all samples.
        plan: ``steps`` is the number of passes over the samples.
        batch_size: Samples a step.
        seed: Of the order of the samples and of the random start.
        noise: Share of ε of a random start. Where labels are the model's own outputs, an absolute error has gradient
            exactly 0 at no perturbation.
        observer: Called at every step.
        stopped: See :func:`fit`.
    """

    def batch(chosen: Tensor) -> Batch:
        clean, targets = samples.part(chosen)
        return Batch(clean, targets, clean, forward)

    start = torch.zeros_like(samples.inputs[:1]).to(samples.device)
    if noise > 0:
        generator = torch.Generator(samples.device).manual_seed(seed)
        start = random_start(start, threat.eps, threat.norm, noise, generator)
        start = start if threat.mask is None else torch.where(threat.mask == 0, 0.0, start)
    found = fit(
        forward, batch, len(samples), start, tasks, method, threat, plan, batch_size, seed,
        observer=observer, stopped=stopped,
    )  # fmt: skip
    return found.delta


def fit(
    forward: Forward,
    batch: Callable[[Tensor], Batch],
    size: int,
    start: Tensor,
    tasks: Sequence[Task],
    method: Method,
    threat: ThreatModel,
    plan: RunConfig,
    batch_size: int,
    seed: int,
    *,
    observer: Callable[[StepRecord], None] | None = None,
    stopped: list[int] | None = None,
) -> Perturbation:
    """Find one perturbation for ``size`` samples.

    A pass costs a forward and a backward for each batch; before the first one the clean outputs are looked at once.

    Args:
        forward: Clean inputs to one raw output a task.
        batch: Indices ``(B,)`` to these samples.
        size: N.
        start: ``(1, ...)``, a perturbation of the inputs to start from.
        tasks: K tasks.
        method: Its objective is one number a sample and task.
        threat: What is allowed; ε is one number.
        plan: ``steps`` is the number of passes over the samples.
        batch_size: Samples a step.
        seed: Of the order of the samples, which is another one in each pass.
        observer: Called at every step.
        stopped: Gets the indices of samples with non-finite outputs or gradients, which were left out.

    Returns:
        The perturbation.

    Raises:
        ValueError: The method pools samples or combines gradients of single ones.
    """
    check_shared(method)
    shuffle = torch.Generator().manual_seed(seed)
    per_pass = -(-size // batch_size)
    known = _references(forward, batch, size, tasks, method, plan, batch_size)
    shared = Perturbation(start, total=plan.steps * per_pass)
    weighting = Continued(method.weighting, shared.total, per_pass)
    once = replace(plan, steps=1, start=0.0, restarts=1, shared=shared)
    lost: set[int] = set()
    for _ in range(plan.steps):
        for chosen in torch.split(torch.randperm(size, generator=shuffle), batch_size):
            part = batch(chosen)
            references = tuple(None if r is None else r[chosen].to(part.base.device) for r in known)
            objective = Against(_per_sample(method.objective), references)
            step = replace(method, objective=objective, weighting=weighting, scope="batch", group=None, keep="last")
            ended: list[int] = []
            attack(part.forward, part.base, tasks, part.targets, step, threat, once, observer=observer, stopped=ended)
            lost.update(chosen[ended].tolist())
    if stopped is not None:
        stopped += sorted(lost)
    return shared


def check_shared(method: Method) -> None:
    """Raise unless one perturbation for all samples can be found by this method."""
    if method.aggregator is not None or not isinstance(method.objective, PerSample) or method.schedule == "auto":
        raise ValueError(
            f"One perturbation for many samples needs a method whose objective is one number a sample, and a step size "
            "that is fixed in advance: 'equal', 'normalize', 'dgba', 'alternate', 'single:<task>', 'minmax' or "
            f"'worst-task'. Found {method.name!r}."
        )


def _per_sample(objective: Objective) -> PerSample:
    if not isinstance(objective, PerSample):
        raise TypeError(f"The objective should be one number a sample and task. Found {type(objective).__name__}.")
    return objective


def against_clean(
    method: Method, forward: Forward, clean: Tensor, tasks: Sequence[Task], targets: Sequence[Target], targeted: bool
) -> Method:
    """The method, measuring against the clean images even where the first iterate is none of them."""
    objective = _per_sample(method.objective)
    problem = BatchContext(tuple(tasks), tuple(targets), 1, targeted)
    with torch.no_grad():
        raw = forward(clean.clone()) if objective.needs_clean else None
        outputs = raw and [task.check_output(o, y) for task, o, y in zip(tasks, raw, targets, strict=True)]
        return replace(method, objective=Against(objective, tuple(objective.references(problem, outputs))))


def _references(
    forward: Forward,
    batch: Callable[[Tensor], Batch],
    size: int,
    tasks: Sequence[Task],
    method: Method,
    plan: RunConfig,
    batch_size: int,
) -> list[Tensor | None]:
    """What the objective measures against, for each task ``(N,)`` on the host."""
    columns: list[list[Tensor]] = [[] for _ in tasks]
    for chosen in torch.split(torch.arange(size), batch_size) if method.objective.needs_clean else ():
        part = batch(chosen)
        bound = against_clean(method, forward, part.clean, tasks, part.targets, plan.targeted).objective
        for column, reference in zip(columns, bound.references if isinstance(bound, Against) else (), strict=True):
            if reference is not None:
                column.append(reference.cpu())
    return [torch.cat(column) if column else None for column in columns]
