"""MTAN and Split against slow re-derivations from their state dicts, and the promises of their outputs."""

from __future__ import annotations

import copy
import math
import runpy
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import art_mtl.models
from art_mtl.models import MTAN, NETWORKS, Split
from art_mtl.models.resnet import DilatedNet

NYUV2 = {"segmentation": 13, "depth": 1, "normals": 3}
CITYSCAPES = {"segmentation": 19, "parts": 10, "disparity": 1}
SIZES = [
    ("mtan", NYUV2, 92_347_921, 690),
    ("mtan", CITYSCAPES, 92_351_262, 690),
    ("split", NYUV2, 71_888_721, 450),
    ("split", CITYSCAPES, 71_892_062, 450),
]
BLOCKS = (3, 4, 6, 3)


def on_meta(kind: str, heads: dict[str, int]) -> DilatedNet:
    with torch.device("meta"):
        return NETWORKS[kind](heads)


@pytest.mark.parametrize(("kind", "heads", "parameters", "keys"), SIZES)
def test_sizes_and_keys_are_the_published_ones(layout, kind, heads, parameters, keys) -> None:
    net = on_meta(kind, heads)
    state = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert len(state) == keys
    assert state == layout(kind, tuple(heads.values()))


class Plain:
    """The networks once more, with functions only, in evaluation mode."""

    def __init__(self, state: dict[str, Tensor], channels: int) -> None:
        self.state, self.channels = state, channels

    def conv(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding, dilation)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def bottleneck(self, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
        out = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).relu()
        out = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", out, stride, dilation)).relu()
        out = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", out))
        if f"{name}.downsample.0.weight" in self.state:
            x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
        return (out + x).relu()

    def stem(self, x: Tensor) -> Tensor:
        x = self.norm("shared_conv.1", self.conv("shared_conv.0", x, stride=2)).relu()
        return F.max_pool2d(x, 3, stride=2, padding=1)

    def block(self, name: str, x: Tensor, level: int, number: int) -> Tensor:
        """Strides 1, 2, 1, 1; layer3 dilated by 1, then 2, layer4 by 2, then 4."""
        first, rest = {1: (1, 1), 2: (1, 1), 3: (1, 2), 4: (2, 4)}[level]
        stride = 2 if level == 2 and number == 0 else 1
        return self.bottleneck(name, x, stride, first if number == 0 else rest)

    def attention(self, name: str, x: Tensor) -> Tensor:
        hidden = self.norm(f"{name}.1", self.conv(f"{name}.0", x)).relu()
        return 1 / (1 + torch.exp(-self.norm(f"{name}.4", self.conv(f"{name}.3", hidden))))

    def decoder(self, name: str, x: Tensor) -> Tensor:
        branches = [self.norm(f"{name}.0.convs.0.1", self.conv(f"{name}.0.convs.0.0", x)).relu()]
        for branch, rate in ((1, 12), (2, 24), (3, 36)):
            out = self.conv(f"{name}.0.convs.{branch}.0", x, dilation=rate)
            branches.append(self.norm(f"{name}.0.convs.{branch}.1", out).relu())
        pooled = self.conv(f"{name}.0.convs.4.1", x.mean((2, 3), keepdim=True))
        branches.append(self.norm(f"{name}.0.convs.4.2", pooled).relu().expand_as(branches[0]))
        x = self.norm(f"{name}.0.project.1", self.conv(f"{name}.0.project.0", torch.cat(branches, 1))).relu()
        return self.conv(f"{name}.4", self.norm(f"{name}.2", self.conv(f"{name}.1", x)).relu())

    def split(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        for level, blocks in enumerate(BLOCKS, 1):
            for number in range(blocks):
                x = self.block(f"shared_layer{level}.{number}", x, level, number)
        return [x] * self.channels

    def mtan(self, x: Tensor) -> list[Tensor]:
        x, own = self.stem(x), [None] * self.channels
        for level, blocks in enumerate(BLOCKS, 1):
            for number in range(blocks - 1):
                x = self.block(f"shared_layer{level}_b.{number}", x, level, number)
            b = x
            t = x = self.block(f"shared_layer{level}_t", b, level, blocks - 1)
            for task in range(self.channels):
                seen = b if level == 1 else torch.cat([b, own[task]], 1)
                own[task] = self.attention(f"encoder_att_{level}.{task}", seen) * t
                if level < 4:
                    own[task] = self.bottleneck(f"encoder_block_att_{level}", own[task])
                if level == 1:
                    own[task] = F.max_pool2d(own[task], 2)
        return own


def aligned(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with aligned corners, as a matrix for each side."""

    def matrix(small: int, large: int) -> Tensor:
        weights = torch.zeros(large, small, dtype=x.dtype)
        for i in range(large):
            at = i * (small - 1) / (large - 1)
            low = min(int(at), small - 2)
            weights[i, low], weights[i, low + 1] = low + 1 - at, at - low
        return weights

    return matrix(x.shape[2], size[0]) @ x @ matrix(x.shape[3], size[1]).T


def random_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights and statistics under which signals keep their size, so that every branch counts."""
    g, state = torch.Generator().manual_seed(0), {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(1)
        elif len(shape) == 4:
            state[key] = torch.randn(shape, generator=g) * math.sqrt(2 / math.prod(shape[1:]))
        elif key.endswith(("running_var", "weight")):
            state[key] = torch.rand(shape, generator=g) + 0.5
        else:
            state[key] = torch.randn(shape, generator=g) * 0.3
    return {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


@pytest.mark.parametrize("kind", ["mtan", "split"])
def test_outputs_are_those_of_the_plain_network(layout, kind) -> None:
    state = random_state(layout(kind, tuple(NYUV2.values())))
    net = on_meta(kind, NYUV2).eval()
    net.load_state_dict(state, assign=True)
    x = 2 * torch.rand(2, 3, 64, 48, dtype=torch.float64) - 1
    plain = Plain(state, 3)
    with torch.no_grad():
        found = net(x)
        features = getattr(plain, kind)(x)
        expected = [aligned(plain.decoder(f"decoders.{task}", f), (64, 48)) for task, f in enumerate(features)]
    expected[2] = expected[2] / expected[2].square().sum(1, keepdim=True).sqrt()
    assert list(found) == list(NYUV2)
    for name, output in zip(NYUV2, expected, strict=True):
        assert output.std() > 0.01
        torch.testing.assert_close(found[name], output, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found["normals"].norm(dim=1), torch.ones(2, 64, 48, dtype=torch.float64))


@pytest.fixture(scope="module")
def mtan() -> MTAN:
    torch.manual_seed(0)
    return MTAN(NYUV2).eval()


@torch.no_grad()
@pytest.mark.parametrize("size", [(36, 44), (33, 47), (8, 8), (1, 5)])
def test_mtan_answers_at_the_size_of_its_input(mtan, size) -> None:
    outputs = mtan(torch.zeros(1, 3, *size))
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {n: (1, c, *size) for n, c in NYUV2.items()}


def test_a_dead_normals_head_gives_finite_output_and_gradient(mtan) -> None:
    net = copy.deepcopy(mtan)
    torch.nn.init.zeros_(net.decoders[2][4].weight)
    torch.nn.init.zeros_(net.decoders[2][4].bias)
    x = torch.zeros(1, 3, 32, 32, requires_grad=True)
    normals = net(x)["normals"]
    (gradient,) = torch.autograd.grad(normals.sum(), x)
    assert normals.isfinite().all() and gradient.isfinite().all()


def test_outputs_under_autocast_are_float32(mtan) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        x = torch.zeros(1, 3, 32, 32)
        assert mtan.shared_conv(x).dtype == torch.bfloat16
        outputs = mtan(x)
    assert {output.dtype for output in outputs.values()} == {torch.float32}
    torch.testing.assert_close(outputs["normals"].norm(dim=1), torch.ones(1, 32, 32))


def test_nothing_is_dropped_at_random_in_training_mode(mtan) -> None:
    assert not [module for module in mtan.modules() if isinstance(module, torch.nn.Dropout)]


def test_one_image_in_training_mode_is_told_before_batch_norm_fails(mtan) -> None:
    net = copy.deepcopy(mtan).train()
    with pytest.raises(ValueError, match=r"MTAN takes at least 2 images a batch in training mode.*Found 1.*drop_last"):
        net(torch.zeros(1, 3, 32, 32))
    assert net.shared_conv[1].num_batches_tracked == 0  # told before anything moved
    net(torch.zeros(2, 3, 32, 32))
    for decoder in net.decoders:
        decoder.eval()
    assert net(torch.rand(1, 3, 32, 32))["depth"].shape == (1, 1, 32, 32)


def test_wrong_images_are_told(mtan) -> None:
    for shape in [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)]:
        with pytest.raises(ValueError, match=r"MTAN takes images of shape \(B, 3, H, W\)\. Found \("):
            mtan(torch.zeros(shape))


def test_heads_are_checked() -> None:
    for heads in ({}, {"depth": 0}, {"depth": 1.0}, {"depth": True}):
        with pytest.raises(ValueError, match="`heads` should map at least one task name to 1 or more channels. Found"):
            Split(heads)
    with pytest.raises(TypeError, match="`heads` should map task names to channels. Found list"):
        MTAN([13, 1, 3])


def imagenet(path: Path, **changes: Tensor) -> dict[str, Tensor]:
    """A file in torchvision's layout; each tensor is one number of its own, so the file is small."""
    import torchvision

    with torch.device("meta"):
        shapes = {key: t.shape for key, t in torchvision.models.resnet50(weights=None).state_dict().items()}
    state = {key: torch.tensor(float(i)).expand(shape) for i, (key, shape) in enumerate(shapes.items())} | changes
    torch.save(state, path)
    return state


@pytest.mark.parametrize("kind", ["mtan", "split"])
def test_an_imagenet_trunk_arrives_block_by_block(tmp_path, kind) -> None:
    state = imagenet(tmp_path / "resnet50.pth")
    net = NETWORKS[kind]({"depth": 1}, trunk=tmp_path / "resnet50.pth").state_dict()
    arrived = {"shared_conv.0.weight": "conv1.weight", "shared_conv.1.running_var": "bn1.running_var"}
    for level, blocks in enumerate(BLOCKS, 1):
        for block in range(blocks):
            ours = f"shared_layer{level}.{block}"
            if kind == "mtan":
                ours = f"shared_layer{level}_t" if block == blocks - 1 else f"shared_layer{level}_b.{block}"
            names = [key for key in state if key.startswith(f"layer{level}.{block}.")]
            arrived |= {name.replace(f"layer{level}.{block}", ours): name for name in names}
    assert len(arrived) == 320 - 6
    for ours, theirs in arrived.items():
        assert net[ours].flatten()[0] == state[theirs].flatten()[0], ours


def test_a_trunk_that_does_not_fit_is_told(tmp_path) -> None:
    path = tmp_path / "resnet.pth"
    state = imagenet(path, extra=torch.zeros(1), **{"layer1.0.conv1.weight": torch.zeros(64, 32, 1, 1)})
    with pytest.raises(ValueError, match=r"resnet\.pth: expected the weights of a ResNet-50.*unexpected extra; lay"):
        Split({"depth": 1}, trunk=path)
    torch.save({key: tensor for key, tensor in state.items() if "layer4" not in key}, path)
    with pytest.raises(ValueError, match=r"missing layer4\.0\.conv1\.weight.* and \d+ more \(\d+ in all\)"):
        Split({"depth": 1}, trunk=path)
    with pytest.raises(FileNotFoundError, match="absent"):
        Split({"depth": 1}, trunk=tmp_path / "absent.pth")


def test_without_torchvision_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"MTAN and Split need torchvision.*: pip install '\.\[models\]'"):
        MTAN({"depth": 1})


@pytest.mark.parametrize("module", ["checkpoints", "mtan", "paper", "resnet", "split"])
def test_importing_the_networks_does_not_import_torchvision(monkeypatch, module) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    runpy.run_path(str(Path(art_mtl.models.__file__).parent / f"{module}.py"))
