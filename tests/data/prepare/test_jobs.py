"""The machinery of preparing: whole files or none, a journal that outlasts a kill, one run at a time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_mtl.data._base import JOURNAL, MANIFEST, check_finished
from art_mtl.data.prepare import jobs as jobs_module
from art_mtl.data.prepare import manifest as manifest_module
from art_mtl.data.prepare.jobs import Job, Plan, run, stray_files, text_job
from art_mtl.data.prepare.manifest import Entry, fingerprint, read_journal, read_manifest
from art_mtl.files import LOCK, locked

NAMES = [f"train/{i}.txt" for i in range(5)]


def plan(**changes: Any) -> Plan:
    plain: dict[str, Any] = {
        "data": "toy",
        "jobs": [text_job(name, [name, "x" * 100]) for name in NAMES],
        "counts": {"train": 5},
        "source": {"from": "a"},
        "settings": {"size": (2, 3)},
    }
    return Plan(**{**plain, **changes})


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopping(after: int):
    """Progress that interrupts once so many jobs are done."""

    def progress(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    return progress


def test_files_and_manifest_say_the_same(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = run(plan(), tmp_path / "to", processes=1, progress=lambda *state: told.append(state))
    assert done.made == 5 and done.kept == 0 and told == [(i, 5) for i in range(6)]
    written = read_manifest(tmp_path / "to")
    assert written is not None and written.files == done.manifest.files and written.head() == done.manifest.head()
    assert written.counts == {"train": 5} and set(written.files) == set(NAMES)
    for name, entry in written.files.items():
        assert (tmp_path / "to" / name).read_text() == f"{name}\n{'x' * 100}\n"
        assert entry == Entry.of(tmp_path / "to" / name)
    assert set(tree(tmp_path / "to")) == {*NAMES, MANIFEST, LOCK}, "no journal, no temporary is left"
    document = json.loads((tmp_path / "to" / MANIFEST).read_text())
    assert document["settings"] == {"size": [2, 3]} and document["format"] == 1
    check_finished(tmp_path / "to")


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(plan(), tmp_path / "to", processes=1, progress=stopping(2))
    begun = tree(tmp_path / "to")
    assert {NAMES[0], NAMES[1], JOURNAL} <= set(begun) and MANIFEST not in begun
    with pytest.raises(ValueError, match="begun and not finished"):
        check_finished(tmp_path / "to")
    done = run(plan(), tmp_path / "to", processes=1)
    assert (done.kept, done.made) == (2, 3)
    run(plan(), tmp_path / "whole", processes=1)
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")


def test_what_a_kill_leaves_half_written_is_swept_and_made_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(plan(), tmp_path / "to", processes=1, progress=stopping(3))
    (tmp_path / "to" / "train" / ".3.txt.123.part").write_text("hal")
    (tmp_path / "to" / NAMES[4]).write_text("renamed, and killed before it was recorded")
    (tmp_path / "to" / NAMES[1]).write_text("damaged since")
    journal = tmp_path / "to" / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-20])  # the last line was cut short
    known = read_journal(tmp_path / "to")
    assert known is not None and set(known.files) == set(NAMES[:2])
    done = run(plan(), tmp_path / "to", processes=1)
    assert (done.kept, done.made) == (1, 4)
    run(plan(), tmp_path / "whole", processes=1)
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")


def test_a_kill_between_manifest_and_journal_is_no_harm(tmp_path: Path) -> None:
    run(plan(), tmp_path / "to", processes=1)
    whole = tree(tmp_path / "to")
    head = read_manifest(tmp_path / "to")
    assert head is not None
    manifest_module.Journal(tmp_path / "to", head).close()
    with pytest.raises(ValueError, match="not finished"):
        check_finished(tmp_path / "to")
    done = run(plan(), tmp_path / "to", processes=1)
    assert done.kept == 5 and tree(tmp_path / "to") == whole


def test_a_finished_folder_is_verified_and_mended(tmp_path: Path) -> None:
    run(plan(), tmp_path / "to", processes=1)
    whole = tree(tmp_path / "to")
    assert run(plan(), tmp_path / "to", processes=1).made == 0
    (tmp_path / "to" / NAMES[0]).unlink()
    size = (tmp_path / "to" / NAMES[1]).stat().st_size
    (tmp_path / "to" / NAMES[1]).write_bytes(b"y" * size)  # the same size, another content
    done = run(plan(), tmp_path / "to", processes=1)
    assert (done.kept, done.made) == (3, 2) and tree(tmp_path / "to") == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": {"from": "b"}}, "source.from=a; you asked for source.from=b"),
        ({"settings": {"size": (2, 4)}}, r"settings.size=\[2, 3\]; you asked for settings.size=\[2, 4\]"),
        ({"settings": {"size": (2, 3), "more": 1}}, "settings.more=nothing; you asked for settings.more=1"),
        ({"data": "other"}, "data=toy; you asked for data=other"),
        ({"counts": {"train": 6}}, "counts.train=5; you asked for counts.train=6"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_source_or_setting_is_refused(tmp_path: Path, changes: dict, message: str, finished: bool) -> None:
    if finished:
        run(plan(), tmp_path, processes=1)
    else:
        with pytest.raises(KeyboardInterrupt):
            run(plan(), tmp_path, processes=1, progress=stopping(2))
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(plan(**changes), tmp_path, processes=1)
    assert tree(tmp_path) == before


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with locked(tmp_path / "to"), pytest.raises(BlockingIOError, match="another run at work"):
        run(plan(), tmp_path / "to", processes=1)
    run(plan(), tmp_path / "to", processes=1)


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("dear")
    with pytest.raises(ValueError, match="photo.jpg"):
        run(plan(), tmp_path, processes=1)
    assert tree(tmp_path) == {"photo.jpg": b"dear"}
    with pytest.raises(NotADirectoryError, match="photo.jpg"):
        run(plan(), tmp_path / "photo.jpg", processes=1)


def test_stray_files_are_told(tmp_path: Path) -> None:
    run(plan(), tmp_path, processes=1)
    (tmp_path / "train" / "7.txt").write_text("?")
    (tmp_path / "train" / ".DS_Store").write_text("?")
    written = read_manifest(tmp_path)
    assert written is not None and stray_files(tmp_path, written) == ["train/7.txt"]
    with pytest.raises(ValueError, match="train/7.txt"):
        run(plan(), tmp_path, processes=1)
    (tmp_path / "train" / "7.txt").unlink()
    run(plan(), tmp_path, processes=1)


def full_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """A disk that takes so many writes."""
    left = [writes]
    real = os.fsync

    def fsync(number: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(number)

    monkeypatch.setattr(manifest_module.os, "fsync", fsync)


@pytest.mark.parametrize("writes", range(13))
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    with monkeypatch.context() as patch:
        full_after(patch, writes)  # the journal's head, then a file and its line, five times, then the manifest
        if writes == 12:
            run(plan(), tmp_path / "to", processes=1)
        else:
            with pytest.raises(OSError, match="full: .* of 5 files are there and stay. Make room") as caught:
                run(plan(), tmp_path / "to", processes=1)
            assert str(tmp_path / "to") in str(caught.value)
            assert not list((tmp_path / "to").rglob("*.part")) and not (tmp_path / "to" / MANIFEST).exists()
    done = run(plan(), tmp_path / "to", processes=1)
    assert done.kept + done.made == 5 and done.kept >= max(0, (writes - 1) // 2)
    run(plan(), tmp_path / "whole", processes=1)
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    jobs = [*plan().jobs[:2], Job(("train/2.txt",), partial(np.load, tmp_path / "missing.npy"))]
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        run(Plan("toy", jobs, {}, {}, {}), tmp_path / "to", processes=1)
    assert set(read_journal(tmp_path / "to").files) == set(NAMES[:2])  # type: ignore[union-attr]


def test_an_error_in_one_process_keeps_what_the_others_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Job(("train/5.txt",), partial(np.load, tmp_path / "missing.npy"))
    # Threads, which start at once; processes are in the tests of the data sets.
    monkeypatch.setattr(jobs_module, "ProcessPoolExecutor", lambda count, **_: ThreadPoolExecutor(count))
    with pytest.raises(FileNotFoundError, match="missing.npy"):
        run(plan(jobs=[*plan().jobs[:2], missing, *plan().jobs[2:]]), tmp_path / "to", processes=2)
    known = read_journal(tmp_path / "to")
    assert known is not None and set(NAMES[:2]) <= set(known.files) <= set(NAMES)
    assert run(plan(), tmp_path / "to", processes=1).kept == len(known.files)
    run(plan(), tmp_path / "whole", processes=1)
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(jobs: list[Job], folder: Path, processes: int) -> Iterator[dict[str, Entry]]:
        yield jobs_module._work(folder, jobs[0])
        raise BrokenProcessPool("A process in the process pool was terminated abruptly")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="ended abruptly.*fewer processes"):
        patch.setattr(jobs_module, "_results", dying)
        run(plan(), tmp_path / "to")
    assert run(plan(), tmp_path / "to", processes=1).kept == 1


def test_a_job_must_make_what_it_says(tmp_path: Path) -> None:
    job = Job(("a", "b"), plan().jobs[0].make)
    with pytest.raises(RuntimeError, match=r"should make 2 files.*Found 1"):
        run(Plan("toy", [job], {}, {}, {}), tmp_path / "to", processes=1)


@pytest.mark.parametrize("content", ["", "{}", "[]", "nonsense", '{"format": 99}', '{"format": 1, "data": "x"}'])
@pytest.mark.parametrize("name", [MANIFEST, JOURNAL])
def test_damaged_records_are_told(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="expected .* of format 1") as caught:
        run(plan(), tmp_path, processes=1)
    assert str(tmp_path / name) in str(caught.value)


def test_fingerprints_tell_files_apart_but_not_places(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.bin").write_bytes(bytes(3_000_000))
    assert fingerprint([tmp_path / "a" / "x.bin"]) == fingerprint([tmp_path / "b" / "x.bin"])
    assert fingerprint([tmp_path / "a" / "x.bin"], tmp_path) != fingerprint([tmp_path / "b" / "x.bin"], tmp_path)
    seen = {fingerprint([tmp_path / "a" / "x.bin"])}
    for content in (bytes(2_999_999), b"1" + bytes(2_999_999), bytes(2_999_999) + b"1"):
        (tmp_path / "b" / "x.bin").write_bytes(content)
        seen.add(fingerprint([tmp_path / "b" / "x.bin"]))
    assert len(seen) == 4


def test_wrong_processes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`processes`"):
        run(plan(), tmp_path / "to", processes=0)
    assert not (tmp_path / "to").exists()
