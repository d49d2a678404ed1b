"""NYUv2: files come back value by value, and every fault is told with the file's name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from art_mtl.data import NYUv2

REAL = Path(os.environ.get("ART_MTL_NYUV2", Path(__file__).parents[3] / "shared" / "data" / "nyuv2_10"))
SHAPES = {"image": (6, 8, 3), "label": (6, 8), "depth": (6, 8, 1), "normal": (6, 8, 3)}


def make(root: Path, numbers: tuple[int, ...] = (0, 1), split: str = "val") -> dict[str, dict[int, np.ndarray]]:
    """A tiny tree; returns what was written."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((len(numbers), 6, 8, 3))
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    normal[:, 0, 0] = 0
    written: dict[str, dict[int, np.ndarray]] = {
        "image": {n: rng.random(SHAPES["image"]) for n in numbers},
        "label": {n: rng.integers(-1, 13, SHAPES["label"]) for n in numbers},
        "depth": {n: rng.uniform(0, 9, SHAPES["depth"]) for n in numbers},
        "normal": {n: normal[i] for i, n in enumerate(numbers)},
    }
    for folder, arrays in written.items():
        (root / split / folder).mkdir(parents=True)
        for number, array in arrays.items():
            np.save(root / split / folder / f"{number}.npy", array)
    return written


def test_values_come_back_one_by_one(tmp_path: Path) -> None:
    written = make(tmp_path, numbers=(0, 2, 10))
    dataset = NYUv2(tmp_path, "val")
    assert len(dataset) == 3 and dataset.numbers == [0, 2, 10], "in the order of numbers, not of names"
    for i, number in enumerate(dataset.numbers):
        image, labels = dataset[i]
        np.testing.assert_allclose(image.numpy(), 2 * written["image"][number].transpose(2, 0, 1) - 1, atol=1e-6)
        np.testing.assert_array_equal(labels["segmentation"].numpy(), written["label"][number])
        np.testing.assert_allclose(labels["depth"].numpy()[0], written["depth"][number][..., 0], rtol=1e-6)
        np.testing.assert_allclose(labels["normals"].numpy(), written["normal"][number].transpose(2, 0, 1), atol=1e-6)
        assert not labels["normals"][:, 0, 0].any(), "what was not measured stays all zero"
    x, labels = dataset.arrays()
    assert x.shape == (3, 3, 6, 8) and x.dtype == np.float32
    assert labels["segmentation"].dtype == np.int64 and labels["depth"].shape == (3, 1, 6, 8)


@pytest.mark.parametrize("label_type", [np.int8, np.int64, np.float64, np.float16])
def test_any_type_on_disk_will_do(tmp_path: Path, label_type: type) -> None:
    written = make(tmp_path, numbers=(0,))
    folder = tmp_path / "val"
    np.save(folder / "label" / "0.npy", written["label"][0].astype(label_type))
    np.save(folder / "image" / "0.npy", written["image"][0].astype(np.float32))
    np.save(folder / "normal" / "0.npy", written["normal"][0].astype(np.float16))
    np.save(folder / "depth" / "0.npy", written["depth"][0][..., 0].astype(np.float32))
    image, labels = NYUv2(tmp_path, "val")[0]
    assert str(image.dtype) == str(labels["normals"].dtype) == str(labels["depth"].dtype) == "torch.float32"
    np.testing.assert_array_equal(labels["segmentation"].numpy(), written["label"][0])
    np.testing.assert_allclose(labels["normals"].numpy(), written["normal"][0].transpose(2, 0, 1), atol=1e-3)
    assert labels["depth"].shape == (1, 6, 8)


def test_bytes_are_images_too(tmp_path: Path) -> None:
    make(tmp_path, numbers=(0, 1))
    pixels = np.random.default_rng(1).integers(0, 256, SHAPES["image"], np.uint8)
    np.save(tmp_path / "val" / "image" / "0.npy", pixels)
    np.save(tmp_path / "val" / "image" / "1.npy", np.ones(SHAPES["image"], np.uint8))
    dataset = NYUv2(tmp_path, "val")
    np.testing.assert_allclose(dataset[0][0].numpy(), pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    np.testing.assert_allclose(
        dataset[1][0].numpy(), 1 / 127.5 - 1, atol=1e-6, err_msg="a dark picture, not a white one"
    )


@pytest.mark.parametrize("depth", [9.99, 60.0])
def test_depths_in_metres_are_taken(tmp_path: Path, depth: float) -> None:
    make(tmp_path, numbers=(0,))
    np.save(tmp_path / "val" / "depth" / "0.npy", np.full(SHAPES["depth"], depth))
    assert NYUv2(tmp_path, "val")[0][1]["depth"].max() == np.float32(depth)


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    NYUv2(tmp_path, "val")
    (tmp_path / ".unfinished.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="begun and not finished") as caught:
        NYUv2(tmp_path, "val")
    assert str(tmp_path) in str(caught.value)


def test_resizing_takes_the_nearest_label_and_blends_images(tmp_path: Path) -> None:
    written = make(tmp_path, numbers=(0,))
    image, labels = NYUv2(tmp_path, "val", size=(2, 4))[0]
    assert image.shape == (3, 2, 4) and labels["normals"].shape == (3, 2, 4)
    rows, columns = np.array([1, 4]), np.array([1, 3, 5, 7])
    np.testing.assert_array_equal(labels["segmentation"].numpy(), written["label"][0][rows[:, None], columns])
    np.testing.assert_allclose(labels["depth"].numpy()[0], written["depth"][0][rows[:, None], columns, 0], rtol=1e-6)
    assert image.std() < 0.8 * (2 * written["image"][0] - 1).std(), "blending evens noise out"
    for folder in ("image",):
        np.save(tmp_path / "val" / folder / "0.npy", np.full((6, 8, 3), 0.25))
    np.testing.assert_allclose(NYUv2(tmp_path, "val", size=(2, 4))[0][0].numpy(), -0.5, atol=1e-6)
    whole = NYUv2(tmp_path, "val", size=(6, 8))[0][1]
    np.testing.assert_array_equal(whole["segmentation"].numpy(), written["label"][0])


def put(folder: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(root / "val" / folder / "1.npy", array)


def nan(folder: str) -> np.ndarray:
    array = np.zeros(SHAPES[folder])
    array[2, 3] = np.nan
    return array


def far() -> np.ndarray:
    array = np.ones(SHAPES["depth"])
    array[3, 4] = 101
    return array


def truncate(root: Path) -> None:
    path = root / "val" / "normal" / "1.npy"
    path.write_bytes(path.read_bytes()[:200])


FAULTS: list[tuple[str, Callable[[Path], None], str, str]] = [
    ("image shape", put("image", np.zeros((6, 9, 3))), "image", r"expected shape \(6, 8, 3\). Found \(6, 9, 3\)"),
    ("label shape", put("label", np.zeros((6, 8, 1))), "label", r"expected shape \(6, 8\). Found \(6, 8, 1\)"),
    ("depth shape", put("depth", np.zeros((8, 6))), "depth", r"expected shape \(6, 8, 1\). Found \(8, 6\)"),
    ("normal shape", put("normal", np.zeros((3, 6, 8))), "normal", r"expected shape \(6, 8, 3\)"),
    (
        "image bytes",
        put("image", np.full((6, 8, 3), 128.0)),
        "image",
        r"an image in \[0, 1\].*up to 128: divide .* 255",
    ),
    ("image integers", put("image", np.full((6, 8, 3), 128)), "image", "int64 values up to 128.*save them as uint8"),
    ("image above", put("image", np.full((6, 8, 3), 1.5)), "image", "Found values from 1.5 to 1.5"),
    ("image below", put("image", np.full((6, 8, 3), -0.5)), "image", "Found values from -0.5"),
    ("label above", put("label", np.full((6, 8), 13)), "label", "from -1 to 12. Found.*13"),
    ("label below", put("label", np.full((6, 8), -2)), "label", "from -1 to 12. Found values from -2"),
    ("label between", put("label", np.full((6, 8), 2.5)), "label", "whole numbers.*2.5"),
    ("depth below", put("depth", np.full((6, 8, 1), -1.0)), "depth", "metres.*Found values from -1"),
    ("millimetres", put("depth", np.full((6, 8, 1), 2345, np.uint16)), "depth", "up to 2345, which look like millim"),
    ("one far pixel", put("depth", far()), "depth", "ends at 10 m. Found values up to 101.*divided by 1000"),
    ("normal length", put("normal", np.full((6, 8, 3), 2.0)), "normal", "unit vectors"),
    ("image nan", put("image", nan("image")), "image", r"finite values. Found 3 .* \(2, 3, 0\)"),
    ("label nan", put("label", nan("label")), "label", "finite values"),
    ("depth nan", put("depth", nan("depth")), "depth", "finite values"),
    ("normal nan", put("normal", nan("normal")), "normal", "finite values"),
    ("objects", put("label", np.array([{"a": 1}], dtype=object)), "label", "readable .npy array"),
    ("text", put("depth", np.full((6, 8, 1), "x")), "depth", "array of numbers"),
    ("truncated", truncate, "normal", "readable .npy array"),
    ("other file", lambda root: (root / "val" / "depth" / "1.npy").write_text("hello") and None, "depth", "readable"),
    ("empty file", lambda root: (root / "val" / "depth" / "1.npy").write_bytes(b"") and None, "depth", "readable"),
]


@pytest.mark.parametrize(("spoil", "folder", "message"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_faulty_file_is_named(tmp_path: Path, spoil: Callable[[Path], None], folder: str, message: str) -> None:
    make(tmp_path)
    spoil(tmp_path)
    dataset = NYUv2(tmp_path, "val")
    dataset[0]
    with pytest.raises(ValueError, match=message) as caught:
        dataset[1]
    assert str(tmp_path / "val" / folder / "1.npy") in str(caught.value)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train"):
        NYUv2(tmp_path / "nowhere", "train")
    make(tmp_path, numbers=(0, 1, 2))
    with pytest.raises(FileNotFoundError, match="train"):
        NYUv2(tmp_path, "train")
    (tmp_path / "val" / "depth" / "1.npy").unlink()
    with pytest.raises(ValueError, match="1 of 3 missing in depth") as caught:
        NYUv2(tmp_path, "val")
    assert str(tmp_path / "val" / "depth" / "1.npy") in str(caught.value)
    for file in (tmp_path / "val").glob("*/*.npy"):
        file.unlink()
    with pytest.raises(ValueError, match="Found none"):
        NYUv2(tmp_path, "val")


def test_wrong_names_and_parameters_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ValueError, match="`split` should be one of train, val. Found 'test'"):
        NYUv2(tmp_path, "test")
    with pytest.raises(ValueError, match="`size`"):
        NYUv2(tmp_path, "val", size=(0, 4))
    np.save(tmp_path / "val" / "image" / "01.npy", np.zeros((6, 8, 3)))
    with pytest.raises(ValueError, match=r"named by a number.*01\.npy"):
        NYUv2(tmp_path, "val")


@pytest.mark.skipif(not REAL.is_dir(), reason="no NYUv2 images; set ART_MTL_NYUV2 to a folder of them")
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_images_load(split: str) -> None:
    dataset = NYUv2(REAL, split)
    x, labels = dataset.arrays(3)
    depth, normals = np.asarray(labels["depth"]), np.asarray(labels["normals"])
    for i, number in enumerate(dataset.numbers[:3]):
        on_disk = np.load(REAL / split / "image" / f"{number}.npy")
        np.testing.assert_allclose((x[i].transpose(1, 2, 0) + 1) / 2, on_disk, atol=1e-6)
    assert x.min() >= -1 and x.max() <= 1
    assert 0.5 < depth[depth > 0].mean() < 6
    length = np.linalg.norm(normals, axis=1)
    assert (np.isclose(length, 1, atol=0.01) | (length == 0)).all()
    small = NYUv2(REAL, split, size=(96, 128)).arrays(2)
    assert small[0].shape == (2, 3, 96, 128)
    np.testing.assert_allclose(small[0].mean(), x[:2].mean(), atol=0.01)
