"""``art-mtl data``: from its arguments to folders, tables and pictures."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from art_mtl.cli import data, main
from art_mtl.data import NYUv2, Rooms
from art_mtl.data.prepare import read_manifest

RENDER = ["data", "render", "--size", "16x20", "--train", "3", "--val", "2", "--processes", "1"]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    assert main([*RENDER, "--to", str(tmp_path / "rooms"), "--quiet"]) == 0
    return tmp_path / "rooms"


def pixels(path: Path) -> np.ndarray:
    import matplotlib.image

    return np.asarray(matplotlib.image.imread(path))[..., :3]


def test_rendered_rooms_are_rooms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rooms = tmp_path / "rooms"
    assert main([*RENDER, "--to", str(rooms), "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "is complete: train 3, val 2 samples, 20 files" in said.err
    for split, name, size in (("train", "train", 3), ("val", "test", 2)):
        made, true = NYUv2(rooms, split), Rooms(name, size, height=16, width=20)
        assert len(made) == size
        for (image, labels), (x, y) in zip(made, true, strict=True):
            np.testing.assert_allclose(image.numpy(), x.numpy(), atol=1e-6)
            assert all(np.array_equal(labels[task].numpy(), y[task].numpy()) for task in y)


def test_rendering_again_keeps_what_is_there(rooms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RENDER, "--to", str(rooms)]) == 0
    said = capsys.readouterr().err
    assert "20 files (20 from before, verified)" in said and "5/5" in said
    assert main([*RENDER, "--to", str(rooms), "--seed", "1", "--quiet"]) == 2
    assert "settings.seed=0; you asked for settings.seed=1" in capsys.readouterr().err


def test_check_prints_tables_and_draws_a_sheet(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "120")
    sheet = tmp_path / "pictures" / "sheet.png"
    assert main(["data", "check", str(rooms), "--sheet", str(sheet), "--samples", "2"]) == 0
    said = capsys.readouterr()
    manifest = read_manifest(rooms)
    assert manifest is not None and manifest.data == "rooms"
    for word in ("rendered rooms in the layout of NYUv2", "16x20", "segmentation", "ceiling", "1.000 to 1.000"):
        assert word in said.out
    assert "is sound" in said.err and "all checksums as in MANIFEST.json" in said.err and str(sheet) in said.err
    picture = pixels(sheet)
    assert picture.shape[0] > 800 and picture.shape[1] > 1200
    assert len(np.unique((picture * 255).astype(int).reshape(-1, 3), axis=0)) > 100


def test_a_faulty_folder_is_told_and_draws_nothing(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (rooms / "train" / "depth" / "1.npy").write_bytes(b"half")
    assert main(["data", "check", str(rooms), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert str(rooms / "train" / "depth" / "1.npy") in said and "Found 2 faults" in said
    assert not list(tmp_path.glob("*.png"))
    assert main([*RENDER, "--to", str(rooms), "--quiet"]) == 0
    assert main(["data", "check", str(rooms), "--quiet"]) == 0
    assert (tmp_path / "contact-sheet-rooms.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "nowhere"], "Found none at nowhere"),
        (
            ["render", "--to", "x", "--size", "288"],
            "--size should be a height and a width such as 288x384. Found '288'",
        ),
        (["render", "--to", "x", "--train", "0"], "Option --train should be an integer of at least 1. Found 0"),
        (["render"], "--to"),
        (["prepare", "kitti"], "kitti"),
        (["prepare", "nyuv2", "--to", "x"], "--from"),
        (["prepare", "nyuv2", "--from", "nowhere", "--to", "x"], "4 of 4 missing: nyu_depth_v2_labeled.mat, from http"),
        (["prepare", "cityscapes", "--from", "nowhere", "--to", "x"], "nowhere"),
        ([], "should be followed by one of prepare, check, render. Found none."),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments, *(["--quiet"] if arguments[1:] else [])]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err
    assert not list(tmp_path.iterdir())


def test_prepare_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import art_mtl.data.prepare as prepare

    seen: list[dict] = []

    def record(source: Path, target: Path, **settings: object) -> None:
        seen.append({"source": source, "target": target, **settings})
        raise ValueError("enough")

    monkeypatch.setattr(prepare, "prepare_nyuv2", record)
    monkeypatch.setattr(prepare, "prepare_cityscapes", record)
    common = ["--from", "a", "--to", "b", "--processes", "3", "--quiet"]
    assert main(["data", "prepare", "nyuv2", *common]) == 2
    foggy = ["--size", "8x16", "--images", "leftImg8bit_foggy_beta_0.02", "--partly"]
    assert main(["data", "prepare", "cityscapes", *common, *foggy]) == 2
    both = {"source": Path("a"), "target": Path("b"), "processes": 3, "progress": None}
    assert seen[0] == {**both, "size": (288, 384)}
    assert seen[1] == {**both, "size": (8, 16), "images": "leftImg8bit_foggy_beta_0.02", "partly": True}


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import art_mtl.data.prepare as prepare

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "render_rooms", interrupt)
    with pytest.raises(KeyboardInterrupt, match="goes on from there"), data._resumable():
        interrupt()
    assert main([*RENDER, "--to", str(tmp_path / "x"), "--quiet"]) == 130


class Closed(io.StringIO):
    """A standard output that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise OSError


@pytest.mark.parametrize("what", ["folder", "table"])
def test_a_sheet_is_drawn_before_anything_is_printed(
    what: str, rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(rooms)]
    if what == "table":
        import matplotlib.image

        for i in range(2):
            matplotlib.image.imsave(tmp_path / f"{i}.png", np.full((8, 8, 3), i / 2))
        (tmp_path / "labels.csv").write_text("image,kind\n0.png,0\n1.png,1\n")
        (tmp_path / "tasks.yaml").write_text(
            "format: art_mtl.tasks\nversion: 1\ninput: {channels: 3, size: [8, 8]}\n"
            "tasks: [{name: kind, kind: classification, num_classes: 2}]\n"
        )
        arguments = [str(tmp_path / "labels.csv"), "--tasks", str(tmp_path / "tasks.yaml")]
    monkeypatch.setattr(sys, "stdout", Closed())
    assert main(["data", "check", *arguments, "--sheet", str(tmp_path / "sheet.png"), "--samples", "1", "--quiet"]) == 2
    assert len(pixels(tmp_path / "sheet.png"))


def test_a_table_that_is_missing_is_told(tmp_path: Path, capsys) -> None:
    told = tmp_path / "tasks.yaml"
    told.write_text("format: art_mtl.tasks\nversion: 1\ntasks:\n- {kind: regression, name: a}\n")
    assert main(["data", "check", str(tmp_path / "none.csv"), "--tasks", str(told)]) == 2
    assert "none.csv: expected a table (CSV). Found no such file" in capsys.readouterr().err
