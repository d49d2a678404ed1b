"""What an evaluation gives: a table, a data frame, a picture, a report, a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.data.sources import Inputs, Source
from art_mtl.evaluation.experiment import CONFIG, Experiment
from art_mtl.evaluation.report.tables import ShowsTable, Table, make_table
from art_mtl.evaluation.results import AttackResult, Results

if TYPE_CHECKING:
    import pandas

    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.compare import Comparison
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.reading import Chunks
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.evaluation.report.write import Gallery

__all__ = ["Run"]

Key = tuple[str, str | None, float | None]


@dataclass(frozen=True, repr=False)
class Live:
    """What a run of this process still has in its hands; a run that was read from a folder has none of it.

    Attributes:
        estimator: The model.
        source: The data.
        attacks: By name, norm and radius.
        gallery: Examples to show; None where inputs are no pictures.
        batch_size: Samples at a time.
        chunks: What the attacks came to, chunk by chunk; None where it is stored in a folder.
    """

    estimator: PyTorchMultiTaskEstimator
    source: Source
    attacks: Mapping[Key, Any]
    gallery: Gallery | None
    batch_size: int
    chunks: Chunks | None


@dataclass(frozen=True, repr=False)
class Run(ShowsTable):
    """A finished evaluation, or what there is of one that still goes on.

    In a terminal and in a notebook it shows its table.

    Attributes:
        found: All figures; None where no attack has finished a chunk yet.
        experiment: What was asked for; None where the run was read from a file of results.
        folder: Where it is kept; None where it is not.
        done: Units that are finished, attacks × chunks.
        total: Of so many.
        samples: N of the data set; the results may be of fewer while the run goes on.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import tasks
        >>> from art_mtl.evaluation import evaluate
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> x = np.random.default_rng(0).uniform(size=(8, 1, 2, 2)).astype(np.float32)
        >>> run = evaluate((net, [tasks.classification("kind", 3)]), ["equal"], (x, np.arange(8) % 3), eps=[0.5],
        ...     steps=2, progress=False)
        >>> run.frame()["attack"].tolist()
        ['equal']
    """

    found: Results | None
    experiment: Experiment | None = None
    folder: Path | None = None
    done: int = 0
    total: int = 0
    samples: int = 0
    _live: Live | None = field(default=None, compare=False)
    _everything = "frame() has all figures"

    @property
    def results(self) -> Results:
        """All figures, as plain frozen dataclasses.

        Raises:
            ValueError: The run goes on, and no attack has finished a chunk yet.
        """
        if self.found is None:
            raise ValueError(
                f"A run should have at least one chunk that an attack has finished. Found {self.done} of {self.total} "
                "attacks × chunks."
            )
        return self.found

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.done == self.total

    def __getitem__(self, key: Any) -> AttackResult:
        """The result of an attack: ``run["worst-task"]``, or ``run["worst-task", "linf", 4 / 255]`` of several radii.

        Raises:
            KeyError: There is no such attack, or it has several norms or radii; the message lists them.
        """
        return self.results[key]

    def __iter__(self) -> Iterator[AttackResult]:
        return iter(self.results.attacks)

    def __repr__(self) -> str:
        return self._unfinished if self.found is None else super().__repr__()

    def _repr_html_(self) -> str:
        return self._unfinished if self.found is None else super()._repr_html_()

    @property
    def _unfinished(self) -> str:
        return f"Run({self.done} of {self.total} attacks × chunks finished)"

    @property
    def _kept(self) -> Path | Chunks | None:
        """Where all that the attacks came to is: in a folder, in memory, or nowhere."""
        return self.folder if self._live is None or self._live.chunks is None else self._live.chunks

    def table(self) -> Table:
        """The table, for :func:`~art_mtl.evaluation.to_markdown`, :func:`~art_mtl.evaluation.to_latex` and the like."""
        return make_table(self.results)

    def frame(self) -> pandas.DataFrame:
        """One row for each attack, norm, radius and task, numbers only.

        Columns: attack, norm, eps, schedule, steps, task, metric, clean, attacked, delta, delta_low, delta_high,
        delta_mtl, delta_mtl_low, delta_mtl_high, delta_wor, delta_wor_low, delta_wor_high, per_image_worst,
        gradient_evaluations, forward_evaluations, seconds, perturbation, samples. Degradations are fractions, negative
        is worse; the ends of intervals are those of 95 %.

        Raises:
            ImportError: pandas is missing.
        """
        from art_mtl.evaluation.report.frames import to_frame

        return to_frame(self.results)

    def plot(self) -> Figure:
        """Degradation against the radius, or as bars where there is one radius; shown by notebooks, ``savefig`` writes
        it.
        """
        from art_mtl.evaluation.report.plots import degradation_figure

        return degradation_figure(self.results)

    def report(self, folder: str | Path) -> list[Path]:
        """Write tables, pictures, ``results.json`` and ``report.md`` into a folder; the files.

        Args:
            folder: Where; made if needed.
        """
        from art_mtl.evaluation.report.write import write_report

        return write_report(folder, self.results, None if self._live is None else self._live.gallery)

    def compare(self, other: Run | str | Path, *others: Run | str | Path, metrics: bool = False) -> Comparison:
        """This run beside others, with intervals of the differences.

        Args:
            other: Another run, or the folder of one.
            *others: More of them.
            metrics: With the metric of every task, beside Δ_MTL and Δ_Wor.

        Raises:
            ValueError: A run was read from a file of results, or has nothing in common with this one.
        """
        from art_mtl.evaluation.compare import compare_runs

        return compare_runs([_comparable(run) for run in (self, other, *others)], metrics=metrics)

    def adversarial(self, key: Any) -> Inputs:
        """The adversarial inputs of an attack, ``(N, *input_shape)``, float32.

        Args:
            key: As for ``run[key]``.

        Raises:
            ValueError: They were not kept; ``evaluate(..., keep_adversarial=True)`` keeps them.
        """
        from art_mtl.evaluation.reading import read_adversarial

        found, kept = self.results[key], self._kept
        if kept is None or self.experiment is None or not self.experiment.keep_adversarial:
            raise ValueError(
                "Adversarial inputs should be kept by evaluate(..., keep_adversarial=True). Found a run without them."
            )
        return np.concatenate(read_adversarial(kept, found.name, found.norm, found.eps))

    def diagnose(self, key: Any, **settings: Any) -> Diagnosis:
        """Check the very attack that ran, with all its settings, for signs of failure; see
        :func:`art_mtl.evaluation.diagnose`.

        Args:
            key: As for ``run[key]``.
            **settings: ``queries``, ``tolerance``, ``surrogate``, ``limit``, ``progress``.

        Raises:
            ValueError: The run was read from disk, so that its model is not known.
        """
        from art_mtl.evaluation.diagnosis import diagnose
        from art_mtl.evaluation.workers import cpu_threads

        found = self.results[key]
        if self._live is None:
            raise ValueError(
                "A run that is diagnosed should come from `evaluate` in this process. Found one read from disk, which "
                "does not hold its model; use `art-mtl diagnose FOLDER --victim NAME`."
            )
        live, own = self._live, {"victim": self.results.victim, "batch_size": self._live.batch_size}
        own |= {name: getattr(self.experiment, name) for name in ("protocol", "chunk", "seed")}
        attack = live.attacks[found.name, found.norm, found.eps]
        x, y = live.source.read(slice(0, len(live.source) if settings.get("limit") is None else settings.pop("limit")))
        with cpu_threads(getattr(self.experiment, "threads", None)):
            return diagnose(live.estimator, attack, x, y, **{**own, **settings})

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """A run from its folder, at any time, or results from a file ``results.json``.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged, of another program or of a newer version.
        """
        from art_mtl.evaluation.store import holds_run

        path = Path(path)
        if path.is_dir() and (holds_run(path) or not (path / "results.json").exists()):
            return cls._of_folder(path)
        return cls(Results.from_json(path / "results.json" if path.is_dir() else path))

    @classmethod
    def _of_folder(cls, folder: Path) -> Run:
        from art_mtl.evaluation.reading import read_chains
        from art_mtl.evaluation.summary import heading_of, results_of

        read = read_chains(folder)
        found = None
        try:
            if read.chunks:
                found = results_of(heading_of(read.about), read.scales, read.attacks, lambda number: read.read[number])
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        experiment = Experiment.from_yaml(folder / CONFIG) if (folder / CONFIG).exists() else None
        return cls(found, experiment, folder, read.done, read.total, int(read.about["samples"]))


def _comparable(run: Run | str | Path) -> str | Path | Chunks:
    """The folder of a run, or what is in memory of it."""
    found = run._kept if isinstance(run, Run) else run
    if found is None:
        raise ValueError("A run should come from `evaluate` or its folder. Found one read from a file of results.")
    return found
