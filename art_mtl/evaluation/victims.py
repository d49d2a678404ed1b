"""The models that attacks are judged on: two that come with the package, and those of users."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_mtl import tasks
from art_mtl.data import MultiDigits, MultiTaskDataset, NYUv2, Rooms
from art_mtl.labels import MultiTaskLabels
from art_mtl.models import DigitsNet, RoomsNet, load_weights, read_metadata
from art_mtl.tasks import Task, check_tasks

__all__ = ["BLUEPRINTS", "Blueprint", "Victim", "load_victim", "victim_names"]

Arrays = tuple[NDArray[np.float32], MultiTaskLabels]

_SCENE_EPS = MappingProxyType({"linf": (2 / 255, 4 / 255, 8 / 255), "l2": (1.0,)})
_DIGIT_EPS = MappingProxyType({"linf": (0.05, 0.1)})


def _no_eps() -> Mapping[str, tuple[float, ...]]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Victim:
    """A trained model with its tasks and the data to judge it on.

    Attributes:
        name: what it is called in results.
        model: in evaluation mode, its parameters frozen.
        tasks: what it does.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input; ``eps`` is in this scale.
        data: (split, limit) to the first ``limit`` samples (None: all) of "train" or "test", as
            (inputs (N, *input_shape), labels).
        description: one line for people.
        eps: by norm ("linf", "l2"), the sizes of perturbation to judge it at.
        metadata: what its weights say about themselves, clean metrics among it.
    """

    name: str
    model: nn.Module
    tasks: list[Task]
    input_shape: tuple[int, ...]
    clip_values: tuple[float, float]
    data: Callable[[str, int | None], Arrays]
    description: str = ""
    eps: Mapping[str, tuple[float, ...]] = field(default_factory=_no_eps)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Blueprint:
    """How an embedded victim is made.

    Attributes:
        name: its name.
        description: one line for people.
        build: makes the network, untrained.
        tasks: makes its tasks.
        dataset: (split, size or None) to the data set.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input.
        eps: by norm, the sizes of perturbation to judge it at.
    """

    name: str
    description: str
    build: Callable[[], nn.Module]
    tasks: Callable[[], list[Task]]
    dataset: Callable[[str, int | None], MultiTaskDataset]
    input_shape: tuple[int, ...]
    clip_values: tuple[float, float]
    eps: Mapping[str, tuple[float, ...]]


def scene_tasks() -> list[Task]:
    """The tasks of an indoor scene: segmentation into 13 classes, depth in metres, surface normals."""
    return [
        tasks.segmentation("segmentation", num_classes=13),
        tasks.depth("depth"),
        tasks.surface_normals("normals"),
    ]


def digit_tasks() -> list[Task]:
    """The tasks of two overlapping digits: which is left, which is right, what they add up to."""
    return [
        tasks.classification("left", num_classes=10),
        tasks.classification("right", num_classes=10),
        tasks.regression("sum"),
    ]


def _digits(split: str, size: int | None) -> MultiTaskDataset:
    return MultiDigits(split, size)


def _rooms(split: str, size: int | None) -> MultiTaskDataset:
    return Rooms(split, size)


BLUEPRINTS: Mapping[str, Blueprint] = MappingProxyType(
    {
        "digits": Blueprint(
            name="digits",
            description="small CNN, two overlapping handwritten digits (left, right, sum), 1x28x28 in [0, 1]",
            build=DigitsNet,
            tasks=digit_tasks,
            dataset=_digits,
            input_shape=(1, 28, 28),
            clip_values=(0.0, 1.0),
            eps=_DIGIT_EPS,
        ),
        "rooms": Blueprint(
            name="rooms",
            description="small encoder-decoder, rendered rooms (segmentation, depth, normals), 3x96x128 in [-1, 1]",
            build=RoomsNet,
            tasks=scene_tasks,
            dataset=_rooms,
            input_shape=(3, 96, 128),
            clip_values=(-1.0, 1.0),
            eps=_SCENE_EPS,
        ),
    }
)


def victim_names() -> tuple[str, ...]:
    """Names that :func:`load_victim` knows; "nyuv2" needs the user's own data and checkpoint.

    Examples:
        >>> victim_names()
        ('digits', 'rooms', 'nyuv2')
    """
    return (*BLUEPRINTS, "nyuv2")


def load_victim(name: str, *, root: str | Path | None = None, checkpoint: str | Path | None = None) -> Victim:
    """A victim by name, or from a file of the user's.

    ``"digits"`` and ``"rooms"`` come with their weights. ``"nyuv2"`` is a network trained by
    :func:`art_mtl.evaluation.training.memorise`. ``"PATH.py:function"`` imports the file and calls the function
    without arguments; it returns a :class:`Victim`, or ``(model, tasks, x, y)`` with labels ``y`` in any form that
    :meth:`MultiTaskLabels.of` takes, or the same with the ``(least, greatest)`` value of an input as a fifth; without
    a fifth, inputs are in [0, 1].

    Args:
        name: one of :func:`victim_names`, or ``"PATH.py:function"``.
        root: folder of NYUv2; "nyuv2" only.
        checkpoint: weights to use; needed for "nyuv2", replaces the embedded weights of the others.

    Returns:
        The victim, on the CPU.

    Raises:
        ValueError: If the name is unknown, if an argument is missing or does not apply, if the weights do not fit, or
            if a user's function is not in its file.
        TypeError: If a user's function returns something else.
        FileNotFoundError: If a file is missing.

    Examples:
        >>> victim = load_victim("digits")
        >>> x, y = victim.data("test", 4)
        >>> x.shape, y.names
        ((4, 1, 28, 28), ('left', 'right', 'sum'))
    """
    if name not in BLUEPRINTS and name != "nyuv2" and ".py:" in name:
        _refuse(name, root=root, checkpoint=checkpoint)
        return _from_file(name)
    if name == "nyuv2":
        return _memorised(root, checkpoint)
    if name not in BLUEPRINTS:
        raise ValueError(
            f"Parameter `name` should be one of {', '.join(victim_names())}, or PATH.py:function. Found {name!r}."
        )
    _refuse(name, root=root)
    blueprint = BLUEPRINTS[name]
    model = blueprint.build()
    if checkpoint is None:
        with as_file(files("art_mtl.models") / "weights" / f"{name}.safetensors") as path:
            metadata = load_weights(model, path)
    else:
        metadata = load_weights(model, checkpoint)
    held: dict[str, MultiTaskDataset] = {}

    def data(split: str, limit: int | None = None) -> Arrays:
        if split not in held:
            held[split] = blueprint.dataset(split, None)
        return held[split].arrays(limit)

    return Victim(
        name, _ready(model), blueprint.tasks(), blueprint.input_shape, blueprint.clip_values, data,
        blueprint.description, blueprint.eps, metadata,
    )  # fmt: skip


def to_channels_last(model: nn.Module) -> None:
    """Bring a model's convolutions into the memory layout in which a CPU runs them fastest; their values stay."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _ready(model: nn.Module) -> nn.Module:
    """In evaluation mode, frozen and in the fast memory layout."""
    to_channels_last(model)
    return model.eval().requires_grad_(False)


def _refuse(name: str, **arguments: object) -> None:
    for argument, value in arguments.items():
        if value is not None:
            raise ValueError(f"Parameter `{argument}` should be left out for victim {name!r}. Found {value!r}.")


def _memorised(root: str | Path | None, checkpoint: str | Path | None) -> Victim:
    if root is None or checkpoint is None:
        raise ValueError(
            "Victim 'nyuv2' should have `root`, the folder of NYUv2, and `checkpoint`, weights made by "
            f"`memorise`. Found root={root!r}, checkpoint={checkpoint!r}."
        )
    metadata = read_metadata(checkpoint)
    try:
        size = (int(metadata["height"]), int(metadata["width"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{checkpoint}: expected `height` and `width` in its metadata. Found {metadata}.") from error
    model = RoomsNet()
    load_weights(model, checkpoint)
    held: dict[str, MultiTaskDataset] = {}

    def data(split: str, limit: int | None = None) -> Arrays:
        folder = "val" if split == "test" else split
        if folder not in held:
            held[folder] = NYUv2(root, folder, size)
        return held[folder].arrays(limit)

    description = f"memorised victim: a small net trained on the {metadata.get('train_size', '?')} images it is shown"
    return Victim(
        "nyuv2", _ready(model), scene_tasks(), (3, *size), (-1.0, 1.0), data, description, _SCENE_EPS, metadata
    )


def _from_file(name: str) -> Victim:
    path_text, _, function_name = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a Python file at {path} (from {name!r}). Found no such file.")
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as when Python runs the file, so that it can import its neighbours
    try:
        module = _import(path)
        function = getattr(module, function_name, None)
        if not callable(function):
            known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"Expected a function {function_name!r} in {path}. Found {', '.join(known) or 'none'}.")
        returned = function()
    finally:
        sys.path.remove(folder)
    if isinstance(returned, Victim):
        return returned
    return _from_parts(name, returned)


def _import(path: Path) -> ModuleType:
    module_name = f"art_mtl_victim_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"Expected a Python file that can be imported. Found {path}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up while it is being imported
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _from_parts(name: str, returned: Any) -> Victim:
    """A victim from the (model, tasks, x, y[, clip_values]) that a user's function returned."""
    if not isinstance(returned, tuple) or len(returned) not in (4, 5):
        found = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
        raise TypeError(f"{name} should return a Victim or (model, tasks, x, y[, clip_values]). Found {found}.")
    model, given, x, y = returned[:4]
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} should return a torch.nn.Module as its model. Found {type(model).__name__}.")
    if not isinstance(given, (Task, Sequence)):
        raise TypeError(f"{name} should return a list of tasks. Found {type(given).__name__}.")
    checked = list(check_tasks([given] if isinstance(given, Task) else given))
    inputs = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, np.float32)
    if inputs.ndim < 2 or len(inputs) == 0:
        raise ValueError(f"{name} should return inputs (N, ...) with N of at least 1. Found shape {inputs.shape}.")
    labels = MultiTaskLabels.of(y, [task.name for task in checked], size=len(inputs))
    low, high = (float(bound) for bound in (returned[4] if len(returned) == 5 else (0.0, 1.0)))
    if not low < high:
        raise ValueError(f"{name} should return clip_values (least, greatest). Found ({low:g}, {high:g}).")
    if inputs.min() < low or inputs.max() > high:
        raise ValueError(
            f"{name} should return inputs in [{low:g}, {high:g}], or their range as a fifth value. Found values from "
            f"{inputs.min():g} to {inputs.max():g}."
        )

    def data(split: str, limit: int | None = None) -> Arrays:
        return inputs[:limit], labels[:limit]

    scale = high - low
    eps = {"linf": (2 / 255 * scale, 4 / 255 * scale, 8 / 255 * scale)}
    return Victim(
        name, model.eval(), checked, inputs.shape[1:], (low, high), data, f"model of {name}", MappingProxyType(eps)
    )
