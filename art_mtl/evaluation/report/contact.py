"""A contact sheet: some samples of a data set with all their labels, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from art_mtl.data import MultiTaskDataset, PaperData, TableDataset
from art_mtl.evaluation.report.drawn_samples import TaskStyle, View
from art_mtl.evaluation.report.escape import plot
from art_mtl.evaluation.report.pictures import show_image, show_labels
from art_mtl.evaluation.report.plots import new_figure
from art_mtl.tasks import Task
from art_mtl.tasks.colours import CLASS_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from art_mtl.evaluation.report.figure import Figure

Array = npt.NDArray[Any]

_PANEL = 2.6  # inches across
_MOST_IN_A_ROW = 10  # of a legend

__all__ = ["contact_figure", "samples_of", "styles_of"]


def samples_of(
    dataset: MultiTaskDataset | TableDataset,
    tasks: Sequence[Task],
    count: int,
    prefix: str = "",
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> list[View]:
    """Samples spread evenly over a data set, the first and the last among them.

    Args:
        dataset: With images. Samples that lack a label are left out.
        tasks: Whose labels to take.
        count: How many; fewer if there are not as many.
        prefix: Of their titles, which are their indices.
        value_range: Black and white of the images.
    """
    count = min(count, len(dataset))
    views = []
    low, high = value_range
    for i in [k * (len(dataset) - 1) // max(1, count - 1) for k in range(count)]:
        image, labels = dataset.sample(i)
        if any(labels[task.name] is None for task in tasks):
            continue
        shown = {task.name: task.shown(task.targets(np.asarray(labels[task.name])[None]))[0] for task in tasks}
        views.append(View((image - low) / (high - low), shown, f"{prefix}{i}"))
    return views


def styles_of(data: PaperData) -> list[TaskStyle]:
    """How to draw the tasks of a data set."""
    units = {"depth": "m", "disparity": "px"}
    return [TaskStyle(task, units.get(task.kind, ""), data.class_names.get(task.name, ())) for task in data.tasks()]


def contact_figure(samples: Sequence[View], tasks: Sequence[TaskStyle], title: str) -> Figure:
    """A row a sample: the image, then the labels of each dense task, each with what it holds written below.

    Depths and disparities have a colour scale of their own in every row, from the least valid value to the greatest.
    What is not labelled is white.

    Args:
        samples: At least one, all of the same size.
        tasks: What to draw; those with class names get a legend.
        title: Over the figure.

    Examples:
        >>> from art_mtl import tasks
        >>> view = View(np.zeros((3, 6, 8)), {"depth": np.ones((1, 6, 8))}, "0")
        >>> figure = contact_figure([view], [TaskStyle(tasks.depth("depth"), "m")], "one sample")
        >>> [ax.get_title() for ax in figure.axes]
        ['image', 'depth']
    """
    height, width = samples[0].image.shape[-2:]
    named = [task for task in tasks if task.class_names]
    lines = sum(1 + (len(task.class_names) - 1) // _MOST_IN_A_ROW for task in named)
    across = _PANEL * (1 + len(tasks)) + 0.3
    figure = new_figure(across, (_PANEL * height / width + 0.25) * len(samples) + 0.24 * lines + 0.8)
    grid = figure.subplots(len(samples), 1 + len(tasks), squeeze=False)
    for row, view in zip(grid, samples, strict=True):
        show_image(row[0], np.moveaxis(view.image, 0, -1), view.title)
        for ax, task in zip(row[1:], tasks, strict=True):
            show_labels(ax, task, view)
            label = view.labels[task.name]
            caption = task.task.caption(label, task.unit) or task.answer(label)
            ax.set_xlabel(plot(caption), fontsize=8, color="#444444", labelpad=3)
    for ax, heading in zip(grid[0], ["image", *map(_heading, tasks)], strict=True):
        ax.set_title(plot(heading), fontsize=10)
    _add_legends(figure, grid[-1], named)
    figure.suptitle(plot(title), fontsize=11)
    return figure


def _heading(style: TaskStyle) -> str:
    return f"{style.name} ({style.task.picture_key})" if style.task.picture_key else style.name


def _add_legends(figure: Figure, axes: Sequence[Axes], named: Sequence[TaskStyle]) -> None:
    from matplotlib.patches import Patch

    for task in named:
        patches = [
            Patch(facecolor=CLASS_COLOURS[i % len(CLASS_COLOURS)], edgecolor="#999999", linewidth=0.4, label=plot(name))
            for i, name in enumerate(task.class_names)
        ]
        legend = figure.legend(
            handles=patches,
            loc="outside lower center",
            ncols=min(_MOST_IN_A_ROW, len(patches)),
            frameon=False,
            fontsize=8,
            title=plot(task.name) if len(named) > 1 else None,
            title_fontsize=8,
        )
        legend.set_in_layout(True)
