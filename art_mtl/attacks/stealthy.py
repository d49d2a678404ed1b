"""The task-selective attack, with ART's names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import StealthyOptions
from art_mtl.core.methods import TOLERANCE


class StealthyMultiTaskPGD(MultiTaskAttack):
    """Degrade the attacked tasks while every preserved one changes by at most a tolerance.

    ``max Σ_attacked q_i`` subject to ``|m_j/b_j − 1| ≤ tolerance``, with m_j what is measured of a preserved task and
    b_j the same on clean inputs. The weights of the preserved tasks are multipliers of these constraints, found by dual
    ascent with a quadratic penalty (an augmented Lagrangian); see
    :class:`art_mtl.core.objectives.constrained.Multipliers`.

    With ``weight_scope="dataset"`` (default) m_j are the data set's own metrics, in chunks of ``weight_group`` (256)
    samples, and the last iterate is returned. With "sample" they are each sample's error or score (probability of the
    true class, for instance), and of each sample the best iterate within the tolerance, or the nearest to it, is
    returned.

    To preserve takes steps: 40 or more. The step falls from 0.3 ε to 0, unless ``eps_step`` and ``schedule`` say
    otherwise.

    Args:
        estimator: As for :class:`MultiTaskPGD`.
        attacked: Name of the task to degrade, or a list of several.
        {options}

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> StealthyMultiTaskPGD(estimator, "digit", tolerance=0.02, eps=8 / 255).name
        'stealthy:digit'
    """

    def __init__(
        self,
        estimator: Estimator,
        attacked: str | Sequence[str],
        tolerance: float = TOLERANCE,
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        **options: Unpack[StealthyOptions],
    ) -> None:
        super().__init__(
            estimator, method="stealthy", attacked=attacked, tolerance=tolerance, norm=norm, eps=eps, eps_step=eps_step,
            **options,
        )  # fmt: skip
