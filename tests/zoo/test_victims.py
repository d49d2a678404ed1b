"""Victims: the embedded ones are as good as they say, and a user's file is told what is wrong with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.evaluation.grid import make_estimator
from art_mtl.models import RoomsNet, save_weights
from art_mtl.structure import tensors_in
from art_mtl.training import clean_metrics
from art_mtl.zoo.victims import VICTIM_SPECS, Victim, load_victim, victim_names

GOOD = """
import torch
from helper import SCALE
from art_mtl import tasks
from art_mtl.evaluation.grid import make_estimator
from art_mtl.zoo.victims import Victim

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(3, 2)
        self.drop = torch.nn.Dropout()

    def forward(self, x):
        return {"a": self.drop(self.line(x)), "b": x.sum(1, keepdim=True) * SCALE}

def parts(low=0.0):
    x = torch.linspace(low, 1, 12).view(4, 3)
    return Net(), [tasks.classification("a", 2), tasks.regression("b")], x, {"a": [0, 1, 1, 0], "b": [0.0, 1, 2, 3]}

def make():
    return parts()

def wide():
    return (*parts(-1.0), (-1.0, 1.0))

def outside():
    return parts(-1.0)

def whole():
    model, list_of_tasks, x, y = parts()
    return Victim("mine", model, list_of_tasks, (3,), (0.0, 1.0), lambda split, limit: (x[:limit].numpy(), y))

def three():
    return parts()[:3]

def unmodelled():
    return (lambda x: x, *parts()[1:])

def untasked():
    model, _, x, y = parts()
    return model, ["a"], x, y

def short():
    model, list_of_tasks, x, y = parts()
    return model, list_of_tasks, x[:2], y

def backwards():
    return (*parts(), (1.0, 0.0))

def with_data_set():
    model, list_of_tasks, x, y = parts()
    return model, list_of_tasks, [(x[i], {"a": y["a"][i], "b": y["b"][i]}) for i in range(4)]

def with_loader():
    from torch.utils.data import DataLoader
    return (*with_data_set()[:2], DataLoader(with_data_set()[2], batch_size=3))

def with_collate():
    from torch.utils.data import DataLoader
    def collate(samples):
        return torch.stack([x for x, _ in samples]) / 2, {k: torch.tensor([y[k] for _, y in samples]) for k in "ab"}
    return (*with_data_set()[:2], DataLoader(with_data_set()[2], batch_size=3, collate_fn=collate))

def with_pair():
    model, list_of_tasks, x, y = parts()
    return model, list_of_tasks, (x, y)

def loader_and_labels():
    return (*with_loader(), {"a": [0, 1, 1, 0], "b": [0.0, 1, 2, 3]})

def nothing():
    return None

def two():
    return parts()[:2]

def fails():
    return 1 / 0

def unranged():
    return (*parts(), 3)

not_a_function = 3
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of test workers that share a core only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text("SCALE = 2.0\n")
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize("name", list(VICTIM_SPECS))
def test_embedded_victims_are_as_good_as_they_say(name: str) -> None:
    victim = load_victim(name)
    x, labels = victim.data("test", 60 if name in ("rooms", "rooms-detection") else 400)
    assert x.shape[1:] == victim.input_shape and len(x) == len(labels)
    assert x.min() >= victim.clip_values[0] and x.max() <= victim.clip_values[1]
    said = json.loads(victim.metadata["clean_test"])
    found = clean_metrics(victim.model, victim.tasks, x, labels)
    assert set(found) == {task.name for task in victim.tasks}
    for task in victim.tasks:
        assert found[task.name] == pytest.approx(said[task.name], rel=0.25), task.name


def test_embedded_victims_generalise() -> None:
    digits, rooms, boxes = (
        json.loads(load_victim(name).metadata["clean_test"]) for name in ("digits", "rooms", "rooms-detection")
    )
    assert min(digits["left"], digits["right"]) > 0.92 and digits["sum"] < 0.8
    for scenes in (rooms, boxes):
        assert scenes["segmentation"] > 0.45 and scenes["depth"] < 0.4 and scenes["normals"] < 17
    assert boxes["detection"] > 0.45


@pytest.mark.parametrize("name", list(VICTIM_SPECS))
def test_victims_are_frozen_and_in_evaluation_mode(name: str) -> None:
    victim = load_victim(name)
    assert not any(module.training for module in victim.model.modules())
    assert not any(parameter.requires_grad for parameter in victim.model.parameters())
    x = torch.rand(1, *victim.input_shape, requires_grad=True)
    outputs = victim.model(x)
    (gradient,) = torch.autograd.grad(sum(output.sum() for output in tensors_in(outputs)), x)
    assert gradient.abs().sum() > 0
    assert victim.eps["linf"] and all(eps > 0 for radii in victim.eps.values() for eps in radii)


def test_names_and_radii() -> None:
    assert victim_names() == ("digits", "rooms", "rooms-robust", "rooms-detection", "multilabel", "nyuv2", "cityscapes")
    assert dict(load_victim("rooms").eps) == {"linf": (2 / 255, 4 / 255, 8 / 255), "l2": (1.0,)}
    assert dict(load_victim("digits").eps) == {"linf": (0.05, 0.1)}
    assert [task.name for task in load_victim("rooms").tasks] == ["segmentation", "depth", "normals"]


def test_all_weights_together_are_small() -> None:
    folder = Path(load_victim.__code__.co_filename).parents[1] / "models" / "weights"
    sizes = {file.stem: file.stat().st_size for file in folder.glob("*.safetensors")}
    assert set(sizes) == set(VICTIM_SPECS)
    assert sizes["digits"] + sizes["rooms"] < 5e6 and sizes["rooms-detection"] < 3e6 and sum(sizes.values()) < 11e6


def test_a_file_of_the_user(file: Path) -> None:
    victim = load_victim(f"{file}:make")
    assert victim.input_shape == (3,) and victim.clip_values == (0.0, 1.0)
    assert not victim.model.training, "dropout is off"
    x, labels = victim.data("test", 2)
    assert x.shape == (2, 3) and x.dtype == np.float32 and labels["a"].tolist() == [0, 1]
    assert len(victim.data("test", None)[0]) == 4
    np.testing.assert_allclose(victim.model(torch.from_numpy(x))["b"][:, 0], 2 * x.sum(1), rtol=1e-6)
    wide = load_victim(f"{file}:wide")
    assert wide.clip_values == (-1.0, 1.0)
    assert wide.eps["linf"] == pytest.approx([2 * eps for eps in victim.eps["linf"]]), "radii follow the scale"
    assert isinstance(load_victim(f"{file}:whole"), Victim) and load_victim(f"{file}:whole").name == "mine"


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("absent", ValueError, "Expected a function 'absent' in .*mine.py. Found .*make"),
        ("not_a_function", ValueError, "Expected a function 'not_a_function'"),
        ("three", TypeError, r"mine.py:three should return a Victim.*x, y.*Found a tuple of 3: \(Net, list, Tensor\)"),
        ("two", TypeError, r"data set or DataLoader.*Found a tuple of 2: \(Net, list\)"),
        ("nothing", TypeError, "data set or DataLoader.*Found NoneType"),
        ("loader_and_labels", TypeError, "mine.py.*`y` should be None where `x` is a DataLoader.*Found dict"),
        ("fails", ValueError, r"mine.py, line \d+: expected fails\(\) to return. Found ZeroDivisionError: division by"),
        ("unranged", ValueError, "`bounds` should be .*Found 3"),
        ("unmodelled", TypeError, "torch.nn.Module.*Found function"),
        ("untasked", TypeError, "Task.*Found str"),
        ("short", ValueError, "2 samples.*Found 4"),
        ("outside", ValueError, r"inputs in \[0.0, 1.0\].*`bounds`.*Found values from -1 to 1"),
        ("backwards", ValueError, r"`bounds` should be .*\[1.0, 0.0\]"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(file: Path, function: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_victim(f"{file}:{function}")


@pytest.mark.parametrize("function", ["with_data_set", "with_loader", "with_pair", "with_collate"])
def test_three_parts_are_a_model_with_tasks_and_data(file: Path, function: str) -> None:
    plain, victim = load_victim(f"{file}:make"), load_victim(f"{file}:{function}")
    (x, labels), (expected, true) = victim.data("test", 3), plain.data("test", 3)
    np.testing.assert_allclose(x, expected / (2 if function == "with_collate" else 1))
    assert labels["a"].tolist() == true["a"].tolist() and labels["b"].tolist() == true["b"].tolist()
    assert victim.input_shape == (3,) and len(victim.source()) == 4


def test_no_split_is_another_one_in_silence(file: Path) -> None:
    victim = load_victim(f"{file}:make")
    for read in (victim.source, victim.data):
        with pytest.raises(ValueError, match="mine.py:make' should have data of split='train'. Found test data; give"):
            read("train", None)
    for embedded in ("digits", "rooms", "multilabel"):
        with pytest.raises(ValueError, match="split.*'val'"):
            load_victim(embedded).source("val")
    net, x = torch.nn.Linear(3, 2), np.linspace(0, 1, 12).reshape(4, 3)
    both = Victim.of(net, tasks.classification("a", 2), x, [0, 1, 1, 0], train=(x[:2], [1, 1]), name="both")
    assert both.data("test", None)[1]["a"].tolist() == [0, 1, 1, 0] and both.data("train", None)[1]["a"].tolist() == [
        1,
        1,
    ]
    assert len(both.source("train", 1)) == 1
    with pytest.raises(ValueError, match=r"`x` should be inputs in \[0.0, 1.0\].*Found values from 0 to 2"):
        Victim.of(net, tasks.classification("a", 2), x, [0, 1, 1, 0], train=(2 * x, [0, 1, 1, 0]))


def test_bounds_may_be_arrays_and_data_a_generator() -> None:
    """Of each channel its own; what can be read once only is kept."""
    low, high = (np.array(bound).reshape(2, 1, 1) for bound in ([0.0, -1.0], [1.0, 3.0]))
    x = np.stack([np.full((2, 2), 0.5), np.full((2, 2), 2.0)])[None].repeat(3, 0)
    net, job = torch.nn.Flatten(), tasks.classification("a", 8)
    samples = ((image, {"a": 0}) for image in x)
    victim = Victim.of(net, job, samples, bounds=(low, high))
    assert len(victim.source()) == len(victim.data("test", None)[0]) == 3
    np.testing.assert_array_equal(victim.clip_values[1], high)
    assert victim.eps["linf"][0] == pytest.approx(2 / 255 * 4)
    assert make_estimator(victim, "cpu").clip_values[0].shape == (2, 1, 1)
    with pytest.raises(ValueError, match="Found values from 0.5 to 2"):
        Victim.of(net, job, x, [0, 0, 0], bounds=(low, high - [[[0]], [[2]]]))


def test_inputs_that_are_not_numbers_are_outside_of_every_range() -> None:
    with pytest.raises(ValueError, match="Found values from nan to nan"):
        Victim.of(torch.nn.Linear(3, 2), tasks.classification("a", 2), np.full((2, 3), np.nan), [0, 1])


@pytest.mark.parametrize(
    ("source", "line", "found"),
    [
        ("import torch\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n\ny = x +\n", 3, "SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path, source, line, found) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ImportError, match=f"broken.py, line {line}: expected code.*Found {found}.$") as caught:
        load_victim(f"{path}:make")
    assert "\n" not in str(caught.value) and "art_mtl_victim_broken" not in sys.modules
    (tmp_path / "outer.py").write_text("x = 1\nimport broken\n")
    with pytest.raises(ImportError, match=f"broken.py, line {line}: expected code"):
        load_victim(f"{tmp_path / 'outer.py'}:make")


def test_what_is_no_regular_file_ends_in_one_line_that_names_it(tmp_path: Path) -> None:
    """Nothing waits for a pipe."""
    (tmp_path / "folder.py").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "link.py").symlink_to(tmp_path / "gone")
    kinds = {"folder": "a folder", "pipe": "a .*pipe", "link": "a link to a file", "absent": "no such file"}
    for name, found in kinds.items():
        path = tmp_path / f"{name}.py"
        with pytest.raises((OSError, ValueError), match=f"{name}.py: expected a Python file. Found {found}"):
            load_victim(f"{path}:make")
        with pytest.raises((OSError, ValueError), match=f"{name}.py"):
            load_victim("digits", checkpoint=path)
        for root, checkpoint in ((path, file_of_weights(tmp_path)), (tmp_path, path)):
            with pytest.raises((OSError, ValueError), match=f"{name}.py") as caught:
                load_victim("nyuv2", root=root, checkpoint=checkpoint).data("test", 1)
            assert "\n" not in str(caught.value)


def file_of_weights(folder: Path) -> Path:
    metadata = {"victim": "nyuv2", "memorised": "true", "height": "32", "width": "48"}
    save_weights(RoomsNet(), folder / "weights", metadata)
    return folder / "weights"


def test_wrong_names_and_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="digits, rooms, rooms-robust, rooms-detection, multilabel, nyuv2, cityscapes, PATH.py:function or the .* "
        "Found 'cats'",
    ):
        load_victim("cats")
    with pytest.raises(FileNotFoundError, match="absent.py"):
        load_victim(f"{tmp_path}/absent.py:make")
    with pytest.raises(ValueError, match="`root` should be left out"):
        load_victim("digits", root=tmp_path)
    with pytest.raises(ValueError, match="`root`.*`checkpoint`.*checkpoint=None"):
        load_victim("nyuv2", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="gone"):
        load_victim("digits", checkpoint=tmp_path / "gone")
    save_weights(torch.nn.Linear(1, 1), tmp_path / "other", {"victim": "nyuv2", "memorised": "true"})
    with pytest.raises(ValueError, match=r"DigitsNet.*missing trunk.*unexpected bias, weight"):
        load_victim("digits", checkpoint=tmp_path / "other")
    with pytest.raises(ValueError, match="expected `height` and `width`"):
        load_victim("nyuv2", root=tmp_path, checkpoint=tmp_path / "other")
