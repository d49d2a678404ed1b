"""Victims from files alone: the network, tasks.yaml and a table of labels."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl.data import TableDataset
from art_mtl.evaluation import Experiment, evaluate
from art_mtl.zoo.model_files import InBatches, load_model_file
from art_mtl.zoo.task_file import read_task_file
from art_mtl.zoo.victims import load_victim


class _Tuple(nn.Module):
    """A net of dicts as exporters take it."""

    def __init__(self, net, names):
        super().__init__()
        self.net, self.names = net, names

    def forward(self, x):
        found = self.net(x)
        return tuple(found[name] for name in self.names)


@pytest.fixture
def needs_onnx():
    pytest.importorskip("onnx", reason="needs the extra onnx")
    pytest.importorskip("onnx2torch", reason="needs the extra onnx")


def files(nets, folder, text=None, rows=6):
    (folder / "tasks.yaml").write_text(nets.HEAD + (nets.TASKS if text is None else text))
    return {"tasks": folder / "tasks.yaml", "data": nets.table(folder, rows)}


def same_run(left, right, **options):
    """Both victims under attack; Δ agrees to 0.1 point, and the predictions of the clean inputs agree."""
    asked = {"eps": [8 / 255], "steps": 4, "progress": False, **options}
    one, other = (evaluate(victim, ["minmax", "worst-task"], **asked) for victim in (left, right))
    for name in ("minmax", "worst-task"):
        a, b = one[name], other[name]
        np.testing.assert_allclose(a.delta_mtl, b.delta_mtl, atol=1e-3)
        np.testing.assert_allclose(a.delta_wor, b.delta_wor, atol=1e-3)
        assert a.delta_mtl < 0
    return one


@pytest.mark.parametrize("name", ["digits", "rooms"])
def test_an_exported_victim_degrades_as_the_torch_model_does(nets, needs_onnx, tmp_path, name):
    """From the pixels of a table, which are those of the victim."""
    victim = load_victim(name)
    x, y = victim.data("test", 4)
    names = [task.name for task in victim.tasks]
    nets.export(_Tuple(victim.model, names), tmp_path / "net.onnx", torch.tensor(x[:1]), names=names)
    lines = [",".join(["image", *names])]
    for i in range(len(x)):
        cells = [f"x{i}.npy"]
        np.save(tmp_path / cells[0], x[i])
        for task in names:
            label = np.asarray(y[task][i])
            if label.ndim > 1:
                np.save(tmp_path / f"{task}{i}.npy", label)
                cells.append(f"{task}{i}.npy")
            else:
                cells.append(str(label.item() if label.size == 1 else label.tolist()))
        lines.append(",".join(cells))
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    kinds = {
        "segmentation": "{kind: segmentation, num_classes: 13",
        "depth": "{kind: depth",
        "sum": "{kind: regression",
        "normals": "{kind: surface_normals",
    }
    entries = [f"- {kinds.get(one, '{kind: classification, num_classes: 10')}, name: {one}}}" for one in names]
    low, high = victim.clip_values
    text = nets.HEAD + f"input: {{channels: {x.shape[1]}, range: [{low}, {high}]}}\ntasks:\n" + "\n".join(entries)
    (tmp_path / "tasks.yaml").write_text(text + "\n")
    made = load_victim(str(tmp_path / "net.onnx"), tasks=tmp_path / "tasks.yaml", data=tmp_path / "labels.csv")
    assert made.clip_values == (low, high) and isinstance(made.dataset("test"), TableDataset)
    read, labels = made.data("test")
    np.testing.assert_array_equal(read, x)
    assert all(np.array_equal(np.squeeze(labels[one]), np.squeeze(y[one])) for one in names)
    same_run(made, victim, limit=4, eps=[4 / 255 * (high - low)])


def _scripted(net, path, x):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: TorchScript is old, but people have it
        torch.jit.save(torch.jit.trace(net.eval(), x, strict=False), path)


def _exported(net, path, x):
    torch.export.save(torch.export.export(net.eval(), (x,)), path)


@pytest.mark.parametrize(("ending", "write"), [("pt", _scripted), ("pt2", _exported)])
def test_torchscript_and_export(nets, tmp_path, ending, write):
    net, x = nets.TwoHeads(), torch.rand(2, 3, 8, 10)
    write(net, tmp_path / f"net.{ending}", x)
    told = files(nets, tmp_path, nets.TASKS)
    victim = load_victim(str(tmp_path / f"net.{ending}"), **told)
    data = victim.data("test")
    left = evaluate(victim, ["worst-task"], eps=[8 / 255], steps=3, progress=False)
    right = evaluate((net, victim.tasks), ["worst-task"], data, eps=[8 / 255], steps=3, progress=False)
    assert left["worst-task"].delta_wor == pytest.approx(right["worst-task"].delta_wor, abs=1e-3)


def test_normalisation_outside_is_that_inside(nets, needs_onnx, tmp_path):
    net, mean, std = nets.TwoHeads(), torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])

    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net((x - mean[:, None, None]) / std[:, None, None])

    x = torch.rand(1, 3, 8, 10)
    nets.export(net, tmp_path / "outside.onnx", x)
    nets.export(Inside(), tmp_path / "inside.onnx", x)
    told = files(nets, tmp_path)
    inside = load_victim(str(tmp_path / "inside.onnx"), **told)
    told["tasks"].write_text(nets.HEAD + "input: {mean: [0.4, 0.5, 0.6], std: [0.2, 0.25, 0.3]}\n" + nets.TASKS)
    same_run(load_victim(str(tmp_path / "outside.onnx"), **told), inside)


def test_channels_last_in_and_out_in_grey_levels(nets, needs_onnx, tmp_path):
    net = nets.TwoHeads()

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            kind, found = self.net(x.permute(0, 3, 1, 2) / 255)
            return kind, found.permute(0, 2, 3, 1)

    nets.export(Last(), tmp_path / "last.onnx", torch.rand(1, 8, 10, 3))
    nets.export(net, tmp_path / "first.onnx", torch.rand(1, 3, 8, 10))
    told = files(nets, tmp_path)
    first = load_victim(str(tmp_path / "first.onnx"), **told)
    text = "input: {layout: NHWC, range: [0, 255]}\n" + nets.TASKS.replace(
        "num_classes: 3", "num_classes: 3, layout: NHWC"
    )
    told["tasks"].write_text(nets.HEAD + text)
    last = load_victim(str(tmp_path / "last.onnx"), **told)
    assert last.input_shape == (3, 8, 10) and last.eps["linf"] == (2, 4, 8)
    one = evaluate(last, ["worst-task"], eps=[8], steps=3, progress=False)["worst-task"]
    other = evaluate(first, ["worst-task"], eps=[8 / 255], steps=3, progress=False)["worst-task"]
    assert one.delta_wor == pytest.approx(other.delta_wor, abs=1e-3)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_file_made_for_so_many_samples_takes_any_number(nets, needs_onnx, tmp_path, samples):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nets.TwoHeads()

        def forward(self, x):
            kind, found = self.net(x)
            return kind.reshape(samples, 4), found.reshape(samples, 3, 8, 10)

    net = Fixed()
    nets.export(net, tmp_path / "net.onnx", torch.rand(samples, 3, 8, 10), free=False)
    victim = load_victim(str(tmp_path / "net.onnx"), **files(nets, tmp_path, rows=5))
    x = torch.tensor(victim.data("test")[0])
    assert isinstance(victim.model.network, InBatches)
    with torch.no_grad():
        kind, found = net.net(x)
        outputs = victim.model(x)
    torch.testing.assert_close(outputs["kind"], kind, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs["map"], found, rtol=1e-4, atol=1e-5)


class _Several(nn.Module):
    """A picture beside two numbers."""

    def __init__(self, net):
        super().__init__()
        self.net, self.extra = net, nn.Linear(2, 4)

    def forward(self, table, x):
        kind, found = self.net(x)
        return kind + self.extra(table), found


GIVEN = "input: {name: in1}\ngiven: [{name: in0, columns: [age, height], scale: 10}]\n"


def test_inputs_that_are_given_are_not_attacked(nets, needs_onnx, tmp_path):
    torch.manual_seed(1)
    net = _Several(nets.TwoHeads()).eval()
    nets.export(net, tmp_path / "net.onnx", torch.rand(1, 2), torch.rand(1, 3, 8, 10))
    told = files(nets, tmp_path, GIVEN + nets.TASKS)
    victim = load_victim(str(tmp_path / "net.onnx"), **told)
    assert victim.input_shape == (2 + 240,)
    run = evaluate(victim, ["worst-task"], eps=[8 / 255], steps=3, progress=False, keep_adversarial=True)
    x, _ = victim.data("test")
    adversarial = run.adversarial("worst-task")
    np.testing.assert_array_equal(adversarial[:, :2], x[:, :2])
    assert np.abs(adversarial[:, 2:] - x[:, 2:]).max() == pytest.approx(8 / 255, rel=1e-4)
    rows = np.genfromtxt(told["data"], delimiter=",", skip_header=1, usecols=(3, 4))
    np.testing.assert_allclose(x[:, :2], 10 * rows, rtol=1e-5)
    with torch.no_grad():
        kind, _ = net(torch.tensor(x[:, :2]), torch.tensor(x[:, 2:].reshape(-1, 3, 8, 10)))
        torch.testing.assert_close(victim.model(torch.tensor(x))["kind"], kind, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the model's input.s. 'in0', 'in1'"),
        ("input: {name: x}\n", "Found 'x', and .. given"),
        ("input: {name: in1}\ngiven: [{name: other, columns: [age]}]\n", "Found 'in1', and .'other'. given"),
    ],
)
def test_inputs_that_are_not_described_are_told(nets, needs_onnx, tmp_path, text, message):
    nets.export(_Several(nets.TwoHeads()), tmp_path / "net.onnx", torch.rand(1, 2), torch.rand(1, 3, 8, 10))
    with pytest.raises(ValueError, match=f"tasks.yaml: .*{message}"):
        load_victim(str(tmp_path / "net.onnx"), **files(nets, tmp_path, text + nets.TASKS))


def test_what_does_not_fit_is_told_before_work(nets, needs_onnx, tmp_path):
    path = str(nets.export(nets.TwoHeads(), tmp_path / "net.onnx", torch.rand(1, 3, 8, 10), names=("a", "b")))
    told = files(nets, tmp_path)
    for text, message in (
        (
            "tasks:\n- {kind: classification, name: kind, num_classes: 4}\n",
            "'kind' should say by `output` which .*'a', 'b'",
        ),
        (nets.TASKS.replace("name: kind,", "name: kind, output: 7,"), "Found index 7"),
        (nets.TASKS.replace("name: kind,", "name: kind, output: z,"), r"expected the output\(s\) 'z'. Found 'a', 'b'"),
        (nets.TASKS.replace("num_classes: 4", "num_classes: 5"), "'kind'.*5"),
        ("input: {channels: 1}\n" + nets.TASKS, "net.onnx: expected a model that takes inputs of shape"),
        ("data: {images: file}\n" + nets.TASKS, "labels.csv, line 1: expected the column"),
    ):
        told["tasks"].write_text(nets.HEAD + text)
        with pytest.raises(ValueError, match=message):
            load_victim(path, **told)
    with pytest.raises(ValueError, match="should have `tasks`, a tasks.yaml .`art-mtl inspect .*`data`"):
        load_victim(path)
    with pytest.raises(ValueError, match="`checkpoint` should be left out"):
        load_victim(path, checkpoint="a", **told)
    with pytest.raises(ValueError, match="`data` should be left out for victim 'digits'"):
        load_victim("digits", data="labels.csv")


def test_a_conversion_that_computes_something_else_is_told(nets, needs_onnx, tmp_path, monkeypatch):
    path = str(nets.export(nets.TwoHeads(), tmp_path / "net.onnx", torch.rand(1, 3, 8, 10)))
    told = files(nets, tmp_path)
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda self, x: 1.5 * self._conv_forward(x, self.weight, self.bias))
    with pytest.raises(ValueError, match="net.onnx: expected a converted network that computes what the file defines"):
        load_victim(path, **told)


def test_pickles_are_refused_and_nothing_runs(tmp_path):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="weights.pt: .*Found weights alone.*PATH.py:function"):
        load_model_file(tmp_path / "weights.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(
        ValueError, match="module.pt: expected tensors alone. Found torch.nn.modules.linear.Linear, code"
    ):
        load_model_file(tmp_path / "module.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise" * 10)
    with pytest.raises(ValueError, match="noise.pt: expected weights"):
        load_model_file(tmp_path / "noise.pt")


def test_an_experiment_names_its_files(nets, needs_onnx, tmp_path):
    path = str(nets.export(nets.TwoHeads(), tmp_path / "net.onnx", torch.rand(1, 3, 8, 10)))
    told = files(nets, tmp_path)
    options = {"eps": [4 / 255], "steps": 2, "progress": False}
    run = evaluate(path, ["equal"], told["data"], tasks=told["tasks"], out=tmp_path / "run", **options)
    again = Experiment.from_yaml(tmp_path / "run" / "experiment.yaml")
    assert (again.victim, again.tasks, again.data) == (path, told["tasks"], told["data"])
    assert run["equal"].values == evaluate(again, progress=False)["equal"].values
    with pytest.raises(ValueError, match="`tasks` should be left out"):
        evaluate(load_victim("digits"), ["equal"], tasks=told["tasks"], limit=4, progress=False)


def test_paths_of_nested_outputs(nets, tmp_path):
    """TorchScript returns nests; a path of names and places leads to a part."""

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nets.TwoHeads()

        def forward(self, x):
            kind, found = self.net(x)
            return {"heads": (kind, found)}

    net = Nested().eval()
    _scripted(net, tmp_path / "net.pt", torch.rand(2, 3, 8, 10))
    text = nets.TASKS.replace("name: kind,", "name: kind, output: [heads, 0],").replace(
        "name: map,", "name: map, output: [heads, 1],"
    )
    victim = load_victim(str(tmp_path / "net.pt"), **files(nets, tmp_path, text))
    x = torch.tensor(victim.data("test")[0])
    with torch.no_grad():
        torch.testing.assert_close(victim.model(x)["map"], net(x)["heads"][1])
    assert read_task_file(tmp_path / "tasks.yaml").outputs[1].output == ["heads", 1]
