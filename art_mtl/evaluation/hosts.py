"""Attack objects of other hosts as what an evaluation runs: anything with ``generate(x, y)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from art_mtl.core.engine import Evaluations
from art_mtl.core.front import Front
from art_mtl.labels import MultiTaskLabels

if TYPE_CHECKING:
    from art_mtl.data.sources import Inputs
    from art_mtl.estimators import PyTorchMultiTaskEstimator

__all__ = ["HostedAttack", "SingleTaskAttack", "hosted"]

_RunAttack = Callable[[Any, "PyTorchMultiTaskEstimator", Tensor, Any], Tensor]
"""How a host's attack is called: with the attack, the model, inputs and labels."""


class HostedAttack:
    """An attack that takes and returns tensors, given a batch at a time.

    Attributes:
        attack: The object of the other host.
        estimator: The model that is attacked.
        evaluations: Of the model in the last call; None where the attack does not count them.
        eps: Radius, where the attack says.
        norm: Of the ball, where the attack says.
    """

    def __init__(self, attack: Any, estimator: PyTorchMultiTaskEstimator, batch_size: int, run: _RunAttack) -> None:
        self.attack, self.estimator, self._batch_size, self._run = attack, estimator, batch_size, run
        self.evaluations = Evaluations() if isinstance(attack, Front) else None
        own_name = getattr(attack, "name", None)
        self.name = own_name if isinstance(own_name, str) else type(attack).__name__
        self.eps = _first(attack, "eps", "epsilon")
        self.norm = _first(attack, "norm", "perturbation_model")
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


def _inputs(batches: Any) -> Iterator[Tensor]:
    for inputs, _ in batches:
        yield inputs


def _origin(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


_HOSTS = {
    ("torchattacks.attack", "Attack"): _torchattacks,
    ("secmlt.adv.evasion.base_evasion_attack", "BaseEvasionAttack"): _secmlt,
}
"""By the base class of a host's attacks, so that no host is imported."""


def _first(attack: Any, *names: str) -> Any:
    return next((getattr(attack, name) for name in names if hasattr(attack, name)), None)
