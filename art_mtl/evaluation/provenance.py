"""All that decides the numbers of a run, as JSON values: another setting, version, weight, line of code is noticed."""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import importlib.metadata
import json
import math
import re
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from art_mtl.data.sources import Source
from art_mtl.evaluation import environment
from art_mtl.evaluation.attack import AttackInfo
from art_mtl.labels import MultiTaskLabels
from art_mtl.structure import tensors_in

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.further_measures import Measure

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_UNIMPORTANT = ("verbose", "summary_writer", "observer", "report", "progress", "tqdm")
"""Attributes that change no number, or that a call sets."""
_CLASS_NOISE = ("__module__", "__dict__", "__weakref__", "__doc__", "__qualname__", "__annotations__", "__slots__",
                "__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__", "_abc_impl",
                "__abstractmethods__", "__parameters__", "__orig_bases__", "__dataclass_fields__",
                "__slotnames__")  # fmt: skip
HASH = 16
"""Characters of the hash of a sample."""
_WIDEST = {"f": np.dtype("<f8"), "i": np.dtype("<i8"), "u": np.dtype("<i8")}
"""By the kind of a dtype, as what its numbers are hashed where it can hold all of them."""
_SHOWN = 8
"""Most entries of an array that is shown, not marked."""
_MODULE_STATE = frozenset(vars(nn.Module()))

__all__ = ["check_data", "describe_attack", "describe_data", "describe_model", "describe_run", "describe_value"]


def describe_run(
    estimator: PyTorchMultiTaskEstimator,
    attacks: Sequence[tuple[AttackInfo, Any]],
    *,
    victim: str,
    samples: int,
    chunk: int,
    seed: int | None,
    batch_size: int,
    protocol: str,
    threads: int | None,
    measures: Sequence[Measure] = (),
) -> dict[str, Any]:
    """The fingerprint of a run, all but the data, which is marked chunk by chunk as it is read.

    Args:
        estimator: The model with its tasks, bounds and defences.
        attacks: In order.
        victim: What results call the model.
        samples: N.
        chunk: Samples of a chunk.
        seed: Of every attack.
        batch_size: Samples at a time in measuring.
        protocol: How errors are averaged.
        threads: Of torch, where sums depend on it.
        measures: What is measured beside the metrics of the tasks.

    Returns:
        JSON values in mappings, by the names that users know.
    """
    describer = _Describer(estimator)
    found = {
        "victim": victim,
        "samples": samples,
        "seed": seed,
        "chunk": chunk,
        "batch_size": batch_size,
        "protocol": protocol,
        "threads": threads,
        "device": estimator.device.type,
        "attacks": {"in order": "; ".join(_labels(attacks))},
        **describer.estimator_of(estimator),
    }
    described = (describer.attack(attack) for _, attack in attacks)
    found["measures"] = {f"{one.task.name}: {one.name}": describer.metric(one.metric) for one in measures}
    found["attacks"].update(zip(_labels(attacks), described, strict=True))
    packages = environment.describe(estimator.device.type, seed).packages
    found["versions"] = {**packages, **_versions(describer.packages)}
    return found


def _labels(attacks: Sequence[tuple[AttackInfo, Any]]) -> list[str]:
    """Name, norm and radius with all its digits; where these repeat, with a number."""
    labels: list[str] = []
    for info, _ in attacks:
        label = info.name if info.norm is None or info.eps is None else f"{info.name}, {info.norm} {info.eps!r}"
        repeated = sum(known.partition(" #")[0] == label for known in labels)
        labels.append(f"{label} #{repeated + 1}" if repeated else label)
    return labels


def describe_model(model: nn.Module) -> dict[str, Any]:
    """The structure, settings, weights, buffers and code of a model."""
    return _Describer(None).model(model)


def describe_attack(attack: Any, estimator: Any = None) -> dict[str, Any]:
    """The class, the code and every option of an attack, whoever made it.

    Args:
        attack: Any object with ``generate``.
        estimator: That of the run, which an attack that holds it is not described by; another one is.
    """
    return _Describer(estimator).attack(attack)


def describe_value(value: Any) -> Any:
    """Any value as JSON values: arrays by a mark of their content, functions by their code, objects by their class and
    attributes.

    Examples:
        >>> describe_value({"a": (1, math.inf), "b": max})
        {'a': [1, 'inf'], 'b': 'builtins.max'}
    """
    return _Describer(None).value(value)


def describe_data(x: np.ndarray[Any, Any], y: MultiTaskLabels) -> str:
    """A hash of each sample, its input and its labels: :data:`HASH` characters a sample, one after another. Equal
    numbers have one hash, whatever their precision.

    Examples:
        >>> from art_mtl import MultiTaskLabels
        >>> one, other = (describe_data(np.zeros((2, 3)), MultiTaskLabels({"a": np.array([0, i])})) for i in (1, 2))
        >>> len(one), one[:HASH] == other[:HASH], one[HASH:] == other[HASH:]
        (32, True, False)
    """
    columns = [(name, y[name], y.present(name)) for name in y.names]
    return "".join(_hash(x[i], [(name, values[i], known[i]) for name, values, known in columns]) for i in range(len(x)))


def _hash(x: np.ndarray[Any, Any], labels: Sequence[tuple[str, Any, Any]]) -> str:
    digest = hashlib.blake2b(digest_size=HASH // 2)
    for part in _bytes(x):
        digest.update(part)
    for name, value, known in labels:
        digest.update(f"{name} {bool(known)} ".encode())
        for part in _bytes(value) if known else ():
            digest.update(part)
    return digest.hexdigest()


def check_data(source: Source, chunks: Sequence[slice], stored: Mapping[int, str], holder: str) -> None:
    """Read every chunk that was stored, and raise unless it still holds the same samples.

    Args:
        source: The data set.
        chunks: How it is cut.
        stored: Number of a chunk to what :func:`describe_data` said of it.
        holder: Of the run, for messages.

    Raises:
        ValueError: A chunk holds another sample or label; the message names the first.
    """
    for number, mark in sorted(stored.items()):
        part = chunks[number]
        found = describe_data(*source.read(part))
        if found != mark:
            places = range(0, max(len(found), len(mark)), HASH)
            first = next(place for place in places if found[place : place + HASH] != mark[place : place + HASH])
            raise ValueError(
                f"{holder} holds a run with other data: sample {part.start + first // HASH} has another input or label "
                "than you gave. Use another `out=`, or `restart=True` to discard it."
            )


def _bytes(values: Any) -> Iterator[bytes]:
    """The content of inputs or of a column of labels; of a ragged one, that of each sample's arrays."""
    if isinstance(values, Mapping):
        for key, part in values.items():
            yield f"{key} ".encode()
            yield from _bytes(part)
        return
    array = np.asarray(values)
    wide = _WIDEST.get(array.dtype.kind)
    if wide is not None and np.can_cast(array.dtype, wide):
        array = array.astype(wide)
    yield f"{array.dtype.str} {array.shape} ".encode()
    if array.dtype == object:
        for part in array.flat:
            yield from _bytes(part) if isinstance(part, (Mapping, np.ndarray, list, tuple)) else (repr(part).encode(),)
    else:
        yield np.ascontiguousarray(array).tobytes()


class _Describer:
    """Turns objects into JSON values that are the same in every process, and notes the packages they come from.

    Args:
        estimator: Of the run: attacks that hold it are not described by it again.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator, self.packages = estimator, set[str]()
        self._open: list[int] = []
        self._known: dict[int, tuple[Any, str]] = {}
        """By identity, code with its mark; its name while it is looked at. It is held, lest another take its place."""

    def estimator_of(self, estimator: Any) -> dict[str, Any]:
        """What an ART estimator adds to its model: bounds, defences, tasks."""
        operations = getattr(estimator, "preprocessing_operations", [])
        return {
            "clip_values": self.value(estimator.clip_values),
            "channels_first": self.value(getattr(estimator, "channels_first", None)),
            "preprocessing": {str(i): self.value(operation) for i, operation in enumerate(operations)},
            "tasks": {task.name: self.task(task) for task in getattr(estimator, "tasks", ())},
            "model": self.model(estimator.model),
        }

    def task(self, task: Any) -> Any:
        """A task with the metric that it reports."""
        return {**self.value(task), "kind": task.kind, "metric": self.metric(task.metric)}

    def metric(self, metric: Any) -> Any:
        """A metric with its code."""
        kept = {name: getattr(metric, name) for name in ("name", "scale", "higher_is_better", "entry")}
        code = {name: self.value(getattr(metric, name)) for name in ("value", "torchmetric", "statistics", "arguments")}
        return {**kept, **code}

    def model(self, model: nn.Module) -> dict[str, Any]:
        """See :func:`describe_model`."""
        settings, code = {}, {}
        for name, module in model.named_modules():
            kept = {key: value for key, value in vars(module).items() if key not in _MODULE_STATE}
            # A private tensor may be a cache that a forward pass fills.
            plain = {k: v for k, v in kept.items() if not k.startswith("_") or not _holds_tensors(v)}
            settings[name] = [type(module).__qualname__, self.attributes(plain)]
            code.update(self._code_of_module(module))
        weights = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
            weights.update(f"{name} {self.value(tensor)}".encode())
        marked = _mark([_ADDRESS.sub("", repr(model)), settings])
        return {"weights": weights.hexdigest(), "structure": marked, "code": code}

    def attack(self, attack: Any) -> dict[str, Any]:
        """See :func:`describe_attack`."""
        names = [*getattr(attack, "attack_params", ()), *getattr(attack, "options", ()), "estimator"]
        if not _is_library(type(attack)) or len(names) == 1:
            names += _state(attack)
        wanted = [name for name in dict.fromkeys(names) if isinstance(name, str) and name not in _UNIMPORTANT]
        own = self.attributes({name: getattr(attack, name) for name in wanted if hasattr(attack, name)})
        return {"class": self.value(type(attack)), **own}

    def attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name, without those that cannot be told apart."""
        return {str(name): self.value(value) for name, value in values.items()}

    def value(self, value: Any) -> Any:
        """See :func:`describe_value`."""
        if value is self.estimator and value is not None:
            return "the estimator"
        if isinstance(value, (float, np.floating)) and not math.isfinite(value):
            return str(float(value))
        if isinstance(value, (str, bool, int, float, type(None))) and not isinstance(value, enum.Enum):
            return value
        if isinstance(value, (np.ndarray, Tensor, np.generic)):
            return _array(value)
        if isinstance(value, (enum.Enum, complex, bytes, Path, torch.dtype, torch.device, slice, range, np.dtype)):
            return str(value)
        if id(value) in self._open:
            return "itself"
        self._open.append(id(value))
        try:
            return self._object(value)
        finally:
            self._open.pop()

    def _object(self, value: Any) -> Any:
        if isinstance(value, functools.partial):
            return [self.value(value.func), self.value(value.args), self.value(value.keywords)]
        if isinstance(value, Mapping):
            return self.attributes({str(key): part for key, part in value.items()})
        if isinstance(value, (list, tuple)):
            return [self.value(part) for part in value]
        if isinstance(value, Set):
            return sorted((self.value(part) for part in value), key=json.dumps)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, types.MethodType):
            return [self._code(value), "of the same object" if value.__self__ is None else self.value(value.__self__)]
        if isinstance(value, nn.Module):
            return self.model(value)
        if isinstance(value, torch.Generator):
            return _array(value.get_state())
        if isinstance(value, type) or callable(value) and hasattr(value, "__qualname__"):
            return self._code(value)
        if hasattr(value, "generate") and hasattr(value, "attack_params"):
            return self.attack(value)
        if isinstance(getattr(value, "model", None), nn.Module) and hasattr(value, "clip_values"):
            return self.estimator_of(value)
        if is_dataclass(value):  # what else it holds are properties that were asked for
            own = {one.name: getattr(value, one.name) for one in fields(value)}
        else:
            own = {name: getattr(value, name) for name in _state(value)}
        shown = {name: part for name, part in own.items() if name not in _UNIMPORTANT}
        return {"class": self._code(type(value)), **self.attributes(shown)}

    # --- code ---

    def _code_of_module(self, module: nn.Module) -> dict[str, str]:
        """By name, the code of a module's class, and of what is hung on the module itself."""
        kind = type(module)
        found: dict[str, Any] = {} if _is_library(kind) else {kind.__qualname__: self._code(kind)}
        if _is_library(kind):
            self._note(kind)
        generated = getattr(module, "code", None)  # of torch.fx and of TorchScript
        if isinstance(generated, str):
            found[f"{kind.__qualname__}.code"] = _mark(generated)
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        replaced = vars(module).get("forward")
        if hooks or replaced is not None:
            found[f"{kind.__qualname__}.hooks"] = _mark(self.value([*hooks, replaced]))
        return found

    def _code(self, value: Any) -> str:
        """The name of a function or class; of one that is no library's, with a mark of its code and all it uses."""
        value = _unwrapped(value)
        name = f"{getattr(value, '__module__', None) or 'builtins'}.{getattr(value, '__qualname__', '?')}"
        if _is_library(value):
            self._note(value)
            return name
        if id(value) not in self._known:
            parts: list[Any] = []
            self._known[id(value)] = value, name
            self._gather(value, parts, set())
            self._known[id(value)] = value, f"{getattr(value, '__qualname__', '?')} {_mark(parts)}"
        return self._known[id(value)][1]

    def _gather(self, value: Any, parts: list[Any], seen: set[int]) -> None:
        """Add the code of a value, and of whatever of the user's it uses."""
        value = _unwrapped(value)
        if id(value) in seen:
            return
        if isinstance(value, (types.FunctionType, type)) and not _is_library(value):
            seen.add(id(value))
            if isinstance(value, type):
                for base in value.__mro__:
                    if base is not value:
                        self._gather(base, parts, seen)
                for name, member in sorted(vars(value).items()):
                    if name not in _CLASS_NOISE:
                        parts.append(name)
                        self._gather(member, parts, seen)
            else:
                self._gather_function(value, parts, seen)
        elif isinstance(value, property):
            for function in (value.fget, value.fset):
                self._gather(function, parts, seen)
        else:
            described = self.value(value)
            parts.append(_ADDRESS.sub("", described) if isinstance(described, str) else described)

    def _gather_function(self, function: types.FunctionType, parts: list[Any], seen: set[int]) -> None:
        parts.append(_bytecode(function.__code__))
        for value in (function.__defaults__, function.__kwdefaults__):
            parts.append(self.value(value))
        for cell in function.__closure__ or ():
            try:
                self._gather(cell.cell_contents, parts, seen)
            except ValueError:  # not filled yet
                parts.append("empty")
        globals_, attributes = _names(function.__code__)
        for name in globals_:
            if name in function.__globals__:
                parts.append(name)
                self._gather_global(function.__globals__[name], attributes, parts, seen)

    def _gather_global(self, value: Any, names: Iterable[str], parts: list[Any], seen: set[int]) -> None:
        """A global that a function uses; of the user's own modules, what the function may take from them."""
        if not isinstance(value, types.ModuleType) or _is_library(value):
            self._gather(value, parts, seen)
            return
        for name in names:
            if hasattr(value, name):
                parts.append(name)
                self._gather_global(getattr(value, name), (), parts, seen)

    def _note(self, value: Any) -> None:
        self.packages.add(str(getattr(value, "__module__", "")).partition(".")[0])


def _state(value: Any) -> list[str]:
    """The attributes in which an object keeps its state; the private ones of the user's own classes too."""
    slots = (name for kind in type(value).__mro__ for name in _names_of(vars(kind).get("__slots__", ())))
    own = [name for name in (*getattr(value, "__dict__", {}), *slots) if hasattr(value, name)]
    if _is_library(type(value)):
        own = [name for name in own if not name.startswith("_")]
    return [name for name in own if not name.startswith("__")]


def _names_of(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple, Mapping)) and bool(tensors_in(value)))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    return value.__func__ if isinstance(value, types.MethodType) else value


def _bytecode(code: types.CodeType) -> list[Any]:
    """What runs, wherever its source lies and however it is laid out and commented."""
    constants = [
        _bytecode(one) if isinstance(one, types.CodeType) else sorted(map(repr, one)) if isinstance(one, frozenset)
        else repr(one)
        for one in code.co_consts
    ]  # fmt: skip
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames, code.co_freevars, code.co_flags]


def _names(code: types.CodeType) -> tuple[list[str], list[str]]:
    """Names of the globals that a function and its inner functions use, and of all else that they look up."""
    found = [one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"]
    others = [name for name in code.co_names if name not in found]
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            inner, more = _names(one)
            found, others = [*found, *inner], [*others, *more]
    return list(dict.fromkeys(found)), list(dict.fromkeys(others))


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    kept = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple(str(Path(path).resolve()) for path in kept)


def _is_library(value: Any) -> bool:
    """Whether a class, function or module is told by the version of an installed package, or of this one."""
    name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    if name is None or isinstance(value, (types.BuiltinFunctionType, types.BuiltinMethodType)):
        return True
    if str(name).partition(".")[0] in ("art_mtl", "builtins"):
        return True
    module = sys.modules.get(str(name))
    if module is None or module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return getattr(module, "__spec__", None) is not None and str(name) in sys.builtin_module_names
    return str(Path(file).resolve()).startswith(_library_folders())


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Distribution to version, of the packages that classes of a model and attacks come from."""
    foreign = {name for name in packages if name not in sys.stdlib_module_names} - {"art_mtl", "torch", "art", "numpy"}
    known = importlib.metadata.packages_distributions() if foreign else {}
    names = sorted({owner for name in foreign for owner in known.get(name, ())})
    return {name: importlib.metadata.version(name) for name in names}


def _array(value: Any) -> str:
    """The dtype and shape of an array, with its entries where they are few, else with a mark of them."""
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    if isinstance(value, Tensor) and value.layout is not torch.strided or tensor.is_quantized:
        return f"{value.dtype} {tuple(value.shape)} {_mark(str(value))}"
    kind = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
    if tensor.numel() <= _SHOWN:
        return f"{kind} {tensor.tolist()}"
    flat = tensor.cpu().clone(memory_format=torch.contiguous_format).flatten()  # one entry may have any stride
    return f"{kind} {hashlib.blake2b(flat.view(torch.uint8).numpy().data, digest_size=8).hexdigest()}"


def _mark(value: Any) -> str:
    """A short mark of JSON values."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()
