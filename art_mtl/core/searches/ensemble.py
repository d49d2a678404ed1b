"""An ensemble of attacks: every member on the samples that are left, the worst case kept for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from art_mtl.core.context import BatchContext, StepRecord
from art_mtl.core.loop import Forward
from art_mtl.core.objectives.loss_objectives import DEGRADATION
from art_mtl.core.objectives.population import least_degradation
from art_mtl.core.searches.ensemble_members import Member
from art_mtl.core.searches.ensemble_report import EnsembleReport
from art_mtl.core.searches.population_choice import (
    choose_by_population,
    choose_by_sample,
    population_degradation,
    sample_degradation,
)
from art_mtl.core.session import Session, make_run_config, rows, warn_stopped
from art_mtl.core.threat import ThreatModel
from art_mtl.tasks import Target, Task

Progress = Callable[[str, int], None]
"""``(member, steps done, counted once a sample)``"""


@dataclass(frozen=True)
class Ensemble:
    """Members, and how the worst case is chosen.

    Attributes:
        forward: Inputs to one raw output a task, differentiable.
        tasks: K tasks.
        members: At least one.
        selection: "population" or "sample".
        batch_size: Samples a batch.
        seed: Of what members draw at random; None draws from torch's global generator.
        device: Where the model is.
        steps_on: What gradient steps run on in place of ``forward``, such as a prepared copy. Candidates are judged by
            ``forward``.
    """

    forward: Forward
    tasks: tuple[Task, ...]
    members: tuple[Member, ...]
    selection: str
    batch_size: int
    seed: int | None
    device: torch.device
    steps_on: Forward | None = None

    def attack(
        self,
        x: Tensor,
        targets: Sequence[Target],
        threat: ThreatModel,
        own_labels: bool = False,
        progress: Progress | None = None,
    ) -> tuple[Tensor, EnsembleReport]:
        """Attack a data set. All candidates are kept beside ``x`` until the end, one copy of it a member.

        Args:
            x: Clean inputs ``(N, ...)``, inside the bounds; best on the host.
            targets: Canonical labels of each task, beside ``x``.
            threat: What is allowed, beside ``x``.
            own_labels: Labels are the model's own outputs.
            progress: Told of the steps done.

        Returns:
            Adversarial inputs like ``x``, and the report.
        """
        run = _Run(self, x, tuple(targets), threat, own_labels, progress)
        run.begin()
        for member in self.members:
            run.add(member)
        warn_stopped(sorted(run.stopped), stacklevel=4)
        return run.decide()


@dataclass
class _Run:
    """An ensemble on one data set. Candidate 0 is the clean input, candidate i the work of member i − 1."""

    ensemble: Ensemble
    x: Tensor
    targets: tuple[Target, ...]
    threat: ThreatModel
    own_labels: bool
    progress: Progress | None
    candidates: list[Tensor] = field(default_factory=list)
    statistics: list[list[Tensor]] = field(default_factory=list)
    smooth: list[Tensor] = field(default_factory=list)
    least: list[Tensor] = field(default_factory=list)
    attacked: list[int] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)

    def begin(self) -> None:
        """Evaluator the clean inputs, and leave out the samples that are broken already."""
        self.has_label = torch.stack([target.has_label for target in self.targets], 1).cpu()
        self.references: list[list[Tensor | None]] = []
        self.logits: dict[str, list[Tensor]] = {task.name: [] for task in self.ensemble.tasks}
        self._keep(self.x)
        # A sample without any label has nothing to lose.
        self.left = (self.least[0] < 1) & self.has_label.any(1)

    def add(self, member: Member) -> None:
        """Run one member on the samples that are left."""
        index = self.left.nonzero()[:, 0]
        self.attacked.append(len(index))
        if self.progress is not None:
            self.progress(member.name, (len(self.x) - len(index)) * member.steps)
        if len(index) == 0:
            self._repeat()
            return
        candidate = self.candidates[-1].clone()
        candidate[index.to(candidate.device)] = self._attack(member, index)
        self._keep(candidate)
        self.left = self.left & (self.least[-1] < 1)

    def _repeat(self) -> None:
        """A member that nothing was left for leaves everything as it is."""
        self.candidates.append(self.candidates[-1])
        self.statistics.append(self.statistics[-1])
        self.smooth.append(self.smooth[-1])
        self.least.append(self.least[-1])

    def decide(self) -> tuple[Tensor, EnsembleReport]:
        """Choose among the candidates of each sample."""
        least = torch.stack(self.least)
        chosen = choose_by_sample(least, torch.stack(self.smooth))
        statistics = [torch.stack(parts) for parts in zip(*self.statistics, strict=True)]
        tasks, known = self.ensemble.tasks, self.has_label.any(0)
        if self.ensemble.selection == "population":
            alone = [torch.full_like(chosen, number) for number in range(len(self.candidates))]
            chosen = choose_by_population(tasks, statistics, known, [*alone, chosen])
        broken = least >= 1
        # A broken sample has left: what later members hold is the work of the one that broke it.
        chosen = torch.where(broken.any(0), torch.minimum(chosen, broken.long().argmax(0)), chosen)
        result = self.x.clone()
        for number in range(1, len(self.candidates)):
            mine = (chosen == number).to(result.device)
            result[mine] = self.candidates[number][mine]
        sample = torch.arange(len(chosen))
        before = [part[0].sum(0) for part in statistics]
        sums = [[part[number].sum(0) for part in statistics] for number in range(1, len(self.candidates))]
        sums.append([part[chosen, sample].sum(0) for part in statistics])
        degradations = [population_degradation(tasks, now, before).masked_fill(~known, float("nan")) for now in sums]
        return result, EnsembleReport(
            members=tuple(member.name for member in self.ensemble.members),
            tasks=tuple(task.name for task in tasks),
            selection=self.ensemble.selection,
            winner=(chosen - 1).numpy(),
            attacked=tuple(self.attacked),
            degradations=tuple(tuple(degradation.tolist()) for degradation in degradations),
            least=least[chosen, sample].numpy(),
        )

    def _parts(self) -> list[slice]:
        step = self.ensemble.batch_size
        return [slice(start, start + step) for start in range(0, len(self.x), step)]

    def _forwards(self, x: Tensor) -> Iterator[tuple[BatchContext, list[Tensor]]]:
        """Batch by batch, the model's outputs."""
        tasks, device = self.ensemble.tasks, self.ensemble.device
        for part in self._parts():
            targets = tuple(target[part].to(device) for target in self.targets)
            with torch.no_grad():
                outputs = self.ensemble.forward(x[part].to(device, copy=True))
                triples = zip(tasks, outputs, targets, strict=True)
                checked = [task.check_output(output, target) for task, output, target in triples]
                yield BatchContext(tasks, targets, steps=1), checked

    def _remember(self, problem: BatchContext, clean: list[Tensor]) -> None:
        """What one batch of clean inputs is needed for later: references, and the classes to go for."""
        self.references.append(DEGRADATION.references(problem, clean))
        for task, output in zip(problem.tasks, clean, strict=True):
            if task.num_wrong_classes:
                self.logits[task.name].append(output.to(self.x.device))

    def _keep(self, x: Tensor) -> None:
        """Evaluator candidates by forward passes, and keep them."""
        statistics: list[list[Tensor]] = [[] for _ in self.ensemble.tasks]
        smooth = []
        for number, (problem, outputs) in enumerate(self._forwards(x)):
            if not self.candidates:
                self._remember(problem, outputs)
            degraded = least_degradation(
                DEGRADATION.values(problem, outputs, self.references[number]), problem.has_label
            )
            smooth.append(degraded.nan_to_num(nan=float("-inf")).cpu())
            for store, task, output, target in zip(statistics, problem.tasks, outputs, problem.targets, strict=True):
                store.append(task.statistics(output, target).nan_to_num(0.0).cpu())
        joined = [torch.cat(store) for store in statistics]
        clean = self.statistics[0] if self.statistics else joined
        self.candidates.append(x)
        self.statistics.append(joined)
        self.smooth.append(torch.cat(smooth))
        self.least.append(sample_degradation(self.ensemble.tasks, joined, clean, self.has_label))

    def _attack(self, member: Member, index: Tensor) -> Tensor:
        ensemble, size = self.ensemble, len(self.x)
        rows_of = index.to(self.x.device)
        tasks, targets = self._posed(member, rows_of)
        plan = make_run_config(
            tasks,
            steps=member.steps,
            random_start=False,
            restarts=1,
            targeted=False,
            own_labels=self.own_labels,
            l1_step="adaptive",
            seed=ensemble.seed,
            device=ensemble.device,
        )
        session = Session(ensemble.steps_on or ensemble.forward, tasks, member.method, plan)
        result = torch.empty_like(self.x[rows_of])
        for batch in session.batches(len(index), ensemble.batch_size):
            session.observer = self._observer(member, batch.stop - batch.start)
            chosen = rows_of[batch]
            mask = self.threat.mask
            threat = replace(
                self.threat,
                eps=rows(self.threat.eps, chosen, size).to(ensemble.device),
                bounds=(self.threat.bounds[0].to(ensemble.device), self.threat.bounds[1].to(ensemble.device)),
                mask=None if mask is None else rows(mask, chosen, size).to(ensemble.device),
            )
            adversarial = session.attack(
                self.x[chosen].to(ensemble.device),
                [target[batch].to(ensemble.device) for target in targets],
                threat,
                first_index=batch.start,
            )
            result[batch] = adversarial.to(result.device)
        self.stopped |= set(index[session.stopped].tolist())
        return result

    def _posed(self, member: Member, index: Tensor) -> tuple[tuple[Task, ...], list[Target]]:
        """Tasks and labels of the chosen samples, as a member attacks them."""
        tasks, targets = list(self.ensemble.tasks), [target[index] for target in self.targets]
        for place, task in enumerate(tasks):
            if member.rank is not None and task.num_wrong_classes:
                logits = torch.cat(self.logits[task.name])[index]
                tasks[place], targets[place] = task.towards(targets[place], logits, member.rank) or (
                    task,
                    targets[place],
                )
        return tuple(tasks), targets

    def _observer(self, member: Member, size: int) -> Callable[[StepRecord], None] | None:
        progress = self.progress
        return None if progress is None else lambda record: progress(member.name, size)
