"""Pictures: inputs, perturbations and what the model makes of them, before and after an attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from art_mtl.evaluation.report.escape import plot
from art_mtl.evaluation.report.plots import new_figure
from art_mtl.tasks import Task
from art_mtl.tasks.colours import CLASS_COLOURS

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

__all__ = [
    "CLASS_COLOURS",
    "TaskStyle",
    "View",
    "answer",
    "cards_figure",
    "perturbation_gain",
    "scene_figure",
    "seen_classes",
    "shared_limits",
    "show_image",
    "show_labels",
]


@dataclass(frozen=True)
class TaskStyle:
    """How to draw a task's labels.

    Attributes:
        task: The task, which knows how its labels look.
        unit: Of its values, for the colour bar.
        class_names: Of its classes, if known.
    """

    task: Task
    unit: str = ""
    class_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.task.name

    @property
    def is_dense(self) -> bool:
        """Whether labels are pictures."""
        return self.task.is_map


@dataclass(frozen=True)
class View:
    """One input and what is true or predicted of it.

    Attributes:
        title: What this is.
        image: ``(C, H, W)`` in [0, 1], C of 1 or 3.
        labels: By task its shown label; see :class:`art_mtl.tasks.drawing.Drawn`.
        original: The clean image, of which this one is a perturbation; None for the clean one itself.
        colour: Of the title.
    """

    title: str
    image: Array
    labels: Mapping[str, Array]
    original: Array | None = None
    colour: str = "#222222"


def scene_figure(views: Sequence[View], tasks: Sequence[TaskStyle], title: str) -> Figure:
    """A row a view: input, perturbation, and each dense task as a picture; other tasks as text.

    Values of all views share one colour scale, which holds the attacked ones too.

    Args:
        views: Truth, clean prediction, predictions under attack.
        tasks: What to draw.
        title: Over the figure.
    """
    dense = [task for task in tasks if task.is_dense]
    plain = [task for task in tasks if not task.is_dense]
    height, width = views[0].image.shape[-2:]
    columns = 2 + len(dense)
    panel = 2.3
    figure = new_figure(panel * columns + 0.8, (panel * height / width + 0.12) * len(views) + 1.1)
    axes = figure.subplots(len(views), columns, squeeze=False)
    gain = perturbation_gain(views)
    for row, view in zip(axes, views, strict=True):
        show_image(row[0], view)
        _show_perturbation(row[1], view, gain)
        for ax, task in zip(row[2:], dense, strict=True):
            show_labels(ax, task, view, shared_limits(task, views))
        if plain:
            row[0].set_xlabel(plot(_sentence(plain, view)), fontsize=8)
    for ax, heading in zip(axes[0], ["input", f"perturbation ×{gain:g}", *(task.name for task in dense)], strict=True):
        ax.set_title(plot(heading), fontsize=10)
    _add_keys(figure, axes, dense, views)
    figure.suptitle(plot(title), fontsize=11)
    return figure


def cards_figure(rows: Sequence[Sequence[View]], tasks: Sequence[TaskStyle], title: str) -> Figure:
    """A column a sample, for tasks whose answers are a word: the input with "left 3 → 8" below.

    Args:
        rows: The first holds the truths, the second the clean predictions, each further one an attack's; all of the
            same samples.
        tasks: What to write.
        title: Over the figure.
    """
    truths, shown = rows[0], rows[1:]
    gain = perturbation_gain([view for row in shown for view in row])
    pictures: list[tuple[str, Sequence[View], bool]] = []
    for row in shown:
        pictures.append((row[0].title, row, False))
        if row[0].original is not None:
            pictures.append((f"perturbation ×{gain:g}", row, True))
    lines = sum(len(tasks) for _, _, only_delta in pictures if not only_delta)
    figure = new_figure(1.55 * len(truths) + 0.3, 1.55 * len(pictures) + _LINE * 1.5 * lines + 0.4)
    axes = figure.subplots(len(pictures), len(truths), squeeze=False)
    for line, (heading, row, only_delta) in zip(axes, pictures, strict=True):
        for ax, view, clean, truth in zip(line, row, shown[0], truths, strict=True):
            if only_delta:
                _show_perturbation(ax, view, gain)
            else:
                show_image(ax, view)
                _write_answers(ax, tasks, view, clean, truth)
            ax.set_ylabel("")
        line[0].set_ylabel(
            plot(heading), fontsize=9, color="#666666" if only_delta else row[0].colour, fontweight="bold"
        )
    figure.suptitle(f"{plot(title)}\n{_CARDS_KEY}", fontsize=10)
    return figure


def answer(style: TaskStyle, label: Any) -> str:
    """A label as a word; "?" where it is missing.

    Examples:
        >>> from art_mtl import tasks
        >>> answer(TaskStyle(tasks.regression("sum")), np.array([7.25]))
        '7.2'
    """
    return style.task.answer(label, style.class_names)


def _write_answers(ax: Axes, tasks: Sequence[TaskStyle], view: View, clean: View, truth: View) -> None:
    for i, task in enumerate(tasks):
        true, before, now = (answer(task, shown.labels[task.name]) for shown in (truth, clean, view))
        start = true if view is clean else before
        right = task.task.agrees(view.labels[task.name], truth.labels[task.name])
        text = f"{task.name} {start}" if view is clean and right else f"{task.name} {start} → {now}"
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


def _sentence(tasks: Sequence[TaskStyle], view: View) -> str:
    return ", ".join(f"{task.name} {answer(task, view.labels[task.name])}" for task in tasks)


def perturbation_gain(views: Sequence[View]) -> float:
    """A power of two that makes the largest perturbation nearly fill the range."""
    largest = max(
        (float(np.max(abs(view.image - view.original))) for view in views if view.original is not None), default=0
    )
    return float(2 ** max(0, math.floor(math.log2(0.5 / largest) + 1e-6))) if largest > 0 else 1.0


def show_image(ax: Axes, view: View) -> None:
    """Draw the input, with the view's title beside it."""
    _imshow(ax, view.image)
    ax.set_ylabel(plot(view.title), fontsize=9, color=view.colour, fontweight="bold")


def _show_perturbation(ax: Axes, view: View, gain: float) -> None:
    if view.original is None:
        ax.set_axis_off()
        return
    _imshow(ax, 0.5 + gain * (view.image - view.original))


def _imshow(ax: Axes, image: Array) -> None:
    picture = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    if picture.shape[-1] == 1:
        ax.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        ax.imshow(picture[..., :3], interpolation="nearest")
    _bare(ax)


def shared_limits(style: TaskStyle, views: Sequence[View]) -> tuple[float, float] | None:
    """The least and the greatest value of a task in all views; None where colours are no scale of values."""
    limits = [found for view in views if (found := style.task.limits(view.labels[style.name])) is not None]
    return (min(low for low, _ in limits), max(high for _, high in limits)) if limits else None


def seen_classes(style: TaskStyle, views: Sequence[View]) -> list[tuple[str, str]]:
    """Name and colour of each class that occurs in one of the views, where classes have names."""
    seen = {int(c) for view in views for c in style.task.classes_in(view.labels[style.name])}
    named = sorted(c for c in seen if 0 <= c < len(style.class_names))
    return [(style.class_names[c], CLASS_COLOURS[c % len(CLASS_COLOURS)]) for c in named]


def show_labels(ax: Axes, style: TaskStyle, view: View, limits: tuple[float, float] | None = None) -> None:
    """Draw the labels of a dense task; what is not labelled stays white.

    Args:
        ax: Where.
        style: The task.
        view: Whose labels.
        limits: Values at the ends of the colour scale; None for those of the labels themselves.
    """
    _bare(ax)
    picture = style.task.picture(view.labels[style.name], limits, view.image)
    if picture is not None:
        ax.imshow(picture, interpolation="nearest")


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _add_keys(figure: Figure, axes: Array, dense: Sequence[TaskStyle], views: Sequence[View]) -> None:
    """Colour bars under columns of values; a legend of the classes that occur, with the task's name from the second
    task that has classes.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Patch

    patches: list[Patch] = []
    for column, task in enumerate(dense, start=2):
        limits = shared_limits(task, views)
        if limits is not None:
            scale = ScalarMappable(Normalize(*limits), "viridis")
            bar = figure.colorbar(scale, ax=axes[:, column], location="bottom", shrink=0.85, aspect=25, pad=0.02)
            bar.set_label(plot(task.unit), fontsize=8)
            bar.ax.tick_params(labelsize=7)
            bar.outline.set_visible(False)
        if task.class_names:
            before = f"{task.name}: " if patches else ""
            patches += [Patch(color=colour, label=plot(before + name)) for name, colour in seen_classes(task, views)]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(7, len(patches)), frameon=False, fontsize=8
        )
