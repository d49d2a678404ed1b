"""The report folder: complete, whole or not at all, and never over other people's files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import Gallery, Results, evaluate, write_report
from art_mtl.evaluation.report import write as report
from art_mtl.evaluation.report.write import check_folder


class Net(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seg": torch.cat([x, -x], 1), "depth": 2 + x, "kind": x.flatten(1)[:, :3]}


@pytest.fixture
def run() -> tuple[Results, Gallery]:
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
    labels = estimator.labels(y, len(x))
    gallery = Gallery(estimator, x, labels, {"seg": ("bed", "wall")})
    attacks = [
        MultiTaskPGD(estimator, "equal", eps=0.5, max_iter=2, verbose=False),
        WorstTaskPGD(estimator, eps=0.5, max_iter=2, verbose=False),
    ]
    return evaluate(
        estimator, attacks, (x, y), seed=0, command="art-mtl x", callbacks=[gallery], progress=False
    ).results, gallery


EXPECTED = {
    "figures/degradation.png",
    "figures/tasks-linf-0.5.png",
    "figures/example-linf-0.5.png",
    "figures/weights-linf-0.5.png",
    "report.md",
    "results.json",
    "table.csv",
    "table.md",
    "table.tex",
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_report_is_complete(run, tmp_path: Path) -> None:
    results, gallery = run
    written = write_report(tmp_path / "out", results, gallery)
    assert files(tmp_path / "out") == EXPECTED == {str(path.relative_to(tmp_path / "out")) for path in written}
    assert Results.from_json(tmp_path / "out" / "results.json") == results
    page = (tmp_path / "out" / "report.md").read_text()
    assert "art-mtl x" in page and (tmp_path / "out" / "table.md").read_text().strip() in page
    links = set(re.findall(r"\]\(([^)]+)\)", page))
    assert links == EXPECTED - {"report.md"}
    for figure in (tmp_path / "out" / "figures").iterdir():
        assert figure.read_bytes()[:4] == b"\x89PNG"


def test_the_example_shows_the_strongest_of_ours_beside_the_strongest_other_attack(run) -> None:
    found = {"equal": -0.3, "dgba": -0.4, "worst-image": -0.5, "single:seg": -0.7, "worst-task": -0.6, "Mine": -0.45}
    one = run[0].attacks[0]
    attacks = [replace(one, name=name, method=name, delta_wor=delta) for name, delta in found.items()]
    expectations = (
        (attacks, ["worst-task", "Mine"]),
        (attacks[:4], ["worst-image", "dgba"]),
        (attacks[:2], ["dgba", "equal"]),
        (attacks[3:5], ["worst-task", "single:seg"]),
        (attacks[3:4], ["single:seg"]),
    )
    for shown, expected in expectations:
        (block,) = replace(run[0], attacks=tuple(shown)).blocks()
        assert [attack.name for attack in report._compared(block)] == expected


def test_without_a_gallery(run, tmp_path: Path) -> None:
    write_report(tmp_path, run[0])
    assert files(tmp_path) == EXPECTED - {"figures/example-linf-0.5.png"}


def test_a_failure_in_the_middle_writes_nothing(run, tmp_path: Path, monkeypatch) -> None:
    results, gallery = run
    write_report(tmp_path / "old", results)
    before = {name: (tmp_path / "old" / name).read_bytes() for name in files(tmp_path / "old")}

    def fail(*_: object) -> str:
        raise RuntimeError("disk full")

    monkeypatch.setattr(report, "to_latex", fail)
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="disk full"):
            write_report(tmp_path / name, results, gallery)
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


def test_a_gallery_wants_pictures(run) -> None:
    gallery = run[1]
    with pytest.raises(ValueError, match=r"\(N, 1 or 3, H, W\). Found shape \(4, 5, 6\)"):
        Gallery(gallery.estimator, gallery.x[:, 0], gallery.y)
