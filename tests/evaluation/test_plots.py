"""Figures: what is drawn, in which colour, without touching anything global."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from art_mtl import tasks
from art_mtl.core.methods import registry, spec_of
from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult
from art_mtl.evaluation.report.drawn_samples import DrawnSample, TaskStyle, View, draw_sample
from art_mtl.evaluation.report.pictures import cards_figure, scene_figure
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
def scene() -> tuple[tuple[View, View, View], DrawnSample]:
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
    views = View(image, labels), View(image, labels), View(attacked, labels)
    styles = [
        TaskStyle(tasks.segmentation("seg", 3), class_names=("bed", "books", "chair")),
        TaskStyle(tasks.depth("depth"), "m"),
        TaskStyle(tasks.surface_normals("normals")),
        TaskStyle(tasks.classification("kind", 3)),
    ]
    return views, draw_sample(0, [None] * 4, views, styles)


def test_scene(scene) -> None:
    views, sample = scene
    figure = scene_figure(sample, "worst-task", "#222222", "title")
    figure.canvas.draw()
    grid = np.array(figure.axes[:15]).reshape(3, 5)
    assert [ax.get_title() for ax in grid[0]] == ["input", "perturbation ×16", "seg", "depth", "normals"]
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["truth", "clean", "worst-task"]
    assert grid[2, 0].get_xlabel() == "kind 1"
    shown = np.asarray(grid[2, 1].images[0].get_array())
    expected = np.moveaxis(0.5 + 16 * (views[2].image - views[0].image), 0, -1)
    np.testing.assert_allclose(shown, expected, atol=1e-3)
    depth = views[0].labels["depth"]
    limits = np.nanmin(depth), np.nanmax(depth)
    for ax in grid[:, 3]:
        np.testing.assert_allclose(ax.images[0].get_array() / 255, value_picture(depth[0], *limits), atol=0.51 / 255)
    assert figure.axes[15].get_xlim() == limits
    normals = np.asarray(grid[1, 4].images[0].get_array())
    expected = (np.moveaxis(views[0].labels["normals"], 0, -1) + 1) / 2
    np.testing.assert_allclose(normals / 255, expected, atol=0.51 / 255)
    np.testing.assert_array_equal(np.asarray(grid[0, 2].images[0].get_array())[:, 2], 255)  # ignored: white
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bed", "books", "chair"]
    assert figure.axes[15].get_xlabel() == "m"


def test_classes_of_two_tasks_share_a_legend() -> None:
    classes = {"seg": np.array([[0, 1]]), "parts": np.array([[1, 1]])}
    view = View(np.full((3, 1, 2), 0.5), classes)
    styles = [
        TaskStyle(tasks.segmentation("seg", 2), "", ("road", "sky")),
        TaskStyle(tasks.segmentation("parts", 2), "", ("", "head")),
    ]
    sample = draw_sample(0, [None, None], (view, view, view), styles)
    (legend,) = scene_figure(sample, "equal", "#222222", "title").legends
    assert [text.get_text() for text in legend.get_texts()] == ["road", "sky", "parts: head"]


def test_cards() -> None:
    def views(*row: tuple[int, float]) -> tuple[View, View, View]:
        labels = [{"left": np.array(digit), "sum": np.array([total])} for digit, total in row]
        clean = np.full((1, 4, 4), 0.5)
        return View(clean, labels[0]), View(clean, labels[1]), View(clean + 0.1, labels[2])

    styles = [TaskStyle(tasks.classification("left", 10)), TaskStyle(tasks.regression("sum"))]
    rows = views((3, 5.0), (3, 5.2), (8, 5.3)), views((4, 6.0), (9, 6.1), (4, 9.0))
    samples = [draw_sample(place, [None, None], row, styles) for place, row in enumerate(rows)]
    figure = cards_figure(samples, "worst-task", "#222222", "title")
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
    assert TaskStyle(pets, class_names=("cat", "dog")).answer(np.array(1)) == "dog"
    assert TaskStyle(pets).answer(np.array(-1)) == "?"
    assert TaskStyle(tasks.regression("a")).answer(np.array([np.nan])) == "?"
    assert TaskStyle(tasks.multilabel("a", 3)).answer(np.array([1.0, 0.0, 1.0])) == "{0, 2}"


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
    views = [View(np.full((1, 12, 16), level), {"things": label}) for level in (0.2, 0.4, 0.8)]
    (maps,) = draw_sample(0, [None], (views[0], views[1], views[2]), [style]).maps
    assert maps.over_image and [name for name, _ in maps.classes] == ["sofa"]
    assert [one.pixels[0, 0].tolist() for one in maps.pictures] == [[51] * 3, [102] * 3, [204] * 3]
    frames = [one.pixels[32, 32].tolist() for one in maps.pictures]
    assert frames[0] == frames[1] == frames[2] != [51] * 3
