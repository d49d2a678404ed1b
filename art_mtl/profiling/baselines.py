"""The same work done elsewhere: hosted in ART, as torchattacks loops, as the paper's authors do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.pytorch import PyTorchEstimator
from numpy.typing import NDArray
from torch import Tensor

from art_mtl.core import frozen
from art_mtl.profiling.subject import Subject
from art_mtl.projections import project_simplex

SHARE = 0.25
"""Step size as a share of ε."""


class HandMadeEstimator(PyTorchEstimator):  # type: ignore[misc]
    """What an ART user writes to host a multi-task model: ``loss_gradient`` in the style of ART's own estimators.

    NumPy in, NumPy out at every step; the sum of the mean losses, differentiated in the parameters too.

    Args:
        subject: The model and what its outputs mean.
    """

    def __init__(self, subject: Subject) -> None:
        estimator = subject.estimator
        kind = "cpu" if estimator.device.type == "cpu" else "gpu"
        super().__init__(
            model=subject.model, clip_values=subject.bounds, channels_first=True, preprocessing=None, device_type=kind
        )
        self._subject = subject

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self._subject.estimator.input_shape

    def predict(self, x: NDArray[Any], batch_size: int = 128, **kwargs: Any) -> Any:
        """Raw outputs."""
        return self._subject.estimator.predict(x, batch_size)

    def loss_gradient(self, x: NDArray[Any], y: Any, **kwargs: Any) -> NDArray[Any]:
        """Gradient in the inputs."""
        inputs = torch.tensor(x).to(self._subject.estimator.device).requires_grad_(True)
        losses = self._subject.losses(inputs, self._subject.estimator.targets(y, len(x)))
        self._model.zero_grad()
        torch.stack([loss.mean() for loss in losses]).sum().backward()  # type: ignore[no-untyped-call]
        if inputs.grad is None:
            raise ValueError("The losses should depend on the inputs. Found no gradient.")
        return np.asarray(inputs.grad.cpu())

    def fit(self, x: NDArray[Any], y: Any, **kwargs: Any) -> None:
        """Not for training."""
        raise NotImplementedError("This estimator is attacked by ART's PGD and timed; it cannot be trained.")

    def get_activations(self, x: NDArray[Any], layer: int | str, batch_size: int, framework: bool = False) -> Any:
        """Not for looking inside."""
        raise NotImplementedError("This estimator is attacked by ART's PGD and timed; it cannot be looked into.")

    def compute_loss(self, x: NDArray[Any], y: Any, **kwargs: Any) -> Any:
        """Not for losses alone."""
        raise NotImplementedError("This estimator is attacked by ART's PGD and timed; it cannot be asked for losses.")


def hosted_in_art(subject: Subject, steps: int) -> NDArray[np.float32]:
    """ART's own projected gradient descent on :class:`HandMadeEstimator`."""
    attack = ProjectedGradientDescent(
        HandMadeEstimator(subject), norm=np.inf, eps=subject.eps, eps_step=SHARE * subject.eps, max_iter=steps,
        batch_size=len(subject.x), verbose=False,
    )  # fmt: skip
    with subject.learning():
        adversarial: NDArray[np.float32] = attack.generate(subject.x, subject.y)
    return adversarial


def torchattacks_loop(subject: Subject, steps: int) -> Tensor:
    """A loop as torchattacks writes it, on the sum of the mean losses."""
    low, high = subject.bounds
    images, targets, eps = subject.images(), subject.targets(), subject.eps
    adversarial = images.clone().detach()
    with subject.learning():
        for _ in range(steps):
            adversarial.requires_grad_(True)
            cost = torch.stack([loss.mean() for loss in subject.losses(adversarial, targets)]).sum()
            (gradient,) = torch.autograd.grad(cost, adversarial, retain_graph=False, create_graph=False)
            adversarial = adversarial.detach() + SHARE * eps * gradient.sign()
            delta = torch.clamp(adversarial - images, min=-eps, max=eps)
            adversarial = torch.clamp(images + delta, min=low, max=high).detach()
    return adversarial


def authors_loop(subject: Subject, steps: int) -> Tensor:
    """Min-max as the paper's authors publish it, from a description: relative losses of batch means, a forward for the
    weights, another for the perturbation, and parameter gradients at each step.
    """
    low, high = subject.bounds
    images, targets, count = subject.images(), subject.targets(), len(subject.estimator.tasks)
    delta, equal = torch.zeros_like(images), torch.full((count,), 1 / count, device=images.device)
    weights = equal

    def means(inputs: Tensor) -> Tensor:
        return torch.stack([loss.mean() for loss in subject.losses(inputs, targets)])

    floors = torch.tensor([task.loss_floor for task in subject.estimator.tasks], device=images.device)
    with subject.learning():
        clean = means(images).detach().maximum(floors)
        for _ in range(steps):
            leaf = delta.detach().requires_grad_(True)
            slope = (means(images + leaf).detach() - clean) / clean + weights - equal
            subject.model.zero_grad()
            (weights * (means(images + leaf) - clean) / clean).sum().backward()  # type: ignore[no-untyped-call]
            if leaf.grad is None:
                raise ValueError("The losses should depend on the inputs. Found no gradient.")
            delta = (delta + SHARE * subject.eps * leaf.grad.sign()).clamp(-subject.eps, subject.eps)
            delta = (images + delta).clamp(low, high) - images
            weights = project_simplex((weights - slope / 30)[None])[0]
    return images + delta


def literal_algorithm(subject: Subject, steps: int) -> Tensor:
    """Algorithm 1 read literally: a forward for δ and another for w at the new δ, without parameter gradients."""
    low, high = subject.bounds
    images, targets, count = subject.images(), subject.targets(), len(subject.estimator.tasks)
    adversarial, eps = images, subject.eps
    weights = torch.full((len(images), count), 1 / count, device=images.device)
    with frozen(subject.model):
        for _ in range(steps):
            leaf = adversarial.clone().requires_grad_(True)
            value = (weights * torch.stack(subject.losses(leaf, targets), 1)).sum()
            (gradient,) = torch.autograd.grad(value, leaf)
            moved = (adversarial + SHARE * eps * gradient.sign() - images).clamp(-eps, eps)
            adversarial = (images + moved).clamp(low, high)
            with torch.no_grad():
                slope = torch.stack(subject.losses(adversarial, targets), 1) + weights - 1 / count
                weights = project_simplex(weights - slope / 30)
    return adversarial


def limit(subject: Subject, steps: int) -> Tensor:
    """One forward and one backward pass to the inputs a step, and nothing else."""
    images, targets = subject.images(), subject.targets()
    gradient = torch.zeros_like(images)
    with frozen(subject.model):
        for _ in range(steps):
            leaf = images.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(torch.stack([v.sum() for v in subject.losses(leaf, targets)]).sum(), leaf)
    return gradient
