"""What an estimator was made with: properties, and setting them anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.pytorch import PyTorchEstimator
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import Tensor

from art_mtl.estimators import checks
from art_mtl.tasks import Task


class MultiTaskParameters(PyTorchEstimator):  # type: ignore[misc]
    """The parameters of :class:`PyTorchMultiTaskEstimator`, whose constructor fills them in."""

    estimator_params = [*PyTorchEstimator.estimator_params, "tasks", "input_shape", "optimizer"]

    _tasks: tuple[Task, ...]
    _input_shape: tuple[int, ...]
    _optimizer: torch.optim.Optimizer | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in the order of labels and outputs."""
        return self._tasks

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._input_shape

    @property
    def image_axes(self) -> tuple[int, int] | None:
        """The axes of a batch on which height and width stand; None where samples are no images.

        Samples of three dimensions are images: ``(C, H, W)`` if ``channels_first``, else ``(H, W, C)``. Samples of four
        are volumes or videos, of which each ``(H, W)`` is an image: ``(C, D, H, W)`` or ``(D, H, W, C)``. Samples of
        any other number of dimensions have no height and width that could be known.
        """
        if len(self._input_shape) not in (3, 4):
            return None
        last = len(self._input_shape) if self.channels_first else len(self._input_shape) - 1
        return last - 1, last

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """``clip_values`` as two tensors that are broadcastable to the inputs; infinite where there are none."""
        if self.clip_values is None:
            return torch.tensor(-np.inf, device="cpu"), torch.tensor(np.inf, device="cpu")
        lower, upper = (torch.from_numpy(np.array(value, dtype=np.float32)) for value in self.clip_values)
        if lower.numel() == int(np.prod(self._input_shape)):
            lower, upper = lower.reshape(self._input_shape), upper.reshape(self._input_shape)
        return lower, upper

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The optimizer that :meth:`fit` uses, or None."""
        return self._optimizer

    @property
    def device(self) -> torch.device:
        """Where the model is and computes."""
        device: torch.device = self._device
        return device

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
            instead = checks.instead_of(unknown[0], self.estimator_params)
            raise ValueError(f"Parameters should be among {self.estimator_params}. Found {unknown}{instead}.")
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
