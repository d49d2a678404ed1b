"""Kinds of other packages, found by entry points."""

from __future__ import annotations

import sys

import pytest

from art_mtl import tasks


def _package(folder, name, entries, code=""):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[art_mtl.tasks]\n" + "\n".join(entries) + "\n")
    (folder / f"{name}.py").write_text(code)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("kinds_of_mine", "kinds_of_others"):
        sys.modules.pop(name, None)


def test_nothing_is_imported_before_a_task_is_made(folder):
    code = "from art_mtl import tasks\ndef mine(name, floor=1.0): return tasks.custom(name, len, floor=floor)\n"
    _package(folder, "kinds_of_mine", ["mine = kinds_of_mine:mine", "broken = kinds_of_mine:nothing"], code)
    found = tasks.installed()
    assert {"mine", "broken"} <= set(found) and found["mine"].package == "kinds_of_mine"
    assert "kinds_of_mine" not in sys.modules
    assert found["mine"]("x", floor=2.0) == tasks.custom("x", len, floor=2.0)
    with pytest.raises(ImportError, match="'kinds_of_mine:nothing' of 'art_mtl.tasks' should be a function .*nothing"):
        found["broken"]("x")


def test_what_is_no_task_is_named(folder):
    _package(folder, "kinds_of_mine", ["mine = kinds_of_mine:mine"], "def mine(name): return name\n")
    with pytest.raises(TypeError, match="'kinds_of_mine:mine' of .* should make an art_mtl.Task. Found str"):
        tasks.installed()["mine"]("x")


def test_one_name_of_two_packages_is_an_error(folder):
    _package(folder, "kinds_of_mine", ["mine = kinds_of_mine:mine"])
    _package(folder, "kinds_of_others", ["mine = kinds_of_others:mine"])
    with pytest.raises(ValueError, match="name of its own. Found 'mine', which is taken by the package kinds_of_"):
        tasks.installed()
