"""Weights on disk: safetensors files that say where they come from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import nn

__all__ = ["load_weights", "read_metadata", "save_weights"]


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=dict(metadata))
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)  # mkstemp's files are private, results are not
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_metadata(path: str | Path) -> dict[str, str]:
    """What was recorded beside the weights of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"Expected weights in {path}. Found no such file.")
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
    from safetensors.torch import load_file

    metadata = read_metadata(path)
    found = load_file(path)
    expected = model.state_dict()
    troubles = [f"missing {key}" for key in expected if key not in found]
    troubles += [f"unexpected {key}" for key in found if key not in expected]
    troubles += [
        f"{key} of shape {tuple(found[key].shape)} where {tuple(tensor.shape)} was expected"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    if troubles:
        raise ValueError(f"{path}: expected the weights of a {type(model).__name__}. Found {'; '.join(troubles)}.")
    model.load_state_dict(found)
    return metadata
