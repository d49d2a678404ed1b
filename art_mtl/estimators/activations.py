"""The output of one layer in the middle of a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def layer_name(layer: Any, names: Sequence[str]) -> str:
    """The name of a layer.

    Args:
        layer: A name, or an index in ``names``.
        names: Names of all submodules.

    Raises:
        TypeError: ``layer`` is neither.
        ValueError: There is no such layer.

    Examples:
        >>> layer_name(1, ["body", "head"])
        'head'
    """
    if isinstance(layer, bool) or not isinstance(layer, (int, np.integer, str)):
        raise TypeError(f"Parameter `layer` should be a name or an index. Found {type(layer).__name__}.")
    if isinstance(layer, str):
        if layer not in names:
            raise ValueError(f"Parameter `layer` should be one of {list(names)}. Found {layer!r}.")
        return layer
    if not 0 <= layer < len(names):
        raise ValueError(f"Parameter `layer` should be an index in [0, {len(names) - 1}]. Found {layer}.")
    return names[int(layer)]


@contextmanager
def layer_output(model: torch.nn.Module, name: str) -> Iterator[Callable[[Callable[[], object]], Tensor]]:
    """A function that runs something and returns what the layer put out meanwhile, the last if it ran several times.

    What the model does in other threads does not count.

    Args:
        model: Holds the layer.
        name: Name of the layer.

    Raises:
        ValueError: By the function: the layer did not run, or put out something else than a tensor.

    Examples:
        >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten())
        >>> with layer_output(net, "0") as seen:
        ...     seen(lambda: net(torch.tensor([[-1.0, 2.0]])))
        tensor([[0., 2.]])
    """
    captured: list[Any] = []
    thread = threading.get_ident()

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            # A copy, as a following in-place layer would overwrite it.
            captured[:] = [output.clone() if isinstance(output, Tensor) else output]

    def seen(run: Callable[[], object]) -> Tensor:
        captured.clear()
        run()
        if not captured or not isinstance(captured[0], Tensor):
            found = type(captured[0]).__name__ if captured else "a layer that the model does not run"
            raise ValueError(f"Layer {name!r} should output a tensor. Found {found}.")
        return captured[0]

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
