"""The paper's victims from their checkpoints: which of the two a file holds is told by its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from art_mtl.models.checkpoints import fit, read_state_dict
from art_mtl.models.mtan import MTAN
from art_mtl.models.split import Split

__all__ = ["NETWORKS", "load_network", "network_from_state_dict"]

_Network = type[MTAN] | type[Split]

NETWORKS: Mapping[str, _Network] = MappingProxyType({"mtan": MTAN, "split": Split})
"""By name."""

_MARKS: Mapping[str, _Network] = {"encoder_att_": MTAN, "shared_layer1_": MTAN, "shared_layer1.": Split}
_DATA = {(13, 1, 3): "NYUv2", (19, 10, 1): "Cityscapes"}


def load_network(path: str | Path, heads: Mapping[str, int]) -> MTAN | Split:
    """The network of a checkpoint, one of ours or one that Auto-Lambda trained.

    Args:
        path: A file that :func:`~art_mtl.models.read_state_dict` reads.
        heads: Output channels of each task, in the order of the decoders; see
            :data:`art_mtl.data.paper.PAPER_DATA`.

    Returns:
        The network, on the CPU, in float32 and in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If torchvision is not installed.
        ValueError: If the file is no checkpoint, is damaged, or as for :func:`network_from_state_dict`.
    """
    return network_from_state_dict(read_state_dict(path), heads, str(path))


def network_from_state_dict(
    state: Mapping[str, Tensor], heads: Mapping[str, int], source: str = "The state dict"
) -> MTAN | Split:
    """The network that a state dict belongs to, with these weights.

    Args:
        state: Key to tensor, with the names of Auto-Lambda; they are copied.
        heads: Output channels of each task, in the order of the decoders.
        source: Where the state comes from, for messages.

    Returns:
        The network, on the CPU, in float32 and in evaluation mode. Torch's random generator is not touched.

    Raises:
        ImportError: If torchvision is not installed.
        TypeError: If ``heads`` is no mapping.
        ValueError: If the keys are those of neither network, the heads have other numbers of channels, or keys are
            missing, unexpected or of another shape; the message lists them.

    Examples:
        >>> state = Split({"depth": 1}).state_dict()
        >>> type(network_from_state_dict(state, {"depth": 1})).__name__
        'Split'
    """
    kind = next((made for mark, made in _MARKS.items() if any(key.startswith(mark) for key in state)), None)
    if kind is None:
        raise ValueError(
            f"{source}: expected the weights of MTAN (keys encoder_att_…) or of Split (keys shared_layer1.…). "
            f"Found {len(state)} keys, such as {', '.join(list(state)[:4]) or 'none'}."
        )
    with torch.device("meta"):  # no time and no random numbers for weights that are replaced
        network = kind(heads)
    _check_channels(state, network.heads, source)
    network.to_empty(device="cpu")
    fit(network, state, source)
    return network.eval()


def _check_channels(state: Mapping[str, Tensor], heads: Mapping[str, int], source: str) -> None:
    """Raise if the decoders' last convolutions have other channels than the heads."""
    decoders = sorted({int(match[1]) for key in state if (match := re.match(r"decoders\.(\d+)\.", key))})
    last = [state.get(f"decoders.{number}.4.weight") for number in decoders]
    found = tuple(len(weight) for weight in last if weight is not None and weight.ndim == 4)
    expected = tuple(heads.values())
    if len(found) == len(last) > 0 and found != expected:
        raise ValueError(
            f"{source}: expected heads of channels {_describe(expected)} ({', '.join(heads)}). Found "
            f"{_describe(found)}: choose a checkpoint trained for these tasks, or the data that it was trained on."
        )


def _describe(channels: tuple[int, ...]) -> str:
    data = f", as for {_DATA[channels]}" if channels in _DATA else ""
    return f"{', '.join(map(str, channels))}{data}"
