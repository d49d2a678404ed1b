"""What the command prints: approved by eye, in any encoding and width, whatever happens to it meanwhile.

``tests/outputs`` holds approved outputs. After a change on purpose, write them anew with ``APPROVE=1 pytest
tests/test_cli_output.py``, and look at each of them.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import tyro
from rich.console import Console
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes

from art_mtl.cli import main
from art_mtl.cli.commands import COMMANDS, union_of_commands
from art_mtl.cli.declarations import commands, options
from art_mtl.cli.help import COMMAND_GROUPS, EXAMPLES, OPTION_GROUPS
from art_mtl.cli.interruption import Interruption
from art_mtl.cli.options import Group
from art_mtl.evaluation import (
    AttackResult,
    Environment,
    Experiment,
    Results,
    TaskResult,
    make_table,
    run_time,
    to_rich,
    to_text,
)
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.callbacks import RunPlan, UnitReport
from art_mtl.evaluation.report import write as report
from art_mtl.evaluation.report.layout import Cell, Row, Table, lay_out, wrap
from art_mtl.evaluation.report.spelling import spelled
from art_mtl.evaluation.results import Difference, summarise
from art_mtl.evaluation.run_time import RunTime
from art_mtl.training import embedded

OUTPUTS = Path(__file__).parent / "outputs"
ROOT = Path(__file__).parents[1]
WIDTHS = (60, 80, 120)
ENCODINGS = ("utf-8", "cp1252", "ascii")
CLEAN = (0.9312, 0.1035, 9.41)
NUMBER = re.compile(r"-?\d+\.\d\d")


def attack(name: str, method: str, values: tuple[float, ...], eps: float, cost: float = 10) -> AttackResult:
    """An attack with the figures that its values give."""
    deltas = (values[0] / CLEAN[0] - 1, CLEAN[1] / values[1] - 1, CLEAN[2] / values[2] - 1)
    mean, least = summarise(deltas)
    return AttackResult(
        name=name, method=method, norm="linf", eps=eps, schedule=None, steps=10, values=values, deltas=deltas,
        delta_mtl=mean, delta_wor=least, least_degradation=least / 2, sample_values=(values,),
        sample_deltas=(deltas,), perturbation=eps, seconds=1.0, samples=1,
        delta_intervals=tuple((delta - 0.02, delta + 0.01) for delta in deltas), delta_mtl_interval=(mean, mean),
        delta_wor_interval=(least - 0.02, least + 0.01), gradient_evaluations=cost, forward_evaluations=11,
    )  # fmt: skip


@pytest.fixture(scope="module")
def results() -> Results:
    """Three dense tasks, two radii, rows of every role and with long names."""
    tasks = (
        TaskResult("segmentation", "segmentation", "mIoU", True, 100.0, "", CLEAN[0], (CLEAN[0],)),
        TaskResult("depth", "depth", "aErr", False, 100.0, "m", CLEAN[1], (CLEAN[1],)),
        TaskResult("normals", "surface_normals", "mDist", False, 1.0, "degrees", CLEAN[2], (CLEAN[2],)),
    )
    attacks = (
        attack("single:segmentation", "single:segmentation", (0.0212, 0.4421, 21.4), 4 / 255),
        attack("single:depth", "single:depth", (0.4312, 1.0421, 33.4), 4 / 255),
        attack("single:normals", "single:normals", (0.3912, 0.5421, 61.4), 4 / 255),
        attack("equal", "equal", (0.2528, 0.6728, 29.82), 4 / 255),
        attack("equal + linear step, best of 2", "equal", (0.2328, 0.6828, 31.12), 4 / 255, 20),
        attack("worst-task", "worst-task", (0.1969, 0.6799, 43.0), 4 / 255),
        attack("größer", "Foreign", (0.2969, 0.6799, 40.0), 8 / 255, 123456),
    )
    difference = Difference(
        "equal + linear step, best of 2", "worst-task", "linf", 4 / 255, (None,) * 3, (None,) * 3, None, None, 0.08,
        (0.03, 0.11),
    )  # fmt: skip
    unknown = replace(difference, delta_wor=None, delta_wor_interval=None)
    told = {(attacks[3].name, attacks[4].name), (attacks[3].name, attacks[5].name)}
    others = tuple(
        replace(
            difference if (one.name, other.name) in told else unknown, attack=one.name, other=other.name, eps=one.eps
        )
        for one, other in combinations(attacks, 2)
        if one.eps == other.eps and (one.name, other.name, one.eps) != (difference.attack, difference.other, 4 / 255)
    )
    return Results(
        victim="rooms", tasks=tasks, attacks=attacks, clip_values=(-1.0, 1.0),
        environment=Environment({}, "cpu", "2026-01-01", 0), differences=(difference, *others),
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("stored") / "results.json"
    results.to_json(path)
    return path


def printed(arguments: list[str], encoding: str, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command writes to standard output of this encoding."""
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(arguments) == 0
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue().decode(encoding)


# --- approved by eye ---


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("what", ["table", "help"])
def test_outputs_are_those_that_were_approved(what: str, encoding: str, stored: Path, monkeypatch) -> None:
    arguments = {"table": ["show", str(stored)], "help": ["benchmark", "--help"]}[what]
    found = ""
    for width in WIDTHS:
        text = printed(arguments, encoding, width, monkeypatch)
        found += f"{f' {width} ':=^{width}}\n{text}"
        examples = {f"    art-mtl {example}" for example in EXAMPLES["benchmark"].values()}
        assert all(len(line) <= width or line in examples for line in text.splitlines())
        assert "?" not in text
    path = OUTPUTS / ("help.txt" if what == "help" else f"table-{encoding}.txt")
    if "APPROVE" in os.environ:
        path.write_text(found, encoding="utf-8", newline="\n")
    assert found == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("variables", "encoding"),
    [
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252"),
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
        ({"LANG": "C", "LC_ALL": "C"}, "utf-8"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "ascii"),
    ],
)
def test_consoles_of_any_encoding_are_written(variables: dict[str, str], encoding: str, stored: Path) -> None:
    """Of standard error too: the victim has a letter that is in none of them."""
    environment = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "COLUMNS")} | variables
    ran = art_mtl("show", str(stored), env=environment)
    assert ran.returncode == 0 and ran.stderr == b""
    expected = (OUTPUTS / f"table-{encoding}.txt").read_text(encoding="utf-8")
    assert ran.stdout.decode(encoding) == expected.split(f"{' 80 ':=^80}\n")[1].split(f"{' 120 ':=^120}\n")[0]
    wrong = art_mtl("show", "Δ-漢.json", env=environment)
    assert wrong.returncode == 2 and wrong.stderr.count(b"\n") == 1 and b"?" not in wrong.stderr
    if "LC_ALL" not in variables:  # by which the name is read otherwise
        assert b"Delta-\\u6f22.json" in wrong.stderr


def art_mtl(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, its output in a pipe."""
    return subprocess.run([sys.executable, "-m", "art_mtl", *arguments], capture_output=True, **options)


def test_a_terminal_shows_the_same_in_its_own_width(stored: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "art_mtl", "show", str(stored)], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        text = b"".join(iter(lambda: _read(ours), b"")).decode()
    os.close(ours)
    assert process.returncode == 0 and "\x1b[" in text, "with colours"
    plain = re.sub(r"\x1b\[[\d;]*m", "", text).replace("\r\n", "\n")
    expected = (OUTPUTS / "table-utf-8.txt").read_text(encoding="utf-8")
    assert plain == expected.split(f"{' 80 ':=^80}\n")[0].removeprefix(f"{' 60 ':=^60}\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the process has closed it
        return b""


# --- tables in any width ---


def compared() -> Table:
    """Such as `compare` prints: two columns name a row."""
    cells = ("worst-task", "Δ_Wor (%)", "-29.06 [-31.06, -28.06]", "-30.01 [-32.06, -29.06]", "-0.95 [-1.00, -0.90] *")
    return Table(
        ("attack", "figure", "first run", "second run", "second run − first run"),
        (Row("block", (Cell("L∞, ε = 4/255"),)), Row("attack", tuple(map(Cell, cells)))),
        "a: rooms, 64 samples",
        keys=2,
    )


@pytest.mark.parametrize("width", [1, 5, 20, 33, 40, 47, 60, 77, 79, 80, 81, 100, 120, 200])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_width_breaks_a_number(results: Results, width: int, encoding: str) -> None:
    """Each is whole on a line, nothing is wider than the screen that could be narrower, and all columns are accounted
    for.
    """
    for table in (make_table(results), compared()):
        found = lay_out(table, width, encoding)
        lines = [line.text for line in (*found.body, *found.notes)]
        left_out = " ".join(line.text for line in found.notes).partition("; a wider terminal")[0]
        shown = [i for i, name in enumerate(table.columns) if spelled(name, encoding) not in left_out]
        for row in table.rows:
            for cell in (cell for i, cell in enumerate(row.cells) if i in shown and row.kind != "block"):
                numbers = NUMBER.findall(cell.text)
                assert all(any(number in NUMBER.findall(line) for line in lines) for number in numbers)
        parts = max(len(part) for line in lines for part in re.split(r"\s+|(?<=[a-z])[-:]", line.strip()))
        assert all(len(line) <= max(width, parts + 12) for line in lines if set(line) - set("─-"))
        spelled("\n".join(lines), encoding).encode(encoding)


def test_the_least_important_columns_are_left_out_first(results: Results) -> None:
    """Then the table is transposed, which has all of them."""
    table = make_table(results)
    order = ["per-image worst-task Δ (%)", "gradient evaluations", "role", "depth aErr ↓ (m ×100)", "Δ_MTL (%)"]
    before = 0
    for width in range(140, 19, -1):
        found = lay_out(table, width, "utf-8")
        notes = " ".join(line.text for line in found.notes)
        missing = notes.partition(";")[0] if notes.startswith("Left out") else ""
        if before == len(order) and not missing:
            assert [line.text for line in found.body if line.kind == "figure"][0] == "Δ_Wor (%)"
            continue
        gone = [name in missing for name in order]
        assert gone == sorted(gone, reverse=True) and sum(gone) >= before and "Δ_Wor (%)" not in missing
        before = sum(gone)
        if width == 80:
            assert gone == [True, True, True, False, False], "the tasks' metrics have room"
    assert before == len(order)
    text = to_text(table, 25, "utf-8")
    assert all(all(word in text for word in name.split()) for name in table.columns[1:])


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_rich_prints_the_lines_of_plain_text(results: Results, width: int) -> None:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard")
    console.print(to_rich(make_table(results), "table.md has them"), soft_wrap=True)
    text = re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())
    assert text == to_text(make_table(results), width, "utf-8", "table.md has them") + "\n"
    bold = re.findall(r"\x1b\[1;33m([^\x1b]*)\x1b", console.file.getvalue())
    best = [cell.text for row in make_table(results).rows for cell in row.cells if cell.bold]
    assert len(best) == 2 and set(best) == set(bold), "the strongest of each block"


def test_wide_letters_take_two_columns() -> None:
    table = Table(("a", "b"), tuple(Row("attack", (Cell(name), Cell("1.00"))) for name in ("漢字", "abcd")), "c")
    assert to_text(table, 80, "utf-8").split("\n")[3:] == ["漢字  1.00", "abcd  1.00"]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("worst-task", 10, ["worst-task"]),
        ("worst-task", 6, ["worst-", "task"]),
        ("single:depth", 8, ["single:", "depth"]),
        ("-82.00", 3, ["-82.00"]),
        ("is -82.00 % [-85.00, -79.00]; so", 17, ["is -82.00 %", "[-85.00, -79.00];", "so"]),
        ("", 5, [""]),
    ],
)
def test_texts_are_wrapped_at_words(text: str, width: int, lines: list[str]) -> None:
    assert wrap(text, width) == lines


def test_a_run_shows_itself_in_the_encoding_of_standard_output(results: Results, monkeypatch) -> None:
    from art_mtl.evaluation import Run

    monkeypatch.setenv("COLUMNS", "80")
    for encoding in ENCODINGS:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        text = repr(Run(results))
        assert text.encode(encoding) and len(text.split("\n")) <= 40
        assert "frame() has all figures" in " ".join(text.split())


@pytest.mark.parametrize("letter", ["漢", "\U0001f600", "é", "Δ", "─", "\udc80", "\ufffd"])
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437"])
def test_every_letter_is_spelled(letter: str, encoding: str) -> None:
    found = spelled(f"a{letter}b", encoding)
    assert found.encode(encoding) and found[0] == "a" and found[-1] == "b" and "?" not in found


# --- help ---


@pytest.mark.parametrize("words", [words for words in commands() if not issubclass(commands()[words], Group)])
def test_help_has_the_options_that_are_read(words: str, capsys) -> None:
    """Those that ``tyro`` has, each in a group; what ``tyro`` calls a default is one here too."""
    prefixes = OmitArgPrefixes, OmitSubcommandPrefixes
    with pytest.raises(SystemExit):
        tyro.cli(union_of_commands(), prog="x", args=[*words.split(), "--help"], config=prefixes)
    theirs = capsys.readouterr().out
    assert main([*words.split(), "--help"]) == 0
    ours = " ".join(capsys.readouterr().out.split())
    pairs = re.findall(r"^[│| ]{1,3}(--[a-z][a-z-]*)(?:, (--no-[a-z-]+))?", theirs, re.MULTILINE)
    read = {flag for pair in pairs for flag in pair if flag}
    flags = {flag for option in options(commands()[words]) for flag in option.flags}
    assert flags | {flag for _, flag in pairs if flag} == read
    listed = [name for names in OPTION_GROUPS.get(words, {}).values() for name in names]
    shown = {flag[2:].replace("-", "_") for flag in flags if not flag.startswith("--no-") or flag == "--no-sheet"}
    assert len(set(listed)) == len(listed) and shown - set(listed) <= {"debug"}
    for value in re.findall(r"\(default: ([\w.-]+)\)", " ".join(re.sub("[│|]", " ", theirs).split())):
        assert value in ("None", "False") or f"Default: {value}." in ours or "Default: yes." in ours
    assert "None" not in ours


def test_help_has_every_command_in_a_group(capsys) -> None:
    assert sorted(name for names in COMMAND_GROUPS.values() for name in names) == sorted(COMMANDS)
    assert set(EXAMPLES) == set(commands()), "each has examples"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


_DOWNLOADS = {"reproduce": "nyuv2", "train": "nyuv2", "data prepare": "downloads"}
"""What commands read that no test has, and the word for it in the error."""


def test_every_example_of_every_help_runs(tmp_path: Path, capsys, monkeypatch) -> None:
    """With fewer samples and steps. Examples that read official data get as far as to miss them."""
    monkeypatch.setattr(report, "write_figures", lambda folder, results, gallery: [])
    trained = SimpleNamespace(path=Path("digits.safetensors"), epochs=1, seconds=1.0, test={"left": 0.9})
    monkeypatch.setattr(embedded, "train", lambda *_, **__: trained)  # a minute; tests/training runs it
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 30 * 30, 5)).eval()
    torch.export.save(torch.export.export(net, (torch.rand(1, 3, 32, 32),)), "net.pt2")
    smaller = {r"--limit \d+": "--limit 4", r"--steps \d+": "--steps 2", r"--queries \d+": "--queries 2"}
    for example in [example for examples in EXAMPLES.values() for example in examples.values()]:
        for pattern, few in smaller.items():
            example = re.sub(pattern, few, example)
        if example.startswith("benchmark") and "--config" not in example:
            example += " --restart"
        missing = next((word for start, word in _DOWNLOADS.items() if example.startswith(start)), None)
        if missing is None or "train digits" in example:
            assert main(shlex.split(example)) == 0, f"{example}: {capsys.readouterr().err}"
            continue
        assert main(shlex.split(example)) == 2
        error = capsys.readouterr().err
        assert missing in error and "see art-mtl" not in error, "no fault of the command line"


# --- Ctrl-C, pipes, full disks ---

_STRIKE = """
import os, signal, sys
class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == {where!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Strike())
sys.argv = ["art-mtl", *{arguments!r}]
from art_mtl.cli import main
sys.exit(main())
"""


def struck(where: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """The command, with a Ctrl-C when it imports a module."""
    code = _STRIKE.format(where=where, arguments=arguments)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("where", ["art_mtl.cli.command_line", "tyro", "numpy", "torch", "torch._C", "rich.text"])
def test_ctrl_c_is_one_line(where: str, stored: Path) -> None:
    """While the command line is read, torch is imported, the table is printed."""
    ran = struck(where, ["show", str(stored)])
    assert (ran.returncode, ran.stderr) == (130, "art-mtl: interrupted.\n")


def test_ctrl_c_while_the_report_is_written_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["benchmark", "--victim", "digits", "--attacks", "equal", "--limit", "4", "--steps", "1", "--quiet"]
    arguments += ["--eps", "0.1", "--out", str(out)]
    ran = struck("art_mtl.evaluation.report.plots", arguments[:-1] + [str(tmp_path / "never")])
    assert (ran.returncode, ran.stderr.count("\n")) == (130, 1)
    ran = struck("matplotlib.backends.backend_agg", arguments)
    assert ran.returncode == 130 and ran.stdout == ""
    assert ran.stderr == f"art-mtl: interrupted; what is finished is in {out}.\n"
    assert not (out / "report.md").exists() and main(["show", str(out)]) == 0


def test_ctrl_c_that_others_swallow_still_counts(monkeypatch, capsys) -> None:
    from art_mtl.cli import command_line

    class Careless:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def swallow(argv: object) -> int:
        Careless()
        return 0

    def convert(argv: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
        return 0

    for broken in (swallow, convert):
        monkeypatch.setattr(command_line, "execute", broken)
        assert main(["list"]) == 130
        assert capsys.readouterr().err == "art-mtl: interrupted.\n"
    time.sleep(0.1)  # nothing comes later


def test_ctrl_c_is_as_before_afterwards() -> None:
    with Interruption():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "in the background of a script"
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("end", ["| true", "2>&1 | true", "| head -1"])
def test_a_reader_that_has_gone_is_no_error(end: str, stored: Path) -> None:
    code = f"{shlex.quote(sys.executable)} -m art_mtl show {stored} --format csv {end}; exit ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert ran.stderr == "" and ran.returncode in (0, 141)


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([sys.executable, "-m", "art_mtl", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "No space left" in ran.stderr


# --- what is said of a run ---


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(report, "write_figures", lambda folder, results, gallery: [])


def test_files_are_written_before_anything_is_printed(no_figures, tmp_path: Path, capsys, monkeypatch) -> None:
    from art_mtl.cli import benchmark

    def show(*_: object, **__: object) -> None:
        assert json.loads((tmp_path / "out" / "results.json").read_text())["victim"] == "digits"
        raise ValueError("printing failed")

    monkeypatch.setattr(benchmark, "show_table", show)
    few = ["--victim", "digits", "--attacks", "equal", "--limit", "4", "--steps", "1", "--eps", "0.1"]
    assert main(["benchmark", *few, "--out", str(tmp_path / "out")]) == 2
    assert "printing failed" in capsys.readouterr().err


def test_what_is_kept_and_what_is_complete_is_said(no_figures, tmp_path: Path, capsys) -> None:
    few = ["benchmark", "--victim", "digits", "--attacks", "equal", "--limit", "4", "--steps", "1", "--eps", "0.1"]
    assert main(few) == 0
    assert "art-mtl: nothing is kept without --out DIR" in capsys.readouterr().err
    for expected in (False, True):
        assert main([*few, "--out", str(tmp_path / "out")]) == 0
        said = capsys.readouterr()
        assert "nothing is kept" not in said.err and f"start with {tmp_path / 'out' / 'report.'}" in said.err
        assert (f"art-mtl: {tmp_path / 'out'} is complete already; nothing is computed." in said.err) == expected


def hear(
    infos: list[AttackInfo],
    costs: list[int | None],
    total: int,
    units: list[AttackInfo | None],
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tell a RunTime of units that take so many seconds; the first, clean ones, 100."""
    clock = iter([0.0, *(100.0 + place * seconds for place in range(len(units)))])
    monkeypatch.setattr(run_time.time, "monotonic", lambda: next(clock))
    told = RunTime()
    told.on_begin(RunPlan(Experiment(), "digits", (), tuple(infos), 8, 0, total, tuple(costs)))
    for done, who in enumerate(units):
        told.on_unit(UnitReport(who, 0, 8, 1.0, None, None, done, total))


@pytest.mark.parametrize(("seconds", "said"), [(1.0, False), (5.0, True)])
def test_a_long_run_is_announced(seconds: float, said: bool, caplog, monkeypatch) -> None:
    """Once, from the time of the first attack; the clean inputs before it do not count."""
    caplog.set_level("INFO", logger="art_mtl")
    info = AttackInfo("equal", "equal", "linf", 0.1, None, 10)
    hear([info], [10], 11, [None, info, info], seconds, monkeypatch)
    line = "The run takes about 50 seconds more: 10 of 11 attacks × chunks are left, and the first took 5 seconds."
    assert [record.getMessage() for record in caplog.records] == [line] * said


@pytest.mark.parametrize(
    ("costs", "line"),
    [
        # Two chunks of 10 + 30 + 80 evaluations; the first 10 took 6 seconds, and 230 are left.
        ([10, 30, 80], "takes about 2.3 minutes more: 5 of 6 attacks × chunks are left, and the first took 6 seconds."),
        # An ensemble counts as the costliest of the others: 10 + 30 + 30, and 130 are left.
        ([10, 30, None], "takes at least about 1.3 minutes more: 5 of 6"),
        # Nothing is known of the first, so that the second, of 30, tells: 60 are left behind it.
        ([None, 30], "takes at least about 12 minutes more: 98 of 100"),
    ],
)
def test_the_estimate_weighs_attacks_by_their_gradient_evaluations(costs, line: str, caplog, monkeypatch) -> None:
    caplog.set_level("INFO", logger="art_mtl")
    infos = [AttackInfo(f"a{place}", "equal", "linf", 0.1, None, 10) for place in range(len(costs))]
    total = 6 if len(costs) == 3 else 100
    # 2 + 1 units: the clean one, and as many attacks as have to be heard.
    hear(infos, costs, total, [None, *infos], 6.0 if total == 6 else 7.35, monkeypatch)
    (record,) = caplog.records
    assert line in record.getMessage()


def test_a_plan_says_what_its_attacks_cost(tmp_path: Path) -> None:
    """By method, number of tasks and restarts."""
    from art_mtl.evaluation import Callback, evaluate

    class Plan(Callback):
        def on_begin(self, plan: RunPlan) -> None:
            heard.append(dict(zip((info.name for info in plan.attacks), plan.gradient_evaluations, strict=True)))

    heard: list[dict[str, int | None]] = []
    names = ["equal", "worst-task", "jd:upgrad", "auto-attack-fast"]
    options = {"eps": [0.1], "steps": 2, "limit": 4, "schedule": "restarts", "restarts": 3, "progress": False}
    run = evaluate("digits", names, callbacks=[Plan()], **options)
    restarts = "+ linear step, best of 3"
    expected = {f"equal {restarts}": 6, "worst-task": 2, f"jd:upgrad {restarts}": 18, "auto-attack-fast": None}
    assert heard == [expected]
    for name in (f"equal {restarts}", "worst-task"):
        assert run[name].gradient_evaluations == expected[name], "as measured"
