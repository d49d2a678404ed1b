"""A stand-in for a model whose own gradients may be masked: the same network, made easy to differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from art_mtl.core import frozen
from art_mtl.data.sources import Inputs
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

_ROUNDING = frozenset(
    getattr(owner, name) for owner in (torch, Tensor) for name in ("round", "floor", "ceil", "trunc", "sign")
)
_DETACHING = frozenset((torch.detach, Tensor.detach))
_NOISE_DRAWS = 4

__all__ = ["StraightThrough", "Surrogate", "make_surrogate"]


class StraightThrough(TorchFunctionMode):
    """Inside, rounding passes its gradient on as if it were the identity, and nothing is detached.

    The idea of BPDA (Athalye et al., ICML 2018, section 4.1), applied to a model without knowing it: ``round``,
    ``floor``, ``ceil``, ``trunc`` and ``sign`` keep their value and have gradient 1; ``detach`` and ``no_grad`` do
    nothing. Conversions to integers and custom backward passes stay as they are.

    Examples:
        >>> x = torch.tensor([0.2, 0.9], requires_grad=True)
        >>> with StraightThrough():
        ...     y = torch.round(x) * x.detach()
        >>> y.detach(), torch.autograd.grad(y.sum(), x)[0]
        (tensor([0.0000, 0.9000]), tensor([0.2000, 1.9000]))
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DETACHING:
            return args[0]
        if func is torch._C._set_grad_enabled:
            return None
        result = func(*args, **(kwargs or {}))
        if func in _ROUNDING and isinstance(args[0], Tensor) and args[0].requires_grad:
            return _ValueOf.apply(args[0], result)  # type: ignore[no-untyped-call]
        return result


class _ValueOf(torch.autograd.Function):
    """``(x, value) -> value``, with the gradient of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Surrogate(torch.nn.Module):
    """Outputs of a model, averaged over noisy inputs, decisions cooled, and everything straight through.

    Args:
        estimator: The model; its preprocessing is part of the surrogate.
        noise: Half the width of the uniform noise on inputs, in their unit.
        scales: What the outputs of each task are divided by.
        seed: Of the noise, which is the same at every call.
    """

    def __init__(self, estimator: PyTorchMultiTaskEstimator, noise: float, scales: Sequence[float], seed: int) -> None:
        super().__init__()
        self.model = estimator.model
        self.noise, self.scales, self.seed = noise, tuple(scales), seed
        self.attackable = estimator.attackable
        self._forward_tasks = estimator.forward_tasks
        self._names = [task.name for task in estimator.tasks]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Raw outputs by name of the task."""
        generator = torch.Generator(x.device).manual_seed(self.seed)
        sums: list[Tensor] = []
        for _ in range(_NOISE_DRAWS):
            draw = (2 * torch.rand(x.shape, generator=generator, device=x.device) - 1) * self.noise
            if self.attackable is not None:
                draw = draw * (self.attackable.to(draw) != 0)
            with StraightThrough():
                outputs = self._forward_tasks(x + draw)
            sums = [total + output for total, output in zip(sums, outputs, strict=True)] if sums else outputs
        divided = zip(self._names, sums, self.scales, strict=True)
        return {name: total / (_NOISE_DRAWS * scale) for name, total, scale in divided}


def make_surrogate(
    estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels, noise: float, batch_size: int, seed: int
) -> PyTorchMultiTaskEstimator:
    """A stand-in that shares the model's weights but not what may mask its gradients.

    Rounding and detaching are undone (:class:`StraightThrough`), the gradient is averaged over noise on the inputs,
    and the outputs of a task that decides are divided by the root mean square of its margins where that exceeds 1, so
    that no softmax saturates.

    Args:
        estimator: The model.
        x: Clean inputs, on which margins are measured.
        y: Their labels.
        noise: Half the width of the uniform noise on inputs.
        batch_size: Samples at a time.
        seed: Of the noise.
    """
    scales = _margin_scales(estimator, x, y, batch_size)
    return type(estimator)(
        Surrogate(estimator, noise, scales, seed),
        tasks=[replace(task, output=None) for task in estimator.tasks],
        input_shape=estimator.input_shape,
        clip_values=None if estimator.clip_values is None else tuple(estimator.clip_values),
        device_type="cpu" if estimator.device.type == "cpu" else "gpu",
    )


def _margin_scales(estimator: PyTorchMultiTaskEstimator, x: Inputs, y: MultiTaskLabels, batch_size: int) -> list[float]:
    squares = torch.zeros(len(estimator.tasks), dtype=torch.float64)
    counts = torch.zeros_like(squares)
    with frozen(estimator.model), torch.no_grad():
        for start in range(0, len(x), batch_size):
            inputs = torch.as_tensor(x[start : start + batch_size])
            outputs = estimator.forward_tasks(inputs)
            targets = estimator.targets(y[start : start + batch_size], len(inputs))
            for k, (task, output, target) in enumerate(zip(estimator.tasks, outputs, targets, strict=True)):
                found = task.measure(task.check_output(output, target), target)
                if found.margins is not None and found.counted is not None:
                    counted = found.counted & torch.isfinite(found.margins)
                    squares[k] += torch.where(counted, found.margins, 0.0).double().square().sum().cpu()
                    counts[k] += counted.sum().cpu()
    return (squares / counts.clamp(min=1)).sqrt().clamp(min=1).tolist()
