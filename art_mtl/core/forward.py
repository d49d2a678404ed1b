"""Forward and backward passes of one batch: whole or, once memory has run out, in pieces.

Objectives may pool over the batch, so a smaller batch would be another attack. What is cut is only the network: its
outputs are gathered for the whole batch, the objective is differentiated in them, and each piece takes its rows of that
gradient back to its inputs. The result is that of the whole batch, for one more forward pass.

The network gets a copy of its inputs, so it may write in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from art_mtl.core.accumulation import accumulated_gradient, refuses_grad
from art_mtl.core.last_operation import ends_in_linear
from art_mtl.precision import wide_dtype
from art_mtl.structure import OutputLayout, map_tensors, tensors_in

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

Forward = Callable[[Tensor], Sequence[Any]]
"""Inputs ``(B, ...)`` to one raw output a task, a tensor or nest of tensors, differentiable in the inputs."""

Slopes = Sequence[Tensor | None]
"""The derivative of what is ascended in each tensor of some outputs; None for a tensor that is not used."""


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


@dataclass
class _Part:
    """Some samples of a batch, between their forward and their backward pass.

    Attributes:
        inputs: ``(b, ...)``.
        leaves: Every tensor of their outputs, cut off from the network.
        graph: The same tensors with their graph, which begins at ``inputs``; None where they are to be computed anew.
    """

    inputs: Tensor
    leaves: list[Tensor]
    graph: list[Tensor] | None


class ForwardBackward:
    """The forward and backward passes of one batch after another.

    Parameters are not differentiated, and nothing is written to ``.grad``. A network that refuses
    :func:`torch.autograd.grad`, as reentrant checkpoints do, is differentiated by ``backward`` and every ``.grad`` is
    put back; to find that out costs one forward pass.

    Args:
        forward: Of the network.
        micro_batching: How much of a batch it takes at once.
        layouts: Of the output of each task, which is the task itself; None where all are batch-first.

    Examples:
        >>> network = ForwardBackward(lambda x: [{"a": x.square(), "b": x}], MicroBatching(size=2))
        >>> (output,) = network.forward(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> network.gradient([output["a"].sum(1)], [torch.tensor([1.0, 1.0, 10.0])])
        tensor([[ 2.],
                [ 4.],
                [60.]])
    """

    def __init__(
        self, forward: Forward, micro_batching: MicroBatching, layouts: Sequence[OutputLayout] | None = None
    ) -> None:
        self._forward, self._micro_batching, self._layouts = forward, micro_batching, layouts
        self._parts: list[_Part] = []
        self._accumulates = False
        self.linear: frozenset[int] = frozenset()
        """Places of the outputs that a matrix product or a convolution is known to have returned, in the last pass with
        a graph.
        """

    def no_grad(self, x: Tensor) -> list[Any]:
        """Outputs of a batch without a graph.

        Args:
            x: Inputs ``(B, ...)``.

        Raises:
            RuntimeError: Out of memory with one sample.
            ValueError: Memory is short, and an output is not in the layout that its task says.
        """

        def run(size: int) -> list[Any]:
            return self._join([self._outputs(rows) for rows in torch.split(x, size)], size)

        with torch.no_grad():
            return self._micro_batching.attempt(len(x), run)

    def forward(self, x: Tensor) -> list[Any]:
        """Outputs of a batch, cut off from the network, to be differentiated by :meth:`gradient`.

        Args:
            x: Inputs ``(B, ...)``.

        Raises:
            RuntimeError: Out of memory with one sample.
            ValueError: Memory is short, and an output is not in the layout that its task says.
        """

        def run(size: int) -> tuple[list[_Part], list[Any]]:
            return self._whole(x) if size == len(x) else self._in_parts(x, size)

        self._parts = []
        self._parts, outputs = self._micro_batching.attempt(len(x), run)
        return outputs

    def gradient(self, values: Sequence[Tensor], weights: Sequence[Tensor], again: bool = False) -> Tensor | None:
        """``Σ_i w_i · v_i`` differentiated in the inputs: a vector-Jacobian product.

        Args:
            values: Computed from the outputs that :meth:`forward` gave, with their graph.
            weights: Of the same shapes.
            again: Whether this will be asked of the same outputs once more.

        Returns:
            Of the inputs' shape; None where the values do not depend on them.

        Raises:
            RuntimeError: :meth:`forward` was not called before, or out of memory with one sample.
        """
        parts = self._parts
        if not parts:
            raise RuntimeError("There are no outputs to differentiate: `forward` comes first.")
        slopes = _slopes(values, weights, parts, again)

        def run(size: int) -> Tensor | None:
            return _cat([self._pull(part, own, size, again) for part, own in zip(parts, slopes, strict=True)], parts)

        gradient = self._micro_batching.attempt(sum(len(part.inputs) for part in parts), run)
        if not again:
            self._parts = []
        return gradient

    def _outputs(self, x: Tensor) -> list[Any]:
        return list(self._forward(x.clone()))

    def _whole(self, x: Tensor) -> tuple[list[_Part], list[Any]]:
        """A batch in one pass, with its graph."""
        with torch.enable_grad():
            inputs = x.detach().requires_grad_(True)
            raw = self._outputs(inputs)
        self.linear = frozenset(k for k, one in enumerate(raw) if isinstance(one, Tensor) and ends_in_linear(one))
        cut = map_tensors(raw, lambda tensor: tensor.detach().requires_grad_(tensor.requires_grad))
        return [_Part(inputs, tensors_in(cut), tensors_in(raw))], cut

    def _in_parts(self, x: Tensor, size: int) -> tuple[list[_Part], list[Any]]:
        """A batch in passes of at most ``size`` samples; their graphs are computed anew when they are needed."""
        parts, outputs = [], []
        for rows in torch.split(x.detach(), size):
            with torch.no_grad():
                raw = self._outputs(rows)
            cut = map_tensors(raw, lambda t: t.detach().requires_grad_(t.is_floating_point() or t.is_complex()))
            parts.append(_Part(rows, tensors_in(cut), None))
            outputs.append(cut)
        with torch.enable_grad():
            return parts, self._join(outputs, size)

    def _join(self, parts: Sequence[list[Any]], size: int) -> list[Any]:
        """The outputs of a batch from those of its parts, all but the last of ``size`` samples."""
        if len(parts) == 1:
            return parts[0]
        layouts = [OutputLayout()] * len(parts[0]) if self._layouts is None else self._layouts
        joined = []
        for number, (layout, outputs) in enumerate(zip(layouts, zip(*parts, strict=True), strict=True)):
            joined.append(layout.join_outputs(outputs))
            expected, found = _shapes(outputs[0]), _shapes(layout.slice_output(joined[-1], slice(0, size)))
            if found != expected:
                raise ValueError(
                    f"Output {number} of the network should be batch-first, or its task should say by `slice_output` "
                    "and `join_outputs` how the outputs of parts of a batch are put together. Found a part of "
                    f"{size} samples of shapes {expected} that is joined and cut out again with shapes {found}."
                )
        return joined

    def _pull(self, part: _Part, slopes: Slopes, size: int, again: bool) -> Tensor | None:
        """The gradient in a part's inputs, out of the slopes in its outputs; of at most ``size`` samples at once."""
        if all(slope is None for slope in slopes):
            return None
        if len(part.inputs) <= size:
            return self._differentiate(part, slopes, again)
        part.graph = None
        smaller, outputs = self._in_parts(part.inputs, size)
        # Joining is differentiated too: from the slopes in the joined outputs to those in the outputs of each part.
        used = [(t, slope) for t, slope in zip(tensors_in(outputs), slopes, strict=True) if slope is not None]
        own = _slopes([tensor for tensor, _ in used], [slope for _, slope in used], smaller, False)
        return _cat([self._pull(p, slopes, size, False) for p, slopes in zip(smaller, own, strict=True)], smaller)

    def _differentiate(self, part: _Part, slopes: Slopes, again: bool) -> Tensor | None:
        graph = self._graph(part)
        if not self._accumulates:
            try:
                return _vector_jacobian(graph, part.inputs, slopes, again)
            except RuntimeError as error:
                if not refuses_grad(error):
                    raise
            # What the failed pass has used of the graph is gone.
            self._accumulates, kept, part.graph = True, part.graph is not None, None
            del graph
            graph = self._graph(part)
            part.graph = graph if kept else None
        return accumulated_gradient(*_used(graph, slopes), part.inputs, again)

    def _graph(self, part: _Part) -> list[Tensor]:
        """The tensors of a part's outputs with their graph."""
        if part.graph is not None:
            return part.graph
        with torch.enable_grad():
            part.inputs = part.inputs.detach().requires_grad_(True)
            tensors = tensors_in(self._outputs(part.inputs))
        before, now = _shapes(part.leaves), _shapes(tensors)
        if before != now:
            raise ValueError(
                "The outputs of the network should have the same shapes in every pass over the same inputs. "
                f"Found {before}, then {now}."
            )
        return tensors


def zero_nonfinite(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient with 0 in place of NaN and infinity, and which samples had any.

    Args:
        gradient: ``(B, ...)``.

    Returns:
        The gradient, bit by bit the same where it is finite, and ``(B,)``, boolean. On a GPU nothing waits for the
        device; on a CPU a finite gradient costs one sum.

    Examples:
        >>> gradient, had = zero_nonfinite(torch.tensor([[1.0, float("inf")], [2.0, 3.0]]))
        >>> gradient, had
        (tensor([[1., 0.],
                [2., 3.]]), tensor([ True, False]))
    """
    # A sum is finite only if its terms are; it may overflow where they are.
    if gradient.device.type == "cpu" and bool(torch.isfinite(gradient.sum(dtype=wide_dtype(gradient.dtype)))):
        return gradient, torch.zeros(len(gradient), dtype=torch.bool, device=gradient.device)
    places = tuple(range(1, gradient.ndim))
    largest = torch.linalg.vector_norm(gradient, float("inf"), places) if places else gradient
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0), ~torch.isfinite(largest)


def _slopes(
    values: Sequence[Tensor], weights: Sequence[Tensor], parts: Sequence[_Part], again: bool
) -> list[list[Tensor | None]]:
    """``Σ_i w_i · v_i`` differentiated in every tensor of the parts' outputs."""
    leaves = [leaf for part in parts for leaf in part.leaves if leaf.requires_grad]
    found = iter(torch.autograd.grad(values, leaves, weights, retain_graph=again, allow_unused=True))
    return [[next(found) if leaf.requires_grad else None for leaf in part.leaves] for part in parts]


def _vector_jacobian(graph: Sequence[Tensor], x: Tensor, slopes: Slopes, again: bool) -> Tensor | None:
    outputs, used = _used(graph, slopes)
    if not outputs:
        return None
    (gradient,) = torch.autograd.grad(outputs, x, used, retain_graph=again, allow_unused=True)
    return gradient


def _used(graph: Sequence[Tensor], slopes: Slopes) -> tuple[list[Tensor], list[Tensor]]:
    pairs = [(o, slope) for o, slope in zip(graph, slopes, strict=True) if slope is not None and o.requires_grad]
    return [output for output, _ in pairs], [slope for _, slope in pairs]


def _cat(gradients: Sequence[Tensor | None], parts: Sequence[_Part]) -> Tensor | None:
    if len(gradients) == 1 or all(gradient is None for gradient in gradients):
        return gradients[0]
    pairs = zip(gradients, parts, strict=True)
    return torch.cat([torch.zeros_like(part.inputs) if gradient is None else gradient for gradient, part in pairs])


def _shapes(outputs: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors_in(outputs)]
