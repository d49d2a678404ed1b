"""A detector in a file, and boxes by path: the same Δ as the torch model."""

import json

import pytest
import torch
from torch import nn

from art_mtl.evaluation import evaluate
from art_mtl.zoo.inspection import propose
from art_mtl.zoo.task_file import kinds
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


class Named(nn.Module):
    """The same in the layout of the tasks."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        boxes, scores, kind = self.net(x)
        return {"objects": {"boxes": boxes, "scores": scores}, "kind": kind}


def test_a_detector_in_a_file_degrades_as_the_torch_model_does(nets, tmp_path):
    net = Detector()
    names = ("boxes", "scores", "kind")
    path = str(nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, 16, 16), names=names))
    data = nets.table(tmp_path, 6, 4, (16, 16))
    lines = data.read_text().replace("map", "objects")
    for i in range(6):
        boxes = {"boxes": [[1, 1, 7, 7], [6, 6, 13, 12]], "labels": [i % 3, 1]}
        (tmp_path / f"boxes{i}.json").write_text(json.dumps(boxes))
        lines = lines.replace(f"m{i}.png", f"boxes{i}.json")
    data.write_text(lines)
    (tmp_path / "tasks.yaml").write_text(nets.HEAD + TASKS)
    victim = load_victim(path, tasks=tmp_path / "tasks.yaml", data=data)
    asked = {"eps": [16 / 255], "steps": 4, "progress": False}
    found = evaluate(victim, ["worst-task"], **asked)["worst-task"]
    expected = evaluate((Named(net), victim.tasks), ["worst-task"], victim.dataset("test"), **asked)["worst-task"]
    assert found.delta_wor < -0.1 and found.delta_wor == pytest.approx(expected.delta_wor, abs=1e-3)
    assert '"boxes": "boxes", "scores": "scores"' in propose(path)
