"""Batch norms folded into the convolutions before them.

In evaluation mode a batch norm is a scale and a shift for each channel, which the convolution can do with other
weights. Pairs are found by watching one forward pass: not the names or the order of modules count but what really feeds
what, so that networks fold whose ``forward`` cannot be traced symbolically.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from art_mtl.structure import arguments_in, tensors_in

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# What these say of a tensor is the same of the folded convolution's.
_HARMLESS = {Tensor.dim, Tensor.size, Tensor.numel, Tensor.is_floating_point, Tensor.stride, Tensor.is_contiguous}
_HARMLESS |= {getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device", "requires_grad")}


def find_pairs(model: nn.Module, example: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Convolutions and the batch norms that can be folded into them.

    A pair counts if, each time that the convolution runs in a forward pass, this batch norm and nothing else sees its
    output; if the batch norm sees nothing else either, and works on running statistics; and if neither has hooks or
    reparametrised weights.

    Args:
        model: In evaluation mode.
        example: Inputs, ``(B, ...)``.
    """
    convolutions = [module for module in model.modules() if _is_plain(module, _CONVOLUTIONS)]
    norms = [module for module in model.modules() if _is_plain(module, _NORMS) and _has_statistics(module)]
    with _watched(convolutions, norms) as seen, torch.no_grad():
        seen.finish(model(example))
    return seen.pairs()


def fold_pairs(model: nn.Module, pairs: list[tuple[nn.Module, nn.Module]]) -> None:
    """Fold in place: the convolutions get new weights, the batch norms become identities."""
    for convolution, norm in pairs:
        weight, bias = _fused(convolution, norm)
        convolution.weight = nn.Parameter(weight, requires_grad=False)
        convolution.bias = nn.Parameter(bias, requires_grad=False)
        replace_module(model, norm, nn.Identity().eval())


def _fused(convolution: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weights that do both, worked out in double precision."""
    parts = (convolution.weight, convolution.bias, norm.running_mean, norm.running_var)
    scale, shift = _double(norm.weight), _double(norm.bias)
    # None, for "no affine part", is allowed there, though not by its annotations.
    fuse: Callable[..., tuple[Tensor, Tensor]] = fuse_conv_bn_weights
    weight, bias = fuse(*map(_double, parts), norm.eps, scale, shift)
    return weight.to(convolution.weight), bias.to(convolution.weight)


def replace_module(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put one module in another's place, everywhere below ``model`` where that stands."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)


def batch_norms(model: nn.Module) -> list[str]:
    """Names of the batch norms of a model."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def has_hooks(module: nn.Module) -> bool:
    """Whether anything runs beside the module's own forward and backward."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)


@dataclass
class _Seen(TorchFunctionMode):
    """What one forward pass does with the outputs of convolutions."""

    made: dict[int, nn.Module] = field(default_factory=dict)
    fed: dict[int, list[nn.Module]] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    calls: Counter[nn.Module] = field(default_factory=Counter)
    inside: nn.Module | None = None
    # As long as these are kept, no other tensor can have their id.
    kept: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.inside is None and func not in _HARMLESS:
            self.shown |= {id(tensor) for tensor in arguments_in([args, kwargs or {}]) if id(tensor) in self.made}
        return func(*args, **(kwargs or {}))

    def leave_convolution(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.calls[module] += 1
        self.made[id(output)] = module
        self.kept.append(output)

    def enter_norm(self, module: nn.Module, inputs: Any) -> None:
        self.calls[module] += 1
        self.inside = module
        for tensor in arguments_in(list(inputs)):
            self.fed.setdefault(id(tensor), []).append(module)

    def leave_norm(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.inside = None

    def finish(self, outputs: Any) -> None:
        self.shown |= {id(tensor) for tensor in tensors_in(outputs)}

    def pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        outputs: dict[nn.Module, list[int]] = {}
        for key, convolution in self.made.items():
            outputs.setdefault(convolution, []).append(key)
        found = []
        for convolution, keys in outputs.items():
            norms = [norm for key in keys for norm in self.fed.get(key, [])]
            alone = len(set(norms)) == 1 and self.shown.isdisjoint(keys)
            if alone and len(keys) == self.calls[convolution] == len(norms) == self.calls[norms[0]]:
                found.append((convolution, norms[0]))
        return found


@contextmanager
def _watched(convolutions: list[nn.Module], norms: list[nn.Module]) -> Iterator[_Seen]:
    seen = _Seen()
    handles = [module.register_forward_hook(seen.leave_convolution) for module in convolutions]
    handles += [module.register_forward_pre_hook(seen.enter_norm) for module in norms]
    handles += [module.register_forward_hook(seen.leave_norm) for module in norms]
    try:
        with seen:
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def _is_plain(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    # A reparametrised module is of a class of its own.
    return type(module) in kinds and not has_hooks(module) and "forward" not in vars(module)


def _has_statistics(norm: Any) -> bool:
    return norm.running_mean is not None and norm.running_var is not None and not norm.training


def _double(part: Tensor | None) -> Tensor | None:
    return None if part is None else part.detach().double()
