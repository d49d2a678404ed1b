"""An ensemble of attacks: every member on the samples that are left, the worst case kept for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.batch import AttackBatch
from art_mtl.core.context import BatchContext
from art_mtl.core.engine import Callbacks, RunSetup
from art_mtl.core.loop import Observer
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.run_log import RunLog
from art_mtl.core.searches.ensemble_members import Member
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.core.searches.per_sample import PerSampleSearch
from art_mtl.core.searches.population_choice import choose_by_population, population_degradation, sample_degradation
from art_mtl.core.selection import choose, keep_best
from art_mtl.core.session import Session
from art_mtl.core.weightings import least_degradation
from art_mtl.structure import map_tensors
from art_mtl.tasks import Task


class EnsembleSearch:
    """Runs the members, and keeps the worst case of each sample.

    All candidates are kept beside the inputs until the end, one copy of them a member.

    Args:
        members: At least one.
        selection: "population" or "sample".

    Attributes:
        report: Which member won where; None before.
    """

    def __init__(self, members: tuple[Member, ...], selection: str) -> None:
        self.members, self.selection = members, selection
        self.report: EnsembleReport | None = None

    def run(self, setup: RunSetup) -> Tensor:
        """See :class:`~art_mtl.core.engine.Search`."""
        setup.begin(len(setup.batch) * sum(member.steps for member in self.members))
        run = _Run(setup)
        run.begin()
        for member in self.members:
            run.add(member)
        result, self.report = run.decide(self.members, self.selection)
        return result


class _MemberCallbacks(Callbacks):
    """What a member of an ensemble tells of its steps."""

    def __init__(self, whole: Callbacks, member: Member) -> None:
        self.whole, self.member = whole, member

    def observer(self, batch: int) -> Observer | None:
        return self.whole.member_observer(self.member.name)


@dataclass
class _Run:
    """An ensemble on one call. Candidate 0 is the clean input, candidate i the work of member i − 1."""

    setup: RunSetup
    candidates: list[Tensor] = field(default_factory=list)
    statistics: list[list[Tensor]] = field(default_factory=list)
    smooth: list[Tensor] = field(default_factory=list)
    least: list[Tensor] = field(default_factory=list)
    attacked: list[int] = field(default_factory=list)

    def begin(self) -> None:
        """Measure the clean inputs, and leave out the samples that are broken already."""
        batch = self.setup.batch
        self.has_label = torch.stack([target.has_label for target in batch.targets], 1).cpu()
        self.references: list[list[Tensor | None]] = []
        # What targeted members go by: the clean outputs of the tasks with several wrong classes.
        self.clean: dict[str, list[Any]] = {task.name: [] for task in self.setup.tasks if task.num_wrong_classes > 1}
        self._keep(batch.inputs)
        # A sample without any label has nothing to lose.
        self.left = (self.least[0] < 1) & self.has_label.any(1)

    def add(self, member: Member) -> None:
        """Run one member on the samples that are left."""
        index = self.left.nonzero()[:, 0]
        self.attacked.append(len(index))
        self.setup.callbacks.advance((len(self.left) - len(index)) * member.steps, member.name)
        if len(index) == 0:
            self._repeat()
            return
        candidate = self.candidates[-1].clone()
        candidate[index.to(candidate.device)] = self._attack(member, index)
        self._keep(candidate)
        self.left = self.left & (self.least[-1] < 1)

    def decide(self, members: tuple[Member, ...], selection: str) -> tuple[Tensor, EnsembleReport]:
        """Choose among the candidates of each sample."""
        tasks, known = self.setup.tasks, self.has_label.any(0)
        least = torch.stack(self.least)
        scores = [torch.stack(columns, 1) for columns in zip(self.least, self.smooth, strict=True)]
        chosen = keep_best(zip(self.candidates, scores, strict=True)).winner
        statistics = [torch.stack(parts) for parts in zip(*self.statistics, strict=True)]
        if selection == "population":
            alone = [torch.full_like(chosen, number) for number in range(len(self.candidates))]
            chosen = choose_by_population(tasks, statistics, known, [*alone, chosen])
        broken = least >= 1
        # A broken sample has left: what later members hold is the work of the one that broke it.
        chosen = torch.where(broken.any(0), torch.minimum(chosen, broken.long().argmax(0)), chosen)
        sample = torch.arange(len(chosen), device=chosen.device)
        before = [part[0].sum(0) for part in statistics]
        sums = [[part[number].sum(0) for part in statistics] for number in range(1, len(self.candidates))]
        sums.append([part[chosen, sample].sum(0) for part in statistics])
        degradations = [population_degradation(tasks, now, before).masked_fill(~known, float("nan")) for now in sums]
        return self._collect(chosen), EnsembleReport(
            members=tuple(member.name for member in members),
            tasks=tuple(task.name for task in tasks),
            selection=selection,
            winner=(chosen - 1).numpy(),
            attacked=tuple(self.attacked),
            degradations=tuple(tuple(degradation.tolist()) for degradation in degradations),
            least=least[chosen, sample].numpy(),
        )

    def _collect(self, chosen: Tensor) -> Tensor:
        """The chosen candidate of each sample."""
        result = self.candidates[0].clone()
        for number in range(1, len(self.candidates)):
            mine = (chosen == number).to(result.device)
            result[mine] = self.candidates[number][mine]
        return result

    def _repeat(self) -> None:
        """A member that nothing was left for leaves everything as it is."""
        self.candidates.append(self.candidates[-1])
        self.statistics.append(self.statistics[-1])
        self.smooth.append(self.smooth[-1])
        self.least.append(self.least[-1])

    def _forwards(self, x: Tensor) -> Iterator[tuple[BatchContext, list[Any]]]:
        """Batch by batch, the model's outputs."""
        setup, at_once = self.setup, self.setup.samples_at_once
        for start in range(0, len(x), at_once):
            rows = slice(start, start + at_once)
            targets = tuple(target[rows].to(setup.device) for target in setup.batch.targets)
            with torch.no_grad():
                outputs = setup.exact(x[rows].to(setup.device, copy=True))
                triples = zip(setup.tasks, outputs, targets, strict=True)
                checked = [task.check_output(output, target) for task, output, target in triples]
                yield BatchContext(setup.tasks, targets, steps=1), checked

    def _remember(self, context: BatchContext, clean: list[Any]) -> None:
        """What one batch of clean inputs is needed for later: references, and the classes to go for."""
        self.references.append(DEGRADATION.references(context, clean))
        for task, output in zip(context.tasks, clean, strict=True):
            if task.name in self.clean:
                device = self.setup.batch.inputs.device
                self.clean[task.name].append(map_tensors(task.detach_output(output), lambda t: t.to(device)))  # noqa: B023

    def _keep(self, x: Tensor) -> None:
        """Measure candidates by forward passes, and keep them; the clean input where the outputs are not finite."""
        statistics: list[list[Tensor]] = [[] for _ in self.setup.tasks]
        smooth, finite = [], []
        for number, (context, outputs) in enumerate(self._forwards(x)):
            if not self.candidates:
                self._remember(context, outputs)
            values = torch.stack(DEGRADATION.values(context, outputs, self.references[number]), 1)
            degraded = least_degradation(values, context.has_label)
            smooth.append(degraded.nan_to_num(nan=float("-inf")).cpu())
            finite.append(context.finite(outputs).cpu())
            for store, task, output, target in zip(statistics, context.tasks, outputs, context.targets, strict=True):
                store.append(task.statistics(output, target).nan_to_num(0.0).cpu())
        columns = [torch.cat(smooth), *(torch.cat(store) for store in statistics)]
        if self.candidates:
            good, clean = torch.cat(finite), [self.smooth[0], *self.statistics[0]]
            x = choose(good.to(x.device), x, self.candidates[0])
            columns = [choose(good, found, before) for found, before in zip(columns, clean, strict=True)]
        self.candidates.append(x)
        self.smooth.append(columns[0])
        self.statistics.append(columns[1:])
        self.least.append(sample_degradation(self.setup.tasks, columns[1:], self.statistics[0], self.has_label))

    def _attack(self, member: Member, index: Tensor) -> Tensor:
        """The member's work on the samples of these numbers."""
        setup = self.setup
        tasks, batch = self._aimed(member, setup.batch[index.to(setup.batch.inputs.device)], index)
        config = replace(setup.config, steps=member.steps)
        channels_first = setup.run_config.channels_first
        own = replace(
            setup,
            tasks=tasks,
            method=member.method,
            batch=batch,
            config=config,
            run_config=config.run_config(tasks, batch.own_labels, setup.device, channels_first),
            session=Session(),
            callbacks=_MemberCallbacks(setup.callbacks, member),
            log=RunLog(),
        )
        found = PerSampleSearch().run(own)
        setup.log.merge(own.log, index)
        return found

    def _aimed(self, member: Member, batch: AttackBatch, index: Tensor) -> tuple[tuple[Task, ...], AttackBatch]:
        """Tasks and labels as a member attacks them."""
        tasks, targets = list(self.setup.tasks), list(batch.targets)
        for place, task in enumerate(tasks):
            if member.rank is not None and task.name in self.clean:
                clean = task.slice_output(task.join_outputs(self.clean[task.name]), index.to(batch.inputs.device))
                aimed = task.targeted_margin(targets[place], clean, member.rank)
                tasks[place], targets[place] = (task, targets[place]) if aimed is None else aimed
        return tuple(tasks), replace(batch, targets=tuple(targets))
