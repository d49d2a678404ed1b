"""Private copies of models, out of what is wrapped around them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from art_mtl.prepared.fold import has_hooks
from art_mtl.prepared.recurrent import evaluate

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_SHARDED = {"FullyShardedDataParallel", "FSDPModule"}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    Raises:
        ValueError: A wrapper has hooks, which would be lost.

    Examples:
        >>> net = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(net)) is net
        True
    """
    while (inner := _inside(model)) is not None:
        if has_hooks(model):
            raise ValueError(
                f"The hooks of a model to be prepared should be on the model, not on its wrapper. "
                f"Found hooks on {type(model).__name__}; register them on the module inside, or attack it as it is "
                "('exact')."
            )
        model = inner
    return model


def private_copy(model: nn.Module) -> nn.Module:
    """A deep copy in evaluation mode, whose parameters are not differentiated; parallel wrappers inside it are gone.

    Args:
        model: Not itself wrapped, see :func:`unwrapped`.

    Raises:
        ValueError: It cannot be copied, or it is traced, scripted, exported or sharded.
    """
    _check_kind(model)
    memo: dict[int, Any] = {}
    try:
        # Inner wrappers first. DistributedDataParallel itself cannot be copied.
        for wrapper in reversed(list(model.modules())):
            if _inside(wrapper) is not None:
                memo[id(wrapper)] = copy.deepcopy(unwrapped(wrapper), memo)
        return evaluate(copy.deepcopy(model, memo)).requires_grad_(False)
    except Exception as error:  # Of the user's own classes, which may do anything when copied.
        raise ValueError(
            f"A model should be copyable by `copy.deepcopy` to be prepared; attack it as it is ('exact'). "
            f"Found {type(model).__name__}: {error}"
        ) from error


@contextmanager
def kept_randomness(device: torch.device) -> Iterator[None]:
    """Torch's random state, on the host and on a device, is afterwards what it was.

    Args:
        device: Where the model computes.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, _PARALLEL):
        inner: nn.Module = model.module
        return inner
    # Of torch.compile; its class cannot be imported without the compiler.
    return model._modules.get("_orig_mod") if type(model).__name__ == "OptimizedModule" else None


def _check_kind(model: nn.Module) -> None:
    for module in model.modules():
        names = {kind.__name__ for kind in type(module).__mro__}
        if isinstance(module, torch.jit.ScriptModule):
            kind = "traced or scripted"
        elif isinstance(module, torch.fx.GraphModule) and "train" in vars(module):
            kind = "exported"
        elif names & _SHARDED:
            kind = "sharded"
        else:
            continue
        raise ValueError(
            f"A model should be made of Python modules to be prepared; attack it as it is ('exact'), or prepare the "
            f"model that it was made from. Found {type(module).__name__}, which is {kind}."
        )
