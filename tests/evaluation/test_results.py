"""Results on disk: exact round trips, versions, files written whole or not at all."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from art_mtl.core.methods import spec_of
from art_mtl.evaluation import AttackResult, Environment, Results, TaskResult
from art_mtl.evaluation.results import Block, Difference, mean_least_degradation, summarise
from art_mtl.files import staged_folder, write_text

number = st.none() | st.floats(allow_nan=False, allow_infinity=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
ends = st.none() | st.tuples(finite, finite)


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
        draw(rows), draw(rows), draw(finite), draw(finite), samples, draw(st.tuples(*[ends] * tasks)),
        draw(ends), draw(ends), draw(number), draw(number), draw(st.tuples(st.text())),
        draw(st.none() | rows), None,
    )  # fmt: skip
    difference = Difference(
        attack.name, "other", attack.norm, attack.eps, draw(row), draw(st.tuples(*[ends] * tasks)), draw(number),
        draw(ends), draw(number), draw(ends),
    )  # fmt: skip
    clip = draw(st.none() | st.tuples(finite, finite))
    where = Environment({"torch": "2"}, "cpu", "now", draw(st.none()))
    both = attack, replace(attack, name="other")
    return Results("v", tuple(described), both, clip, where, "x", differences=(difference,))


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
        ('{"format": "art_mtl.results", "version": 99}', "it is of version 99, not 5"),
        ('{"format": "art_mtl.results", "version": 5, "tasks": [{}]}', "missing required field"),
        ('{"format": ' + "[" * 100_000, "Found a fault"),
    ],
)
def test_other_files_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Results.from_json_text(text)


def _document() -> dict[str, Any]:
    task = TaskResult("seg", "segmentation", "mIoU", True, 100.0, "", 0.5, (1.0, None))
    environment = Environment({"torch": "2"}, "cpu", "d", None)
    one = single("seg", (-0.5,), ((-0.5,), (None,)))
    attacks = one, replace(one, name="b")
    apart = (Difference("b", one.name, one.norm, one.eps, (-0.1,), ((-0.2, 0.0),), -0.1, None, -0.1, None),)
    results = Results("v", (task,), attacks, (0.0, 1.0), environment, differences=apart)
    return json.loads(results.to_json_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["tasks"][0].update(clean="1"), r"`\$.tasks\[0\].clean`"),
        (lambda d: d["tasks"][0].update(scale=True), r"`\$.tasks\[0\].scale`"),
        (lambda d: d["attacks"][0].update(seconds=None), r"`\$.attacks\[0\].seconds`"),
        (lambda d: d["attacks"][0]["values"].append(0.1), "should have figures of 1 tasks"),
        (lambda d: d["attacks"][0]["sample_deltas"][1].clear(), "should have figures of 1 tasks"),
        (lambda d: d["attacks"][0]["delta_intervals"].append(None), "'single:seg' should have figures of 1 tasks"),
        (
            lambda d: d["differences"][0]["deltas"].append(0.1),
            "difference of 'b' and 'single:seg' should have figures of 1",
        ),
        (lambda d: d["differences"][0].update(other="c"), "a difference of each two attacks of one norm and eps"),
        (lambda d: d["attacks"].pop(), "a difference of each two attacks of one norm and eps"),
        (
            lambda d: d["differences"][0]["delta_intervals"].clear(),
            "difference of 'b' and 'single:seg' should have figures",
        ),
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


def single(
    task: str, deltas: tuple[float, float], samples: tuple[tuple[float, float], ...], evaluations: float | None = 5.0
) -> AttackResult:
    return AttackResult(
        f"single:{task}", f"single:{task}", "linf", 0.1, "linear", 5, deltas, deltas, *summarise(deltas), None, samples,
        samples, 0.1, 2.0, 2, tuple((delta - 0.1, delta + 0.05) for delta in deltas), None, None, evaluations, 7.0,
        ("slow", task),
    )  # fmt: skip


def test_the_reference_takes_each_task_from_its_own_attack() -> None:
    tasks = tuple(TaskResult(n, "depth", "aErr", False, 1.0, "", 1.0, (1.0, 1.0)) for n in "ab")
    attacks = (
        single("b", (-0.1, -0.6), ((-0.1, -0.2), (-0.3, -0.4))),
        single("a", (-0.8, -0.2), ((-0.5, -0.6), (-0.7, -0.8))),
    )
    results = Results("v", tasks, attacks, None, Environment({}, "cpu", "d", None))
    (block,) = results.blocks()
    reference = results.reference(block)
    assert reference is not None
    assert (reference.name, spec_of(reference.method).role) == ("single-task reference", "reference")
    assert reference.deltas == (-0.8, -0.6)
    assert reference.delta_wor == -0.6 and reference.delta_mtl == pytest.approx(-0.7)
    assert reference.delta_intervals == ((-0.8 - 0.1, -0.8 + 0.05), (-0.6 - 0.1, -0.6 + 0.05))
    assert reference.delta_wor_interval == pytest.approx((-0.7, -0.55))
    assert reference.delta_mtl_interval == pytest.approx((-0.8, -0.65))
    assert reference.sample_deltas == ((-0.5, -0.2), (-0.7, -0.4))
    assert reference.least_degradation == pytest.approx(-0.3)
    assert (reference.seconds, reference.gradient_evaluations, reference.forward_evaluations) == (4.0, 10.0, 14.0)
    assert reference.warnings == ("slow", "a", "b")
    half = Results("v", tasks, attacks[:1], None, results.environment)
    assert half.reference(next(half.blocks())) is None


def test_the_cost_of_the_reference_is_not_known_where_one_attack_was_not_counted() -> None:
    rows = ((-0.1, -0.2), (-0.3, -0.4))
    tasks = tuple(TaskResult(n, "depth", "aErr", False, 1.0, "", 1.0, (1.0, 1.0)) for n in "ab")
    attacks = single("a", (-0.8, -0.2), rows), single("b", (-0.1, -0.6), rows, evaluations=None)
    results = Results("v", tasks, attacks, None, Environment({}, "cpu", "d", None))
    assert results.reference(next(results.blocks())).gradient_evaluations is None


def test_summaries_of_nothing() -> None:
    assert summarise([None, None]) == (None, None)
    assert mean_least_degradation(((None,), (None,))) is None
    assert mean_least_degradation(((-0.5, 3.0),)) == 0.0


def test_looking_up_an_attack() -> None:
    task = TaskResult("a", "depth", "aErr", False, 1.0, "", 1.0, (1.0,))
    attack = single("a", (-0.1, -0.2), ())
    results = Results("v", (task,), (attack,), None, Environment({}, "cpu", "d", None))
    assert results["single:a"].eps == results["single:a", "linf", 0.1].eps == 0.1
    with pytest.raises(KeyError, match="no attack 'b'; the attacks are \\['single:a'\\]"):
        results["b"]
    several = replace(results, attacks=(attack, replace(attack, eps=0.2), replace(attack, norm="l2")))
    assert several["single:a", "linf", 0.2].eps == 0.2 and several["single:a", "l2", 0.1].norm == "l2"
    with pytest.raises(KeyError, match=r"3 attacks are called 'single:a', of norm and eps \[\('linf', 0.1\), .*: give"):
        several["single:a"]
    with pytest.raises(KeyError, match=r"no attack 'single:a' of norm and eps \('l2', 0.2\); it ran with"):
        several["single:a", "l2", 0.2]


def test_a_difference_is_found_both_ways_round() -> None:
    first, second = (replace(single("a", (-0.5, -0.2), ()), name=name) for name in ("one", "two"))
    known = Difference(
        "one", "two", "linf", 0.1, (-0.2, None), ((-0.3, -0.1), None), -0.2, (-0.3, -0.1), -0.2, (-0.4, -0.05)
    )
    results = Results("v", (), (first, second), None, Environment({}, "cpu", "d", None), differences=(known,))
    assert results.difference(first, second) is known and known.stronger == "one"
    other = results.difference(second, first)
    assert (other.attack, other.other, other.stronger) == ("two", "one", "one")
    assert (other.deltas, other.delta_intervals) == ((0.2, None), ((0.1, 0.3), None))
    assert other.delta_wor_interval == (0.05, 0.4) and other.reversed() == known
    with pytest.raises(KeyError, match="two attacks of one norm and eps have one"):
        results.difference(first, replace(second, eps=0.2))


def test_the_strongest_attack_is_no_reference_and_not_the_weakest() -> None:
    def attack(name: str, worst: float | None) -> AttackResult:
        return replace(single("a", (-0.5, -0.2), ()), name=name, method=name, delta_wor=worst)

    attacks = [attack("none", None), attack("weak", -0.1), attack("strong", -0.4), attack("mid", -0.2)]
    block = Block("linf", 0.1, (*attacks, attack("single:a", -0.9)))
    assert block.strongest is not None and block.strongest.name == "strong"
    assert Block("linf", 0.1, (attacks[0], block.attacks[-1])).strongest is None
    assert [attack.name for attack in block.ranked] == ["strong", "mid", "weak"]
    lost = replace(attacks[2], values=(None, -0.2))
    assert Block("linf", 0.1, (*attacks[:2], lost)).strongest == attacks[1], "its Δ_Wor is that of one task"


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
