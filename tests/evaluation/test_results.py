"""Results on disk: exact round trips, versions, files written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult
from art_mtl.evaluation.results import mean_least_degradation, summarise
from art_mtl.files import staged_folder, write_text

number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def any_results(draw) -> Results:
    tasks, samples = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    column = st.tuples(*[number] * samples)
    row = st.tuples(*[number] * tasks)
    rows = st.tuples(*[row] * samples)
    described = [
        TaskResult(draw(st.text()), "depth", "aErr", draw(st.booleans()), draw(finite), "m", draw(number), draw(column))
        for _ in range(tasks)
    ]
    attack = AttackResult(
        draw(st.text()), "equal", draw(st.sampled_from(["linf", None])), draw(number), None,
        draw(st.none() | st.just(9)), draw(row), draw(row), draw(number), draw(number), draw(number),
        draw(rows), draw(rows), draw(finite), draw(finite), samples, draw(st.none() | rows), None,
    )  # fmt: skip
    clip = draw(st.none() | st.tuples(finite, finite))
    return Results(
        "v", tuple(described), (attack,), clip, Environment({"torch": "2"}, "cpu", "now", draw(st.none())), "x"
    )


@given(any_results())
def test_json_round_trip_is_exact(results: Results) -> None:
    assert Results.from_json_text(results.to_json_text()) == results


def test_file_round_trip(tmp_path: Path) -> None:
    task = TaskResult("seg", "segmentation", "mIoU", True, 100.0, "", 0.1 + 0.2, (math.pi, None))
    results = Results("ö", (task,), (), (-1.0, 1.0), Environment({}, "cpu", "d", 3))
    path = tmp_path / "new" / "results.json"
    results.to_json(path)
    assert Results.from_json(path) == results
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "The text: expected results. Found a fault: Input data was truncated"),
        ("[]", "no JSON document of format 'art_mtl.results'"),
        ('{"format": "other"}', "no JSON document of format 'art_mtl.results'"),
        ('{"format": "art_mtl.results", "version": 99}', "it is of version 99, not 3"),
        ('{"format": "art_mtl.results", "version": 3, "tasks": [{}]}', "missing required field"),
        ('{"format": ' + "[" * 100_000, "Found a fault"),
    ],
)
def test_other_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Results.from_json_text(text)


def _document() -> dict[str, Any]:
    task = TaskResult("seg", "segmentation", "mIoU", True, 100.0, "", 0.5, (1.0, None))
    environment = Environment({"torch": "2"}, "cpu", "d", None)
    attacks = (single("seg", (-0.5,), ((-0.5,), (None,))),)
    return json.loads(Results("v", (task,), attacks, (0.0, 1.0), environment).to_json_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["tasks"][0].update(clean="1"), r"`\$.tasks\[0\].clean`"),
        (lambda d: d["tasks"][0].update(scale=True), r"`\$.tasks\[0\].scale`"),
        (lambda d: d["attacks"][0].update(seconds=None), r"`\$.attacks\[0\].seconds`"),
        (lambda d: d["attacks"][0]["values"].append(0.1), "should have figures of 1 tasks"),
        (lambda d: d["attacks"][0]["sample_deltas"][1].clear(), "should have figures of 1 tasks"),
        (lambda d: d.pop("protocol"), r"missing \['protocol'\]"),
        (lambda d: d["environment"].update(more=1), r"unknown \['more'\] - at `\$.environment`"),
        (lambda d: d["clip_values"].append(1.0), r"length 2, got 3 - at `\$.clip_values`"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_file(change, message: str, tmp_path: Path) -> None:
    document = _document()
    assert Results.from_json_text(json.dumps(document)).tasks[0].clean == 0.5
    change(document)
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=rf"r.json: expected results. Found a fault: .*{message}"):
        Results.from_json(tmp_path / "r.json")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Found no such file"):
        Results.from_json(tmp_path / "none.json")


def test_not_a_number_never_reaches_the_file() -> None:
    task = TaskResult("seg", "segmentation", "mIoU", True, 100.0, "", math.nan, ())
    with pytest.raises(ValueError, match="not JSON compliant"):
        Results("v", (task,), (), None, Environment({}, "cpu", "d", None)).to_json_text()


def single(task: str, deltas: tuple[float, float], samples: tuple[tuple[float, float], ...]) -> AttackResult:
    return AttackResult(
        f"single:{task}", f"single:{task}", "linf", 0.1, "linear", 5, deltas, deltas, *summarise(deltas), None, samples,
        samples, 0.1, 2.0, 2,
    )  # fmt: skip


def test_the_bound_takes_each_task_from_its_own_attack() -> None:
    tasks = tuple(TaskResult(n, "depth", "aErr", False, 1.0, "", 1.0, (1.0, 1.0)) for n in "ab")
    attacks = (
        single("b", (-0.1, -0.6), ((-0.1, -0.2), (-0.3, -0.4))),
        single("a", (-0.8, -0.2), ((-0.5, -0.6), (-0.7, -0.8))),
    )
    results = Results("v", tasks, attacks, None, Environment({}, "cpu", "d", None))
    (block,) = results.blocks()
    bound = results.bound(block)
    assert bound is not None
    assert bound.deltas == (-0.8, -0.6)
    assert bound.delta_wor == -0.6 and bound.delta_mtl == pytest.approx(-0.7)
    assert bound.sample_deltas == ((-0.5, -0.2), (-0.7, -0.4))
    assert bound.least_degradation == pytest.approx(-0.3)
    assert bound.seconds == 4.0
    half = Results("v", tasks, attacks[:1], None, results.environment)
    assert half.bound(next(half.blocks())) is None


def test_summaries_of_nothing() -> None:
    assert summarise([None, None]) == (None, None)
    assert mean_least_degradation(((None,), (None,))) is None
    assert mean_least_degradation(((-0.5, 3.0),)) == 0.0


def test_looking_up_an_attack() -> None:
    task = TaskResult("a", "depth", "aErr", False, 1.0, "", 1.0, (1.0,))
    results = Results("v", (task,), (single("a", (-0.1, -0.2), ()),), None, Environment({}, "cpu", "d", None))
    assert results["single:a"].eps == 0.1
    with pytest.raises(KeyError, match="no attack 'b'; the attacks are \\['single:a'\\]"):
        results["b"]


def test_a_failure_in_the_middle_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), staged_folder(tmp_path) as stage:
        (stage / "a.txt").write_text("new")
        raise RuntimeError
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "old"}


def test_a_failure_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "deep" / "er") as stage:
        (stage / "a.txt").write_text("new")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_staged_files_arrive_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("mine")
    write_text(tmp_path / "a.txt", "ä\n")
    with staged_folder(tmp_path / "sub") as stage:
        (stage / "c").mkdir()
        (stage / "c" / "d.json").write_text(json.dumps([1]))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"a.txt", "b.txt", "sub/c/d.json"}


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="Found a file at"):
        write_text(tmp_path / "file" / "x.json", "")
