"""What the graph of an output says of the operation that made it."""

from __future__ import annotations

import re

from torch import Tensor

__all__ = ["ends_in_linear"]

_LINEAR = re.compile(
    "(Addmm|Mm|Bmm|Baddbmm|Addbmm|Dot|Mv|Convolution|MkldnnConvolution|ConvolutionOverrideable)Backward"
)
_MOVES = re.compile(
    "(View|UnsafeView|ReshapeAlias|Permute|Transpose|T|Squeeze|Unsqueeze|Select|Slice|Split|Unbind|Clone|ToCopy|Alias|"
    "Cat|Stack|Expand|Index|AsStrided|Unflatten|Add)Backward"
)
"""What changes the place of numbers, not their range; the sum with a bias is linear too."""


def ends_in_linear(output: Tensor) -> bool:
    """Whether the last operation that made a tensor is known to be a matrix product or a convolution, whose results
    are no probabilities; as its graph says, if it has one.

    Examples:
        >>> import torch
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> ends_in_linear((x @ torch.ones(2, 1) + 1)[:, 0]), ends_in_linear(torch.sigmoid(x @ torch.ones(2, 1)))
        (True, False)
    """
    place = output.grad_fn
    while place is not None:
        if _LINEAR.match(place.name()):
            return True
        before = [one for one, _ in place.next_functions if one is not None and "AccumulateGrad" not in one.name()]
        if not _MOVES.match(place.name()) or not before:
            return False
        if place.name().startswith("Add") and len(before) > 1:
            return False
        place = before[0]
    return False
