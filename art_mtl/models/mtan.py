"""The multi-task attention network: the paper's victim."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from art_mtl.models.resnet import CHANNELS, DilatedNet, bottleneck, make_trunk

__all__ = ["MTAN"]


class MTAN(DilatedNet):
    """ResNet-50 with one soft attention mask a task and level (Liu, Johns & Davison, "End-to-End Multi-Task Learning
    with Attention", CVPR 2019), and DeepLab decoders.

    The layout and the names of its weights are those of Auto-Lambda (Liu et al., TMLR 2022), so that checkpoints
    trained there load. At each level a task's mask is computed from the output of all blocks but the last, beside the
    task's own features of the level before, and multiplied onto the output of the last block. 92.3 million parameters
    for three heads.

    Args:
        heads: Output channels of each task, in the order of the decoders; NYUv2: ``{"segmentation": 13, "depth": 1,
            "normals": 3}``. The head called "normals" is divided by its L2 norm.
        trunk: Weights of a ResNet-50 with torchvision's names, such as its ImageNet ones, in a local ``.pth`` or
            ``.safetensors`` file; ``fc.*`` is left out. None: random ones.

    Raises:
        ImportError: If torchvision is not installed.
        FileNotFoundError: If there is no file ``trunk``.
        TypeError: If ``heads`` is no mapping.
        ValueError: If ``heads`` is empty or a number of channels below 1, or the weights of ``trunk`` do not fit.

    Examples:
        >>> net = MTAN({"segmentation": 13, "depth": 1, "normals": 3}).eval()
        >>> sum(parameter.numel() for parameter in net.parameters())
        92347921
        >>> {name: tuple(output.shape) for name, output in net(torch.zeros(1, 3, 32, 40)).items()}
        {'segmentation': (1, 13, 32, 40), 'depth': (1, 1, 32, 40), 'normals': (1, 3, 32, 40)}
    """

    def __init__(self, heads: Mapping[str, int], *, trunk: str | Path | None = None) -> None:
        super().__init__(heads)
        self.shared_conv, *layers = make_trunk(trunk)
        for level, (layer, channels) in enumerate(zip(layers, CHANNELS, strict=True), 1):
            inputs = channels if level == 1 else 2 * channels
            masks = nn.ModuleList(_attention(inputs, channels) for _ in self.heads)
            self.add_module(f"shared_layer{level}_b", layer[:-1])
            self.add_module(f"shared_layer{level}_t", layer[-1])
            self.add_module(f"encoder_att_{level}", masks)
        for level, (inputs, outputs) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False), 1):
            self.add_module(f"encoder_block_att_{level}", bottleneck(inputs, outputs))
        # Rounds up as the trunk's strides do, so that images of any size pass.
        self.down_sampling = nn.MaxPool2d(2, ceil_mode=True)

    def features(self, x: Tensor) -> list[Tensor]:
        x = self.shared_conv(x)
        attended: list[Tensor] = []
        for level in range(1, len(CHANNELS) + 1):
            before = self.get_submodule(f"shared_layer{level}_b")(x)
            x = self.get_submodule(f"shared_layer{level}_t")(before)
            masks = self.get_submodule(f"encoder_att_{level}").children()
            seen = [torch.cat([before, own], 1) for own in attended] or [before] * len(self.heads)
            attended = [mask(s) * x for mask, s in zip(masks, seen, strict=True)]
            if level < len(CHANNELS):
                block = self.get_submodule(f"encoder_block_att_{level}")
                attended = [block(own) for own in attended]
            if level == 1:
                attended = [self.down_sampling(own) for own in attended]
        return attended


def _attention(inputs: int, channels: int) -> nn.Sequential:
    """A mask in (0, 1) for each channel and place."""
    hidden = channels // 4
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, channels, 1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )
