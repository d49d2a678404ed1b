"""From a small file in the structure of the official one to samples, value by value; after a kill the same."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from art_mtl.data import NYUv2
from art_mtl.data.prepare import nyuv2 as module
from art_mtl.data.prepare import prepare_nyuv2, read_manifest

h5py = pytest.importorskip("h5py")

TRAIN, VAL = [3, 1, 4], [2]
FRAMES = 4
SIZE = (42, 56)  # a tenth of what is kept of a frame
TO_40 = 1 + np.arange(894) % 40
TO_13 = 1 + np.arange(40) % 14 % 13
TO_13[39] = 0  # outside the 13
LABELED = "nyu_depth_v2_labeled.mat"


def frame(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (480, 640, 3), depth and label (480, 640) of a frame, which say which it is and where."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    rows, columns = np.indices((480, 640))
    depth = (1 / (0.2 + 0.05 * number + rows / 4000 + columns / 8000)).astype(np.float32)
    label = ((rows // 7) * 31 + (columns // 9) * 17 + number) % 895
    return coarse, depth, label.astype(np.uint16)


def official(root: Path, **changes: Any) -> None:
    """The four files, in MATLAB's order of axes."""
    root.mkdir(parents=True, exist_ok=True)
    frames = [frame(number) for number in range(1, FRAMES + 1)]
    arrays = {
        "images": np.stack([image.transpose(2, 1, 0) for image, _, _ in frames]),
        "depths": np.stack([depth.T for _, depth, _ in frames]),
        "labels": np.stack([label.T for _, _, label in frames]),
    }
    with h5py.File(root / LABELED, "w", userblock_size=512) as file:
        for name, array in {**arrays, **changes}.items():
            if array is not None:
                file.create_dataset(name, data=array, chunks=(1, *array.shape[1:]), compression=1)
        names = file.create_group("#refs#")
        references = []
        for i in range(3):
            names[f"n{i}"] = np.frombuffer(f"class {i}".encode("utf-16-le"), np.uint16)[:, None]
            references.append(names[f"n{i}"].ref)
        file.create_dataset("names", data=np.array([references], h5py.ref_dtype), dtype=h5py.ref_dtype)
    splits(root, TRAIN, VAL)
    savemat(root / "classMapping40.mat", {"mapClass": TO_40[None].astype(np.uint8), "className": np.zeros((1, 40))})
    mapping = np.zeros((1, 1), [("labels13", object), ("classes13", object)])
    mapping[0, 0] = (TO_13[None].astype(np.uint8), np.array([["Bed", "Books"]], object))
    savemat(root / "class13Mapping.mat", {"classMapping13": mapping})


def splits(root: Path, train: list[int], val: list[int]) -> None:
    savemat(root / "splits.mat", {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(val)[:, None]})


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nyuv2") / "from"
    official(root)
    return root


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    prepare_nyuv2(source, source.parent / "whole", size=SIZE, processes=1)
    return source.parent / "whole"


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Iterator[Path]:
    """The sources, free to be spoilt."""
    yield shutil.copytree(source, tmp_path / "from")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected_class(label: np.ndarray) -> np.ndarray:
    """By the tables as they are published: 0 is unlabelled everywhere, classes count from 1."""
    among_40 = np.where(label == 0, 0, TO_40[label.astype(int) - 1])
    return np.where(among_40 == 0, 0, TO_13[among_40 - 1]) - 1


def antialiased(pixels: np.ndarray) -> np.ndarray:
    """Each tenth pixel under a triangle twenty wide, cut off at the border."""

    def weights(length: int) -> np.ndarray:
        centre = 10 * np.arange(length // 10)[:, None] + 5
        tent = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centre) / 10)
        return tent / tent.sum(axis=1, keepdims=True)

    return np.einsum("ih,jw,hwc->ijc", weights(420), weights(560), pixels.astype(float), optimize=True)


def true_normals(number: int) -> np.ndarray:
    """1/z is linear, so every frame is one plane: its normal, which faces the camera."""
    across, down = 1 / 8000 * 518.8579, 1 / 4000 * 519.4696
    at_axis = 0.2 + 0.05 * number + 252.7362 / 4000 + 324.5824 / 8000
    normal = -np.array([across, down, at_axis])
    return normal / np.linalg.norm(normal)


def test_prepared_samples_are_what_the_official_file_says(whole: Path) -> None:
    assert read_manifest(whole).counts == {"train": 3, "val": 1}  # type: ignore[union-attr]
    rows, columns = 47 + 5 + 10 * np.arange(42), 40 + 5 + 10 * np.arange(56)
    for split, numbers in (("train", TRAIN), ("val", VAL)):
        dataset = NYUv2(whole, split)
        assert len(dataset) == len(numbers)
        for (image, labels), number in zip(dataset, numbers, strict=True):
            pixels, depth, label = frame(number)
            grey = (image.numpy().transpose(1, 2, 0) + 1) * 127.5
            np.testing.assert_allclose(grey, antialiased(pixels[47:467, 40:600]), atol=0.05)
            at = (rows[:, None], columns)
            np.testing.assert_array_equal(labels["depth"].numpy()[0], depth[at])
            np.testing.assert_array_equal(labels["segmentation"].numpy(), expected_class(label[at]))
            cosine = np.einsum("chw,c->hw", labels["normals"].numpy().astype(float), true_normals(number))
            np.testing.assert_allclose(np.degrees(np.arccos(np.clip(cosine, -1, 1))), 0, atol=0.1)
    seen = NYUv2(whole, "train").arrays()[1]["segmentation"]
    assert set(np.unique(seen)) == set(range(-1, 13))


def test_files_on_disk_are_as_the_layout_has_them(whole: Path) -> None:
    shapes = {"image": ((*SIZE, 3), "float32"), "label": (SIZE, "int8"), "depth": ((*SIZE, 1), "float32"),
              "normal": ((*SIZE, 3), "float32")}  # fmt: skip
    for folder, (shape, dtype) in shapes.items():
        array = np.load(whole / "train" / folder / "2.npy")
        assert (array.shape, str(array.dtype)) == (shape, dtype)
    normals = np.load(whole / "val" / "normal" / "0.npy")
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-6)
    with (whole / "samples.csv").open(newline="") as file:
        listed = [(row["split"], int(row["sample"]), int(row["frame"])) for row in csv.DictReader(file)]
    assert listed == [("train", 0, 3), ("train", 1, 1), ("train", 2, 4), ("val", 0, 2)]


_KILLED = """
import os, signal, sys
from art_mtl.data.prepare import prepare_nyuv2

def stop(done, total):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

prepare_nyuv2(sys.argv[1], sys.argv[2], size=(42, 56), processes=2, progress=stop)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_killed_run_goes_on_to_identical_files(source: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(source), str(tmp_path / "to")]
    killed = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < len(list((tmp_path / "to").rglob("*.npy"))) < 16
    with pytest.raises(ValueError, match="begun and not finished"):
        NYUv2(tmp_path / "to", "train")
    done = prepare_nyuv2(source, tmp_path / "to", size=SIZE, processes=1)
    assert done.kept >= 5 and done.made + done.kept == 17
    assert tree(tmp_path / "to") == tree(whole)


def test_a_moved_source_is_the_same_and_another_is_not(copy: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "to")
    assert prepare_nyuv2(copy, tmp_path / "to", size=SIZE, processes=1).made == 0
    with pytest.raises(ValueError, match=r"settings.size=\[42, 56\]; you asked for settings.size=\[21, 28\]"):
        prepare_nyuv2(copy, tmp_path / "to", size=(21, 28), processes=1)
    splits(copy, [1, 3, 4], VAL)
    with pytest.raises(ValueError, match="source.splits.mat"):
        prepare_nyuv2(copy, tmp_path / "to", size=SIZE, processes=1)


def test_everything_missing_is_listed_with_where_it_is(copy: Path, tmp_path: Path) -> None:
    for name in ("splits.mat", LABELED):
        (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match="2 of 4 missing") as caught:
        prepare_nyuv2(copy, tmp_path / "to")
    for word in (str(copy), "splits.mat, from http://horatio.cs.nyu.edu", f"{LABELED}, from http"):
        assert word in str(caught.value)
    assert not (tmp_path / "to").exists()
    with pytest.raises(FileNotFoundError, match="4 of 4 missing"):
        prepare_nyuv2(tmp_path / "nowhere", tmp_path / "to")


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * keep)])

    return spoil


def page(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text("<!DOCTYPE html>Not found") and None


def mat(name: str, **variables: Any) -> Callable[[Path], None]:
    return lambda root: savemat(root / name, variables)


def wide_mapping(root: Path) -> None:
    savemat(root / "class13Mapping.mat", {"classMapping13": np.full((1, 40), 14)})


FAULTS: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("truncated", cut(LABELED, 0.5), LABELED, "cut short.*Download it again"),
    ("a page", page(LABELED), LABELED, "HDF5"),
    ("splits cut", cut("splits.mat", 0.7), "splits.mat", "MATLAB file of version 5.*Download it again"),
    ("splits a page", page("splits.mat"), "splits.mat", "web page"),
    ("splits renamed", mat("splits.mat", train=[1]), "splits.mat", "'trainNdxs'. Found only train"),
    ("splits overlap", lambda root: splits(root, [1, 2, 3], [3]), "splits.mat", "share out the 4 frames"),
    ("splits beyond", lambda root: splits(root, [1, 2, 3], [9]), "splits.mat", "from 1 to 4 in 'testNdxs'. Found 9"),
    ("splits zero", lambda root: splits(root, [0, 1, 3], [2]), "splits.mat", "from 1 to 4 in 'trainNdxs'. Found 0"),
    ("map cut", cut("classMapping40.mat", 0.5), "classMapping40.mat", "MATLAB file of version 5"),
    ("map short", mat("classMapping40.mat", mapClass=[[1, 2]]), "classMapping40.mat", "894 whole numbers from 0 to 40"),
    ("map other", mat("class13Mapping.mat", other=[1]), "class13Mapping.mat", "'classMapping13'. Found only other"),
    ("map wide", wide_mapping, "class13Mapping.mat", "40 whole numbers from 0 to 13 in 'classMapping13'. Found 14"),
]


@pytest.mark.parametrize(("spoil", "name", "message"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_faulty_sources_are_named_before_anything_is_made(
    copy: Path, tmp_path: Path, spoil: Callable[[Path], None], name: str, message: str
) -> None:
    spoil(copy)
    with pytest.raises(ValueError, match=message) as caught:
        prepare_nyuv2(copy, tmp_path / "to", size=SIZE, processes=1)
    assert str(copy / name) in str(caught.value)
    assert not (tmp_path / "to").exists()


def stack(value: float, dtype: type) -> np.ndarray:
    array = np.full((FRAMES, 640, 480), 2, dtype)
    array[2, 100, 100] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "array 'labels'.*Found only #refs#, depths, images, names"),
        ({"images": np.zeros((FRAMES, 480, 640, 3), np.uint8)}, r"'images' of shape \(4, 3, 640, 480\)"),
        ({"depths": np.zeros((FRAMES - 1, 640, 480), np.float32)}, r"'depths' of shape \(4, 640, 480\)"),
        ({"depths": stack(2500, np.float32)}, "frame 3: expected depths in metres.*to 2500"),
        ({"depths": stack(np.nan, np.float32)}, "frame 3: expected depths"),
        ({"depths": stack(-1, np.float32)}, "frame 3: expected depths.*from -1"),
        ({"labels": stack(895, np.uint16)}, "frame 3: expected labels from 0 to 894. Found 895"),
    ],
)
def test_what_the_official_file_cannot_hold_is_told(tmp_path: Path, changes: dict, message: str) -> None:
    official(tmp_path / "from", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        prepare_nyuv2(tmp_path / "from", tmp_path / "to", size=SIZE, processes=1)
    assert str(tmp_path / "from" / LABELED) in str(caught.value)
    assert not (tmp_path / "to" / "MANIFEST.json").exists()


def test_maps_of_other_forms_do(copy: Path) -> None:
    before = module._class_table(copy / "classMapping40.mat", copy / "class13Mapping.mat")
    np.testing.assert_array_equal(before, expected_class(np.arange(895)))
    savemat(copy / "class13Mapping.mat", {"classMapping13": TO_13[:, None].astype(float)})
    np.testing.assert_array_equal(module._class_table(copy / "classMapping40.mat", copy / "class13Mapping.mat"), before)


def test_a_missing_h5py_names_the_extra(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[data\]'"):
        prepare_nyuv2(source, tmp_path / "to")
