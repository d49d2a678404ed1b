"""Measures beside the metric that Δ uses: in the run, on disk, in every view, by name and as torchmetrics objects."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from torchmetrics import classification as tc

from art_mtl import tasks
from art_mtl.core.warn import AttackWarning
from art_mtl.evaluation import Run, evaluate, make_measure_table, make_table, to_csv
from art_mtl.evaluation.experiment import CONFIG, Experiment

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pytest imports tests from nowhere
from small import Net

sys.path.pop(0)

pytestmark = pytest.mark.filterwarnings("ignore:Task 'marks' has no valid label", "ignore:No positive samples")
JOBS = [tasks.segmentation("seg", 3), tasks.depth("depth"), tasks.classification("kind", 3),
        tasks.multilabel("marks", 2)]  # fmt: skip


def data() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Samples with holes in the labels of every task."""
    x = np.random.default_rng(0).uniform(0, 1, (10, 1, 4, 5)).astype(np.float32)
    with torch.no_grad():
        raw = {name: value.numpy() for name, value in Net().eval()(torch.from_numpy(x)).items()}
    labels = {"seg": raw["seg"].argmax(1), "depth": raw["depth"] + 0.1, "kind": raw["kind"].argmax(1)}
    labels["marks"] = (raw["marks"] > 0).astype(int)
    labels["seg"][:, 0], labels["seg"][:4, 1] = -1, (labels["seg"][:4, 1] + 1) % 3
    labels["depth"][1:, :, 2] = 0
    labels["marks"][0] = -1
    labels["kind"][7] = (labels["kind"][7] + 1) % 3
    return x, labels


def run(**options) -> Run:
    settings = {"eps": [0.1], "steps": 2, "chunk": 4, "batch_size": 3, "progress": False, **options}
    return evaluate((Net(), JOBS), ["equal"], data(), **settings)


PAIRS = {
    "seg": {
        "f1-macro": tc.MulticlassF1Score(3, average="macro"),
        "pixel-accuracy": tc.MulticlassAccuracy(3, average="micro"),
    },
    "depth": {"rmse": torchmetrics.MeanSquaredError(squared=False), "abs-err": torchmetrics.MeanAbsoluteError},
    "kind": {"accuracy": lambda: tc.MulticlassAccuracy(3, average="micro")},
    "marks": {"f1-micro": tc.MultilabelF1Score(2, average="micro")},
}


def test_named_measures_and_torchmetrics_objects_agree_with_intervals():
    names = {task: [*found] for task, found in PAIRS.items()}
    named, live = run(measures=names), run(measures=PAIRS)
    assert [one.name for one in named.results.measures] == [n for task in names.values() for n in task]
    for a, b in zip(named.results.measures, live.results.measures, strict=True):
        assert b.clean == pytest.approx(a.clean, rel=1e-5)
        assert b.higher_is_better == a.higher_is_better and a.no_interval == b.no_interval == ""
    [a], [b] = named, live
    assert b.measures == pytest.approx(a.measures, rel=1e-5)
    for place, (one, other) in enumerate(zip(a.measure_intervals, b.measure_intervals, strict=True)):
        assert one == pytest.approx(other, rel=1e-4), named.results.measures[place]
        assert one[0] <= a.measures[place] <= one[1]


def test_adversarial_figures_are_those_of_torchmetrics_on_the_adversarial_inputs():
    found = run(measures=["seg=pixel-accuracy", "depth=rmse"], keep_adversarial=True)
    x, labels = found.adversarial("equal"), data()[1]
    with torch.no_grad():
        raw = Net().eval()(torch.from_numpy(x))
    known, measured = labels["seg"] >= 0, torch.from_numpy(labels["depth"] != 0)
    accuracy = (raw["seg"].argmax(1).numpy() == labels["seg"])[known].mean()
    error = (raw["depth"] - torch.from_numpy(labels["depth"]))[measured].square().mean().sqrt()
    assert found["equal"].measures == pytest.approx((accuracy, float(error)), rel=1e-5)


def test_a_state_that_is_no_sum_is_merged_over_chunks_and_has_no_interval():
    lists = {"kind": tc.MulticlassCalibrationError(3), "seg": tc.MulticlassAUROC(3)}
    parts, whole = run(measures=lists), run(measures=lists, chunk=12, batch_size=10)
    for a, b in zip(parts.results.measures, whole.results.measures, strict=True):
        assert a.clean == pytest.approx(b.clean)
        assert a.clean_interval is None and "no sum over samples" in a.no_interval
    assert any("kind MulticlassCalibrationError has no interval" in note for note in parts.measure_table().notes)


def test_everything_shows_them(tmp_path):
    measures = {"seg": ["pixel-accuracy", tc.MulticlassF1Score(3)], "depth": "rmse"}
    found = run(measures=measures, out=tmp_path / "run")
    frame = found.frame()
    rows = frame[frame.measure.notna()]
    assert rows.measure.tolist() == ["pixel-accuracy", "MulticlassF1Score", "rmse"]
    assert rows.attacked.tolist() == list(found["equal"].measures)
    assert (rows.attacked_low <= rows.attacked).all() and (rows.attacked <= rows.attacked_high).all()
    assert len(frame) == len(rows) + len(JOBS)
    assert "Further measures, with 95 % intervals." in repr(found) and "depth RMSE" in found._repr_html_()
    header, clean, *_ = to_csv(make_table(found.results, deltas=True)).splitlines()
    assert "seg pixel accuracy ↑,seg pixel accuracy ↑ 95 % from,seg pixel accuracy ↑ 95 % to" in header
    assert repr(found.results.measures[0].clean) in clean.split(",")
    assert len(make_measure_table(found.results).columns) == 4
    written = {path.name: path for path in found.report(tmp_path / "report")}
    for name in ("report.html", "report.md", "table.md"):
        text = written[name].read_text()
        assert "Further measures" in text and "MulticlassF1Score" in text
    assert "95 % from" in written["table.csv"].read_text()


def test_without_measures_nothing_is_different():
    found = run()
    assert found.results.measures == () and found.measure_table() is None
    assert "measure" not in found.frame()
    with pytest.raises(ValueError, match="which `measures=` asks for"):
        make_measure_table(found.results)


def test_a_stored_run_has_those_with_a_name(tmp_path):
    found = run(measures={"seg": ["f1-macro", {"mine": tc.MulticlassF1Score(3)}], "depth": "rmse"}, out=tmp_path)
    with pytest.warns(AttackWarning, match="the measures seg=mine are torchmetrics objects"):
        read = Run.read(tmp_path)
    kept = [one for one in found.results.measures if one.name != "mine"]
    assert list(read.results.measures) == kept
    assert read["equal"].measures == (found["equal"].measures[0], found["equal"].measures[2])
    assert read.experiment.measures == ("seg=f1-macro", "depth=rmse", "live:seg=mine")
    with pytest.raises(ValueError, match="objects.*'live:seg=mine'"):
        evaluate(Experiment.from_yaml(tmp_path / CONFIG))


def test_other_measures_are_another_run(tmp_path):
    run(measures={"depth": tc_rmse(False)}, out=tmp_path)
    again = run(measures={"depth": tc_rmse(False)}, out=tmp_path)
    assert again.results.measures[0].clean == pytest.approx(run(measures="depth=rmse").results.measures[0].clean)
    for others in ({"depth": tc_rmse(True)}, {"depth": "rmse"}, ()):
        with pytest.raises(ValueError, match="measures"):
            run(measures=others, out=tmp_path)


def tc_rmse(squared: bool) -> torchmetrics.Metric:
    return torchmetrics.MeanSquaredError(squared=squared)


def test_they_go_through_the_results_file(tmp_path):
    results = run(measures={"seg": "pixel-accuracy"}).results
    results.to_json(tmp_path / "results.json")
    assert Run.read(tmp_path / "results.json").results == results
    assert results.measures[0].name == "pixel-accuracy"


def test_the_reference_has_the_measure_of_each_task_under_its_own_attack():
    x, y = data()
    names = [f"single:{task.name}" for task in JOBS]
    found = evaluate((Net(), JOBS), names, (x, y), eps=[0.1], steps=2, progress=False,
                     measures=["depth=rmse", "seg=f1-macro"])  # fmt: skip
    [block] = found.results.blocks()
    reference = found.results.reference(block)
    assert reference.measures == (found["single:depth"].measures[0], found["single:seg"].measures[1])


@pytest.mark.parametrize(
    ("measures", "error", "message"),
    [
        ({"seg": "f2"}, ValueError, "of kind 'segmentation': miou, pixel-accuracy.*Found 'f2'"),
        ({"sky": "f1-macro"}, ValueError, "of the tasks \\['seg', 'depth', 'kind', 'marks'\\]. Found 'sky'"),
        ({"seg": ["f1-macro", "f1-macro"]}, ValueError, "'f1-macro' twice"),
        ({"seg": 3}, TypeError, "Found int for task 'seg'"),
        ({"seg": lambda: 3}, TypeError, "Found int for task 'seg'"),
        ("seg", ValueError, "such as seg=pixel-accuracy"),
        (["seg=,f1-macro"], ValueError, "such as seg=pixel-accuracy"),
        ({"marks": tc.MultilabelF1Score(2, average=None)}, ValueError, "compute one number"),
    ],
)
def test_bad_measures_are_errors_in_words(measures, error, message):
    with pytest.raises(error, match=message):
        run(measures=measures)


def test_labels_known_in_part_need_a_mark_and_images_need_all_their_places():
    x, labels = data()
    labels["marks"][3, 0] = -1
    given = {"eps": [0.1], "steps": 1, "progress": False}
    with pytest.raises(ValueError, match="should have an `ignore_index`"):
        evaluate((Net(), JOBS), ["equal"], (x, labels), measures={"marks": tc.MultilabelF1Score(2)}, **given)
    marked = {"marks": {"f1-macro": tc.MultilabelF1Score(2, ignore_index=-1)}}
    a, b = (evaluate((Net(), JOBS), ["equal"], (x, labels), measures=m, **given) for m in (marked, "marks=f1-macro"))
    assert a["equal"].measures == pytest.approx(b["equal"].measures)
    ssim = {"depth": torchmetrics.image.StructuralSimilarityIndexMeasure(data_range=1.0, kernel_size=3, sigma=0.5)}
    with pytest.raises(ValueError, match="labels with holes; a measure by name leaves them out"):
        evaluate((Net(), JOBS), ["equal"], (x, labels), measures=ssim, **given)
