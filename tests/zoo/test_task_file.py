"""``tasks.yaml``: what it may say, and where a fault is told."""

import re

import pytest

from art_mtl import tasks
from art_mtl.zoo.task_file import kinds, read_task_file

HEAD = "format: art_mtl.tasks\nversion: 1\n"
TASK = "tasks:\n- {kind: classification, name: digit, num_classes: 10}\n"
FULL = """format: art_mtl.tasks
version: 1
input:
  name: image
  channels: 1
  size: [12, 16]
  range: [-1, 1]
  layout: NHWC
  mean: 0.5
  std: [0.25]
given:
- {name: table, columns: [age, height], scale: 0.1}
data: {images: file, folder: pictures, bad_rows: leave out}
tasks:
- kind: segmentation
  name: mask
  num_classes: 3
  ignore_index: 255
  output: [heads, 0]
  layout: NHWC
  columns: mask file
- kind: classification
  name: pet
  num_classes: 2
  output: {boxes: b, scores: [s, 1]}
  classes: [dog, cat]
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tasks.yaml"


def test_everything_that_it_may_say(file):
    file.write_text(FULL)
    found = read_task_file(file)
    assert found.tasks == (tasks.segmentation("mask", 3, ignore_index=255), tasks.classification("pet", 2))
    assert (found.input.size, found.input.range, found.input.layout) == ((12, 16), (-1, 1), "NHWC")
    assert (found.input.mean, found.input.std) == (0.5, (0.25,))
    assert [one.output for one in found.outputs] == [["heads", 0], {"boxes": "b", "scores": ["s", 1]}]
    assert [one.layout for one in found.outputs] == ["NHWC", "NCHW"]
    assert found.columns["mask"].names == ("mask file",) and found.columns["pet"].names == ("pet",)
    assert found.columns["pet"].classes == found.class_names["pet"] == ("dog", "cat")
    assert found.given[0].columns == ("age", "height") and found.given[0].scale == 0.1
    assert (found.table.images, found.table.folder, found.table.bad_rows) == ("file", "pictures", "leave out")


def test_every_kind_of_the_package_that_needs_no_code_can_be_named(file):
    assert {"segmentation", "classification", "multilabel", "depth", "regression"} <= set(kinds())
    assert not {"custom", "check_tasks", "installed"} & set(kinds())


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (TASK + "inptu: {}\n", 5, "Expected a key of a description of tasks. Found 'inptu'. Perhaps 'input'?"),
        ("input: {size: [3, 4], chanels: 1}\n" + TASK, 3, "Found 'chanels'. Perhaps 'channels'?"),
        ("input:\n  size: [3]\n" + TASK, 4, "Expected `array` of length 2"),
        ("input:\n  size: [3, 0]\n" + TASK, 4, r"Expected \[height, width\]. Found \[3, 0\]"),
        ("input:\n  channels: 2\n" + TASK, 4, "Invalid enum value 2"),
        ("input:\n  layout: HWC\n" + TASK, 4, "Invalid enum value 'HWC'"),
        ("input:\n  range: [1, 0]\n" + TASK, 4, r"Expected \[least, greatest\]. Found \[1.0, 0.0\]"),
        ("input:\n  mean: [1, 2]\n" + TASK, 4, "Expected one number, or 3, one a channel. Found 2"),
        ("input:\n  std: 0\n" + TASK, 4, "Expected positive numbers. Found 0"),
        ("given: [{name: a, columns: [b], colums: 3}]\n" + TASK, 3, "Found 'colums'. Perhaps 'columns'?"),
        ("data: {bad_rows: skip}\n" + TASK, 3, "Invalid enum value 'skip'"),
        ("tasks: []\n", 3, "Expected at least one task"),
        ("tasks: 3\n", 3, "Expected `array` as `tasks`. Found `int`"),
        ("tasks:\n- kind: custom\n  name: a\n", 4, "Expected a kind of task, one of .*Found 'custom'"),
        ("tasks:\n- kind: segmentation\n  name: a\n  num_clases: 3\n", 6, "Found 'num_clases'. Perhaps 'num_classes'?"),
        ("tasks:\n- kind: segmentation\n  name: a\n  num_classes: 1\n", 6, "`num_classes`"),
        ("tasks:\n- kind: segmentation\n  name: a\n", 4, "num_classes"),
        ("tasks:\n- {kind: segmentation}\n", 4, "missing required field `name`"),
        (TASK + "- {kind: regression, name: digit}\n", 3, "distinct names"),
        ("tasks:\n- [kind]\n", 4, "Expected `object` as `tasks.0`. Found `array`"),
        (TASK + "input: !!python/object/apply:os.system [id]\n", 5, "Expected no tags"),
        (TASK + "tasks: []\n", 5, "Expected each key once. Found 'tasks', as on line 3"),
        (TASK + "input: {size: [1, 2], size: [3, 4]}\n", 5, "Expected each key once. Found 'size', as on line 5"),
    ],
)
def test_a_fault_is_told_with_the_file_and_the_line(file, text, line, message):
    file.write_text(HEAD + text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}, line {line}: .*{message}"):
        read_task_file(file)


@pytest.mark.parametrize("head", ["format: art_mtl.experiment\nversion: 1\n", "format: art_mtl.tasks\nversion: 2\n"])
def test_other_files_are_refused(file, head):
    file.write_text(head + TASK)
    with pytest.raises(ValueError, match="tasks.yaml, line [12]: Expected (format|version)"):
        read_task_file(file)
    with pytest.raises(FileNotFoundError, match="A description of tasks should be a YAML file"):
        read_task_file(file.with_name("none.yaml"))
