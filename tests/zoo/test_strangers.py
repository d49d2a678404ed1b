"""Nets as strangers hand them over, attacked by the command alone with the ``tasks.yaml`` that ``inspect`` writes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from art_mtl import tasks
from art_mtl.cli import main
from art_mtl.evaluation import Run, evaluate
from art_mtl.zoo.victims import load_victim

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnx2torch", reason="needs the extra onnx")

SIZE = (8, 12)


class Net(nn.Module):
    """A class and a map of three classes from a picture; what lies between is a stranger's."""

    def __init__(self, middle: Callable[[Tensor], Tensor] | nn.Module | None = None, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle if middle is not None else nn.ReLU()
        self.head, self.map = nn.Linear(channels, 4), nn.Conv2d(channels, 3, 1)
        with torch.no_grad():
            for layer in (self.head, self.map):
                layer.weight.mul_(4)
            self.eval()  # no class is far ahead of the others
            kind, found = self(torch.rand(8, 3, *SIZE))
            self.head.bias -= kind.mean(0)
            self.map.bias -= found.mean((0, 2, 3))

    def forward(self, x: Tensor) -> Any:
        hidden = self.middle(self.first(2 * x - 1))
        return self.head(hidden.mean((2, 3))), self.map(hidden)


class Layer(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attention(nn.Module):
    """Self-attention over the places, by MatMul and Softmax, with layer normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(rows)).reshape(len(x), -1, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 2, -1) @ v
        rows = rows + self.out(mixed.transpose(1, 2).reshape(rows.shape))
        return F.gelu(rows).transpose(1, 2).reshape(x.shape)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return make()


def batch_norm() -> nn.Module:
    norm = nn.BatchNorm2d(8)
    with torch.no_grad():
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    return norm


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "batch norm": lambda: nn.Sequential(nn.ReLU(), batch_norm()),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(2, 8), nn.SiLU()),
    "instance norm": lambda: nn.Sequential(nn.InstanceNorm2d(8), nn.ReLU6()),
    "attention": Attention,
    "conv transpose": lambda: nn.Sequential(nn.Conv2d(8, 8, 2, stride=2), nn.ReLU(), nn.ConvTranspose2d(8, 8, 2, 2)),
    "resize nearest": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")),
    "resize bilinear": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")),
    "resize to a size": lambda: Layer(
        lambda x: F.interpolate(F.avg_pool2d(x, 2), SIZE, mode="bilinear", align_corners=True)
    ),
    "hard swish": nn.Hardswish,
    "hard sigmoid": lambda: Layer(lambda x: x * F.hardsigmoid(x)),
    "prelu": lambda: nn.PReLU(8),
    "clip": lambda: Layer(lambda x: x.clamp(-0.5, 1.5)),
    "clip above": lambda: Layer(lambda x: x.clamp(min=-0.1)),
    "pad reflect": lambda: nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3), nn.LeakyReLU()),
    "pad replicate": lambda: nn.Sequential(nn.ReplicationPad2d((1, 1, 1, 1)), nn.Conv2d(8, 8, 3), nn.ELU()),
    "reduce mean": lambda: Layer(lambda x: x - x.mean(1, keepdim=True) + x.mean((-1, -2), keepdim=True)),
    "negative slices": lambda: Layer(lambda x: torch.cat([x[:, -4:], x[:, :-4]], 1)),
    "gather from the end": lambda: Layer(lambda x: x + x[:, -1].unsqueeze(1)),
    "gather places": lambda: Layer(lambda x: x[:, [-1, 0, -2, 1, 2, 3, 4, 5]]),
    "strided slice": lambda: Layer(lambda x: torch.cat([x[:, ::2], x[:, 1::2]], 1)),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(8, 32, 2, stride=2), nn.PixelShuffle(2)),
    "depthwise": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.Softplus()),
    "einsum": lambda: Layer(
        lambda x: (torch.einsum("bchw,bdhw->bcd", x, x).softmax(2) @ x.flatten(2)).view(x.shape) + x
    ),
    "lstm gates": lambda: Layer(lambda x: torch.sigmoid(x[:, :4]).repeat(1, 2, 1, 1) * torch.tanh(x)),
    "norms": lambda: Layer(lambda x: x / (x.norm(dim=1, keepdim=True) + 0.1)),
    "where": lambda: Layer(lambda x: torch.where(x > 0, x, 0.3 * x)),
    "expand": lambda: Layer(lambda x: x + x.mean(1, keepdim=True).expand(-1, 8, -1, -1)),
}


def label(folder, data, net: nn.Module, size) -> None:
    """Labels of the table as the network predicts them: what an attack takes from it is seen at once."""
    pictures = [np.asarray(Image.open(folder / f"{i}.png"), dtype=np.float32) for i in range(4)]
    with torch.no_grad():
        kinds, maps = net(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255)
    lines = ["image,kind,map"]
    for i, (kind, one) in enumerate(zip(kinds.argmax(1).tolist(), maps.argmax(1).numpy(), strict=True)):
        Image.fromarray(one.astype(np.uint8)).save(folder / f"m{i}.png")
        lines.append(f"{i}.png,{kind},m{i}.png")
    data.write_text("\n".join(lines) + "\n")


def attack(nets, folder, path, net: nn.Module, change: Callable[[str], str] = str, eps: float = 16 / 255,
           size: list[str] | None = None, command: bool = True,) -> None:  # fmt: skip
    """Inspect the file, edit what it asks, benchmark; Δ is that of the torch model to 0.1 point, and there is one.

    Args:
        nets: What the tests share.
        folder: For files.
        path: The model.
        net: The same, as (class, map) of pictures in [0, 1].
        change: Of the proposed ``tasks.yaml``.
        eps: In the scale of the model's input.
        size: Words that tell it.
        command: Whether the command runs it, which writes a report; else what the command calls.
    """
    told, data = folder / "tasks.yaml", nets.table(folder, 4, size=SIZE)
    label(folder, data, net.eval(), SIZE)
    assert main(["inspect", str(path), "--out", str(told), *(size or [])]) == 0
    told.write_text(change(told.read_text()))
    jobs = [tasks.classification("kind", 4), tasks.segmentation("map", 3)]
    victim = load_victim(str(path), tasks=told, data=data)
    if command:
        words = ["--victim", path, "--tasks", told, "--data", data, "--attacks", "worst-task", "--eps", eps, "--steps",
                 "3", "--out", folder / "run", "--quiet"]  # fmt: skip
        assert main(["benchmark", *map(str, words)]) == 0
        found = Run.read(folder / "run")["worst-task"]
    else:
        found = evaluate(victim, ["worst-task"], eps=[eps], steps=3, progress=False)["worst-task"]
    low, high = victim.clip_values
    x, y = victim.data("test")
    given = ((x - low) / (high - low)).astype(np.float32), {name: y[name] for name in ("kind", "map")}
    width = eps / (high - low)
    expected = evaluate((InOrder(net), jobs), ["worst-task"], given, eps=[width], steps=3, progress=False)
    other = expected["worst-task"]
    assert found.delta_mtl == pytest.approx(other.delta_mtl, abs=1e-3) and found.delta_mtl < 0
    assert sorted(found.values) == pytest.approx(sorted(other.values), abs=1e-3)


class InOrder(nn.Module):
    """Outputs by the names of the tasks."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(("kind", "map"), self.net(x), strict=False))


@pytest.mark.parametrize("middle", MIDDLES)
def test_layers(nets, tmp_path, middle):
    net = Net(seeded(MIDDLES[middle])).eval()
    path = nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, *SIZE))
    attack(nets, tmp_path, path, net, eps=48 / 255, command=False)


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 15, 16, 17, 18])
def test_versions_and_fixed_batches(nets, tmp_path, opset):
    net = Net(nn.Sequential(nn.ReLU(), batch_norm(), nn.Upsample(scale_factor=2), nn.MaxPool2d(2))).eval()
    path = nets.export(net, tmp_path / "net.onnx", torch.rand(1, 3, *SIZE), opset=opset, free=bool(opset % 2))
    attack(nets, tmp_path, path, net, eps=48 / 255, command=False)


class Changed(nn.Module):
    """A network with other inputs or outputs."""

    def __init__(self, net: nn.Module, before: Callable[[Tensor], Tensor] = lambda x: x,
                 after: Callable[[Tensor, Tensor], Any] = lambda kind, found: (kind, found)) -> None:  # fmt: skip
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(*self.net(self.before(x)))


X = torch.rand(1, 3, *SIZE)
LAST = torch.rand(1, *SIZE, 3)


def grey(text: str) -> str:
    """A model of grey levels."""
    return text.replace("range: [0, 1]", "range: [0, 255]")


def normalised(text: str) -> str:
    """What is subtracted outside the model."""
    return text.replace("  # mean: [0.485, 0.456, 0.406]", "  mean: [0.485, 0.456, 0.406]").replace(
        "  # std: [0.229, 0.224, 0.225]", "  std: [0.229, 0.224, 0.225]"
    )


MEAN, STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
SORTS: dict[str, tuple[Callable[[nn.Module], nn.Module], Tensor, tuple[str, ...], Callable[[str], str], float]] = {
    "channels last": (
        lambda net: Changed(net, lambda x: x.permute(0, 3, 1, 2), lambda k, m: (k, m.permute(0, 2, 3, 1))),
        LAST, ("kind", "map"), str, 1,
    ),
    "normalisation inside": (
        lambda net: Changed(net, lambda x: (x - MEAN) / STD * STD + MEAN), X, ("kind", "map"), str, 1,
    ),
    "normalisation outside": (lambda net: Changed(net, lambda x: x * STD + MEAN), X, ("kind", "map"), normalised, 1),
    "grey levels": (lambda net: Changed(net, lambda x: x / 255), 255 * X, ("kind", "map"), grey, 255),
    "bytes": (lambda net: Changed(net, lambda x: x.float() / 255), (255 * X).byte(), ("kind", "map"), grey, 255),
    "bytes, channels last": (
        lambda net: Changed(net, lambda x: x.permute(0, 3, 1, 2).float() / 255), (255 * LAST).byte(), ("kind", "map"),
        grey, 255,
    ),
    "softmax and arg-max": (
        lambda net: Changed(net, after=lambda k, m: (k.softmax(1), m.softmax(1), k.argmax(1), m.argmax(1))),
        X, ("kind", "map", "best", "best_map"), str, 1,
    ),
    "another order": (lambda net: Changed(net, after=lambda k, m: (m, k)), X, ("map", "kind"), str, 1),
    "names that are nearly one": (
        lambda net: net, X, ("head/out", "head_out"),
        lambda text: text.replace('name: "head_out"', "name: kind").replace('name: "head_out1"', "name: map"), 1,
    ),
    "surplus outputs": (
        lambda net: Changed(net, after=lambda k, m: (k, m, m.mean((2, 3)) ** 2)), X, ("kind", "map", "more"),
        lambda text: text[: text.index("# output \"more\"")], 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("sort", SORTS)
def test_inputs_and_outputs(nets, tmp_path, sort):
    change, x, names, edit, width = SORTS[sort]
    net = Net().eval()
    path = nets.export(change(net), tmp_path / "net.onnx", x, names=names)
    attack(nets, tmp_path, path, net, edit, eps=16 / 255 * width)


def test_a_model_in_double_precision(nets, tmp_path):
    net = Net().eval()
    path = nets.export(Net().double(), tmp_path / "net.onnx", X.double())
    attack(nets, tmp_path, path, net)


@pytest.mark.parametrize("axis", [True, False])
def test_quantised_weights(nets, tmp_path, axis):
    """The convolutions as integers with scales, of which the torch model has the product."""
    net = Net().eval()
    path = nets.export(net, tmp_path / "net.onnx", X)
    model = onnx.load(path)
    state = dict(net.named_parameters())
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name not in ("first.weight", "map.weight", "head.weight"):
            kept.append(tensor)
            continue
        values = onnx.numpy_helper.to_array(tensor)
        scale = np.abs(values).max(tuple(range(1, values.ndim)) if axis else None).astype(np.float32) / 127
        wide = scale.reshape(-1, *[1] * (values.ndim - 1)) if axis else scale
        whole = np.round(values / wide).astype(np.int8)
        with torch.no_grad():
            state[tensor.name].copy_(torch.from_numpy(whole * wide))
        new = {"q": whole, "s": scale, "z": np.zeros(scale.shape, np.int8)}
        kept += [onnx.numpy_helper.from_array(np.asarray(value), f"{tensor.name}.{key}") for key, value in new.items()]
        node = onnx.helper.make_node("DequantizeLinear", [f"{tensor.name}.{key}" for key in "qsz"], [tensor.name],
                                     **({"axis": 0} if axis else {}))  # fmt: skip
        model.graph.node.insert(0, node)
    assert len(kept) == len(model.graph.initializer) + 6
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, path)
    attack(nets, tmp_path, path, net)


@pytest.mark.parametrize("form", ["tuple", "dict", "nested"])
def test_torchscript(nets, tmp_path, form):
    net = Net().eval()
    after = {
        "tuple": lambda kind, found: (kind, found),
        "dict": lambda kind, found: {"kind": kind, "map": found},
        "nested": lambda kind, found: {"heads": (kind, found)},
    }[form]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: TorchScript is old, but people have it
        torch.jit.save(torch.jit.trace(Changed(net, after=after).eval(), X, strict=False), tmp_path / "net.pt")
    told = tmp_path / "proposed.yaml"
    assert main(["inspect", str(tmp_path / "net.pt"), "--out", str(told)]) == 2  # it does not know the size
    names = iter(("kind", "map"))

    def edit(text: str) -> str:
        return re.sub(r'name: "(?!image)\w*"  # also', lambda _: f"name: {next(names)}  # also", text)

    attack(nets, tmp_path, tmp_path / "net.pt", net, edit, size=["--input", "3x8x12"])
