"""What every attack for torchattacks stands on: tensors in, :mod:`art_mtl.core.engine` does the work, tensors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchattacks.attack import Attack

from art_mtl.core.batch import Names, check_tensor, predicted_labels
from art_mtl.core.before_activation import BeforeActivation
from art_mtl.core.config import AttackConfig
from art_mtl.core.engine import AttackedModel, Call, Engine, Observing, Search
from art_mtl.core.forward import ForwardBackward, MicroBatching
from art_mtl.core.front import Front
from art_mtl.core.lending import frozen
from art_mtl.core.searches.per_sample import PerSampleSearch
from art_mtl.core.session import content
from art_mtl.labels import MultiTaskLabels
from art_mtl.precision import dtype_of
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Task, check_tasks
from art_mtl.torchattacks.options import OPTIONS
from art_mtl.torchattacks.saving import SavesExamples
from art_mtl.torchattacks.target_modes import ChoosesTargets


class MultiTaskAttack(Front, ChoosesTargets, SavesExamples, Attack):  # type: ignore[misc]
    """Base of the attacks for torchattacks.

    It differs from its parent in what goes wrong there: the mode of *every* module, buffers and the state of
    normalisation are restored also after an exception, attributes may be any value, and labels are of several tasks.
    """

    option_table = OPTIONS
    host_arguments = {"model": "Returns the outputs of all tasks.", "tasks": "K tasks."}
    core_names = {"step_size": "alpha", "momentum": "decay"}
    other_names = {
        "eps_step": "`alpha`", "max_iter": "`steps`", "num_random_init": "`random_start` and `restarts`",
        "momentum": "`decay`", "epsilon": "`eps`", "clip_values": "`bounds`", "loss": "`objective`",
        "weights": "`weighting`", "estimator": "`model`", "targeted": "set_mode_targeted_by_label()",
    }  # fmt: skip
    _always_shown: ClassVar[tuple[str, ...]] = ("method", "eps", "steps")

    def __init__(self, model: torch.nn.Module, tasks: Sequence[Task], **options: Any) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Parameter `model` should be a torch.nn.Module. Found {type(model).__name__}.")
        super().__init__(type(self).__name__, model)
        # The parent finds no device on a model without parameters.
        self.device: torch.device = getattr(self, "device", None) or torch.device("cpu")
        self.tasks = check_tasks(tasks)
        self.supported_mode = ["default", "targeted"]
        self.observer = None
        self._engine, self._prepared = Engine(), PreparedCache()
        self._configure(**options)

    def __call__(self, inputs: Tensor, labels: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """Attack a batch.

        Args:
            inputs: ``(B, ...)``, inside ``bounds`` (normalised, if :meth:`set_normalization_used` says so).
            labels: Labels of all tasks in any form of :meth:`art_mtl.MultiTaskLabels.of`; None: the model's own
                predictions.

        Returns:
            Adversarial inputs like ``inputs``, on the attack's device.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: Shapes, values or labels do not fit; the message says which.
        """
        images = self._here(inputs)
        with self._kept_as_it_was():
            adversarial: Tensor = super().__call__(images, labels, *args, **kwargs)
        return adversarial

    def forward(self, images: Tensor, labels: Any = None) -> Tensor:
        """Attack images without normalisation, in the mode that the model is in; use :meth:`__call__`."""
        self._check_params()
        images = self._here(images)
        names = Names(inputs="images", labels="labels", eps="eps", step_size="alpha", bounds="bounds")
        labels = self._targets(images, labels) if self.targeted else labels
        place = torch.device(self.device)
        model = AttackedModel.of(
            self.model, self.tasks, self._prepared, self._model_inputs, lambda raw: raw, place, evaluate=False
        )
        callbacks = Observing(self.observer)
        call = Call(model, images, labels, self.bounds, names=names, callbacks=callbacks, settings=self._settings)
        search = self._search(images)
        found = self._engine.run(search, self._config(), call)
        self._keep(search)
        return found

    def outputs(self, inputs: Tensor) -> list[Any]:
        """Raw output of each task, differentiable in ``inputs``; normalises them first where that is switched on."""
        # A copy, as the model may write into it.
        network = BeforeActivation(self.model, self.tasks)
        network.network = self.get_logits
        return network(inputs.clone().to(dtype_of(self.model)))

    @torch.no_grad()
    def eval_outputs(self, inputs: Tensor) -> list[Any]:
        """:meth:`outputs` in evaluation mode, without a graph; in pieces where memory runs out."""
        with frozen(self.model):
            return ForwardBackward(self.outputs, MicroBatching(), self.tasks).no_grad(inputs.to(self.device))

    def predictions(self, inputs: Tensor) -> MultiTaskLabels:
        """The model's predictions in evaluation mode, decoded to labels."""
        return predicted_labels(self.tasks, self.eval_outputs(inputs))

    def _here(self, images: Tensor) -> Tensor:
        """Images, detached, on the attack's device."""
        check_tensor("images", images)
        return images.detach().to(self.device)

    def _model_inputs(self, inputs: Tensor) -> Tensor:
        """What the model gets to see, in memory that it may write into."""
        normalized: Tensor = self.normalize(inputs) if self._normalization_applied is False else inputs.clone()
        return normalized

    def _bounds(self) -> tuple[Any, Any]:
        bounds: tuple[Any, Any] = self.bounds
        return bounds

    def _search(self, inputs: Tensor) -> Search:
        return PerSampleSearch(one_batch=True)

    def _targets(self, images: Tensor, labels: Any) -> Any:
        """The target labels of the mode that is set."""
        if labels is None and self.attack_mode == "targeted(label)":
            raise ValueError(
                "Parameter `labels` should hold the target labels in the mode 'targeted(label)'. Found None."
            )
        return self.get_target_label(images, self.predictions(images) if labels is None else labels)

    def _config(self, **settled: Any) -> AttackConfig:
        # A call is one batch, where nothing else is said.
        return super()._config(**{"batch_size": None, **settled})

    def _settings(self) -> Any:
        modes = self._model_training, self._batchnorm_training, self._dropout_training
        scale = content(self.normalization_used)
        return super()._settings(), scale, self._normalization_applied, self.attack_mode, modes

    def _check_params(self) -> None:
        if self.restarts > 1 and not self.random_start:
            raise ValueError("Parameter `restarts` above 1 needs `random_start=True`: all runs would be the same.")
        if self._model_training and Preparation.parse(self.prepare) is not None:
            raise ValueError("A prepared model has no training mode; leave out `prepare`, or set_model_training_mode.")
        super()._check_params()

    def _store(self, name: str, value: Any) -> None:
        # The parent looks for attacks inside every value by comparing its parts, which fails on tensors and arrays.
        parts = value if isinstance(value, (list, tuple)) else [value]
        owner = Attack if any(isinstance(part, Attack) for part in parts) else object
        owner.__setattr__(self, name, value)

    @contextmanager
    def _kept_as_it_was(self) -> Iterator[None]:
        """Modes, buffers and the state of normalisation are restored, also after an exception."""
        applied = self._normalization_applied
        still = self._in_evaluation_mode()
        try:
            with frozen(self.model, training=lambda module: id(module) not in still):
                yield
        finally:
            self._set_normalization_applied(applied)

    def _in_evaluation_mode(self) -> set[int]:
        """The modules, by id, that :meth:`set_model_training_mode` leaves in evaluation mode."""
        kinds = {"BatchNorm": self._batchnorm_training, "Dropout": self._dropout_training}
        still = [word for word, training in kinds.items() if not training] if self._model_training else [""]
        found = [module for module in self.model.modules() if any(word in type(module).__name__ for word in still)]
        return {id(part) for module in found for part in module.modules()}

    def _change_model_mode(self, given_training: bool) -> None:
        """Nothing: the model is lent with the modes set, as several threads may have it at once."""

    _recover_model_mode = _change_model_mode
