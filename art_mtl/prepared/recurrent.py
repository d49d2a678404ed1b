"""Recurrent layers, whose backward pass cuDNN allows in training mode only."""

from __future__ import annotations

from torch import nn


def is_recurrent(module: nn.Module) -> bool:
    """Whether a module is one of torch's recurrent layers, or of a class derived from one.

    Such a layer differs between the two modes by its dropout alone. In training mode with dropout 0 it computes what it
    computes in evaluation mode, and can be differentiated on every device.

    Examples:
        >>> is_recurrent(nn.LSTM(2, 2)), is_recurrent(nn.LSTMCell(2, 2))
        (True, False)
    """
    return isinstance(module, nn.RNNBase)


def evaluate(model: nn.Module) -> nn.Module:
    """Evaluation mode for good, in place: recurrent layers in training mode without dropout; see :func:`is_recurrent`.

    Args:
        model: A private copy.
    """
    for module in model.eval().modules():
        if isinstance(module, nn.RNNBase):
            module.training, module.dropout = True, 0.0
            # Copied weights lie apart, which cuDNN warns of at every pass.
            module.flatten_parameters()
    return model
