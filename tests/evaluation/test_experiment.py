"""An experiment: its checks, its radii, and its file."""

from __future__ import annotations

import os
import re
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from art_mtl.evaluation import Experiment
from art_mtl.evaluation.experiment import parse_eps, parse_radii

HEAD = "format: art_mtl.experiment\nversion: 1\n"
FULL = Experiment(
    "mine.py:f", ("equal", "single:depth"), ("l2", "linf"), ("0.1", "l2:3/2"), 7, ("linear", "restarts"), 3, 9, "train",
    "auto", 12, "bf16,memory-efficient", 4, "auto-lambda", "cpu", 2, Path("a b"), Path("c.pth"), True,
    Path("tasks.yaml"), Path("labels.csv"), ("seg=f1-macro", "live:depth=Mine"),
)  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def test_every_option_comes_back(file: Path) -> None:
    assert all(getattr(FULL, field.name) != field.default for field in fields(Experiment)), "nothing is a default"
    for experiment in (Experiment(), FULL):
        file.write_text(experiment.to_yaml())
        assert Experiment.from_yaml(file) == experiment
    file.write_text(HEAD + "eps: [0.05, 2/255, 1]\nlimit: 8\nroot: x\n")
    assert Experiment.from_yaml(file) == Experiment(eps=("0.05", "2/255", "1.0"), limit=8, root=Path("x"))


def test_every_option_is_documented() -> None:
    for field in fields(Experiment):
        assert re.search(rf"^ {{8}}{field.name}: [A-Z\"]", Experiment.__doc__ or "", re.MULTILINE), field.name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "`steps` should be an integer of at least 1. Found 0"),
        ({"steps": True}, TypeError, "`steps`"),
        ({"steps": 2.0}, TypeError, "`steps`"),
        ({"restarts": 0}, ValueError, "`restarts`"),
        ({"limit": 0}, ValueError, "`limit`"),
        ({"chunk": 0}, ValueError, "`chunk`"),
        ({"threads": 0}, ValueError, "`threads`"),
        ({"seed": -1}, ValueError, "`seed` should be an integer of at least 0"),
        ({"batch_size": "large"}, TypeError, "`batch_size`"),
        ({"batch_size": 0}, ValueError, "`batch_size`"),
        ({"attacks": "equal"}, TypeError, "`attacks` should be a list. Found 'equal'"),
        ({"attacks": (3,)}, TypeError, "`attacks` should be a name. Found 3"),
        ({"schedule": ()}, ValueError, "`schedule`"),
        (
            {"schedule": ("steep",)},
            ValueError,
            "`schedule` should be one of published, linear, cosine, restarts. Found 'steep'",
        ),
        ({"norm": ("l3",)}, ValueError, "`norm` should be infinity, 2 or 1"),
        ({"attacks": ()}, ValueError, "`attacks` should have at least one entry"),
        ({"split": "val"}, ValueError, "`split`"),
        ({"protocol": "mean"}, ValueError, "`protocol`"),
        ({"device": "tpu"}, ValueError, "`device`"),
        ({"prepare": "fp8"}, ValueError, "`prepare`"),
        ({"root": 3}, TypeError, "`root` should be a path"),
        ({"victim": ""}, TypeError, "`victim`"),
        ({"keep_adversarial": 1}, TypeError, "`keep_adversarial` should be a bool"),
        ({"eps": ("1/0",)}, ValueError, "`eps` should be a positive radius"),
        ({"eps": (True,)}, TypeError, "`eps` should be a list of radii"),
        ({"eps": ("linf:1",), "norm": ("l2",)}, ValueError, r"radii of l2. Found one of linf"),
    ],
)
def test_what_is_wrong_is_said(options, error, message) -> None:
    with pytest.raises(error, match=message):
        Experiment(**options)
    with pytest.raises(error, match=message):
        replace(Experiment(), **options)


def test_norms_are_known_by_the_names_of_all_hosts() -> None:
    assert Experiment(norm=("Linf", "L2", 1, float("inf"))).norm == ("linf", "l2", "l1", "linf")
    assert parse_eps("L2:1") == ("l2", 1.0) and parse_radii(["Linf:0.5"]) == {"linf": (0.5,)}


def test_radii() -> None:
    assert parse_eps("8/255") == parse_eps(8 / 255) == (None, 8 / 255)
    assert parse_eps("linf:0.05") == ("linf", 0.05)
    assert parse_radii([], ["l2"]) is None
    assert parse_radii([0.1, "l2:1"]) == {"linf": (0.1,), "l2": (1.0,)}
    assert parse_radii(["0.1", "l2:1"], ["linf", "l2"]) == {"linf": (0.1,), "l2": (0.1, 1.0)}
    assert Experiment(eps=(0.1, "l2:1")).radii == {"linf": (0.1,), "l2": (1.0,)}
    for text in ("", "eps", "1/2/3", "nan", "inf", "0", "l2:", ":1", "1_0", -1, 0):
        with pytest.raises(ValueError, match="`eps` should be a positive radius"):
            parse_eps(text)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("steps: many", 3, "Parameter `steps` should be an integer of at least 1. Found 'many'"),
        ("\n\nsteps: 0", 5, "Parameter `steps` should be an integer of at least 1. Found 0"),
        ("stepz: 3", 3, "Found 'stepz'. Perhaps 'steps'?"),
        ("zzz: 3", 3, "Found 'zzz'. The keys are format, version, victim, attacks"),
        ("? [a, b]\n: 3", 3, r"Found \['a', 'b'\]"),
        ("steps: 3\nseed: 1\nsteps: 4", 5, "Expected each key once. Found 'steps', as on line 3"),
        ("attacks: !!python/object/apply:os.system [id]", 3, "Expected no tags"),
        ("steps: !!int 3", 3, "Expected no tags"),
        ("attacks: [&a x, *a]", 3, "Expected no anchors or aliases. Found 'a'"),
        ("attacks: [[x]]", 3, "Expected values, or lists of values"),
        ("attacks: {a: b}", 3, "`attacks` should be a list"),
        ("[" * 5000, 3, "Expected"),
        ("norm: [l2]\neps: [l2:1, linf:1]", 4, "`eps` should have radii of l2"),
        ("limit: 2026-01-01", 3, "`limit`"),
        ("seed: " + "9" * 5000, 3, "Expected a value"),
        ("<<: {steps: 3}", 3, "Expected a value"),
        ("---\nsteps: 3", 3, "Expected YAML. Found a fault"),
        ("steps: [3", 4, "Expected YAML. Found a fault"),
        ("keep_adversarial: 1", 3, "`keep_adversarial` should be a bool"),
        ("version: 1", 3, "Expected each key once"),
    ],
)
def test_a_fault_is_told_with_the_file_and_the_line(file: Path, text: str, line: int, message: str) -> None:
    file.write_text(HEAD + text + "\n")
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}, line {line}: .*{message}") as caught:
        Experiment.from_yaml(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version: 2\nformat: art_mtl.experiment\n", "line 1: Expected version 1. Found 2"),
        (b"version: '1'\nformat: art_mtl.experiment\n", "line 1: Expected version 1. Found '1'"),
        (b"version: true\nformat: art_mtl.experiment\n", "line 1: Expected version 1. Found True"),
        (b"format: art_mtl.results\nversion: 1\n", "line 1: Expected format 'art_mtl.experiment'. Found"),
        (b"format: art_mtl.experiment\n", "Expected .*Found no version"),
        (b"steps: 3\n", "Expected .*Found no format"),
        (b"", "Found something else"),
        (b"- 3\n", "Found something else"),
        (b"\xff", "Expected UTF-8"),
        (b"a: \x01", "Expected YAML"),
        (b"#" * 2**17, "at most 65536 bytes"),
    ],
)
def test_other_files_are_refused(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        Experiment.from_yaml(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    begun = time.monotonic()
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"{path}' is no regular file"):
            Experiment.from_yaml(path)
    with pytest.raises(FileNotFoundError, match="no file .*none"):
        Experiment.from_yaml(tmp_path / "none")
    assert time.monotonic() - begun < 5


def test_objects_are_named_and_kept_and_do_not_run(file: Path) -> None:
    live = Experiment("live:Net", ("equal", "live:PGD(eps=3)\n\x1b[2J"))
    file.write_text(live.to_yaml())
    assert Experiment.from_yaml(file) == live and live.live == (live.victim, live.attacks[1])
    with pytest.raises(ValueError, match="Found objects, .*: 'live:Net', 'live:PGD") as caught:
        live.check_names()
    assert "\x1b" not in str(caught.value)
    with pytest.raises(ValueError, match="Found objects, .*: 'live:depth=Mine'"):
        FULL.check_names()
    replace(FULL, measures=("seg=f1-macro",)).check_names()
