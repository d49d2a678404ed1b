"""Adversarial training of several tasks, with ART's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.defences.trainer.trainer import Trainer
from tqdm.auto import trange

from art_mtl.attacks import MultiTaskPGD
from art_mtl.data.sources import unpack_data
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.estimators.checks import check_count
from art_mtl.estimators.training import shuffled_batches
from art_mtl.labels import MultiTaskLabels


class MultiTaskAdversarialTrainer(Trainer):  # type: ignore[misc]
    """Adversarial training (Madry et al., ICLR 2018) on all tasks at once: every batch is attacked as the model is
    *now*, and the model learns from what comes out.

    As ART's ``AdversarialTrainerMadryPGD``, with labels of several tasks. ART's ``AdversarialTrainer`` takes the
    attacks of this package too.

    Args:
        estimator: With an optimizer; trained in place, in training mode. Attacks see it in evaluation mode.
        attack: Any evasion attack on ``estimator``; None: PGD on the sum of all losses,
            ``MultiTaskPGD(estimator, "equal", eps=eps, max_iter=max_iter, num_random_init=1)``.
        eps: Of that attack, in the unit of the inputs.
        max_iter: Of that attack.
        nb_epochs: Passes over the data.
        batch_size: Samples in one step.
        ratio: Share of the samples of a batch that are attacked, in (0, 1]; the others stay clean.

    Raises:
        TypeError: No multi-task estimator, or no evasion attack.
        ValueError: The estimator has no optimizer, the attack is on another one, or a number is out of range.

    Examples:
        >>> import numpy as np, torch
        >>> from art_mtl import PyTorchMultiTaskEstimator, tasks
        >>> class Net(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.heads = torch.nn.Linear(16, 4)
        ...     def forward(self, x):
        ...         out = self.heads(x.flatten(1))
        ...         return {"kind": out[:, :3], "size": out[:, 3]}
        >>> net = Net()
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     net, tasks=[tasks.classification("kind", 3), tasks.regression("size")], input_shape=(1, 4, 4),
        ...     clip_values=(0, 1), optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
        >>> x = np.random.default_rng(0).uniform(size=(8, 1, 4, 4)).astype(np.float32)
        >>> trainer = MultiTaskAdversarialTrainer(estimator, eps=0.1, max_iter=3, nb_epochs=2, batch_size=4)
        >>> trainer.fit(x, {"kind": np.arange(8) % 3, "size": x.mean((1, 2, 3))})
        >>> trainer.predict(x).names
        ('kind', 'size')
    """

    def __init__(
        self,
        estimator: PyTorchMultiTaskEstimator,
        attack: EvasionAttack | None = None,
        *,
        eps: float = 8 / 255,
        max_iter: int = 7,
        nb_epochs: int = 10,
        batch_size: int = 32,
        ratio: float = 1.0,
    ) -> None:
        if not isinstance(estimator, PyTorchMultiTaskEstimator):
            raise TypeError(
                f"Parameter `estimator` should be a PyTorchMultiTaskEstimator. Found {type(estimator).__name__}."
            )
        if estimator.optimizer is None:
            raise ValueError("Parameter `estimator` should have an optimizer to be trained. Found `optimizer=None`.")
        nb_epochs, batch_size = check_count("nb_epochs", nb_epochs), check_count("batch_size", batch_size)
        if attack is None:
            attack = MultiTaskPGD(
                estimator, "equal", eps=eps, max_iter=max_iter, num_random_init=1, batch_size=batch_size, verbose=False
            )
        if not isinstance(attack, EvasionAttack):
            raise TypeError(f"Parameter `attack` should be an evasion attack. Found {type(attack).__name__}.")
        if attack.estimator is not estimator:
            raise ValueError("Parameter `attack` should attack the estimator that is trained. Found another one.")
        super().__init__(estimator)
        self.attack, self.nb_epochs, self.batch_size = attack, nb_epochs, batch_size
        self.ratio = _check_ratio(ratio)

    def fit(self, x: Any, y: Any = None, verbose: bool = False, **kwargs: Any) -> None:
        """Train on attacked batches, shuffled anew every epoch by torch's generator.

        A last batch of one sample is left out where batches are larger, as batch norm needs more than one.

        Args:
            x: ``(N, *input_shape)``, floats inside the estimator's ``clip_values``; or a ``DataLoader`` or data set,
                all samples of which are read into memory, and batched by ``batch_size``.
            y: Labels in any form; None where ``x`` has them.
            verbose: Show a progress bar over the epochs.
            **kwargs: ``nb_epochs`` and ``batch_size``, in place of the trainer's own.

        Raises:
            TypeError: Another keyword, or inputs or labels of a wrong type.
            ValueError: Inputs or labels of a wrong shape or value.
        """
        nb_epochs, batch_size = kwargs.pop("nb_epochs", self.nb_epochs), kwargs.pop("batch_size", self.batch_size)
        if kwargs:
            raise TypeError(f"`fit` knows `nb_epochs`, `batch_size` and `verbose`. Found {sorted(kwargs)}.")
        nb_epochs, batch_size = check_count("nb_epochs", nb_epochs), check_count("batch_size", batch_size)
        x, y = unpack_data(x, y, self._classifier.tasks)
        labels = self._classifier.labels(y, len(x))
        for _ in trange(nb_epochs, desc="Epochs", disable=not verbose):
            for chosen in shuffled_batches(len(x), batch_size):
                if len(chosen) > 1 or min(len(x), batch_size) == 1:
                    self._step(x, labels, chosen.numpy())

    def predict(self, x: npt.NDArray[np.floating], **kwargs: Any) -> MultiTaskLabels:
        """Raw outputs of the trained estimator, by task."""
        predicted: MultiTaskLabels = self._classifier.predict(x, **kwargs)
        return predicted

    def _step(self, x: npt.NDArray[np.floating], labels: MultiTaskLabels, chosen: npt.NDArray[np.int64]) -> None:
        """Attack one batch, then take one step of the optimizer."""
        batch, truth = x[chosen], labels[chosen]
        count = max(1, round(self.ratio * len(chosen)))
        attacked = self.attack.generate(batch[:count], truth[:count])
        images = np.concatenate([attacked, batch[count:]]).astype(x.dtype, copy=False)
        self._classifier.fit(images, truth, batch_size=len(chosen), nb_epochs=1)


def _check_ratio(ratio: Any) -> float:
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float, np.integer, np.floating)) or not 0 < ratio <= 1:
        raise ValueError(f"Parameter `ratio` should be in (0, 1]. Found {ratio!r}.")
    return float(ratio)
