"""Forward and backward passes of one batch: whole or, once memory has run out, in pieces.

Objectives may pool over the batch, so a smaller batch would be another attack. What is cut is only the network: its
outputs are gathered for the whole batch, the objective is differentiated in them, and each piece takes its rows of that
gradient back to its inputs. The result is that of the whole batch, at the price of one more forward pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from art_mtl.structure import join_rows, map_tensors, tensors_in

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

Forward = Callable[[Tensor], Sequence[Any]]
"""Inputs ``(B, ...)`` to one raw output a task, a tensor or nest of tensors, differentiable in the inputs."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the host, has no memory left.

    Examples:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
        True
        >>> out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        False
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    phrases = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in phrases)


@dataclass
class MicroBatching:
    """How many samples pass through the network at once; batches that follow go on with what the last one found.

    Attributes:
        size: Samples in a piece; None for whole batches.
    """

    size: int | None = None

    def attempt(self, samples: int, run: Callable[[int], _Result]) -> _Result:
        """``run(size)`` for as many of ``samples`` as memory allows: halved until it succeeds.

        Raises:
            RuntimeError: Out of memory with one sample.
        """
        while True:
            size = samples if self.size is None else min(self.size, samples)
            try:
                return run(size)
            except (MemoryError, RuntimeError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
            # Only here has the error, and with it what its frames hold, been let go.
            self._halve(size)

    def _halve(self, size: int) -> None:
        self.size = -(-size // 2)
        _log.warning("Out of memory with %d samples at once; going on with %d.", size, self.size)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class ForwardBackward:
    """The passes of one batch.

    Args:
        forward: Of the network.
        pieces: How much of a batch it takes at once.
    """

    def __init__(self, forward: Forward, pieces: MicroBatching) -> None:
        self._forward, self._pieces = forward, pieces
        self._inputs: Tensor | None = None
        self._outputs: list[Any] = []
        self._whole: Sequence[Any] | None = None

    def look(self, x: Tensor) -> list[Any]:
        """Outputs of a batch without a graph."""

        def run(size: int) -> list[Any]:
            if size == len(x):
                return list(self._forward(x))
            return _join([self._forward(part) for part in torch.split(x, size)])

        with torch.no_grad():
            return self._pieces.attempt(len(x), run)

    def begin(self, x: Tensor) -> list[Any]:
        """Outputs of a batch, cut off from the network, to be differentiated by :meth:`gradient`.

        Args:
            x: Inputs that require gradients.
        """

        def run(size: int) -> list[Any]:
            if size == len(x):
                self._whole = self._forward(x)
                return [map_tensors(output, _cut) for output in self._whole]
            with torch.no_grad():
                outputs = _join([self._forward(part) for part in torch.split(x, size)])
            return [map_tensors(output, lambda t: t.requires_grad_(t.is_floating_point())) for output in outputs]

        self._inputs, self._whole, self._outputs = x, None, []
        self._outputs = self._pieces.attempt(len(x), run)
        return self._outputs

    def gradient(self, values: Sequence[Tensor], weights: Sequence[Tensor], again: bool = False) -> Tensor | None:
        """``Σ_i w_i · v_i`` differentiated in the inputs: a vector-Jacobian product, without parameter gradients.

        Args:
            values: Computed from the outputs that :meth:`begin` gave, with their graph.
            weights: Of the same shapes.
            again: Whether this will be asked of the same outputs once more.

        Returns:
            Of the inputs' shape; None where the values do not depend on them.
        """
        x = self._inputs
        if x is None:
            raise RuntimeError("There are no outputs to differentiate: `begin` comes first.")
        outputs = tensors_in(self._outputs)
        leaves = [output for output in outputs if output.requires_grad]
        found = iter(torch.autograd.grad(values, leaves, weights, retain_graph=again, allow_unused=True))
        slopes = [next(found) if output.requires_grad else None for output in outputs]

        def run(size: int) -> Tensor | None:
            if self._whole is not None and size == len(x):
                return _pull(self._whole, x, slopes, again)
            self._whole = None
            parts = [self._piece(x, slopes, slice(start, start + size)) for start in range(0, len(x), size)]
            return None if any(part is None for part in parts) else torch.cat([p for p in parts if p is not None])

        gradient = self._pieces.attempt(len(x), run)
        if not again:
            self._inputs, self._whole, self._outputs = None, None, []
        return gradient

    def _piece(self, x: Tensor, slopes: Sequence[Tensor | None], rows: slice) -> Tensor | None:
        part = x[rows].detach().requires_grad_(True)
        return _pull(self._forward(part), part, [None if slope is None else slope[rows] for slope in slopes], False)


def _cut(output: Tensor) -> Tensor:
    return output.detach().requires_grad_(output.requires_grad)


def _pull(outputs: Sequence[Any], x: Tensor, slopes: Sequence[Tensor | None], again: bool) -> Tensor | None:
    used = [
        (o, slope)
        for o, slope in zip(tensors_in(list(outputs)), slopes, strict=True)
        if slope is not None and o.requires_grad
    ]
    if not used:
        return None
    (gradient,) = torch.autograd.grad(
        [o for o, _ in used], x, [slope for _, slope in used], retain_graph=again, allow_unused=True
    )
    return gradient


def _join(parts: Sequence[Sequence[Any]]) -> list[Any]:
    return [join_rows(columns) for columns in zip(*parts, strict=True)]
