"""What a run is made of: attacks × chunks, and what each of these came to."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_mtl.evaluation.measure import MetricState
from art_mtl.evaluation.samples import Inputs

CLEAN = 0
"""Number of the "attack" that leaves the inputs alone; the others count from 1."""
PICTURED = 8
"""First samples of a data set whose adversarial inputs are kept, for pictures."""

_FAST = 1
"""Level of compression: NumPy's own, 6, takes several times as long."""

__all__ = ["CLEAN", "PICTURED", "UnitResult", "Unit"]


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
        shown: Adversarial inputs of those of the first :data:`PICTURED` samples of the data set that are in this chunk;
            None where there are none, or no one asked.
        gradients: Gradient evaluations for each sample.
        forwards: Forward evaluations for each sample.
        warnings: What the attack warned of.
        data: Of a :data:`CLEAN` unit, the hash of the chunk's inputs and labels.
    """

    part: MetricState
    seconds: float = 0.0
    perturbation: float = 0.0
    steps: Tensor | None = None
    shown: Inputs | None = None
    gradients: float = 0.0
    forwards: float = 0.0
    warnings: tuple[str, ...] = ()
    data: str = ""

    def encode(self) -> bytes:
        """All but times and pictures, compressed: confusion matrices are mostly 0.

        Raises:
            TypeError: The state of a torchmetrics class is neither a tensor nor a list of tensors.
        """
        arrays = {"has_label": self.part.has_label.numpy()}
        for k, (statistics, state) in enumerate(zip(self.part.statistics, self.part.states, strict=True)):
            arrays[f"statistics.{k}"] = statistics.double().cpu().numpy()
            for name, value in state.items():
                arrays |= _state_arrays(k, name, value)
        if self.steps is not None:
            arrays["steps"] = self.steps.numpy()
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        return zlib.compress(buffer.getvalue(), _FAST)

    @classmethod
    def decode(cls, data: bytes, seconds: float, perturbation: float, shown: Inputs | None = None) -> UnitResult:
        """From what :meth:`encode` made.

        Raises:
            ValueError: It is damaged.
        """
        try:
            with np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False) as file:
                arrays = {name: torch.from_numpy(file[name]) for name in file.files}
            has_label, steps = arrays.pop("has_label"), arrays.pop("steps", None)
            count = sum(name.startswith("statistics.") for name in arrays)
            statistics = tuple(arrays[f"statistics.{k}"] for k in range(count))
        except (KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ValueError(f"A stored chunk should be whole. Found it damaged: {error}.") from error
        states = tuple(_state(arrays, f"state.{k}.") | _lists(arrays, f"list.{k}.") for k in range(count))
        return cls(MetricState(statistics, has_label, states), seconds, perturbation, steps, shown)


def _state_arrays(k: int, name: str, value: Any) -> dict[str, NDArray[Any]]:
    """One state of the torchmetrics class of task ``k``: an array, or the length of a list and its items."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, Tensor) for item in items):
        kinds = sorted({type(item).__name__ for item in items})
        raise TypeError(
            f"A stored run needs torchmetrics classes whose state is tensors or lists of tensors. Found {name!r}, of "
            f"{kinds}."
        )
    if not isinstance(value, list):
        return {f"state.{k}.{name}": value.cpu().numpy()}
    stored = {f"item.{k}.{name}.{i}": item.cpu().numpy() for i, item in enumerate(items)}
    return {f"list.{k}.{name}": np.array(len(items)), **stored}


def _lists(arrays: dict[str, Tensor], prefix: str) -> dict[str, list[Tensor]]:
    found = {}
    for name, length in _state(arrays, prefix).items():
        items = prefix.replace("list.", "item.", 1) + name
        found[name] = [arrays[f"{items}.{i}"] for i in range(int(length))]
    return found


def _state(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
