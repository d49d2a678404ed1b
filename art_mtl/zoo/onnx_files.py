"""ONNX files as torch modules with gradients.

The file is cut down to the outputs that are wanted, what is constant is computed (weights that are stored as integers
among it), every name in it is replaced, as the converter makes Python of names, and ``onnx2torch`` converts the rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_mtl.files import regular_file
from art_mtl.zoo.ports import Choose, ModelFile, Port

__all__ = ["OnnxNet", "load_onnx"]

_HINT = "Reading ONNX files needs onnx and onnx2torch: pip install '.[onnx]'"
_LISTED = 8
_QUANTISED = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger",
    "MatMulInteger",
}  # fmt: skip
_SMALL = 2**16
_INFERENCE_SINCE = 14
"""The first version of batch normalisation that says whether it trains."""
_QUANTISED_SINCE = 19
"""The first version of their operators that ONNX itself can run; they mean the same before."""
_WITHOUT_GRADIENT = {
    "ArgMax", "ArgMin", "Round", "Floor", "Ceil", "Sign", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "And", "Or", "Not", "Xor", "IsNaN", "IsInf", "NonZero", "NonMaxSuppression", "Shape", "Size", "OneHot", "Unique",
    "BitShift",
}  # fmt: skip
_PLACED = (
    "Gather", "GatherElements", "GatherND", "Slice", "Reshape", "Resize", "Expand", "Tile", "Pad", "Unsqueeze",
    "Squeeze", "TopK", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "Upsample",
)  # fmt: skip
_DIFFERENTIATED = {
    "Where": (1, 2),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
    **dict.fromkeys(_PLACED, (0,)),
}
"""Operators some of whose inputs say where or how, not what; places of the others."""
_NOT_FOLDED = {
    "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "EyeLike", "RandomNormal",
    "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli",
}  # fmt: skip
"""Constant or not, their results may be large, or random."""
_TYPES = {name: getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32")}


class OnnxNet(nn.Module):
    """A converted file: inputs by position, outputs in a dict by the names that the file gives them."""

    def __init__(self, network: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network, self.outputs = network, tuple(outputs)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name."""
        found = self.network(*inputs)
        return dict(zip(self.outputs, found if isinstance(found, (list, tuple)) else [found], strict=True))


def load_onnx(path: str | Path, choose: Choose | None = None) -> ModelFile:
    """A file as a module.

    Args:
        path: Of the file.
        choose: From the names of the outputs to those that are wanted, which may be of any value inside the graph. None
            for all outputs, whether they have a gradient or not.

    Raises:
        ImportError: The extra is not installed.
        FileNotFoundError: There is no such file.
        ValueError: It is no ONNX file; has no such output; or an output comes from an operator that has no gradient or
            cannot be converted, or from quantised activations. The message names the operators.
    """
    onnx = _onnx()
    model = _read(onnx, Path(path))
    graph = model.graph
    known = [one.name for one in graph.output]
    wanted = list(dict.fromkeys(known if choose is None else choose(known)))
    values = {name for node in graph.node for name in node.output}
    unknown = [name for name in wanted if name not in values]
    if unknown:
        raise ValueError(
            f"{path}: expected the output(s) {', '.join(map(repr, unknown))}. Found {', '.join(map(repr, known))}."
        )
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in stored]
    nodes = _needed(graph.node, wanted)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = _needed(_folded(onnx, model, nodes, constants), wanted)
    _check_operators(onnx, path, model, nodes)
    if choose is not None:
        _check_gradients(path, nodes, [one.name for one in inputs], wanted)
    used = {name for node in nodes for name in node.input}
    inputs = [one for one in inputs if one.name in used]
    if not inputs:
        raise ValueError(f"{path}: expected outputs that depend on an input. Found constants.")
    reference = _Reference(onnx, model, nodes, inputs, wanted, constants)
    network = _convert(onnx, path, model, nodes, inputs, wanted, constants)
    ports = tuple(_port(onnx, one) for one in inputs)
    return ModelFile(OnnxNet(network, wanted), ports, tuple(wanted), reference)


def _onnx() -> Any:
    try:
        import onnx
        import onnx2torch
    except ImportError as error:
        raise ImportError(_HINT) from error
    del onnx2torch
    return onnx


def _read(onnx: Any, path: Path) -> Any:
    """The file, with its functions written out."""
    regular_file(path, "an ONNX file")
    try:
        model = onnx.load(path)
        if not model.graph.node:
            raise ValueError("no operators")
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # of the parser of protobuf, which has a kind of its own for each fault
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: expected an ONNX file. Found one that cannot be read ({text}).") from error


def _needed(nodes: Iterable[Any], wanted: Sequence[str]) -> list[Any]:
    """The nodes that some values come from, in order."""
    found: list[Any] = []
    asked = set(wanted)
    for node in reversed(list(nodes)):
        if asked & set(node.output):
            asked |= {name for name in node.input if name}
            found.append(node)
    return found[::-1]


class _Reference:
    """The outputs as ONNX defines them, slowly: what a conversion is compared with."""

    def __init__(
        self,
        onnx: Any,
        model: Any,
        nodes: Sequence[Any],
        inputs: Sequence[Any],
        wanted: Sequence[str],
        constants: Mapping[str, Any],
    ) -> None:
        outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in wanted]
        used = {name for node in nodes for name in node.input}
        stored = [tensor for name, tensor in constants.items() if name in used]
        graph = onnx.helper.make_graph(list(nodes), "reference", list(inputs), outputs, stored)
        self.model = onnx.helper.make_model(graph, opset_imports=list(model.opset_import))
        self.version = _version(model)

    def __call__(self, inputs: Mapping[str, Any]) -> list[Any] | None:
        """Outputs of inputs by name; None where ONNX has no definition that runs."""
        from onnx.reference import ReferenceEvaluator

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy, on the way
            try:
                own = [_inference_batch_norm()] if self.version < _INFERENCE_SINCE else []
                found = ReferenceEvaluator(self.model, new_ops=own).run(None, dict(inputs))
            except (RuntimeError, NotImplementedError):
                return None
        return [np.asarray(one) for one in found]


def _version(model: Any) -> int:
    """Of the operators of a model."""
    return max(int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _inference_batch_norm() -> Any:
    """Batch normalisation of old versions by its running statistics: ONNX's own mixes those of the batch in."""
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, epsilon: Any = None, **_: Any) -> Any:
            scale, bias, mean, var = (one.reshape(-1, *[1] * (x.ndim - 2)) for one in (scale, bias, mean, var))
            return ((x - mean) / np.sqrt(var + epsilon) * scale + bias,)

    return BatchNormalization


def _folded(onnx: Any, model: Any, nodes: Sequence[Any], constants: dict[str, Any]) -> Iterator[Any]:
    """The nodes that are left when what depends on constants alone is computed; ``constants`` gets the results."""
    for node in nodes:
        whole = any(attribute.HasField("g") for attribute in node.attribute)
        plain = node.domain in ("", "ai.onnx") and not whole
        known = plain and all(name in constants for name in node.input if name) and _is_small(onnx, node, constants)
        values = _constant(onnx, model, node, constants) if known else None
        if values is None:
            yield node
        else:
            constants.update({value.name: value for value in values})


def _is_small(onnx: Any, node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether the result of a node is no larger than its inputs, or small in any case, and not random."""
    if node.op_type == "ConstantOfShape":
        shape = onnx.numpy_helper.to_array(constants[node.input[0]])
        return bool(np.prod(shape.astype(np.float64)) <= _SMALL)
    return node.op_type not in _NOT_FOLDED


def _constant(onnx: Any, model: Any, node: Any, constants: Mapping[str, Any]) -> list[Any] | None:
    """The outputs of a node whose inputs are constants; None where ONNX has no definition that runs."""
    from onnx.reference import ReferenceEvaluator

    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name]
    stored = [constants[name] for name in {name for name in node.input if name}]
    graph = onnx.helper.make_graph([node], "constant", [], outputs, stored)
    version = _version(model)
    if node.op_type in _QUANTISED:
        version = max(version, _QUANTISED_SINCE)
    one = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        found = ReferenceEvaluator(one).run(None, {})
    except (RuntimeError, NotImplementedError):
        return None
    return [
        onnx.numpy_helper.from_array(np.asarray(value), output.name)
        for output, value in zip(outputs, found, strict=True)
    ]


def _called(node: Any) -> str:
    """A node for a message."""
    return f"{node.op_type} ({node.name!r})" if node.name else str(node.op_type)


def _listed(nodes: Sequence[Any]) -> str:
    names = list(dict.fromkeys(map(_called, nodes)))
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _check_operators(onnx: Any, path: str | Path, model: Any, nodes: Sequence[Any]) -> None:
    """Raise for operators that are quantised or have no converter."""
    quantised = [node for node in nodes if node.op_type in _QUANTISED or node.op_type.startswith("QLinear")]
    if quantised:
        raise ValueError(
            f"{path}: expected activations in floating point. Found quantised ones, whose rounding has no gradient: "
            f"{_listed(quantised)}. Export the model with quantised weights alone, or without quantisation."
        )
    from art_mtl.zoo.onnx_operators import has_converter

    versions = {one.domain: one.version for one in model.opset_import}
    missing = [node for node in nodes if not has_converter(onnx, node, versions)]
    if missing:
        raise ValueError(
            f"{path}: expected operators that onnx2torch can convert. Found {_listed(missing)}. Export the model "
            "without them, or name outputs before them."
        )


def _check_gradients(path: str | Path, nodes: Sequence[Any], inputs: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise unless a gradient leads from every output that is wanted to an input."""
    smooth = set(inputs)
    blocked: dict[str, list[Any]] = {}
    for node in nodes:
        places = _DIFFERENTIATED.get(node.op_type, range(len(node.input)))
        flows = any(node.input[place] in smooth for place in places if place < len(node.input))
        reached = flows or any(name in smooth for name in node.input)
        before = [other for name in node.input for other in blocked.get(name, [])]
        stops = node.op_type in _WITHOUT_GRADIENT or (node.op_type == "Cast" and not _casts_to_float(node))
        for place, name in enumerate(node.output):
            if flows and not stops and not (node.op_type == "TopK" and place == 1):
                smooth.add(name)
            elif reached or before:
                blocked[name] = [node] if reached else before
    for name in wanted:
        if name in smooth:
            continue
        found = f"that it comes from {_listed(blocked[name])}" if name in blocked else "that it depends on no input"
        raise ValueError(
            f"{path}: expected an output {name!r} with a gradient. Found {found}. Name an output before it."
        )


def _casts_to_float(node: Any) -> bool:
    return any(attribute.name == "to" and attribute.i in (1, 10, 11, 16) for attribute in node.attribute)


def _convert(
    onnx: Any,
    path: str | Path,
    model: Any,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    wanted: Sequence[str],
    constants: Mapping[str, Any],
) -> nn.Module:
    """The module of these nodes, in which nothing has the names of the file."""
    from art_mtl.zoo.onnx_operators import converted

    names: dict[str, str] = {"": ""}

    def renamed(name: str) -> str:
        return names.setdefault(name, f"value_{len(names)}")

    made = []
    for place, node in enumerate(nodes):
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name = f"node_{place}"
        for own in (copied.input, copied.output):
            new = [renamed(name) for name in own]
            while new and not new[-1]:  # what is left out at the end
                new.pop()
            del own[:]
            own.extend(new)
        made.append(copied)
    # Each output gets a node of its own: the converter tells outputs by the nodes they come from.
    ends = [f"output_{place}" for place in range(len(wanted))]
    for place, (name, end) in enumerate(zip(wanted, ends, strict=True)):
        made.append(onnx.helper.make_node("Identity", [renamed(name)], [end], name=f"end_{place}"))
    entries = []
    for one in inputs:
        entry = onnx.ValueInfoProto()
        entry.CopyFrom(one)
        entry.name = renamed(one.name)
        entries.append(entry)
    used = {name for node in nodes for name in node.input}
    stored = []
    for name, tensor in constants.items():
        if name in used or name in wanted:
            kept = onnx.TensorProto()
            kept.CopyFrom(tensor)
            kept.name = renamed(name)
            stored.append(kept)
    outputs = [onnx.helper.make_empty_tensor_value_info(end) for end in ends]
    graph = onnx.helper.make_graph(made, "net", entries, outputs, stored)
    whole = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=max(model.ir_version, 3))
    try:
        return converted(onnx, whole)
    except Exception as error:  # of whatever kind a converter raises for what it does not know
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: expected a graph that onnx2torch can convert. Found: {text}") from error


def _port(onnx: Any, value: Any) -> Port:
    """Name, shape and type of an input."""
    tensor = value.type.tensor_type
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)
    name = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    return Port(value.name, shape, _TYPES.get(name, torch.float32))
