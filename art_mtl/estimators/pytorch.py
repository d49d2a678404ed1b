"""A multi-task PyTorch model as an ART estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from art_mtl.core.batch import predicted_labels
from art_mtl.core.engine import AttackedModel
from art_mtl.core.forward import ForwardBackward, MicroBatching
from art_mtl.estimators import checks, training, views
from art_mtl.estimators.activations import layer_name, layer_output
from art_mtl.estimators.fitting import MultiTaskTraining
from art_mtl.labels import MultiTaskLabels
from art_mtl.precision import widen
from art_mtl.prepared import PreparedCache
from art_mtl.structure import map_tensors
from art_mtl.tasks import Task

Inputs = npt.NDArray[Any] | Tensor


class PyTorchMultiTaskEstimator(MultiTaskTraining):
    """A model of several tasks, for ART's own attacks and for those of :mod:`art_mtl.attacks`.

    Labels are taken in any form of :meth:`MultiTaskLabels.of`, and raw outputs in place of labels are decoded. ART's
    own attacks slice their labels, so give those a :class:`MultiTaskLabels` (``estimator.labels(y, len(x))``), an
    object array with one dict per sample, or a structured array. The estimator is not an ART classifier, so
    classifier-only attacks reject it; use :meth:`task_view`.

    Every method leaves the model as it found it, also after an exception: the mode of every module, buffers,
    ``requires_grad`` and ``.grad`` (only :meth:`fit` trains). Recurrent layers run in training mode without dropout,
    which computes the same and can be differentiated on CUDA. The inputs are never written to, even by a model that
    works in place. Inside ``torch.inference_mode()`` every method works as inside ``torch.no_grad()``.

    Inputs are arrays or tensors of any floating-point dtype, byte order and memory layout. They are converted to
    float32, or to float64 if the model's weights are, before defences and preprocessing; the model gets them in the
    dtype of its weights. Predictions and losses come in the dtype that the model returns, on the host in float32 at
    least. Gradients come in the dtype of the inputs. Torch's default device and dtype change nothing.

    Args:
        model: Returns a dict, a list or tuple in task order, a named tuple, a dataclass, or one tensor. It is moved to
            the device.
        tasks: What each output means, see :mod:`art_mtl.tasks`.
        input_shape: Shape of one sample, ``(C, H, W)`` or what the model takes.
        clip_values: Bounds ``(min, max)`` of the inputs: numbers, or arrays that broadcast to ``input_shape``. None for
            no bounds, which several attacks do not allow.
        optimizer: For :meth:`fit`.
        channels_first: Where the channels of ``input_shape`` stand, and with them height and width: True for
            ``(C, H, W)``, False for ``(H, W, C)``. The model gets its inputs as they come; attacks that place something
            in an image ask :attr:`image_axes`.
        preprocessing_defences: ART preprocessors, in torch or NumPy, in any order; attacks differentiate through all.
        postprocessing_defences: Must be None or empty.
        preprocessing: ``(mean, std)``, numbers or arrays that broadcast to a batch, an ART preprocessor, or None.
            Applied after the defences.
        device_type: "gpu" for CUDA's current device where there is one and the CPU otherwise, as everywhere in ART;
            or "cpu".

    Raises:
        TypeError: An argument is of the wrong type, or unknown; the message says what takes the place of ``loss``,
            ``nb_classes`` and other arguments of ART's own estimators.
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

    def __init__(
        self,
        model: torch.nn.Module,
        tasks: Sequence[Task],
        input_shape: tuple[int, ...],
        clip_values: tuple[Any, Any] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        channels_first: bool = True,
        preprocessing_defences: Any = None,
        postprocessing_defences: Any = None,
        preprocessing: Any = (0.0, 1.0),
        device_type: str = "gpu",
        **unknown: NoReturn,
    ) -> None:
        checks.check_known(type(self).__name__, unknown, self.estimator_params)
        self._input_shape = checks.check_input_shape(input_shape)
        self._tasks = checks.check_task_list(tasks)
        self._optimizer = checks.check_optimizer(optimizer)
        checks.check_no_postprocessing(postprocessing_defences)
        super().__init__(
            model=checks.check_model(model),
            clip_values=checks.check_clip_values(clip_values, self._input_shape),
            channels_first=checks.check_flag("channels_first", channels_first),
            preprocessing_defences=checks.check_defences(preprocessing_defences),
            postprocessing_defences=None,
            # Left out, the base class would install a NumPy standardisation.
            preprocessing=checks.check_preprocessing(preprocessing, checks.check_device_type(device_type)),
            device_type=device_type,
        )
        self._model.to(self._device)
        self._prepared = PreparedCache()

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
            training_mode: Run the model in training mode (dropout on, batch norm by the batch) instead of evaluation
                mode. Running statistics come back as they were.

        Returns:
            NumPy arrays of N samples each. Given back as labels they are decoded. Where a task's output is a nest of
            tensors, an object array ``(N,)`` of one nest of arrays a sample.

        Raises:
            TypeError: ``x`` is not of floats.
            ValueError: ``x`` has another shape, is empty or not finite; or the model returns something else than the
                tasks ask for.
        """
        raw = self.raw_outputs(x, batch_size, training_mode)
        pairs = zip(self._tasks, raw, strict=True)
        return MultiTaskLabels({task.name: _column(task, output, len(x)) for task, output in pairs})

    def raw_outputs(self, x: Inputs, batch_size: int = 128, training_mode: bool = False) -> list[Any]:
        """What the model returns for each task, in order: tensors on the host or, for kinds that take them, nests.

        Arguments and errors are those of :meth:`predict`. Half precision becomes float32.
        """
        x = checks.check_inputs(x, self._input_shape)
        parts = []
        # In training mode a sample's output depends on its batch, which no piece may take apart.
        passes = None if training_mode else ForwardBackward(self.forward_tasks, MicroBatching(), self._tasks)
        with self._lent(training_mode), torch.no_grad():
            for batch in torch.split(x, checks.check_count("batch_size", batch_size)):
                inputs = self._place(batch)
                outputs = self.forward_tasks(inputs) if passes is None else passes.no_grad(inputs)
                for task, output in zip(self._tasks, outputs, strict=True):
                    task.check_size(output, len(batch))
                parts.append([map_tensors(output, _to_host) for output in outputs])
        return [task.join_outputs(column) for task, column in zip(self._tasks, zip(*parts, strict=True), strict=True)]

    def own_labels(self, x: Inputs, batch_size: int = 128) -> MultiTaskLabels:
        """The model's own clean predictions, in evaluation mode, as labels: arg-max of logits and the like.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            batch_size: Samples in one forward.

        Returns:
            NumPy arrays of N samples each, one for each task.

        Raises:
            TypeError: As for :meth:`predict`.
            ValueError: As for :meth:`predict`; or the outputs of a task stand for no labels.
        """
        return predicted_labels(self._tasks, self.raw_outputs(x, batch_size=batch_size)).numpy()

    @property
    def attackable(self) -> Tensor | None:
        """0 where an input is only given with a sample, of the shape of one; None: it may be changed everywhere."""
        return self.attacked_model().attackable

    def attacked_model(self) -> AttackedModel:
        """The model as :mod:`art_mtl.core.engine` sees it."""
        return AttackedModel(
            module=self._model,
            tasks=self._tasks,
            device=self._device,
            forward=self.forward_through(self._model),
            prepared=self.forward_prepared,
            own_labels=lambda inputs, size: self.own_labels(inputs.numpy(), size),
            channels_first=self.channels_first,
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
        name = layer_name(layer, self.layer_names)
        x = checks.check_inputs(x, self._input_shape)
        graph = framework and torch.is_grad_enabled()
        batches = [x] if framework else torch.split(x, checks.check_count("batch_size", batch_size))
        with (
            layer_output(self._model, name) as seen,
            self._lent(differentiable=graph and x.requires_grad),
            torch.set_grad_enabled(graph),
        ):
            parts = [seen(lambda: self.forward_tasks(self._place(batch))) for batch in batches]  # noqa: B023
        return parts[0] if framework else np.concatenate([_to_numpy(part) for part in parts])

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
            ValueError: Inputs, labels or outputs of a wrong shape or value, a loss that does not depend differentiably
                on the inputs, or a model that was made inside ``torch.inference_mode()``.
        """
        tensor = checks.check_inputs(x, self._input_shape)
        with self._lent(training_mode, differentiable=True), torch.enable_grad():
            inputs = self._place(tensor.detach()).clone().requires_grad_(True)
            total = torch.stack([loss.sum() for loss in self._losses(inputs, self.targets(y, len(inputs)))]).sum()
            if not total.requires_grad:
                raise ValueError("The model's outputs should depend differentiably on its inputs. Found no gradient.")
            (gradient,) = torch.autograd.grad(total, inputs)
        if isinstance(x, Tensor):
            return gradient.to(device=x.device, dtype=x.dtype)
        return _to_numpy(gradient).astype(x.dtype)

    def compute_losses(self, x: Inputs, y: Any, reduction: str = "none") -> dict[str, Any]:
        """The loss of each task, in evaluation mode.

        Args:
            x: ``(N, *input_shape)``, floats, array or tensor.
            y: Labels in any form.
            reduction: "none", "sum", or "mean" over the samples that have a label for the task.

        Returns:
            Task name to ``(N,)`` (0 where a sample has no label) or to a number. Arrays for an array; for a tensor,
            tensors on the device, differentiable in ``x``.

        Raises:
            TypeError: Inputs or labels of a wrong type.
            ValueError: Inputs, labels or outputs of a wrong shape or value, or an unknown reduction.
        """
        checks.check_reduction(reduction)
        tensor = checks.check_inputs(x, self._input_shape)
        graph = torch.is_grad_enabled() and isinstance(x, Tensor)
        with self._lent(differentiable=graph and tensor.requires_grad), torch.set_grad_enabled(graph):
            targets = self.targets(y, len(tensor))
            losses = self._losses(self._place(tensor), targets)
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


def _to_host(tensor: Tensor) -> Tensor:
    # NumPy has no bfloat16, and half precision is of no use on the host.
    return checks.host_tensor(widen(tensor))


def _to_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    return np.asarray(widen(tensor).detach().cpu())


def _column(task: Task, output: Any, size: int) -> npt.NDArray[Any]:
    if isinstance(output, Tensor):
        return output.numpy()
    column = np.empty(size, dtype=object)
    for sample in range(size):
        column[sample] = task.slice_output(output, sample)
    return column
