"""The gradient in the inputs of a network that only ``backward`` can differentiate, with every ``.grad`` put back.

Reentrant checkpoints run a backward pass of their own inside the outer one, and so refuse :func:`torch.autograd.grad`,
which would confine both to the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from art_mtl.structure import arguments_in


def refuses_grad(error: RuntimeError) -> bool:
    """Whether a network says that :func:`torch.autograd.grad` cannot differentiate it.

    Examples:
        >>> refuses_grad(RuntimeError("Checkpointing is not compatible with .grad() or when an `inputs` parameter is"))
        True
        >>> refuses_grad(RuntimeError("Trying to backward through the graph a second time"))
        False
    """
    return "checkpoint" in str(error).lower() and ".grad()" in str(error)


def accumulated_gradient(
    outputs: Sequence[Tensor], slopes: Sequence[Tensor], x: Tensor, again: bool = False
) -> Tensor | None:
    """A vector-Jacobian product by ``backward``, after which every ``.grad`` is what it was.

    Args:
        outputs: Tensors with their graph.
        slopes: Of the same shapes.
        x: A leaf of the graph that requires gradients.
        again: Whether the graph is kept for another time.

    Returns:
        Of the shape of ``x``; None where no output depends on it.

    Examples:
        >>> x, weight = torch.ones(2, requires_grad=True), torch.tensor(3.0, requires_grad=True)
        >>> accumulated_gradient([x * weight], [torch.ones(2)], x), x.grad, weight.grad
        (tensor([3., 3.]), None, None)
    """
    if not outputs:
        return None
    kept = _KeptGradients()
    for leaf in _leaves(outputs):
        kept.keep(leaf)
    try:
        with kept:
            torch.autograd.backward(outputs, slopes, retain_graph=again)
        return x.grad
    finally:
        kept.restore()


class _KeptGradients(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes and empties ``.grad`` of leaves; those of an inner graph when an inner forward pass meets them.

    Leaves are held weakly: many are made by checkpoints themselves, and their memory is what checkpoints save.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept: Any = WeakTensorKeyDictionary()

    def keep(self, tensor: Tensor) -> None:
        if tensor.is_leaf and tensor.requires_grad and tensor not in self._kept:
            self._kept[tensor] = tensor.grad
            tensor.grad = None

    def restore(self) -> None:
        for tensor, gradient in self._kept.items():
            tensor.grad = gradient

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in arguments_in([args, kwargs]):
            self.keep(tensor)
        return operation(*args, **(kwargs or {}))


def _leaves(outputs: Sequence[Tensor]) -> Iterator[Tensor]:
    """Every leaf that a backward pass would write to."""
    yield from (output for output in outputs if output.is_leaf)
    nodes: list[Any] = [output.grad_fn for output in outputs]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        nodes += [following for following, _ in node.next_functions]
