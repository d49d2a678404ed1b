"""Names with markup, formulas and control characters do nothing but be read, wherever they are shown."""

from __future__ import annotations

import csv
import html
import io
import re
import unicodedata
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from art_mtl import tasks
from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult
from art_mtl.evaluation.report import escape, write
from art_mtl.evaluation.report.contact import contact_figure
from art_mtl.evaluation.report.drawn_samples import TaskStyle, View, draw_sample
from art_mtl.evaluation.report.pictures import cards_figure, scene_figure
from art_mtl.evaluation.report.plots import degradation_figure, tasks_figure, weights_figure
from art_mtl.evaluation.report.tables import make_table, to_csv, to_html, to_latex, to_markdown, to_rich, to_text
from art_mtl.evaluation.reproduction import comparison_table as reproduction
from art_mtl.evaluation.reproduction.comparison_table import comparison_csv, comparison_table
from art_mtl.evaluation.reproduction.paper_tables import paper_tables

markdown = pytest.importorskip("markdown")

NASTY = (
    "a|b", "<script>alert(1)</script>", "$$", "$x$", "$\\frac{$", "line\nbreak", "\r\n\r\n# head",
    "\x1b[2J\x1b]0;x\x07", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "\t=1", "＝1", "[red]x[/red]",
    "[link=file:///etc]x", "\\", "\\input{x}", "\\\\[1cm]", "[2cm]x", "*", "**x**", "__x__", "_private", "`x`",
    "```", "[x](javascript:alert(1))", "![x](y)", "[^1]", "[x]: javascript:y", "&lt;b&gt;", "&#60;b>", "{x}", "%n",
    "#x", "~~x~~", '"', "'", '" onload="x', "", " ", "\u202etxt", "\u2028", "\ud800", "https://x.y", "-->", "- x",
    "1. x", "=== ",
)  # fmt: skip
PIECES = st.sampled_from([*"|<>$\\[](){}*_`~^&#%=+-@!:.'\"/\n\r\t\x1b\x07 \u202e\u2028ab1Δé", *NASTY])
NAMES = st.one_of(st.sampled_from(NASTY), st.lists(PIECES, max_size=6).map("".join), st.text(max_size=8))
EXAMPLES = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Page(HTMLParser):
    """Tags of a page, and the text of each of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def attack(name: str, deltas: tuple[float, ...], eps: float = 0.1) -> AttackResult:
    return AttackResult(
        name, "worst-task", "linf", eps, None, 3, deltas, deltas, sum(deltas) / 2, max(deltas), -0.1, (deltas,),
        (deltas,), eps, 1.0, 1, (None, None), None, None, 3, 3, weights=((0.5, 0.5), (1.0, 0.0)),
    )  # fmt: skip


def results_of(name: str) -> Results:
    """With the name everywhere where one may stand."""
    named = tuple(TaskResult(n, "depth", n, False, 1.0, n, 1.0, (1.0,)) for n in (name, f"{name}2"))
    lost = replace(attack("lost", (-0.1, -0.2)), deltas=(None, -0.1), values=(None, 1.0))
    attacks = (attack(name, (-0.5, -0.4)), attack(name, (-0.6, -0.5), 0.2), lost)
    environment = Environment({name: name}, name, name, 0)
    return Results(name, named, attacks, (0.0, 1.0), environment, command=name)


def spaced(text: str) -> str:
    """As a browser shows white space."""
    return " ".join(text.split())


@given(NAMES)
@EXAMPLES
def test_plain_text_is_one_line_without_control_characters(name):
    found = escape.plain(name)
    assert not {unicodedata.category(letter) for letter in found} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    found.encode("utf-8")
    assert escape.plain(found) == found
    if name.isascii() and name.isprintable():
        assert found == spaced(name)


@given(NAMES)
@EXAMPLES
def test_html_shows_the_name_and_nothing_else_happens(name):
    page = Page(to_html(make_table(results_of(name))))
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td", "b", "p"}
    assert page.cells.count(escape.plain(name)) >= 2


@given(NAMES)
@EXAMPLES
@example("a|b")
def test_markdown_shows_the_name_in_its_cell(name):
    """By a parser that others wrote."""
    table = make_table(replace(results_of(name), environment=Environment({}, "", "", 0)))
    text = to_markdown(table)
    page = Page(markdown.markdown(text, extensions=["tables", "footnotes", "fenced_code"]))
    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td", "strong", "p"}
    assert "table" in page.tags
    assert len(page.cells) == len(table.columns) * (1 + len(table.rows))
    assert [spaced(cell) for cell in page.cells].count(spaced(escape.plain(name))) >= 2


@given(NAMES)
@EXAMPLES
def test_the_page_of_a_report_has_no_markup_of_names(name):
    results = results_of(name)
    text = write._page(results, to_markdown(make_table(results)), [("f.png", name)])
    page = Page(markdown.markdown(text, extensions=["tables", "footnotes", "fenced_code"]))
    own = {"table", "thead", "tbody", "tr", "th", "td", "strong", "p", "h1", "ul", "li", "img", "a", "pre", "code"}
    assert page.tags <= own
    shown = html.unescape(re.sub("<[^>]*>", "", markdown.markdown(text, extensions=["tables", "fenced_code"])))
    assert "javascript:" not in "".join(re.findall('(?:href|src)="[^"]*"', markdown.markdown(text)))
    assert f"{escape.plain(name)}: degradation by multi-task attacks".strip() in spaced(shown) or "  " in shown


@given(NAMES)
@EXAMPLES
def test_latex_has_no_command_of_a_name(name):
    text = to_latex(make_table(results_of(name)))
    known = {
        "begin", "end", "centering", "caption", "hline", "multicolumn", "textbf", "par", "uparrow", "downarrow",
        "times", "varepsilon", "infty", "Delta", "mathrm", "dagger", "textbackslash", "textasciitilde",
        "textasciicircum", "textless", "textgreater", "textbar",
    }  # fmt: skip
    assert {*re.findall(r"\\([a-zA-Z]+)", text)} <= known
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not {*"%#^~"} & {*bare} and "_" not in bare.replace(r"\Delta_", "")
    assert not re.search(r"\\\\\s*[\[*]", text), "an argument of the row before"
    rows = [line for line in text.splitlines() if line.endswith(r" \\") and "multicolumn" not in line]
    assert {re.sub(r"\\&", "", line).count(" & ") for line in rows} == {8}


@given(NAMES)
@EXAMPLES
def test_no_field_of_a_csv_file_is_a_formula(name):
    rows = list(csv.reader(io.StringIO(to_csv(make_table(results_of(name), deltas=True)))))
    assert len(rows) == 1 + 1 + 3 and {len(row) for row in rows} == {len(rows[0])}
    for field in (field for row in rows for field in row):
        assert not field.startswith(tuple("=+-@＝＋－＠\t\r")) or re.fullmatch(r"-\d\.\d+", field)
    assert rows[2][2] in (escape.plain(name), f"'{escape.plain(name)}")


@given(NAMES)
@settings(EXAMPLES, max_examples=40)
def test_the_terminal_gets_no_control_character(name):
    out = io.StringIO()
    Console(file=out, width=400, force_terminal=False, color_system=None).print(to_rich(make_table(results_of(name))))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out.getvalue())
    shown = to_text(make_table(results_of(name)), width=1000)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert shown.count("\n") == 11, "a caption, a head, a rule, rows of two blocks, a note, two verdicts"
    console = Console(file=io.StringIO(), width=400, force_terminal=True, color_system="truecolor")
    console.print(to_rich(make_table(results_of(name))))
    assert "\x1b]" not in console.file.getvalue(), "no links, no titles of windows"


@given(NAMES)
@settings(EXAMPLES, max_examples=8)
@example("$$")
@example("_private")
def test_figures_write_the_name(name):
    results = results_of(name)
    block = next(results.blocks())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        for figure in (degradation_figure(results), tasks_figure(results, block), weights_figure(results, block)):
            figure.canvas.draw()
            if name.strip():
                shown = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
                assert shown and all(text.replace(r"\$", "$").strip() for text in shown)


@given(NAMES)
@settings(EXAMPLES, max_examples=8)
@example("$$")
def test_pictures_write_the_names_of_tasks_classes_and_attacks(name):
    image = np.full((3, 6, 8), 0.5)
    labels = {"seg": np.zeros((6, 8), dtype=int), "kind": np.array(1)}
    segmentation, classification = tasks.segmentation("seg", 2), tasks.classification("kind", 2)
    styles = [
        TaskStyle(segmentation, name, (name, f"{name}2")),
        TaskStyle(classification, name, (name, f"{name}2")),
    ]
    view = View(image, labels, name)
    sample = draw_sample(0, [None, None], (view, view, View(1 - image, labels)), styles)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figures = [
            scene_figure(sample, name, "#222222", name),
            cards_figure([sample], name, "#222222", name),
            contact_figure([view], styles[:1], name),
        ]
        for figure in figures:
            figure.canvas.draw()
            shown = [text.get_text() for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
            assert not any("\n" in text or "\x1b" in text for text in shown)
            assert escape.plain(name) in figure.get_suptitle().replace(r"\$", "$")


@given(NAMES)
@settings(EXAMPLES, max_examples=25)
def test_a_reproduced_table_is_as_harmless(name):
    table = paper_tables()["IV"]
    named = [TaskResult(f"{name}{i}", "depth", name, False, 1.0, name, 1.0, (1.0,)) for i in range(3)]
    row = replace(attack(name, (-0.5, -0.4, -0.3), 2 / 255), method="minmax-official", weights=None)
    results = Results(name, tuple(named), (row,), (-1.0, 1.0), Environment({name: name}, name, name, 0), command=name)
    for line in csv.reader(io.StringIO(comparison_csv(results, table))):
        assert not any(re.match("[=+@\t\r]|-[^0-9]", field) for field in line)
    text = reproduction._page(results, comparison_table(results, table), [("f.png", name)])
    page = Page(markdown.markdown(text, extensions=["tables", "footnotes", "fenced_code"]))
    assert "table" in page.tags and not page.tags & {"script", "em", "del", "b", "sup", "hr", "blockquote", "ol", "div"}


@pytest.mark.parametrize(
    ("function", "name", "check"),
    [
        ("markdown", "*x*", test_markdown_shows_the_name_in_its_cell),
        ("markdown", "a|b", test_markdown_shows_the_name_in_its_cell),
        ("markdown", "<b>", test_the_page_of_a_report_has_no_markup_of_names),
        ("html", "<b>", test_html_shows_the_name_and_nothing_else_happens),
        ("latex", "a_b", test_latex_has_no_command_of_a_name),
        ("latex", "[2cm]", test_latex_has_no_command_of_a_name),
        ("csv_field", "=1", test_no_field_of_a_csv_file_is_a_formula),
        ("plain", "\x1b[2J", test_the_terminal_gets_no_control_character),
    ],
)
def test_a_renderer_that_forgets_would_be_found(function, name, check, monkeypatch):
    monkeypatch.setattr(escape, function, lambda text: text)
    with pytest.raises(AssertionError):
        check.hypothesis.inner_test(name)
