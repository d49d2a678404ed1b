"""Layers that keep less for the backward pass, for models whose parameters are not trained.

PyTorch's convolution keeps its input, which only the gradient of the weights needs, and its ReLU keeps the output, of
which only the sign is needed. Outputs and input gradients are those of the layers replaced, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from art_mtl.prepared.fold import has_hooks, replace_module


class MemoryEfficientConv2d(nn.Module):
    """A convolution that keeps nothing but its weight.

    Args:
        convolution: Padded with zeros, by numbers; its parameters are not differentiated.

    Examples:
        >>> plain = nn.Conv2d(1, 2, 3).requires_grad_(False)
        >>> x = torch.rand(1, 1, 4, 4, requires_grad=True)
        >>> one, other = (torch.autograd.grad(net(x).sum(), x)[0] for net in (plain, MemoryEfficientConv2d(plain)))
        >>> torch.equal(one, other)
        True
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to what the convolution makes of it."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            plain: Tensor = self.convolution(x)
            return plain
        own = self.convolution
        memory_efficient: Tensor = _Convolve.apply(
            x, own.weight, own.bias, own.stride, own.padding, own.dilation, own.groups
        )  # type: ignore[no-untyped-call]
        return memory_efficient


class MemoryEfficientReLU(nn.Module):
    """A ReLU that keeps a byte an element."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return torch.relu(x)
        memory_efficient: Tensor = _Rectify.apply(x)  # type: ignore[no-untyped-call]
        return memory_efficient


def make_memory_efficient(model: nn.Module) -> int:
    """Replace, in place, every convolution and ReLU that has a memory_efficient form; return how many."""
    count = 0
    for module in list(model.modules()):
        if has_hooks(module) or "forward" in vars(module):
            continue
        if type(module) is nn.ReLU:
            replace_module(model, module, MemoryEfficientReLU().eval())
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            replace_module(model, module, MemoryEfficientConv2d(module).eval())
        else:
            continue
        count += 1
    return count


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.settings = x.shape, (stride, padding, dilation, groups)
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        # Only the shape of the input counts for its own gradient.
        x = gradients[0].new_empty(1).expand(ctx.shape)
        zeros = [0] * len(stride)
        gradient, _, _ = torch.ops.aten.convolution_backward(
            gradients[0], x, weight, None, stride, padding, dilation, False, zeros, groups, (True, False, False)
        )
        return gradient, None, None, None, None, None, None


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = torch.relu(x)
        # "Not at most 0" and not "above 0": PyTorch lets the gradient through a NaN.
        ctx.save_for_backward(~(output <= 0))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (passes,) = ctx.saved_tensors
        return torch.where(passes, gradients[0], 0)
