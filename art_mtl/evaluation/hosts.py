"""Attack objects of other hosts as what an evaluation runs: anything with ``generate(x, y)``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from art_mtl.core.engine import Evaluations
from art_mtl.core.front import Front
from art_mtl.evaluation.checks import norm_name
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.data.sources import Inputs
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["HostedAttack", "SingleTaskAttack", "hosted"]

_RunAttack = Callable[[Any, "PyTorchMultiTaskEstimator", Tensor, Any], Tensor]
"""How a host's attack is called: with the attack, the model, inputs and labels."""
_Ball = tuple[Any, Any]
"""Norm and radius, each None where it is not certain."""


@dataclass(frozen=True)
class _Host:
    """How attacks of another package are run, and what ball their class makes certain."""

    run: _RunAttack
    ball: Callable[[Any], _Ball]


class HostedAttack:
    """An attack that takes and returns tensors, given a batch at a time.

    Attributes:
        attack: The object of the other host.
        estimator: The model that is attacked.
        evaluations: Of the model in the last call; None where the attack does not count them.
        eps: Radius, where the attack says.
        norm: Of the ball, where the attack says, or its class makes it certain.
    """

    def __init__(self, attack: Any, estimator: PyTorchMultiTaskEstimator, batch_size: int, host: _Host) -> None:
        self.attack, self.estimator, self._batch_size, self._run = attack, estimator, batch_size, host.run
        self.evaluations = Evaluations() if isinstance(attack, Front) else None
        own_name = getattr(attack, "name", None)
        self.name = own_name if isinstance(own_name, str) else type(attack).__name__
        self.norm, self.eps = _told(attack) if isinstance(attack, Front) else host.ball(attack)
        self.max_iter = _first(attack, "steps", "num_steps")
        self.schedule = getattr(attack, "schedule", None)
        self.targeted = bool(getattr(attack, "targeted", False)) or getattr(attack, "y_target", None) is not None

    @property
    def observer(self) -> Any:
        """Who watches the steps."""
        return getattr(self.attack, "observer", None)

    @observer.setter
    def observer(self, observer: Any) -> None:
        if isinstance(self.attack, Front):
            self.attack.observer = observer

    def reset(self) -> None:
        """Forget what was attacked before."""
        if isinstance(self.attack, Front):
            self.attack.reset()

    def generate(self, x: Inputs, y: MultiTaskLabels) -> Inputs:
        """Adversarial inputs, ``(N, ...)``, batch by batch."""
        parts = []
        self.evaluations = None if self.evaluations is None else Evaluations()
        for first in range(0, len(x), self._batch_size):
            part = slice(first, first + self._batch_size)
            images = torch.from_numpy(np.ascontiguousarray(x[part])).to(self.estimator.device)
            labels = y[part]
            given = labels if isinstance(self.attack, Front) else self._single(labels)
            found = self._run(self.attack, self.estimator, images, given)
            parts.append(found.detach().cpu().numpy())
            if self.evaluations is not None:
                self.evaluations.gradients += self.attack.evaluations.gradients
                self.evaluations.forwards += self.attack.evaluations.forwards
        return np.concatenate(parts)

    def _single(self, labels: MultiTaskLabels) -> Tensor:
        return torch.as_tensor(np.asarray(labels[labels.names[0]]), device=self.estimator.device)


def hosted(attack: Any, estimator: PyTorchMultiTaskEstimator, batch_size: int) -> Any:
    """The attack itself where it has ``generate``, else the attack of torchattacks or secml-torch as one that has.

    Args:
        attack: Any object.
        estimator: The model that is attacked.
        batch_size: Samples that a tensor attack gets at once.

    Raises:
        TypeError: It is of none of these hosts, or one for a single task beside a model of several.
        ValueError: It was made for another model.
    """
    if callable(getattr(attack, "generate", None)) and not isinstance(attack, type):
        return SingleTaskAttack(attack) if _is_for_one_task(attack, estimator) else attack
    host = next((_HOSTS[key] for key in map(_origin, type(attack).__mro__) if key in _HOSTS), None)
    if host is None or isinstance(attack, type):
        raise TypeError(
            "An attack should be a name, or an object of art_mtl, ART, torchattacks or secml-torch, or anything with "
            f"`generate(x, y)`. Found {attack if isinstance(attack, type) else type(attack).__name__}."
        )
    own = isinstance(attack, Front)
    if not own and len(estimator.tasks) > 1:
        raise TypeError(
            f"{type(attack).__name__} attacks a single task. Found the tasks {[t.name for t in estimator.tasks]}; use "
            "the attacks of art_mtl."
        )
    if getattr(attack, "model", estimator.model) is not estimator.model:
        raise ValueError(
            f"{type(attack).__name__} should be made for the model that is evaluated. Found one for another model."
        )
    return HostedAttack(attack, estimator, batch_size, host)


def _is_for_one_task(attack: Any, estimator: PyTorchMultiTaskEstimator) -> bool:
    """Whether it is an attack of ART on a stock classifier, which wants an array of labels."""
    from art.estimators.classification import PyTorchClassifier

    own = getattr(attack, "estimator", None)
    return len(estimator.tasks) == 1 and isinstance(own, PyTorchClassifier) and not isinstance(attack, SingleTaskAttack)


class SingleTaskAttack:
    """An attack of ART on a stock classifier: labels are those of the one task."""

    def __init__(self, attack: Any) -> None:
        self.attack = attack

    def __getattr__(self, name: str) -> Any:
        if name == "attack":  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.attack, name)

    @property
    def name(self) -> str:
        """As tables print it."""
        return type(self.attack).__name__

    def generate(self, x: Inputs, y: MultiTaskLabels) -> Inputs:
        """Adversarial inputs, ``(N, ...)``."""
        found: Inputs = self.attack.generate(x, np.asarray(y[y.names[0]]))
        return found


def _torchattacks(attack: Any, estimator: PyTorchMultiTaskEstimator, images: Tensor, labels: Any) -> Tensor:
    found: Tensor = attack(images, labels)
    return found


def _secmlt(attack: Any, estimator: PyTorchMultiTaskEstimator, images: Tensor, labels: Any) -> Tensor:
    from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier

    model = estimator.model if isinstance(attack, Front) else BasePyTorchClassifier(estimator.model)
    loader: Any
    if isinstance(attack, Front):
        loader = DataLoader([(images, labels)], batch_size=None)  # type: ignore[arg-type]
    else:  # which makes batches of its result by the loader's size
        loader = DataLoader(TensorDataset(images, labels), batch_size=len(images))
    return torch.cat(list(_inputs(attack(model, loader))))


def _torchattacks_ball(attack: Any) -> _Ball:
    norm, eps = _told(attack)
    if (
        getattr(attack, "normalization_used", None) is not None
    ):  # eps is a radius of what the model's inputs are made of
        return None, eps
    module, name = _origin(type(attack))
    if not module.startswith("torchattacks."):  # a class of the user's may do anything
        return norm, eps
    if name == "MultiAttack":
        balls = [_torchattacks_ball(member) for member in attack.attacks]
        norms = {norm_name(norm) for norm, _ in balls}
        return (norms.pop(), max(eps for _, eps in balls)) if len(norms) == 1 and None not in norms else (None, None)
    return norm or TORCHATTACKS_NORMS.get(name), eps


def _secmlt_ball(attack: Any) -> _Ball:
    norm, eps = _told(attack)
    kinds = set(map(_origin, type(attack).__mro__))
    if ("secmlt.adv.evasion.modular_attacks.modular_attack_fixed_eps", "ModularEvasionAttackFixedEps") in kinds:
        return _ball_of_manipulation(attack.manipulation_function, eps) or (norm, eps)
    models = attack.get_perturbation_models() if hasattr(attack, "get_perturbation_models") else ()
    return norm or (next(iter(models)) if len(models) == 1 else None), eps


def _ball_of_manipulation(manipulation: Any, eps: Any) -> _Ball | None:
    """The ball of what adds a perturbation that is projected once, then clipped; None of anything else."""
    added = _origin(type(manipulation)) == ("secmlt.manipulations.manipulation", "AdditiveManipulation")
    clipped = (_origin(type(one)) == (_CONSTRAINTS, "ClipConstraint") for one in manipulation.domain_constraints)
    if not added or not all(clipped) or len(manipulation.perturbation_constraints) != 1:
        return None
    [constraint] = manipulation.perturbation_constraints
    module, name = _origin(type(constraint))
    norm = norm_name(name.removesuffix("Constraint")) if module == _CONSTRAINTS else None
    radius = float(constraint.radius.max()) if norm else math.inf
    if not math.isfinite(radius):
        return None
    # The constraint has rounded the number that the user gave.
    return norm, eps if isinstance(eps, (int, float)) and math.isclose(eps, radius, rel_tol=1e-6) else radius


def _inputs(batches: Any) -> Iterator[Tensor]:
    for inputs, _ in batches:
        yield inputs


def _origin(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


_HOSTS = {
    ("torchattacks.attack", "Attack"): _Host(_torchattacks, _torchattacks_ball),
    ("secmlt.adv.evasion.base_evasion_attack", "BaseEvasionAttack"): _Host(_secmlt, _secmlt_ball),
}
"""By the base class of a host's attacks, so that no host is imported."""
_CONSTRAINTS = "secmlt.optimization.constraints"
TORCHATTACKS_NORMS = {
    **dict.fromkeys(
        ("FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "DIFGSM", "TIFGSM", "Jitter",
         "NIFGSM", "PGDRS", "SINIFGSM", "VMIFGSM", "VNIFGSM", "SPSA", "PIFGSM", "PIFGSMPP"), "linf"
    ),
    **dict.fromkeys(("PGDL2", "PGDRSL2"), "l2"),
}  # fmt: skip
"""The norm of the classes of torchattacks that have a radius and do not tell their norm."""


def _told(attack: Any) -> _Ball:
    """What an attack says of itself."""
    return _first(attack, "norm", "perturbation_model"), _first(attack, "eps", "epsilon", "max_epsilon")


def _first(attack: Any, *names: str) -> Any:
    return next((getattr(attack, name) for name in names if hasattr(attack, name)), None)
