"""One perturbation for a whole data set: Moosavi-Dezfooli et al., "Universal adversarial perturbations", CVPR 2017.

Found by stochastic gradient ascent, a step a batch (Shafahi et al., "Universal adversarial training", AAAI 2020), with
min-max over the tasks: weights shared by all samples, moved by what the perturbation does to all batches of about one
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from art_mtl.core.batch import AttackBatch
from art_mtl.core.config import NUDGE
from art_mtl.core.context import BatchContext
from art_mtl.core.engine import RunSetup
from art_mtl.core.forward import Forward
from art_mtl.core.loop import attack
from art_mtl.core.method import Method
from art_mtl.core.objectives.loss_objectives import Objective, ObjectiveRun, Outputs, PerSample
from art_mtl.core.optimizers.schedules import StepSchedule
from art_mtl.core.optimizers.steps import random_start
from art_mtl.core.optimizers.universal_step import Perturbation, SharedSchedule
from art_mtl.core.run_log import RunLog
from art_mtl.core.weightings import Weighting, WeightingRun
from art_mtl.tasks import Target, Task


class UniversalSearch:
    """Finds one perturbation of all samples, and applies it.

    Attributes:
        found: The perturbation ``(1, ...)``, inside the ball; None before.
    """

    def __init__(self) -> None:
        self.found: Tensor | None = None

    def run(self, setup: RunSetup) -> Tensor:
        """See :class:`~art_mtl.core.engine.Search`. ``steps`` are passes over the samples."""
        threat = setup.batch[:1].to(setup.device).threat(setup.config.norm)
        if setup.batch.mask is not None and len(setup.batch.mask) > 1:
            raise ValueError(
                "Parameter `mask` should be one for all samples, shape (1, ...). "
                f"Found {tuple(setup.batch.mask.shape)}."
            )
        start = torch.zeros_like(setup.batch.inputs[:1]).to(setup.device)
        if setup.batch.own_labels:
            # There an absolute error has gradient exactly 0 at no perturbation.
            generator = torch.Generator(setup.device).manual_seed(setup.seed)
            start = random_start(start, threat.eps, threat.norm, NUDGE, generator)
            start = start if threat.mask is None else torch.where(threat.mask == 0, 0.0, start)

        def batch(chosen: Tensor) -> SearchBatch:
            part = part_of(setup.batch, chosen).to(setup.device)
            return SearchBatch(part, part.inputs, setup.forward)

        self.found = fit(setup, batch, start, setup.method).delta
        return apply_noise(setup.batch, self.found)


def apply_noise(batch: AttackBatch, noise: Tensor) -> Tensor:
    """The inputs with a perturbation ``(1, ...)`` on them, inside the bounds."""
    return (batch.inputs + noise.to(batch.inputs.device)).clamp(*batch.bounds)


@dataclass(frozen=True)
class SearchBatch:
    """Some of the samples of a search for one perturbation.

    Attributes:
        clean: The samples, on the device.
        base: What the perturbation is added to, ``(B, ...)``.
        forward: From the perturbed base to one raw output a task.
    """

    clean: AttackBatch
    base: Tensor
    forward: Forward


def part_of(batch: AttackBatch, chosen: Tensor) -> AttackBatch:
    """Some of the samples, by their indices on the host."""
    return batch[chosen.to(batch.inputs.device)]


@dataclass(frozen=True)
class Against(Objective):
    """A per-sample objective whose references are known beforehand.

    Args:
        inner: The objective.
        references: For each task ``(B,)``, or None.
    """

    inner: PerSample
    references: tuple[Tensor | None, ...]

    @property
    def saturates(self) -> bool:  # type: ignore[override]
        return self.inner.saturates

    def begin(self, context: BatchContext, clean: Outputs | None) -> ObjectiveRun:
        return self.inner.against(context, self.references)


class Continued(Weighting):
    """A weighting that goes on from batch to batch.

    It is shown the mean of the values over the last ``window`` batches or so, and told the number of batches as the
    step.
    """

    def __init__(self, inner: Weighting, steps: int, window: int) -> None:
        self._run, self._window = inner.begin(steps), window
        self._step = 0
        self._mean: Tensor | None = None
        self._seen: Tensor | None = None

    def begin(self, steps: int) -> WeightingRun:
        return self._next

    def _next(self, values: Tensor, mask: Tensor, step: int) -> Tensor:
        if self._mean is None or self._seen is None:
            self._mean, self._seen = torch.zeros_like(values), torch.zeros_like(values)
        self._seen = self._seen + mask
        share = 1 / self._seen.clamp(1, self._window)
        self._mean = torch.where(mask, self._mean + share * (values - self._mean), self._mean)
        weights = self._run(self._mean, self._seen > 0, self._step)
        self._step += 1
        return weights


def fit(setup: RunSetup, batch: Callable[[Tensor], SearchBatch], start: Tensor, method: Method) -> Perturbation:
    """Find one perturbation for all samples of a call.

    A pass costs a forward and a backward for each batch; before the first one the clean outputs are looked at once.

    Args:
        setup: The call; ``steps`` are passes over the samples.
        batch: Indices ``(B,)`` to these samples.
        start: ``(1, ...)``, a perturbation of the inputs to start from.
        method: Its objective is one number a sample and task.

    Returns:
        The perturbation.

    Raises:
        ValueError: The method pools samples or combines gradients of single ones.
    """
    objective, schedule = check_shared(method)
    size, steps, at_once = len(setup.batch), setup.run_config.steps, setup.samples_at_once
    per_pass = -(-size // at_once)
    shuffle = torch.Generator().manual_seed(setup.seed)
    known = _references(setup, batch, objective, size, at_once)
    shared = Perturbation(start, total=steps * per_pass)
    weighting = Continued(method.weighting, shared.total, per_pass)
    setup.begin(shared.total)
    told = setup.callbacks.observer(0)
    observer = None if told is None else lambda record: told(replace(record, step=shared.taken))
    for _ in range(steps):
        for chosen in torch.split(torch.randperm(size, generator=shuffle, device="cpu"), at_once):
            part = batch(chosen)
            references = tuple(None if r is None else r[chosen].to(part.base.device) for r in known)
            step = replace(
                method,
                objective=Against(objective, references),
                weighting=weighting,
                scope="batch",
                group=None,
                keep_best=False,
                schedule=SharedSchedule(shared, schedule),
            )
            once = replace(setup.run_config, steps=1, start=0.0, restarts=1, step_size=part.clean.step_size)
            log = RunLog()
            threat = part.clean.threat(setup.config.norm)
            attack(
                part.forward, part.base, setup.tasks, part.clean.targets, step, threat, once, observer=observer, log=log
            )
            setup.log.merge(log, chosen)
    return shared


def check_shared(method: Method) -> tuple[PerSample, StepSchedule]:
    """The objective and the schedule, where one perturbation for all samples can be found by this method.

    Raises:
        ValueError: It cannot.
    """
    objective, schedule = method.objective.per_sample, method.schedule
    if method.aggregator is not None or objective is None or not isinstance(schedule, StepSchedule):
        raise ValueError(
            "One perturbation for many samples needs a method whose objective is one number a sample, and a step size "
            "that is fixed in advance: 'equal', 'normalize', 'dgba', 'alternate', 'single:<task>', 'minmax' or "
            f"'worst-task'. Found {method.name!r}."
        )
    return objective, schedule


def against_clean(
    objective: PerSample,
    forward: Forward,
    clean: Tensor,
    tasks: Sequence[Task],
    targets: Sequence[Target],
    targeted: bool,
) -> Against:
    """The objective, measured against the clean images even where the first iterate is none of them."""
    context = BatchContext(tuple(tasks), tuple(targets), 1, targeted)
    with torch.no_grad():
        raw = forward(clean.clone()) if objective.needs_clean else None
        outputs = raw and [task.check_output(o, y) for task, o, y in zip(tasks, raw, targets, strict=True)]
        return Against(objective, tuple(objective.references(context, outputs)))


def _references(
    setup: RunSetup, batch: Callable[[Tensor], SearchBatch], objective: PerSample, size: int, at_once: int
) -> list[Tensor | None]:
    """What the objective measures against, for each task ``(N,)`` on the host."""
    columns: list[list[Tensor]] = [[] for _ in setup.tasks]
    for chosen in torch.split(torch.arange(size, device="cpu"), at_once) if objective.needs_clean else ():
        clean = batch(chosen).clean
        bound = against_clean(
            objective, setup.forward, clean.inputs, setup.tasks, clean.targets, setup.run_config.targeted
        )
        for column, reference in zip(columns, bound.references, strict=True):
            if reference is not None:
                column.append(reference.cpu())
    return [torch.cat(column) if column else None for column in columns]
