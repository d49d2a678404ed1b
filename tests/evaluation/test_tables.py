"""The table: its shape as in the paper, its numbers, what is bold, and four renderings of one model."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from art_mtl.evaluation import (
    AttackResult,
    Environment,
    Results,
    TaskResult,
    make_table,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
)
from art_mtl.evaluation.experiment import parse_eps
from art_mtl.evaluation.report.escape import latex
from art_mtl.evaluation.report.tables import Cell, Row, ShowsTable, Table, best_attacks, describe_eps, fraction, to_rich
from art_mtl.evaluation.results import Block, Difference, summarise

CLEAN = (0.4656, 0.4057, 23.41)


def attack(name: str, values: tuple[float, ...], eps: float = 2 / 255, norm: str = "linf", **changes) -> AttackResult:
    deltas = changes.pop("deltas", None) or (values[0] / 0.4656 - 1, 0.4057 / values[1] - 1, 23.41 / values[2] - 1)
    mean, least = summarise(deltas)
    return AttackResult(
        name, changes.pop("method", name), norm, eps, None, 10, values, deltas, mean, least, -0.1, (values,), (deltas,),
        eps, 1.0, 1, delta_intervals=((-0.5, -0.1),) * 3, delta_mtl_interval=(-0.5, -0.1),
        delta_wor_interval=None if least is None else (least - 0.02, least + 0.01), gradient_evaluations=10,
        forward_evaluations=11,
    )  # fmt: skip


@pytest.fixture
def results() -> Results:
    """Two blocks of the paper's Table III, rows and baseline as printed, and attacks on one task."""
    tasks = (
        TaskResult("seg", "segmentation", "mIoU", True, 100.0, "", CLEAN[0], (0.5,)),
        TaskResult("depth", "depth", "aErr", False, 100.0, "m", CLEAN[1], (0.4,)),
        TaskResult("normal", "surface_normals", "mDist", False, 1.0, "degrees", CLEAN[2], (20.0,)),
    )
    attacks = (
        attack("equal", (0.2528, 0.6728, 29.82)),
        attack("normalize", (0.2621, 0.8609, 31.81)),
        attack("worst-task", (0.2669, 0.8799, 33.00)),
        attack("equal", (0.1572, 0.897, 35.96), 4 / 255),
        attack("Mine", (0.1705, 1.3241, 43.59), 4 / 255),
        *(
            attack(f"single:{task.name}", tuple(v * f for v, f in zip(CLEAN, (0.1, 9.0, 4.0), strict=True)), 4 / 255)
            for task in tasks
        ),
    )
    return Results("nyuv2", tasks, attacks, (-1.0, 1.0), Environment({}, "cpu", "now", 0))


GOLDEN = """\
| method | role | seg mIoU ↑ (×100) | depth aErr ↓ (m ×100) | normal mDist ↓ (degrees) \
| Δ_MTL (%) | Δ_Wor (%) | 95 % interval | per-image worst-task Δ (%) | gradient evaluations |
| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| clean |  | 46.56 | 40.57 | 23.41 | 0.00 | 0.00 |  | 0.00 |  |
| **L∞, ε = 2/255 (1/255 in [0, 1])** |  |  |  |  |  |  |  |  |  |
| equal | baseline | 25.28 | 67.28 | 29.82 | -35.63 | -21.50 | [-23.50, -20.50] | -10.00 | 10 |
| normalize | baseline | 26.21 | 86.09 | 31.81 | -41.00 | -26.41 | [-28.41, -25.41] | -10.00 | 10 |
| worst-task | ours | 26.69 | 87.99 | 33.00 | -41.88 | **-29.06** | [-31.06, -28.06] | -10.00 | 10 |
| **L∞, ε = 4/255 (2/255 in [0, 1])** |  |  |  |  |  |  |  |  |  |
| equal | baseline | 15.72 | 89.70 | 35.96 | -51.97 | -34.90 | [-36.90, -33.90] | -10.00 | 10 |
| Mine | foreign | 17.05 | 132.41 | 43.59 | -59.68 | **-46.30** | [-48.30, -45.30] | -10.00 | 10 |
| single:seg | reference | 4.66 | 365.13 | 93.64 | -84.63 | -75.00 | [-77.00, -74.00] | -10.00 | 10 |
| single:depth | reference | 4.66 | 365.13 | 93.64 | -84.63 | -75.00 | [-77.00, -74.00] | -10.00 | 10 |
| single:normal | reference | 4.66 | 365.13 | 93.64 | -84.63 | -75.00 | [-77.00, -74.00] | -10.00 | 10 |
| single-task reference | reference | 4.66 | 365.13 | 93.64 | -84.63 | -75.00 | [-50.00, -10.00] | -75.00 | 30 |"""


def test_golden_markdown(results: Results) -> None:
    assert to_markdown(make_table(results)).split("\n\n")[0] == GOLDEN


def test_the_verdict_says_whether_the_strongest_of_a_block_is_significantly_so(results: Results) -> None:
    """Beside the strongest attack of another role; references do not compete, whatever they reach."""

    def apart(attack: str, other: str, eps: float, interval: tuple[float, float] | None) -> Difference:
        return Difference(attack, other, "linf", eps, (None,) * 3, (None,) * 3, None, None, -0.1, interval)

    small, large = 2 / 255, 4 / 255
    differences = (apart("normalize", "worst-task", small, (0.01, 0.04)), apart("equal", "Mine", large, (-0.05, 0.2)))
    first, second = make_table(replace(results, differences=differences)).notes
    assert first == (
        "L∞, ε = 2/255 (1/255 in [0, 1]): the strongest attack is worst-task (ours), Δ_Wor -29.06 %. It is "
        "significantly stronger than normalize (baseline): the paired 95 % interval of their difference, [-4.00, "
        "-1.00] points, excludes 0."
    )
    assert second == (
        "L∞, ε = 4/255 (2/255 in [0, 1]): the strongest attack is Mine (foreign), Δ_Wor -46.30 %. It is not "
        "significantly stronger than equal (baseline): the paired 95 % interval of their difference, [-20.00, 5.00] "
        "points, includes 0."
    )
    equal, normalize, ours = results.attacks[:3]
    two = replace(results, attacks=(equal, normalize), differences=(apart("normalize", "equal", small, None),))
    none, elsewhere = replace(two, differences=()), replace(two, differences=(apart("x", "y", small, (0.0, 1.0)),))
    for unknown in (two, none, elsewhere):
        assert make_table(unknown).notes[0].endswith("There is no interval of its difference from equal (baseline).")
    assert make_table(replace(results, attacks=(ours,))).notes[0].endswith("No other attack on all tasks ran.")
    assert make_table(replace(results, attacks=results.attacks[-2:])).notes == ()


def test_warnings_stand_below_the_table_once_with_all_that_they_were_given_for(results: Results) -> None:
    text = "3 samples <b>were</b> not attacked"
    equal, other, *rest = results.attacks
    warned = (replace(equal, warnings=(text, "slow")), replace(other, warnings=(text,)), *rest)
    table = make_table(replace(results, attacks=warned, warnings=("dark",)))
    assert [note for note in table.notes if "Warning" in note] == [
        "Warning (clean inputs): dark",
        f"Warning (equal, normalize): {text}",
        "Warning (equal): slow",
    ]
    assert "<b>were" not in to_markdown(table) and "&lt;b&gt;were" in to_html(table)
    assert to_text(table).endswith("Warning (equal): slow")


class Long(ShowsTable):
    _everything = "look there"

    def __init__(self, rows: int, notes: int) -> None:
        self.made = Table(("a",), tuple(Row("attack", (Cell(f"r{i}"),)) for i in range(rows)), "c",
                          tuple(f"n{i}" for i in range(notes)))  # fmt: skip

    def table(self) -> Table:
        return self.made


@pytest.mark.parametrize(("rows", "notes"), [(3, 0), (35, 2), (36, 2), (500, 20), (500, 21), (2, 900)])
def test_a_table_shows_itself_in_forty_lines(rows: int, notes: int) -> None:
    """Nothing is left out that has room; what is left out is counted."""
    shown, whole = repr(Long(rows, notes)).split("\n"), to_text(Long(rows, notes).made).split("\n")
    assert len(shown) <= 40 and (shown == whole) == (len(whole) <= 40 and notes <= 20)
    counted = [int(line.split()[1]) for line in shown if line.startswith("…")]
    assert len(shown) - len(counted) + sum(counted) == len(whole)
    assert (rows > 35) == any(line.endswith("more lines; look there") for line in shown)
    assert Long(rows, notes)._repr_html_().count("<tr class") == rows


def test_csv_holds_the_numbers_themselves(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(make_table(results, deltas=True)))))
    assert len(rows) == 1 + 8 + 1
    assert rows[0]["method"] == "clean" and rows[0]["norm"] == ""
    first = rows[1]
    assert (first["norm"], float(first["eps"]), first["method"]) == ("linf", 2 / 255, "equal")
    assert float(first["seg mIoU ↑"]) == 0.2528
    assert float(first["depth aErr ↓ (m)"]) == 0.6728
    assert float(first["Δ normal"]) == results.attacks[0].deltas[2]
    assert float(first["Δ_Wor"]) == results.attacks[0].delta_wor
    low, high = results.attacks[0].delta_wor_interval
    assert (float(first["Δ_Wor 95 % from"]), float(first["Δ_Wor 95 % to"])) == (low, high)
    assert (first["role"], float(first["gradient evaluations"])) == ("baseline", 10)
    assert [row["role"] for row in rows[-4:]] == ["reference"] * 4 and float(rows[-1]["Δ_Wor 95 % to"]) == -0.1


def test_latex_has_a_cell_for_every_column(results: Results) -> None:
    text = to_latex(make_table(results))
    body = text.split("\\hline", 1)[1]
    lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert len(lines) == 1 + 1 + 8 + 1
    assert {line.count("&") for line in lines} == {9}
    assert r"\textbf{$-29.06$}" in text
    assert r"$\Delta_{\mathrm{Wor}}$ (\%)" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert text.isascii()


def test_latex_escapes() -> None:
    assert latex(r"50% & a_b #1 {x} ~^\ $") == (
        r"50\% \& a\_b \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$"
    )


def test_the_terminal_shows_every_row_and_no_markup_of_names(results: Results) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    odd = attack("[bold]odd", (0.2, 0.7, 30.0), 8 / 255)
    console.print(to_rich(make_table(Results("a [b]", results.tasks, (odd,), None, results.environment))))
    text = console.export_text()
    assert "[bold]odd" in text and "a [b], 1 samples" in text and "L∞, ε = 8/255" in text


def test_markdown_escapes(results: Results) -> None:
    odd = attack("a|b*", (0.2, 0.7, 30.0))
    text = to_markdown(make_table(Results("v", results.tasks, (odd,), None, results.environment)))
    assert "| a&#124;b&#42; |" in text


def test_undefined_figures_are_dashes_and_empty_fields(results: Results) -> None:
    row = attack("equal", (0.2, 0.7, 30.0), deltas=(None, None, None))
    table = make_table(Results("v", results.tasks, (row,), None, results.environment))
    assert to_markdown(table).splitlines()[-1].endswith("| – | – | – | -10.00 | 10 |")
    assert to_csv(table).splitlines()[-1].endswith(",30.0,,,,-0.1,10")


def test_a_metric_that_is_not_finite_is_said_and_never_the_strongest(results: Results) -> None:
    """Left out of Δ, the task that is harmed least makes the attack look stronger than it is."""
    fine, lost = attack("equal", (0.2, 0.7, 30.0)), attack("nan", (0.2, None, 90.0), deltas=(-0.9, None, -0.8))
    table = make_table(replace(results, attacks=(fine, lost), clip_values=None), deltas=True)
    text = to_markdown(table)
    row = next(line for line in text.splitlines() if line.startswith("| nan"))
    head, tail = (
        "| nan | foreign | 20.00 | not finite | 90.00 | -90.00 | – | -80.00 | -85.00 | -80.00 |",
        "-10.00 | 10 |",
    )
    assert row == f"{head} -82.00 | -79.00 | {tail}"
    note = "L∞, ε = 2/255: Δ of nan leaves out depth, whose metric is not finite."
    assert text.endswith(note) and latex(note) in to_latex(table)
    assert best_attacks(Block("linf", 0.1, (fine, lost))) == {"equal"}
    assert best_attacks(Block("linf", 0.1, (lost,))) == set()
    assert ",0.2,,90.0,-0.9,,-0.8," in to_csv(table)


def test_best_is_the_strongest_as_printed() -> None:
    rows = [attack(name, (0.1, 0.5, 25), deltas=(d,)) for name, d in (("a", -0.50001), ("b", -0.50002), ("c", -0.4))]
    assert best_attacks(Block("linf", 0.1, tuple(rows))) == {"a", "b"}
    nothing = attack("a", (0.1, 0.5, 25), deltas=(None,))
    assert best_attacks(Block("linf", 0.1, (nothing,))) == set()


def test_references_are_never_the_best() -> None:
    """Alone in their block or the strongest of it."""
    single = attack("single:seg", (0.1, 0.5, 25), deltas=(-0.9,))
    assert best_attacks(Block("linf", 0.1, (single,))) == set()
    assert best_attacks(Block("linf", 0.1, (single, attack("equal", (0.1, 0.5, 25), deltas=(-0.1,))))) == {"equal"}


@pytest.mark.parametrize(
    ("norm", "eps", "clip", "text"),
    [
        ("linf", 8 / 255, (0.0, 1.0), "L∞, ε = 8/255"),
        ("linf", 2 / 255, (-1.0, 1.0), "L∞, ε = 2/255 (1/255 in [0, 1])"),
        ("l2", 5.0, (-1.0, 1.0), "L2, ε = 5 (2.5 in [0, 1])"),
        ("l2", 128.0, (0.0, 255.0), "L2, ε = 128 (128/255 in [0, 1])"),
        ("l1", 12.5, None, "L1, ε = 12.5"),
        (None, None, None, "norm not stated, ε not stated"),
    ],
)
def test_eps_in_both_scales(norm, eps, clip, text) -> None:
    assert describe_eps(norm, eps, clip) == text


@pytest.mark.parametrize("levels", [0.5, 1, 1.5, 2, 4, 8, 16, 37])
def test_grey_levels_are_written_as_fractions(levels: float) -> None:
    assert fraction(levels / 255) == f"{levels:g}/255"


@pytest.mark.parametrize(
    "text", ["0.0157", "0.03125", "0.1234567", "1/3", "4/510", "3/765", "2.5", "5/4", "100", "0.3"]
)
def test_a_radius_is_shown_as_it_was_given(text: str) -> None:
    """Or as another fraction or decimal of the same number."""
    value = parse_eps(text)[1]
    assert parse_eps(fraction(value))[1] == pytest.approx(value, rel=1e-12)
    if "/" not in text:
        assert fraction(value) == text
