"""A detector in a file, and boxes by path: the same Δ as the torch model."""

import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.cli import main
from art_mtl.evaluation import Run, evaluate
from art_mtl.zoo.inspection import propose
from art_mtl.zoo.task_file import kinds, read_task_file
from art_mtl.zoo.victims import load_victim

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnx2torch", reason="needs the extra onnx")
pytestmark = pytest.mark.skipif("detection" not in kinds(), reason="needs the kind detection")

TASKS = """tasks:
- {kind: detection, name: objects, num_classes: 3, output: {boxes: boxes, scores: scores}}
- {kind: classification, name: kind, num_classes: 4}
"""


class Detector(nn.Module):
    """Boxes relative to anchors, decoded inside, scores of three classes, and the class of the picture."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk, self.kind = nn.Conv2d(3, 9, 4, stride=4), nn.Linear(9, 4)
        place = 4 * torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0)).flip(1) + 2
        self.register_buffer("centres", place)
        self.eval()

    def forward(self, x):
        hidden = self.trunk(x)
        found = hidden.flatten(2).transpose(1, 2)
        centre, size = self.centres + found[..., :2], 6 * torch.exp(0.2 * found[..., 2:4])
        boxes = torch.cat([centre - size / 2, centre + size / 2], 2)
        return boxes, torch.sigmoid(4 * found[..., 4:7]), self.kind(hidden.mean((2, 3)))


class Relative(Detector):
    """The same as heads return it: differences from a grid of anchors, and logits."""

    def forward(self, x):
        hidden = self.trunk(x)
        found = hidden.flatten(2).transpose(1, 2)
        return 2 * found[..., :4], 4 * found[..., 4:7], self.kind(hidden.mean((2, 3)))


class Decoded(Relative):
    """What these mean, by torchvision."""

    def forward(self, x):
        boxes, logits, kind = super().forward(x)
        coder = pytest.importorskip("torchvision.models.detection")._utils.BoxCoder((10.0, 10.0, 5.0, 5.0))
        anchors = torch.cat([self.centres - 3, self.centres + 3], 1)
        decoded = coder.decode(boxes.flatten(0, 1), [anchors] * len(x))[:, 0].view(boxes.shape)
        return decoded, torch.sigmoid(logits), kind


class Named(nn.Module):
    """The same in the layout of the tasks."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        boxes, scores, kind = self.net(x)
        return {"objects": {"boxes": boxes, "scores": scores}, "kind": kind}


def pictures(nets, folder):
    """A table with pictures, their classes and boxes."""
    data = nets.table(folder, 6, 4, (16, 16))
    lines = data.read_text().replace("map", "objects")
    for i in range(6):
        boxes = {"boxes": [[1, 1, 7, 7], [6, 6, 13, 12]], "labels": [i % 3, 1]}
        (folder / f"boxes{i}.json").write_text(json.dumps(boxes))
        lines = lines.replace(f"m{i}.png", f"boxes{i}.json")
    data.write_text(lines)
    return data


GRID = "{sizes: [[6]], ratios: [1], strides: [4], image_size: [16, 16], offset: 0.5}"


@pytest.mark.parametrize("anchors", [GRID, "anchors.npy"])
def test_boxes_relative_to_anchors_from_the_command_alone(nets, tmp_path, capsys, anchors):
    net = Relative()
    path = str(nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, 16, 16), names=("boxes", "scores", "kind")))
    data = pictures(nets, tmp_path)
    np.save(tmp_path / "anchors.npy", torch.cat([net.centres - 3, net.centres + 3], 1).numpy())
    proposed = propose(path)
    assert "# boxes relative to 16 anchors? Then anchors: FILE.npy, or sizes, ratios" in proposed
    assert "relative to" not in propose(str(nets.export(Detector(), tmp_path / "other.onnx", torch.rand(1, 3, 16, 16),
                                                        names=("boxes", "scores", "kind"))))  # fmt: skip
    text = re.sub(r'name: "task\d"', "name: objects", proposed)
    text = text.replace("  num_classes: 3\n", f"  num_classes: 3\n  anchors: {anchors}\n  box_coding: ssd\n")
    (tmp_path / "tasks.yaml").write_text(text)
    words = ["--victim", path, "--tasks", tmp_path / "tasks.yaml", "--data", data, "--attacks", "worst-task", "--eps",
             "16/255", "--steps", "4", "--out", tmp_path / "run"]  # fmt: skip
    assert main(["benchmark", *map(str, words)]) == 0
    found = Run.read(tmp_path / "run")["worst-task"]
    victim = load_victim(path, tasks=tmp_path / "tasks.yaml", data=data)
    asked = {"eps": [16 / 255], "steps": 4, "progress": False}
    jobs = [tasks.detection("objects", 3), tasks.classification("kind", 4)]
    by_name = {task.name: task for task in jobs}
    jobs = [by_name[task.name] for task in victim.tasks]
    expected = evaluate((Named(Decoded()), jobs), ["worst-task"], victim.dataset("test"), **asked)["worst-task"]
    assert found.delta_wor < -0.1 and found.delta_wor == pytest.approx(expected.delta_wor, abs=1e-3)
    assert found.delta_mtl == pytest.approx(expected.delta_mtl, abs=1e-3)


def test_anchors_that_are_no_array_are_told_with_the_line(nets, tmp_path):
    entry = "- kind: detection\n  name: objects\n  num_classes: 3\n  anchors: none.npy\n"
    (tmp_path / "tasks.yaml").write_text(nets.HEAD + "tasks:\n" + entry)
    with pytest.raises(ValueError, match=r"tasks.yaml, line 7: Expected a .npy file of anchors. Found"):
        read_task_file(tmp_path / "tasks.yaml")
    np.save(tmp_path / "none.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"line 7: Expected a .npy file of anchors. Found"):
        read_task_file(tmp_path / "tasks.yaml")
    np.save(tmp_path / "none.npy", np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"line 7: Parameter `anchors` .*Found shape \(2, 3\)"):
        read_task_file(tmp_path / "tasks.yaml")


def test_a_detector_in_a_file_degrades_as_the_torch_model_does(nets, tmp_path):
    net = Detector()
    names = ("boxes", "scores", "kind")
    path = str(nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, 16, 16), names=names))
    data = pictures(nets, tmp_path)
    (tmp_path / "tasks.yaml").write_text(nets.HEAD + TASKS)
    victim = load_victim(path, tasks=tmp_path / "tasks.yaml", data=data)
    asked = {"eps": [16 / 255], "steps": 4, "progress": False}
    found = evaluate(victim, ["worst-task"], **asked)["worst-task"]
    expected = evaluate((Named(net), victim.tasks), ["worst-task"], victim.dataset("test"), **asked)["worst-task"]
    assert found.delta_wor < -0.1 and found.delta_wor == pytest.approx(expected.delta_wor, abs=1e-3)
    assert '"boxes": "boxes", "scores": "scores"' in propose(path)
