"""Projected gradient descent on several tasks, and its presets, with ART's names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Unpack

from art_mtl.attacks.base import Estimator, MultiTaskAttack
from art_mtl.attacks.options import AllTasksOptions, AutoPGDOptions, StealthyOptions
from art_mtl.core.configurable import arguments
from art_mtl.core.methods import TOLERANCE
from art_mtl.core.options import MethodOptions


class MultiTaskPGD(MultiTaskAttack):
    """Projected gradient descent on all tasks of a multi-task model.

    The same names, order and meaning of arguments as ART's ``ProjectedGradientDescent``, with ``method`` before them
    and the options of the multi-task loop behind them. The data stay on the estimator's device from the first step to
    the last; T steps cost T forward and T backward passes.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.
        measured: :class:`~art_mtl.core.batch_size.BatchSize` that ``batch_size="auto"`` has found; None before.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"digit": x.flatten(1)[:, :10], "ink": x.mean((1, 2, 3))}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), tasks=[tasks.classification("digit", 10), tasks.regression("ink")],
        ...     input_shape=(1, 8, 8), clip_values=(0, 1))
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=5, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [3, 7], "ink": [0.5, 0.4]})
        >>> round(float(abs(x_adv - x).max()), 4)
        0.1
    """

    def __init__(
        self,
        estimator: Estimator,
        method: str = "equal",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        decay: float | None = None,
        max_iter: int = 100,
        targeted: bool = False,
        num_random_init: int = 0,
        batch_size: int | str = 32,
        random_eps: bool = False,
        summary_writer: Any = False,
        verbose: bool = True,
        **options: Unpack[MethodOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class MinMaxMultiTaskPGD(MultiTaskAttack):
    """The attack of Guo et al., "Robust Multi-task Adversarial Attacks Using Min-max Optimization", ICASSP 2025.

    Task weights on the simplex descend while the perturbation ascends, so that the task that is hardest to degrade gets
    the weight. Defaults where the paper is silent: γ = 1, α₂ = 1/30, start at ``x``, constant step, last iterate.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> MinMaxMultiTaskPGD(estimator, eps=8 / 255, max_iter=10, gamma=0.5).name
        'minmax'
    """

    def __init__(
        self,
        estimator: Estimator,
        variant: str = "paper",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class WorstTaskPGD(MultiTaskAttack):
    """The strongest attack of this package on the *worst* task: min-max on reported degradation, not on losses.

    With ``weight_scope="dataset"`` (default) all samples share their weights. A controller on the degradation of each
    task's own data-set metric, over everything attacked so far, balances the tasks over the population: this is the
    figure Δ_Wor of the paper's tables. With "sample" each image is to lose *all* its tasks: the least degradation of
    the image itself is ascended, and the best iterate is returned. The step size falls from 3 ε to 0 unless
    ``eps_step`` says otherwise.

    With "dataset" the samples of a call are cut evenly into chunks of at most ``weight_group`` (256), which know
    nothing of each other. The batches of a chunk follow one another and share their statistics, so that results depend
    on the batch size, mildly.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> WorstTaskPGD(estimator, eps=8 / 255, max_iter=10).name
        'worst-task'
    """

    decided = {"method": "worst-task"}

    def __init__(
        self,
        estimator: Estimator,
        norm: float | str = np.inf,
        eps: Any = 0.3,
        eps_step: Any = None,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class MultiTaskAutoPGD(MultiTaskAttack):
    """Auto-PGD (Croce & Hein, ICML 2020, section 3; for L1 Croce & Hein, ICML 2021) on any objective: no step size to
    choose.

    L∞ and L2: the step starts at 2 ε, and moves have inertia 0.75. At checkpoints of shrinking distance the step of a
    sample is halved, and the sample goes back to its best iterate, if its objective has risen in fewer than 0.75 of the
    steps or has come to a halt. L1: sparse steps whose number of coordinates follows that of the best iterate. The best
    iterate is returned: T forward and T backward passes, and one forward for the last iterate.

    The weights of "worst-task" (and of other min-max methods) move from step to step, and the objective with them. So
    the values of the best and of the last iterate are kept task by task, and "risen" and "best" are judged at the
    weights of now. Values are degradations of the sample, 1 − e⁰/e or 1 − s/s⁰, where the objective itself is not one
    number a sample that lasts from step to step, as in "worst-task". They are compared by the method's own rule:
    summed, weighted, or the least of them. In 10 steps checkpoints are one to three apart, and :class:`WorstTaskPGD`
    was stronger in what was measured.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> x = np.full((2, 1, 8, 8), 0.5, dtype=np.float32)
        >>> attack = MultiTaskAutoPGD(estimator, eps=0.1, max_iter=10, verbose=False)
        >>> x_adv = attack.generate(x, {"digit": [3, 7]})
        >>> round(float(abs(x_adv - x).max()), 4)
        0.1
    """

    decided = {"schedule": "auto"}

    def __init__(
        self,
        estimator: Estimator,
        method: str = "worst-task",
        norm: float | str = np.inf,
        eps: Any = 0.3,
        max_iter: int = 100,
        **options: Unpack[AutoPGDOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


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
        attacked: Name of the task to degrade, or a list of several.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> estimator = PyTorchMultiTaskEstimator(net, [tasks.classification("digit", 10)], (1, 8, 8), (0, 1))
        >>> StealthyMultiTaskPGD(estimator, "digit", tolerance=0.02, eps=8 / 255).name
        'stealthy:digit'
    """

    decided = {"method": "stealthy"}

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
        super().__init__(**arguments(locals()))
