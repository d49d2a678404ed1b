"""How much memory a forward pass keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_activations(run: Callable[[], object], apart: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that autograd keeps, each storage once.

    Args:
        run: A forward pass whose graph is made; what it returns is kept until the count is done.
        apart: Tensors that do not count, such as parameters and inputs.

    Examples:
        >>> x = torch.zeros(4, 8, requires_grad=True)
        >>> saved_activations(lambda: x.exp().sin())
        128
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in apart}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and storage.data_ptr() not in sizes:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor.detach())  # So that its address is not given to another.
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(sizes.values())
