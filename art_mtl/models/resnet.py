"""What MTAN and Split share: a dilated ResNet-50, DeepLab decoders, outputs at the size of the input.

ResNet and decoder are torchvision's, an optional package: ``pip install '.[models]'``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn
from torch.nn import functional

from art_mtl.models.checkpoints import fit, read_state_dict
from art_mtl.precision import widen

__all__ = ["CHANNELS", "DilatedNet", "bottleneck", "make_trunk"]

CHANNELS = (256, 512, 1024, 2048)
"""Of the trunk's four levels."""
_TINY = 1e-24
"""Least squared length by which a normal is divided."""


class DilatedNet(nn.Module):
    """Base of the paper's victims: one decoder a task on features at 1/8 of the input's size.

    Args:
        heads: Output channels of each task, in the order of the decoders. The head called "normals" is divided by its
            L2 norm.

    Raises:
        ImportError: If torchvision is not installed.
        TypeError: If ``heads`` is no mapping.
        ValueError: If ``heads`` is empty, or a number of channels is below 1.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        super().__init__()
        self.heads = _check_heads(heads)
        self.decoders = nn.ModuleList(_decoder(channels) for channels in self.heads.values())

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor]:
        """One ``(B, 2048, ⌈H/8⌉, ⌈W/8⌉)`` a task, from images ``(B, 3, H, W)``."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Raw outputs of all tasks.

        Args:
            x: ``(B, 3, H, W)`` in [-1, 1].

        Returns:
            Task to ``(B, channels, H, W)``, enlarged bilinearly with aligned corners; in float32 or float64, also where
            the network computes in half precision.

        Raises:
            ValueError: If ``x`` has another shape, or holds a single image in training mode.
        """
        self._check_input(x)
        outputs = {}
        for name, decoder, features in zip(self.heads, self.decoders, self.features(x), strict=True):
            output = _enlarge(decoder(features), x)
            outputs[name] = _unit(output) if name == "normals" else output
        return outputs

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"{type(self).__name__} takes images of shape (B, 3, H, W). Found {tuple(x.shape)}.")
        pooled = (decoder.get_submodule("0.convs.4.2") for decoder in self.decoders)
        # SyncBatchNorm counts the images of other processes too.
        if len(x) == 1 and any(norm.training and not isinstance(norm, nn.SyncBatchNorm) for norm in pooled):
            raise ValueError(
                f"{type(self).__name__} takes at least 2 images a batch in training mode: its decoders pool each image "
                "to one value a channel, and one value has no variance to normalise by. Found 1. Make batches larger, "
                "drop a last batch of 1 (drop_last=True), or put the network into evaluation mode."
            )


def make_trunk(path: str | Path | None = None) -> list[nn.Sequential]:
    """torchvision's ResNet-50 with output stride 8, in five parts: the stem and the four levels.

    The strides of the last two levels are 1; their 3x3 convolutions are dilated by 1, then 2, and by 2, then 4.

    Args:
        path: Weights with torchvision's names (``fc.*`` is left out), such as its ImageNet ones, from a local file that
            :func:`~art_mtl.models.read_state_dict` reads; None for torchvision's random ones.

    Raises:
        ImportError: If torchvision is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If the weights do not fit; the message lists the keys.
    """
    resnet: nn.Module = _torchvision().resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    resnet.fc = nn.Identity()
    if path is not None:
        state = {key: tensor for key, tensor in read_state_dict(path).items() if not key.startswith("fc.")}
        fit(resnet, state, str(path), "a ResNet-50 with torchvision's names")
    parts = dict(resnet.named_children())
    stem = nn.Sequential(*(parts[name] for name in ("conv1", "bn1", "relu", "maxpool")))
    return [stem, *(nn.Sequential(*parts[f"layer{level}"].children()) for level in range(1, len(CHANNELS) + 1))]


def bottleneck(inputs: int, outputs: int) -> nn.Module:
    """torchvision's residual block of stride 1, its shortcut a 1x1 convolution with batch normalisation."""
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    block = _torchvision().resnet.Bottleneck
    made: nn.Module = block(inputs, outputs // block.expansion, downsample=shortcut)
    return made


def _decoder(channels: int) -> nn.Module:
    """torchvision's DeepLab head: ASPP of rates 12, 24, 36, a 3x3 and a 1x1 convolution; without its dropout."""
    head: nn.Module = _torchvision().segmentation.deeplabv3.DeepLabHead(CHANNELS[-1], channels, (12, 24, 36))
    project = head.get_submodule("0.project")
    for name, module in list(project.named_children()):
        if isinstance(module, nn.Dropout):
            delattr(project, name)
    return head


def _torchvision() -> ModuleType:
    try:
        import torchvision.models
    except ImportError as error:
        raise ImportError("MTAN and Split need torchvision's ResNet-50: pip install '.[models]'") from error
    models: ModuleType = torchvision.models
    return models


def _check_heads(heads: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(heads, Mapping):
        raise TypeError(f"Parameter `heads` should map task names to channels. Found {type(heads).__name__}.")
    usable = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in heads.values())
    if not heads or not usable:
        raise ValueError(f"Parameter `heads` should map at least one task name to 1 or more channels. Found {heads}.")
    return dict(heads)


def _enlarge(output: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(widen(output), size=like.shape[-2:], mode="bilinear", align_corners=True)


def _unit(v: Tensor) -> Tensor:
    return v / v.square().sum(1, keepdim=True).clamp(min=_TINY).sqrt()
