"""Outputs as they are before a last softmax or sigmoid: there a saturated network still has a gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from art_mtl.tasks import Task

_SOFTMAX = {functional.softmax, torch.softmax, Tensor.softmax, torch.special.softmax, torch.ops.aten.softmax.int}
_SIGMOID = {
    functional.sigmoid, torch.sigmoid, Tensor.sigmoid, torch.special.expit, torch.ops.aten.sigmoid.default,
}  # fmt: skip


class BeforeActivation:
    """Calls a network and picks the part of each task; where that is the very tensor that a softmax or sigmoid
    returned, what it was given stands for it.

    The first call shows whether there is such a task; where there is none, later calls are those of the network alone.
    What is inside TorchScript or a compiled network is not seen; see
    :meth:`art_mtl.tasks.logits.LogitTask.logits` for that.

    Args:
        network: A module, or what else is called with the inputs.
        tasks: K tasks.

    Examples:
        >>> from art_mtl import tasks
        >>> network = BeforeActivation(nn.Softmax(1), [tasks.classification("kind", 2)])
        >>> network(torch.tensor([[300.0, 0.0]]))
        [tensor([[300.,   0.]])]
    """

    def __init__(self, network: Callable[..., Any], tasks: Sequence[Task]) -> None:
        self.network, self.tasks = network, tuple(tasks)
        modules = network.modules() if isinstance(network, nn.Module) else []
        # A compiled network would be compiled anew for the sake of the watch.
        compiled = any(m._compiled_call_impl is not None or type(m).__name__ == "OptimizedModule" for m in modules)
        self.watches = not compiled

    def __call__(self, inputs: Any, after: Callable[[Any], Any] = lambda raw: raw) -> list[Any]:
        """The part of each task.

        Args:
            inputs: Of the network.
            after: What becomes of its raw outputs.
        """
        watch = _Watch()
        with watch if self.watches else nullcontext():
            raw = self.network(inputs)
        raw, count = after(raw), len(self.tasks)
        parts = [task.select(raw, place, count) for place, task in enumerate(self.tasks)]
        if not self.watches:
            return parts
        found = [watch.before(task, part) for task, part in zip(self.tasks, parts, strict=True)]
        self.watches = any(new is not part for new, part in zip(found, parts, strict=True))
        return found


class _Watch(TorchFunctionMode):
    """Notes what every softmax and sigmoid is given and returns."""

    def __init__(self) -> None:
        super().__init__()
        # By identity; as long as the tensors are kept, no other can have theirs.
        self.seen: dict[int, tuple[int | None, Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        result = func(*args, **given)
        if func in _SIGMOID:
            self._note(None, args, result)
        elif func in _SOFTMAX:
            dim = given.get("dim", args[1] if len(args) > 1 else None)
            if isinstance(dim, int) and isinstance(result, Tensor):
                self._note(dim % max(result.ndim, 1), args, result)
        return result

    def _note(self, dim: int | None, args: Any, result: Any) -> None:
        if args and isinstance(args[0], Tensor) and args[0] is not result:
            self.seen[id(result)] = dim, args[0], result

    def before(self, task: Task, output: Any) -> Any:
        """What stands for the part of a task."""
        if id(output) not in self.seen:
            return output
        dim, given, _ = self.seen[id(output)]
        return given.to(output.dtype) if task.undoes(dim) else output
