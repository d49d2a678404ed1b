"""Samples of a run as pictures: truth, clean prediction, prediction under attack."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from art_mtl.columns import on_host, read_column
from art_mtl.data.sources import Inputs, Source
from art_mtl.evaluation.callbacks import Callback
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.report.drawn_samples import DrawnSample, TaskStyle, View, draw_sample
from art_mtl.evaluation.report.pictures import cards_figure, scene_figure
from art_mtl.evaluation.report.plots import method_colour
from art_mtl.evaluation.report.tables import describe_eps
from art_mtl.evaluation.results import AttackResult, Block, Results
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.zoo.victims import Victim

Labels = Sequence[Any] | np.ndarray
"""The shown label of each sample; see :class:`art_mtl.tasks.drawing.Drawn`."""
_MAPS = 2
"""Samples at either end, at most, where tasks are drawn as maps."""
Attacked = tuple[str | None, float | None, str]
"""Norm, radius and name of an attack."""

__all__ = ["Gallery", "ShowsSamples", "attacked_by", "both_ends", "gallery_of", "most_degraded", "shown_attack"]


class ShowsSamples(ABC):
    """What has samples of some attacks to show."""

    @abstractmethod
    def shows(self, block: Block) -> bool:
        """Whether there is anything to show of a norm and radius."""

    @abstractmethod
    def drawn(self, attack: AttackResult) -> Sequence[DrawnSample]:
        """The samples that are kept of an attack: those that it degrades least, then those that it degrades most."""

    def figure(self, results: Results, block: Block) -> Figure:
        """Truth, clean prediction and prediction under the strongest attack: of dense tasks the most degraded sample,
        of others all samples that are kept.
        """
        attack = shown_attack(block)
        samples, name, colour = self.drawn(attack), attack.name, method_colour(attack.method)
        title = describe_eps(block.norm, block.eps, results.clip_values)
        if not samples[0].maps:
            return cards_figure(samples, name, colour, f"{title}: the least degraded samples, then the most degraded")
        sample = samples[most_degraded(samples)]
        return scene_figure(sample, name, colour, f"Sample {sample.place}, the most degraded, {title}")


@dataclass
class Gallery(Callback, ShowsSamples):
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
    kept: dict[Attacked, Examples] = field(default_factory=dict)

    @property
    def has_pictures(self) -> bool:
        """Whether inputs are pictures."""
        shape = self.estimator.input_shape
        return len(shape) == 3 and shape[0] in (1, 3)

    def on_attack(self, result: AttackResult, examples: Examples) -> None:
        """Keep the examples of an attack."""
        self.kept[attacked_by(result)] = examples

    def shows(self, block: Block) -> bool:
        return self.has_pictures and len(self.kept.get(attacked_by(shown_attack(block)), ())) > 0

    def drawn(self, attack: AttackResult) -> list[DrawnSample]:
        places, views = self.kept[attacked_by(attack)].samples, self.views(attack)
        names = [n for n in views[0][0].labels if all(view.labels[n] is not None for row in views for view in row)]
        styles = [
            TaskStyle(task, task.metric.unit, self.class_names.get(task.name, ()))
            for task in self.estimator.tasks
            if task.name in names
        ]
        return [
            draw_sample(place, attack.sample_deltas[place], row, styles)
            for place, row in zip(places, views, strict=True)
        ]

    def views(self, attack: AttackResult) -> list[tuple[View, View, View]]:
        """Of each sample the clean input with its labels and with what the model makes of it, and the adversarial
        input with what the model makes of it.
        """
        examples = self.kept[attacked_by(attack)]
        parts = [self.source.read(slice(place, place + 1)) for place in examples.samples]
        clean = np.concatenate([x for x, _ in parts])
        labels = MultiTaskLabels.concatenate([y for _, y in parts])
        truth: dict[str, Labels] = {
            task.name: task.shown(task.targets(labels[task.name], labels.present(task.name)))
            for task in self.estimator.tasks
        }
        ends = [self._ends(*pair) for pair in zip(clean, examples.inputs, strict=True)]
        rows = (clean, truth), (clean, self._predict(clean)), (examples.inputs, self._predict(examples.inputs))
        truths, before, after = (
            [
                View((one - low) / (high - low), {name: values[i] for name, values in shown.items()})
                for i, (one, (low, high)) in enumerate(zip(x, ends, strict=True))
            ]
            for x, shown in rows
        )
        return list(zip(truths, before, after, strict=True))

    def _ends(self, clean: Inputs, attacked: Inputs) -> tuple[Any, Any]:
        """Black and white: the least and the greatest value of an input, of unbounded ones those of this pair."""
        clip: tuple[Any, Any] | None = self.estimator.clip_values
        if clip is not None:
            return clip
        low = min(clean.min(), attacked.min())
        return low, max(clean.max(), attacked.max(), np.nextafter(low, np.inf))

    def _predict(self, x: Inputs) -> dict[str, Labels]:
        tasks = self.estimator.tasks
        decoded = [task.decode(raw) for task, raw in zip(tasks, self.estimator.raw_outputs(x), strict=True)]
        return {
            task.name: [None] * len(x) if labels is None else on_host(read_column(task.name, labels)[0])
            for task, labels in zip(tasks, decoded, strict=True)
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


def attacked_by(attack: AttackResult) -> Attacked:
    """How a gallery knows an attack."""
    return attack.norm, attack.eps, attack.name


def shown_attack(block: Block) -> AttackResult:
    """Of a norm and radius the attack whose samples are shown: the strongest one, a reference where no other ran."""
    return block.strongest or block.attacks[0]


def both_ends(samples: Sequence[DrawnSample]) -> tuple[Sequence[DrawnSample], Sequence[DrawnSample]]:
    """The least degraded samples that a page shows, and the most degraded ones: all, or fewer where they are maps."""
    border = most_degraded(samples) or len(samples)
    count = _MAPS if samples[0].maps else border
    return samples[:border][:count], samples[border:][:count]


def most_degraded(samples: Sequence[DrawnSample]) -> int:
    """The place of the first sample behind the least degraded ones; see
    :func:`art_mtl.evaluation.examples.extreme_samples`.
    """
    return (len(samples) + 1) // 2 % len(samples)
