"""Mirroring, enlarging and cropping images together with their labels.

What a task's labels need goes by its name: ``normals`` change the sign of x when mirrored, ``depth`` shrinks and
``disparity`` grows when the image is enlarged, everything else stays as it is. Labels of ``flip`` may be boxes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["augment", "flip"]

_NOT_MEASURED = -1.0  # in disparities


Label = TypeVar("Label")


def flip(x: Tensor, labels: Mapping[str, Label], which: Tensor) -> tuple[Tensor, dict[str, Label]]:
    """Mirror some scenes left to right, with their labels.

    Args:
        x: images (B, C, H, W).
        labels: by task, arrays whose last axis is the image's width; of ``normals`` the x component changes its sign.
            Or one dict per scene, of which ``boxes`` (M, 4) are corners x1, y1, x2, y2 in pixels.
        which: (B,) bool, the scenes to mirror.

    Returns:
        New images and labels.

    Examples:
        >>> _, flipped = flip(torch.zeros(1, 3, 1, 2), {"depth": torch.tensor([[[[1.0, 2.0]]]])}, torch.tensor([True]))
        >>> flipped["depth"]
        tensor([[[[2., 1.]]]])
    """

    def mirror(array: Any) -> Any:
        if not isinstance(array, Tensor):
            return [_mirrored(row, x.shape[-1]) if here else row for row, here in zip(array, which, strict=True)]
        mask = which.view(-1, *[1] * (array.ndim - 1))
        return torch.where(mask, array.flip(-1), array)

    flipped = {name: mirror(label) for name, label in labels.items()}
    if "normals" in flipped:
        sign = torch.ones_like(flipped["normals"])
        sign[which, 0] = -1
        flipped["normals"] = flipped["normals"] * sign
    return mirror(x), flipped


def _mirrored(row: Mapping[str, Tensor], width: int) -> dict[str, Tensor]:
    """The boxes of one scene in its mirror image."""
    left, top, right, bottom = row["boxes"].unbind(1)
    return {**row, "boxes": torch.stack([width - right, top, width - left, bottom], 1)}


def augment(
    image: Tensor,
    labels: Mapping[str, Tensor],
    *,
    scales: Sequence[float],
    crop: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Enlarge one sample by a random factor, cut a random part out of it, and mirror it half of the time.

    Only the part that is cut out is enlarged, which comes to the same: it is the window of crop / scale pixels, resized
    to ``crop``, the image by bilinear interpolation (pixel centres at half integers), labels to the nearest pixel.
    ``depth`` is divided by the scale and ``disparity`` multiplied, as if the camera had come nearer; what was not
    measured (0 and -1) stays marked.

    Args:
        image: (C, H, W), floats.
        labels: by task, tensors whose last two axes are (H, W).
        scales: factors of at least 1, one of which is drawn.
        crop: (height, width) of the result.
        generator: the only source of chance; four numbers are drawn, whatever happens.

    Returns:
        The new image (C, *crop) and labels (..., *crop).

    Raises:
        ValueError: If a scale is below 1, or the crop larger than the image.

    Examples:
        >>> image, depth = torch.zeros(3, 6, 8), torch.full((1, 6, 8), 3.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> image, labels = augment(image, {"depth": depth}, scales=[1.5], crop=(6, 8), generator=generator)
        >>> tuple(image.shape), labels["depth"].unique()
        ((3, 6, 8), tensor([2.]))
    """
    height, width = image.shape[-2:]
    if not scales or min(scales) < 1:
        raise ValueError(f"Parameter `scales` should be factors of at least 1. Found {tuple(scales)!r}.")
    if not (1 <= crop[0] <= height and 1 <= crop[1] <= width):
        raise ValueError(f"Parameter `crop` should be at most the image's size, {(height, width)}. Found {crop!r}.")
    chance = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
    scale = scales[int(chance[0] * len(scales))]
    rows, columns = (max(1, round(side / scale)) for side in crop)
    top, left = int(chance[1] * (height - rows + 1)), int(chance[2] * (width - columns + 1))

    def cut(array: Tensor) -> Tensor:
        return array[..., top : top + rows, left : left + columns]

    picture = functional.interpolate(cut(image)[None], crop, mode="bilinear", align_corners=False)
    scaled = {name: _scale(name, _nearest(cut(label), crop), scale)[None] for name, label in labels.items()}
    picture, scaled = flip(picture, scaled, torch.tensor([chance[3] < 0.5]))
    return picture[0], {name: label[0] for name, label in scaled.items()}


def _nearest(array: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the last two axes by taking the nearest pixel."""
    rows, columns = (
        ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new).long()
        for new, old in zip(size, array.shape[-2:], strict=True)
    )
    return array[..., rows[:, None], columns]


def _scale(name: str, label: Tensor, scale: float) -> Tensor:
    if name == "depth":
        return label / scale
    if name == "disparity":
        return torch.where(label == _NOT_MEASURED, label, label * scale)
    return label
