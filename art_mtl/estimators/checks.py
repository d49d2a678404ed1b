"""Checks of everything a user hands to an estimator: what was expected, what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.defences.preprocessor.preprocessor import Preprocessor
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from torch import Tensor

from art_mtl.near_names import nearest
from art_mtl.tasks import Task, check_tasks

REDUCTIONS = ("none", "mean", "sum")
_LOSS = "each task has a loss of its own, and `tasks.custom(name, loss=...)` makes a task with another"
_INSTEAD = {
    "loss": _LOSS,
    "losses": _LOSS,
    "attack_losses": _LOSS,
    "nb_classes": "a task knows its classes, as in `tasks.classification(name, nb_classes)`",
    "output": "a task says which output is its own, as in `tasks.depth(name, output=...)`",
    "device": "say `device_type`, 'gpu' or 'cpu'",
    "use_amp": "attacks run in half precision with their own parameter `prepare`",
    "opt_level": "attacks run in half precision with their own parameter `prepare`",
    "loss_scale": "attacks run in half precision with their own parameter `prepare`",
}
"""What stands in the place of arguments that ART's own estimators take."""


def check_known(owner: str, unknown: Iterable[str], known: Sequence[str]) -> None:
    """Raise if there are arguments that nothing takes.

    Args:
        owner: Name of the class in messages.
        unknown: Names of these arguments.
        known: Names that are taken.

    Raises:
        TypeError: There is one; the message says what takes its place.

    Examples:
        >>> check_known("Estimator", ["nb_classes"], ["tasks"])
        Traceback (most recent call last):
        TypeError: Estimator has no parameter `nb_classes`: a task knows its classes, as in \
`tasks.classification(name, nb_classes)`.
    """
    for name in unknown:
        raise TypeError(f"{owner} has no parameter `{name}`{instead_of(name, known)}.")


def instead_of(name: str, known: Sequence[str]) -> str:
    """What takes the place of an unknown argument, to go behind its name in a message.

    Examples:
        >>> instead_of("clip_value", ["model", "clip_values"])
        '; did you mean `clip_values`?'
    """
    if name in _INSTEAD:
        return f": {_INSTEAD[name]}"
    close = nearest(name, known)
    return f"; it has {', '.join(known)}" if close is None else f"; did you mean `{close}`?"


def check_task_list(tasks: Any) -> tuple[Task, ...]:
    """The tasks, see :func:`art_mtl.tasks.check_tasks`.

    Raises:
        TypeError: They are no tasks. For a loss, which ART's classifiers take in this place, the message says so.
        ValueError: There is none, or two share a name.
    """
    if isinstance(tasks, torch.nn.Module) or not isinstance(tasks, (Task, Iterable)):
        raise TypeError(
            f"Parameter `tasks` should hold art_mtl.Task objects. Found {type(tasks).__name__}; {_INSTEAD['loss']}."
        )
    return check_tasks([tasks] if isinstance(tasks, Task) else list(tasks))


def check_model(model: Any) -> torch.nn.Module:
    """The model.

    Raises:
        TypeError: It is not a module.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"Parameter `model` should be a torch.nn.Module. Found {type(model).__name__}.")
    return model


def check_input_shape(input_shape: Any) -> tuple[int, ...]:
    """Shape of one sample, without the batch dimension.

    Raises:
        TypeError: It is not a tuple or list.
        ValueError: It is empty or holds something other than positive integers.
    """
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(f"Parameter `input_shape` should be a tuple of integers. Found {type(input_shape).__name__}.")
    if not input_shape or not all(_is_positive_integer(side) for side in input_shape):
        raise ValueError(
            "Parameter `input_shape` should be the shape of one sample, positive integers such as (3, 32, 32). "
            f"Found {tuple(input_shape)}."
        )
    return tuple(int(side) for side in input_shape)


def check_clip_values(clip_values: Any, input_shape: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """Bounds of the inputs as ART stores them: float32, ``(2,)`` for numbers, ``(2, ...)`` for arrays; or None.

    Raises:
        TypeError: They are not a pair of numbers or arrays.
        ValueError: A bound is NaN, min ≥ max anywhere, or an array does not broadcast to ``input_shape``.
    """
    if clip_values is None:
        return None
    if not isinstance(clip_values, (tuple, list, np.ndarray)) or len(clip_values) != 2:
        raise TypeError(
            f"Parameter `clip_values` should be None or a pair (min, max) of numbers or arrays. Found {clip_values!r}."
        )
    try:
        low, high = np.broadcast_arrays(*(np.asarray(bound, dtype=np.float32) for bound in clip_values))
        fits = np.broadcast_shapes(low.shape, input_shape) == input_shape
    except ValueError:
        fits = False
    if not fits:
        shapes = [np.shape(bound) for bound in clip_values]
        raise ValueError(
            f"The bounds in `clip_values` should broadcast to input_shape {input_shape}. Found shapes {shapes}."
        )
    if not (low < high).all():
        raise ValueError(f"Parameter `clip_values` should have min < max everywhere. Found {clip_values!r}.")
    return np.stack([low, high])


def check_optimizer(optimizer: Any) -> torch.optim.Optimizer | None:
    """The optimizer, or None.

    Raises:
        TypeError: It is something else.
    """
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"Parameter `optimizer` should be None or a torch.optim.Optimizer. Found {type(optimizer).__name__}."
        )
    return optimizer


def check_device_type(device_type: Any) -> str:
    """ "cpu" or "gpu".

    Raises:
        ValueError: It is something else.
    """
    if device_type not in ("cpu", "gpu"):
        raise ValueError(f"Parameter `device_type` should be 'cpu' or 'gpu'. Found {device_type!r}.")
    return str(device_type)


def check_flag(name: str, flag: Any) -> bool:
    """A boolean.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(flag, (bool, np.bool_)):
        raise TypeError(f"Parameter `{name}` should be a bool. Found {flag!r}.")
    return bool(flag)


def check_count(name: str, count: Any) -> int:
    """A positive integer.

    Raises:
        ValueError: It is something else.
    """
    if not _is_positive_integer(count):
        raise ValueError(f"Parameter `{name}` should be a positive integer. Found {count!r}.")
    return int(count)


def check_reduction(reduction: Any) -> str:
    """ "none", "mean" or "sum".

    Raises:
        ValueError: It is something else.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"Parameter `reduction` should be one of {list(REDUCTIONS)}. Found {reduction!r}.")
    return str(reduction)


def check_defences(defences: Any) -> list[Any] | None:
    """Preprocessing defences as a list, or None.

    Raises:
        TypeError: One of them is not an ART preprocessor.
    """
    if defences is None:
        return None
    found = [defences] if isinstance(defences, Preprocessor) else defences
    if not isinstance(found, Sequence) or not all(isinstance(defence, Preprocessor) for defence in found):
        kinds = [type(d).__name__ for d in found] if isinstance(found, Sequence) else type(found).__name__
        raise TypeError(
            f"Parameter `preprocessing_defences` should be None, an ART Preprocessor or a list of them. Found {kinds}."
        )
    return list(found)


def check_no_postprocessing(defences: Any) -> None:
    """Raise if there are postprocessing defences.

    Raises:
        ValueError: There is one.
    """
    if defences is not None and defences != []:
        raise ValueError(
            "Parameter `postprocessing_defences` should be None: ART's postprocessors take one array of class scores, "
            f"and a multi-task model has several outputs. Found {defences!r}."
        )


def check_preprocessing(preprocessing: Any, device_type: str) -> Any:
    """The standardisation as a preprocessor, or None.

    A pair ``(mean, std)`` becomes ART's *torch* standardisation, through which gradients flow on the device.

    Raises:
        TypeError: It is not None, a pair or a preprocessor.
        ValueError: The two parts of a pair differ in shape, are not finite, or a divisor is 0.
    """
    if preprocessing is None or isinstance(preprocessing, Preprocessor):
        return preprocessing
    if not isinstance(preprocessing, tuple) or len(preprocessing) != 2:
        raise TypeError(
            "Parameter `preprocessing` should be None, a pair (mean, std) or an ART Preprocessor. "
            f"Found {preprocessing!r}."
        )
    mean, std = (np.asarray(part, dtype=np.float32) for part in preprocessing)
    if mean.shape != std.shape:
        raise ValueError(
            f"The mean and std in `preprocessing` should have one shape. Found {mean.shape} and {std.shape}."
        )
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std != 0).all()):
        raise ValueError(
            f"The mean and std in `preprocessing` should be finite, the std not 0. Found {preprocessing!r}."
        )
    return StandardisationMeanStdPyTorch(mean=mean, std=std, device_type=device_type)


def check_inputs(x: Any, input_shape: tuple[int, ...]) -> Tensor:
    """A batch of inputs as a tensor.

    Returns:
        A tensor as it is, graph and all; an array as :func:`host_tensor` makes it one.

    Raises:
        TypeError: It is not an array or tensor, or not of floats.
        ValueError: Its shape is not ``(N, *input_shape)``, it is empty, or it holds NaN or infinity.
    """
    if not isinstance(x, (np.ndarray, Tensor)):
        raise TypeError(f"The inputs `x` should be a NumPy array or a torch tensor. Found {type(x).__name__}.")
    floats = x.is_floating_point() if isinstance(x, Tensor) else np.issubdtype(x.dtype, np.floating)
    if not floats:
        raise TypeError(f"The inputs `x` should be floats, scaled as the model expects. Found dtype {x.dtype}.")
    if tuple(x.shape[1:]) != input_shape or x.ndim != len(input_shape) + 1:
        expected = ", ".join(str(side) for side in input_shape)
        raise ValueError(f"The inputs `x` should have shape (N, {expected}). Found {tuple(x.shape)}.")
    if len(x) == 0:
        raise ValueError("The inputs `x` should hold at least one sample. Found an empty batch.")
    tensor = x if isinstance(x, Tensor) else host_tensor(x)
    finite = torch.isfinite(tensor.detach())
    if not finite.all():
        first = int((~finite).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"The inputs `x` should be finite. Found NaN or infinity, first in the sample at index {first}."
        )
    return tensor


def host_tensor(x: npt.NDArray[Any] | Tensor) -> Tensor:
    """A tensor on the CPU with memory of its own, whatever torch's default device and dtype are.

    Args:
        x: An array of numbers or a tensor, of any shape. The array may be flipped, transposed, read-only, or of another
            byte order than the machine's.

    Returns:
        The same values, contiguous, of the same dtype; extended precision becomes float64. A tensor comes without its
        graph.

    Examples:
        >>> x = np.arange(6, dtype=">f4").reshape(2, 3)[:, ::-1]
        >>> host_tensor(x)
        tensor([[2., 1., 0.],
                [5., 4., 3.]])
    """
    if isinstance(x, Tensor):
        return x.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    dtype = np.dtype(np.float64) if x.dtype.type is np.longdouble else x.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(x, dtype=dtype, order="C"))


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) > 0
