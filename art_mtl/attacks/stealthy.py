"""The task-selective attack, with ART's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_mtl.attacks.multi_task_pgd import MultiTaskPGD
from art_mtl.attacks.posed import Radius
from art_mtl.core.families import TOLERANCE
from art_mtl.estimators import PyTorchMultiTaskEstimator

_DECIDED = ("method", "objective", "weighting", "gamma", "weight_step", "penalty")


class StealthyMultiTaskPGD(MultiTaskPGD):
    """Degrade the attacked tasks while every preserved one changes by at most a tolerance.

    ``max Σ_chosen q_i`` subject to ``|m_j/b_j − 1| ≤ tolerance``, with m_j what is measured of a preserved task and b_j
    the same on clean inputs. The weights of the preserved tasks are multipliers of these constraints, found by dual
    ascent with a quadratic penalty (an augmented Lagrangian); see
    :class:`art_mtl.core.objectives.constrained.Multipliers`.

    With ``weight_scope="dataset"`` (default) m_j are the data set's own metrics, in chunks of ``weight_group`` (256)
    samples, and the last iterate is returned. With "sample" they are each sample's error or score (probability of the
    true class, for instance), and of each sample the best iterate within the tolerance, or the nearest to it, is
    returned.

    Holding takes steps: 40 or more. The step falls from 0.3 ε to 0, unless ``eps_step`` and ``schedule`` say otherwise.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        attacked: Name of the task to degrade, or a list of several.
        tolerance: Largest relative change of a preserved task, in (0, 1).
        norm: As for :class:`MultiTaskPGD`, like everything that follows.
        **kwargs: Everything else that :class:`MultiTaskPGD` knows, ``preserved`` among it, but ``method``,
        ``objective``,
            ``weighting``, ``gamma``, ``weight_step`` and ``penalty``.

    Raises:
        ValueError: An argument out of its range, an unknown task, or one that is both attacked and preserved.
        TypeError: An argument of the wrong type.

    Examples:
        >>> import torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> StealthyMultiTaskPGD(estimator, "digit", tolerance=0.02, eps=8 / 255).name
        'stealthy:digit'
    """

    attack_params = [name for name in MultiTaskPGD.attack_params if name not in _DECIDED]

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator | PyTorchClassifier,
        attacked: str | Sequence[str],
        tolerance: float = TOLERANCE,
        norm: float | str = np.inf,
        eps: Radius = 0.3,
        eps_step: Radius | None = None,
        **kwargs: Any,
    ) -> None:
        names = [attacked] if isinstance(attacked, str) else attacked
        super().__init__(estimator, "stealthy", norm, eps, eps_step, attacked=names, tolerance=tolerance, **kwargs)
