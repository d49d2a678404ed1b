"""Pictures: inputs, perturbations and what the model makes of them, before and after an attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from art_mtl.evaluation.report.drawn_samples import DrawnSample, Maps, TaskStyle, View, Words
from art_mtl.evaluation.report.escape import plot
from art_mtl.evaluation.report.plots import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_mtl.evaluation.report.figure import Figure

Array = npt.NDArray[Any]

_LINE = 0.1
"""Height of a line of text, as a share of a small picture's."""
_CARDS_KEY = (
    "clean: truth → prediction where they differ; attacks: clean → attacked prediction; red: wrong, or off by > 0.5"
)
_RIGHT, _WRONG = "#1a7f37", "#c62828"
_PANEL = 2.3
"""Inches across."""

__all__ = ["cards_figure", "perturbation_gain", "scene_figure", "show_image", "show_labels"]


def scene_figure(sample: DrawnSample, attack: str, colour: str, title: str) -> Figure:
    """A row each for truth, clean prediction and prediction under attack: input, perturbation, and each dense task as
    a picture; other tasks as text.

    Args:
        sample: What is drawn.
        attack: Name of the attack.
        colour: Of its name.
        title: Over the figure.
    """
    height, width = sample.clean.shape[:2]
    columns = 2 + len(sample.maps)
    figure = new_figure(_PANEL * columns + 0.8, 3 * (_PANEL * height / width + 0.12) + 1.1)
    axes = figure.subplots(3, columns, squeeze=False)
    gain = perturbation_gain([sample])
    rows = (("truth", sample.clean), ("clean", sample.clean), (attack, sample.attacked))
    for place, (row, (name, image)) in enumerate(zip(axes, rows, strict=True)):
        show_image(row[0], image, name, colour if place == 2 else "#222222")
        if place == 2:
            _imshow(row[1], 0.5 + gain * sample.perturbation)
        else:
            row[1].set_axis_off()
        for ax, task in zip(row[2:], sample.maps, strict=True):
            _bare(ax)
            if task.pictures:
                ax.imshow(task.pictures[place].pixels, interpolation="nearest")
        if sample.words:
            said = (f"{task.task} {(task.truth, task.clean, task.attacked)[place]}" for task in sample.words)
            row[0].set_xlabel(plot(", ".join(said)), fontsize=8)
    headings = ["input", f"perturbation ×{gain:g}", *(task.task for task in sample.maps)]
    for ax, heading in zip(axes[0], headings, strict=True):
        ax.set_title(plot(heading), fontsize=10)
    _add_keys(figure, axes, sample.maps)
    figure.suptitle(plot(title), fontsize=11)
    return figure


def cards_figure(samples: Sequence[DrawnSample], attack: str, colour: str, title: str) -> Figure:
    """A column a sample, for tasks whose answers are a word: the input with "left 3 → 8" below.

    Args:
        samples: What is drawn.
        attack: Name of the attack.
        colour: Of its name.
        title: Over the figure.
    """
    gain = perturbation_gain(samples)
    lines = 2 * len(samples[0].words)
    figure = new_figure(1.55 * len(samples) + 0.3, 1.55 * 3 + _LINE * 1.5 * lines + 0.4)
    axes = figure.subplots(3, len(samples), squeeze=False)
    for (clean, attacked, delta), sample in zip(axes.T, samples, strict=True):
        show_image(clean, sample.clean)
        _write_answers(clean, sample.words, attacked=False)
        show_image(attacked, sample.attacked)
        _write_answers(attacked, sample.words, attacked=True)
        _imshow(delta, 0.5 + gain * sample.perturbation)
    headings = (("clean", "#222222"), (attack, colour), (f"perturbation ×{gain:g}", "#666666"))
    for ax, (heading, of_it) in zip(axes[:, 0], headings, strict=True):
        ax.set_ylabel(plot(heading), fontsize=9, color=of_it, fontweight="bold")
    figure.suptitle(f"{plot(title)}\n{_CARDS_KEY}", fontsize=10)
    return figure


def _write_answers(ax: Axes, tasks: Sequence[Words], attacked: bool) -> None:
    for i, task in enumerate(tasks):
        start, end = (task.clean, task.attacked) if attacked else (task.truth, task.clean)
        right = task.attacked_is_right if attacked else task.clean_is_right
        text = f"{task.task} {start}" if right and not attacked else f"{task.task} {start} → {end}"
        position = (0.5, -0.03 - _LINE * i)
        ax.annotate(
            plot(text),
            position,
            xycoords="axes fraction",
            ha="center",
            va="top",
            fontsize=8,
            color=_RIGHT if right else _WRONG,
        )


def perturbation_gain(samples: Sequence[DrawnSample]) -> float:
    """A power of two that makes the largest perturbation nearly fill the range."""
    largest = max((float(np.max(abs(sample.perturbation), initial=0)) for sample in samples), default=0.0)
    return float(2 ** max(0, math.floor(math.log2(0.5 / largest) + 1e-3))) if largest > 0 else 1.0


def show_image(ax: Axes, image: Array, title: str = "", colour: str = "#222222") -> None:
    """Draw an input ``(H, W, C)``, 8 bits or in [0, 1], with a title beside it."""
    _imshow(ax, image)
    ax.set_ylabel(plot(title), fontsize=9, color=colour, fontweight="bold")


def _imshow(ax: Axes, image: Array) -> None:
    picture = image / 255 if image.dtype == np.uint8 else np.clip(image.astype(float), 0, 1)
    ax.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, "gray", vmin=0, vmax=1, interpolation="nearest")
    _bare(ax)


def show_labels(ax: Axes, style: TaskStyle, view: View) -> None:
    """Draw the labels of a dense task; what is not labelled stays white.

    Args:
        ax: Where.
        style: The task.
        view: Whose labels.
    """
    _bare(ax)
    picture = style.task.picture(view.labels[style.name], image=view.image)
    if picture is not None:
        ax.imshow(picture, interpolation="nearest")


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _add_keys(figure: Figure, axes: Array, dense: Sequence[Maps]) -> None:
    """Colour bars under columns of values; a legend of the classes that occur, with the task's name from the second
    task that has classes.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch

    patches: list[Patch] = []
    for column, task in enumerate(dense, start=2):
        if task.limits is not None:
            scale = ScalarMappable(Normalize(*task.limits), "viridis")
            bar = figure.colorbar(scale, ax=axes[:, column], location="bottom", shrink=0.85, aspect=25, pad=0.02)
            bar.set_label(plot(task.unit), fontsize=8)
            bar.ax.tick_params(labelsize=7)
            bar.outline.set_visible(False)
        before = f"{task.task}: " if patches else ""
        patches += [Patch(color=colour, label=plot(before + name)) for name, colour in task.classes]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(7, len(patches)), frameon=False, fontsize=8
        )
