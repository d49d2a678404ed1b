"""What decides the numbers of a run, so that another setting, version, checkpoint or data set is noticed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from art_mtl.evaluation.attack import AttackInfo
from art_mtl.evaluation.samples import Inputs, Source
from art_mtl.labels import MultiTaskLabels

_MISSING = "nothing"
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_UNIMPORTANT = ("verbose", "summary_writer", "estimator")

__all__ = ["describe_attacks", "describe_data", "describe_model", "differences", "mark"]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Setting by setting, what is stored and what was asked for, where these differ.

    Examples:
        >>> differences({"run": {"seed": 0, "chunk": 8}}, {"run": {"seed": 1, "chunk": 8}})
        ['run seed 0 there, 1 here']
    """
    stored, asked = _flat(there), _flat(here)
    return [
        f"{name} {stored.get(name, _MISSING)} there, {asked.get(name, _MISSING)} here"
        for name in dict.fromkeys([*stored, *asked])
        if stored.get(name, _MISSING) != asked.get(name, _MISSING)
    ]


def describe_model(model: nn.Module) -> str:
    """A mark of a model: of its structure and of every weight and buffer."""
    digest = hashlib.sha256(_ADDRESS.sub("", repr(model)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, Tensor):
            array = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.flatten().view(torch.uint8).numpy().data if array.numel() else b"")
    return digest.hexdigest()[:16]


def describe_data(source: Source) -> dict[str, Any]:
    """The number of samples, and marks of the first, the middle and the last."""
    count = len(source)
    places = {"first": 0, "middle": count // 2, "last": count - 1}
    marks = {name: mark(*source.read(slice(i, i + 1))) for name, i in places.items()}
    return {"samples": count, **marks}


def describe_attacks(attacks: Sequence[tuple[AttackInfo, Any]]) -> dict[str, Any]:
    """The attacks in order and, of each, its class and parameters."""
    known: dict[str, Any] = {"in order": "; ".join(info.label for info, _ in attacks)}
    for info, attack in attacks:
        parameters = [name for name in getattr(attack, "attack_params", ()) if name not in _UNIMPORTANT]
        own = {name: _plain(getattr(attack, name, None)) for name in parameters}
        known[f"({info.label})"] = {"class": type(attack).__qualname__, **(own or info.to_json())}
    return known


def mark(x: Inputs, y: MultiTaskLabels) -> str:
    """A mark of inputs and labels; what stands where a sample has no label does not count."""
    digest = hashlib.sha256(x.tobytes())
    for name in y.names:
        present = y.present(name)
        digest.update(present.tobytes())
        if present.any():
            digest.update(_bytes(y[present][name]))
    return digest.hexdigest()[:16]


def _bytes(values: Any) -> bytes:
    """The content of a column of labels; of a ragged one, that of each sample's arrays."""
    if isinstance(values, Mapping):
        return b"".join(str(key).encode() + _bytes(part) for key, part in values.items())
    array = np.asarray(values)
    return b"".join(map(_bytes, array)) if array.dtype == object else array.tobytes()


def _plain(value: Any) -> Any:
    """A parameter as a JSON value: arrays by a mark of their content, objects by their class."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (float, np.number)):
        return str(float(value))  # infinity, which L∞ is called by, is no JSON number
    if isinstance(value, (np.ndarray, Tensor)):
        array = np.ascontiguousarray(value.cpu() if isinstance(value, Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"
    if is_dataclass(value):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return str([_plain(part) for part in value])
    return type(value).__qualname__


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat
