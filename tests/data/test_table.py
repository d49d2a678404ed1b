"""Tables of labels: what cells may hold, and what is told of bad rows."""

import json

import numpy as np
import pytest
from PIL import Image

from art_mtl import tasks
from art_mtl.data import Column, TableDataset
from art_mtl.data.sources import as_source

RNG = np.random.default_rng(0)
MASK = RNG.integers(0, 3, (6, 8)).astype(np.uint8)
PIXELS = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        Image.fromarray(PIXELS).save(tmp_path / f"{i}.png")
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    Image.fromarray(np.full((6, 8), 2500, np.uint16)).save(tmp_path / "depth.png")
    np.save(tmp_path / "depth.npy", np.full((6, 8), 2.5, np.float32))
    return tmp_path


def write(folder, *lines):
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_cells_hold_numbers_classes_vectors_and_files(folder):
    path = write(
        folder,
        "file;kind;age;a;b;mask;depth",
        "0.png;cat;3.5;1;0;mask.png;depth.png",
        "1.png;;NaN;;;;depth.npy",
        "2.png;0;-1;1;;mask.png;",
    )
    jobs = [
        tasks.classification("kind", 2), tasks.regression("age"), tasks.regression("pair"),
        tasks.segmentation("mask", 3), tasks.depth("depth"),
    ]  # fmt: skip
    columns = {
        "kind": Column(("kind",), ("dog", "cat")), "pair": ["a", "b"], "depth": Column(("depth",), scale=0.001),
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"line 4: column 'a', 'b': .*NaN"):
        TableDataset(path, jobs, "file", columns)
    jobs[2] = tasks.multilabel("pair", 2)
    text = path.read_text().replace("2.png;0;-1;1;;", "2.png;0;-1;1;-1;")
    path.write_text(text.replace("depth.npy", ""))
    table = TableDataset(path, jobs, "file", columns, value_range=(-1, 1))
    x, labels = table[0]
    assert x.dtype == np.float32 and x.shape == (3, 6, 8)
    np.testing.assert_allclose(x, PIXELS.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert labels["kind"] == 1 and labels["age"] == 3.5 and labels["pair"].tolist() == [1, 0]
    np.testing.assert_array_equal(labels["mask"], MASK)
    np.testing.assert_allclose(labels["depth"], 2.5, rtol=1e-6)
    assert set(table[1][1].values()) == {None}
    assert table[2][1]["kind"] == 0 and table.line(2) == 4
    read, y = as_source(table, jobs).read(slice(0, 3))
    assert read.shape == (3, 3, 6, 8) and y.present("kind").tolist() == [True, False, True]
    assert y.present("depth").tolist() == [True, False, False]


def test_labels_are_resized_with_their_picture(folder):
    (folder / "boxes.json").write_text(json.dumps({"boxes": [[0, 0, 4, 3]], "labels": [2]}))
    (folder / "boxes.csv").write_text("0,0,4,3,2\n")
    (folder / "boxes.txt").write_text("2 0.25 0.25 0.5 0.5\n")
    path = write(folder, "image,mask,boxes", "0.png,mask.png,boxes.json", "1.png,,boxes.csv", "2.png,,boxes.txt")
    boxes = tasks.custom("boxes", loss=lambda output, target: output)  # stands for any kind: the reader is asked below
    table = TableDataset(path, [tasks.segmentation("mask", 3)], size=(12, 16))
    x, labels = table[0]
    assert x.shape == (3, 12, 16) and labels["mask"].shape == (12, 16)
    np.testing.assert_array_equal(labels["mask"][::2, ::2], MASK)
    for row in table._rows:
        found = table._value(row, Column((boxes.name,)), (6, 8))
        assert found["boxes"].tolist() == [[0, 0, 8, 6]] and found["labels"].tolist() == [2]


def test_points_are_resized_with_their_picture(folder):
    table = TableDataset(write(folder, "image,kind", "0.png,1"), [tasks.classification("kind", 2)], size=(12, 32))
    flat, rows = np.array([1, 2, 3, 4], np.float32), np.array([[1, 2, 1], [3, 4, 0]], np.float32)
    assert table._resized_points(flat, (6, 8)).tolist() == [4, 4, 12, 8]
    assert table._resized_points(rows, (6, 8)).tolist() == [[4, 4, 1], [12, 8, 0]]


def test_grey_pictures_of_16_bits_and_models_of_numbers(folder):
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(folder / "white.png")
    path = write(folder, "image,age,w", "white.png,1,0.5")
    table = TableDataset(path, [tasks.regression("age")], channels=1)
    assert table[0][0].tolist() == [[[1, 1], [1, 1]]]
    numbers = TableDataset(path, [tasks.regression("age")], ["w", "age"])
    assert numbers[0][0].tolist() == [0.5, 1]


def test_what_is_missing_is_told_with_the_line(folder):
    path = write(folder, "image,kind", "0.png,1")
    jobs = [tasks.classification("kind", 2)]
    with pytest.raises(ValueError, match=r"labels.csv, line 1: expected the column\(s\) 'mask'. Found 'image', 'kind'"):
        TableDataset(path, [tasks.segmentation("mask", 2)])
    with pytest.raises(ValueError, match="line 1: expected each column once"):
        TableDataset(write(folder, "image,kind,kind", "0.png,1,1"), jobs)
    with pytest.raises(ValueError, match="expected a row a sample"):
        TableDataset(write(folder, "image,kind"), jobs)
    with pytest.raises(FileNotFoundError, match="expected a table"):
        TableDataset(folder / "none.csv", jobs)
    with pytest.raises(ValueError, match="`columns` should name tasks. Found .'knid'"):
        TableDataset(path, jobs, columns={"knid": "kind"})
    for option in ({"channels": 2}, {"bad_rows": "skip"}, {"limit": 0}, {"size": (0, 3)}, {"given": {"a": "kind"}}):
        with pytest.raises(ValueError, match="Parameter `"):
            TableDataset(path, jobs, **option)


BAD = [
    ("none.png,1", "none.png: expected a picture. Found no such file"),
    (",1", "expected a picture in column 'image'. Found an empty cell"),
    ("text.png,1", "cannot be read as one"),
    ("0.png,7", r"column 'kind': .*\[0, 1\]"),
    ("0.png,cat", "column 'kind': expected a number. Found 'cat'"),
    ("0.png", "expected 2 cells. Found 1"),
    ("0.png,mask.png", "column 'kind'"),
    ("small.png,1", r"expected an input of shape \(3, 6, 8\), as on line 2. Found \(3, 2, 2\); give `size`"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_told_before_work(folder, row, message):
    (folder / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / "small.png")
    path = write(folder, "image,kind", "0.png,1", "", row)
    with pytest.raises(ValueError, match=rf"labels.csv: expected rows that can be read. Found line 4: .*{message}"):
        TableDataset(path, [tasks.classification("kind", 2)])


def test_all_bad_rows_are_told_at_once_up_to_twenty_or_left_out(folder):
    rows = [f"none{i}.png,1" for i in range(30)]
    path = write(folder, "image,kind", *rows, "0.png,1", "1.png,0")
    jobs = [tasks.classification("kind", 2)]
    with pytest.raises(ValueError) as caught:
        TableDataset(path, jobs)
    assert str(caught.value).count("line ") == 20 and "line 2: " in str(caught.value)
    with pytest.warns(RuntimeWarning, match=r"30 row\(s\) are left out: line 2: .*; and 10 more"):
        table = TableDataset(path, jobs, bad_rows="leave out")
    assert len(table) == 2 and table.line(0) == 32 and len(table.left_out) == 30
    with pytest.raises(ValueError, match="expected rows that can be read"):
        TableDataset(write(folder, "image,kind", *rows), jobs, bad_rows="leave out")


def test_rows_behind_the_limit_are_not_read(folder):
    path = write(folder, "image,kind", "0.png,1", "none.png,1")
    assert len(TableDataset(path, [tasks.classification("kind", 2)], limit=1)) == 1


def test_a_mask_of_another_size_is_told(folder):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / "small.png")
    path = write(folder, "image,mask", "0.png,small.png")
    with pytest.raises(ValueError, match="expected the size of the picture, 6x8. Found 2x2"):
        TableDataset(path, [tasks.segmentation("mask", 3)])


@pytest.mark.parametrize("size", [None, (12, 16)])
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, [0, 0, 4, 3]),
        ({"boxes": "cxcywh"}, [2, 1.5, 4, 3]),
        ({"boxes": "cxcywh", "image_size": (1, 1)}, [0.25, 0.25, 0.5, 0.5]),
        ({"boxes": "xywh", "image_size": (100, 200)}, [0, 0, 100, 50]),
    ],
)
def test_boxes_of_files_are_in_the_form_and_the_unit_of_the_task(folder, told, expected, size):
    """Files hold corners in pixels of the picture on disk, or shares of it; tasks take what the model returns."""
    (folder / "boxes.json").write_text(json.dumps({"boxes": [[0, 0, 4, 3]], "labels": [2]}))
    (folder / "boxes.csv").write_text("0,0,4,3,2\n")
    (folder / "boxes.txt").write_text("2 0.25 0.25 0.5 0.5\n")
    path = write(folder, "image,boxes", "0.png,boxes.json", "1.png,boxes.csv", "2.png,boxes.txt")
    table = TableDataset(path, [tasks.detection("boxes", 3, **told)], size=size)
    scale = 2 if size and "image_size" not in told else 1
    for place in range(3):
        label = table[place][1]["boxes"]
        np.testing.assert_allclose(label["boxes"], [np.multiply(expected, scale)], rtol=1e-6)
        assert label["labels"].tolist() == [2]


def test_boxes_that_are_none_are_told(folder):
    path = write(folder, "image,kind", "0.png,boxes.json")
    for text in ('{"boxes": [[1, 2]], "labels": [1]}', "[", '{"boxes": []}', '{"boxes": [[1,2,3,4]], "labels": []}'):
        (folder / "boxes.json").write_text(text)
        with pytest.raises(ValueError, match=r"line 2: .*boxes.json: expected boxes with their classes. Found a fault"):
            TableDataset(path, [tasks.classification("kind", 2)])
