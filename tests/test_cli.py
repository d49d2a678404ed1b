"""The command, from its arguments to the files it writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from art_mtl.cli import main, parse_eps, parse_radii
from art_mtl.evaluation import Results
from art_mtl.version import __version__

VICTIM = """
import numpy as np
import torch
from art_mtl import tasks

class Net(torch.nn.Module):
    def forward(self, x):
        return {"seg": torch.cat([x, -x], 1), "depth": 2 + x}

def build():
    x = np.random.default_rng(0).uniform(-1, 1, (5, 1, 6, 8)).astype(np.float32)
    y = {"seg": (x[:, 0] < 0).astype(int), "depth": x + 2.1}
    return Net(), [tasks.segmentation("seg", 2), tasks.depth("depth")], x, y, (-1, 1)

def broken():
    return 3
"""


@pytest.fixture
def victim(tmp_path: Path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(VICTIM)
    return f"{path}:build"


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_benchmark_from_end_to_end(victim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["benchmark", "--victim", victim, "--eps", "4/255", "l2:1.0", "--steps", "2", "--limit", "4"]
    arguments += ["--schedule", "published", "linear", "--device", "cpu", "--out", str(out)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "L∞, ε = 4/255 (2/255 in [0, 1])" in captured.out and "single-task reference" in captured.out
    assert "left" in captured.err  # the progress bar's time left
    results = Results.from_json(out / "results.json")
    assert results.samples == 4
    assert results.environment.seed == 0 and results.environment.packages["art-mtl"] == __version__
    assert results.command == "art-mtl " + " ".join(arguments)
    assert [(block.norm, block.eps) for block in results.blocks()] == [("l2", 1.0), ("linf", 4 / 255)]
    names = [attack.name for attack in next(results.blocks()).attacks]
    assert names[:4] == ["single:seg", "single:depth", "equal", "equal + linear step"] and names[-1] == "worst-task"
    assert results["worst-task"].weights is not None
    assert {path.name for path in out.iterdir()} == {
        ".lock", "figures", "report.md", "results.json", "run.sqlite", "table.csv", "table.md", "table.tex",
    }  # fmt: skip
    assert len(list((out / "figures").glob("example-*.png"))) == 2

    assert main(["show", str(out / "results.json"), "--format", "markdown"]) == 0
    assert capsys.readouterr().out == (out / "table.md").read_text()
    assert main(["show", str(out / "results.json"), "--format", "csv"]) == 0
    assert capsys.readouterr().out == (out / "table.csv").read_text()
    assert main(["show", str(out / "results.json")]) == 0
    assert "worst-task" in capsys.readouterr().out
    assert main(["show", str(out), "--format", "markdown"]) == 0
    assert capsys.readouterr() == ((out / "table.md").read_text(), "")

    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.suffix in (".json", ".md", ".csv", ".png")}
    assert main([*arguments, "--quiet"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items()), "nothing is computed or dated anew"
    capsys.readouterr()
    assert main([*arguments, "--steps", "3"]) == 2
    assert "max_iter=2" in one_error(capsys)


def test_the_same_command_gives_the_same_numbers(victim: str, tmp_path: Path) -> None:
    arguments = ["benchmark", "--victim", victim, "--methods", "equal", "worst-task", "--steps", "2", "--quiet"]
    tables = []
    for name in ("a", "b"):
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        tables.append((tmp_path / name / "table.csv").read_text())
    assert tables[0] == tables[1]


def test_nothing_is_printed_but_the_table_when_quiet(victim: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--victim", victim, "--methods", "equal", "--steps", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eps", "8/0"], r"argument --eps: expected a positive radius .* found '8/0'"),
        (["--eps", "l3:1"], r"argument --eps: .* found 'l3:1'"),
        (["--eps", "-1"], r"argument --eps"),
        (["--norm", "l2", "--eps", "linf:0.1"], r"argument --eps: expected radii .*\['l2'\]; found one of 'linf'"),
        (["--norm", "l7"], r"argument --norm: invalid choice: 'l7'"),
        (["--norm", "l1"], r"`eps` should give radii for l1"),
        (["--steps", "0"], r"argument --steps: expected a whole number of at least 1; found '0'"),
        (["--limit", "many"], r"argument --limit: expected a whole number of at least 1; found 'many'"),
        (["--seed", "-1"], r"argument --seed"),
        (["--methods", "minimax"], r"`methods` should be of .* Found 'minimax'. Perhaps 'minmax'"),
        (["--schedule", "steep"], r"argument --schedule: invalid choice"),
        (["--root", "x"], r"`root` should be left out"),
        (["--colour"], r"unrecognized arguments: --colour"),
    ],
)
def test_bad_arguments_are_one_line(victim: str, capsys, arguments: list[str], message: str) -> None:
    assert main(["benchmark", "--victim", victim, *arguments]) == 2
    assert re.search(message, one_error(capsys))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("castle", "`name` should be one of .* Found 'castle'"),
        ("/none.py:f", "Expected a Python file at /none.py"),
        ("{folder}/tiny.py:nothing", "Expected a function 'nothing'"),
        ("{folder}/tiny.py:broken", "should return a Victim, .*or DataLoader.*Found int"),
        ("nyuv2", "should have `root`"),
    ],
)
def test_bad_victims_are_one_line(victim: str, tmp_path: Path, capsys, name: str, message: str) -> None:
    assert main(["benchmark", "--victim", name.format(folder=tmp_path)]) == 2
    assert re.search(message, one_error(capsys))


def test_other_people_s_folders_are_refused_before_any_work(victim: str, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "--victim", "/none.py:f", "--out", str(tmp_path)]) == 2
    assert "new or empty folder" in one_error(capsys)
    forced = ["benchmark", "--victim", victim, "--methods", "equal", "--steps", "1", "--quiet", "--out", str(tmp_path)]
    assert main([*forced, "--force"]) == 0
    assert (tmp_path / "tiny.py").read_text() == VICTIM
    assert (tmp_path / "report.md").exists()


def test_a_traceback_only_on_request(victim: str) -> None:
    with pytest.raises(ValueError, match="castle"):
        main(["benchmark", "--victim", "castle", "--debug"])


def test_interruption(victim: str, tmp_path: Path, capsys, monkeypatch) -> None:
    from art_mtl.attacks import MultiTaskPGD

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MultiTaskPGD, "generate", interrupt)
    arguments = ["benchmark", "--victim", victim, "--methods", "equal", "--steps", "1", "--quiet"]
    assert main(arguments) == 130
    assert one_error(capsys) == "art-mtl: interrupted; nothing was written.\n"
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 130
    assert one_error(capsys).endswith(f"is finished is in {out}, and the same command goes on from there.\n")
    assert main(["show", str(out)]) == 0
    assert "0 of 3 attacks × chunks are finished; the table is of none of the 5 samples" in one_error(capsys)
    monkeypatch.undo()
    assert main([*arguments, "--out", str(out)]) == 0
    assert main(["compare", str(out), str(out), "--metrics", "--format", "markdown"]) == 0
    assert "| equal | Δ_Wor (%) |" in capsys.readouterr().out


def test_warnings_are_one_line(tmp_path: Path, capsys) -> None:
    text = VICTIM.replace("(x[:, 0] < 0)", "(x[:, 0] >= 0)")  # every pixel wrong: an mIoU of 0
    (tmp_path / "tiny.py").write_text(text)
    name = f"{tmp_path / 'tiny.py'}:build"
    assert main(["benchmark", "--victim", name, "--methods", "equal", "--steps", "1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("art-mtl: warning: The mIoU of task 'seg' is 0 on clean inputs")
    assert captured.err.count("\n") == 1
    assert "Δ leaves out seg" in " ".join(captured.out.split())


def test_list(capsys) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for word in (
        "worst-task",
        "minmax-official",
        "single:<task>",
        "surface_normals",
        "digits",
        "rooms",
        "nyuv2",
        "PATH.py:",
    ):
        assert word in text


def test_show_of_something_else(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.json").write_text("{}")
    assert main(["show", str(tmp_path / "a.json")]) == 2
    assert "format 'art_mtl.results'" in one_error(capsys)
    assert main(["show", str(tmp_path / "none.json")]) == 2
    assert "no file" in one_error(capsys)


def test_help_and_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"art-mtl {__version__}\n"
    assert main(["benchmark", "--help"]) == 0
    assert "--eps" in capsys.readouterr().out
    assert main([]) == 2


def test_python_dash_m() -> None:
    run = subprocess.run([sys.executable, "-m", "art_mtl", "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"art-mtl {__version__}\n")


def test_radii() -> None:
    assert parse_eps("8/255") == (None, 8 / 255)
    assert parse_eps("linf:0.05") == ("linf", 0.05)
    assert parse_radii([], ["l2"]) is None
    assert parse_radii([(None, 0.1), ("l2", 1.0)], None) == {"l2": (1.0,), "linf": (0.1,)}
    assert parse_radii([(None, 0.1), ("l2", 1.0)], ["linf", "l2"]) == {"linf": (0.1,), "l2": (0.1, 1.0)}
    for text in ("", "eps", "1/2/3", "nan", "inf", "0", "l2:", ":1"):
        with pytest.raises(ValueError, match="expected a positive radius"):
            parse_eps(text)


def test_benchmark_on_a_prepared_model_with_a_measured_batch(
    victim: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By methods whose weights are each sample's own, so that the batch size does not matter."""
    results = []
    for name, extra in {"exact": [], "prepared": ["--prepare", "fp32", "--batch-size", "auto"]}.items():
        arguments = [
            "benchmark",
            "--victim",
            victim,
            "--eps",
            "l2:1.0",
            "--methods",
            "equal",
            "minmax",
        ]  # Of their own sample each.
        arguments += ["--device", "cpu", "--quiet", "--out", str(tmp_path / name), *extra]
        assert main(arguments) == 0
        results.append(Results.from_json(tmp_path / name / "results.json"))
    for one, other in zip(*(r.attacks for r in results), strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-3)
    assert capsys.readouterr().err.count("art-mtl: Batch size ") == 1
    assert main(["benchmark", "--prepare", "fp8"]) == 2
    assert "argument --prepare: Parameter `prepare` should be 'exact', or one of" in capsys.readouterr().err
    assert main(["benchmark", "--batch-size", "large"]) == 2
