"""An attack as a frozen set of options, with the core's names: what every host translates its own to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from art_mtl.core import checks
from art_mtl.core.assembly import make_method
from art_mtl.core.method import Method
from art_mtl.core.options import METHOD_PARTS
from art_mtl.core.threat import RunConfig
from art_mtl.core.warn import warn
from art_mtl.tasks import Task

NUDGE = 0.01
"""Share of ε of the random start where labels are the model's own outputs: there an absolute error has gradient exactly
0.
"""


@dataclass(frozen=True)
class AttackConfig:
    """What an attack does, whatever its host.

    Attributes:
        method: Name; see :mod:`art_mtl.core.methods`.
        norm: ``math.inf``, 2 or 1.
        eps: Radius, a number or broadcastable to the inputs.
        step_size: Size of the first step, likewise; None for that of the schedule.
        steps: T.
        restarts: Independent runs, the best of which is kept for each sample.
        random_start: Whether they start at random points of the ball.
        targeted: Labels are what the outputs should become.
        momentum: Decay of the gradient's momentum; None for the method's own.
        batch_size: Samples a batch, "auto" to measure it, or None for all at once.
        l1_step: See :func:`art_mtl.core.optimizers.steps.direction`.
        seed: Of everything drawn at random; None for torch's global generator.
        prepare: What the gradient steps run on.
        parts: What else the method is told; see :data:`~art_mtl.core.options.METHOD_PARTS`.
        first_step: Share of ε of the first step, in place of the method's own.
        default_scope: Which samples share weights, where the user does not say and it matters to the search.
    """

    method: str
    norm: float
    eps: Any
    step_size: Any = None
    steps: int = 10
    restarts: int = 1
    random_start: bool = False
    targeted: bool = False
    momentum: float | None = None
    batch_size: int | str | None = None
    l1_step: str = "adaptive"
    seed: int | None = None
    prepare: Any = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    first_step: float | None = None
    default_scope: str | None = None

    @classmethod
    def of(cls, attack: object, names: Mapping[str, str], **settled: Any) -> AttackConfig:
        """The configuration of an attack object of a host.

        Args:
            attack: Has the options as attributes.
            names: The core's name of an option to the host's, where they differ.
            **settled: What the host says itself.
        """
        own = {name: names.get(name, name) for name in cls.__dataclass_fields__ if name not in ("parts", *settled)}
        found = {name: getattr(attack, host) for name, host in own.items() if hasattr(attack, host)}
        found["norm"] = checks.parse_norm(found["norm"])
        return cls(parts={name: getattr(attack, name) for name in METHOD_PARTS}, **found, **settled)

    def assemble(self, tasks: Sequence[Task]) -> Method:
        """The method for these tasks.

        Raises:
            ValueError: An unknown name, or an option that it has no use for.
        """
        method = make_method(self.method, tasks, momentum=self.momentum, default_scope=self.default_scope, **self.parts)
        return method if self.first_step is None else replace(method, first_step=self.first_step)

    def check(self, tasks: Sequence[Task], eps_name: str = "eps", step_name: str = "step_size") -> Method:
        """The method, once all options go together.

        Raises:
            TypeError: A step size of another kind than the radius.
            ValueError: Options that do not go together.
        """
        checks.radius_of_norm(eps_name, self.eps, self.norm)
        method = self.assemble(tasks)
        if self.step_size is not None:
            checks.radius_of_norm(step_name, self.step_size, self.norm)
            if method.schedule.rule_of_its_own:
                raise ValueError(
                    f"The schedule 'auto' has a step size of its own; leave `{step_name}` out. "
                    f"Found {self.step_size!r}."
                )
        if self.l1_step != "adaptive" and (self.norm != 1 or method.schedule.rule_of_its_own):
            raise ValueError(
                "Parameter `l1_step` is for the norm 1 and a schedule without a rule of its own; leave it out. "
                f"Found {self.l1_step!r} for the norm {self.norm:g}."
            )
        return method

    def warn_of_grey_levels(self, bounds: tuple[Any, Any], eps_name: str = "eps") -> None:
        """Warn of a radius that is meant in grey levels, where the box has another scale."""
        if self.norm != math.inf:
            return
        width = float(np.max(checks.host_array(bounds[1]) - checks.host_array(bounds[0])))
        largest = float(np.max(checks.host_array(self.eps)))
        if math.isfinite(width) and largest > width:
            warn(
                f"Parameter `{eps_name}` is {largest:g}, more than the width {width:g} of the inputs' range: every "
                f"input can be reached. Did you mean {largest:g}/255?"
            )

    def run_config(
        self, tasks: Sequence[Task], own_labels: bool, device: torch.device, channels_first: bool = True
    ) -> RunConfig:
        """How long and from where.

        Where labels are the model's own outputs and some task is an error, the gradient is exactly 0 at the clean
        input; such an attack starts from a small noise of a fixed seed.
        """
        nudge = own_labels and not self.random_start and not all(task.decides for task in tasks)
        generator = None
        if self.seed is not None or nudge:
            generator = torch.Generator(device).manual_seed(0 if self.seed is None else int(self.seed))
        return RunConfig(
            steps=int(self.steps),
            start=1.0 if self.random_start else NUDGE if nudge else 0.0,
            restarts=max(1, int(self.restarts)),
            targeted=bool(self.targeted),
            l1_step=self.l1_step,
            generator=generator,
            channels_first=channels_first,
        )
