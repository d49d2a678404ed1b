"""Weights on disk: safetensors files that say where they come from, and the files of ``torch.save``."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from art_mtl.files import regular_file, whole

__all__ = [
    "fit",
    "load_checkpoint",
    "load_embedded",
    "load_weights",
    "read_metadata",
    "read_state_dict",
    "save_weights",
]

_WRAPPERS = ("model", "state_dict", "model_state_dict")
_AVERAGES = ("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema")
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel, beside the weights
_COMPILED = "_orig_mod."
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile
_LISTED = 8
_ADVICE = "Save the weights by themselves: torch.save(model.state_dict(), path)."
# What torch.load raises on a damaged file: it depends on where the damage is. A cut zip archive is a RuntimeError.
_DAMAGE = (
    RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
    MemoryError, OverflowError, zipfile.BadZipFile,
)  # fmt: skip


def save_weights(model: nn.Module, path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write a model's weights and buffers; the file appears whole or not at all.

    Args:
        model: whose ``state_dict`` to write.
        path: a ``.safetensors`` file; its folder is made if need be.
        metadata: what to record beside the weights.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole(path) as part:
        save_file(tensors, part, metadata=dict(metadata))


def read_metadata(path: str | Path) -> dict[str, str]:
    """What was recorded beside the weights of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    regular_file(path, "weights")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: expected a safetensors file. Found: {error}") from error


def load_weights(model: nn.Module, path: str | Path) -> dict[str, str]:
    """Read weights into a model.

    Args:
        model: changed in place.
        path: a ``.safetensors`` file whose keys and shapes are exactly those of the model.

    Returns:
        What was recorded beside the weights.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a safetensors file or does not fit; the message lists missing, unexpected and misshapen
            keys.

    Examples:
        >>> import tempfile
        >>> source, copy = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> path = Path(tempfile.mkdtemp()) / "linear.safetensors"
        >>> save_weights(source, path, {"seed": "0"})
        >>> load_weights(copy, path), bool((copy.weight == source.weight).all())
        ({'seed': '0'}, True)
    """
    metadata = read_metadata(path)
    fit(model, _read_safetensors(path), str(path))
    return metadata


def load_embedded(model: nn.Module, name: str) -> dict[str, str]:
    """Read the weights of a victim that comes with the package into a model.

    Args:
        model: changed in place.
        name: of the victim.

    Returns:
        What was recorded beside the weights.

    Raises:
        FileNotFoundError: If the package has no such weights.
        ValueError: If the model is another network.

    Examples:
        >>> from art_mtl.models import DigitsNet
        >>> load_embedded(DigitsNet(), "digits")["victim"]
        'digits'
    """
    with as_file(files("art_mtl.models") / "weights" / f"{name}.safetensors") as path:
        return load_weights(model, path)


def load_checkpoint(model: nn.Module, path: str | Path, *, ema: bool = False) -> None:
    """Read the weights of a checkpoint into a model, whoever trained it.

    The keys may have a prefix that wrappers, trainers and Lightning modules give them ("module.", "model.", "net.", …):
    where all keys of the model are found behind one prefix, what stands under other prefixes (a criterion, a teacher)
    is left out.

    Args:
        model: Changed in place.
        path: As of :func:`read_state_dict`.
        ema: Whether to read the moving average of the weights, where the checkpoint has one beside them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds code, is damaged, has no moving average where one is asked for, or does not fit.

    Examples:
        >>> import tempfile
        >>> source, copy = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> path = Path(tempfile.mkdtemp()) / "last.ckpt"
        >>> state = {f"net.{key}": tensor for key, tensor in source.state_dict().items()}
        >>> torch.save({"epoch": 3, "state_dict": {**state, "loss.weight": torch.ones(1)}}, path)
        >>> load_checkpoint(copy, path)
        >>> bool((copy.weight == source.weight).all())
        True
    """
    fit(model, _aligned(read_state_dict(path, ema=ema), list(model.state_dict()), path, ema), str(path))


def read_state_dict(path: str | Path, *, ema: bool = False) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU; nothing in the file is run.

    Args:
        path: A safetensors file, or one made by ``torch.save`` of a state dict; which of the two is told by its
            content. The state dict may be an entry "model", "state_dict" or "model_state_dict" of a dict. Prefixes that
            ``DistributedDataParallel`` ("module.") and ``torch.compile`` ("_orig_mod.") give to all keys are taken off.
        ema: Whether to read the moving average of the weights, an entry "ema", "ema_state_dict", "state_dict_ema" or
            "model_ema", where there is one.

    Returns:
        Key to tensor, in the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, is damaged, or holds anything but tensors.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "linear.pth"
        >>> torch.save({"epoch": 3, "model": nn.DataParallel(nn.Linear(2, 1)).state_dict()}, path)
        >>> {key: tuple(tensor.shape) for key, tensor in read_state_dict(path).items()}
        {'weight': (1, 2), 'bias': (1,)}
    """
    regular_file(path, "weights")
    with Path(path).open("rb") as file:
        head = file.read(16)
    if head[8:9] == b"{":
        return _strip(_read_safetensors(path))
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _strip(_unwrap(_read_torch(path), path, ema))
    found = f"a file that begins with {head!r}" if head else "an empty file"
    raise ValueError(
        f"{path}: expected weights, a safetensors file or one of torch.save. Found {found}; fetch or copy it again."
    )


def fit(model: nn.Module, state: Mapping[str, Tensor], source: str, what: str | None = None) -> None:
    """Copy a state dict into a model whose keys and shapes are exactly its own.

    Args:
        model: Changed in place.
        state: Key to tensor.
        source: Where the state comes from, for messages.
        what: Whose weights are expected, for messages; None for the model's class.

    Raises:
        ValueError: If anything is missing, unexpected or of another shape; the message lists up to 8 keys of each kind
            and their number. The model is left as it was.
    """
    expected = model.state_dict()
    misshapen = [
        f"{key} of shape {tuple(state[key].shape)} where {tuple(tensor.shape)} was expected"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    troubles = {
        "missing ": _shorten(key for key in expected if key not in state),
        "unexpected ": _shorten(key for key in state if key not in expected),
        "": _shorten(misshapen),
    }
    if any(troubles.values()):
        found = "; ".join(f"{kind}{keys}" for kind, keys in troubles.items() if keys)
        raise ValueError(f"{source}: expected the weights of {what or type(model).__name__}. Found {found}.")
    model.load_state_dict(state)


def _shorten(keys: Iterable[str]) -> str:
    keys = list(keys)
    listed = ", ".join(keys[:_LISTED])
    return listed if len(keys) <= _LISTED else f"{listed} and {len(keys) - _LISTED} more ({len(keys)} in all)"


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path}: expected a whole safetensors file. Found a damaged one ({error}); fetch or copy it again."
        ) from error


def _read_torch(path: str | Path) -> Any:
    try:
        _check_stored(path)
        with Path(path).open("rb") as file:  # of a path, torch.load takes the suffix for the format
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL ((?:\w+\.)*\w+)", str(error))
        if foreign is None:
            raise _damaged(path, error) from error
        raise ValueError(
            f"{path}: expected tensors alone. Found {foreign[1]}, code that reading the file would run. {_ADVICE}"
        ) from error
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _check_stored(path: str | Path) -> None:
    """Raise where a file would grow when it is read: torch.save compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which torch.save never does")


def _damaged(path: str | Path, error: Exception) -> ValueError:
    own = re.search(r"WeightsUnpickler error: (.+)", str(error))  # behind advice to read the file unsafely
    text = own[1] if own else str(error).strip() or type(error).__name__
    reason = text.splitlines()[0].split(". ")[0][:200]
    return ValueError(
        f"{path}: expected a whole file of torch.save. Found a damaged one ({reason}); fetch or copy it again."
    )


def _aligned(state: Mapping[str, Tensor], expected: Sequence[str], path: str | Path, ema: bool) -> Mapping[str, Tensor]:
    """A state dict without the prefix behind which it has all keys of a model.

    Raises:
        ValueError: There are several such prefixes.
    """
    state = {key.replace(_COMPILED, ""): tensor for key, tensor in state.items() if key != _COUNTER}
    if not expected or set(expected) <= set(state):
        return state
    ends = (key.removesuffix(expected[0]) for key in state if key.endswith(f".{expected[0]}"))
    prefixes = [prefix for prefix in dict.fromkeys(ends) if all(prefix + key in state for key in expected)]
    chosen = [prefix for prefix in prefixes if ("ema" in re.split(r"[._]", prefix)) == ema] or prefixes
    if len(chosen) > 1:
        raise ValueError(
            f"{path}: expected the weights of one model. Found them behind {', '.join(map(repr, chosen))}."
        )
    if not chosen:
        return state
    return {key.removeprefix(chosen[0]): tensor for key, tensor in state.items() if key.startswith(chosen[0])}


def _unwrap(loaded: Any, path: str | Path, ema: bool) -> dict[str, Tensor]:
    """The state dict in what ``torch.load`` gave."""
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path}: expected a state dict. Found a {type(loaded).__name__}. {_ADVICE}")
    averages = [loaded[key] for key in _AVERAGES if isinstance(loaded.get(key), Mapping)]
    if ema and averages:
        loaded = averages[0]
    wrapped = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if ema and not averages and not any("ema" in re.split(r"[._]", str(key)) for key in wrapped):
        raise ValueError(
            f"{path}: expected a moving average, an entry {', '.join(_AVERAGES)}. Found {list(loaded)[:8]}."
        )
    if not wrapped:
        raise ValueError(f"{path}: expected a state dict. Found an empty one. {_ADVICE}")
    foreign = [f"{key!r} ({type(value).__name__})" for key, value in wrapped.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ValueError(
            f"{path}: expected a state dict, tensors by name, alone or as an entry {', '.join(map(repr, _WRAPPERS))}. "
            f"Found {_shorten(foreign)}. {_ADVICE}"
        )
    return {str(key): value for key, value in wrapped.items()}


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that wrappers of a module give to all of its keys."""
    for prefix in _PREFIXES * 2:  # a compiled module may be wrapped, a wrapped one compiled
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
