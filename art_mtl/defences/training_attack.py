"""The attack inside a training loop of one's own, on tensors; without ART."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_mtl.core import ThreatModel, attack, frozen, make_method
from art_mtl.core.threat import RunConfig
from art_mtl.tasks import Target, Task

__all__ = ["TrainingAttack"]


@dataclass(frozen=True)
class TrainingAttack:
    """PGD in the L∞ ball on the sum of all losses, from a random start (Madry et al., ICLR 2018; multi-task: Mao et al.
    2020, Ghamizi et al. 2022).

    The model is attacked in evaluation mode and left as it was. :class:`MultiTaskAdversarialTrainer` is the whole loop,
    for ART's estimators.

    Attributes:
        eps: Radius, in the unit of the images.
        step_size: Size of each step, in the same unit.
        steps: T, the number of steps.
        bounds: Least and greatest value of an image.
        method: Name of the attack's method, see :func:`art_mtl.core.method_names`.

    Examples:
        >>> from art_mtl import tasks
        >>> job, x = tasks.regression("y"), torch.rand(2, 3)
        >>> hostile = TrainingAttack(eps=0.1, step_size=0.05, steps=2, bounds=(0.0, 1.0))
        >>> net = nn.Linear(3, 1)
        >>> x_adv = hostile(net, x, [job], [job.targets(torch.zeros(2, 1))], torch.Generator().manual_seed(0))
        >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
        True
    """

    eps: float
    step_size: float
    steps: int
    bounds: tuple[float, float]
    method: str = "equal"

    def __call__(
        self, model: nn.Module, x: Tensor, tasks: Sequence[Task], targets: Sequence[Target], generator: torch.Generator
    ) -> Tensor:
        """Adversarial images ``(B, ...)``, within ``eps`` of the clean ones and inside the bounds.

        Args:
            model: Returns the outputs of all tasks.
            x: Clean images, ``(B, ...)``.
            tasks: K tasks.
            targets: Canonical labels of each task, see :meth:`art_mtl.Task.targets`, on the device of ``x``.
            generator: Source of the random start, on the device of ``x``.
        """

        def forward(inputs: Tensor) -> list[Tensor]:
            outputs = model(inputs)
            return [task.select(outputs, place, len(tasks)) for place, task in enumerate(tasks)]

        def constant(value: float) -> Tensor:
            return torch.full((1,) * x.ndim, value, dtype=x.dtype, device=x.device)

        threat = ThreatModel(math.inf, constant(self.eps), (constant(self.bounds[0]), constant(self.bounds[1])))
        run_config = RunConfig(self.steps, step_size=constant(self.step_size), start=1.0, generator=generator)
        with frozen(model):
            return attack(forward, x, tasks, targets, make_method(self.method, tasks), threat, run_config)
