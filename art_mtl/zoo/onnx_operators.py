"""Operators of newer versions of ONNX, for ``onnx2torch``: where only more types are allowed the converter of an older
version serves, the others are here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["converted", "has_converter"]

_SAME = {
    "Add", "And", "AveragePool", "BatchNormalization", "Cast", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand",
    "Flatten", "Gather", "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "MatMul", "MaxPool", "Mul", "Neg", "Pad", "Pow",
    "PRelu", "Reciprocal", "Relu", "Reshape", "Resize", "Round", "Selu", "Shape", "Sigmoid", "Sin", "Slice",
    "Softmax", "LogSoftmax", "Softplus", "Softsign", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "TopK",
    "Transpose", "Unsqueeze", "Where", "ScatterND", "GatherElements", "GatherND", "Max", "Min", "Mod", "Abs",
}  # fmt: skip
"""Operators whose newer versions take more types, or more attributes, which :func:`_check_attributes` looks at."""
_NEW_ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "Resize": {"antialias": 0, "axes": None, "keep_aspect_ratio_policy": b"stretch"},
    "AveragePool": {"dilations": None},
    "Pad": {},
}
"""Attributes that newer versions added, and the value that means nothing new; None: only where it is absent."""
_REDUCTIONS: Mapping[str, Callable[[Tensor, Any, bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


class Reduce(nn.Module):
    """A reduction over fixed axes."""

    def __init__(self, kind: str, axes: tuple[int, ...] | None, keep: bool) -> None:
        super().__init__()
        self.kind, self.axes, self.keep = kind, axes, keep

    def forward(self, x: Tensor) -> Tensor:
        """The reduced tensor."""
        axes = tuple(range(x.ndim)) if self.axes is None else self.axes
        return _REDUCTIONS[self.kind](x, axes, self.keep)


class SplitEvenly(nn.Module):
    """Parts of equal length, the last one shorter where need be."""

    def __init__(self, parts: int, axis: int) -> None:
        super().__init__()
        self.parts, self.axis = parts, axis

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The parts."""
        return torch.split(x, -(-x.shape[self.axis] // self.parts), self.axis)


class SplitLengths(nn.Module):
    """Parts of given lengths."""

    def __init__(self, lengths: list[int], axis: int) -> None:
        super().__init__()
        self.lengths, self.axis = lengths, axis

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The parts."""
        return torch.split(x, self.lengths, self.axis)


class GroupNormalization(nn.Module):
    """Group normalisation; up to version 20 scale and bias are one a group."""

    def __init__(self, groups: int, epsilon: float, per_group: bool) -> None:
        super().__init__()
        self.groups, self.epsilon, self.per_group = groups, epsilon, per_group

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        """The normalised tensor."""
        if self.per_group:
            times = x.shape[1] // self.groups
            scale, bias = scale.repeat_interleave(times), bias.repeat_interleave(times)
        return nn.functional.group_norm(x, self.groups, scale, bias, self.epsilon)


class LayerNormalization(nn.Module):
    """Layer normalisation over the axes from one on; the bias may be missing."""

    def __init__(self, axis: int, epsilon: float) -> None:
        super().__init__()
        self.axis, self.epsilon = axis, epsilon

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        """The normalised tensor."""
        return nn.functional.layer_norm(x, x.shape[self.axis :], scale, bias, self.epsilon)


class Clip(nn.Module):
    """Values inside bounds, either of which may be missing."""

    def __init__(self, has_least: bool, has_greatest: bool) -> None:
        super().__init__()
        self.has_least, self.has_greatest = has_least, has_greatest

    def forward(self, x: Tensor, *bounds: Tensor) -> Tensor:
        """The clipped tensor."""
        left = list(bounds)
        least = left.pop(0) if self.has_least else None
        return x if least is None and not left else x.clamp(least, left[0] if left else None)


class Slice(nn.Module):
    """Parts of a tensor along some axes; steps may be negative."""

    def __init__(self, has_axes: bool, has_steps: bool) -> None:
        super().__init__()
        self.has_axes, self.has_steps = has_axes, has_steps

    def forward(self, x: Tensor, starts: Tensor, ends: Tensor, *more: Tensor) -> Tensor:
        """The part."""
        left = [one.tolist() for one in more]
        axes = left.pop(0) if self.has_axes else range(len(starts))
        steps = left.pop(0) if self.has_steps else [1] * len(starts)
        for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes, steps, strict=True):
            size = x.shape[axis]
            places = slice(start, None if step < 0 and end < -size else end, step).indices(size)
            if step > 0:
                x = x[(slice(None),) * (axis % x.ndim) + (slice(*places),)]
            else:
                x = x.index_select(axis, torch.tensor(list(range(*places)), device=x.device))
        return x


class GlobalMaxPool(nn.Module):
    """The maximum over all places."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, 1, ...)``."""
        return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def has_converter(onnx: Any, node: Any, versions: Mapping[str, int]) -> bool:
    """Whether a node can be converted.

    Args:
        onnx: The package.
        node: Of a graph.
        versions: By domain, that of the graph's operators.
    """
    _register(onnx)
    from onnx2torch.node_converters import get_converter

    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        get_converter(operation_type=node.op_type, version=versions.get(domain, 1), domain=domain)
    except (NotImplementedError, KeyError):
        return False
    return True


def converted(onnx: Any, model: Any) -> nn.Module:
    """A model as a module.

    Raises:
        NotImplementedError: A node asks for more than its converter can do.
        ValueError: Likewise.
    """
    _register(onnx)
    from onnx2torch import convert

    for node in model.graph.node:
        _check_attributes(node)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the result is compared with ONNX's own
        network: nn.Module = convert(model)
    return network


def _check_attributes(node: Any) -> None:
    """Raise for an attribute that the converter, made for an older version, would not see."""
    new = _NEW_ATTRIBUTES.get(node.op_type, {})
    for attribute in node.attribute:
        if attribute.name in new:
            value = attribute.s or attribute.i
            if new[attribute.name] is None or value != new[attribute.name]:
                raise NotImplementedError(f"{node.op_type} with `{attribute.name}`")


@cache
def _register(onnx: Any) -> None:
    """Make the converters known to ``onnx2torch``, once."""
    from onnx2torch.node_converters.registry import _CONVERTER_REGISTRY, OperationDescription, add_converter

    newest = onnx.defs.onnx_opset_version()
    schemas = {(one.name, one.since_version) for one in onnx.defs.get_all_schemas_with_history() if not one.domain}
    own = _own()
    for name, version in sorted(schemas):
        description = OperationDescription("", name, version)
        if version > newest:
            continue
        if name in own and version >= own[name][0]:
            _CONVERTER_REGISTRY[description] = own[name][1]
        elif name in _SAME and description not in _CONVERTER_REGISTRY:
            older = [known for known in _CONVERTER_REGISTRY if known.operation_type == name and known.version < version]
            if older:
                latest = max(older, key=lambda known: int(known.version))
                add_converter(name, version)(_CONVERTER_REGISTRY[latest])


def _own() -> dict[str, tuple[int, Callable[[Any, Any], Any]]]:
    """By operator, the first version that a converter is for, and the converter."""
    from onnx2torch.utils.common import OnnxMapping, OperationConverterResult, get_const_value

    def result(module: nn.Module, node: Any, inputs: int | None = None) -> Any:
        given = tuple(name for name in node.input_values[:inputs] if name)
        mapping = OnnxMapping(inputs=given, outputs=tuple(node.output_values))
        return OperationConverterResult(torch_module=module, onnx_mapping=mapping)

    def reduction(node: Any, graph: Any) -> Any:
        axes = None
        if len(node.input_values) > 1 and node.input_values[1]:
            axes = tuple(int(axis) for axis in get_const_value(node.input_values[1], graph))
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            return result(nn.Identity(), node, 1)
        return result(Reduce(node.operation_type, axes or None, bool(node.attributes.get("keepdims", 1))), node, 1)

    def split(node: Any, graph: Any) -> Any:
        axis = node.attributes.get("axis", 0)
        if len(node.input_values) > 1 and node.input_values[1]:
            lengths = [int(length) for length in get_const_value(node.input_values[1], graph)]
            return result(SplitLengths(lengths, axis), node, 1)
        return result(SplitEvenly(len(node.output_values), axis), node, 1)

    def gelu(node: Any, graph: Any) -> Any:
        return result(nn.GELU(approximate=node.attributes.get("approximate", "none")), node)

    def mish(node: Any, graph: Any) -> Any:
        return result(nn.Mish(), node)

    def group_norm(per_group: bool) -> Callable[[Any, Any], Any]:
        def make(node: Any, graph: Any) -> Any:
            told = node.attributes
            return result(GroupNormalization(told["num_groups"], told.get("epsilon", 1e-5), per_group), node)

        return make

    def layer_norm(node: Any, graph: Any) -> Any:
        told = node.attributes
        if len(node.output_values) > 1:
            raise NotImplementedError("LayerNormalization with its mean as an output")
        return result(LayerNormalization(told.get("axis", -1), told.get("epsilon", 1e-5)), node)

    def clip(node: Any, graph: Any) -> Any:
        names = (*node.input_values, "", "")[1:3]
        return result(Clip(bool(names[0]), bool(names[1])), node)

    def part(node: Any, graph: Any) -> Any:
        names = (*node.input_values, "", "")[3:5]
        return result(Slice(bool(names[0]), bool(names[1])), node)

    def global_max(node: Any, graph: Any) -> Any:
        return result(GlobalMaxPool(), node)

    return {
        **dict.fromkeys(_REDUCTIONS, (18, reduction)),
        "Clip": (11, clip),
        "LayerNormalization": (17, layer_norm),
        "Slice": (10, part),
        "Split": (18, split),
        "Gelu": (20, gelu),
        "Mish": (18, mish),
        "GroupNormalization": (21, group_norm(per_group=False)),
        "GlobalMaxPool": (1, global_max),
    }
