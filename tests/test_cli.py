"""The command, from its arguments to the files it writes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl.cli import main
from art_mtl.cli.arguments import in_options
from art_mtl.cli.commands import COMMANDS
from art_mtl.cli.declarations import commands, options
from art_mtl.evaluation import Experiment, Results, Run, runner
from art_mtl.evaluation.report import write as report
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


def test_benchmark_from_end_to_end(victim: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = tmp_path / "out"
    arguments = ["benchmark", "--victim", victim, "--eps", "4/255", "l2:1.0", "--steps", "2", "--limit", "4"]
    arguments += ["--schedule", "published", "linear", "--device", "cpu", "--out", str(out)]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "L∞, ε = 4/255 (2/255 in [0, 1])" in captured.out and "single-task reference" in captured.out
    assert "unit/s" in captured.err  # the progress bar
    results = Results.from_json(out / "results.json")
    assert results.samples == 4
    assert results.environment.seed == 0 and results.environment.packages["art-mtl"] == __version__
    assert results.command == "art-mtl " + " ".join(arguments)
    assert [(block.norm, block.eps) for block in results.blocks()] == [("linf", 4 / 255), ("l2", 1.0)]
    names = [attack.name for attack in next(results.blocks()).attacks]
    assert names[:4] == ["single:seg", "single:depth", "equal", "equal + linear step"] and names[-1] == "worst-task"
    assert results["worst-task", "linf", 4 / 255].weights is not None
    assert {path.name for path in out.iterdir()} == {
        ".lock", "experiment.yaml", "figures", "report.html", "report.md", "results.json", "run.sqlite", "table.csv",
        "table.md", "table.tex",
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
    said = one_error(capsys)
    assert "max_iter=2" in said and said.endswith("Use another --out, or --restart to discard it.\n")


def test_the_same_command_gives_the_same_numbers(no_figures, victim: str, tmp_path: Path) -> None:
    arguments = ["benchmark", "--victim", victim, "--attacks", "equal", "worst-task", "--steps", "2", "--quiet"]
    tables = []
    for name in ("a", "b"):
        assert main([*arguments, "--out", str(tmp_path / name)]) == 0
        tables.append((tmp_path / name / "table.csv").read_text())
    assert tables[0] == tables[1]


def test_nothing_is_printed_but_the_table_when_quiet(victim: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--victim", victim, "--attacks", "equal", "--steps", "1", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eps", "8/0"], r"Option --eps should be a positive radius .* Found '8/0'"),
        (["--eps", "l3:1"], r"--eps should be .* Found 'l3:1'"),
        (["--eps", "-1"], r"--eps.* Found '-1'"),
        (["--norm", "l2", "--eps", "linf:0.1"], r"--eps should have radii of l2. Found one of linf"),
        (["--norm", "l7"], r"Option --norm should be infinity, 2 or 1 .* Found 'l7'\.$"),
        (["--norm", "l1"], r"--eps should give radii for l1"),
        (["--steps", "0"], r"Option --steps should be an integer of at least 1. Found 0"),
        (["--limit", "many"], r"Option --limit should be an integer of at least 1. Found 'many'."),
        (["--seed", "-1"], r"Option --seed should be an integer of at least 0. Found -1"),
        (
            ["--attacks", "minimax"],
            r"Option --attacks should be one of all, single:seg, .* Found 'minimax'. Perhaps 'minmax'",
        ),
        (["--attacks"], r"Option --attacks should be followed by NAME. Found nothing."),
        (["--schedule", "steep"], r"Option --schedule should be one of .* Found 'steep'"),
        (["--root", "x"], r"Option --root should be left out"),
        (["--colour"], r"art-mtl benchmark has no option --colour. \(see art-mtl benchmark --help\)$"),
        (["--victm=digits"], r"no option --victm. Perhaps '--victim'\? \(see art-mtl benchmark --help\)$"),
        (["--eps", "0.1", "--stesp", "3"], r"no option --stesp. Perhaps '--steps'\?"),
        (["--steps"], r"Option --steps should be followed by N. Found nothing. \(see art-mtl benchmark --help\)$"),
        (["--norm"], r"Option --norm should be followed by linf\|l2\|l1. Found nothing."),
        (["--steps", "1", "2"], r"benchmark should be followed by options. Found '2'."),
        (["--prepare", "fp8"], r"Option --prepare should be 'exact', or one of"),
        (
            ["--batch-size", "large"],
            r"Option --batch-size should be an integer of at least 1, or 'auto'\. Found 'large'",
        ),
    ],
)
def test_bad_arguments_are_one_line(victim: str, capsys, arguments: list[str], message: str) -> None:
    assert main(["benchmark", "--victim", victim, *arguments]) == 2
    assert re.search(message, one_error(capsys))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("castle", r"Option --victim should be one of .* Found 'castle'\.$"),
        ("digts", "Option --victim should be one of .* Found 'digts'. Perhaps 'digits'?"),
        ("/none.py:f", "/none.py: expected a Python file. Found no such file"),
        ("{folder}/tiny.py:nothing", "Expected a function 'nothing'"),
        ("{folder}/tiny.py:broken", "should return a Victim, .*or DataLoader.*Found int"),
        ("nyuv2", "should have --root, .* and --checkpoint"),
    ],
)
def test_bad_victims_are_one_line(victim: str, tmp_path: Path, capsys, name: str, message: str) -> None:
    assert main(["benchmark", "--victim", name.format(folder=tmp_path)]) == 2
    assert re.search(message, one_error(capsys))


def test_other_people_s_folders_are_refused_before_any_work(victim: str, tmp_path: Path, capsys) -> None:
    assert main(["benchmark", "--victim", "/none.py:f", "--out", str(tmp_path)]) == 2
    assert re.search("new or empty folder.*--force writes there all the same", one_error(capsys))
    forced = ["benchmark", "--victim", victim, "--attacks", "equal", "--steps", "1", "--quiet", "--out", str(tmp_path)]
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
    arguments = ["benchmark", "--victim", victim, "--attacks", "equal", "--steps", "1", "--quiet"]
    assert main(arguments) == 130
    assert one_error(capsys) == "art-mtl: interrupted; nothing was kept.\n"
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 130
    assert one_error(capsys).endswith(f"is finished is in {out}, and the same command goes on from there.\n")
    assert main(["show", str(out)]) == 0
    assert "0 of 3 attacks × chunks are finished; the table is of none of the 5 samples" in one_error(capsys)
    monkeypatch.undo()
    assert main([*arguments, "--out", str(out)]) == 0
    shutil.copytree(out, tmp_path / "same")
    assert main(["compare", str(out), str(tmp_path / "same"), "--metrics", "--format", "markdown"]) == 0
    assert "| equal | Δ_Wor (%) |" in capsys.readouterr().out


def test_warnings_are_one_line(tmp_path: Path, capsys) -> None:
    text = VICTIM.replace("(x[:, 0] < 0)", "(x[:, 0] >= 0)")  # every pixel wrong: an mIoU of 0
    (tmp_path / "tiny.py").write_text(text)
    name = f"{tmp_path / 'tiny.py'}:build"
    assert main(["benchmark", "--victim", name, "--attacks", "equal", "--steps", "1", "--quiet"]) == 0
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
        "detection",
        "keypoints",
        "embedding",
        "custom",
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
    assert "none.json: expected results. Found no such file." in one_error(capsys)
    assert main(["show", str(tmp_path / "nope")]) == 2
    assert one_error(capsys).endswith("nope. Expected its folder. Found no such folder.\n")
    assert main(["show", str(tmp_path)]) == 2
    assert f"There is no run at {tmp_path}. Expected its folder. Found no run.sqlite." in one_error(capsys)


def test_help_and_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"art-mtl {__version__}\n"
    assert main(["benchmark", "--help"]) == 0
    assert "--eps" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.endswith("Found 'trian'. Perhaps 'train'? (see art-mtl --help)\n")


HELPS = [[name] for name in COMMANDS if name != "data"]
HELPS += [["data", "check"], ["data", "render"], ["data", "prepare", "nyuv2"], ["data", "prepare", "cityscapes"]]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_states_one_default(capsys, words: list[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not re.search(r"Default: (?:(?! --).)*\(default", text), text


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_parameters_are_translated_to_options_that_there_are(capsys, words: list[str]) -> None:
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    for option in options(commands()[" ".join(words)]):
        said = in_options(f"Parameter `{option.field}` should be. Give `{option.field}=1`.", words)
        name = option.metavar if option.is_positional else f"--{option.name.replace('_', '-')}"
        assert said == f"{'The argument' if option.is_positional else f'Option {name}'} should be. Give {name}."
        assert re.search(rf"{re.escape(name.split()[0])}[] ,\n|]", text), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compare a --resamples 0", "Option --resamples should be an integer of at least 1. Found 0."),
        ("compare a b --format html", "Option --format should be one of .* Found 'html'."),
        ("compare a", "art-mtl compare should be followed by the folders of two runs or more. Found a."),
        ("compare", "art-mtl compare should be followed by the folders of two runs or more. Found none."),
        ("show", r"art-mtl show should be followed by DIR\|RESULTS.json. Found nothing. \(see art-mtl show --help\)"),
        ("show a b", r"art-mtl show should be followed by one DIR\|RESULTS.json. Found 2: a, b."),
        ("show a --fromat csv", r"art-mtl show has no option --fromat. Perhaps '--format'\?"),
        ("show a --format", r"Option --format should be followed by terminal\|csv\|markdown\|latex. Found nothing."),
        ("show -f csv a", "art-mtl show has no option -f."),
        ("diagnose a b", "art-mtl diagnose should be followed by one RUN. Found 2: a, b."),
        ("data", "art-mtl data should be followed by one of prepare, check, render. Found none."),
        ("data chek x", r"art-mtl data should be .* Found 'chek'. Perhaps 'check'\? \(see art-mtl data --help\)"),
        ("data prepare nyu", r"art-mtl data prepare should be .* Found 'nyu'. Perhaps 'nyuv2'\?"),
        ("data check x --no-shet", r"art-mtl data check has no option --no-shet. Perhaps '--no-sheet'\?"),
        ("data render", r"art-mtl data render should be told --to DIR. Found none."),
        ("train rooms --out o --no-augmnt", r"art-mtl train has no option --no-augmnt. Perhaps '--no-augment'\?"),
        ("train rooms", "art-mtl train should be told --out PATH. Found none."),
        (
            "reproduce --root a",
            r"art-mtl reproduce should be told --table I\|II\|III\|IV\|all, --checkpoint FILE. Found none.",
        ),
        ("diagnose --victim digits --limit 4 --attack wrst-task", r"Option --attack should .* Perhaps 'worst-task'\?"),
        ("bench --rounds 1", "Option --rounds should be an integer of at least 2. Found 1."),
        ("train rooms --out o --epochs 1.5", "Option --epochs should be an integer of at least 1. Found '1.5'."),
        ("train rooms --out o --lr x", "Option --lr should be a finite number above 0. Found 'x'."),
        ("train --data nyuv2 --out o --crop 3", "Option --crop should be a height and a width .* Found '3'."),
        ("train roms --out o", "The argument should be one of .* Found 'roms'. Perhaps 'rooms'?"),
        ("data render --to x --size 0x3", "Option --size should be a height and a width .* Found '0x3'."),
        ("data prepare nyuv2 --from x --to y --processes 0", "Option --processes should be an integer of at least 1"),
        ("diagnose --queries 1", "Option --queries should be an integer of at least 2. Found 1."),
        ("diagnose --victim digts", "Option --victim should be one of .* Perhaps 'digits'?"),
        ("diagnose --device tpu", "Option --device should be one of .* Found 'tpu'."),
    ],
)
def test_all_commands_refuse_in_the_same_words(capsys, arguments: str, message: str) -> None:
    assert main(arguments.split()) == 2
    assert re.search(f"^art-mtl: error: {message}", one_error(capsys))


def test_python_dash_m() -> None:
    run = subprocess.run([sys.executable, "-m", "art_mtl", "--version"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, f"art-mtl {__version__}\n")


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
            "--attacks",
            "equal",
            "minmax",
        ]  # Of their own sample each.
        arguments += ["--device", "cpu", "--quiet", "--out", str(tmp_path / name), *extra]
        assert main(arguments) == 0
        results.append(Results.from_json(tmp_path / name / "results.json"))
    for one, other in zip(*(r.attacks for r in results), strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-3)
    assert capsys.readouterr().err.count("art-mtl: Batch size ") == 1


# --- the command is quick, and safe to read ---


@pytest.mark.parametrize("arguments", [["--help"], ["benchmark", "--help"], ["data", "prepare", "nyuv2", "--help"]])
def test_help_imports_nothing_slow(arguments: list[str]) -> None:
    code = f"""
import sys
from art_mtl.cli import benchmark, main
assert main({arguments!r}) == 0
slow = ["torch", "art", "numpy", "matplotlib", "pandas", "scipy", "ray", "rich", "yaml"]
print("imported:", *[name for name in slow if name in sys.modules])"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].split() == ["imported:"]


@pytest.mark.parametrize("arguments", [["--victim", "a\x1b[2J\u202eb"], ["--norm", "l2\x1b[2J"], ["--\x1b[2J"]])
def test_what_a_terminal_would_obey_is_not_printed(capsys, arguments: list[str]) -> None:
    assert main(["benchmark", *arguments]) == 2
    assert not set(one_error(capsys)[:-1]) & {"\x1b", "\u202e", "\n"}


def test_torchrun_is_told_what_to_write(victim: str, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["benchmark", "--victim", victim]) == 2
    assert "art-mtl benchmark ... --ray local" in one_error(capsys)


# --- every option of an experiment does something ---


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take the most time; where they are not what is tested there are none."""
    monkeypatch.setattr(report, "write_figures", lambda folder, results, gallery: [])


def run(victim: str, out: Path, *arguments: str) -> Results:
    """The results of ``benchmark`` on the CPU."""
    where = ["--victim", victim, "--device", "cpu", "--quiet", "--out", str(out)]
    assert main(["benchmark", *where, *arguments]) == 0
    return Results.from_json(out / "results.json")


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--attacks", "equal", "minmax"], "attacks", ("equal", "minmax")),
        (["--attacks", "equal,minmax"], "attacks", ("equal", "minmax")),
        (["--attacks=equal,f(a=1,b=2)", "minmax,"], "attacks", ("equal", "f(a=1,b=2)", "minmax")),
        (["--norm", "l2", "l1"], "norm", ("l2", "l1")),
        (["--norm", "L2,Linf"], "norm", ("l2", "linf")),
        (["--eps", "2/255", "l2:1"], "eps", ("2/255", "l2:1")),
        (["--eps", "2/255,l2:1"], "eps", ("2/255", "l2:1")),
        (["--schedule", "linear,cosine"], "schedule", ("linear", "cosine")),
        (["--steps", "7"], "steps", 7),
        (["--schedule", "linear", "cosine"], "schedule", ("linear", "cosine")),
        (["--restarts", "5"], "restarts", 5),
        (["--limit", "9"], "limit", 9),
        (["--split", "train"], "split", "train"),
        (["--batch-size", "auto"], "batch_size", "auto"),
        (["--batch-size", "8"], "batch_size", 8),
        (["--chunk", "64"], "chunk", 64),
        (["--prepare", "fp32,compile"], "prepare", "fp32,compile"),
        (["--seed", "3"], "seed", 3),
        (["--protocol", "auto-lambda"], "protocol", "auto-lambda"),
        (["--device", "cpu"], "device", "cpu"),
        (["--threads", "2"], "threads", 2),
        (["--root", "r"], "root", Path("r")),
        (["--checkpoint", "c"], "checkpoint", Path("c")),
        (["--keep-adversarial"], "keep_adversarial", True),
    ],
)
def test_an_option_wins_over_the_file(monkeypatch, tmp_path: Path, arguments, name: str, value: object) -> None:
    """And every other option is the file's."""
    seen: list[Experiment] = []

    def record(experiment: Experiment, **_: object) -> None:
        seen.append(experiment)
        raise ValueError("enough")

    monkeypatch.setattr(runner, "evaluate", record)
    kept = Experiment("digits", ("worst-task",), ("l2", "linf"), ("l2:3",), 4, ("restarts",), 6, 5, chunk=12, seed=8)
    (tmp_path / "run.yaml").write_text(kept.to_yaml())
    assert main(["benchmark", "--config", str(tmp_path / "run.yaml")]) == 2
    (tmp_path / "run.yaml").write_text(replace(kept, norm=(), eps=()).to_yaml())
    assert main(["benchmark", "--config", str(tmp_path / "run.yaml"), *arguments]) == 2
    assert seen == [kept, replace(kept, **{"norm": (), "eps": (), name: value})]


def test_seed_and_restarts(no_figures, victim: str, tmp_path: Path) -> None:
    """Random starts differ by the seed, and more of them are never weaker."""
    restarts = ["--attacks", "equal", "--schedule", "restarts", "--steps", "1", "--eps", "0.2"]
    zero = run(victim, tmp_path / "a", *restarts, "--restarts", "1").attacks[0]
    one = run(victim, tmp_path / "b", *restarts, "--restarts", "1", "--seed", "1").attacks[0]
    more = run(victim, tmp_path / "c", *restarts, "--restarts", "6").attacks[0]
    assert zero.sample_values != one.sample_values
    assert (zero.name, more.name) == ("equal + linear step, best of 1", "equal + linear step, best of 6")
    assert zero.gradient_evaluations == 1 and more.gradient_evaluations == 6
    assert more.sample_values != zero.sample_values


def test_protocol_by_hand(no_figures, tmp_path: Path) -> None:
    """Errors e of images with n valid places: over all places, or first over batches of 4."""
    path = tmp_path / "uneven.py"
    path.write_text(
        VICTIM
        + """
def uneven():
    model, kinds, x, y, bounds = build()
    y["depth"] = 2 + x + np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1, 1) / 10
    y["depth"][0, 0, 0, 1:] = y["depth"][0, 0, 1:] = 0
    return model, kinds, x, y, bounds
"""
    )
    error, places = np.arange(1, 6) / 10, np.array([1, 48, 48, 48, 48])
    first = slice(0, 4)
    expected = {
        "pooled": (error * places).sum() / places.sum(),
        "auto-lambda": (4 * (error * places)[first].sum() / places[first].sum() + error[4]) / 5,
    }
    for protocol, value in expected.items():
        found = run(f"{path}:uneven", tmp_path / protocol, "--attacks", "equal", "--steps", "1", "--protocol", protocol)
        assert found.protocol == protocol and found.tasks[1].clean == pytest.approx(value, rel=1e-5)
    assert abs(expected["pooled"] - expected["auto-lambda"]) > 0.005


def test_chunk_and_restart(no_figures, tmp_path: Path, capsys) -> None:
    out, victim, attack = (
        tmp_path / "out",
        "digits",
        ["--limit", "8", "--eps", "0.1", "--attacks", "worst-task", "--steps"],
    )
    run(victim, out, *attack, "1", "--chunk", "4")
    assert Run.read(out).total == 2, "one attack on 4 + 4 samples"
    assert main(["benchmark", "--victim", victim, "--device", "cpu", "--out", str(out), *attack, "2"]) == 2
    message = capsys.readouterr().err
    assert "holds a run with chunk=4, " in message and "you asked for chunk=8, " in message
    assert run(victim, out, *attack, "2", "--restart").attacks[0].steps == 2
    assert Run.read(out).total == 1


def test_split_and_threads(no_figures, tmp_path: Path, capsys) -> None:
    few = ["--attacks", "equal", "--steps", "1", "--limit", "8"]
    test, train = (run("digits", tmp_path / split, *few, "--split", split) for split in ("test", "train"))
    assert test.tasks[2].sample_clean != train.tasks[2].sample_clean
    path = tmp_path / "counts.py"
    path.write_text(
        VICTIM.replace(
            "        return", '        raise ValueError(f"{torch.get_num_threads()} threads")\n        return', 1
        )
    )
    before = torch.get_num_threads()
    assert main(["benchmark", "--victim", f"{path}:build", "--threads", str(before + 2), "--device", "cpu"]) == 2
    assert f"{before + 2} threads" in capsys.readouterr().err and torch.get_num_threads() == before


# --- experiments in files ---


def test_a_run_can_be_made_again_from_its_folder(no_figures, victim: str, tmp_path: Path, capsys) -> None:
    options = [
        "--attacks",
        "equal",
        "worst-task",
        "--steps",
        "2",
        "--eps",
        "l2:1",
        "0.1",
        "--chunk",
        "4",
        "--seed",
        "3",
    ]
    run(victim, tmp_path / "a", *options)
    config = str(tmp_path / "a" / "experiment.yaml")
    assert main(["benchmark", "--config", config, "--quiet", "--out", str(tmp_path / "b")]) == 0
    one, other = ((tmp_path / name / "table.csv").read_text() for name in "ab")
    assert one == other
    assert Experiment.from_yaml(tmp_path / "b" / "experiment.yaml") == Experiment.from_yaml(config)
    capsys.readouterr()
    assert main(["benchmark", "--config", config, "--steps", "0"]) == 2
    assert "--steps" in one_error(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 3", "line 3: Expected a key of an experiment. Found 'stepz'. Perhaps 'steps'?"),
        ("\nsteps: many", "line 4: Parameter `steps` should be an integer of at least 1. Found 'many'"),
        (
            "attacks: [live:MyAttack(steps=3)]",
            "should name its victim, attacks and measures. Found objects.*'live:MyAttack",
        ),
    ],
)
def test_a_bad_file_is_one_line_of_the_file_and_the_line(tmp_path: Path, capsys, text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"format: art_mtl.experiment\nversion: 1\n{text}\n")
    assert main(["benchmark", "--config", str(path)]) == 2
    line = one_error(capsys)
    assert re.search(message, line) and (str(path) in line or "live" in text)
