"""``art-mtl diagnose``, and what ``art-mtl benchmark --diagnose`` adds to a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from art_mtl.cli.console import say, show_table
from art_mtl.cli.options import Checkpoint, Count, MaybeBatchSize, MaybeCount, MaybeNatural, QuietCommand, Root
from art_mtl.evaluation.experiment import CONFIG, Experiment, Norm, Schedule, parse_eps

if TYPE_CHECKING:
    from art_mtl.evaluation import AttackResult, Results, Victim
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.grid import GridCell

QUERIES = 200
_SAMPLES = 64
_OF_THE_ATTACK = ("steps", "schedule", "restarts", "prepare")
_OF_THE_PLACE = ("victim", "root", "checkpoint", "device", "batch_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Diagnose(QuietCommand):
    """Check whether the degradation that an attack reports is to be believed.

    Eleven sanity checks for unreliable attacks: which of them fail, and what to do. The attack is a row of a run, with
    all the settings that it ran with, or a new one.

    Attributes:
        folder: Run whose attack is diagnosed, a folder that benchmark --out was given. Without: a new attack.
        attack: Name of a row of the run; of a new attack, a name that `art-mtl list` shows.
        norm: Default: that of --eps, or the first of the run or the victim.
        eps: Such as 4/255 or l2:1.0. Default: the first of the run or the victim.
        victim: Default: the run's, or rooms. A run whose victim is PATH.py:function needs it: nothing that a folder
            names is executed.
        steps: Of a new attack. Default: 10.
        schedule: Of a new attack. Default: published.
        restarts: Random starts of the schedule "restarts" of a new attack. Default: 2.
        prepare: What a new attack runs on, as in benchmark. Default: exact.
        limit: First samples of the data.
        seed: Default: the run's, or 0.
        batch_size: Default: the run's, or 32.
        device: Default: the run's, or auto.
        queries: Forward passes of the search without gradients, at least 2.
        format: How the diagnosis is printed.
        out: File for the diagnosis, as JSON.
    """

    folder: Annotated[Positional[Path | None], arg(metavar="[RUN]")] = None
    attack: str = "worst-task"
    norm: Norm | None = None
    eps: str | None = None
    victim: str | None = None
    root: Root = None
    checkpoint: Checkpoint = None
    steps: MaybeCount = None
    schedule: Schedule | None = None
    restarts: MaybeCount = None
    prepare: str | None = None
    limit: Count = _SAMPLES
    seed: MaybeNatural = None
    batch_size: MaybeBatchSize = None
    device: Literal["auto", "cpu", "gpu"] | None = None
    queries: Count = QUERIES
    format: Literal["terminal", "markdown", "json"] = "terminal"
    out: Path | None = None

    def run(self, command_line: str) -> None:
        """Diagnose the attack, print what was found, write it."""
        from art_mtl.evaluation import load_victim

        if self.queries < 2:
            raise ValueError(f"Parameter `queries` should be at least 2. Found {self.queries}.")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"Parameter `out` should be a file. Found the folder {str(self.out)!r}.")
        experiment = self._new() if self.folder is None else self._stored(self.folder)
        victim = load_victim(experiment.victim, root=experiment.root, checkpoint=experiment.checkpoint)
        found = diagnose_attack(
            experiment,
            self._chosen(_cells(experiment, victim)),
            victim,
            self.folder,
            queries=self.queries,
            command_line=command_line,
            progress=not self.quiet,
        )
        write_and_print(found, self.format, self.out)

    def _given(self, *names: str) -> dict[str, Any]:
        """Of these options those that are given."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _new(self) -> Experiment:
        """A new attack as an experiment of one row."""
        given = self._given(*_OF_THE_ATTACK, *_OF_THE_PLACE)
        given |= {name: (value,) for name, value in self._given("attack", "norm", "eps", "schedule").items()}
        return Experiment(attacks=given.pop("attack"), limit=self.limit, **given)

    def _stored(self, folder: Path) -> Experiment:
        """The experiment of a run, on the model and the device that are at hand."""
        wrong = self._given(*_OF_THE_ATTACK)
        if wrong:
            raise ValueError(f"Options of a new attack should be left out for one of a run. Found {', '.join(wrong)}.")
        experiment = Experiment.from_yaml(folder / CONFIG)
        limit = self.limit if experiment.limit is None else min(self.limit, experiment.limit)
        found = replace(experiment, limit=limit, **self._given(*_OF_THE_PLACE))
        if self.victim is None and ".py:" in found.victim:
            raise ValueError(
                "Parameter `victim` should be given again: nothing that a folder names is executed. Found a run of "
                f"{found.victim!r}."
            )
        found.check_names()
        return found

    def _chosen(self, cells: Sequence[GridCell]) -> GridCell:
        """The row that is meant.

        Raises:
            ValueError: There is none, or there are several of one norm and radius.
        """
        norm, radius = (None, None) if self.eps is None else parse_eps(self.eps)
        of_radius = [c for c in cells if radius in (None, c.eps) and {norm, self.norm} <= {None, c.norm}]
        rows = of_radius if self.folder is None else [c for c in of_radius if c.name == self.attack]
        same = [c for c in rows if (c.norm, c.eps) == (rows[0].norm, rows[0].eps)]
        if len(same) != 1:
            listed = "; ".join(f"{c.name}, {c.norm} {c.eps:.4g}" for c in same or cells)
            raise ValueError(f"Parameter `attack` should name one attack. Found {self.attack!r}, of: {listed}.")
        return same[0]


def strongest(results: Results) -> Iterator[AttackResult]:
    """Of every norm and radius the attack of the strongest Δ_Wor, single-task references left aside."""
    for block in results.blocks():
        if block.strongest is not None:
            yield block.strongest


def diagnose_attack(
    experiment: Experiment,
    cell: GridCell,
    victim: Victim,
    folder: Path | None,
    *,
    queries: int = QUERIES,
    command_line: str,
    progress: bool,
) -> Diagnosis:
    """Diagnose the very attack that an experiment runs.

    Args:
        experiment: Whose attack it is.
        cell: The attack.
        victim: The experiment's.
        folder: Where its run is stored, with the batch size that was measured; None where it is not.
        queries: Forward passes of the search without gradients.
        command_line: To be recorded.
        progress: Show a progress bar.
    """
    from art_mtl.evaluation.batch_size import settle_batch_size
    from art_mtl.evaluation.diagnosis import diagnose
    from art_mtl.evaluation.grid import make_attack, make_estimator
    from art_mtl.evaluation.workers import cpu_threads

    with cpu_threads(experiment.threads):
        estimator = make_estimator(victim, experiment.device)
        source = victim.source(experiment.split, experiment.limit)
        size = settle_batch_size(experiment.batch_size, estimator, source, experiment.prepare, folder)
        x, y = victim.data(experiment.split, experiment.limit)
        return diagnose(
            estimator,
            make_attack(estimator, cell, experiment.steps, size, experiment.chunk, prepare=experiment.prepare),
            x,
            y,
            queries=queries,
            batch_size=size,
            seed=experiment.seed,
            protocol=experiment.protocol,
            chunk=experiment.chunk,
            victim=victim.name,
            command=command_line,
            progress=progress,
        )


def write_and_print(found: Diagnosis, form: str, out: Path | None) -> None:
    """Write a diagnosis, then print it; what failed is told on standard error.

    Args:
        found: What was found.
        form: "terminal", "markdown" or "json".
        out: File for it; None for none.
    """
    from art_mtl.evaluation.diagnosis import diagnosis_table

    if out is not None:
        found.to_json(out)
    if form == "json":
        print(found.to_json_text(), end="")
    else:
        show_table(diagnosis_table(found), form)
    if found.failed:
        say(f"{len(found.failed)} of {len(found.checks)} checks failed: {', '.join(found.failed)}")
    if out is not None:
        say(f"diagnosis in {out}")


def _cells(experiment: Experiment, victim: Victim) -> list[GridCell]:
    """The rows of an experiment."""
    from art_mtl.evaluation.grid import plan_grid, plan_radii

    radii = plan_radii(victim, experiment.norm or None, experiment.radii)
    return plan_grid(victim.tasks, experiment.attacks, radii, experiment.schedule, experiment.restarts)
