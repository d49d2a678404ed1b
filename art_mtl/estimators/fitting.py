"""Training the model of an estimator."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from art_mtl.core.lending import check_differentiable
from art_mtl.data.sources import unpack_data
from art_mtl.estimators import checks, training
from art_mtl.estimators.base import MultiTaskBase
from art_mtl.tasks import Target

_Estimator = TypeVar("_Estimator", bound="MultiTaskTraining")


class MultiTaskTraining(MultiTaskBase):
    """Training of :class:`PyTorchMultiTaskEstimator`."""

    def fit(
        self,
        x: npt.NDArray[Any] | Tensor | DataLoader[Any] | Dataset[Any],
        y: Any = None,
        batch_size: int = 128,
        nb_epochs: int = 10,
        training_mode: bool = True,
        drop_last: bool = False,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        verbose: bool = False,
    ) -> None:
        """Train on the sum, with equal weight, of the tasks' mean losses; missing labels do not count.

        Batches are shuffled by torch's generator. Defences with ``apply_fit`` see each batch anew; labels do not pass
        through them. Modules return to the modes they had.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor; or a ``DataLoader`` or data set, all samples of which are
                read into memory, and batched by ``batch_size``.
            y: Labels in any form; None where ``x`` has them.
            batch_size: Samples in one step.
            nb_epochs: Passes over the data.
            training_mode: Train in training mode, or in evaluation mode (batch norm and dropout frozen).
            drop_last: Leave out the last batch if it is smaller; batch norm needs more than one value for each channel.
            scheduler: Stepped after every epoch.
            verbose: Show a progress bar over the epochs.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: There is no optimizer; inputs, labels or outputs of a wrong shape or value; a last batch of one
                sample that a batch norm cannot be trained on; or no batch at all. Nothing has been trained then.
        """
        if self._optimizer is None:
            raise ValueError("Training needs an optimizer. Found `optimizer=None`; set it with `set_params`.")
        checks.check_flag("training_mode", training_mode)
        checks.check_flag("drop_last", drop_last)
        batch_size, nb_epochs = checks.check_count("batch_size", batch_size), checks.check_count("nb_epochs", nb_epochs)
        check_differentiable(self._model)
        x, y = unpack_data(x, y, self.tasks)
        with torch.inference_mode(False), torch.enable_grad():
            x = checks.check_inputs(x, self._input_shape).detach()
            targets = [target.to(x.device) for target in self._host_targets(y, len(x))]
            training.check_batches(
                self._model, lambda: self._try_one(x), len(x),
                batch_size=batch_size, training_mode=training_mode, drop_last=drop_last,
            )  # fmt: skip
            training.train(
                self._model, self._optimizer, self._training_loss, x, targets,
                batch_size=batch_size, nb_epochs=nb_epochs, training_mode=training_mode,
                drop_last=drop_last, scheduler=scheduler, verbose=verbose,
            )  # fmt: skip

    def clone_for_refitting(self: _Estimator) -> _Estimator:
        """A copy that shares nothing trainable: same architecture with weights reset, same optimizer settings.

        Weights are drawn anew in every module that has ``reset_parameters``; other parameters keep their values.
        Parameter groups and their settings are kept, the optimizer's state (moments, steps) is not. Tasks, bounds and
        defences are shared.
        """
        model, optimizer = training.copy_for_refitting(self._model, self._optimizer)
        return type(self)(**{**self.get_params(), "model": model, "optimizer": optimizer})

    def _try_one(self, x: Tensor) -> None:
        with self._lent(), torch.no_grad():
            self._forward(self._place(x[:1]), fit=True)

    def _training_loss(self, x: Tensor, targets: list[Target]) -> Tensor:
        targets = [target.to(self._device) for target in targets]
        pairs = zip(self._losses(self._place(x), targets, fit=True), targets, strict=True)
        return torch.stack([training.reduce_loss(loss, target.has_label, "mean") for loss, target in pairs]).sum()
