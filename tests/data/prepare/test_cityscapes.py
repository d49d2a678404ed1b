"""From tiny trees in the official formats to samples: value by value, matched by name, and after a kill the same."""

from __future__ import annotations

import csv
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_mtl.data.cityscapes import Cityscapes
from art_mtl.data.prepare import cityscapes
from art_mtl.data.prepare.cityscapes import prepare_cityscapes

Image = pytest.importorskip("PIL.Image")

SIZE, FULL = (4, 8), (16, 32)
FRAMES = {
    "train": ["aachen_000000_000019", "aachen_000010_000019", "zurich_000001_000019"],
    "val": ["frankfurt_000000_000294", "munster_000003_000019"],
}
FOLDERS = {
    "image": ("leftImg8bit", "leftImg8bit.png"),
    "depth": ("disparity", "disparity.png"),
    "seg": ("gtFine", "gtFine_labelIds.png"),
    "part_seg": ("gtFinePanopticParts", "gtFinePanopticParts.tif"),
}


def path_of(root: Path, kind: str, frame: str, split: str = "train", images: str = "leftImg8bit") -> Path:
    folder, suffix = FOLDERS[kind]
    if kind == "image" and images != "leftImg8bit":
        folder, suffix = "_".join(images.split("_")[:2]), f"{images}.png"
    return root / folder / split / frame.split("_")[0] / f"{frame}_{suffix}"


def save(path: Path, pixels: np.ndarray, **settings: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)


def content(code: int) -> dict[str, np.ndarray]:
    """Noise of which every file tells which frame it is of: by its first pixels, and by what no noise holds."""
    rng = np.random.default_rng(code)
    pid = rng.integers(0, 6, FULL)
    uids = np.where(rng.random(FULL) < 0.5, 26_000_00 + pid + 100 * code, 24).astype(np.int32)
    return {
        "image": rng.integers(0, 256, (*FULL, 3), np.uint8),
        "depth": (rng.integers(0, 9, FULL) * 1024 + code).astype(np.uint16),
        "seg": rng.integers(0, 34, FULL).astype(np.uint8),
        "part_seg": uids,
    }


def official(root: Path, order: random.Random | None = None) -> dict[str, dict[str, np.ndarray]]:
    """A tree such as the unpacked downloads give; returns what it holds by frame."""
    frames = [(split, name) for split, names in FRAMES.items() for name in names]
    written = {name: content(code) for code, (_, name) in enumerate(frames)}
    files = [(kind, split, name) for split, name in frames for kind in FOLDERS]
    if order is not None:
        order.shuffle(files)
    for kind, split, name in files:
        save(path_of(root, kind, name, split), written[name][kind])
    city = root / "gtFine" / "train" / "aachen"  # the packages hold other files too
    for other in ("gtFine_color.png", "gtFine_instanceIds.png", "gtFine_polygons.json"):
        (city / f"aachen_000000_000019_{other}").write_text("")
    (root / "gtFinePanopticParts" / "train" / "aachen" / "._aachen_000000_000019_gtFinePanopticParts.tif").write_text(
        ""
    )
    return written


def prepare(root: Path, target: Path, **settings: Any) -> Any:
    return prepare_cityscapes(root, target, **{"size": SIZE, "processes": 1, **settings})


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def antialiased(pixels: np.ndarray) -> np.ndarray:
    """Each fourth pixel under a triangle that is eight wide, cut off at the border; rows and columns separately."""

    def weights(length: int) -> np.ndarray:
        centre = 4 * np.arange(length // 4)[:, None] + 2
        tent = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre) / 4)
        return tent / tent.sum(axis=1, keepdims=True)

    return np.einsum("ih,jw,hwc->ijc", weights(FULL[0]), weights(FULL[1]), pixels.astype(float))


def test_prepared_samples_are_what_the_official_files_say(tmp_path: Path) -> None:
    written = official(tmp_path / "from")
    seen: list[tuple[int, int]] = []
    done = prepare(tmp_path / "from", tmp_path / "to", progress=lambda *state: seen.append(state))
    assert done.manifest.counts == {"train": 3, "val": 2} and done.made == 5 * 4 + 1
    assert seen[-1] == (6, 6)
    for split, names in FRAMES.items():
        dataset = Cityscapes(tmp_path / "to", split)
        assert dataset.numbers == list(range(len(names)))
        for (image, labels), name in zip(dataset, names, strict=True):
            raw = written[name]
            grey = (image.numpy().transpose(1, 2, 0) + 1) * 127.5
            np.testing.assert_allclose(grey, antialiased(raw["image"]), atol=1.01)
            middle = {kind: raw[kind][2::4, 2::4] for kind in raw}
            disparity = np.where(middle["depth"] == 0, -1, (middle["depth"].astype(float) - 1) / 1024)
            np.testing.assert_allclose(labels["disparity"].numpy()[0], disparity, rtol=1e-6)
            part = np.where(middle["part_seg"] == 24, 0, middle["part_seg"] % 100)
            np.testing.assert_array_equal(labels["parts"].numpy(), np.where(part > 0, part + 4, 0))
            road, void = (
                middle["seg"] == 7,
                np.isin(middle["seg"], [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30]),
            )
            np.testing.assert_array_equal(labels["segmentation"].numpy() == 0, road)
            np.testing.assert_array_equal(labels["segmentation"].numpy() == -1, void)


def test_files_on_disk_are_as_the_layout_has_them(tmp_path: Path) -> None:
    written = official(tmp_path / "from")
    prepare(tmp_path / "from", tmp_path / "to")
    for folder, suffix, mode, kind in (("image", "png", "RGB", "image"), ("depth", "png", "I;16", "depth"),
                                       ("seg", "png", "L", "seg"), ("part_seg", "tif", "I", "part_seg")):  # fmt: skip
        with Image.open(tmp_path / "to" / "val" / folder / f"1.{suffix}") as picture:
            assert picture.mode == mode and picture.size == (8, 4)
            if folder != "image":
                raw = written["munster_000003_000019"][kind][2::4, 2::4]
                np.testing.assert_array_equal(np.asarray(picture), raw, "raw values, those of the full width")
    with (tmp_path / "to" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows if row["split"] == "train"] == FRAMES["train"]
    assert [int(row["sample"]) for row in rows] == [0, 1, 2, 0, 1]


@pytest.fixture
def any_order(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Folders list their files in an order that differs from folder to folder, as file systems may."""
    glob, order = Path.glob, random.Random(1)

    def shuffled(self: Path, *arguments: Any, **settings: Any) -> list[Path]:
        found = list(glob(self, *arguments, **settings))
        order.shuffle(found)
        return found

    monkeypatch.setattr(Path, "glob", shuffled)
    yield


def test_no_order_of_files_can_misalign_them(tmp_path: Path, any_order: None) -> None:
    official(tmp_path / "from")
    official(tmp_path / "shuffled", order=random.Random(0))
    prepare(tmp_path / "from", tmp_path / "to")
    prepare(tmp_path / "shuffled", tmp_path / "again")
    assert tree(tmp_path / "to") == tree(tmp_path / "again")
    for code, name in enumerate(FRAMES["train"]):
        with Image.open(tmp_path / "to" / "train" / "depth" / f"{code}.png") as picture:
            assert set((np.asarray(picture) % 1024).flat) == {code}, name
        with Image.open(tmp_path / "to" / "train" / "part_seg" / f"{code}.tif") as picture:
            parts = np.asarray(picture)
            assert set((parts[parts > 24] // 100 % 1000).flat) == {code}, name


@pytest.mark.parametrize("kind", list(FOLDERS))
def test_an_extra_file_cannot_misalign(tmp_path: Path, kind: str) -> None:
    official(tmp_path / "from")
    prepare(tmp_path / "from", tmp_path / "to")
    extra = path_of(tmp_path / "from", kind, "aachen_000000_000018")
    save(extra, content(9)[kind])
    with pytest.raises(ValueError, match="1 of 4 files of") as caught:
        prepare(tmp_path / "from", tmp_path / "with")
    for other, (_, suffix) in FOLDERS.items():
        assert (f"aachen_000000_000018_{suffix}" in str(caught.value)) == (other != kind)
    prepare(tmp_path / "from", tmp_path / "partly", partly=True)
    assert tree(tmp_path / "partly") == tree(tmp_path / "to")


def test_both_depths_of_unpacking_will_do(tmp_path: Path) -> None:
    official(tmp_path / "flat")
    official(tmp_path / "deep")
    for folder, package in (("leftImg8bit", "leftImg8bit_trainvaltest"), ("disparity", "disparity_trainvaltest"),
                            ("gtFinePanopticParts", "gtFinePanopticParts_trainval")):  # fmt: skip
        (tmp_path / "deep" / package).mkdir()
        (tmp_path / "deep" / folder).rename(tmp_path / "deep" / package / folder)
    prepare(tmp_path / "flat", tmp_path / "to")
    prepare(tmp_path / "deep", tmp_path / "again")
    assert tree(tmp_path / "to") == tree(tmp_path / "again")
    shutil.copytree(tmp_path / "flat" / "disparity", tmp_path / "deep" / "disparity")
    with pytest.raises(ValueError, match="Found two.*disparity_trainvaltest.*move one away"):
        prepare(tmp_path / "deep", tmp_path / "twice")


def test_what_is_missing_is_told_with_its_package(tmp_path: Path) -> None:
    official(tmp_path / "from")
    path_of(tmp_path / "from", "part_seg", FRAMES["train"][1]).unlink()
    shutil.rmtree(tmp_path / "from" / "disparity" / "val")
    (tmp_path / "from" / "disparity_trainvaltest.zip").write_text("")
    with pytest.raises(ValueError) as caught:
        prepare(tmp_path / "from", tmp_path / "to")
    message = str(caught.value)
    assert "1 of 3 files of gtFinePanopticParts/train (aachen_000010_000019_gtFinePanopticParts.tif; " in message
    assert "they are in gtFinePanopticParts_trainval.zip" in message
    assert "all files of disparity/val (frankfurt_000000_000294_disparity.png, munster_000003" in message
    assert "Not unpacked yet: disparity_trainvaltest.zip." in message and "(--partly)" in message
    assert "leftImg8bit/" not in message and "gtFine/" not in message and "\n" not in message
    assert not (tmp_path / "to").exists()
    done = prepare(tmp_path / "from", tmp_path / "to", partly=True)
    assert done.manifest.counts == {"train": 2}
    with (tmp_path / "to" / "samples.csv").open(newline="") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == [FRAMES["train"][0], FRAMES["train"][2]]
    assert len(Cityscapes(tmp_path / "to", "train")) == 2


def test_a_wrong_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        prepare(tmp_path / "nowhere", tmp_path / "to")
    official(tmp_path / "from")
    for settings in ({}, {"partly": True}):
        with pytest.raises(ValueError, match="all files of leftImg8bit/train.*all files of gtFinePanopticParts/val"):
            prepare(tmp_path / "from" / "gtFine", tmp_path / "to", **settings)
    with pytest.raises(ValueError, match="`size`"):
        prepare(tmp_path / "from", tmp_path / "to", size=(0, 8))
    for images in ("rightImg8bit", "leftImg8bit.png", "../leftImg8bit"):
        with pytest.raises(ValueError, match="`images` should be what stands between"):
            prepare(tmp_path / "from", tmp_path / "to", images=images)
    odd = tmp_path / "from" / "disparity" / "train" / "aachen" / "zurich_000001_000019_disparity.png"
    shutil.copy(path_of(tmp_path / "from", "depth", FRAMES["train"][2]), odd)
    with pytest.raises(ValueError, match="with that of its folder") as caught:
        prepare(tmp_path / "from", tmp_path / "to")
    assert str(odd) in str(caught.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def blank(dtype: type, *shape: int) -> np.ndarray:
    return np.zeros(shape or FULL, dtype)


FAULTS: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("cut image", "image", cut, "perhaps one cut short"),
    ("cut disparity", "depth", cut, "perhaps one cut short"),
    ("cut labels", "seg", cut, "perhaps one cut short"),
    ("cut parts", "part_seg", cut, "perhaps one cut short"),
    ("8-bit disparity", "depth", lambda path: save(path, blank(np.uint8)), "16-bit grey PNG"),
    ("disparity size", "depth", lambda path: save(path, blank(np.uint16, 8, 16)), "16 x 32 pixels. Found 8 x 16"),
    ("label size", "seg", lambda path: save(path, blank(np.uint8, 32, 16)), "16 x 32 pixels. Found 32 x 16"),
    ("part size", "part_seg", lambda path: save(path, blank(np.int32, 16, 31)), "16 x 32 pixels. Found 16 x 31"),
    ("trainIds", "seg", lambda path: save(path, blank(np.uint8) + np.uint8(255)), "labelIds from 0 to 33.*to 255"),
    ("uid", "part_seg", lambda path: save(path, blank(np.int32) + np.int32(255)), r"Found 255 at \(0, 0\)"),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_faulty_file_is_named_and_mended_the_run_goes_on(
    tmp_path: Path, kind: str, spoil: Callable[[Path], None], message: str
) -> None:
    written = official(tmp_path / "from")
    prepare(tmp_path / "from", tmp_path / "to")
    name = FRAMES["train"][1]
    bad = path_of(tmp_path / "from", kind, name)
    spoil(bad)
    with pytest.raises(ValueError, match=message) as caught:
        prepare(tmp_path / "from", tmp_path / "again")
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="begun and not finished"):
        Cityscapes(tmp_path / "again", "train")
    save(bad, written[name][kind])
    assert prepare(tmp_path / "from", tmp_path / "again").kept == 1 + 4, "the list, and the frame before"
    assert tree(tmp_path / "again") == tree(tmp_path / "to")


@pytest.mark.parametrize(
    ("images", "beside"),
    [
        ("leftImg8bit_foggy_beta_0.02", "leftImg8bit_foggy_beta_0.01"),
        (
            "leftImg8bit_rain_alpha_0.02_beta_0.01_dropsize_0.005_pattern_1",
            "leftImg8bit_rain_alpha_0.02_beta_0.01_dropsize_0.005_pattern_12",
        ),
    ],
)
def test_weather_shares_the_labels(tmp_path: Path, images: str, beside: str) -> None:
    """Every density is a data set; frames without a picture of this kind are none of it, as most are in rain."""
    official(tmp_path / "from")
    chosen = {"train": FRAMES["train"][1:], "val": FRAMES["val"][1:]}
    for split, names in chosen.items():
        for name in names:
            save(path_of(tmp_path / "from", "image", name, split, images), blank(np.uint8, *FULL, 3) + np.uint8(51))
            save(path_of(tmp_path / "from", "image", name, split, beside), blank(np.uint8, *FULL, 3))
    done = prepare(tmp_path / "from", tmp_path / "to", images=images)
    assert done.manifest.counts == {"train": 2, "val": 1}
    prepare(tmp_path / "from", tmp_path / "clear")
    for split, names in chosen.items():
        clear = Cityscapes(tmp_path / "clear", split)
        for (image, labels), name in zip(Cityscapes(tmp_path / "to", split), names, strict=True):
            np.testing.assert_allclose(image.numpy(), -0.6, atol=1e-6)
            for task, label in clear[FRAMES[split].index(name)][1].items():
                assert (label == labels[task]).all(), f"{task} of {name}"
    with pytest.raises(ValueError) as caught:
        prepare(tmp_path / "from", tmp_path / "other", images="_".join(images.split("_")[:2]))
    assert images in str(caught.value) and beside in str(caught.value) and "--images" in str(caught.value)
    with pytest.raises(ValueError, match=r"source\.frames.*source\.images"):
        prepare(tmp_path / "from", tmp_path / "to")


_KILLED = """
import os, signal, sys
from art_mtl.data.prepare.cityscapes import prepare_cityscapes

def stop(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

prepare_cityscapes(sys.argv[1], sys.argv[2], size=(4, 8), processes=1, progress=stop)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_run_goes_on_to_identical_files(tmp_path: Path) -> None:
    official(tmp_path / "from")
    prepare(tmp_path / "from", tmp_path / "whole")
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "from"), str(tmp_path / "to")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    begun = {name: data for name, data in tree(tmp_path / "to").items() if name.startswith(("train/", "val/"))}
    assert 0 < len(begun) < 5 * 4
    with pytest.raises(ValueError, match="begun and not finished"):
        Cityscapes(tmp_path / "to", "train")
    times = {name: (tmp_path / "to" / name).stat().st_mtime_ns for name in begun}
    done = prepare(tmp_path / "from", tmp_path / "to")
    assert done.kept == len(begun) + 1 and done.made == 5 * 4 - len(begun)
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")
    assert times == {name: (tmp_path / "to" / name).stat().st_mtime_ns for name in begun}, "those are not made again"


def test_jobs_reach_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(tmp_path / "from")
    plans: list[Any] = []
    monkeypatch.setattr(cityscapes, "run", lambda plan, *_, **__: plans.append(plan))
    prepare(tmp_path / "from", tmp_path / "to")
    (plan,) = plans
    for job in plan.jobs:
        sent = pickle.loads(pickle.dumps(job))
        assert sent.files == job.files and list(sent.make()) == list(job.make())
