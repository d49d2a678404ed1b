"""Models in files that hold their network too: ONNX, TorchScript, ``torch.export``. Nothing in them is unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.files import regular_file
from art_mtl.models import read_state_dict
from art_mtl.structure import join_rows, take_rows, tensors_in
from art_mtl.zoo.onnx_files import load_onnx
from art_mtl.zoo.ports import Choose, ModelFile, Port

__all__ = ["SUFFIXES", "ExportedNet", "InBatches", "is_model_file", "load_model_file", "settle_batch"]

SUFFIXES = (".onnx", ".pt", ".pth", ".ts", ".torchscript", ".pt2")
"""How the names of model files end."""
_TOLERANCE = 1e-3


def is_model_file(name: str) -> bool:
    """Whether a victim's name is that of a model file."""
    return name.lower().endswith(SUFFIXES)


def load_model_file(path: str | Path, choose: Choose | None = None) -> ModelFile:
    """A model with its network; which format a file has is told by its content.

    Args:
        path: An ONNX file, one of ``torch.jit.save``, or one of ``torch.export.save``.
        choose: See :func:`art_mtl.zoo.onnx_files.load_onnx`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of these, damaged, or holds weights or a pickled module.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "net.pt2"
        >>> torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),)), path)
        >>> load_model_file(path).module(torch.zeros(4, 3)).shape
        torch.Size([4, 2])
    """
    path = regular_file(path, "a model file")
    if path.suffix.lower() == ".onnx":
        return load_onnx(path, choose)
    names = _entries(path)
    try:
        if any(name.endswith("archive_format") for name in names):
            return _exported(path)
        if any("/code/" in name for name in names):
            return _scripted(path)
    except Exception as error:  # each reader has kinds of its own
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: expected a model of torch.jit.save or torch.export.save. Found: {text}") from error
    read_state_dict(path)  # says what else is wrong
    raise ValueError(
        f"{path}: expected a model with its network, of ONNX, torch.jit.save or torch.export.save. Found weights "
        "alone. Write a function that builds the network and loads them, and give it as PATH.py:function."
    )


def _entries(path: Path) -> list[str]:
    """Names in an archive; none where it is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _scripted(path: Path) -> ModelFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch: TorchScript is old, but people have it
        module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    arguments = module.forward.schema.arguments[1:]
    required = [one.name for one in arguments if not one.has_default_value()]
    return ModelFile(module, tuple(Port(name) for name in required))


def _exported(path: Path) -> ModelFile:
    program = torch.export.load(path)
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    ports = []
    for name in program.graph_signature.user_inputs:
        value = values.get(str(name))
        if isinstance(value, Tensor):
            shape = tuple(size if isinstance(size, int) else None for size in value.shape)
            ports.append(Port(str(name), shape, value.dtype))
    return ModelFile(ExportedNet(program.module()), tuple(ports))


class ExportedNet(nn.Module):
    """A program of ``torch.export``, which has one mode only, as a module that may be put into any."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def train(self, mode: bool = True) -> ExportedNet:
        """Sets the mode of this module alone."""
        self.training = mode
        return self

    def forward(self, *inputs: Tensor) -> Any:
        """What the program returns."""
        return self.program(*inputs)


class InBatches(nn.Module):
    """A network that takes so many samples at once, and no other number, as one that takes any.

    Args:
        network: Inputs by position, batch-first.
        size: Samples that it takes.

    Examples:
        >>> class One(nn.Module):
        ...     def forward(self, x):
        ...         return x.reshape(1, 4)
        >>> InBatches(One(), 1)(torch.zeros(3, 2, 2)).shape
        torch.Size([3, 4])
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, *inputs: Tensor) -> Any:
        """The outputs of all samples; the last batch is filled up with its last sample."""
        count = len(inputs[0])
        missing = -count % self.size
        filled = [torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x for x in inputs]
        parts = [self.network(*(x[first : first + self.size] for x in filled)) for first in range(0, count, self.size)]
        return take_rows(join_rows(parts), slice(0, count))


def settle_batch(file: ModelFile, inputs: Sequence[Tensor]) -> nn.Module:
    """The module of a file, or one that hands it as many samples as it was made for.

    A file is often made from an example of one sample, whose number may or may not be written into the network, also
    where the file says that it takes any: a reshape then mixes samples, which the outputs of each alone show.

    Args:
        file: The model.
        inputs: Of at least 2 samples.
    """
    first = file.inputs[0].shape if file.inputs else None
    size = (first[0] if first else None) or 1
    apart = InBatches(file.module, size)
    with torch.no_grad():
        expected = tensors_in(apart(*inputs))
        try:
            found = tensors_in(file.module(*(torch.cat([x] * size) for x in inputs)))
        except Exception:  # of whatever kind a network raises for a number of samples that it does not take
            return apart
    count = len(inputs[0])
    same = len(found) == len(expected) and all(
        f.shape[1:] == e.shape[1:] and len(f) == count * size and _close(f[:count], e)
        for f, e in zip(found, expected, strict=True)
    )
    return file.module if same else apart


def _close(found: Tensor, expected: Tensor) -> bool:
    if not expected.is_floating_point():
        return bool((found == expected).all())
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((found - expected).abs() <= _TOLERANCE * max(scale, 1e-12)).all())
