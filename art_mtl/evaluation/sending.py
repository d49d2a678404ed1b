"""What a worker is sent: model, attacks and data, as bytes that another process, on another host, can read."""

from __future__ import annotations

import io
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["pack"]


def pack(cloudpickle: ModuleType, whole: Any, parts: Mapping[str, Any]) -> bytes:
    """Pickle something.

    Classes and functions of the user's own files travel with it. Tensors of any GPU go to the first one that the worker
    sees. A :class:`numpy.memmap` is opened anew by its path, which must lead to the same file on every host.

    Args:
        cloudpickle: The pickler of functions and classes.
        whole: What to send.
        parts: What it is made of, by names for people.

    Raises:
        ValueError: Some part cannot be sent; the message names it, and says what to do.
    """
    with _by_value(cloudpickle):
        try:
            return _pickled(cloudpickle, whole)
        except Exception as error:  # of whatever kind an object raises that cannot be pickled
            for name, part in parts.items():
                try:
                    _pickled(cloudpickle, part)
                except Exception as reason:
                    raise ValueError(
                        f"{name.capitalize()} should be something that other processes can be sent, for which it is "
                        f"pickled. Found that it cannot be: {reason} Where it holds an open file, such as one of HDF5, "
                        "let its class open it at the first access and leave it out of __getstate__."
                    ) from reason
            raise ValueError(f"A run should be something that other processes can be sent. Found: {error}") from error


def _pickled(cloudpickle: ModuleType, value: Any) -> bytes:
    class Pickler(cloudpickle.Pickler):  # type: ignore[misc, name-defined]
        def reducer_override(self, value: Any) -> Any:
            reduced = _reduced(value)
            return super().reducer_override(value) if reduced is None else reduced

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def _reduced(value: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """How to make a value again, where its own way will not do on another host."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device, ("cuda", 0)
    if isinstance(value, torch.Tensor) and value.is_cuda:
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return _first_gpu, (buffer.getvalue(),)
    return _mapped(value) if isinstance(value, np.ndarray) else None


def _first_gpu(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cuda:0", weights_only=False)


def _mapped(array: npt.NDArray[Any]) -> tuple[Any, tuple[Any, ...]] | None:
    """An array that lies in a file, by its place there; None for others."""
    origin: Any = array
    while isinstance(origin.base, np.ndarray):
        origin = origin.base
    on_disk = isinstance(origin, np.memmap) and origin.filename is not None and origin.mode != "c"
    if not on_disk or not array.flags.c_contiguous or not array.size:
        return None
    start = origin.offset + array.ctypes.data - origin.ctypes.data
    return _opened, (str(origin.filename), array.dtype, start, array.shape)


def _opened(path: str, dtype: Any, offset: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.memmap(path, dtype, "r", offset, shape)


@contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    """While it lasts, what stands in the user's own files is pickled with its code: workers cannot import it."""
    modules = _own_modules()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules() -> list[ModuleType]:
    """Modules that are neither of an installed package, nor of Python, nor of this one."""
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = []
    for name, module in list(sys.modules.items()):
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        if file is None or name != module.__name__ or name.partition(".")[0] in ("art_mtl", "__main__"):
            continue
        path = Path(file).resolve()
        if not any(path.is_relative_to(folder) for folder in installed) and "dist-packages" not in path.parts:
            own.append(module)
    return own
