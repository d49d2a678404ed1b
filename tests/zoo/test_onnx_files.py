"""ONNX files: the same numbers and gradients as torch, and what cannot be attacked is told by name."""

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnx2torch", reason="needs the extra onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from art_mtl.zoo.onnx_files import load_onnx  # noqa: E402

X = torch.rand((3, 3, 8, 10), generator=torch.Generator().manual_seed(0))


def wanted(*names):
    return lambda known: names or known


def save(path, nodes, outputs, stored=(), shape=("N", 4), opset=17, kind=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in dict(stored).items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize("opset", [11, 13, 17, 18])
def test_outputs_and_gradients_are_those_of_torch(nets, tmp_path, opset):
    net = nets.TwoHeads()
    file = load_onnx(nets.export(net, tmp_path / "net.onnx", X[:1], opset=opset), wanted())
    assert file.outputs == ("kind", "map") and file.inputs[0].shape == (None, 3, 8, 10)
    a, b = X.clone().requires_grad_(True), X.clone().requires_grad_(True)
    expected, found = net(a), file.module(b)
    for one, other in zip(expected, found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    sum(one.square().sum() for one in expected).backward()
    sum(one.square().sum() for one in found.values()).backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
    for one, other in zip(file.reference({"in0": X.numpy()}), found.values(), strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-4, atol=1e-5)


class _Newer(nn.Module):
    """Layers whose operators are newer than the converter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        a, b = nn.functional.gelu(self.norm(self.first(x))).clamp(min=0.05).split([3, 5], 1)
        up = nn.functional.interpolate(nn.functional.pad(b, (1, 0)), scale_factor=2, mode="nearest")
        pooled = torch.cat([a.mean((2, 3)), b.amax((2, 3)), up.mean((2, 3)), a.norm(dim=(2, 3))], 1)
        return self.head(pooled), nn.functional.interpolate(up, scale_factor=2, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_operators_of_newer_versions(nets, tmp_path, opset):
    net = _Newer().eval()
    file = load_onnx(nets.export(net, tmp_path / "net.onnx", X, opset=opset), wanted())
    with torch.no_grad():
        for one, other in zip(net(X), file.module(X).values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _weights(path, axis=True):
    """x (N, 4) → y = x W, W stored as int8."""
    scale = np.array([0.1, 0.2, 0.4], np.float32) if axis else np.float32(0.1)
    zero = np.array([1, 0, -3], np.int8) if axis else np.int8(1)
    stored = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **({"axis": 1} if axis else {})),
        helper.make_node("Identity", ["w"], ["w2"]),
        helper.make_node("MatMul", ["x", "w2"], ["y"]),
    ]
    save(path, nodes, ["y"], {"q": stored, "s": scale, "z": zero})
    return (stored.astype(np.float32) - zero) * scale


@pytest.mark.parametrize("axis", [True, False])
def test_quantised_weights_are_folded(tmp_path, axis):
    weights = _weights(tmp_path / "net.onnx", axis)
    file = load_onnx(tmp_path / "net.onnx", wanted())
    x = torch.rand(2, 4, requires_grad=True)
    y = file.module(x)["y"]
    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy() @ weights, rtol=1e-5)
    y[:, 2].sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tile(weights[:, 2], (2, 1)), rtol=1e-6)


def test_quantised_activations_are_told(tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise/input"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="back"),
    ]
    save(tmp_path / "net.onnx", nodes, ["y"], {"s": np.float32(0.1), "z": np.uint8(0)})
    with pytest.raises(
        ValueError, match=r"expected activations in floating point.*QuantizeLinear \('quantise/input'\)"
    ):
        load_onnx(tmp_path / "net.onnx", wanted())


@pytest.mark.parametrize(
    ("node", "name"),
    [
        (helper.make_node("ArgMax", ["x"], ["y"], name="pick", axis=1), "ArgMax"),
        (helper.make_node("Round", ["x"], ["y"], name="pick"), "Round"),
        (helper.make_node("Cast", ["x"], ["y"], name="pick", to=TensorProto.INT64), "Cast"),
    ],
)
def test_an_operator_without_gradient_is_told_if_it_is_in_the_way(tmp_path, node, name):
    path = save(tmp_path / "net.onnx", [helper.make_node("Neg", ["x"], ["soft"]), node], ["soft", "y"])
    assert load_onnx(path, wanted("soft")).outputs == ("soft",)
    assert load_onnx(path).outputs == ("soft", "y")
    with pytest.raises(ValueError, match=rf"net.onnx: expected an output 'y' with a gradient.*{name} \('pick'\)"):
        load_onnx(path, wanted("soft", "y"))


def test_what_goes_round_an_operator_without_gradient_is_no_fault(tmp_path):
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["mask"]),
        helper.make_node("Where", ["mask", "x", "zero"], ["y"]),
    ]
    path = save(tmp_path / "net.onnx", nodes, ["y"], {"zero": np.float32(0)})
    x = torch.tensor([[1.0, -1.0, 2.0, 0.0]], requires_grad=True)
    load_onnx(path, wanted()).module(x)["y"].sum().backward()
    assert x.grad.tolist() == [[1, 0, 1, 0]]


def test_an_operator_without_converter_is_told_and_a_value_before_it_is_taken(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"], name="head"),
        helper.make_node("Hardmax", ["logits"], ["y"], name="last/one"),
    ]
    path = save(tmp_path / "net.onnx", nodes, ["y"], {"w": np.eye(4, dtype=np.float32)})
    with pytest.raises(ValueError, match=r"operators that onnx2torch can convert. Found Hardmax \('last/one'\)"):
        load_onnx(path, wanted("y"))
    assert load_onnx(path, wanted("logits")).module(torch.eye(4))["logits"].tolist() == torch.eye(4).tolist()
    with pytest.raises(ValueError, match=r"expected the output\(s\) 'z'. Found 'y'"):
        load_onnx(path, wanted("z"))


def test_an_output_of_constants_is_told(tmp_path):
    nodes = [helper.make_node("Neg", ["w"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    path = save(tmp_path / "net.onnx", nodes, ["y", "z"], {"w": np.eye(4, dtype=np.float32)})
    with pytest.raises(ValueError, match="'y' with a gradient. Found that it depends on no input|Found constants"):
        load_onnx(path, wanted("z", "y"))


def test_outputs_of_one_node_are_told_apart(tmp_path):
    nodes = [helper.make_node("Split", ["x", "sizes"], ["a", "b"], axis=1)]
    path = save(tmp_path / "net.onnx", nodes, ["a", "b"], {"sizes": np.array([1, 3])})
    x = torch.arange(8.0).view(2, 4)
    found = load_onnx(path, wanted("b", "a")).module(x)
    assert found["b"].tolist() == x[:, 1:].tolist() and found["a"].tolist() == x[:, :1].tolist()


def test_names_in_a_file_are_never_code(tmp_path):
    """The converter makes Python of what it finds."""
    evil = f'x", open({str(tmp_path / "ran")!r}, "w")) or ("'
    nodes = [helper.make_node("Neg", ["x"], [evil], name=evil), helper.make_node("Neg", [evil], ["y"], name=evil + "2")]
    path = save(tmp_path / "net.onnx", nodes, ["y", evil])
    module = load_onnx(path, wanted("y", evil)).module
    assert module(torch.ones(1, 4))["y"].tolist() == [[1, 1, 1, 1]]
    assert not (tmp_path / "ran").exists() and evil not in module.network.code


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" + b"\xff" * 50])
def test_what_is_no_onnx_file_is_told(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="net.onnx: expected an ONNX file. Found one that cannot be read"):
        load_onnx(tmp_path / "net.onnx")
    with pytest.raises(FileNotFoundError, match="expected an ONNX file"):
        load_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("starts", "ends", "axes", "steps"),
    [([1], [3], [1], [1]), ([-1], [-9], [1], [-1]), ([0, 1], [2, 99], [0, -1], [1, 2]), ([2], [0], [1], [-1])],
)
def test_slices_are_those_of_onnx(tmp_path, starts, ends, axes, steps):
    stored = {name: np.array(value) for name, value in zip("seap", (starts, ends, axes, steps), strict=True)}
    path = save(tmp_path / "net.onnx", [helper.make_node("Slice", ["x", *"seap"], ["y"])], ["y"], stored)
    file, x = load_onnx(path, wanted()), torch.arange(12.0).view(3, 4)
    assert file.module(x)["y"].tolist() == file.reference({"x": x.numpy()})[0].tolist()
