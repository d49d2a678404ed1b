"""Cityscapes: files come back value by value, and every fault is told with the file's name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from art_mtl.data.cityscapes import Cityscapes, part_classes
from art_mtl.data.paper import PAPER_DATA

Image = pytest.importorskip("PIL.Image")

NAMES = {"image": "png", "depth": "png", "seg": "png", "part_seg": "tif"}

# The official table, https://github.com/mcordts/cityscapesScripts helpers/labels.py; every other labelId is void.
CLASSES = {
    "road": (7, 0), "sidewalk": (8, 1), "building": (11, 2), "wall": (12, 3), "fence": (13, 4), "pole": (17, 5),
    "traffic light": (19, 6), "traffic sign": (20, 7), "vegetation": (21, 8), "terrain": (22, 9), "sky": (23, 10),
    "person": (24, 11), "rider": (25, 12), "car": (26, 13), "truck": (27, 14), "bus": (28, 15), "train": (31, 16),
    "motorcycle": (32, 17), "bicycle": (33, 18),
}  # fmt: skip
TRAIN_ID = dict(CLASSES.values())


def part_of(uid: int) -> int:
    """By its decimal digits, as the format is described."""
    digits = str(uid)
    if len(digits) < 6:
        return 0
    sid, pid = digits[:-5], digits[-2:]
    people = {"01": 1, "02": 2, "03": 3, "04": 4}
    vehicles = {"01": 5, "02": 6, "03": 7, "04": 8, "05": 9}
    return {"24": people, "25": people, "26": vehicles, "27": vehicles, "28": vehicles}.get(sid, {}).get(pid, 0)


def write(root: Path, folder: str, number: int, pixels: np.ndarray, split: str = "val", **settings: Any) -> Path:
    path = root / split / folder / f"{number}.{NAMES[folder]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **settings)
    return path


def uids(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Of every length that the format has, parts that do not count among them."""
    sid, iid, pid = rng.integers(22, 30, shape), rng.integers(0, 1000, shape), rng.integers(0, 7, shape)
    full = (sid * 1000 + iid) * 100 + pid
    return np.choose(rng.integers(0, 4, shape), [full, full, full // 100, sid]).astype(np.int32)


def make(root: Path, numbers: tuple[int, ...] = (0, 1), split: str = "val", shape: tuple[int, int] = (6, 12)) -> Any:
    """A tiny tree; returns what was written, by folder and number."""
    rng = np.random.default_rng(0)
    written: dict[str, dict[int, np.ndarray]] = {folder: {} for folder in NAMES}
    for number in numbers:
        written["image"][number] = rng.integers(0, 256, (*shape, 3), np.uint8)
        written["depth"][number] = rng.integers(0, 1 << 16, shape).astype(np.uint16)
        written["depth"][number][0, :3] = 0, 1, 1025
        written["seg"][number] = rng.integers(0, 34, shape).astype(np.uint8)
        written["part_seg"][number] = uids(rng, shape)
        for folder in NAMES:
            write(root, folder, number, written[folder][number], split)
    return written


def each(function: Callable[[int], float], array: np.ndarray) -> np.ndarray:
    return np.array([[function(int(value)) for value in row] for row in array])


def test_values_come_back_one_by_one(tmp_path: Path) -> None:
    written = make(tmp_path, numbers=(0, 2, 10))
    dataset = Cityscapes(tmp_path, "val")
    assert len(dataset) == 3 and dataset.numbers == [0, 2, 10], "in the order of numbers, not of names"
    for i, number in enumerate(dataset.numbers):
        image, labels = dataset[i]
        expected = written["image"][number].transpose(2, 0, 1) / 127.5 - 1
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-6)
        ids, codes, raw = (written[folder][number] for folder in ("seg", "part_seg", "depth"))
        np.testing.assert_array_equal(labels["segmentation"].numpy(), each(lambda value: TRAIN_ID.get(value, -1), ids))
        np.testing.assert_array_equal(labels["parts"].numpy(), each(part_of, codes))
        pixels = each(lambda value: (value - 1) / 1024 if value else -1, raw)
        np.testing.assert_allclose(labels["disparity"].numpy()[0], pixels, rtol=1e-6)
        assert labels["disparity"].numpy()[0, 0, :3].tolist() == [-1, 0, 1]
    x, labels = dataset.arrays()
    assert x.shape == (3, 3, 6, 12) and x.dtype == np.float32
    assert labels["segmentation"].dtype == labels["parts"].dtype == np.int64
    assert labels["disparity"].shape == (3, 1, 6, 12) and labels["disparity"].dtype == np.float32


def test_every_label_id_has_the_official_class(tmp_path: Path) -> None:
    make(tmp_path, numbers=(0,), shape=(2, 17))
    write(tmp_path, "seg", 0, np.arange(34, dtype=np.uint8).reshape(2, 17))
    classes = Cityscapes(tmp_path, "val")[0][1]["segmentation"].numpy().flatten().tolist()
    assert classes == [TRAIN_ID.get(label, -1) for label in range(34)]
    assert len(set(classes)) == 20


def test_every_part_has_its_class_and_the_rest_is_background() -> None:
    codes = np.array(
        [(sid * 1000 + iid) * 100 + pid for sid in range(1, 100) for iid in (0, 999) for pid in range(100)]
    )
    found = part_classes(codes)
    assert found.tolist() == [part_of(code) for code in codes]
    assert set(found.tolist()) == set(range(10))
    assert not part_classes(np.arange(100_000)).any(), "classes and instances without parts"


def test_the_labels_fit_the_heads(tmp_path: Path) -> None:
    make(tmp_path, split="train")
    data = PAPER_DATA["cityscapes"]
    x, labels = data.open(tmp_path, "train").arrays()
    assert [task.name for task in data.tasks()] == list(data.heads) == list(labels.keys())
    assert labels["segmentation"].max() == data.heads["segmentation"] - 1
    assert labels["parts"].min() == 0 and labels["parts"].max() == data.heads["parts"] - 1
    assert x.min() >= -1 and x.max() <= 1


def test_resizing_takes_the_nearest_label_and_blends_images(tmp_path: Path) -> None:
    written = make(tmp_path, numbers=(0,))
    image, labels = Cityscapes(tmp_path, "val", size=(2, 4))[0]
    rows, columns = np.array([1, 4]), np.array([1, 4, 7, 10])
    for folder, name, value in (("seg", "segmentation", lambda v: TRAIN_ID.get(v, -1)), ("part_seg", "parts", part_of),
                                ("depth", "disparity", lambda v: (v - 1) / 1024 if v else -1)):  # fmt: skip
        expected = each(value, written[folder][0][rows[:, None], columns])
        np.testing.assert_allclose(labels[name].numpy().reshape(2, 4), expected, rtol=1e-6)
    assert image.shape == (3, 2, 4) and labels["disparity"].shape == (1, 2, 4)
    assert image.std() < 0.8 * (written["image"][0] / 127.5 - 1).std(), "blending evens noise out"
    write(tmp_path, "image", 0, np.full((6, 12, 3), 51, np.uint8))
    np.testing.assert_allclose(Cityscapes(tmp_path, "val", size=(2, 4))[0][0].numpy(), -0.6, atol=1e-6)


def test_pictures_of_bad_weather_need_nothing_special(tmp_path: Path) -> None:
    """Another root in the same layout; some tools write an alpha channel, compressed labels, or other files beside."""
    written = make(tmp_path / "foggy", numbers=(3,))
    pixels = np.concatenate([written["image"][3], np.full((6, 12, 1), 255, np.uint8)], axis=2)
    write(tmp_path / "foggy", "image", 3, pixels)
    write(tmp_path / "foggy", "part_seg", 3, written["part_seg"][3], compression="tiff_lzw")
    (tmp_path / "foggy" / "val" / "image" / "Thumbs.db").write_text("")
    image, labels = Cityscapes(tmp_path / "foggy", "val")[0]
    np.testing.assert_allclose(image.numpy(), written["image"][3].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(labels["parts"].numpy(), each(part_of, written["part_seg"][3]))


def put(folder: str, pixels: np.ndarray, **settings: Any) -> Callable[[Path], None]:
    return lambda root: write(root, folder, 1, pixels, **settings) and None


def one(value: int, dtype: type) -> np.ndarray:
    """All zero but for one pixel."""
    array = np.zeros((6, 12), dtype)
    array[2, 3] = value
    return array


def cut(folder: str, keep: float) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        path = root / "val" / folder / f"1.{NAMES[folder]}"
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return spoil


def blank(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype)


FAULTS: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("image size", put("image", blank(6, 9, 3)), "image", "expected 6 x 12 pixels. Found 6 x 9"),
    ("seg size", put("seg", blank(12, 6)), "seg", "expected 6 x 12 pixels. Found 12 x 6"),
    ("depth size", put("depth", blank(5, 12, dtype=np.uint16)), "depth", "expected 6 x 12 pixels"),
    ("part size", put("part_seg", blank(6, 13, dtype=np.int32)), "part_seg", "expected 6 x 12 pixels"),
    ("grey image", put("image", blank(6, 12)), "image", "8-bit RGB PNG. Found a PNG of mode L"),
    ("transparent", put("image", blank(6, 12, 4)), "image", "transparent pixels; save it without"),
    ("8-bit depth", put("depth", blank(6, 12)), "depth", "16-bit grey PNG.*disparity_trainvaltest.*mode L"),
    ("rgb depth", put("depth", blank(6, 12, 3)), "depth", "16-bit grey PNG.*mode RGB"),
    ("colour seg", put("seg", blank(6, 12, 3)), "seg", "labelIds .*_gtFine_labelIds.png. Found .*mode RGB"),
    ("16-bit seg", put("seg", blank(6, 12, dtype=np.uint16)), "seg", "labelIds from 0 to 33 .*mode I;16"),
    ("trainIds", put("seg", one(255, np.uint8)), "seg", "labelIds from 0 to 33 .*Found values from 0 to 255"),
    ("seg above", put("seg", one(34, np.uint8)), "seg", "Found values from 0 to 34"),
    ("uid below", put("part_seg", one(-1, np.int32)), "part_seg", r"Found -1 at \(2, 3\)"),
    ("uid of three digits", put("part_seg", one(240, np.int32)), "part_seg", r"six or seven.*Found 240 at \(2, 3\)"),
    ("uid of eight digits", put("part_seg", one(24_001_010, np.int32)), "part_seg", "Found 24001010"),
    ("8-bit part", put("part_seg", blank(6, 12)), "part_seg", "32-bit TIFF.*Found a TIFF of mode L"),
    ("float part", put("part_seg", blank(6, 12, dtype=np.float32)), "part_seg", "32-bit TIFF.*mode F"),
    ("png as tif", put("part_seg", blank(6, 12, dtype=np.uint8), format="PNG"), "part_seg", "cannot be read as TIFF"),
    ("jpeg as png", put("image", blank(6, 12, 3), format="JPEG"), "image", "cannot be read as PNG"),
    ("cut image", cut("image", 0.6), "image", "perhaps one cut short.*Unpack or copy it again"),
    ("cut depth", cut("depth", 0.6), "depth", "perhaps one cut short"),
    ("cut seg", cut("seg", 0.6), "seg", "perhaps one cut short"),
    ("cut part", cut("part_seg", 0.6), "part_seg", "perhaps one cut short"),
    ("head of a part", cut("part_seg", 0.15), "part_seg", "perhaps one cut short"),
    ("empty", cut("seg", 0), "seg", "perhaps one cut short"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "folder", "message"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_faulty_file_is_named(tmp_path: Path, spoil: Callable[[Path], None], folder: str, message: str) -> None:
    make(tmp_path)
    spoil(tmp_path)
    dataset = Cityscapes(tmp_path, "val")
    dataset[0]
    with pytest.raises(ValueError, match=message) as caught:
        dataset[1]
    assert str(tmp_path / "val" / folder / f"1.{NAMES[folder]}") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train.*\{image,depth,seg,part_seg\}"):
        Cityscapes(tmp_path / "nowhere", "train")
    make(tmp_path, numbers=(0, 1, 2))
    (tmp_path / "val" / "part_seg" / "1.tif").rename(tmp_path / "val" / "part_seg" / "7.tif")
    with pytest.raises(ValueError, match="1 of 4 missing in image") as caught:
        Cityscapes(tmp_path, "val")
    assert str(tmp_path / "val" / "image" / "7.png") in str(caught.value)
    (tmp_path / "val" / "part_seg" / "7.tif").unlink()
    with pytest.raises(ValueError, match="1 of 3 missing in part_seg") as caught:
        Cityscapes(tmp_path, "val")
    assert str(tmp_path / "val" / "part_seg" / "1.tif") in str(caught.value)
    dataset = Cityscapes(make(tmp_path / "other") and tmp_path / "other", "val")
    (tmp_path / "other" / "val" / "seg" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"seg.1\.png.*Found no such file"):
        dataset[1]
    for file in (tmp_path / "val").glob("*/*.*"):
        file.unlink()
    with pytest.raises(ValueError, match="Found none"):
        Cityscapes(tmp_path, "val")


def test_wrong_names_parameters_and_unfinished_folders_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match="`split` should be one of train, val. Found 'test'"):
        Cityscapes(tmp_path, "test")
    with pytest.raises(ValueError, match="`size`"):
        Cityscapes(tmp_path, "val", size=(0, 4))
    with pytest.raises(ValueError, match=r"named by a number.*aachen\.png"):
        write(tmp_path, "image", 1, blank(6, 12, 3)).rename(tmp_path / "val" / "image" / "aachen.png")
        Cityscapes(tmp_path, "val")
    (tmp_path / ".unfinished.jsonl").write_text("")
    with pytest.raises(ValueError, match="begun and not finished"):
        Cityscapes(tmp_path, "val")


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[data\]'"):
        Cityscapes(tmp_path, "val")
