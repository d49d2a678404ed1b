"""Figures: what is drawn, in which colour, without touching anything global."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from art_mtl import tasks
from art_mtl.core.methods import registry, spec_of
from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult
from art_mtl.evaluation.report.pictures import TaskStyle, View, answer, cards_figure, scene_figure, seen_classes
from art_mtl.evaluation.report.plots import (
    _OTHER_COLOURS,
    degradation_figure,
    method_colour,
    tasks_figure,
    weights_figure,
)
from art_mtl.tasks.colours import CLASS_COLOURS, value_picture

TASKS = tuple(TaskResult(n, "depth", "aErr", False, 1.0, "", 1.0, (1.0,)) for n in ("near", "far"))


def attack(name: str, eps: float, deltas: tuple[float, float], norm: str = "linf", weights=None) -> AttackResult:
    method, _, schedule = name.partition(" + ")
    return AttackResult(
        name, method, norm, eps, "linear" if schedule else None, 3, deltas, deltas, sum(deltas) / 2, max(deltas), -0.1,
        (deltas,), (deltas,), eps, 1.0, 1, (None, None), None, None, 3, 3, weights=weights,
    )  # fmt: skip


@pytest.fixture
def results() -> Results:
    steps = ((0.5, 0.5), (0.75, 0.25), (1.0, 0.0))
    attacks = []
    for eps, depth in ((0.1, 1.0), (0.05, 0.5)):  # not in order
        attacks += [
            attack("single:near", eps, (-0.9 * depth, -0.1)),
            attack("single:far", eps, (-0.1, -0.8 * depth)),
            attack("equal", eps, (-0.6 * depth, -0.3 * depth)),
            attack("equal + linear step", eps, (-0.6 * depth, -0.4 * depth)),
            attack("minmax", eps, (-0.5 * depth, -0.4 * depth), weights=steps),
            attack("Mine", eps, (-0.5 * depth, -0.45 * depth)),
            attack("worst-task", eps, (-0.6 * depth, -0.55 * depth), weights=steps[::-1]),
            attack("worst-image", eps, (-0.6 * depth, -0.5 * depth), weights=steps),
        ]
    attacks += [attack("equal", 1.0, (-0.5, -0.4), "l2"), attack("worst-task", 1.0, (-0.6, -0.55), "l2")]
    return Results("v", TASKS, tuple(attacks), (-1.0, 1.0), Environment({}, "cpu", "now", 0))


def test_degradation_curves(results: Results) -> None:
    figure = degradation_figure(results)
    wor, mtl, bars, _ = figure.axes
    lines = {line.get_label(): line for line in wor.lines}
    assert set(lines) == {
        "equal",
        "equal + linear step",
        "minmax",
        "Mine",
        "worst-task",
        "worst-image",
        "single-task reference",
    }
    np.testing.assert_allclose(lines["worst-task"].get_xdata(), [0.05, 0.1])
    np.testing.assert_allclose(lines["worst-task"].get_ydata(), [-27.5, -55])
    np.testing.assert_allclose(lines["single-task reference"].get_ydata(), [-40, -80])
    np.testing.assert_allclose({line.get_label(): line for line in mtl.lines}["equal"].get_ydata(), [-22.5, -45])
    assert lines["worst-task"].get_color() == spec_of("worst-task").colour
    assert lines["worst-task"].get_linewidth() == max(line.get_linewidth() for line in wor.lines)
    assert lines["equal"].get_color() == lines["equal + linear step"].get_color()
    assert lines["equal"].get_linestyle() != lines["equal + linear step"].get_linestyle()
    assert [label.get_text() for label in wor.get_xticklabels()] == ["0.05", "0.1"]
    assert sorted(round(bar.get_width(), 6) for bar in bars.patches) == [-55.0, -40.0]  # one radius: bars
    assert [label.get_text() for label in bars.get_yticklabels()] == ["equal", "worst-task"]


def test_intervals_are_drawn_where_there_are_some(results: Results) -> None:
    """From end to end: upright beside the points of a curve, lying on a bar, none where there is none."""

    def with_interval(one: AttackResult) -> AttackResult:
        known = one.name == "worst-task"
        return replace(one, delta_wor_interval=(one.delta_wor - 0.2, one.delta_wor + 0.05) if known else None)

    found = replace(results, attacks=tuple(map(with_interval, results.attacks)))
    curves, _, bars, _ = degradation_figure(found).axes
    drawn = [np.array(line) for lines in curves.collections for line in lines.get_segments()]
    ends = sorted((line[0, 0].round(1), *line[:, 1]) for line in drawn if np.ptp(line[:, 1]) > 0)
    np.testing.assert_allclose(ends, [(0.1, -75, -50), (0.1, -47.5, -22.5)])
    assert all(np.ptp(line[:, 0]) == 0 for line in drawn)
    lying = [np.array(line) for lines in bars.collections for line in lines.get_segments()]
    np.testing.assert_allclose(sorted(np.ptp(line[:, 0]) for line in lying), [0, 25])
    assert bars.get_xlim()[0] < -75, "the whole interval is in sight"


def test_figures_show_themselves_in_notebooks(results: Results) -> None:
    for figure in (degradation_figure(results), weights_figure(results, next(results.blocks()))):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_method_colours_are_distinct_and_stable() -> None:
    colours = [spec.colour for spec in registry().values() if spec.colour is not None]
    assert len(set(colours)) == len(colours) >= 13 and not {*colours} & {*_OTHER_COLOURS}
    others = ["A", "B"]
    assert method_colour("A", others) != method_colour("B", others)
    assert method_colour("equal", others) == spec_of("equal").colour


def test_weight_curves(results: Results) -> None:
    figure = weights_figure(results, next(results.blocks()))
    assert [ax.get_title() for ax in figure.axes] == ["minmax", "worst-task", "worst-image"]
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["near"], [0.5, 0.75, 1.0])
    np.testing.assert_allclose(lines["far"], [0.5, 0.25, 0.0])


def test_nothing_to_draw(results: Results) -> None:
    with pytest.raises(ValueError, match="attack that tells them"):
        weights_figure(results, list(results.blocks())[2])
    with pytest.raises(ValueError, match="norm and a radius"):
        degradation_figure(Results("v", TASKS, (), None, results.environment))


def test_nothing_global_changes(results: Results) -> None:
    before, backend = dict(mpl.rcParams), mpl.rcParams._get_backend_or_none()
    degradation_figure(results).canvas.draw()
    weights_figure(results, next(results.blocks())).canvas.draw()
    assert dict(mpl.rcParams) == before
    assert mpl.rcParams._get_backend_or_none() == backend


def test_class_colours_are_far_apart() -> None:
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(colour) for colour in CLASS_COLOURS])
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 9 * np.eye(len(colours))
    assert len(colours) == 19 and distance.min() > 0.18


@pytest.fixture
def scene() -> tuple[list[View], list[TaskStyle]]:
    rng = np.random.default_rng(0)
    image = rng.random((3, 6, 8))
    normals = rng.normal(size=(3, 6, 8))
    labels = {
        "seg": np.array([[0, 1, -1, 2] * 2] * 6),
        "depth": np.where(np.eye(6, 8) > 0, np.nan, rng.uniform(2, 5, (6, 8)))[None],
        "normals": normals / np.linalg.norm(normals, axis=0),
        "kind": np.array(1),
    }
    attacked = np.clip(image + rng.choice([-1, 1], image.shape) * 4 / 255, 0, 1)
    views = [View("truth", image, labels), View("clean", image, labels), View("worst-task", attacked, labels, image)]
    styles = [
        TaskStyle(tasks.segmentation("seg", 3), class_names=("bed", "books", "chair")),
        TaskStyle(tasks.depth("depth"), "m"),
        TaskStyle(tasks.surface_normals("normals")),
        TaskStyle(tasks.classification("kind", 3)),
    ]
    return views, styles


def test_scene(scene) -> None:
    views, styles = scene
    figure = scene_figure(views, styles, "title")
    figure.canvas.draw()
    grid = np.array(figure.axes[:15]).reshape(3, 5)
    assert [ax.get_title() for ax in grid[0]] == ["input", "perturbation ×16", "seg", "depth", "normals"]
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["truth", "clean", "worst-task"]
    assert grid[2, 0].get_xlabel() == "kind 1"
    shown = np.asarray(grid[2, 1].images[0].get_array())
    expected = np.moveaxis(0.5 + 16 * (views[2].image - views[0].image), 0, -1)
    np.testing.assert_allclose(shown, expected)
    depth = views[0].labels["depth"]
    limits = np.nanmin(depth), np.nanmax(depth)
    for ax in grid[:, 3]:
        np.testing.assert_array_equal(ax.images[0].get_array(), value_picture(depth[0], *limits))
    assert figure.axes[15].get_xlim() == limits
    normals = np.asarray(grid[1, 4].images[0].get_array())
    np.testing.assert_allclose(normals, (np.moveaxis(views[0].labels["normals"], 0, -1) + 1) / 2)
    np.testing.assert_array_equal(np.asarray(grid[0, 2].images[0].get_array())[:, 2], 1.0)  # ignored: white
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bed", "books", "chair"]
    assert figure.axes[15].get_xlabel() == "m"


def test_classes_of_two_tasks_share_a_legend() -> None:
    classes = {"seg": np.array([[0, 1]]), "parts": np.array([[1, 1]])}
    views = [View(title, np.full((3, 1, 2), 0.5), classes) for title in ("truth", "clean")]
    styles = [
        TaskStyle(tasks.segmentation("seg", 2), "", ("road", "sky")),
        TaskStyle(tasks.segmentation("parts", 2), "", ("", "head")),
    ]
    (legend,) = scene_figure(views, styles, "title").legends
    assert [text.get_text() for text in legend.get_texts()] == ["road", "sky", "parts: head"]


def test_cards() -> None:
    def row(title: str, digits: list[int], totals: list[float], attacked: bool = False) -> list[View]:
        clean = np.full((1, 4, 4), 0.5)
        image = clean + 0.1 if attacked else clean
        pairs = zip(digits, totals, strict=True)
        return [
            View(title, image, {"left": np.array(d), "sum": np.array([t])}, clean if attacked else None)
            for d, t in pairs
        ]

    styles = [TaskStyle(tasks.classification("left", 10)), TaskStyle(tasks.regression("sum"))]
    rows = [
        row("truth", [3, 4], [5.0, 6.0]),
        row("clean", [3, 9], [5.2, 6.1]),
        row("worst-task", [8, 4], [5.3, 9.0], True),
    ]
    figure = cards_figure(rows, styles, "title")
    figure.canvas.draw()
    texts = [[(t.get_text(), t.get_color()) for t in ax.texts] for ax in figure.axes]
    green, red = "#1a7f37", "#c62828"
    assert texts[:4] == [
        [("left 3", green), ("sum 5.0", green)],
        [("left 4 → 9", red), ("sum 6.0", green)],
        [("left 3 → 8", red), ("sum 5.2 → 5.3", green)],
        [("left 9 → 4", green), ("sum 6.1 → 9.0", red)],
    ]
    assert figure.axes[4].get_ylabel() == "perturbation ×4"


def test_answers() -> None:
    pets = tasks.classification("a", 2)
    assert answer(TaskStyle(pets, class_names=("cat", "dog")), np.array(1)) == "dog"
    assert answer(TaskStyle(pets), np.array(-1)) == "?"
    assert answer(TaskStyle(tasks.regression("a")), np.array([np.nan])) == "?"
    assert answer(TaskStyle(tasks.multilabel("a", 3)), np.array([1.0, 0.0, 1.0])) == "{0, 2}"


def test_tasks_figure_shows_every_task_of_every_attack_on_all(results):
    block = list(results.blocks())[1]
    figure = tasks_figure(results, block)
    (ax,) = figure.axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[-1].startswith("worst-task") and not any(name.startswith("single") for name in names)
    degradations = sorted(round(bar.get_width(), 6) for bar in ax.patches)
    shown = [a for a in block.attacks if not a.method.startswith("single:")]
    assert degradations == sorted(round(100 * delta, 6) for a in shown for delta in a.deltas)
    few = tasks_figure(results, block, names=["equal", "worst-task"]).axes[0]
    assert len(few.patches) == 2 * len(TASKS)
    with pytest.raises(ValueError, match="attack on all"):
        tasks_figure(results, block, names=["single:near"])
    assert "undefined" not in [text.get_text() for text in ax.texts]
    lost = replace(shown[0], deltas=(None, *shown[0].deltas[1:]))
    texts = tasks_figure(results, replace(block, attacks=(lost,))).axes[0].texts
    assert [text.get_text() for text in texts].count("undefined") == 1


def test_boxes_are_drawn_over_the_view_that_they_belong_to() -> None:
    style = TaskStyle(tasks.detection("things", 3), class_names=("bed", "chair", "sofa"))
    label = {"boxes": np.array([[2.0, 2.0, 10.0, 8.0]]), "labels": np.array([2])}
    views = [View(title, np.full((1, 12, 16), level), {"things": label}) for title, level in (("a", 0.25), ("b", 0.75))]
    assert [name for name, _ in seen_classes(style, views)] == ["sofa"]
    figure = scene_figure(views, [style], "title")
    shown = [
        np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images and ax.images[0].get_array().ndim == 3
    ]
    boxes = [picture for picture in shown if picture.shape == (192, 256, 3)]
    assert [picture[0, 0].tolist() for picture in boxes] == [[0.25] * 3, [0.75] * 3]
    assert (boxes[0][32, 32] == boxes[1][32, 32]).all() and not (boxes[0][32, 32] == 0.25).all()
