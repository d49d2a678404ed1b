"""Samples of a run as pictures: truth, clean prediction, prediction under attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.columns import on_host, read_column
from art_mtl.data.sources import Inputs, Source
from art_mtl.evaluation.callbacks import Callback
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.report.pictures import TaskStyle, View, cards_figure, scene_figure
from art_mtl.evaluation.report.plots import method_colour
from art_mtl.evaluation.report.tables import describe_eps
from art_mtl.evaluation.results import AttackResult, Block, Results
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Task

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.zoo.victims import Victim

Labels = Sequence[Any] | np.ndarray
"""The shown label of each sample; see :class:`art_mtl.tasks.drawing.Drawn`."""

__all__ = ["Gallery", "Sample", "gallery_of", "most_degraded", "shown_attack"]


@dataclass(frozen=True)
class Sample:
    """One sample of a gallery.

    Attributes:
        place: In the data set, from 0.
        deltas: Its signed degradations under the attack, one a task; None where undefined.
        truth: The clean input with its labels.
        clean: With what the model makes of it.
        attacked: The adversarial input with what the model makes of it.
    """

    place: int
    deltas: tuple[float | None, ...]
    truth: View
    clean: View
    attacked: View


@dataclass
class Gallery(Callback):
    """Keeps a few adversarial inputs of every attack while a benchmark runs; give it as a callback.

    Those of the samples that an attack degrades least and most are kept. Inputs that are no pictures of one or three
    channels have no gallery: :attr:`has_pictures` is False, and reports go without.

    Args:
        estimator: The model.
        source: Clean inputs with their labels, the data that the attacks run on; see
            :func:`art_mtl.data.sources.as_source`.
        class_names: By task, names of its classes.
    """

    estimator: PyTorchMultiTaskEstimator
    source: Source
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: dict[tuple[str | None, float | None, str], Examples] = field(default_factory=dict)

    @property
    def has_pictures(self) -> bool:
        """Whether inputs are pictures."""
        shape = self.estimator.input_shape
        return len(shape) == 3 and shape[0] in (1, 3)

    def on_attack(self, result: AttackResult, examples: Examples) -> None:
        """Keep the examples of an attack."""
        self.kept[result.norm, result.eps, result.name] = examples

    def shows(self, block: Block) -> bool:
        """Whether there is anything to show of a norm and radius."""
        attack = shown_attack(block)
        return self.has_pictures and len(self.kept.get((attack.norm, attack.eps, attack.name), ())) > 0

    def samples(self, attack: AttackResult) -> list[Sample]:
        """The samples that are kept of an attack: those that it degrades least, then those that it degrades most."""
        examples = self.kept[attack.norm, attack.eps, attack.name]
        parts = [self.source.read(slice(place, place + 1)) for place in examples.samples]
        clean = np.concatenate([x for x, _ in parts])
        labels = MultiTaskLabels.concatenate([y for _, y in parts])
        truth: dict[str, Labels] = {task.name: _truth(task, labels) for task in self._tasks}
        rows = (
            self._row("truth", clean, truth),
            self._row("clean", clean, self._predict(clean)),
            self._row(
                attack.name, examples.inputs, self._predict(examples.inputs), clean, method_colour(attack.method)
            ),
        )
        deltas = [attack.sample_deltas[place] for place in examples.samples]
        return [Sample(*one) for one in zip(examples.samples, deltas, *rows, strict=True)]

    def figure(self, results: Results, block: Block) -> Figure:
        """Truth, clean prediction and prediction under the strongest attack: of dense tasks the most degraded sample,
        of others all samples that are kept.
        """
        samples = self.samples(shown_attack(block))
        title = describe_eps(block.norm, block.eps, results.clip_values)
        styles = self.styles(samples)
        rows = [[getattr(sample, name) for sample in samples] for name in ("truth", "clean", "attacked")]
        if not any(task.is_map for task in self._tasks):
            return cards_figure(rows, styles, f"{title}: the least degraded samples, then the most degraded")
        at = most_degraded(samples)
        return scene_figure(
            [row[at] for row in rows], styles, f"Sample {samples[at].place}, the most degraded, {title}"
        )

    def styles(self, samples: Sequence[Sample]) -> list[TaskStyle]:
        """Of the tasks that say how their labels and predictions are shown."""
        views = [view for sample in samples for view in (sample.truth, sample.clean, sample.attacked)]
        shown = [task for task in self._tasks if all(view.labels[task.name] is not None for view in views)]
        return [TaskStyle(task, task.metric.unit, self.class_names.get(task.name, ())) for task in shown]

    @property
    def _tasks(self) -> tuple[Task, ...]:
        return tuple(self.estimator.tasks)

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


def gallery_of(victim: Victim, limit: int | None = None, device: str = "auto", split: str = "test") -> Gallery:
    """A gallery for a benchmark of a victim.

    Args:
        victim: Whose inputs to show.
        limit: First samples of the benchmark; None for all.
        device: "auto", "cpu" or "gpu".
        split: "test" or "train" data.
    """
    from art_mtl.evaluation.grid import make_estimator

    return Gallery(make_estimator(victim, device), victim.source(split, limit), victim.class_names)


def shown_attack(block: Block) -> AttackResult:
    """Of a norm and radius the attack whose samples are shown: the strongest one, a reference where no other ran."""
    return block.strongest or block.attacks[0]


def most_degraded(samples: Sequence[Sample]) -> int:
    """The place of the first sample behind the least degraded ones; see
    :func:`art_mtl.evaluation.examples.extreme_samples`.
    """
    return (len(samples) + 1) // 2 % len(samples)


def _truth(task: Task, labels: MultiTaskLabels) -> Labels:
    """Labels as pictures and words show them."""
    return task.shown(task.targets(labels[task.name], labels.present(task.name)))
