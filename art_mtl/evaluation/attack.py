"""An attack as the evaluation sees it: anything with ``generate``, its name, and what it promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from art_mtl.core.checks import host_array
from art_mtl.core.engine import Evaluations
from art_mtl.core.methods import spec_of
from art_mtl.data.sources import Inputs
from art_mtl.evaluation.checks import check_perturbation, norm_name
from art_mtl.evaluation.experiment import fraction
from art_mtl.evaluation.results import Number
from art_mtl.evaluation.step_recorder import seeded
from art_mtl.labels import MultiTaskLabels
from art_mtl.structure import tensors_in

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = [
    "Attack",
    "AttackInfo",
    "Generated",
    "attack_info",
    "generate",
    "greatest_eps",
    "input_range",
    "named_attacks",
    "planned_evaluations",
]


class Attack(Protocol):
    """Anything that makes adversarial inputs: this package's attacks, ART's, yours."""

    def generate(self, x: npt.NDArray[Any], y: Any = None) -> npt.NDArray[Any]:
        """Adversarial inputs of the shape of ``x``."""
        ...


@dataclass(frozen=True)
class AttackInfo:
    """What is known of an attack before it runs; see :class:`art_mtl.evaluation.AttackResult`."""

    name: str
    method: str
    norm: str | None
    eps: Number
    schedule: str | None
    steps: int | None

    @property
    def label(self) -> str:
        """Name, norm and radius.

        Examples:
            >>> AttackInfo("equal", "equal", "linf", 0.1, None, 10).label
            'equal, linf 0.1'
            >>> AttackInfo("equal", "equal", "linf", 4 / 255, None, 10).label
            'equal, linf 4/255'
        """
        return self.name if self.norm is None or self.eps is None else f"{self.name}, {self.norm} {fraction(self.eps)}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def named_attacks(
    attacks: Mapping[str, Attack] | Sequence[Attack], names: Sequence[str] | None = None
) -> list[tuple[str, Attack]]:
    """Attacks with their names, checked."""
    if isinstance(attacks, Mapping):
        if names is not None:
            raise ValueError("Parameter `names` should be left out where `attacks` is a mapping. Found both.")
        pairs = list(attacks.items())
    else:
        attacks = [attacks] if hasattr(attacks, "generate") else list(attacks)
        found = [own_name(attack) for attack in attacks] if names is None else list(names)
        if len(found) != len(attacks):
            raise ValueError(f"Parameter `names` should have {len(attacks)} names, one an attack. Found {len(found)}.")
        pairs = list(zip(found, attacks, strict=True))
    for name, attack in pairs:
        if not callable(getattr(attack, "generate", None)):
            raise TypeError(f"Attack {name!r} should have a method `generate(x, y)`. Found {type(attack).__name__}.")
        if getattr(attack, "targeted", False):
            raise ValueError(
                f"Attack {name!r} should be untargeted: degradation is measured against the true labels. "
                "Found `targeted=True`; generate its inputs with target labels and compare metrics yourself."
            )
    keys = [(name, str(getattr(attack, "norm", None)), str(getattr(attack, "eps", None))) for name, attack in pairs]
    repeated = sorted({name for key, (name, _) in zip(keys, pairs, strict=True) if keys.count(key) > 1})
    if repeated:
        raise ValueError(
            "Attacks of one norm and radius should have distinct names; give a dict of names and attacks. "
            f"Found {repeated} repeated."
        )
    return pairs


def attack_info(name: str, attack: Any) -> AttackInfo:
    """What an attack says of itself."""
    return AttackInfo(
        name=name,
        method=own_name(attack),
        norm=norm_name(getattr(attack, "norm", None)),
        eps=greatest_eps(getattr(attack, "eps", None)),
        schedule=getattr(attack, "schedule", None),
        steps=_steps(attack),
    )


def planned_evaluations(info: AttackInfo, attack: Any, num_tasks: int) -> int | None:
    """Gradient evaluations a sample that an attack is going to make; None where they are not known.

    Args:
        info: What the attack says of itself.
        attack: The attack.
        num_tasks: K.

    Examples:
        >>> planned_evaluations(AttackInfo("a", "jd:upgrad", "linf", 0.1, None, 10), None, num_tasks=3)
        30
    """
    if info.steps is None:
        return None
    spec = spec_of(info.method)
    once = info.steps if spec.role == "foreign" else spec.gradient_evaluations(info.steps, num_tasks)
    return None if once is None else once * max(1, getattr(attack, "num_random_init", 1))


@dataclass(frozen=True)
class Generated:
    """What an attack made of some inputs.

    Attributes:
        inputs: ``(n, ...)``, checked.
        perturbation: Largest norm of a perturbation.
        seconds: That the attack took.
        gradients: Evaluations of the model with a gradient, a sample.
        forwards: Evaluations without, a sample.
    """

    inputs: Inputs
    perturbation: float
    seconds: float
    gradients: float
    forwards: float


def generate(
    name: str, attack: Attack, x: Inputs, y: MultiTaskLabels, estimator: PyTorchMultiTaskEstimator, seed: int | None
) -> Generated:
    """Run an attack, and check what it returns. Inputs that are only given with a sample are restored.

    Args:
        name: For messages.
        attack: What to run.
        x: Clean inputs, ``(n, ...)``.
        y: Their labels.
        estimator: The model that is attacked.
        seed: Of everything that is random; None leaves the generators alone.

    Raises:
        ValueError: The attack broke its own promise.
    """
    if hasattr(attack, "reset"):
        attack.reset()  # So that what it draws does not depend on the units before.
    with seeded(seed), _counted(attack, estimator.model) as count:
        start = time.perf_counter()
        x_adv = np.asarray(attack.generate(x, y))
        seconds = time.perf_counter() - start
        evaluations = count()
    if estimator.attackable is not None and x_adv.shape == x.shape:
        x_adv = np.where(host_array(estimator.attackable) == 0, x, x_adv)
    perturbation = check_perturbation(name, attack, x, x_adv, estimator.clip_values)
    gradients, forwards = evaluations.gradients / len(x), evaluations.forwards / len(x)
    return Generated(x_adv.astype(np.float32, copy=False), perturbation, seconds, gradients, forwards)


@contextmanager
def _counted(attack: Any, model: nn.Module) -> Iterator[Callable[[], Evaluations]]:
    """Count the samples that a model is evaluated on: as the attack itself tells, else by the model's calls."""
    if isinstance(getattr(attack, "evaluations", None), Evaluations):
        yield lambda: attack.evaluations
        return
    found = Evaluations()

    def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        tensors = tensors_in(list(arguments))
        if tensors:
            # A backward pass needs a graph, which an attack on the inputs has through them.
            if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
                found.gradients += len(tensors[0])
            else:
                found.forwards += len(tensors[0])

    # ART's stock classifiers call their models by a wrapper, layer by layer.
    called = getattr(getattr(attack, "estimator", None), "_model", model)
    handle = (called if isinstance(called, nn.Module) else model).register_forward_pre_hook(count)
    try:
        yield lambda: found
    finally:
        handle.remove()


def own_name(attack: Any) -> str:
    # What a table calls an attack may be less than its name says: a reference has a stronger objective than its method.
    name = getattr(attack, "shown_as", getattr(attack, "name", None))
    return name if isinstance(name, str) else type(attack).__name__


def _steps(attack: Any) -> int | None:
    steps = getattr(attack, "max_iter", None)
    return int(steps) if isinstance(steps, (int, np.integer)) and steps > 0 else None


def greatest_eps(eps: Any) -> float | None:
    """The radius of an attack, the greatest if samples differ; None where it is no number."""
    if eps is None or isinstance(eps, (str, bool)):
        return None
    return float(np.max(np.asarray(eps, dtype=np.float64)))


def input_range(clip_values: Any) -> tuple[float, float] | None:
    """Least and greatest value of an input; None if unbounded."""
    if clip_values is None:
        return None
    low, high = clip_values
    return float(np.min(low)), float(np.max(high))
