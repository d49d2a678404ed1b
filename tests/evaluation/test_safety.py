"""A run from a stranger, or from a failing disk: one line names what is wrong, and nothing runs."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from art_mtl import tasks
from art_mtl.evaluation import Results, Run
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.measure import MetricSpec, MetricState
from art_mtl.evaluation.provenance import describe_value
from art_mtl.evaluation.store import DATABASE, RunStore, StoredRun, _checksum
from art_mtl.evaluation.units import Unit, UnitResult
from art_mtl.metrics import SparseTensor, mean_iou, read_metric

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pytest imports tests from nowhere
import fuzzing
import small

sys.path.pop(0)


def figures(results: Results) -> Any:
    """All that was found but times."""
    return results.tasks, [{**vars(attack), "seconds": 0} for attack in results.attacks]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    small.finished_run(folder)
    return folder


def flips(folder: Path, finished: Path, count: int, seed: int) -> int:
    """Flip one bit after another in a copy of a run; how many had no effect on any number, and were not told."""
    data, expected, unnoticed = (finished / DATABASE).read_bytes(), figures(Run.read(finished).results), 0
    dice = random.Random(seed)
    for _ in range(count):
        at, bit = dice.randrange(len(data)), dice.randrange(8)
        (folder / DATABASE).write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        (folder / f"{DATABASE}-journal").unlink(missing_ok=True)
        state = None

        def read() -> None:
            nonlocal state
            state = Run.read(folder)

        if fuzzing.check_reading(read, str(folder)):
            assert state is not None and state.is_finished and figures(state.results) == expected, (at, bit)
            unnoticed += 1
    return unnoticed


def test_a_flipped_bit_is_told_or_changes_no_number(finished: Path, tmp_path: Path) -> None:
    assert flips(tmp_path, finished, 12, seed=0) < 12


def test_a_damaged_unit_is_found_first_and_computed_again_alone(finished: Path, tmp_path: Path) -> None:
    results = small.finished_run(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        [(blob,)] = connection.execute("SELECT result FROM chunk WHERE attack = 2 AND chunk = 1").fetchall()
        spoilt = blob[:20] + bytes([blob[20] ^ 4]) + blob[21:]
        connection.execute("UPDATE chunk SET result = ? WHERE attack = 2 AND chunk = 1", (spoilt,))
    connection.close()
    named = rf"{DATABASE}: .*minmax, linf 0.1, chunk 1"
    with pytest.raises(ValueError, match=named):
        Run.read(tmp_path)
    with pytest.raises(ValueError, match=r"Found 1 damaged: minmax, linf 0.1, chunk 1. `repair=True`"):
        small.finished_run(tmp_path)
    with StoredRun.opened(tmp_path) as run:
        about, attacks = run.about(), run.attacks()
    with RunStore.held(tmp_path, about, attacks, repair=True) as run:
        assert len(run.finished()) == 3 * 3 - 1 and Unit(2, 1) not in run.finished()
    again = small.finished_run(tmp_path)
    assert figures(again) == figures(results)


def test_a_whole_unit_in_the_place_of_another_is_no_number(finished: Path, tmp_path: Path) -> None:
    """It decodes and fits; only its checksum tells."""
    (tmp_path / DATABASE).write_bytes((finished / DATABASE).read_bytes())
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute(
            "UPDATE chunk SET result = (SELECT result FROM chunk WHERE attack = 2 AND chunk = 0)"
            " WHERE attack = 1 AND chunk = 0"
        )
    connection.close()
    with pytest.raises(ValueError, match="chunk 0. Found it damaged .it has another checksum"):
        Run.read(tmp_path)


def test_adversarial_inputs_have_a_checksum_of_their_own(finished: Path, tmp_path: Path) -> None:
    with StoredRun.opened(finished) as run:
        about, attacks, found = run.about(), run.attacks(), run.read(1)[0]
    inputs = torch.rand(4, 1, 4, 5).numpy()
    with RunStore.held(tmp_path, about, attacks) as run:
        run.save(Unit(1, 0), UnitResult(found.part, adversarial=inputs))
        run.save(Unit(1, 1), UnitResult(found.part))
        assert (run.adversarial(Unit(1, 0)) == inputs).all() and run.adversarial(Unit(1, 1)) is None
        run.connection.execute("UPDATE chunk SET inputs = zeroblob(100) WHERE chunk = 0")
        with pytest.raises(ValueError, match="equal, linf 0.1, chunk 0. Found it damaged"):
            run.adversarial(Unit(1, 0))
        assert run.damaged() == [Unit(1, 0)]


def forge(folder: Path, change: Any) -> None:
    """Change what a run says of itself, checksum and all."""
    with sqlite3.connect(folder / DATABASE) as connection:
        [(document,)] = connection.execute("SELECT document FROM about").fetchall()
        about = json.loads(document)
        change(about)
        forged = json.dumps(about).encode()
        connection.execute("UPDATE about SET document = ?, checksum = ?", (forged, _checksum((forged,))))
    connection.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["scales"][0].update(document={"torchmetric": "os.system", "with": 1}), "Found None"),
        (lambda a: a["scales"][0].update(document={"metric": "os.system"}), "Found 'os.system'"),
        (lambda a: a["scales"][0]["document"].update(num_classes=10**9), "in 1..4096"),
        (lambda a: a["scales"][0]["document"].update(num_classes=4), "'seg' should be of the metric 'mIoU'"),
        (lambda a: a["scales"][0]["document"].update(validate_args=0), "should have the sizes"),
        (lambda a: a["scales"].reverse(), "should be of the metric"),
        (lambda a: a["scales"].pop(), "labels are of shape"),
        (lambda a: a.update(samples=10**12, chunk=1), "1000000000000 samples in chunks of 1"),
        (lambda a: a.update(samples="10"), r"Expected `int`, got `str` - at `\$.samples`"),
        (lambda a: a.update(protocol="mine"), r"at `\$.protocol`"),
        (lambda a: a["attacks"].pop(), "expected units of 1 attacks"),
        (lambda a: a["attacks"][0].update(more=1, eps="x"), r"at `\$.attacks\[0\].eps`"),
        (lambda a: a.pop("environment"), "missing required field `environment`"),
    ],
)
def test_a_forged_description_is_refused_in_one_line(finished: Path, tmp_path: Path, change: Any, message: str) -> None:
    (tmp_path / DATABASE).write_bytes((finished / DATABASE).read_bytes())
    forge(tmp_path, change)
    with pytest.raises(ValueError, match=message):
        Run.read(tmp_path)
    assert not fuzzing.check_reading(lambda: Run.read(tmp_path), str(tmp_path))


def test_another_schema_could_run_for_ever_and_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes((finished / DATABASE).read_bytes())
    endless = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i FROM n)"
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        connection.execute("ALTER TABLE about RENAME TO was")
        connection.execute(f"CREATE VIEW about AS {endless} SELECT i AS document, i AS checksum FROM n")
    connection.close()
    with pytest.raises(ValueError, match="expected the tables of a benchmark run. Found others"):
        Run.read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-journal", "results.json"])
def test_pipes_folders_and_broken_links_are_named(finished: Path, tmp_path: Path, name: str) -> None:
    for make, found in (
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a folder"),
        (lambda path: path.symlink_to("gone"), "no|a link"),
    ):
        folder = tmp_path / found.split("|")[-1]
        folder.mkdir()
        if name != DATABASE:
            (folder / DATABASE).write_bytes((finished / DATABASE).read_bytes())
        make(folder / name)
        read = partial(*((Results.from_json, folder / name) if name == "results.json" else (Run.read, folder)))
        with pytest.raises((ValueError, OSError), match=found):
            read()
        assert not fuzzing.check_reading(read, str(folder))
        if name == DATABASE and found != "no|a link":
            with pytest.raises(ValueError, match=found):
                small.finished_run(folder)


def test_mutants_are_read_or_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    for name in (DATABASE, "results.json"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    counts = fuzzing.fuzz(60, tmp_path, seed=5, most=240)
    assert all(refused > 20 for _, refused in counts.values()), counts


def test_only_metrics_of_the_table_are_made() -> None:
    metric = mean_iou(4, 1)
    assert metric.document is not None and read_metric(metric.document) == metric
    for document in ({}, {"metric": "MeanMetric"}, {"metric": "f1"}, {"metric": "f1", "num_labels": True}):
        with pytest.raises(ValueError, match="stored metric"):
            read_metric(document)


def test_a_tensor_of_one_entry_is_stored_whatever_its_stride() -> None:
    rows = SparseTensor.of(torch.ones(2, 2, dtype=torch.float64))
    single = torch.arange(6.0, dtype=torch.float64).view(3, 2)[2:, 1]
    assert single.is_contiguous() and single.stride() == (2,)
    part = MetricState((rows,), torch.ones(2, 1, dtype=torch.bool), ({"list": [single], "one": single[0]},))
    state = UnitResult.decode(UnitResult(part).encode()).part.states[0]
    assert state["list"][0].tolist() == [5.0] and state["one"] == 5.0
    assert describe_value(single) == describe_value(torch.tensor([5.0], dtype=torch.float64))


def test_warnings_come_back_with_their_unit(finished: Path, tmp_path: Path) -> None:
    part = MetricState(
        (SparseTensor.of(torch.ones(2, 2, dtype=torch.float64)),), torch.ones(2, 1, dtype=torch.bool), ({},)
    )
    told = UnitResult(part, warnings=("2 samples were not attacked", "NaN"))
    assert UnitResult.decode(told.encode()).warnings == told.warnings


def synthetic(folder: Path, chunks: int, attacks: int = 5) -> float:
    """Store a run of so many chunks of 4 samples; seconds that it takes to see what is left and to sum it up."""
    infos = [AttackInfo(f"a{i}", "equal", "linf", 0.1, None, 1) for i in range(attacks)]
    about = {
        "settings": {"seed": 0}, "environment": {"packages": {}, "device": "cpu", "date": "", "seed": 0},
        "command": None, "victim": "v", "clip_values": [0, 1], "protocol": "pooled", "samples": 4 * chunks, "chunk": 4,
        "scales": [MetricSpec.of(tasks.depth("depth"), "pooled").to_json()],
        "measures": [],
    }  # fmt: skip
    rows = SparseTensor.of(torch.rand(4, 2, dtype=torch.float64))
    state = {"sum_abs_error": torch.tensor(1.0), "total": torch.tensor(4)}
    unit = UnitResult(MetricState((rows,), torch.ones(4, 1, dtype=torch.bool), (state,)), data="x")
    with RunStore.held(folder, about, infos) as run:
        run.connection.execute("PRAGMA synchronous = OFF")
        for chunk in range(chunks):
            for attack in range(attacks + 1):
                run.save(Unit(attack, chunk), unit)
    start = time.perf_counter()
    with RunStore.held(folder, about, infos) as run:
        done = run.finished()
        assert len(run.data()) == chunks and len(done) == chunks * (attacks + 1)
    assert Run.read(folder).is_finished
    return time.perf_counter() - start


def test_start_up_is_linear_in_the_number_of_units(tmp_path: Path) -> None:
    synthetic(tmp_path / "warm", 4)
    few, many = synthetic(tmp_path / "few", 40), synthetic(tmp_path / "many", 160)
    assert many < 8 * few + 0.5
