"""Mutations of files and documents, and what may happen to a reader of them: an error in one line that names the file.

    python tests/evaluation/fuzzing.py 300

fuzzes a stored run and its results for as many seconds; a second number is the seed.
"""

from __future__ import annotations

import copy
import json
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ODD = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -0.5, 1e308, 5e-324, "", "a", "x" * 5000, "\x00", "‮",
    "../../etc/passwd", "__import__('os').system('id')", "os.system", [], {}, [[]], [None], {"a": 1}, [1] * 50,
)  # fmt: skip
LONGEST = 20
"""Seconds of work that one reading may take; ten times as many may pass on a busy machine."""


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """Bits flipped, parts cut out, doubled, exchanged or overwritten."""
    found = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 5, 20])):
        if not found:
            break
        at, other = dice.randrange(len(found)), dice.randrange(len(found))
        low, high = sorted((at, min(len(found), at + dice.choice([1, 4, 16, 512]))))
        match dice.randrange(6):
            case 0:
                found[at] ^= 1 << dice.randrange(8)
            case 1:
                del found[low:high]
            case 2:
                found[at:at] = found[low:high]
            case 3:
                found[low:high] = bytes(high - low)
            case 4:
                found[low:high] = dice.randbytes(high - low)
            case _:
                found[at], found[other] = found[other], found[at]
    return bytes(found)


def mutated_json(text: str, dice: random.Random) -> str:
    """A document with values of other kinds, missing and unknown keys, other lengths."""
    document = copy.deepcopy(json.loads(text))
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        places = list(_places(document))
        if not places:
            break
        owner, key = dice.choice(places)
        match dice.randrange(5):
            case 0:
                del owner[key]
            case 1 if isinstance(owner, dict):
                owner[dice.choice(["more", "__class__", "", key + "x"])] = owner[key]
            case 2 if isinstance(owner, list):
                owner.append(dice.choice(ODD))
            case 3:
                other, its = dice.choice(places)
                owner[key] = (
                    copy.deepcopy(other[its])
                    if its in (range(len(other)) if isinstance(other, list) else other)
                    else None
                )
            case _:
                owner[key] = copy.deepcopy(dice.choice(ODD))
    return json.dumps(document)


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in list(items):
        yield document, key
        yield from _places(value)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Raise where a reading takes too long, and list what it tried to run."""
    events: list[str] = []
    _HEARD.append(events)

    def late(*_: Any) -> None:
        raise TimeoutError("a reading hung")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, LONGEST), signal.ITIMER_REAL: (signal.SIGALRM, 10 * LONGEST)}
    before = {number: signal.signal(number, late) for number, _ in timers.values()}
    for timer, (_, seconds) in timers.items():
        signal.setitimer(timer, seconds)
    try:
        yield events
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _HEARD.remove(events)


_HEARD: list[list[str]] = []
_FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "os.fork",
    "socket.connect",
    "pickle.find_class",
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN:
        for events in _HEARD:
            events.append(event)


sys.addaudithook(_audit)


def check_reading(read: Callable[[], Any], name: str) -> bool:
    """Read something that may be damaged: it is read, or an error names the file in one line. Whether it was read.

    Raises:
        AssertionError: Anything else happens.
    """
    with watched() as events, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
            fine = True
        except (ValueError, OSError) as error:
            assert not isinstance(error, TimeoutError), "a reading hung"
            text, fine = str(error), False
            assert name in text and "\n" not in text, f"expected one line that names {name}. Found {text!r}"
    assert not events, f"reading ran {events}"
    return fine


def fuzz(seconds: float, folder: Path, seed: int = 0, most: int | None = None) -> dict[str, list[int]]:
    """Fuzz the results and the run that a folder holds; how many mutants of each were read and refused."""
    from art_mtl.evaluation import Results, Run
    from art_mtl.evaluation.report.page import page_html
    from art_mtl.evaluation.report.tables import make_table, to_markdown

    dice, end = random.Random(seed), time.monotonic() + seconds
    text, run = (folder / "results.json").read_text(), (folder / "run.sqlite").read_bytes()
    counts = {"results.json": [0, 0], "run.sqlite": [0, 0]}
    target = folder / "mutant"
    target.mkdir(exist_ok=True)
    page_html(Results.from_json(folder / "results.json"))  # which compiles the template of the package, once

    def results() -> None:
        found = Results.from_json(target / "results.json")
        to_markdown(make_table(found))
        page_html(found)

    while time.monotonic() < end and (most is None or sum(map(sum, counts.values())) < most):
        for name, read in (("results.json", results), ("run.sqlite", lambda: Run.read(target))):
            if name == "run.sqlite":
                content = mutated_run(run, target, dice) if dice.random() < 0.6 else mutated_bytes(run, dice)
            elif dice.random() < 0.3:
                content = mutated_bytes(text.encode(), dice)
            else:
                content = mutated_json(text, dice).encode()
            for old in target.iterdir():
                old.unlink()
            (target / name).write_bytes(content)
            counts[name][not check_reading(read, str(target))] += 1
    return counts


def mutated_run(run: bytes, folder: Path, dice: random.Random) -> bytes:
    """A database by someone who knows how checksums are made."""
    import sqlite3
    import zlib

    import msgspec

    from art_mtl.evaluation.store import _checksum

    path = folder / "forged.sqlite"
    path.write_bytes(run)
    connection = sqlite3.connect(path)
    if dice.random() < 0.5:
        [(document,)] = connection.execute("SELECT document FROM about").fetchall()
        forged = mutated_json(document.decode(), dice).encode()
        connection.execute("UPDATE about SET document = ?, checksum = ?", (forged, _checksum((forged,))))
    else:
        rows = connection.execute(
            "SELECT attack, chunk, session, rank, finished, result, pictures FROM chunk"
        ).fetchall()
        row = dice.choice(rows)
        plain = zlib.decompress(row[5])
        tree = msgspec.msgpack.decode(plain)
        for _ in range(dice.choice([1, 1, 2])):
            owner, key = dice.choice(list(_places(tree)))
            owner[key] = copy.deepcopy(dice.choice([one for one in ODD if one != 10**400]))
        result = zlib.compress(msgspec.msgpack.encode(tree) if dice.random() < 0.7 else mutated_bytes(plain, dice))
        mark = _checksum((*row[:5], result, row[6]))
        connection.execute(
            "UPDATE chunk SET result = ?, checksum = ? WHERE attack = ? AND chunk = ?", (result, mark, *row[:2])
        )
    connection.commit()
    connection.close()
    return path.read_bytes()


if __name__ == "__main__":
    import tempfile

    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from small import finished_run

    own_seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"seed {own_seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        finished_run(Path(name))
        print(fuzz(float(sys.argv[1]), Path(name), seed=own_seed))
