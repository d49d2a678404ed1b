"""What an evaluation gives: a table, a data frame, a picture, a report, a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.data.sources import Inputs
from art_mtl.evaluation.experiment import CONFIG, Experiment
from art_mtl.evaluation.report.measure_table import make_measure_table
from art_mtl.evaluation.report.tables import ShowsTable, Table, make_table, to_html, to_text
from art_mtl.evaluation.results import AttackResult, Key, Results

if TYPE_CHECKING:
    import pandas

    from art_mtl.evaluation.attack import AttackInfo
    from art_mtl.evaluation.compare import Comparison
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.reading import Chunks
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.evaluation.report.gallery import Gallery, ShowsSamples
    from art_mtl.evaluation.setup import Setup

__all__ = ["Run"]


@dataclass(frozen=True, repr=False)
class Live:
    """What a run of this process still has in its hands; a run that was read from a folder has none of it.

    Attributes:
        setup: The model, the data and the attacks.
        gallery: Examples to show; None where they are not kept.
        chunks: What the attacks came to, chunk by chunk; None where it is stored in a folder.
        diagnoses: Made so far.
    """

    setup: Setup
    gallery: Gallery | None = None
    chunks: Chunks | None = None
    diagnoses: list[Diagnosis] = field(default_factory=list)


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
        if self.found is None:
            return self._unfinished
        further = self.measure_table()
        return super().__repr__() + ("" if further is None else f"\n\n{to_text(further)}")

    def _repr_html_(self) -> str:
        if self.found is None:
            return self._unfinished
        further = self.measure_table()
        return super()._repr_html_() + ("" if further is None else to_html(further))

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

    def measure_table(self) -> Table | None:
        """The table of the further measures; None where ``measures=`` asked for none."""
        return make_measure_table(self.results) if self.results.measures else None

    def frame(self) -> pandas.DataFrame:
        """One row for each attack, norm, radius and task, numbers only.

        Columns: attack, norm, eps, schedule, steps, task, metric, clean, attacked, delta, delta_low, delta_high,
        delta_mtl, delta_mtl_low, delta_mtl_high, delta_wor, delta_wor_low, delta_wor_high, per_image_worst,
        gradient_evaluations, forward_evaluations, seconds, perturbation, samples. Degradations are fractions, negative
        is worse; the ends of intervals are those of 95 %.

        With further measures there is a row for each of them too, and the columns measure (its name as asked for; None
        in the rows of the metrics that Δ uses), clean_low, clean_high, attacked_low and attacked_high.

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

    def report(self, path: str | Path) -> list[Path]:
        """Write a report: one page to send, or a folder with the page, tables, pictures and ``results.json``.

        The page has the verdict, curves, bars, samples, the full table and how to repeat the run. It is one file that
        asks for nothing, and opens without a network. Diagnoses of this run are told in it: those of
        :meth:`diagnose`, and those that lie in its folder. The page of a finished run that was read from its folder is
        the page of the call that made it, pictures of samples too. Results of a file have no such pictures.

        Args:
            path: A file whose name ends in ``.html`` or ``.htm``, which is replaced if it is there; or a folder, made
                if needed. A new folder is not named like another file, with an ending of two to five letters such as
                ``.pdf``; "runs/v1.2" is fine.

        Returns:
            The files.

        Raises:
            ValueError: A page is asked for where there is a folder; the name ends as that of another kind of file; or
                the folder holds files that are neither a run nor a report.
            ImportError: jinja2 is missing.
            OSError: The place cannot be written, or the disk is full; what was there before stays.
        """
        from art_mtl.evaluation.report.write import Background, check_report_path, write_page, write_report

        is_page = check_report_path(path, self.folder)
        background = Background(self._gallery(), self.experiment, self._diagnoses(), self.folder)
        return [write_page(path, self.results, background)] if is_page else write_report(path, self.results, background)

    def _gallery(self) -> ShowsSamples | None:
        if self.folder is None:
            return None if self._live is None else self._live.gallery
        from art_mtl.evaluation.report.stored_gallery import StoredGallery

        return StoredGallery.read(self.folder)

    def _diagnoses(self) -> tuple[Diagnosis, ...]:
        """Of attacks of this run: made by it, or kept in its folder."""
        from art_mtl.evaluation.diagnosis import Diagnosis

        found = [] if self._live is None else list(self._live.diagnoses)
        kept = [] if self.folder is None else sorted(self.folder.glob("diagnosis*.json"))
        found += [Diagnosis.from_json(path) for path in kept]
        own = {(attack.name, attack.norm, attack.eps) for attack in self.results.attacks}
        by_attack: dict[Key, Diagnosis] = {}
        for one in found:
            key = one.attack, one.norm, one.eps
            if one.victim == self.results.victim and key in own:
                by_attack.setdefault(key, one)
        return tuple(by_attack.values())

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

    def with_model(
        self, victim: Any = None, data: Any = None, *, bounds: tuple[Any, Any] | None = None, **changed: Any
    ) -> Run:
        """This run with its model, its data and its attacks at hand, as :meth:`diagnose` needs them: a folder does not
        hold them. Nothing that a folder names is executed, and attack objects are not in it.

        Args:
            victim: What was evaluated, as for :func:`art_mtl.evaluation.evaluate`. None loads the run's own victim, if
                it is one of :func:`art_mtl.evaluation.victim_names`.
            data: As for :func:`art_mtl.evaluation.evaluate`.
            bounds: Likewise.
            **changed: Options of the experiment that are other than in the run: ``device``, ``root``, ``checkpoint``,
                ``batch_size``, ``seed``.

        Raises:
            ValueError: The run was read from a file of results, the victim has to be given, or something does not fit.
        """
        return replace(self, _live=Live(self._set_up(victim, data, bounds, **changed)))

    def _set_up(self, victim: Any = None, data: Any = None, bounds: Any = None, **changed: Any) -> Setup:
        from art_mtl.evaluation.setup import set_up_again

        if self.experiment is None:
            raise _only_results()
        if isinstance(data, (str, Path)):  # a table of labels, which is an option of the experiment
            changed["data"], data = data, None
        experiment = replace(self.experiment, **changed)
        return set_up_again(experiment, victim, data, bounds=bounds, folder=self.folder)

    @property
    def planned(self) -> Sequence[AttackInfo]:
        """The attacks that are at hand, in order, also those that have not run yet.

        Raises:
            ValueError: As for :meth:`with_model`.
        """
        return self._setup.infos

    @property
    def _setup(self) -> Setup:
        return self._set_up() if self._live is None else self._live.setup

    def diagnose(
        self, key: Key, *, victim: Any = None, data: Any = None, limit: int | None = None, **settings: Any
    ) -> Diagnosis:
        """Check the very attack that ran for signs of failure: with the chunk, the protocol, the restarts, the
        preparation and the members that it ran with. See :func:`art_mtl.evaluation.diagnose`.

        Args:
            key: As for ``run[key]``.
            victim: What was evaluated, of a run that was read from a folder; see :meth:`with_model`.
            data: Likewise.
            limit: First samples of the data; None for all.
            **settings: ``queries``, ``tolerance``, ``surrogate``, ``command``, ``progress``.

        Raises:
            KeyError: As for ``run[key]``.
            ValueError: As for :meth:`with_model`.
        """
        from art_mtl.evaluation.diagnosis import diagnose
        from art_mtl.evaluation.workers import cpu_threads

        run = self if victim is None and data is None else self.with_model(victim, data)
        setup = run._setup
        experiment, subject = setup.experiment, setup.subject
        x, y = subject.source.read(slice(0, len(subject.source) if limit is None else limit))
        with cpu_threads(experiment.threads):
            found = diagnose(
                subject.estimator,
                setup.attack(key),
                x,
                y,
                batch_size=setup.batch_size,
                seed=experiment.seed,
                protocol=experiment.protocol,
                chunk=experiment.chunk,
                victim=subject.name,
                **settings,
            )
        if self._live is not None:
            self._live.diagnoses.insert(0, found)
        return found

    @classmethod
    def read(cls, path: str | Path) -> Run:
        """A run from its folder, at any time, or results from a file ``results.json``.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged, of another program or of a newer version.
        """
        from art_mtl.evaluation.store import holds_run

        path = Path(path)
        if not path.exists() and path.suffix != ".json":
            raise FileNotFoundError(f"There is no run at {path}. Expected its folder. Found no such folder.")
        if path.is_dir() and (holds_run(path) or not (path / "results.json").exists()):
            return cls._of_folder(path)
        return cls(Results.from_json(path / "results.json" if path.is_dir() else path))

    @classmethod
    def _of_folder(cls, folder: Path) -> Run:
        from art_mtl.evaluation.reading import read_chunks
        from art_mtl.evaluation.summary import Summary, heading_of

        read = read_chunks(folder)
        found = None
        if read.chunks:
            summary = Summary(read.scales, lambda number: read.read[number], read.measures)
            try:
                found = summary.results(heading_of(read.about), read.attacks)
            except ValueError as error:
                raise ValueError(f"{folder}: {error}") from error
        experiment = Experiment.from_yaml(folder / CONFIG) if (folder / CONFIG).exists() else None
        return cls(found, experiment, folder, read.done, read.total, int(read.about["samples"]))


def _comparable(run: Run | str | Path) -> str | Path | Chunks:
    """The folder of a run, or what is in memory of it."""
    found = run._kept if isinstance(run, Run) else run
    if found is None:
        raise _only_results()
    return found


def _only_results() -> ValueError:
    return ValueError("A run should come from `evaluate` or its folder. Found one read from a file of results.")
