"""What a run is made of: attacks × chunks, and what each of these came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from art_mtl.data.sources import Inputs
from art_mtl.evaluation.examples import Examples
from art_mtl.evaluation.measure import MetricState
from art_mtl.evaluation.packing import compressed, decompressed
from art_mtl.metrics import SparseTensor

CLEAN = 0
"""Number of the "attack" that leaves the inputs alone; the others count from 1."""

_LARGEST = 1 << 30
"""Bytes that a stored unit may have in memory."""

__all__ = ["CLEAN", "Unit", "UnitResult", "pack_examples", "pack_inputs", "unpack_examples", "unpack_inputs"]


class Unit(NamedTuple):
    """The work that is done and stored at once: one attack on one chunk.

    Attributes:
        attack: :data:`CLEAN`, or the number of an attack from 1.
        chunk: From 0.
    """

    attack: int
    chunk: int


@dataclass(frozen=True)
class UnitResult:
    """What one attack on one chunk came to.

    Attributes:
        part: What the model made of its inputs.
        seconds: What ``generate`` took.
        perturbation: Largest norm of a perturbation.
        steps: :meth:`art_mtl.evaluation.step_recorder.StepRecorder.table`; None where the attack tells nothing.
        examples: Adversarial inputs of the samples of the chunk that are degraded least and most; None on clean inputs.
        gradients: Gradient evaluations per sample, measured.
        forwards: Forward passes without a gradient per sample, measured.
        warnings: What was warned of: samples that were not attacked, values that are not finite.
        data: Of a :data:`CLEAN` unit, the hashes of the chunk's samples.
        cosines: Of a :data:`CLEAN` unit, :func:`art_mtl.evaluation.input_gradients.cosine_sums` of the first samples;
            None where they could not be measured.
        adversarial: All adversarial inputs of the chunk, kept on request only.
    """

    part: MetricState
    seconds: float = 0.0
    perturbation: float = 0.0
    steps: Tensor | None = None
    examples: Examples | None = None
    gradients: float = 0.0
    forwards: float = 0.0
    warnings: tuple[str, ...] = ()
    data: str = ""
    cosines: Tensor | None = None
    adversarial: Inputs | None = None

    def encode(self) -> bytes:
        """All but the inputs, compressed.

        Raises:
            TypeError: The state of a torchmetrics class is neither a tensor nor a list of tensors.
        """
        record = _Record(
            **_fields(self.part),
            seconds=self.seconds,
            perturbation=self.perturbation,
            gradients=self.gradients,
            forwards=self.forwards,
            steps=None if self.steps is None else _Array.of(self.steps),
            warnings=self.warnings,
            data=self.data,
            cosines=None if self.cosines is None else _Array.of(self.cosines),
            measures=None if self.part.measures is None else _State(**_fields(self.part.measures)),
        )
        return compressed(msgspec.msgpack.encode(record))

    @classmethod
    def decode(cls, data: bytes, examples: Examples | None = None, adversarial: Inputs | None = None) -> UnitResult:
        """From what :meth:`encode` made.

        Raises:
            ValueError: It is damaged, or no such thing.
        """
        try:
            record = msgspec.msgpack.decode(decompressed(data, _LARGEST), type=_Record)
            measures = None if record.measures is None else record.measures.metric_state()
            part = replace(record.metric_state(), measures=measures)
            steps = None if record.steps is None else record.steps.tensor()
            cosines = None if record.cosines is None else record.cosines.tensor()
            _check(part, steps, cosines)
        except (ValueError, RecursionError, OverflowError) as error:
            raise ValueError(f"A stored unit should be whole. Found it damaged: {error}.") from error
        return cls(
            part, record.seconds, record.perturbation, steps, examples, record.gradients, record.forwards,
            record.warnings, record.data, cosines, adversarial,
        )  # fmt: skip


def pack_inputs(inputs: Inputs | None) -> bytes | None:
    """Inputs as bytes."""
    return None if inputs is None else msgspec.msgpack.encode(_Array.of(torch.from_numpy(np.ascontiguousarray(inputs))))


def unpack_inputs(data: bytes | None) -> Inputs | None:
    """From what :func:`pack_inputs` made.

    Raises:
        ValueError: It is damaged, or no such thing.
    """
    if data is None:
        return None
    return _as_inputs(msgspec.msgpack.decode(data, type=_Array).tensor())


def pack_examples(examples: Examples | None) -> bytes | None:
    """Examples as bytes."""
    if examples is None:
        return None
    return msgspec.msgpack.encode((examples.samples, _Array.of(torch.from_numpy(examples.inputs))))


def unpack_examples(data: bytes | None, chunk: slice) -> Examples | None:
    """From what :func:`pack_examples` made.

    Args:
        data: The bytes.
        chunk: In which the samples are.

    Raises:
        ValueError: It is damaged, or no such thing.
    """
    if data is None:
        return None
    samples, array = msgspec.msgpack.decode(data, type=tuple[tuple[int, ...], _Array])
    inputs = _as_inputs(array.tensor())
    inside = all(chunk.start <= sample < chunk.stop for sample in samples)
    if not inside or len(set(samples)) != len(samples) or len(samples) != len(inputs):
        raise ValueError(f"Stored examples should be of samples of their chunk. Found {samples}, {len(inputs)} inputs.")
    return Examples(samples, inputs)


def _as_inputs(tensor: Tensor) -> Inputs:
    if tensor.dtype != torch.float32 or tensor.ndim < 2:
        raise ValueError(f"Stored inputs should be float32 of two axes or more. Found {tensor.dtype}, {tensor.ndim}.")
    inputs: Inputs = tensor.numpy()
    return inputs


_DTYPES: Mapping[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    )
}  # fmt: skip
_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class _Array(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="array"):
    """A tensor."""

    dtype: str
    shape: tuple[_Size, ...]
    content: bytes

    @classmethod
    def of(cls, tensor: Tensor) -> _Array:
        flat = (
            tensor.detach().cpu().clone(memory_format=torch.contiguous_format).flatten()
        )  # one entry may have any stride
        name = str(tensor.dtype).removeprefix("torch.")
        if name not in _DTYPES:
            raise TypeError(f"A stored run holds tensors of {list(_DTYPES)}. Found {name}.")
        return cls(name, tuple(tensor.shape), flat.view(torch.uint8).numpy().tobytes() if len(flat) else b"")

    def tensor(self) -> Tensor:
        dtype, count = _DTYPES.get(self.dtype), math.prod(self.shape)
        if dtype is None or count * dtype.itemsize != len(self.content):
            raise ValueError(f"an array of shape {self.shape} and {self.dtype} in {len(self.content)} bytes")
        flat = torch.frombuffer(bytearray(self.content), dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return flat.reshape(self.shape)


class _Sparse(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="sparse"):
    """A tensor by its entries that are not 0."""

    shape: tuple[_Size, ...]
    places: _Array
    values: _Array

    @classmethod
    def of(cls, sparse: SparseTensor) -> _Sparse:
        return cls(sparse.shape, _Array.of(sparse.places), _Array.of(sparse.values))

    def tensor(self) -> SparseTensor:
        places, values = self.places.tensor(), self.values.tensor()
        fits = self.shape and places.dtype == torch.int64 and places.ndim == 1 and places.shape == values.shape
        if not fits or (len(places) and not 0 <= int(places[0]) <= int(places[-1]) < math.prod(self.shape)):
            raise ValueError(f"a sparse array of shape {self.shape} with places outside it")
        if bool((places.diff() <= 0).any()):
            raise ValueError("a sparse array with places out of order")
        return SparseTensor(self.shape, places, values)


class _List(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="list"):
    """A list of tensors."""

    items: list[_Array]

    def tensor(self) -> list[Tensor]:
        return [item.tensor() for item in self.items]


class _State(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Metrics of tasks, or further measures."""

    statistics: list[_Sparse]
    has_label: _Array
    states: list[dict[str, _Array | _Sparse | _List]]

    def metric_state(self) -> MetricState:
        return MetricState(
            tuple(one.tensor() for one in self.statistics),
            self.has_label.tensor(),
            tuple({name: value.tensor() for name, value in state.items()} for state in self.states),
        )


def _fields(part: MetricState) -> dict[str, Any]:
    """Those of :class:`_State`."""
    return {
        "statistics": [_Sparse.of(one) for one in part.statistics],
        "has_label": _Array.of(part.has_label),
        "states": [{name: _stored(name, value) for name, value in state.items()} for state in part.states],
    }


class _Record(_State, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is stored of a unit."""

    seconds: float
    perturbation: float
    gradients: float
    forwards: float
    steps: _Array | None
    warnings: tuple[str, ...]
    data: str
    cosines: _Array | None
    measures: _State | None


def _stored(name: str, value: Any) -> _Array | _Sparse | _List:
    """One state of a torchmetrics class."""
    if isinstance(value, SparseTensor):
        return _Sparse.of(value)
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, Tensor) for item in items):
        kinds = sorted({type(item).__name__ for item in items})
        raise TypeError(
            f"A stored run needs torchmetrics classes whose state is tensors or lists of tensors. Found {name!r}, of "
            f"{kinds}."
        )
    return _List([_Array.of(item) for item in items]) if isinstance(value, list) else _Array.of(value)


def _check(part: MetricState, steps: Tensor | None, cosines: Tensor | None) -> None:
    """Raise ValueError unless the tensors of a unit go together."""
    tasks, labels = len(part.statistics), part.has_label
    if part.measures is not None:
        if len(part.measures) != len(part):
            raise ValueError(f"measures of {len(part.measures)} samples beside {len(part)}")
        _check(part.measures, None, None)
    if labels.dtype != torch.bool or labels.ndim != 2 or labels.shape[1] != tasks or len(part.states) != tasks:
        raise ValueError(f"labels of shape {tuple(labels.shape)} of {tasks} tasks")
    for one in part.statistics:
        if len(one.shape) != 2 or len(one) != len(labels) or one.values.dtype != torch.float64:
            raise ValueError(f"statistics of shape {one.shape} of {len(labels)} samples")
    if steps is not None and (steps.dtype != torch.float64 or steps.ndim != 2 or steps.shape[1] != 2 + 2 * tasks):
        raise ValueError(f"steps of shape {tuple(steps.shape)} of {tasks} tasks")
    if cosines is not None and (cosines.dtype != torch.float64 or cosines.shape != (2, tasks, tasks)):
        raise ValueError(f"cosines of shape {tuple(cosines.shape)} of {tasks} tasks")
