"""Checking a folder: what it holds is counted right, and what is wrong with it is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.data import PAPER_DATA
from art_mtl.data.check import TaskCheck, check, recognise
from art_mtl.data.prepare import render_rooms

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    render_rooms(tmp_path / "rooms", size=(16, 20), train=3, val=2, processes=1)
    return tmp_path / "rooms"


def hand_made(root: Path) -> Path:
    """Two samples of NYUv2 of which all counts are known."""
    for split in ("train", "val"):
        label, depth = np.full((4, 5), 3), np.full((4, 5, 1), 2.0)
        label[0], label[1, 0] = -1, 12
        depth[:2], depth[3, 4] = 0, 7.5
        normal = np.zeros((4, 5, 3))
        normal[1:, :, 2], normal[3, 0] = -1, (0, -2 / 3, 0)
        for folder, array in {"image": np.zeros((4, 5, 3)), "label": label, "depth": depth, "normal": normal}.items():
            (root / split / folder).mkdir(parents=True)
            np.save(root / split / folder / "0.npy", array)
    return root


def cityscapes(root: Path) -> Path:
    for split in ("train", "val"):
        files = {"image/0.png": np.zeros((4, 6, 3), np.uint8), "depth/0.png": np.full((4, 6), 1025, np.uint16),
                 "seg/0.png": np.full((4, 6), 7, np.uint8), "part_seg/0.tif": np.full((4, 6), 7, np.int32)}  # fmt: skip
        for name, pixels in files.items():
            (root / split / name).parent.mkdir(parents=True)
            Image.fromarray(pixels).save(root / split / name)
    return root


def test_a_hand_made_folder_is_counted_right(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = check(hand_made(tmp_path), progress=lambda *state: told.append(state))
    assert not found.faults and found.manifest is None and found.data is PAPER_DATA["nyuv2"]
    assert told == [(1, 2), (2, 2)]
    train = found.splits["train"]
    assert (train.samples, train.official, train.size) == (1, 795, (4, 5))
    segmentation, depth, normals = (train.tasks[name] for name in ("segmentation", "depth", "normals"))
    assert (segmentation.pixels, segmentation.valid) == (20, 15) and segmentation.invalid_share == 0.25
    assert segmentation.classes.tolist() == [0, 0, 0, 14, *[0] * 8, 1]
    np.testing.assert_allclose(segmentation.class_shares[[3, 12]], [14 / 15, 1 / 15])
    assert (depth.least, depth.greatest, depth.invalid_share) == (2.0, 7.5, 0.5)
    assert normals.invalid_share == 0.25 and normals.off == 1
    assert normals.least == pytest.approx(2 / 3) and normals.greatest == 1
    assert any("train: 1 samples; NYUv2 has 795" in warning for warning in found.warnings)
    assert any("4 x 5 pixels; the paper's are 288 x 384" in warning for warning in found.warnings)
    assert any("train: 6.7% of the normals are not of length 1" in warning for warning in found.warnings)


def test_counts_add_up_over_samples() -> None:
    one, parts = (TaskCheck(tasks.segmentation("s", 5)) for _ in range(2))
    label = torch.tensor(np.random.default_rng(0).integers(-1, 5, (6, 4)))
    one.add(label, 5)
    parts.add(label[:2], 5)
    parts.add(label[2:], 5)
    assert one.classes.tolist() == parts.classes.tolist() == label[label >= 0].bincount(minlength=5).tolist()
    assert (one.valid, one.pixels, one.least, one.greatest) == (parts.valid, parts.pixels, parts.least, parts.greatest)


def test_what_does_not_count_is_what_the_task_says() -> None:
    """Before, the check had a list of its own: 0 for depth, −1 for everything else."""
    found = TaskCheck(tasks.depth("d", invalid=-1))
    found.add(torch.tensor([[[-1.0, 0.0, 2.0]]]), 1)
    assert (found.pixels, found.valid, found.least, found.greatest) == (3, 2, 0.0, 2.0)


def test_a_prepared_folder_is_sound(rooms: Path) -> None:
    found = check(rooms)
    assert not found.faults and found.manifest is not None and found.manifest.data == "rooms"
    assert found.splits["val"].samples == 2
    assert not [warning for warning in found.warnings if "NYUv2 has" in warning], "rooms are as many as asked for"


def test_both_layouts_are_recognised(tmp_path: Path, rooms: Path) -> None:
    assert recognise(rooms).name == recognise(hand_made(tmp_path / "n")).name == "nyuv2"
    assert recognise(cityscapes(tmp_path / "c")).name == "cityscapes"
    found = check(tmp_path / "c")
    assert not found.faults and found.splits["val"].tasks["disparity"].greatest == 1
    with pytest.raises(FileNotFoundError, match="nowhere"):
        recognise(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="of NYUv2 or .* of Cityscapes. Found c, n, rooms"):
        recognise(tmp_path)


def test_every_kind_of_damage_is_told(rooms: Path) -> None:
    array = np.load(rooms / "train" / "depth" / "0.npy")
    np.save(rooms / "train" / "depth" / "0.npy", array + 1)  # sound, but another
    (rooms / "train" / "label" / "1.npy").write_bytes(b"half")
    (rooms / "val" / "normal" / "1.npy").unlink()
    (rooms / "val" / "image" / "x.txt").write_text("?")
    faults = check(rooms).faults
    for name, what in (
        ("train/depth/0.npy", "another size or checksum"),
        ("train/label/1.npy", "readable .npy"),
        ("val/normal/1.npy", "no such file"),
        ("val/normal/1.npy", "1 of 2 missing in normal"),
        ("val/image/x.txt", "only files that MANIFEST.json lists"),
    ):
        assert [fault for fault in faults if str(rooms / name) in fault and what in fault], (name, what)
    assert not [fault for fault in faults if "train/image" in fault]


def test_labels_of_which_nothing_is_valid_are_a_fault(tmp_path: Path) -> None:
    hand_made(tmp_path)
    np.save(tmp_path / "val" / "depth" / "0.npy", np.zeros((4, 5)))
    (fault,) = check(tmp_path).faults
    assert "labels of depth" in fault and str(tmp_path / "val") in fault


def test_reading_stops_after_twenty_faults(tmp_path: Path) -> None:
    hand_made(tmp_path)
    for folder in ("image", "label", "depth", "normal"):
        for i in range(1, 40):
            (tmp_path / "train" / folder / f"{i}.npy").write_bytes(b"half")
    found = check(tmp_path)
    assert len(found.faults) == 20 and any("stopped after 20" in warning for warning in found.warnings)


def test_a_missing_split_and_an_unfinished_folder_are_told(rooms: Path, tmp_path: Path) -> None:
    hand_made(tmp_path / "n")
    (tmp_path / "n" / "val").rename(tmp_path / "n" / "test")
    found = check(tmp_path / "n")
    assert list(found.splits) == ["train"] and "val" in found.faults[0]
    (rooms / ".unfinished.jsonl").write_text("{}")
    assert any("not finished" in fault for fault in check(rooms).faults)
