"""A report on disk: results, tables, pictures and a page that ties them together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.columns import on_host, read_column
from art_mtl.core.methods import spec_of
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.callbacks import Callback
from art_mtl.evaluation.report import escape
from art_mtl.evaluation.report.pictures import TaskStyle, View, cards_figure, scene_figure
from art_mtl.evaluation.report.plots import degradation_figure, method_colour, tasks_figure, weighted, weights_figure
from art_mtl.evaluation.report.tables import (
    describe_eps,
    describe_protocol,
    fraction,
    heading,
    make_table,
    to_csv,
    to_latex,
    to_markdown,
)
from art_mtl.evaluation.results import AttackResult, Block, Results
from art_mtl.evaluation.store import DATABASE, OWN_FILES
from art_mtl.evaluation.units import PICTURED
from art_mtl.files import staged_folder
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.zoo.victims import Victim

_CARDS = 6
Labels = Sequence[Any] | np.ndarray
"""The shown label of each sample; see :class:`art_mtl.tasks.drawing.Drawn`."""
_OWN_FIGURES = re.compile(r"(degradation|(example|tasks|weights)-[\w.+-]+)\.png")

__all__ = ["Gallery", "check_folder", "gallery_of", "origin", "remove_stale", "show", "write_figures", "write_report"]


@dataclass
class Gallery(Callback):
    """Keeps a few adversarial inputs of every attack while a benchmark runs; give it as a callback.

    Args:
        estimator: The model.
        x: Clean inputs, ``(N, C, H, W)``.
        y: Their labels.
        class_names: By task, names of its classes.

    Raises:
        ValueError: Inputs are no pictures of one or three channels.
    """

    estimator: PyTorchMultiTaskEstimator
    x: Inputs
    y: MultiTaskLabels
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: dict[tuple[str | None, float | None, str], Inputs] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.shape[1] not in (1, 3):
            raise ValueError(f"A gallery should have inputs (N, 1 or 3, H, W). Found shape {self.x.shape}.")
        self.x, self.y = self.x[:PICTURED], self.y[:PICTURED]

    def attack(self, result: AttackResult, examples: Inputs) -> None:
        """Keep the first samples of an attack."""
        self.kept[result.norm, result.eps, result.name] = examples[:PICTURED].copy()

    def figure(self, results: Results, block: Block) -> Figure:
        """Truth, clean prediction, and predictions under two attacks: the strongest one of this package and the
        strongest other one.

        For dense tasks it shows the sample whose least degradation under the attack is the median of the samples kept.
        """
        attacks = _compared(block)
        title = describe_eps(block.norm, block.eps, results.clip_values)
        if any(task.is_map for task in self._tasks):
            index = _median_sample(attacks[0], len(self.x))
            rows = self._views(attacks, [index])
            return scene_figure([row[0] for row in rows], self._styles(rows), f"Sample {index}, {title}")
        rows = self._views(attacks, range(min(_CARDS, len(self.x))))
        return cards_figure(rows, self._styles(rows), title)

    def _styles(self, rows: Sequence[Sequence[View]]) -> list[TaskStyle]:
        """Of the tasks that say how their labels and predictions are shown."""
        shown = [t for t in self._tasks if all(any(view.labels[t.name] is not None for view in row) for row in rows)]
        return [TaskStyle(task, task.metric.unit, self.class_names.get(task.name, ())) for task in shown]

    @property
    def _tasks(self) -> tuple[Task, ...]:
        return tuple(self.estimator.tasks)

    def _views(self, attacks: Sequence[AttackResult], samples: Sequence[int]) -> list[list[View]]:
        """Rows truth, clean, one an attack; a view a sample."""
        index = list(samples)
        clean, labels = self.x[index], self.y[index]
        truth: dict[str, Labels] = {task.name: _truth(task, labels) for task in self._tasks}
        rows = [self._row("truth", clean, truth), self._row("clean", clean, self._predict(clean))]
        for attack in attacks:
            x_adv = self.kept[attack.norm, attack.eps, attack.name][index]
            rows.append(self._row(attack.name, x_adv, self._predict(x_adv), clean, method_colour(attack.method)))
        return rows

    def _row(
        self,
        title: str,
        x: Inputs,
        labels: Mapping[str, Labels],
        original: Inputs | None = None,
        colour: str = "#222222",
    ) -> list[View]:
        return [
            View(
                title,
                self._unit(x[i]),
                {name: values[i] for name, values in labels.items()},
                None if original is None else self._unit(original[i]),
                colour,
            )
            for i in range(len(x))
        ]

    def _unit(self, x: Inputs) -> Inputs:
        """Inputs in [0, 1]."""
        clip = self.estimator.clip_values
        low, high = (np.min(x), np.max(x)) if clip is None else clip
        scaled: Inputs = (x - low) / (high - low)
        return scaled

    def _predict(self, x: Inputs) -> dict[str, Labels]:
        decoded = [task.decode(raw) for task, raw in zip(self._tasks, self.estimator.raw_outputs(x), strict=True)]
        return {
            task.name: [None] * len(x) if labels is None else on_host(read_column(task.name, labels)[0])
            for task, labels in zip(self._tasks, decoded, strict=True)
        }


def gallery_of(victim: Victim, limit: int | None = None, device: str = "auto", split: str = "test") -> Gallery | None:
    """A gallery for a benchmark of a victim; None where its inputs are no pictures.

    Args:
        victim: Whose inputs to show.
        limit: First samples of the benchmark; None for all.
        device: "auto", "cpu" or "gpu".
        split: "test" or "train" data.
    """
    from art_mtl.evaluation.grid import make_estimator

    shape = victim.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return None
    x, y = victim.data(split, PICTURED if limit is None else min(limit, PICTURED))
    return Gallery(make_estimator(victim, device), x, y, victim.class_names)


def write_report(folder: str | Path, results: Results, gallery: Gallery | None = None) -> list[Path]:
    """Write a report, whole or not at all.

    ``results.json`` (everything, exact), ``table.csv`` (unscaled, with a column Δ a task), ``table.md``, ``table.tex``,
    ``figures/*.png`` and ``report.md``. Figures of an earlier report that this one lacks are removed.

    Args:
        folder: Where; made if needed.
        results: What was found.
        gallery: Adversarial inputs to show; None for no example pictures.

    Returns:
        The files, in the folder.
    """
    folder = Path(folder)
    table = make_table(results)
    with staged_folder(folder) as stage:
        figures = write_figures(stage / "figures", results, gallery)
        texts = {
            "table.csv": to_csv(make_table(results, deltas=True)),
            "table.md": to_markdown(table) + "\n",
            "table.tex": to_latex(table),
            "report.md": _page(results, to_markdown(table), figures),
            "results.json": results.to_json_text(),
        }
        for name, text in texts.items():
            (stage / name).write_text(text, encoding="utf-8", newline="\n")
        written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    remove_stale(folder / "figures", {path.name for path in written})
    return [folder / path for path in written]


def check_folder(folder: str | Path, force: bool = False) -> None:
    """Raise unless a run and its report may be written here: nothing there, an empty folder, an earlier run or report,
    or ``force``.

    Raises:
        ValueError: Something else is there.
    """
    folder = Path(folder)
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise ValueError(f"Parameter `out` should be a folder. Found a file at {str(there)!r}.")
    if force or not folder.exists() or _is_report(folder) or (folder / DATABASE).exists():
        return
    if all(path.name in OWN_FILES for path in folder.iterdir()):
        return
    raise ValueError(
        "Parameter `out` should be a new or empty folder, or hold an earlier run or report. Found other files in "
        f"{str(folder)!r}; `force=True` writes there all the same."
    )


def _is_report(folder: Path) -> bool:
    results = folder / "results.json"
    if not results.is_file():
        return False
    with results.open(encoding="utf-8", errors="replace") as file:
        return f'"format": "{Results.layout.format}"' in file.read(200)


def write_figures(folder: Path, results: Results, gallery: Gallery | None) -> list[tuple[str, str]]:
    """Save every figure of a report in a new folder; names and captions, in the order of the page."""
    folder.mkdir(parents=True)
    saved = []
    for name, caption, figure in _figures(results, gallery):
        figure.savefig(folder / name, metadata={"Software": "art-mtl"})
        saved.append((name, caption))
    return saved


def _figures(results: Results, gallery: Gallery | None) -> Iterator[tuple[str, str, Figure]]:
    if any(attack.norm is not None and attack.eps is not None for attack in results.attacks):
        caption = (
            "Degradation against ε, with 95 % intervals: the lower, the stronger the attack. Thick: methods of this "
            "package. Dotted: the single-task reference."
        )
        yield "degradation.png", caption, degradation_figure(results)
    for block in results.blocks():
        where = describe_eps(block.norm, block.eps, results.clip_values)
        if any(not spec_of(a.method).is_reference and a.delta_wor is not None for a in block.attacks):
            yield f"tasks-{_slug(block)}.png", f"{where}: degradation of every task.", tasks_figure(results, block)
        if gallery is not None:
            caption = (
                f"{where}: input, perturbation and predictions under the strongest attack of this package and the "
            )
            caption += "strongest other one."
            yield f"example-{_slug(block)}.png", caption, gallery.figure(results, block)
        if weighted(block):
            yield (
                f"weights-{_slug(block)}.png",
                f"{where}: mean task weights over the steps.",
                weights_figure(results, block),
            )


def _compared(block: Block) -> list[AttackResult]:
    """The strongest method of this package and the strongest other attack; the two strongest where there is no such
    pair. References come last.
    """
    ranked = sorted(block.attacks, key=lambda attack: np.inf if attack.delta_wor is None else attack.delta_wor)
    ranked.sort(key=lambda attack: spec_of(attack.method).is_reference)
    ours = [attack for attack in ranked if spec_of(attack.method).is_ours]
    others = [attack for attack in ranked if attack not in ours]
    pair = [*ours[:1], *others[:1]]
    return pair if len(pair) == 2 else ranked[:2]


def _median_sample(attack: AttackResult, count: int) -> int:
    least = [max((d for d in row if d is not None), default=np.inf) for row in attack.sample_deltas[:count]]
    return int(np.argsort(least, kind="stable")[(len(least) - 1) // 2])


def _truth(task: Task, labels: MultiTaskLabels) -> Labels:
    """Labels as pictures and words show them."""
    return task.shown(task.targets(labels[task.name], labels.present(task.name)))


def _slug(block: Block) -> str:
    eps = "eps" if block.eps is None else fraction(block.eps)
    return re.sub(r"[^\w.+-]", "_", f"{block.norm or 'norm'}-{eps}")


def remove_stale(figures: Path, written: set[str]) -> None:
    """Remove figures of an earlier report that are not among those written now."""
    for path in figures.glob("*.png"):
        if path.name not in written and _OWN_FIGURES.fullmatch(path.name):
            path.unlink()


def _page(results: Results, table: str, figures: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"# {escape.markdown(results.victim)}: degradation by multi-task attacks",
        "",
        *origin(results),
        table,
        "",
        *_legend(results),
        "",
    ]
    lines += show(figures)
    lines += [
        "Files: [results.json](results.json), [table.csv](table.csv), [table.md](table.md), [table.tex](table.tex).",
        "",
    ]
    return "\n".join(lines)


def origin(results: Results) -> list[str]:
    """Lines of a page that say by which command, when and where results were made."""
    where = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in where.packages.items())
    command = escape.plain(results.command or "")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    shown = [f"{fence}sh", command, fence, ""] if command else []
    made = f"{results.samples} samples; {where.date}; device {where.device}; seed {where.seed}."
    return [*shown, escape.markdown(made), escape.markdown(f"Versions: {versions}."), ""]


def show(figures: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of a page that show figures of given names and captions."""
    shown = [(name, escape.markdown(caption)) for name, caption in figures]
    return [line for name, caption in shown for line in (f"![{caption}](figures/{name})", "", caption, "")]


def _legend(results: Results) -> list[str]:
    metrics = "; ".join(heading(task) for task in results.tasks)
    items = [
        f"Metrics over the whole data set: {metrics}. {describe_protocol(results.protocol)}",
        "Δ of a task is its relative degradation, −100 % is ruin. Δ_MTL is the mean over the tasks, Δ_Wor the least "
        "degraded task, with its 95 % interval. The strongest Δ_Wor of a block is bold; below the table "
        "stands whether it is significantly stronger than the strongest attack of another role.",
        "Roles: a baseline is published elsewhere; ours is a method of this package; an ensemble runs several attacks "
        "and keeps the strongest result for each sample; a reference attacks one task only and is never bold; of a "
        "foreign attack nothing is known.",
        "per-image worst-task Δ: the Δ of each sample's own least degraded task, averaged over the samples (0 where "
        "the attack improves it). Samples that were wrong before the attack have nothing to lose in that task.",
        "single-task reference: each task degraded by the attack on it alone. The smallest of these degradations is an "
        "empirical limit on Δ_Wor.",
        "gradient evaluations: per sample, as counted. Attacks are comparable where these numbers are.",
        'A row "+ linear step" takes steps that fall to 0 in place of the method\'s constant ones.',
    ]
    return [f"- {escape.markdown(item)}" for item in items]
