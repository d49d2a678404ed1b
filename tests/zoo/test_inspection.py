"""``art-mtl inspect``: what is proposed is read, and runs."""

import pytest
import torch
from torch import nn

from art_mtl.cli import main
from art_mtl.zoo.inspection import propose
from art_mtl.zoo.task_file import kinds, read_task_file

USER = """
import torch
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        flat = x.flatten(1)
        return {
            "kind": 9 * flat[:, :5] - 4, "tags": (9 * flat[:, :6]).sigmoid(), "age": 3 * flat.sum(1) - 7,
            "chances": flat[:, :3].softmax(1), "seg": 9 * x[:, [0, 1, 2, 0]] - 5,
            "last": (9 * x - 4).permute(0, 2, 3, 1),
            "normals": nn.functional.normalize(x, dim=1), "depth": 5 * x[:, :1] + 1, "classes": flat.argmax(1),
            "round": (9 * flat[:, :4] - 4).round(),
        }

def net():
    return Net()

def number():
    return 3
"""


@pytest.fixture
def entries(tmp_path):
    """What is proposed for the net above, by output."""
    (tmp_path / "user.py").write_text(USER)
    text = propose(f"{tmp_path}/user.py:net", (3, 6, 8))
    (tmp_path / "tasks.yaml").write_text(text)
    spec = read_task_file(tmp_path / "tasks.yaml")
    return text, {one.name: (task.kind, one.layout) for one, task in zip(spec.outputs, spec.tasks, strict=True)}, spec


def test_likely_kinds(entries):
    text, found, spec = entries
    assert found["kind"] == found["chances"] == ("classification", "NCHW")
    assert found["tags"] == ("multilabel", "NCHW") and found["seg"] == ("segmentation", "NCHW")
    assert found["last"] == ("segmentation", "NHWC")
    assert found["normals"][0] == "surface_normals" and found["depth"][0] == "depth" and found["age"][0] == "regression"
    numbers = {task.name: getattr(task, "num_classes", None) for task in spec.tasks}
    assert (numbers["kind"], numbers["chances"], numbers["seg"], numbers["last"]) == (5, 3, 4, 3)
    assert spec.input.size == (6, 8) and spec.input.layout == "NCHW"


def test_what_is_not_sure_is_said(entries):
    text, found, _ = entries
    assert "classes" not in found and "whole numbers have no gradient" in text
    assert "no gradient leads from it to the input\n# logits of 4 classes" in text
    assert "probabilities (softmax inside)" in text and "probabilities of labels (sigmoid inside)?" in text


def test_boxes_and_scores_belong_together(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return x.flatten(2)[:, :, :4].repeat(1, 5, 1), x.flatten(2)[:, :, :6].repeat(1, 5, 1)

    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3, 6, 8),)), tmp_path / "net.pt2")
    text = propose(str(tmp_path / "net.pt2"))
    mark = "" if "detection" in kinds() else "# "
    assert f"{mark}- kind: detection\n" in text and '{"boxes": 0, "scores": 1}' in text and "num_classes: 6" in text


@pytest.mark.parametrize("turned", [False, True])
def test_boxes_and_scores_in_one_tensor_are_candidates(tmp_path, turned):
    """As exported YOLO detectors return them; the proposal is read back as a task that takes the output."""

    class Net(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)[:, :60].view(-1, 10, 6)
            table = torch.cat([8 * flat[..., :4], torch.sigmoid(flat[..., 4:])], 2)
            return table.mT if turned else table

    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3, 6, 8),)), tmp_path / "net.pt2")
    text = propose(str(tmp_path / "net.pt2"))
    (tmp_path / "tasks.yaml").write_text(text)
    (task,) = read_task_file(tmp_path / "tasks.yaml").tasks
    assert (task.kind, task.num_classes, task.boxes) == ("detection", 2, "cxcywh")
    assert "10 candidates before suppression" in text and "Then num_classes: 1 and background" in text
    targets = task.targets([{"boxes": [[4.0, 4.0, 2.0, 2.0]], "labels": [1]}])
    x = torch.rand(1, 3, 6, 8)
    found = task.check_output(task.select(Net()(x), 0, 1), targets)
    torch.testing.assert_close(found["scores"], torch.sigmoid(x.flatten(1)[:, :60].view(1, 10, 6)[..., 4:]))


def test_columns_of_boxes_belong_to_columns_of_scores(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)[:, :80].view(-1, 8, 10)
            return flat[:, :4], torch.softmax(flat[:, 4:7], 1)

    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3, 6, 8),)), tmp_path / "net.pt2")
    text = propose(str(tmp_path / "net.pt2"))
    assert '{"boxes": 0, "scores": 1}' in text and "num_classes: 3" in text
    assert "if so, num_classes: 2 and background: first or last" in text


@pytest.mark.parametrize("names", [("loc", "conf"), ("conf", "loc"), ("a", "b")])
def test_of_two_outputs_of_four_numbers_the_name_tells_the_boxes(tmp_path, names):
    """Three classes and "nothing" are four scores; in doubt the first output holds the boxes. Scores are used once."""

    class Net(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)[:, :80].view(-1, 10, 8) - 0.5
            found = {names[0]: flat[..., :4], names[1]: flat[..., 4:], "scene": x.flatten(1)[:, :3]}
            return {**found, "more": flat[..., :4]}

    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3, 6, 8),)), tmp_path / "net.pt2")
    text = propose(str(tmp_path / "net.pt2"))
    boxes, scores = (names[1], names[0]) if names[0] == "conf" else names
    assert f'{{"boxes": "{boxes}", "logits": "{scores}"}}' in text
    assert text.count("- kind:") == 2 and "boxes relative to 10 anchors?" in text


def test_maps_of_probabilities_are_masks_that_may_overlap(tmp_path):
    class Net(nn.Module):
        def forward(self, x):
            return torch.sigmoid(x[:, :2])

    torch.export.save(torch.export.export(Net(), (torch.rand(2, 3, 6, 8),)), tmp_path / "net.pt2")
    (tmp_path / "tasks.yaml").write_text(propose(str(tmp_path / "net.pt2")))
    (task,) = read_task_file(tmp_path / "tasks.yaml").tasks
    assert (task.kind, task.num_labels, task.probabilities) == ("multilabel_segmentation", 2, True)


def test_a_proposal_runs_from_the_command(nets, tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnx2torch", reason="needs the extra onnx")
    path = nets.export(nets.TwoHeads(), tmp_path / "net.onnx", torch.rand(1, 3, 8, 10))
    told = tmp_path / "tasks.yaml"
    assert main(["inspect", str(path), "--out", str(told)]) == 0
    assert main(["inspect", str(path), "--out", str(told)]) == 2
    assert "--out should be a new file" in capsys.readouterr().err
    data = nets.table(tmp_path)
    shared = ["--victim", str(path), "--tasks", str(told), "--data", str(data), "--eps", "8/255", "--steps", "2"]
    assert main(["benchmark", *shared, "--attacks", "equal", "worst-task", "--quiet"]) == 0
    said = capsys.readouterr()
    assert "kind" in said.out and "map" in said.out and "worst-task" in said.out
    assert main(["data", "check", str(data), "--tasks", str(told), "--sheet", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr()
    assert "segmentation" in said.out and "6 rows read" in said.err and (tmp_path / "sheet.png").stat().st_size > 1000
    data.write_text(data.read_text().replace("m3.png", "m33.png").replace("\n5.png", "\n55.png"))
    assert main(["data", "check", str(data), "--tasks", str(told), "--no-sheet"]) == 2
    said = capsys.readouterr().err
    assert "line 5: " in said and "m33.png" in said and "line 7: " in said
    assert main(["benchmark", *shared, "--attacks", "equal", "--quiet"]) == 2
    assert "line 5: " in capsys.readouterr().err
    assert main(["data", "check", str(data)]) == 2
    assert "--tasks should be the tasks.yaml" in capsys.readouterr().err


def test_what_cannot_be_inspected_is_told(nets, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    torch.export.save(torch.export.export(nets.TwoHeads(), (torch.rand(2, 3, 8, 10),)), tmp_path / "net.pt2")
    for name, shape, message in (
        (f"{tmp_path}/user.py:number", None, "should return a torch.nn.Module or a Victim. Found int"),
        (f"{tmp_path}/user.py:net", None, "`input` should be the shape of one sample.*nothing"),
        (str(tmp_path / "net.pt2"), (1, 8, 10), "expected a model that runs on inputs"),
        ("digits", None, "should be a model file or PATH.py:function. Found 'digits'"),
    ):
        with pytest.raises(ValueError, match=message):
            propose(name, shape)


def test_a_linear_head_that_lies_between_0_and_1_by_chance_is_no_sigmoid(nets, tmp_path):
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnx2torch", reason="needs the extra onnx")
    net = nets.TwoHeads()
    with torch.no_grad():
        net.head.weight.mul_(0.01)
        net.head.bias.fill_(0.5)
    text = propose(str(nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, 8, 10))))
    assert "kind: classification" in text and "multilabel\n" not in text
    end = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    whole = torch.nn.Sequential(end, torch.nn.Sigmoid())
    text = propose(str(nets.export(whole, tmp_path / "sigmoid.onnx", torch.rand(1, 3, 8, 10), names=("tags",))))
    assert "kind: multilabel" in text and "probabilities of labels (sigmoid inside)?" in text
