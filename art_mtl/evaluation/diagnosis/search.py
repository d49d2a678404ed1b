"""Attacks without gradients: random noise, a search by queries alone, and inputs turned grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_mtl.core import frozen
from art_mtl.core.batch import AttackBatch, check_mask, radius
from art_mtl.core.checks import host_array
from art_mtl.core.loop import attack
from art_mtl.core.method import Method
from art_mtl.core.optimizers.schedules import SQUARE
from art_mtl.core.optimizers.steps import direction
from art_mtl.core.run_log import RunLog
from art_mtl.core.searches.ensemble_members import SOFT_FLIPS
from art_mtl.core.threat import RunConfig
from art_mtl.core.weightings import Fixed
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.checks import NORMS
from art_mtl.projections import project

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["Grey", "Noise", "QuerySearch", "box_around", "grey_radius"]


def box_around(estimator: PyTorchMultiTaskEstimator, x: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest value that each place of some inputs may take, on their device: the clip values, infinite
    where there are none, and the input itself where it is only given.
    """
    low, high = (bound.to(x.device) for bound in estimator.bounds)
    if estimator.attackable is None:
        return low, high
    given = estimator.attackable.to(x.device) == 0
    return torch.where(given, x, low), torch.where(given, x, high)


@dataclass
class Noise:
    """One random step to the edge of the ball: signs for L∞, a random direction for L2, a fifth of the values for L1.

    Attributes:
        estimator: The model; only its bounds matter.
        norm: "linf", "l2" or "l1".
        eps: Radius; an array may have one for each sample.
        seed: Of the noise.
    """

    estimator: PyTorchMultiTaskEstimator
    norm: str
    eps: Any
    seed: int

    def generate(self, x: Inputs, y: Any = None) -> Inputs:
        """The noisy inputs."""
        clean = torch.tensor(x)
        low, high = box_around(self.estimator, clean)
        draw = torch.randn(clean.shape, generator=torch.Generator().manual_seed(self.seed)) * (low < high)
        size, norm = radius("eps", self.eps, clean), NORMS[self.norm]
        step = size * direction(draw, norm, clean, clean, (low, high), step=0)
        noisy: Inputs = project(step, clean, size, norm, (low, high)).numpy()
        return noisy


@dataclass
class Grey:
    """Every input replaced by the middle of the box: nothing is left to tell inputs by."""

    estimator: PyTorchMultiTaskEstimator

    def generate(self, x: Inputs, y: Any = None) -> Inputs:
        """The middle of the box, once for every input."""
        low, high = box_around(self.estimator, torch.tensor(x))
        return np.broadcast_to(((low + high) / 2).numpy(), x.shape).astype(np.float32)


def grey_radius(estimator: PyTorchMultiTaskEstimator, norm: str) -> float:
    """The radius at which the ball around any input of the box holds the middle of the box.

    Args:
        estimator: Bounded.
        norm: "linf", "l2" or "l1".
    """
    low, high = (np.asarray(bound, dtype=np.float64) for bound in estimator.clip_values)
    half = np.broadcast_to((high - low) / 2, estimator.input_shape)
    if estimator.attackable is not None:
        half = half[host_array(estimator.attackable) != 0]
    return float(np.linalg.norm(half.ravel(), ord=NORMS[norm]))


@dataclass
class QuerySearch:
    """The Square search of :mod:`art_mtl.core.optimizers.square` on one task: it asks for nothing but outputs.

    A decision is judged by its margin, which does not saturate as a softmax does.

    Attributes:
        estimator: The model.
        task: Name of the task to degrade.
        norm: "linf" or "l2".
        eps: Radius; an array may have one for each sample.
        queries: Forward passes for each sample, ≥ 2.
        batch_size: Samples at a time.
        seed: Of the search.
    """

    estimator: PyTorchMultiTaskEstimator
    task: str
    norm: str
    eps: Any
    queries: int
    batch_size: int
    seed: int

    def generate(self, x: Inputs, y: Any = None) -> Inputs:
        """The inputs at which the task was worst."""
        estimator, device = self.estimator, self.estimator.device
        clean = torch.as_tensor(x)
        low, high = (radius("clip_values", bound, clean) for bound in estimator.bounds)
        targets = tuple(target.to(clean.device) for target in estimator.targets(y, len(x)))
        mask = check_mask(estimator.attackable, clean)
        whole = AttackBatch(clean, targets, radius("eps", self.eps, clean), (low, high), mask=mask)
        found, log = np.empty_like(x, dtype=np.float32), RunLog()
        method = Method(
            f"square:{self.task}",
            objective=SOFT_FLIPS,
            weighting=Fixed(tuple(float(task.name == self.task) for task in estimator.tasks)),
            schedule=SQUARE,
            keep_best=True,
            score_fn=SOFT_FLIPS,
        )
        # One more forward pass judges the last candidate.
        config = RunConfig(steps=self.queries - 1, generator=torch.Generator(device).manual_seed(self.seed))
        with frozen(estimator.model):
            for start in range(0, len(x), self.batch_size):
                part = slice(start, start + self.batch_size)
                batch = whole[part].to(device)
                searched = attack(
                    estimator.forward_tasks,
                    batch.inputs,
                    estimator.tasks,
                    batch.targets,
                    method,
                    batch.threat(NORMS[self.norm]),
                    config,
                    log=log,
                    first_index=start,
                )
                found[part] = searched.cpu().numpy()
        log.warn(len(x))
        return found
