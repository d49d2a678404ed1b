"""The notebook runs as a reader would run it, and each of its outputs shows what it should."""

from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.image import imread
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "evaluation.ipynb"
ATTACKS, RADII, TASKS = ["equal", "minmax", "worst-task"], [0.05, 0.1], ["left", "right", "sum"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """By cell, its result by MIME type, of a copy that runs in an empty folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.reads(NOTEBOOK.read_text(encoding="utf-8"), as_version=4)
    kept = {"IPYTHONDIR": folder / "ipython", "JUPYTER_RUNTIME_DIR": folder / "runtime", "MPLCONFIGDIR": folder / "mpl"}
    with pytest.MonkeyPatch.context() as patch:
        for name, path in kept.items():
            patch.setenv(name, str(path))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PYTHONWARNINGS", "ignore")
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {cell.id: [one["data"] for one in cell.outputs if one.output_type == "execute_result"] for cell in cells}


def _rows(html):
    """The cells of every row of an HTML table."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    plain = [[re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]
    return [row for row in plain if row]


def _frame(outputs):
    [data] = outputs["frame"]
    head, *rows = _rows(data["text/html"])
    return [dict(zip(head, row, strict=True)) for row in rows]


def _worst(outputs, attack, eps):
    rows = [row for row in _frame(outputs) if (row["attack"], float(row["eps"])) == (attack, eps)]
    return max(float(row["delta"]) for row in rows)


def test_six_cells_run_without_an_error(outputs):
    assert list(outputs) == ["model", "table", "frame", "plot", "longer", "comparison"]
    assert [len(shown) for shown in outputs.values()] == [0, 1, 1, 1, 1, 1]


def test_the_frame_has_a_row_for_each_attack_radius_and_task(outputs):
    rows = _frame(outputs)
    expected = [(attack, eps, task) for eps in RADII for attack in ATTACKS for task in TASKS]
    assert [(row["attack"], float(row["eps"]), row["task"]) for row in rows] == expected
    for row in rows:
        clean, attacked, low, delta, high = (
            float(row[name]) for name in ("clean", "attacked", "delta_low", "delta", "delta_high")
        )
        by_hand = clean / attacked - 1 if row["task"] == "sum" else attacked / clean - 1
        assert delta == pytest.approx(by_hand, abs=1e-5)
        assert -1 <= low <= delta <= high < 0


def test_the_table_agrees_with_the_frame(outputs):
    [data] = outputs["table"]
    head, *rows = _rows(data["text/html"])
    found = [dict(zip(head, row, strict=True)) for row in rows if len(row) == len(head)]
    assert [row["method"] for row in found] == ["clean", *ATTACKS, *ATTACKS]
    for row, eps in zip(found[1:], np.repeat(RADII, len(ATTACKS)), strict=True):
        assert float(row["Δ_Wor (%)"]) == pytest.approx(100 * _worst(outputs, row["method"], eps), abs=0.01)
        assert row["gradient evaluations"] == "10"
    assert len(data["text/plain"].splitlines()) <= 40


def test_the_plot_is_a_picture(outputs):
    [data] = outputs["plot"]
    pixels = imread(io.BytesIO(base64.b64decode(data["image/png"])))
    assert min(pixels.shape[:2]) > 300 and pixels.std() > 0.05


def test_the_comparison_is_a_table_of_both_runs(outputs):
    [data], [longer] = outputs["comparison"], outputs["longer"]
    head, *rows = _rows(data["text/html"])
    assert head == ["attack", "figure", "ten", "twenty", "twenty − ten"]
    *_, last = [row for row in rows if row[:2] == ["worst-task", "Δ_Wor (%)"]]
    ten, twenty, difference = (float(cell.split()[0]) for cell in last[2:])
    assert ten == pytest.approx(100 * _worst(outputs, "worst-task", 0.1), abs=0.01)
    assert twenty == pytest.approx(100 * float(longer["text/plain"]), abs=0.01)
    assert difference == pytest.approx(twenty - ten, abs=0.02)
    assert len(data["text/plain"].splitlines()) <= 40 and "ComparedFigure" not in data["text/plain"]


def test_what_is_stored_is_what_it_shows():
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    shown = {cell.id: set().union(*(one.get("data", {}) for one in cell.outputs)) for cell in cells}
    assert {name for name, kinds in shown.items() if "text/html" in kinds} == {"table", "frame", "comparison"}
    assert {name for name, kinds in shown.items() if "image/png" in kinds} == {"plot"}
    assert not any(one.output_type == "stream" for cell in cells for one in cell.outputs)
