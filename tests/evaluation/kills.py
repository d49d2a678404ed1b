"""Kill a benchmark at random moments, run the same command again, and compare what it wrote with a run that was spared.

    python tests/evaluation/kills.py --count 25

The commands run in forks of one process that has everything imported, so that a moment is likely to fall into the work.
Workers on many devices: see tests/evaluation/losses.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import torchmetrics.classification  # noqa: F401  (slow to import: once, here)

import art_mtl.attacks  # noqa: F401
from art_mtl.cli import main
from art_mtl.evaluation import Results

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
import tiny  # noqa: E402

CHAIN = 8
METHODS = ("equal", "worst-task")
TABLES = ("table.csv", "table.md", "table.tex")
UNITS = len(METHODS) * tiny.SAMPLES // CHAIN


def command(out: Path) -> list[str]:
    """The benchmark."""
    return [
        "benchmark", "--victim", f"{FOLDER / 'tiny.py'}:victim", "--attacks", *METHODS, "--eps", "0.1", "--steps", "3",
        "--chunk", str(CHAIN), "--device", "cpu", "--quiet", "--out", str(out),
    ]  # fmt: skip


def start(out: Path, calls: Path) -> int:
    """Fork the process of one session."""
    pid = os.fork()
    if pid == 0:
        os.environ["ART_MTL_CALLS"] = str(calls)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(os.open(str(calls) + ".err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os._exit(main(command(out)))
    return pid


def wait(pid: int) -> int:
    """Exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def finished(out: Path) -> set[tuple[str, str]]:
    """Name and chunk of every stored unit."""
    if not (out / "run.sqlite").exists():
        return set()
    chunks = {i: tiny.mark(tiny.inputs()[i * CHAIN : (i + 1) * CHAIN]) for i in range(tiny.SAMPLES // CHAIN)}
    with contextlib.closing(sqlite3.connect(out / "run.sqlite")) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return set()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT attack, chunk FROM chunk WHERE attack > 0").fetchall()
    return {(METHODS[attack - 1], chunks[chunk]) for attack, chunk in rows}


def called(calls: Path) -> list[tuple[str, str]]:
    """Name and chunk of every call of an attack."""
    lines = calls.read_text().split("\n") if calls.exists() else []
    return [(line.split()[0], line.split()[1]) for line in lines if line]


def trial(folder: Path, spared: Path, duration: float, dice: random.Random) -> int:
    """One run that is killed once or more; the number of units that were stored at the first kill."""
    out, calls, stored = folder / "out", folder / "calls", list[int]()
    while True:
        before = finished(out)
        already = len(called(calls))
        pid = start(out, calls)
        if len(stored) < 1 or (before and dice.random() < 0.3):
            time.sleep(dice.uniform(0, 1.1 * duration))
            os.kill(pid, signal.SIGKILL)
            wait(pid)
            stored.append(len(finished(out)))
            ended = False
        else:
            status = wait(pid)
            assert status == 0, (status, (folder / "calls.err").read_text())
            ended = True
        again = before & set(called(calls)[already:])
        assert not again, f"computed twice: {again}"
        if ended:
            break
    assert len(finished(out)) == UNITS
    compare(out, spared)
    return stored[0]


def compare(out: Path, spared: Path) -> None:
    """Raise unless both wrote the same."""
    for name in TABLES:
        assert (out / name).read_bytes() == (spared / name).read_bytes(), name
    figures = sorted(path.name for path in (spared / "figures").iterdir())
    assert sorted(path.name for path in (out / "figures").iterdir()) == figures
    for name in figures:
        assert (out / "figures" / name).read_bytes() == (spared / "figures" / name).read_bytes(), name
    one, other = (Results.from_json(path / "results.json") for path in (out, spared))
    assert one.tasks == other.tasks
    for mine, its in zip(one.attacks, other.attacks, strict=True):
        assert {**vars(mine), "seconds": 0} == {**vars(its), "seconds": 0}


def run(count: int, seed: int) -> None:
    """All trials."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spared, calls, began = folder / "spared", folder / "calls", time.monotonic()
        pid = start(spared, calls)
        while len(called(calls)) < UNITS and time.monotonic() < began + 60:
            time.sleep(0.01)
        duration = time.monotonic() - began  # until the last unit; then the report is written
        assert wait(pid) == 0, Path(f"{calls}.err").read_text()
        stored = []
        for number in range(count):
            own = folder / f"trial-{number}"
            own.mkdir()
            stored.append(trial(own, spared, duration, dice))
        print(f"{duration:.1f} s of work, {count} runs killed; stored of {UNITS}: {' '.join(map(str, stored))}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run(options.count, options.seed)
