"""The hard-parameter-sharing network: one trunk, split into one decoder a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from art_mtl.models.resnet import CHANNELS, DilatedNet, make_trunk

__all__ = ["Split"]


class Split(DilatedNet):
    """ResNet-50 that all tasks share, and one DeepLab decoder a task: :class:`~art_mtl.models.MTAN` without attention.

    The names of its weights are those of Auto-Lambda (Liu et al., TMLR 2022), so that checkpoints trained there load.
    71.9 million parameters for three heads.

    Args:
        heads: Output channels of each task, in the order of the decoders; Cityscapes: ``{"segmentation": 19, "parts":
            10, "disparity": 1}``. A head called "normals" is divided by its L2 norm.
        trunk: Weights of a ResNet-50 with torchvision's names, such as its ImageNet ones, in a local ``.pth`` or
            ``.safetensors`` file; ``fc.*`` is left out. None: random ones.

    Raises:
        ImportError: If torchvision is not installed.
        FileNotFoundError: If there is no file ``trunk``.
        TypeError: If ``heads`` is no mapping.
        ValueError: If ``heads`` is empty or a number of channels below 1, or the weights of ``trunk`` do not fit.

    Examples:
        >>> import torch
        >>> net = Split({"segmentation": 19, "parts": 10, "disparity": 1}).eval()
        >>> sum(parameter.numel() for parameter in net.parameters())
        71892062
        >>> {name: tuple(output.shape) for name, output in net(torch.zeros(1, 3, 32, 40)).items()}
        {'segmentation': (1, 19, 32, 40), 'parts': (1, 10, 32, 40), 'disparity': (1, 1, 32, 40)}
    """

    def __init__(self, heads: Mapping[str, int], *, trunk: str | Path | None = None) -> None:
        super().__init__(heads)
        self.shared_conv, *layers = make_trunk(trunk)
        for level, layer in enumerate(layers, 1):
            self.add_module(f"shared_layer{level}", layer)

    def features(self, x: Tensor) -> list[Tensor]:
        x = self.shared_conv(x)
        for level in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"shared_layer{level}")(x)
        return [x] * len(self.heads)
