"""What every method of the estimator stands on: construction, parameters, labels, the forward through preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import Tensor

from art_mtl.core.lending import frozen
from art_mtl.estimators import checks
from art_mtl.estimators.preprocessing import apply_operations, dtype_of
from art_mtl.labels import MultiTaskLabels
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Target, Task, check_tasks


class MultiTaskBase(PyTorchEstimator):  # type: ignore[misc]
    """Construction, parameters, labels and the forward of :class:`PyTorchMultiTaskEstimator`, which says the rest."""

    estimator_params = [*PyTorchEstimator.estimator_params, "tasks", "input_shape", "optimizer"]

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        input_shape: tuple[int, ...],
        clip_values: tuple[Any, Any] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        channels_first: bool = True,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        device_type: str = "gpu",
    ) -> None:
        self._input_shape = checks.check_input_shape(input_shape)
        self._tasks = check_tasks(tasks)
        self._optimizer = checks.check_optimizer(optimizer)
        checks.check_no_postprocessing(postprocessing_defences)
        super().__init__(
            model=checks.check_model(model),
            clip_values=checks.check_clip_values(clip_values, self._input_shape),
            channels_first=checks.check_flag("channels_first", channels_first),
            preprocessing_defences=checks.check_defences(preprocessing_defences),
            postprocessing_defences=None,
            # Left out, the base class would install a NumPy standardisation.
            preprocessing=checks.check_preprocessing(preprocessing, checks.check_device_type(device_type)),
            device_type=device_type,
        )
        self._model.to(self._device)
        self._prepared = PreparedCache()

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of labels and outputs."""
        return self._tasks

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._input_shape

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer that :meth:`fit` uses, or None."""
        return self._optimizer

    @property
    def device(self) -> torch.device:
        """Where the model is and computes."""
        device: torch.device = self._device
        return device

    def forward_tasks(self, x: Tensor) -> list[Tensor]:
        """The raw output of each task, differentiable in ``x`` through preprocessing and every defence.

        The hot path of attacks: no mode is changed, no value checked.

        Args:
            x: Inputs ``(B, *input_shape)`` on any device, in the range that users see (before preprocessing).

        Returns:
            One tensor for each task, in order, on :attr:`device`.

        Raises:
            ValueError: The shape of ``x`` is another, or the model's output has no tensor for a task.
        """
        if tuple(x.shape[1:]) != self._input_shape:
            raise ValueError(f"The inputs should have shape (B, *{self._input_shape}). Found {tuple(x.shape)}.")
        return self._forward(x, fit=False)

    def forward_prepared(self, how: Preparation | str | None, x: Tensor) -> Callable[[Tensor], list[Tensor]]:
        """:meth:`forward_tasks` on a prepared copy of the model, behind the same preprocessing in full precision.

        The copy is kept for later calls, and made anew when the model has changed.

        Args:
            how: See :meth:`art_mtl.prepared.Preparation.parse`; None or "exact" is :meth:`forward_tasks` itself.
            x: Inputs ``(N, *input_shape)``; the first two are the example that :func:`art_mtl.prepared.prepare` takes.

        Raises:
            ValueError: An unknown preparation, or one that this model or device does not allow.
        """
        settings = Preparation.parse(how)
        if settings is None:
            return self.forward_tasks
        with self._lent(), torch.no_grad():
            example = self.model_inputs(x[:2])
        return self.forward_through(self._prepared(self._model, example, settings))

    def forward_through(self, model: torch.nn.Module) -> Callable[[Tensor], list[Tensor]]:
        """:meth:`forward_tasks` with another model in the place of the estimator's, behind the same preprocessing.

        Args:
            model: Takes and returns what the estimator's model does, such as its prepared copy.
        """

        def run(x: Tensor) -> list[Tensor]:
            outputs = model(self.model_inputs(x))
            return [task.select(outputs, position, len(self._tasks)) for position, task in enumerate(self._tasks)]

        return run

    def model_inputs(self, x: Tensor, fit: bool = False) -> Tensor:
        """What the model gets to see: inputs after every defence and preprocessing, in the precision of its weights and
        in memory that it may write into.

        Args:
            x: Inputs ``(B, *input_shape)`` on any device.
            fit: Whether for training.
        """
        seen = apply_operations(self.preprocessing_operations, x.to(self._device), fit).to(dtype_of(self._model))
        return seen.clone() if seen.data_ptr() == x.data_ptr() else seen

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

    def set_params(self, **kwargs: Any) -> None:
        """Set constructor arguments anew; all are checked before any is set.

        Args:
            kwargs: Names of :attr:`estimator_params` and values.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A name is unknown, or a value is wrong.
        """
        unknown = [name for name in kwargs if name not in self.estimator_params]
        if unknown:
            raise ValueError(f"Parameters should be among {self.estimator_params}. Found {unknown}.")
        new = {**self.get_params(), **kwargs}
        # Torch's standardisation is bound to its device, so a new device needs a new one.
        standard = new["preprocessing"]
        if "device_type" in kwargs and isinstance(standard, StandardisationMeanStdPyTorch):
            new["preprocessing"] = (standard.mean, standard.std)
        fresh = type(self)(**new)
        super().set_params(**{name: getattr(fresh, name) for name in {*kwargs, "preprocessing"}})
        self._device = fresh.device

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.estimator_params}
        shown["model"] = type(self._model).__name__
        shown["tasks"] = [f"{task.kind}({task.name!r})" for task in self._tasks]
        shown["optimizer"] = None if self._optimizer is None else type(self._optimizer).__name__
        shown["clip_values"] = None if self._clip_values is None else tuple(self._clip_values.tolist())
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def _apply_preprocessing(self, x: Any, y: Any, fit: bool = False, no_grad: bool = True) -> tuple[Any, Any]:
        # ART's own converts `y` with torch.tensor, which no container of several tasks survives.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not no_grad):
            tensor = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
            result = apply_operations(self.preprocessing_operations, tensor.to(self._device), fit)
        return (result if isinstance(x, Tensor) else result.cpu().numpy()), y

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self._tasks)

    def _host_targets(self, y: Any, n: int) -> list[Target]:
        labels = MultiTaskLabels.of(y, self._names, n, partial=True)
        return [task.targets(labels[task.name], labels.present(task.name)) for task in self._tasks]

    def _place(self, x: Tensor) -> Tensor:
        return x.to(self._device, torch.float64 if dtype_of(self._model) == torch.float64 else torch.float32)

    def _forward(self, x: Tensor, fit: bool) -> list[Tensor]:
        outputs = self._model(self.model_inputs(x, fit))
        return [task.select(outputs, position, len(self._tasks)) for position, task in enumerate(self._tasks)]

    def _losses(self, x: Tensor, targets: Sequence[Target], fit: bool = False) -> list[Tensor]:
        return [
            task.loss(task.check_output(output, target), target)
            for task, output, target in zip(self._tasks, self._forward(x, fit), targets, strict=True)
        ]

    @contextmanager
    def _lent(self, training_mode: bool = False) -> Iterator[None]:
        with frozen(self._model, evaluate=not training_mode):
            if training_mode:
                self._model.train()
            yield
