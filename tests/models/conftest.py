"""The layout of Auto-Lambda's checkpoints, from its naming rule and the sizes of ResNet-50 alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

Shapes = dict[str, tuple[int, ...]]


def _conv(name: str, outputs: int, inputs: int, kernel: int = 1, bias: bool = False) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel)} | ({f"{name}.bias": (outputs,)} if bias else {})


def _norm(name: str, channels: int) -> Shapes:
    per_channel = {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}
    return per_channel | {f"{name}.num_batches_tracked": ()}


def _bottleneck(name: str, inputs: int, width: int, downsample: bool) -> Shapes:
    shapes = _conv(f"{name}.conv1", width, inputs) | _norm(f"{name}.bn1", width)
    shapes |= _conv(f"{name}.conv2", width, width, 3) | _norm(f"{name}.bn2", width)
    shapes |= _conv(f"{name}.conv3", 4 * width, width) | _norm(f"{name}.bn3", 4 * width)
    if downsample:
        shapes |= _conv(f"{name}.downsample.0", 4 * width, inputs) | _norm(f"{name}.downsample.1", 4 * width)
    return shapes


def _decoder(name: str, channels: int) -> Shapes:
    shapes: Shapes = {}
    for branch, kernel in enumerate((1, 3, 3, 3, 1)):
        at = 1 if branch == 4 else 0  # the pooling branch begins with the pooling
        shapes |= _conv(f"{name}.0.convs.{branch}.{at}", 256, 2048, kernel)
        shapes |= _norm(f"{name}.0.convs.{branch}.{at + 1}", 256)
    shapes |= _conv(f"{name}.0.project.0", 256, 5 * 256) | _norm(f"{name}.0.project.1", 256)
    shapes |= _conv(f"{name}.1", 256, 256, 3) | _norm(f"{name}.2", 256)
    return shapes | _conv(f"{name}.4", channels, 256, bias=True)


def _attention(name: str, inputs: int, channels: int) -> Shapes:
    shapes = _conv(f"{name}.0", channels // 4, inputs, bias=True) | _norm(f"{name}.1", channels // 4)
    return shapes | _conv(f"{name}.3", channels, channels // 4, bias=True) | _norm(f"{name}.4", channels)


def _layout(kind: str, channels: Sequence[int]) -> Shapes:
    """Key to shape of every tensor of "mtan" or "split"."""
    shapes = _conv("shared_conv.0", 64, 3, 7) | _norm("shared_conv.1", 64)
    inputs = 64
    for level, blocks in enumerate((3, 4, 6, 3), 1):
        width = 64 * 2 ** (level - 1)
        for block in range(blocks):
            name = f"shared_layer{level}.{block}"
            if kind == "mtan":
                name = f"shared_layer{level}_b.{block}" if block < blocks - 1 else f"shared_layer{level}_t"
            shapes |= _bottleneck(name, inputs, width, downsample=block == 0)
            inputs = 4 * width
        for task in range(len(channels) if kind == "mtan" else 0):
            shapes |= _attention(f"encoder_att_{level}.{task}", inputs if level == 1 else 2 * inputs, inputs)
        if kind == "mtan" and level < 4:
            shapes |= _bottleneck(f"encoder_block_att_{level}", inputs, inputs // 2, downsample=True)
    for task, number in enumerate(channels):
        shapes |= _decoder(f"decoders.{task}", number)
    return shapes


@pytest.fixture(scope="session")
def layout() -> Callable[[str, Sequence[int]], Shapes]:
    return _layout
