"""The report folder: complete, whole or not at all, and never over other people's files."""

from __future__ import annotations

import errno
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.data.sources import as_source
from art_mtl.evaluation import Gallery, Results, Run, evaluate, write_report
from art_mtl.evaluation.report import page
from art_mtl.evaluation.report import write as report
from art_mtl.evaluation.report.gallery import shown_attack
from art_mtl.evaluation.report.write import Background, check_folder, write_page


class Net(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seg": torch.cat([x, -x], 1), "depth": 2 + x, "kind": x.flatten(1)[:, :3]}


@pytest.fixture
def run() -> tuple[Results, Background]:
    estimator = PyTorchMultiTaskEstimator(
        Net(),
        tasks=[tasks.segmentation("seg", 2), tasks.depth("depth"), tasks.classification("kind", 3)],
        input_shape=(1, 5, 6),
        clip_values=(-1.0, 1.0),
        device_type="cpu",
    )
    x = np.random.default_rng(0).uniform(-1, 1, (4, 1, 5, 6)).astype(np.float32)
    raw = estimator.predict(x)
    y = {"seg": raw["seg"].argmax(1), "depth": raw["depth"] + 0.1, "kind": raw["kind"].argmax(1)}
    gallery = Gallery(estimator, as_source((x, y), estimator.tasks), {"seg": ("bed", "wall")})
    attacks = [
        MultiTaskPGD(estimator, "equal", eps=0.5, max_iter=2, verbose=False),
        WorstTaskPGD(estimator, eps=0.5, max_iter=2, verbose=False),
    ]
    return evaluate(
        estimator, attacks, (x, y), seed=0, command="art-mtl x", callbacks=[gallery], progress=False
    ).results, Background(gallery)


EXPECTED = {
    "figures/degradation.png",
    "figures/tasks-linf-0.5.png",
    "figures/example-linf-0.5.png",
    "figures/weights-linf-0.5.png",
    "report.html",
    "report.md",
    "results.json",
    "table.csv",
    "table.md",
    "table.tex",
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_complete(run, tmp_path: Path) -> None:
    results, background = run
    written = write_report(tmp_path / "out", results, background)
    assert files(tmp_path / "out") == EXPECTED == {str(path.relative_to(tmp_path / "out")) for path in written}
    assert Results.from_json(tmp_path / "out" / "results.json") == results
    page = (tmp_path / "out" / "report.md").read_text()
    assert "art-mtl x" in page and (tmp_path / "out" / "table.md").read_text().strip() in page
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    assert links == EXPECTED - {"report.md"}
    for figure in (tmp_path / "out" / "figures").iterdir():
        assert figure.read_bytes()[:4] == b"\x89PNG"


def test_the_example_shows_the_strongest_attack_on_all_tasks(run) -> None:
    found = {"equal": -0.3, "dgba": -0.4, "single:seg": -0.7, "worst-task": -0.6, "Mine": -0.45}
    one = run[0].attacks[0]
    attacks = [replace(one, name=name, method=name, delta_wor=delta) for name, delta in found.items()]
    for shown, expected in ((attacks, "worst-task"), (attacks[:3], "dgba"), (attacks[2:3], "single:seg")):
        (block,) = replace(run[0], attacks=tuple(shown)).blocks()
        assert shown_attack(block).name == expected


def test_without_a_gallery(run, tmp_path: Path) -> None:
    write_report(tmp_path, run[0])
    assert files(tmp_path) == EXPECTED - {"figures/example-linf-0.5.png"}


def test_a_failure_in_the_middle_writes_nothing(run, tmp_path: Path, monkeypatch) -> None:
    results, background = run
    write_report(tmp_path / "old", results)
    before = {name: (tmp_path / "old" / name).read_bytes() for name in files(tmp_path / "old")}

    def fail(*_: object) -> str:
        raise RuntimeError("disk full")

    monkeypatch.setattr(report, "to_latex", fail)
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="disk full"):
            write_report(tmp_path / name, results, background)
    assert {name: (tmp_path / "old" / name).read_bytes() for name in files(tmp_path / "old")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_stale_figures_go_and_other_files_stay(run, tmp_path: Path) -> None:
    write_report(tmp_path, *run)
    (tmp_path / "figures" / "example-l2-9.png").write_bytes(b"old")
    (tmp_path / "figures" / "holiday.png").write_bytes(b"mine")
    write_report(tmp_path, *run)
    assert files(tmp_path) == EXPECTED | {"figures/holiday.png"}


def test_which_folders_may_be_written(run, tmp_path: Path) -> None:
    check_folder(tmp_path / "none")
    check_folder(tmp_path)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="new or empty folder.*`force=True`"):
        check_folder(tmp_path)
    check_folder(tmp_path, force=True)
    (tmp_path / "results.json").write_text('{"accuracy": 1}')
    with pytest.raises(ValueError, match="new or empty folder"):
        check_folder(tmp_path)
    write_report(tmp_path, run[0])
    check_folder(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="Found a file"):
        check_folder(tmp_path / "thesis.tex")


def test_a_page_or_a_folder(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Run(run[0])
    monkeypatch.chdir(tmp_path)
    assert whole.report("page.HTML") == [Path("page.HTML")] and files(tmp_path) == {"page.HTML"}
    assert whole.report("deep/page.html") == [Path("deep/page.html")]
    assert {str(path) for path in whole.report("folder")} == {
        f"folder/{name}" for name in EXPECTED - {"figures/example-linf-0.5.png"}
    }
    assert (tmp_path / "folder" / "report.html").read_bytes() == (tmp_path / "page.HTML").read_bytes()
    whole.report("folder")  # its own report is written anew


def test_places_that_no_report_may_take(run, tmp_path: Path) -> None:
    whole = Run(run[0])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("years of work")
    with pytest.raises(ValueError, match="`path` should be a new or empty folder.*Found other files in .*mine"):
        whole.report(f"{tmp_path / 'mine'}/")
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ValueError, match="`path` should be the name of a file for the page. Found the folder"):
        whole.report(tmp_path / "page.html")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ValueError, match="`path` should be a folder. Found a file"):
        whole.report(tmp_path / "taken")
    with pytest.raises(NotADirectoryError, match="Found a file at .*taken"):
        whole.report(tmp_path / "taken" / "page.html")
    assert (tmp_path / "mine" / "report.md").read_text() == "years of work"
    assert files(tmp_path) == {"mine/report.md", "taken"}


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, OSError, "The disk is full; what was there before stays"),
        (errno.EACCES, PermissionError, "Expected a place that can be written to"),
        (errno.EROFS, PermissionError, "Expected a place that can be written to"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_in_words(
    code: int, kind: type[OSError], words: str, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_page(tmp_path / "page.html", run[0])
    before = page.read_bytes()
    write_report(tmp_path / "folder", run[0])
    kept = {name: (tmp_path / "folder" / name).read_bytes() for name in files(tmp_path / "folder")}

    def fail(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), None if code == errno.ENOSPC else str(path))

    monkeypatch.setattr(Path, "write_text", fail)
    writers = ((page, lambda: write_page(page, run[0])),
               (tmp_path / "folder", lambda: write_report(tmp_path / "folder", run[0])))  # fmt: skip
    for place, write in writers:
        with pytest.raises(kind, match=words) as caught:
            write()
        assert caught.value.errno == code and caught.value.filename == str(place)
    assert page.read_bytes() == before
    assert {name: (tmp_path / "folder" / name).read_bytes() for name in files(tmp_path / "folder")} == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.html"]


def test_without_its_template_engine_a_page_says_what_to_install(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page._environment.cache_clear()
    for write in (lambda: write_page(tmp_path / "page.html", run[0]), lambda: write_report(tmp_path / "r", run[0])):
        with pytest.raises(ImportError, match=re.escape("pip install '.[report]'")):
            write()
    assert not list(tmp_path.iterdir())
