"""Projected gradient descent on several tasks, and its presets, with torchattacks' names."""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import Unpack

from art_mtl.core.configurable import arguments
from art_mtl.core.methods import TOLERANCE
from art_mtl.tasks import Task
from art_mtl.torchattacks.base import MultiTaskAttack
from art_mtl.torchattacks.options import AllTasksOptions, AutoPGDOptions, PGDOptions, StealthyOptions


class MultiTaskPGD(MultiTaskAttack):
    """Projected gradient descent on all tasks of a multi-task model.

    The same names and meaning of arguments as ``torchattacks.PGD``, with ``tasks`` and ``method`` after the model. With
    ``weight_scope="dataset"`` weights are shared by all calls until :meth:`reset`, in chunks.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x.flatten(1)[:, :10], x.mean((1, 2, 3))
        >>> atk = MultiTaskPGD(Net(), [tasks.classification("digit", 10), tasks.regression("ink")], eps=0.1)
        Failed to set device automatically, please try set_device() manual.
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7]), "ink": torch.tensor([0.5, 0.4])})
        >>> round((adv - images).abs().max().item(), 4)
        0.1
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "equal",
        eps: Any = 8 / 255,
        alpha: Any = None,
        steps: int = 10,
        random_start: bool = False,
        **options: Unpack[PGDOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class MinMaxMultiTaskPGD(MultiTaskAttack):
    """The attack of Guo et al., "Robust Multi-task Adversarial Attacks Using Min-max Optimization", ICASSP 2025.

    Defaults where the paper is silent: γ = 1, α₂ = 1/30, start at the images, constant step, last iterate.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MinMaxMultiTaskPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=5)
        >>> adv = atk(torch.rand(2, 1, 8, 8), {"digit": torch.tensor([3, 7])})
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        variant: str = "paper",
        eps: Any = 8 / 255,
        alpha: Any = None,
        steps: int = 10,
        random_start: bool = False,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class WorstTaskPGD(MultiTaskAttack):
    """The strongest attack of this package on the *worst* task: min-max on reported degradation, not on losses.

    With ``weight_scope="dataset"`` (default) shared weights balance the tasks over everything attacked since
    :meth:`reset`, in chunks of ``weight_group`` (256) samples; call :meth:`reset` between data sets. With "sample" each
    image is to lose *all* its tasks. The step size falls from 3 ε to 0 unless ``alpha`` says otherwise.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = WorstTaskPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=5)
        >>> adv = atk(torch.rand(2, 1, 8, 8), {"digit": torch.tensor([3, 7])})
    """

    decided = {"method": "worst-task"}

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        eps: Any = 8 / 255,
        alpha: Any = None,
        steps: int = 10,
        random_start: bool = False,
        **options: Unpack[AllTasksOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class MultiTaskAutoPGD(MultiTaskAttack):
    """Auto-PGD (Croce & Hein, ICML 2020, section 3; for L1 Croce & Hein, ICML 2021) on any objective: no step size to
    choose.

    What the rule does, and how it judges progress where task weights move, is said at
    :class:`art_mtl.attacks.MultiTaskAutoPGD`. The best iterate of each sample is returned: ``steps`` forward and
    backward passes, and one forward for the last iterate. In 10 steps checkpoints are one to three apart, and
    :class:`WorstTaskPGD` was stronger in what was measured.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> atk = MultiTaskAutoPGD(net, [tasks.classification("digit", 10)], eps=0.1, steps=10)
        >>> adv = atk(torch.rand(2, 1, 8, 8), {"digit": torch.tensor([3, 7])})
    """

    decided = {"schedule": "auto"}

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        method: str = "worst-task",
        eps: Any = 8 / 255,
        steps: int = 100,
        random_start: bool = False,
        **options: Unpack[AutoPGDOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


class StealthyMultiTaskPGD(MultiTaskAttack):
    """Degrade the attacked tasks while every preserved one changes by at most a tolerance.

    How the multipliers that preserve tasks are found is said at :class:`art_mtl.attacks.StealthyMultiTaskPGD`. With
    ``weight_scope="dataset"`` (default) the metrics of everything attacked since :meth:`reset` are preserved; with
    "sample" each image's own errors and scores. To preserve takes 40 steps or more.

    Args:
        attacked: Name of the task to degrade, or a list of several.

    Examples:
        >>> import torch
        >>> from art_mtl import tasks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 11))
        >>> digit = tasks.classification("digit", 10, output=lambda raw: raw[:, :10])
        >>> ink = tasks.regression("ink", output=lambda raw: raw[:, 10])
        >>> atk = StealthyMultiTaskPGD(net, [digit, ink], "digit", tolerance=0.02, eps=0.1, steps=20)
        >>> images = torch.full((2, 1, 8, 8), 0.5)
        >>> adv = atk(images, {"digit": torch.tensor([3, 7]), "ink": torch.tensor([0.5, 0.4])})
        >>> bool((adv - images).abs().max() <= 0.1 + 1e-6)
        True
    """

    decided = {"method": "stealthy"}

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        attacked: str | Sequence[str],
        tolerance: float = TOLERANCE,
        eps: Any = 8 / 255,
        alpha: Any = None,
        steps: int = 100,
        random_start: bool = False,
        **options: Unpack[StealthyOptions],
    ) -> None:
        super().__init__(**arguments(locals()))
