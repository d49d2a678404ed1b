"""What the page of a report says: right numbers, words for roles, names that are harmless."""

from __future__ import annotations

import base64
import html
import io
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.core.methods import single_task_references, spec_of
from art_mtl.evaluation import Block, Results, Run, evaluate
from art_mtl.evaluation.diagnosis import Diagnosis
from art_mtl.evaluation.report.charts import Series, line_chart
from art_mtl.evaluation.report.escape import plain
from art_mtl.evaluation.report.page import page_html, percent
from art_mtl.evaluation.report.page_gallery import data_uri, show_samples
from art_mtl.evaluation.report.tables import best_attacks
from art_mtl.tasks.colours import value_picture

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pytest imports tests from nowhere

import pages

sys.path.pop(0)

VOID = {"meta", "link", "img", "br", "line", "path", "circle"}


class Page(HTMLParser):
    """Elements, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.bold: list[str] = []
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"script", "style"} & {*self.open}:
            self.words += data
        if "strong" in self.open and "tbody" in self.open:
            self.bold.append(data)


def spaced(text: str) -> str:
    return " ".join(text.split())


def words(text: str) -> str:
    return spaced(Page(text).words)


@pytest.fixture(scope="module")
def large() -> Results:
    return pages.large_results(attacks=10, radii=2, count=3, samples=8)


def test_the_verdict_has_the_numbers_of_the_largest_radius(large: Results) -> None:
    *_, block = large.blocks()
    best = block.ranked[0]
    safest = large.tasks[best.deltas.index(best.delta_wor)].name
    low, high = best.delta_wor_interval
    said = words(page_html(large))
    expected = (
        f"leaves the safest task, {safest}, at {percent(best.delta_wor)} [{percent(low)[:-2]}, {percent(high)[:-2]}]"
    )
    assert "At ε = 2/255 in L∞ the strongest attack" in said and spaced(expected) in said


def test_the_best_published_method_is_the_strongest_of_them(large: Results) -> None:
    """Whatever the order in which the attacks ran, in the sentence and in the row of each radius."""
    strengths = {"equal": -0.1, "minmax": -0.3, "worst-task": -0.5}
    ran = [replace(one, delta_wor=strengths[one.name]) for one in large.attacks if one.name in strengths]
    for attacks in (ran, ran[::-1]):
        page = page_html(replace(large, attacks=tuple(attacks), differences=()))
        assert spaced(f"the best published method, minmax, at {percent(-0.3)}.") in words(page)
        assert page.count(f'<td class="wrap text">minmax</td><td>{percent(-0.3)}</td></tr>') == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("single:task 0",), "no attack on all tasks ran."),
        (("worst-task",), "; no published method ran.No other attack on all tasks ran."),
        (("minmax", "equal"), "(baseline), leaves the safest task"),
    ],
)
def test_a_verdict_where_something_is_missing(names: tuple[str, ...], expected: str, large: Results) -> None:
    chosen = tuple(attack for attack in large.attacks if attack.name in names)
    said = words(page_html(replace(large, attacks=chosen)))
    assert expected in said and "best published method, minmax, at" not in said


def test_the_matrices_show_who_harms_whom(large: Results) -> None:
    angles = ((1.0, -0.25, None), (-0.25, 1.0, 0.5), (None, 0.5, 1.0))
    text = page_html(replace(large, gradient_cosines=angles))
    rows = re.findall(r'<tr><th scope="row" class="wrap">(.*?)</th>(.*?)</tr>', text, re.DOTALL)
    found = [(name, re.findall(r">([^<>]+)</td>", cells)) for name, cells in rows]
    *_, block = large.blocks()
    by_name = {attack.name: attack for attack in block.attacks}
    references = single_task_references([task.name for task in large.tasks])
    for task, name in references.items():
        assert (task, [percent(delta, 0) for delta in by_name[name].deltas]) in found
    assert ("task 0", ["1.00", "−0.25", "–"]) in found and ("task 1", ["−0.25", "1.00", "0.50"]) in found
    without = page_html(replace(large, gradient_cosines=None, attacks=large.attacks[3:10]))
    assert "No attack on a single task ran." in without and "gradients were not measured" in words(without)


def test_references_are_never_bold_and_roles_are_words(large: Results) -> None:
    # References stronger than all that competes.
    strong = tuple(replace(a, delta_wor=-0.99) if spec_of(a.method).is_reference else a for a in large.attacks)
    results = replace(large, attacks=strong)
    text = page_html(results)
    table = text[text.index('<table id="results">') :]
    rows = re.findall(r'<tr class="(\w+)">(.*?)</tr>', table, re.DOTALL)
    assert {kind for kind, _ in rows} == {"clean", "attack", "reference"}
    assert not any("<strong>" in cells for kind, cells in rows if kind != "attack")
    best = [name for block in results.blocks() for name in best_attacks(block)]
    assert sum("<strong>" in cells for _, cells in rows) == len(best)
    for word in ("ours", "baseline", "reference", "ensemble", "foreign"):
        assert f'<span class="role {word}">{word}</span>' in text


def test_the_table_has_the_cost_of_every_row(large: Results) -> None:
    priced = replace(large, attacks=tuple(replace(a, seconds=1.5 + i) for i, a in enumerate(large.attacks)))
    text = page_html(priced)
    table = text[text.index('<table id="results">') :]
    heads = [html.unescape(head) for head in re.findall(r'<button type="button">(.*?)</button>', table)]
    assert heads[:4] == ["method", "role", "norm", "ε"] and heads[-2:] == ["gradient evaluations", "seconds"]
    rows = re.findall(r'<tr class="\w+">(.*?)</tr>', table, re.DOTALL)[1:]
    values = [re.findall(r'data-value="([^"]*)"', row) for row in rows]
    own = {(row[0], row[3]): float(row[-1]) for row in values}
    assert len(own) == len(values) == 2 * (10 + 1)
    for attack in priced.attacks:
        assert own[attack.name, str(attack.eps)] == attack.seconds
    reference = next(row for row in values if row[0] == "single-task reference")
    assert float(reference[-1]) == sum(priced.attacks[i].seconds for i in range(3))


def test_a_page_is_well_formed_and_holds_all_that_it_needs(large: Results) -> None:
    text = page_html(large)
    page = Page(text)
    assert page.open == [] and page.tags.count("script") == 1 and "on" not in {name[:2] for name in page.attributes}
    addresses = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    targets = set(re.findall(r'href="#(\w+)"', text))
    assert targets <= set(re.findall(r'id="(\w+)"', text))


PIECES = st.sampled_from([*pages.TASKS, *pages.ATTACKS, "\x1b[2J", "\u202e", "</script>", "{% raw %}", "&amp;", "]]>"])
NAMES = st.one_of(st.text(min_size=1, max_size=12), st.lists(PIECES, min_size=1, max_size=3).map("".join))


@given(NAMES)
@settings(max_examples=25, deadline=None)
def test_no_name_becomes_markup(name: str) -> None:
    results = pages.large_results(attacks=10, radii=1, count=2, samples=2)
    named = tuple(replace(task, name=f"{name}{k}", unit=name, metric=name) for k, task in enumerate(results.tasks))
    attacks = tuple(replace(attack, name=f"{name}{i}", warnings=(name,)) for i, attack in enumerate(results.attacks))
    where = replace(results.environment, packages={name: name}, device=name)
    odd = replace(results, victim=name, tasks=named, attacks=attacks, environment=where, command=name)
    plainly = Page(page_html(replace(odd, victim="x", command="x"))).tags
    page = Page(page_html(odd))
    assert page.open == [] and page.tags == plainly
    assert plain(f"{name}0") in " ".join(page.words.split())


def run_of(folder: Path | None = None) -> Run:
    """A depth that an attack drives far away, and a segmentation."""

    class Net(torch.nn.Module):
        def forward(self, x):
            return {"far": 2 + 30 * (x - 0.5).relu(), "seg": torch.cat([x - 0.5, 0.5 - x], 1)}

    estimator = PyTorchMultiTaskEstimator(
        Net(), tasks=[tasks.depth("far"), tasks.segmentation("seg", 2)], input_shape=(1, 6, 8), clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip
    x = np.random.default_rng(0).uniform(0.3, 0.7, (9, 1, 6, 8)).astype(np.float32)
    raw = estimator.predict(x)
    y = {"far": raw["far"] - 0.1, "seg": raw["seg"].argmax(1)}
    attacks = [make(estimator, eps=0.2, max_iter=3, verbose=False) for make in (MultiTaskPGD, WorstTaskPGD)]
    return evaluate(estimator, attacks, (x, y), progress=False, chunk=4, out=folder)


def pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(data)))[..., :3]


def test_the_colours_of_maps_hold_the_attacked_values() -> None:
    """And error maps are where predictions are wrong, by how much."""
    run = run_of()
    gallery = run._live.gallery
    (block,) = run.results.blocks()
    attack = block.ranked[0]
    views, places = gallery.views(attack), [sample.place for sample in gallery.drawn(attack)]
    shown = show_samples("heading", gallery, attack, run.results)
    assert (len(shown.least), len(shown.most)) == (2, 2) and shown.is_wide
    for sample, drawn in zip((*views[:2], *views[3:5]), (*shown.least, *shown.most), strict=True):
        far, seg = drawn.maps
        truth, clean, attacked = (view.labels["far"][0] for view in sample)
        low, high = min(map(np.min, (truth, clean, attacked))), max(map(np.max, (truth, clean, attacked)))
        assert high > truth.max() + 0.5, "the attack leaves the range of the truth"
        for picture, values in zip(far.pictures, (truth, clean, attacked), strict=False):
            np.testing.assert_allclose(pixels(picture.uri), value_picture(values, low, high), atol=2 / 255)
        assert f"colours from {low:.3g} to {high:.3g} m" in far.scales
        errors = abs(clean - truth), abs(attacked - truth)
        for picture, error in zip(far.pictures[3:], errors, strict=True):
            np.testing.assert_allclose(
                pixels(picture.uri), value_picture(error, 0, max(map(np.max, errors))), atol=2 / 255
            )
            assert f"mean {error.mean():.2g} m" in picture.caption
        wrong = sample[2].labels["seg"] != sample[0].labels["seg"]
        yellow = pixels(seg.pictures[4].uri)[..., 0] > 0.9
        if wrong.any():
            np.testing.assert_array_equal(yellow, wrong)
        assert f"{100 * wrong.mean():.0f} % wrong" in seg.pictures[4].caption
    first, last = shown.least[0].heading, shown.most[0].heading
    assert first.startswith(f"Sample {places[0]}: ") and last.startswith(f"Sample {places[3]}: ")


def test_large_pictures_become_small() -> None:
    noise = np.random.default_rng(0).random((480, 640, 3))
    assert len(data_uri(noise)) < 60_000 and len(data_uri(noise, lossy=True)) < 30_000
    assert pixels(data_uri(noise)).shape == (96, 128, 3)


def test_a_diagnosis_is_told_and_one_that_is_missing_asked_for(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    key = ("worst-task", "linf", 0.2)
    text = run.report(tmp_path / "a.html")[0].read_text(encoding="utf-8")
    assert "Not diagnosed." in text and html.escape(repr(key), quote=True).replace("&#x27;", "&#39;") in text
    found = run.diagnose(key, queries=2, limit=4)
    live = words(run.report(tmp_path / "b.html")[0].read_text(encoding="utf-8"))
    passed = sum(check.status == "pass" for check in found.checks)
    assert f"{passed} of 11 checks passed on 4 samples" in live and "Not diagnosed." not in live
    found.to_json(tmp_path / "run" / "diagnosis-linf-0.2.json")
    other = replace(found, attack="nobody-ran-it")
    other.to_json(tmp_path / "run" / "diagnosis-other.json")
    stored = Run.read(tmp_path / "run")
    read = words(stored.report(tmp_path / "c.html")[0].read_text(encoding="utf-8"))
    assert f"{passed} of 11 checks passed on 4 samples" in read and "nobody-ran-it" not in read
    assert Diagnosis.from_json(tmp_path / "run" / "diagnosis-linf-0.2.json") == found


def test_a_stored_run_tells_how_to_repeat_it(tmp_path: Path) -> None:
    run = evaluate("digits", ["equal"], eps=[0.1], steps=1, limit=4, out=tmp_path, progress=False, command="art-mtl x")
    for one in (run, Run.read(tmp_path)):
        said = words(one.report(tmp_path / "page.html")[0].read_text(encoding="utf-8"))
        assert "art-mtl x" in said and "art-mtl benchmark --config experiment.yaml runs again" in said
        assert "victim: digits attacks: [equal]" in said and "seed: 0" in said
        assert f"art-mtl diagnose {tmp_path} --attack equal --norm linf --eps 0.1" in said


def test_charts_place_points_by_logarithms_and_clip_nothing() -> None:
    series = [
        Series("a", [(0.01, -10.0), (0.1, None), (1.0, -90.0)], [(-20.0, 0.0), None, (-95.0, -85.0)], "x", "#000000", 0)
    ]
    chart = line_chart("t", "x", series, [(0.01, "1"), (0.1, "2"), (1.0, "3")], logarithmic=True)
    first, middle, last = (tick.at for tick in chart.x_ticks)
    assert middle - first == pytest.approx(last - middle, abs=0.2)
    (line,) = chart.lines
    assert [dot[0] for dot in line.dots] == [first, last] and "a: −10.0" in line.dots[0][2]
    labels = [float(tick.label.replace("−", "-")) for tick in chart.y_ticks]
    slope = (chart.y_ticks[-1].at - chart.y_ticks[0].at) / (labels[-1] - labels[0])
    assert line.dots[0][1] == pytest.approx(chart.y_ticks[0].at + slope * (-10 - labels[0]), abs=0.1)
    assert min(labels) <= -95 and max(labels) >= 0


def test_labels_of_radii_do_not_touch() -> None:
    radii = [(1 + i / 100, f"{1 + i / 100}") for i in range(50)]
    series = [Series("a", [(x, -1.0) for x, _ in radii], [None] * 50, "x", "#000000", 0)]
    ticks = line_chart("t", "x", series, radii, logarithmic=True).x_ticks
    assert 2 < len(ticks) < 15 and all(b.at - a.at >= 25 for a, b in zip(ticks, ticks[1:], strict=False))


def test_a_block_without_radius_has_no_curve(large: Results) -> None:
    odd = tuple(replace(attack, eps=None) for attack in large.attacks[:10])
    text = page_html(replace(large, attacks=odd))
    assert "ε not stated" in text and 'id="curves"' not in text
    assert isinstance(next(replace(large, attacks=odd).blocks()), Block)


def test_an_attack_of_no_steps_has_no_weights_to_draw(large: Results) -> None:
    """The page has all but their drawing."""
    drawing = 'role="img" aria-label="minmax"'
    assert drawing in page_html(large)
    without = [replace(one, weights=()) if one.name == "minmax" else one for one in large.attacks]
    assert drawing not in page_html(replace(large, attacks=tuple(without)))
