"""What every attack for torchattacks stands on: tensors in, :mod:`art_mtl.core.engine` does the work, tensors out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchattacks.attack import Attack

from art_mtl.core.batch import Names, check_tensor
from art_mtl.core.config import AttackConfig
from art_mtl.core.engine import AttackedModel, Engine, Observing, Search
from art_mtl.core.front import Front
from art_mtl.core.lending import frozen
from art_mtl.core.searches.per_sample import PerSampleSearch
from art_mtl.core.session import content
from art_mtl.labels import MultiTaskLabels
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Task, check_tasks
from art_mtl.torchattacks.options import OPTIONS
from art_mtl.torchattacks.saving import SavesExamples
from art_mtl.torchattacks.target_modes import ChoosesTargets

_ARGUMENTS = Names(inputs="images", labels="labels", eps="eps", step_size="alpha", bounds="bounds")


class MultiTaskAttack(Front, ChoosesTargets, SavesExamples, Attack):  # type: ignore[misc]
    """Base of the attacks for torchattacks.

    It differs from its parent in what goes wrong there: the mode of *every* module, buffers and the state of
    normalisation are restored also after an exception, attributes may be any value, and labels are of several tasks.

    Attributes:
        observer: None, or a function that is given a :class:`~art_mtl.core.StepRecord` at every step.
    """

    option_table = OPTIONS
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
        return self._attack(self._search(), images, labels)

    def outputs(self, inputs: Tensor) -> list[Any]:
        """Raw output of each task, differentiable in ``inputs``; normalises them first where that is switched on."""
        # A copy, as the model may write into it.
        return self._select(self.get_logits(inputs.clone()))

    @torch.no_grad()
    def eval_outputs(self, inputs: Tensor) -> list[Any]:
        """:meth:`outputs` in evaluation mode, without a graph."""
        with frozen(self.model):
            return self.outputs(inputs.to(self.device))

    def predictions(self, inputs: Tensor) -> MultiTaskLabels:
        """The model's predictions in evaluation mode, decoded to labels."""
        pairs = zip(self.tasks, self.eval_outputs(inputs), strict=True)
        return MultiTaskLabels({task.name: task.decode(output) for task, output in pairs})

    def _select(self, raw: Any) -> list[Any]:
        return [task.select(raw, position, len(self.tasks)) for position, task in enumerate(self.tasks)]

    def _outputs_prepared(self, how: Preparation | str | None, inputs: Tensor) -> Callable[[Tensor], list[Any]]:
        """:meth:`outputs` on a prepared copy of the model, which is kept; normalisation stays in full precision."""
        settings = Preparation.parse(how)
        if settings is None:
            return self.outputs
        if self._model_training:
            raise ValueError("A prepared model has no training mode; leave out `prepare`, or set_model_training_mode.")
        with torch.no_grad():
            copied = self._prepared(self.model, self._model_inputs(inputs[:2]), settings)
        return lambda x: self._select(copied(self._model_inputs(x)))

    def _here(self, images: Tensor) -> Tensor:
        """Images, detached, on the attack's device."""
        check_tensor("images", images)
        return images.detach().to(self.device)

    def _model_inputs(self, inputs: Tensor) -> Tensor:
        """What the model gets to see, in memory that it may write into."""
        normalized: Tensor = self.normalize(inputs) if self._normalization_applied is False else inputs.clone()
        return normalized

    def _search(self) -> Search:
        """What is done with a call."""
        return PerSampleSearch(one_batch=True)

    def _attack(self, search: Search, images: Tensor, labels: Any) -> Tensor:
        self._check_params()
        return self._engine.run(
            search,
            self._config(),
            self._attacked_model(),
            self._here(images),
            self._targets(images, labels) if self.targeted else labels,
            self.bounds,
            names=_ARGUMENTS,
            callbacks=Observing(self.observer),
            settings=self._settings,
        )

    def _attacked_model(self) -> AttackedModel:
        return AttackedModel(
            module=self.model,
            tasks=self.tasks,
            device=self.device,
            forward=self.outputs,
            prepared=self._outputs_prepared,
            own_labels=lambda inputs, size: self.predictions(inputs),
            evaluate=False,
        )

    def _targets(self, images: Tensor, labels: Any) -> Any:
        """The target labels of the mode that is set."""
        if labels is None and self.attack_mode == "targeted(label)":
            raise ValueError(
                "Parameter `labels` should hold the target labels in the mode 'targeted(label)'. Found None."
            )
        return self.get_target_label(images, self.predictions(images) if labels is None else labels)

    def _config(self, **settled: Any) -> AttackConfig:
        return super()._config(batch_size=self._batch_size(), **settled)

    def _batch_size(self) -> int | None:
        """Samples at once; None: a call is one batch."""
        return None

    def _settings(self) -> Any:
        modes = self._model_training, self._batchnorm_training, self._dropout_training
        scale = content(self.normalization_used)
        return super()._settings(), scale, self._normalization_applied, self.attack_mode, modes

    def _check_params(self) -> None:
        if getattr(self, "restarts", 1) > 1 and not self.random_start:
            raise ValueError("Parameter `restarts` above 1 needs `random_start=True`: all runs would be the same.")
        self._check_config(self.bounds)

    def _store(self, name: str, value: Any) -> None:
        # The parent looks for attacks inside every value by comparing its parts, which fails on tensors and arrays.
        parts = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(part, Attack) for part in parts):
            Attack.__setattr__(self, name, value)
        else:
            object.__setattr__(self, name, value)

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

    def _recover_model_mode(self, given_training: bool) -> None:
        """Nothing; see above."""
