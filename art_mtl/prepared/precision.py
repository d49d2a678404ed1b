"""Half precision inside, full precision outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from art_mtl.structure import map_tensors, tensors_in


def narrow(model: nn.Module, dtype: torch.dtype) -> None:
    """Weights and buffers to ``dtype``, in place, but for the batch norms that are left."""
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.float()


class Scaling:
    """Keeps fp16 gradients in range: scaled on entering the network's backward pass, and back on leaving it.

    Each sample's gradient in the outputs is brought to a greatest entry of 1, by a power of two, which loses nothing.
    """

    def __init__(self) -> None:
        self.scale: Tensor | None = None

    def enter(self, x: Tensor) -> Tensor:
        """Inputs ``(B, ...)``, in full precision."""
        scaled: Tensor = _Unscale.apply(x, self)  # type: ignore[no-untyped-call]
        return scaled

    def leave(self, outputs: Any, samples: int) -> Any:
        """Outputs of the network, in full precision.

        Raises:
            ValueError: An output has not one entry for each of ``samples``.
        """
        tensors = [tensor for tensor in tensors_in(outputs) if tensor.requires_grad]
        for tensor in tensors:
            if tensor.ndim == 0 or len(tensor) != samples:
                raise ValueError(
                    f"A model in 'fp16' should return one entry for each of {samples} samples. "
                    f"Found shape {tuple(tensor.shape)}."
                )
        if not tensors:
            return outputs
        scaled = dict(zip(map(id, tensors), _Scale.apply(self, *tensors), strict=True))  # type: ignore[no-untyped-call]
        return map_tensors(outputs, lambda tensor: scaled.get(id(tensor), tensor))


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scaling: Scaling, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.scaling = scaling
        ctx.set_materialize_grads(False)
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        greatest = torch.stack([g.abs().flatten(1).amax(1) for g in gradients if g is not None]).amax(0)
        usable = torch.isfinite(greatest) & (greatest > 0)
        power = torch.where(usable, greatest, torch.ones_like(greatest)).log2().floor().clamp(-100, 100)
        ctx.scaling.scale = torch.exp2(-power)
        return None, *(None if g is None else g * _each(ctx.scaling.scale, g) for g in gradients)


class _Unscale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scaling: Scaling) -> Tensor:
        ctx.scaling = scaling
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        scale = ctx.scaling.scale
        return gradients[0] / _each(scale, gradients[0]), None


def _each(values: Tensor, like: Tensor) -> Tensor:
    """One value a sample, broadcastable to ``like``."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
