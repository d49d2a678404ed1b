"""What is measured: a model with its tasks, a batch and its labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_mtl import tasks
from art_mtl.core import frozen
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels
from art_mtl.models import MTAN
from art_mtl.near_names import perhaps
from art_mtl.tasks import Target
from art_mtl.zoo.victims import VICTIM_SPECS, load_victim

SUBJECTS = (*VICTIM_SPECS, "mtan")
"""The embedded victims, and "mtan": ResNet-50 MTAN with random weights, on noise of 288×384, for costs alone."""
_MTAN_SIZE = (288, 384)


@dataclass(frozen=True)
class Subject:
    """One batch on one model.

    Attributes:
        name: Of the model.
        estimator: It, with its tasks.
        x: Clean inputs, ``(B, *input_shape)``.
        y: Their labels.
        eps: Radius, L∞.
        trained: Whether degradation to it means anything.
    """

    name: str
    estimator: PyTorchMultiTaskEstimator
    x: NDArray[np.float32]
    y: MultiTaskLabels
    eps: float
    trained: bool = True

    @property
    def model(self) -> torch.nn.Module:
        """The model itself."""
        model: torch.nn.Module = self.estimator.model
        return model

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest input."""
        low, high = self.estimator.clip_values
        return float(np.min(low)), float(np.max(high))

    def images(self) -> Tensor:
        """The clean inputs on the device."""
        return torch.from_numpy(self.x).to(self.estimator.device)

    def targets(self) -> list[Target]:
        """Canonical labels on the device."""
        return self.estimator.targets(self.y, len(self.x))

    def losses(self, inputs: Tensor, targets: list[Target]) -> list[Tensor]:
        """Of each task ``(B,)``."""
        outputs = self.estimator.forward_tasks(inputs)
        triples = zip(self.estimator.tasks, outputs, targets, strict=True)
        return [task.loss(task.check_output(output, target), target) for task, output, target in triples]

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Inside, parameters have gradients, as those of most users' models do."""
        with frozen(self.model):
            self.model.requires_grad_(True)
            try:
                yield
            finally:
                for parameter in self.model.parameters():
                    parameter.requires_grad_(False)
                    parameter.grad = None


def load_subject(victim: str, batch: int, device: str = "auto") -> Subject:
    """A batch on a model.

    Args:
        victim: One of :data:`SUBJECTS`.
        batch: B.
        device: "cpu", "gpu", or "auto" for a GPU where there is one.

    Raises:
        ValueError: There is no such model.
        ImportError: "mtan" without torchvision.

    Examples:
        >>> subject = load_subject("digits", 2, "cpu")
        >>> subject.x.shape, subject.y.names
        ((2, 1, 28, 28), ('left', 'right', 'sum'))
    """
    if victim not in SUBJECTS:
        raise ValueError(
            f"Parameter `victim` should be one of {', '.join(SUBJECTS)}. Found {victim!r}.{perhaps(victim, SUBJECTS)}"
        )
    device_type = "cpu" if device == "cpu" else "gpu"
    if victim == "mtan":
        return _mtan(batch, device_type)
    loaded = load_victim(victim)
    x, y = loaded.data("test", batch)
    estimator = PyTorchMultiTaskEstimator(
        loaded.model, loaded.tasks, loaded.input_shape, loaded.clip_values, device_type=device_type
    )
    return Subject(victim, estimator, x, y, loaded.eps["linf"][0])


def _mtan(batch: int, device_type: str) -> Subject:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MTAN({"segmentation": 13, "depth": 1, "normals": 3}).eval().requires_grad_(False)
    jobs = [tasks.segmentation("segmentation", 13), tasks.depth("depth"), tasks.surface_normals("normals")]
    estimator = PyTorchMultiTaskEstimator(model, jobs, (3, *_MTAN_SIZE), (-1.0, 1.0), device_type=device_type)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (batch, 3, *_MTAN_SIZE)).astype(np.float32)
    labels = {
        "segmentation": rng.integers(0, 13, (batch, *_MTAN_SIZE)),
        "depth": rng.uniform(1, 9, (batch, 1, *_MTAN_SIZE)).astype(np.float32),
        "normals": _units(rng.standard_normal((batch, 3, *_MTAN_SIZE)).astype(np.float32)),
    }
    return Subject("mtan", estimator, x, estimator.labels(labels, batch), 4 / 255, trained=False)


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    units: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units
