"""Small multi-task networks: cheap enough to attack on a laptop, good enough to be worth attacking."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DigitsNet", "MultiLabelNet", "RoomsDetectionNet", "RoomsNet"]


def _block(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _block(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class _Digits(nn.Module):
    """A convolutional trunk for 28x28 canvases with the heads ``left``, a second one of ten logits, and ``sum``."""

    def __init__(self, second: str) -> None:
        super().__init__()
        self.second = second
        self.trunk = nn.Sequential(
            _block(1, 24),
            _block(24, 32, stride=2),
            _block(32, 32),
            _block(32, 64, stride=2),
            _Residual(64),
            _block(64, 24, kernel=1),
            nn.Flatten(),
        )
        self.left = self._head(10)
        self.add_module(second, self._head(10))
        self.sum = self._head(1)

    @staticmethod
    def _head(outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(24 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, outputs))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Raw outputs of the three tasks."""
        features = self.trunk(x)
        second = self.get_submodule(self.second)(features)
        return {"left": self.left(features), self.second: second, "sum": self.sum(features) + 9}


class DigitsNet(_Digits):
    """A convolutional trunk with three heads for :class:`art_mtl.data.MultiDigits`.

    Input: (B, 1, 28, 28) in [0, 1]. Output: a dict of logits ``left`` (B, 10) and ``right`` (B, 10) and of ``sum``
    (B, 1), in the unit of the digits. 0.3 million parameters.

    Examples:
        >>> import torch
        >>> outputs = DigitsNet()(torch.zeros(2, 1, 28, 28))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'left': (2, 10), 'right': (2, 10), 'sum': (2, 1)}
    """

    def __init__(self) -> None:
        super().__init__("right")


class MultiLabelNet(_Digits):
    """The same with a multi-label head, for :class:`art_mtl.data.MultiLabelDigits`.

    Input: (B, 1, 28, 28) in [0, 1]. Output: a dict of logits ``left`` (B, 10) and ``present`` (B, 10), one a digit, and
    of ``sum`` (B, 1), in the unit of the digits. 0.3 million parameters.

    Examples:
        >>> import torch
        >>> outputs = MultiLabelNet()(torch.zeros(2, 1, 28, 28))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'left': (2, 10), 'present': (2, 10), 'sum': (2, 1)}
    """

    def __init__(self) -> None:
        super().__init__("present")


class RoomsNet(nn.Module):
    """A small encoder-decoder with three dense heads for indoor scenes.

    Input: (B, 3, H, W) in [-1, 1] of any size from 16x16 up. Output: a dict, everything bilinearly enlarged to
    (H, W), of

    - ``segmentation``: logits (B, num_classes, H, W),
    - ``depth``: (B, 1, H, W), positive, in metres,
    - ``normals``: (B, 3, H, W), of unit length.

    0.5 million parameters, 0.24 GFLOP forward at 96x128.

    Args:
        num_classes: number of classes, at least 2.

    Raises:
        ValueError: If ``num_classes`` is below 2.

    Examples:
        >>> import torch
        >>> outputs = RoomsNet(num_classes=13).eval()(torch.zeros(1, 3, 50, 70))
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'segmentation': (1, 13, 50, 70), 'depth': (1, 1, 50, 70), 'normals': (1, 3, 50, 70)}
    """

    def __init__(self, num_classes: int = 13) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"Parameter `num_classes` should be at least 2. Found {num_classes!r}.")
        self.num_classes = num_classes
        self.encode_2 = nn.Sequential(_block(3, 16, stride=2), _block(16, 16))
        self.encode_4 = nn.Sequential(_block(16, 32, stride=2), _Residual(32))
        self.encode_8 = nn.Sequential(_block(32, 64, stride=2), _Residual(64))
        self.encode_16 = nn.Sequential(_block(64, 112, stride=2), _Residual(112))
        self.context = nn.Linear(112, 112)
        self.to_8 = _block(112, 64, kernel=1)
        self.decode_8 = _Residual(64)
        self.to_4 = _block(64, 32, kernel=1)
        self.decode_4 = _Residual(32)
        self.to_2 = _block(32, 24, kernel=1)
        self.skip_2 = _block(16, 24, kernel=1)
        self.segmentation = self._head(num_classes)
        self.depth = self._head(1)
        self.normals = self._head(3)

    @staticmethod
    def _head(outputs: int) -> nn.Sequential:
        return nn.Sequential(_block(24, 16), nn.Conv2d(16, outputs, 1))

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Raw outputs of the three tasks at the size of the input."""
        return self._dense(x, *self._features(x))

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads share, at a half, a quarter and an eighth of the input's size: 16, 32 and 64 channels."""
        half = self.encode_2(x)
        quarter = self.encode_4(half)
        eighth = self.encode_8(quarter)
        deep = self.encode_16(eighth)
        # The room as a whole tells how far its walls are; a small receptive field cannot.
        deep = functional.relu(deep + self.context(deep.mean(dim=(2, 3)))[:, :, None, None])
        eighth = self.decode_8(eighth + _enlarge(self.to_8(deep), eighth))
        quarter = self.decode_4(quarter + _enlarge(self.to_4(eighth), quarter))
        return half, quarter, eighth

    def _dense(self, x: Tensor, half: Tensor, quarter: Tensor, eighth: Tensor) -> dict[str, Any]:
        """The outputs that are maps."""
        shared = self.skip_2(half) + _enlarge(self.to_2(quarter), half)
        return {
            "segmentation": _enlarge(self.segmentation(shared), x),
            "depth": functional.softplus(_enlarge(self.depth(shared), x) + 3),
            "normals": functional.normalize(_enlarge(self.normals(shared), x), dim=1, eps=1e-6),
        }


class RoomsDetectionNet(RoomsNet):
    """:class:`RoomsNet` with a fourth head, which detects objects without anchors.

    The head is that of FCOS (Tian et al., ICCV 2019) on one level of features, without centre-ness: each cell of 4x4
    pixels is a candidate, with a logit for each class and the distances from its middle to the four sides of a box.

    Input: (B, 3, H, W) in [-1, 1] of any size from 16x16 up. Output: that of :class:`RoomsNet` and ``detection``, a
    dict of ``boxes`` (B, A, 4), corners x1, y1, x2, y2 in pixels, and ``logits`` (B, A, num_things), for the
    A = ⌈H/4⌉ · ⌈W/4⌉ cells row by row.

    0.6 million parameters, 0.36 GFLOP forward at 96x128.

    Args:
        num_classes: number of classes of the segmentation, at least 2.
        num_things: number of classes of the objects, at least 1.

    Raises:
        ValueError: If a number is too small.

    Examples:
        >>> import torch
        >>> outputs = RoomsDetectionNet(num_classes=13, num_things=8).eval()(torch.zeros(1, 3, 32, 40))
        >>> {name: tuple(output.shape) for name, output in outputs["detection"].items()}
        {'boxes': (1, 80, 4), 'logits': (1, 80, 8)}
    """

    stride: ClassVar[int] = 4

    def __init__(self, num_classes: int = 13, num_things: int = 8) -> None:
        super().__init__(num_classes)
        if num_things < 1:
            raise ValueError(f"Parameter `num_things` should be at least 1. Found {num_things!r}.")
        self.tower = nn.Sequential(_block(32 + 64, 64, kernel=1), _Residual(64))
        self.things = nn.Conv2d(64, num_things, 1)
        self.sides = nn.Conv2d(64, 4, 1)
        nn.init.constant_(self.things.get_parameter("bias"), -4.6)  # scores of 0.01, since most cells are of no object

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Raw outputs of the four tasks."""
        half, quarter, eighth = self._features(x)
        features = self.tower(torch.cat([quarter, _enlarge(eighth, quarter)], 1))
        sides = self.sides(features).flatten(2).mT.clamp(max=5).exp() * (2 * self.stride)
        centres = cell_centres(quarter.shape[-2], quarter.shape[-1], self.stride).to(sides)
        boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], 2)
        detection = {"boxes": boxes, "logits": self.things(features).flatten(2).mT}
        return {**self._dense(x, half, quarter, eighth), "detection": detection}


def cell_centres(rows: int, columns: int, stride: int) -> Tensor:
    """The middle of each cell of a map of features, row by row, in pixels of the image: x and y, (rows * columns, 2).

    Examples:
        >>> cell_centres(1, 2, stride=4)
        tensor([[2., 2.],
                [6., 2.]])
    """
    x, y = ((torch.arange(count) + 0.5) * stride for count in (columns, rows))
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], 1)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
