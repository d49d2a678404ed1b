"""What every method of the estimator stands on: labels, and the forward pass through preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from art_mtl.core.before_activation import BeforeActivation
from art_mtl.core.lending import frozen
from art_mtl.estimators.checks import host_tensor
from art_mtl.estimators.parameters import MultiTaskParameters
from art_mtl.estimators.preprocessing import apply_operations
from art_mtl.estimators.training import trained_modules
from art_mtl.labels import MultiTaskLabels
from art_mtl.precision import dtype_of
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Target


class MultiTaskBase(MultiTaskParameters):
    """Labels and forward pass of :class:`PyTorchMultiTaskEstimator`."""

    _prepared: PreparedCache

    def forward_tasks(self, x: Tensor) -> list[Tensor]:
        """The raw output of each task, differentiable in ``x`` through preprocessing and every defence.

        The hot path of attacks: no mode is changed, no value checked. Defences and model get a copy of ``x``, which
        they may write to.

        Args:
            x: Inputs ``(B, *input_shape)`` on any device, in the range that users see (before preprocessing).

        Returns:
            One tensor, or nest of tensors, for each task, in order, on :attr:`device`. Where it comes from a last
            softmax or sigmoid of the model, what goes into that.

        Raises:
            ValueError: The shape of ``x`` is another, or the model's output has no tensor for a task.
        """
        if tuple(x.shape[1:]) != self._input_shape:
            raise ValueError(f"The inputs should have shape (B, *{self._input_shape}). Found {tuple(x.shape)}.")
        return self._forward(x, fit=False)

    def forward_prepared(self, how: Preparation | str | None, x: Tensor) -> Callable[[Tensor], list[Tensor]]:
        """:meth:`forward_tasks` on a prepared copy of the model, behind the same preprocessing in full precision.

        The copy is kept for later calls, and made anew when the model has changed; see
        :class:`art_mtl.prepared.PreparedCache`.

        Args:
            how: See :meth:`art_mtl.prepared.Preparation.parse`; None or "exact" is :meth:`forward_tasks` itself.
            x: Inputs ``(N, *input_shape)``; the first two are the example that :func:`art_mtl.prepared.prepare` takes.

        Raises:
            ValueError: An unknown preparation, or one that this model or device does not allow.
        """
        settings = Preparation.parse(how)
        if settings is None:
            return self.forward_through(self._model)
        with self._lent(), torch.no_grad():
            example = self.model_inputs(x[:2])
            return self.forward_through(self._prepared(self._model, example, settings))

    def forward_through(self, model: torch.nn.Module) -> Callable[[Tensor], list[Tensor]]:
        """:meth:`forward_tasks` with another model in the place of the estimator's, behind the same preprocessing.

        Args:
            model: Takes and returns what the estimator's model does, such as its prepared copy.
        """
        network = BeforeActivation(model, self._tasks)
        return lambda x: network(self.model_inputs(x))

    def model_inputs(self, x: Tensor, fit: bool = False) -> Tensor:
        """What the model gets to see: inputs after every defence and preprocessing, in the precision of its weights and
        in memory that it may write into.

        Args:
            x: Inputs ``(B, *input_shape)`` on any device.
            fit: Whether for training.

        Returns:
            A tensor of its own memory, differentiable in ``x``.
        """
        copied = x.to(self._device, copy=True)
        return apply_operations(self.preprocessing_operations, copied, fit).to(dtype_of(self._model))

    def labels(self, y: Any, n: int) -> MultiTaskLabels:
        """Labels of all tasks, from any of the forms of :meth:`MultiTaskLabels.of`.

        Args:
            y: The labels.
            n: The number of samples.

        Raises:
            TypeError: ``y`` has none of these forms.
            ValueError: Names or sizes do not fit, or a task has no label at all.
        """
        return MultiTaskLabels.of(y, self._names, n)

    def targets(self, y: Any, n: int) -> list[Target]:
        """Canonical labels on the device, one for each task.

        In a :class:`MultiTaskLabels`, which may be part of a larger one, a task may have no label for any sample.

        Args:
            y: Labels, or raw outputs, in any form.
            n: The number of samples.

        Raises:
            TypeError: Labels of a wrong type.
            ValueError: Labels of a wrong shape or value, see :meth:`Task.targets`.
        """
        return [target.to(self._device) for target in self._host_targets(y, n)]

    def _apply_preprocessing(self, x: Any, y: Any, fit: bool = False, no_grad: bool = True) -> tuple[Any, Any]:
        # ART's own converts `y` with torch.tensor, which no container of several tasks survives.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not no_grad):
            tensor = x if isinstance(x, Tensor) else host_tensor(x)
            result = apply_operations(self.preprocessing_operations, tensor.to(self._device, copy=True), fit)
        return (result if isinstance(x, Tensor) else result.cpu().numpy()), y

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self._tasks)

    def _host_targets(self, y: Any, n: int) -> list[Target]:
        labels = MultiTaskLabels.of(y, self._names, n, partial=True)
        return [task.targets(labels[task.name], labels.present(task.name)) for task in self._tasks]

    def _place(self, x: Tensor) -> Tensor:
        """Inputs on the device, in the precision that everything before the model works in."""
        return x.to(self._device, torch.float64 if dtype_of(self._model) == torch.float64 else torch.float32)

    def _forward(self, x: Tensor, fit: bool) -> list[Tensor]:
        return BeforeActivation(self._model, self._tasks)(self.model_inputs(x, fit))

    def _losses(self, x: Tensor, targets: Sequence[Target], fit: bool = False) -> list[Tensor]:
        return [
            task.loss(task.check_output(output, target), target)
            for task, output, target in zip(self._tasks, self._forward(x, fit), targets, strict=True)
        ]

    @contextmanager
    def _lent(self, training_mode: bool = False, differentiable: bool = False) -> Iterator[None]:
        """The model, borrowed, see :func:`art_mtl.core.frozen`, and outside inference mode.

        Callers say whether a graph is made.
        """
        training = trained_modules(self._model) if training_mode else None
        with torch.inference_mode(False), frozen(self._model, training=training, differentiable=differentiable):
            yield
