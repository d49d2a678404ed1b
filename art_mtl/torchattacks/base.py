"""What torchattacks' base class lacks for multi-task models: labels, safe modes, targets, saving and loading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchattacks.attack import Attack

from art_mtl.labels import MultiTaskLabels
from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.tasks import Target, Task, check_tasks
from art_mtl.torchattacks.storage import collect, load


class MultiTaskAttack(Attack):  # type: ignore[misc]
    """Base of the multi-task attacks for torchattacks.

    Differs from its parent in what goes wrong there: the training mode of *every* module and the state of normalisation
    are restored also after an exception, attributes may be any value, and labels are of several tasks.

    Args:
        name: Shown by ``repr``.
        model: Returns the outputs of all tasks.
        tasks: K tasks.
    """

    def __init__(self, name: str, model: torch.nn.Module, tasks: Sequence[Task]) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"Parameter `model` should be a torch.nn.Module. Found {type(model).__name__}.")
        super().__init__(name, model)
        self.tasks = check_tasks(tasks)
        self._prepared = PreparedCache()
        self.supported_mode = ["default", "targeted"]
        # The parent finds no device on a model without parameters.
        self.device: torch.device = getattr(self, "device", None) or torch.device("cpu")

    def __setattr__(self, name: str, value: Any) -> None:
        # The parent looks for attacks inside every value by comparing its parts, which fails on tensors and arrays.
        parts = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(part, Attack) for part in parts):
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, value)

    def __call__(self, inputs: Tensor, labels: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """Attack a batch.

        Args:
            inputs: ``(B, ...)``, inside ``bounds`` (normalised, if :meth:`set_normalization_used` says so).
            labels: Labels of all tasks in any form of :meth:`art_mtl.MultiTaskLabels.of`; None: the model's own
                predictions.

        Returns:
            Adversarial inputs like ``inputs``, on the attack's device.
        """
        modes = [(module, module.training) for module in self.model.modules()]
        applied = self._normalization_applied
        try:
            adversarial: Tensor = super().__call__(inputs, labels, *args, **kwargs)
        finally:
            self._set_normalization_applied(applied)
            for module, training in modes:
                module.training = training
        return adversarial

    def outputs(self, inputs: Tensor) -> list[Tensor]:
        """Raw output of each task, differentiable in ``inputs``; normalises them first where that is switched on."""
        raw = self.get_logits(inputs)
        return [task.select(raw, position, len(self.tasks)) for position, task in enumerate(self.tasks)]

    def outputs_prepared(self, how: Preparation | str | None, inputs: Tensor) -> Callable[[Tensor], list[Tensor]]:
        """:meth:`outputs` on a prepared copy of the model, which is kept; normalisation stays in full precision.

        Args:
            how: See :meth:`art_mtl.prepared.Preparation.parse`; None or "exact" is :meth:`outputs` itself.
            inputs: ``(B, ...)``, before normalisation; the first two are the example.

        Raises:
            ValueError: An unknown preparation, one that this model or device does not allow, or training mode.
        """
        settings = Preparation.parse(how)
        if settings is None:
            return self.outputs
        if self._model_training:
            raise ValueError("A prepared model has no training mode; leave out `prepare`, or set_model_training_mode.")
        with torch.no_grad():
            copied = self._prepared(self.model, self._model_inputs(inputs[:2]), settings)

        def run(x: Tensor) -> list[Tensor]:
            raw = copied(self._model_inputs(x))
            return [task.select(raw, position, len(self.tasks)) for position, task in enumerate(self.tasks)]

        return run

    def _model_inputs(self, inputs: Tensor) -> Tensor:
        """What the model gets to see."""
        normalized: Tensor = self.normalize(inputs) if self._normalization_applied is False else inputs
        return normalized

    def labels(self, labels: Any, size: int, some: bool = False) -> MultiTaskLabels:
        """Labels in whatever form, checked; with ``some`` tasks may be missing."""
        return MultiTaskLabels.of(labels, [task.name for task in self.tasks], size, partial=True, some=some)

    def canonical(self, labels: MultiTaskLabels) -> list[Target]:
        """Canonical labels of each task that has some, on the attack's device."""
        named = [task for task in self.tasks if task.name in labels.names]
        return [task.targets(labels[task.name], labels.present(task.name)).to(self.device) for task in named]

    @torch.no_grad()
    def predictions(self, inputs: Tensor) -> MultiTaskLabels:
        """The model's predictions in evaluation mode, decoded to labels."""
        outputs = self.get_output_with_eval_nograd(inputs.to(self.device))
        items = enumerate(self.tasks)
        return MultiTaskLabels({t.name: t.decode(t.select(outputs, i, len(self.tasks))) for i, t in items})

    # --- targets ---

    def set_mode_targeted_random(self, quiet: bool = False) -> None:
        """Target classes drawn at random among the wrong ones.

        Raises:
            ValueError: A task has no classes to draw from.
        """
        self._check_decisions("random")
        self._set_mode_targeted("targeted(random)", quiet)
        self._target_map_function = self._random_targets

    def set_mode_targeted_least_likely(self, kth_min: int = 1, quiet: bool = False) -> None:
        """Target the class with the ``kth_min``-th smallest score among the wrong ones.

        Raises:
            ValueError: A task has no classes, or fewer wrong ones than ``kth_min``.
        """
        self._check_decisions("least likely")
        if isinstance(kth_min, bool) or not isinstance(kth_min, int) or kth_min < 1:
            raise ValueError(f"Parameter `kth_min` should be an integer of at least 1. Found {kth_min!r}.")
        self._set_mode_targeted("targeted(least-likely)", quiet)
        self._kth_min = kth_min
        self._target_map_function = self._least_likely_targets

    def _check_decisions(self, mode: str) -> None:
        for task in self.tasks:
            if not task.has_classes:
                raise ValueError(
                    f"The mode 'targeted({mode})' needs classes to choose from; task {task.name!r} ({task.kind}) "
                    "has none. Use set_mode_targeted_by_label or set_mode_targeted_by_function."
                )

    def _random_targets(self, inputs: Tensor, labels: Any) -> MultiTaskLabels:
        return self._wrong_classes(inputs, labels, lambda s: torch.rand_like(s).masked_fill(s.isinf(), -1.0).argmax(1))

    def _least_likely_targets(self, inputs: Tensor, labels: Any) -> MultiTaskLabels:
        def choose(scores: Tensor) -> Tensor:
            wrong = scores.shape[1] - 1
            if self._kth_min > wrong:
                raise ValueError(
                    f"Parameter `kth_min` should be at most {wrong}, the number of wrong classes. "
                    f"Found {self._kth_min}."
                )
            return scores.kthvalue(self._kth_min, dim=1).indices

        return self._wrong_classes(inputs, labels, choose)

    def _wrong_classes(self, inputs: Tensor, labels: Any, choose: Callable[[Tensor], Tensor]) -> MultiTaskLabels:
        """A class for each label, chosen by scores that are infinite at the true class; without a label no target."""
        raw = self.get_output_with_eval_nograd(inputs.to(self.device))
        true = self.canonical(self.labels(labels, len(inputs)))
        chosen, present = {}, {}
        for position, (task, target) in enumerate(zip(self.tasks, true, strict=True)):
            scores = task.check_output(task.select(raw, position, len(self.tasks)), target)
            found = task.wrong_targets(scores, target, choose)
            if found is None:
                raise ValueError(f"Task {task.name!r} ({task.kind}) should have classes to choose from. Found none.")
            chosen[task.name], present[task.name] = found[0], found[1].cpu().numpy()
        return MultiTaskLabels(chosen, present)

    # --- saving and loading ---

    def save(
        self,
        data_loader: Iterable[tuple[Tensor, Any]],
        save_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        return_verbose: bool = False,
        save_predictions: bool = False,
        save_clean_inputs: bool = False,
        save_type: str = "float",
    ) -> tuple[dict[str, float], float, float] | None:
        """Attack everything a loader yields, and store it.

        Args:
            data_loader: Yields ``(inputs, labels)``, labels in any form.
            save_path: File to write, whole or not at all; None: only measure.
            verbose: Print the metrics of each task and the mean L2 distance at the end.
            return_verbose: Return them.
            save_predictions: Store decoded predictions too.
            save_clean_inputs: Store the clean inputs too.
            save_type: "float", or "int" for 8-bit inputs in [0, 1].

        Returns:
            With ``return_verbose``: metrics by task, mean L2 distance, seconds. Else None.

        Raises:
            ValueError: An unknown ``save_type``, or no batch.
        """
        if save_type not in ("float", "int"):
            raise ValueError(f"Parameter `save_type` should be 'float' or 'int'. Found {save_type!r}.")
        record = collect(self, data_loader)
        if save_path is not None:
            record.write(Path(save_path), save_predictions, save_clean_inputs, save_type)
        if verbose:
            figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
            print(f"{figures}, L2 {record.l2:.5f} ({record.seconds:.1f} s)")
        return (record.metrics, record.l2, record.seconds) if return_verbose else None

    @staticmethod
    def load(
        load_path: str | os.PathLike[str],
        batch_size: int = 128,
        shuffle: bool = False,
        normalize: Mapping[str, Sequence[float]] | None = None,
        load_predictions: bool = False,
        load_clean_inputs: bool = False,
    ) -> DataLoader[Any]:
        """A loader over what :meth:`save` stored.

        It yields ``(inputs, labels)`` with labels a :class:`~art_mtl.MultiTaskLabels` of tensors, then predictions
        (another one) and clean inputs where asked for.

        Raises:
            ValueError: The file does not hold what is asked for.
        """
        return load(load_path, batch_size, shuffle, normalize, load_predictions, load_clean_inputs)
