"""Lend a model to an attack and give it back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def frozen(model: torch.nn.Module, evaluate: bool = True) -> Iterator[None]:
    """Parameters are not differentiated inside; on leaving, also by an exception, everything is as it was.

    Args:
        model: The model. Its parameters' ``requires_grad`` and the training mode of every module are restored.
        evaluate: Put every module into evaluation mode; False leaves modes alone.

    Examples:
        >>> net = torch.nn.Linear(2, 2)
        >>> with frozen(net):
        ...     print(net.training, net.weight.requires_grad)
        False False
        >>> net.training, net.weight.requires_grad
        (True, True)
    """
    modes = [(module, module.training) for module in model.modules()]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        if evaluate:
            model.eval()
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
