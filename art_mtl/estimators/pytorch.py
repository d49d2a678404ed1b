"""A multi-task PyTorch model as an ART estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.core.forward import ForwardBackward, MicroBatching
from art_mtl.estimators import checks, training, views
from art_mtl.estimators.base import MultiTaskBase
from art_mtl.labels import MultiTaskLabels
from art_mtl.tasks import Target

Inputs = npt.NDArray[Any] | Tensor


class PyTorchMultiTaskEstimator(MultiTaskBase):
    """A model of several tasks, for ART's own attacks and for those of :mod:`art_mtl.attacks`.

    Labels are taken in any form of :meth:`MultiTaskLabels.of`, and raw outputs in place of labels are decoded. ART's
    own attacks slice their labels, so give those a :class:`MultiTaskLabels` (``estimator.labels(y, len(x))``), an
    object array of one dict a sample, or a structured array. The estimator does not pose as a classifier; for attacks
    that ask for one there is :meth:`task_view`.

    Every method leaves the model as it found it, also after an exception: the mode of every module, ``requires_grad``,
    and ``.grad`` (only :meth:`fit` trains). Inputs are computed in float32, or in float64 if the model is.

    Args:
        model: Returns a dict, a list or tuple in task order, a named tuple, a dataclass, or one tensor. It is moved to
            the device.
        tasks: What each output means, see :mod:`art_mtl.tasks`.
        input_shape: Shape of one sample, ``(C, H, W)`` or what the model takes.
        clip_values: Bounds ``(min, max)`` of the inputs: numbers, or arrays that broadcast to ``input_shape``. None for
            no bounds, which several attacks do not allow.
        optimizer: For :meth:`fit`.
        channels_first: Where the channels of ``input_shape`` stand; the model gets its inputs as they come.
        preprocessing_defences: ART preprocessors, in torch or NumPy, in any order; attacks differentiate through all.
        postprocessing_defences: Must be None or empty.
        preprocessing: ``(mean, std)``, numbers or arrays that broadcast to a batch, an ART preprocessor, or None.
            Applied after the defences.
        device_type: "gpu" for CUDA's current device where there is one and the CPU otherwise, as everywhere in ART;
            or "cpu".

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument has a wrong value.

    Examples:
        >>> from art_mtl import tasks
        >>> class Net(torch.nn.Module):
        ...     def forward(self, x):
        ...         return {"kind": x.mean((2, 3)), "depth": x.mean(1, keepdim=True)}
        >>> estimator = PyTorchMultiTaskEstimator(
        ...     Net(), [tasks.classification("kind", 3), tasks.depth("depth")],
        ...     input_shape=(3, 4, 4), clip_values=(0, 1), device_type="cpu")
        >>> x = np.full((2, 3, 4, 4), 0.5, dtype=np.float32)
        >>> estimator.predict(x)
        MultiTaskLabels(kind: float32 (2, 3), depth: float32 (2, 1, 4, 4))
        >>> y = {"kind": np.array([0, 2]), "depth": np.ones((2, 4, 4))}
        >>> estimator.loss_gradient(x, y).shape
        (2, 3, 4, 4)
        >>> estimator.compute_losses(x, y)["depth"]
        array([0.5, 0.5], dtype=float32)
    """

    @classmethod
    def from_classifier(cls, classifier: Any) -> PyTorchMultiTaskEstimator:
        """A stock ART classifier as a model of one task, "classification".

        Model, optimizer, bounds, defences and device are shared.

        Args:
            classifier: ART's ``PyTorchClassifier`` with ``CrossEntropyLoss`` (on logits) or ``NLLLoss`` (on
                log-probabilities), unweighted and unsmoothed.

        Raises:
            TypeError: It is not a ``PyTorchClassifier``.
            ValueError: It has another loss, or postprocessing defences.
        """
        return cls(**views.classifier_arguments(classifier))

    @property
    def layer_names(self) -> list[str]:
        """Names of all submodules, as :meth:`get_activations` takes them."""
        return [name for name, _ in self._model.named_modules() if name]

    def predict(self, x: Inputs, batch_size: int = 128, training_mode: bool = False) -> MultiTaskLabels:
        """Raw outputs: logits, depths, normals, ….

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor; N ≥ 1.
            batch_size: Samples in one forward; fewer where memory runs out.
            training_mode: Run the model in training mode (dropout on, batch norm by the batch, whose running
                statistics then move) instead of evaluation mode.

        Returns:
            NumPy arrays of N samples each. Given back as labels they are decoded.

        Raises:
            TypeError: ``x`` is not of floats.
            ValueError: ``x`` has another shape, is empty or not finite; or the model returns something else than the
                tasks ask for.
        """
        x = checks.check_inputs(x, self._input_shape)
        parts = []
        # In training mode a sample's output depends on its batch, which no piece may take apart.
        passes = None if training_mode else ForwardBackward(self.forward_tasks, MicroBatching(), self._tasks)
        with self._lent(training_mode), torch.no_grad():
            for batch in torch.split(x, checks.check_count("batch_size", batch_size)):
                inputs = self._place(batch)
                outputs = self.forward_tasks(inputs) if passes is None else passes.no_grad(inputs)
                self._check_sizes(outputs, len(batch))
                parts.append([_to_numpy(output) for output in outputs])
        return MultiTaskLabels(
            {name: np.concatenate([part[k] for part in parts]) for k, name in enumerate(self._names)}
        )

    def own_labels(self, x: Inputs, batch_size: int = 128) -> MultiTaskLabels:
        """The model's own clean predictions as labels: arg-max of logits and the like.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            batch_size: Samples in one forward.
        """
        raw = self.predict(x, batch_size=batch_size)
        return MultiTaskLabels(
            {task.name: _to_numpy(task.decode(torch.as_tensor(raw[task.name]))) for task in self._tasks}
        )

    def get_activations(
        self, x: Inputs, layer: int | str, batch_size: int = 128, framework: bool = False
    ) -> npt.NDArray[Any] | Tensor:
        """The output of one layer, in evaluation mode.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            layer: A submodule's name, or its index in :attr:`layer_names`.
            batch_size: Samples in one forward.
            framework: Return a tensor that is differentiable in ``x`` (if ``x`` requires gradients), from one forward.

        Returns:
            ``(N, ...)``; of a layer that runs several times, its last output.

        Raises:
            TypeError: ``layer`` is neither name nor index.
            ValueError: There is no such layer, it does not run, or its output is not a tensor.
        """
        name = self._layer_name(layer)
        x = checks.check_inputs(x, self._input_shape)
        captured: list[Any] = []

        def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            # A copy, as a following in-place layer would overwrite it.
            captured[:] = [output.clone() if isinstance(output, Tensor) else output]

        def run(batch: Tensor) -> Tensor:
            captured.clear()
            self.forward_tasks(self._place(batch))
            if not captured or not isinstance(captured[0], Tensor):
                found = type(captured[0]).__name__ if captured else "a layer that the model does not run"
                raise ValueError(f"Layer {name!r} should output a tensor. Found {found}.")
            return captured[0]

        handle = self._model.get_submodule(name).register_forward_hook(keep)
        try:
            with self._lent():
                if framework:
                    return run(x)
                with torch.no_grad():
                    batches = torch.split(x, checks.check_count("batch_size", batch_size))
                    return np.concatenate([_to_numpy(run(batch)) for batch in batches])
        finally:
            handle.remove()

    def loss_gradient(self, x: Inputs, y: Any, training_mode: bool = False) -> Any:
        """Gradient of the tasks' losses, summed with equal weight, in the inputs.

        Each sample's gradient is that of its own losses, whatever the batch. Parameters are not differentiated.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            y: Labels in any form; missing ones count 0.
            training_mode: As in :meth:`predict`.

        Returns:
            ``(N, *input_shape)``: an array for an array, a tensor for a tensor, of the dtype of ``x``.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: Inputs, labels or outputs of a wrong shape or value, or a loss that does not depend
                differentiably on the inputs.
        """
        inputs = self._place(checks.check_inputs(x, self._input_shape)).detach().clone()
        targets = self.targets(y, len(inputs))
        with self._lent(training_mode), torch.enable_grad():
            inputs.requires_grad_(True)
            total = torch.stack([loss.sum() for loss in self._losses(inputs, targets)]).sum()
            if not total.requires_grad:
                raise ValueError("The model's outputs should depend differentiably on its inputs. Found no gradient.")
            (gradient,) = torch.autograd.grad(total, inputs)
        if isinstance(x, Tensor):
            return gradient.to(device=x.device, dtype=x.dtype)
        return _to_numpy(gradient).astype(x.dtype)

    def compute_losses(self, x: Inputs, y: Any, reduction: str = "none") -> dict[str, Any]:
        """The loss of each task.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            y: Labels in any form.
            reduction: "none", "sum", or "mean" over the samples that have a label for the task.

        Returns:
            Task name to ``(N,)`` (0 where a sample has no label) or to a number. Arrays for an array; for a tensor,
            tensors on the device, differentiable in ``x``.
        """
        checks.check_reduction(reduction)
        inputs = self._place(checks.check_inputs(x, self._input_shape))
        targets = self.targets(y, len(inputs))
        with self._lent(), torch.set_grad_enabled(torch.is_grad_enabled() and isinstance(x, Tensor)):
            losses = self._losses(inputs, targets)
        reduced = {
            task.name: training.reduce_loss(loss, target.has_label, reduction)
            for task, loss, target in zip(self._tasks, losses, targets, strict=True)
        }
        return reduced if isinstance(x, Tensor) else {name: _to_numpy(loss) for name, loss in reduced.items()}

    def compute_loss(self, x: Inputs, y: Any, reduction: str = "none") -> Any:
        """The sum of all tasks' losses: what :meth:`fit` descends and :meth:`loss_gradient` ascends.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            y: Labels in any form.
            reduction: "none", "sum", or "mean", the sum of the means of :meth:`compute_losses`.

        Returns:
            ``(N,)`` or a number, as in :meth:`compute_losses`.
        """
        return sum(self.compute_losses(x, y, reduction).values())

    def fit(
        self,
        x: Inputs,
        y: Any,
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
            x: ``(N, *input_shape)``, floats, array or tensor.
            y: Labels in any form.
            batch_size: Samples in one step.
            nb_epochs: ForwardBackward over the data.
            training_mode: Train in training mode, or in evaluation mode (batch norm and dropout frozen).
            drop_last: Leave out the last batch if it is smaller; batch norm needs more than one sample.
            scheduler: Stepped after every epoch.
            verbose: Show a progress bar over the epochs.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: There is no optimizer; inputs, labels or outputs of a wrong shape or value.
        """
        if self._optimizer is None:
            raise ValueError("Training needs an optimizer. Found `optimizer=None`; set it with `set_params`.")
        x = checks.check_inputs(x, self._input_shape)
        targets = [target.to(x.device) for target in self._host_targets(y, len(x))]
        training.train(
            self._model,
            self._optimizer,
            self._training_loss,
            x,
            targets,
            batch_size=checks.check_count("batch_size", batch_size),
            nb_epochs=checks.check_count("nb_epochs", nb_epochs),
            training_mode=training_mode,
            drop_last=drop_last,
            scheduler=scheduler,
            verbose=verbose,
        )

    def clone_for_refitting(self) -> PyTorchMultiTaskEstimator:
        """A copy that shares nothing trainable: same architecture with weights reset, same optimizer settings.

        Weights are drawn anew in every module that has ``reset_parameters``; other parameters keep their values.
        Parameter groups and their settings are kept, the optimizer's state (moments, steps) is not. Tasks, bounds and
        defences are shared.
        """
        model, optimizer = training.copy_for_refitting(self._model, self._optimizer)
        return type(self)(**{**self.get_params(), "model": model, "optimizer": optimizer})

    def task_view(self, name: str) -> Any:
        """One head as a stock ART estimator, for ART's attacks on classifiers or regressors.

        Model, optimizer, bounds, defences and device are shared. What ART's own estimators do to a model they do to
        this one: it is left in evaluation mode, and ``.grad`` of its parameters is overwritten.

        Args:
            name: A classification task, seen as a ``PyTorchClassifier`` with cross-entropy; or a regression task with
                one value a sample, seen as a ``PyTorchRegressor`` with the absolute error (labels ``(N,)``).

        Raises:
            ValueError: There is no such task, or ART has no estimator for it (multi-label, dense and custom tasks).

        Examples:
            >>> from art_mtl import tasks
            >>> estimator = PyTorchMultiTaskEstimator(
            ...     torch.nn.Linear(4, 3), [tasks.classification("kind", 3)], input_shape=(4,), device_type="cpu")
            >>> estimator.task_view("kind").nb_classes
            3
        """
        return views.view_task(self, name)

    def _check_sizes(self, outputs: list[Tensor], size: int) -> None:
        for task, output in zip(self._tasks, outputs, strict=True):
            if output.ndim == 0 or len(output) != size:
                raise ValueError(
                    f"The model's output for task {task.name!r} should have one entry for each of {size} samples. "
                    f"Found shape {tuple(output.shape)}."
                )

    def _layer_name(self, layer: int | str) -> str:
        names = self.layer_names
        if isinstance(layer, bool) or not isinstance(layer, (int, np.integer, str)):
            raise TypeError(f"Parameter `layer` should be a name or an index. Found {type(layer).__name__}.")
        if isinstance(layer, str):
            if layer not in names:
                raise ValueError(f"Parameter `layer` should be one of {names}. Found {layer!r}.")
            return layer
        if not 0 <= layer < len(names):
            raise ValueError(f"Parameter `layer` should be an index in [0, {len(names) - 1}]. Found {layer}.")
        return names[layer]

    def _training_loss(self, x: Tensor, targets: list[Target]) -> Tensor:
        targets = [target.to(self._device) for target in targets]
        pairs = zip(self._losses(self._place(x), targets, fit=True), targets, strict=True)
        return torch.stack([training.reduce_loss(loss, target.has_label, "mean") for loss, target in pairs]).sum()


def _to_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    # NumPy has no bfloat16, and half precision is of no use on the host.
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return np.asarray(wide.detach().cpu())
