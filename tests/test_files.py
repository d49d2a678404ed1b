"""What is a file and what only looks like one; one run at a time in a folder; settings that differ."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

import pytest

from art_mtl.differences import check_same, differences
from art_mtl.files import locked, regular_file, staged_folder, write_text


def test_a_file_and_a_link_to_one_are_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert regular_file(tmp_path / "a", limit=3) == tmp_path / "a"
    assert regular_file(str(tmp_path / "b")) == tmp_path / "b"
    with pytest.raises(ValueError, match=r"a: expected weights of at most 2 bytes. Found 3 bytes."):
        regular_file(tmp_path / "a", "weights", limit=2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket has at most about 100 characters
        server.bind("socket")
    for name, error, found in (
        ("pipe", ValueError, "Found a pipe"),
        ("folder", ValueError, "Found a folder"),
        ("socket", ValueError, "Found a socket"),
        ("nowhere", FileNotFoundError, "Found a link to a file that does not exist"),
        ("gone", FileNotFoundError, "Found no such file"),
        ("folder/x/y", FileNotFoundError, "Found no such file"),
        ("loop", OSError, "loop"),
        ("a\0b", ValueError, "null"),
    ):
        with pytest.raises(error, match=found) as caught:
            regular_file(tmp_path / name, "weights")
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="Found a device"):
        regular_file("/dev/zero")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(BlockingIOError, match="Found another run at work in it; wait until"), locked(tmp_path):
            pass
        pid = os.fork()
        if pid == 0:
            try:
                with locked(tmp_path):
                    os._exit(0)
            except BlockingIOError:
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    with locked(tmp_path):
        pass


def test_settings_that_differ_are_listed_and_may_be_accepted() -> None:
    stored = {"seed": 0, "versions": {"torch": "2.3", "numpy": "2"}, "sizes": [1, 2], "gone": 1}
    asked = {"seed": 0, "versions": {"torch": "2.4", "numpy": "2"}, "sizes": (1, 2)}
    assert differences(stored, asked) == {"versions.torch": ("2.3", "2.4"), "gone": (1, "nothing")}
    with pytest.raises(
        ValueError, match=r"^o holds a run with versions.torch=2.3, gone=1; you asked for .*=nothing. A.$"
    ):
        check_same(stored, asked, "o holds a run", "A.")
    with pytest.raises(ValueError, match=r"with gone=1; you asked for gone=nothing"):
        check_same(stored, asked, "o holds a run", "A.", accept=["versions"])
    assert check_same(stored, asked, "o", "A.", accept=["versions", "gone"]) == ["versions.torch", "gone"]
    with pytest.raises(ValueError, match=r"^What is accepted should be a name of .*'versions'.* Found 'vers'\.$"):
        check_same(stored, asked, "o", "A.", accept=["vers", "gone"])


def test_what_is_fixed_is_refused_whatever_is_accepted() -> None:
    stored, asked = {"sizes": {"chunk": 4, "batch": 1}}, {"sizes": {"chunk": 8, "batch": 2}}
    with pytest.raises(ValueError, match=r"^o with sizes.chunk=4; you asked for sizes.chunk=8. A.$"):
        check_same(stored, asked, "o", "A.", accept=["sizes", "sizes.chunk"], fixed=["sizes.chunk"])


def test_a_group_of_settings_that_is_missing_is_named_once() -> None:
    one, other = {"steps": 3, "more": {"eps": 0.1, "class": "A"}}, {"steps": 4}
    stored, asked = {"attacks": {"a": one}}, {"attacks": {"a": one, "b": one, "c": other}}
    found = differences(stored, asked)
    assert found == {"attacks.b": ("nothing", "3 settings"), "attacks.c": ("nothing", "1 setting")}
    assert differences(asked, stored) == {name: pair[::-1] for name, pair in found.items()}
    assert check_same(stored, asked, "o", "A.", accept=["attacks.b", "attacks.c"]) == ["attacks.b", "attacks.c"]
    assert check_same(stored, asked, "o", "A.", accept=["attacks"]) == ["attacks.b", "attacks.c"]
    with pytest.raises(ValueError, match=r"^o with attacks.b=nothing; you asked for attacks.b=3 settings. A.$"):
        check_same(stored, asked, "o", "A.", accept=["attacks.b.steps", "attacks.c"])
    with pytest.raises(ValueError, match=r"with attacks=nothing; you asked for attacks=7 settings. A.$"):
        check_same({}, asked, "o", "A.")


@pytest.mark.parametrize("write", [lambda path: write_text(path, "x"), lambda path: _stage(path)])
def test_an_error_names_what_was_asked_for_and_no_temporary_file(write, tmp_path: Path, monkeypatch) -> None:
    long = tmp_path / ("a" * 300)
    with pytest.raises(OSError, match="too long") as caught:
        write(long)
    assert caught.value.filename == str(long)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".hidden.part"))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError, match="place that can be written to") as denied:
        write(tmp_path / "report.html")
    assert denied.value.filename == str(tmp_path / "report.html") and "hidden" not in str(denied.value)


def _stage(path: Path) -> None:
    with staged_folder(path) as stage:
        (stage / "a").touch()
