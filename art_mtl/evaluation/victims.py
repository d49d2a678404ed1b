"""The models that attacks are judged on: those that come with the package, the paper's, and those of users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.data import PAPER_DATA, MultiDigits, MultiLabelDigits, MultiTaskDataset, NYUv2, Rooms
from art_mtl.evaluation import user_code
from art_mtl.evaluation.samples import Arrays, Source, as_source
from art_mtl.models import DigitsNet, MultiLabelNet, RoomsNet, load_embedded, load_network, load_weights, read_metadata
from art_mtl.tasks import Task, check_tasks

__all__ = ["VICTIM_SPECS", "VictimSpec", "Victim", "load_victim", "victim_names"]

Reader = Callable[[str, int | None], Arrays]
Names = Mapping[str, tuple[str, ...]]

_AT_ONCE = 256
_SCENE_EPS = MappingProxyType({"linf": (2 / 255, 4 / 255, 8 / 255), "l2": (1.0,)})
_ROBUST_EPS = MappingProxyType({"linf": (8 / 255, 16 / 255, 32 / 255), "l2": (4.0,)})
_DIGIT_EPS = MappingProxyType({"linf": (0.05, 0.1)})
scene_tasks = PAPER_DATA["nyuv2"].tasks
"""Makes the tasks of an indoor scene: segmentation into 13 classes, depth in metres, surface normals."""


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Victim:
    """A trained model with its tasks and the data to evaluator it on.

    Attributes:
        name: what it is called in results.
        model: in evaluation mode, its parameters frozen.
        tasks: what it does.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input; ``eps`` is in this scale.
        data: (split, limit) to the first ``limit`` samples (None: all) of "train" or "test", as
            (inputs (N, *input_shape), labels). They may stay in memory for the next call.
        description: one line for people.
        eps: by norm ("linf", "l2"), the sizes of perturbation to evaluator it at.
        metadata: what its weights say about themselves, clean metrics among it.
        class_names: by task, names of its classes, where they have names.
        dataset: split to the map-style data set behind ``data``, of which runs read one chunk after another, or to
            ``(x, y)`` with arrays that may lie on disk; None where there is nothing but ``data``.
    """

    name: str
    model: nn.Module
    tasks: list[Task]
    input_shape: tuple[int, ...]
    clip_values: tuple[float, float]
    data: Reader
    description: str = ""
    eps: Mapping[str, tuple[float, ...]] = field(default_factory=_nothing)
    metadata: Mapping[str, str] = field(default_factory=dict)
    class_names: Names = field(default_factory=_nothing)
    dataset: Callable[[str], Any] | None = None

    def source(self, split: str = "test", limit: int | None = None) -> Source:
        """The data, read part by part.

        Args:
            split: "train" or "test".
            limit: first samples to take; None for all.
        """
        if self.dataset is None:
            return as_source(self.data(split, limit), self.tasks)
        return as_source(self.dataset(split), self.tasks, limit)


@dataclass(frozen=True)
class VictimSpec:
    """How an embedded victim is made.

    Attributes:
        name: its name.
        description: one line for people.
        build: makes the network, untrained.
        tasks: makes its tasks.
        dataset: (split, size or None) to the data set.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input.
        eps: by norm, the sizes of perturbation to evaluator it at.
        class_names: by task, names of its classes, where they have names.
    """

    name: str
    description: str
    build: Callable[[], nn.Module]
    tasks: Callable[[], list[Task]]
    dataset: Callable[[str, int | None], MultiTaskDataset]
    input_shape: tuple[int, ...]
    clip_values: tuple[float, float]
    eps: Mapping[str, tuple[float, ...]]
    class_names: Names = field(default_factory=_nothing)


def digit_tasks() -> list[Task]:
    """The tasks of two overlapping digits: which is left, which is right, what they add up to."""
    return [
        tasks.classification("left", num_classes=10),
        tasks.classification("right", num_classes=10),
        tasks.regression("sum"),
    ]


def multilabel_tasks() -> list[Task]:
    """The same with a multi-label task: which is left, which of the ten are there, what they add up to."""
    return [
        tasks.classification("left", num_classes=10),
        tasks.multilabel("present", num_labels=10),
        tasks.regression("sum"),
    ]


def _digits(split: str, size: int | None) -> MultiTaskDataset:
    return MultiDigits(split, size)


def _multilabel(split: str, size: int | None) -> MultiTaskDataset:
    return MultiLabelDigits(split, size)


def _rooms(split: str, size: int | None) -> MultiTaskDataset:
    return Rooms(split, size)


_ROOMS = VictimSpec(
    name="rooms",
    description="small encoder-decoder, rendered rooms (segmentation, depth, normals), 3x96x128 in [-1, 1]",
    build=RoomsNet,
    tasks=scene_tasks,
    dataset=_rooms,
    input_shape=(3, 96, 128),
    clip_values=(-1.0, 1.0),
    eps=_SCENE_EPS,
    class_names=PAPER_DATA["nyuv2"].class_names,
)

VICTIM_SPECS: Mapping[str, VictimSpec] = MappingProxyType(
    {
        "digits": VictimSpec(
            name="digits",
            description="small CNN, two overlapping handwritten digits (left, right, sum), 1x28x28 in [0, 1]",
            build=DigitsNet,
            tasks=digit_tasks,
            dataset=_digits,
            input_shape=(1, 28, 28),
            clip_values=(0.0, 1.0),
            eps=_DIGIT_EPS,
        ),
        "rooms": _ROOMS,
        "rooms-robust": replace(
            _ROOMS,
            name="rooms-robust",
            description="the same CNN and scenes, trained on attacked images (PGD on all tasks, L∞ 8/255)",
            eps=_ROBUST_EPS,
        ),
        "multilabel": VictimSpec(
            name="multilabel",
            description="small CNN, two overlapping digits (left, which are present, sum), 1x28x28 in [0, 1]",
            build=MultiLabelNet,
            tasks=multilabel_tasks,
            dataset=_multilabel,
            input_shape=(1, 28, 28),
            clip_values=(0.0, 1.0),
            eps=_DIGIT_EPS,
        ),
    }
)


def victim_names() -> tuple[str, ...]:
    """Names that :func:`load_victim` knows; "nyuv2" and "cityscapes" need the user's own data and checkpoint.

    Examples:
        >>> victim_names()
        ('digits', 'rooms', 'rooms-robust', 'multilabel', 'nyuv2', 'cityscapes')
    """
    return (*VICTIM_SPECS, *PAPER_DATA)


def load_victim(name: str, *, root: str | Path | None = None, checkpoint: str | Path | None = None) -> Victim:
    """A victim by name, or from a file of the user's.

    ``"digits"``, ``"rooms"``, ``"rooms-robust"`` and ``"multilabel"`` come with their weights. ``"nyuv2"`` and
    ``"cityscapes"`` are the paper's networks, MTAN or Split: which of them a checkpoint holds is told by its keys, be
    it one of Auto-Lambda or of ``art-mtl train --data``. ``"nyuv2"`` also takes the small network of ``art-mtl train
    nyuv2``. ``"PATH.py:function"`` imports the file and calls the function without arguments; it returns a
    :class:`Victim`, or ``(model, tasks, x, y)`` with labels ``y`` in any form that :meth:`MultiTaskLabels.of` takes, or
    the same with the ``(least, greatest)`` value of an input as a fifth; without a fifth, inputs are in [0, 1]. ``x``
    may be a :class:`numpy.memmap`; or, with ``y`` None, a map-style data set whose ``[i]`` is ``(input, dict of
    labels)``, of which runs read one chunk after another.

    Args:
        name: one of :func:`victim_names`, or ``"PATH.py:function"``.
        root: folder of the data; "nyuv2" and "cityscapes" only.
        checkpoint: weights to use; needed for "nyuv2" and "cityscapes", replaces the embedded weights of the others.

    Returns:
        The victim, on the CPU. Its test data are the ``val`` folder for "nyuv2" and "cityscapes".

    Raises:
        ValueError: If the name is unknown, if an argument is missing or does not apply, if the weights do not fit or
            are those for the other data set, or if a user's function is not in its file.
        TypeError: If a user's function returns something else.
        FileNotFoundError: If a file is missing.

    Examples:
        >>> victim = load_victim("digits")
        >>> x, y = victim.data("test", 4)
        >>> x.shape, y.names
        ((4, 1, 28, 28), ('left', 'right', 'sum'))
    """
    if name in PAPER_DATA:
        return _of_the_paper(name, root, checkpoint)
    if name not in VICTIM_SPECS and ".py:" in name:
        _refuse(name, root=root, checkpoint=checkpoint)
        returned = user_code.call(name)
        return returned if isinstance(returned, Victim) else _from_parts(name, returned)
    if name not in VICTIM_SPECS:
        raise ValueError(
            f"Parameter `name` should be one of {', '.join(victim_names())}, or PATH.py:function. Found {name!r}."
        )
    _refuse(name, root=root)
    spec = VICTIM_SPECS[name]
    model = spec.build()
    metadata = load_embedded(model, name) if checkpoint is None else load_weights(model, checkpoint)
    data, dataset = _readers(lambda split: spec.dataset(split, None))
    return Victim(
        name, _ready(model), spec.tasks(), spec.input_shape, spec.clip_values, data,
        spec.description, spec.eps, metadata, spec.class_names, dataset,
    )  # fmt: skip


def _readers(open_split: Callable[[str], MultiTaskDataset]) -> tuple[Reader, Callable[[str], MultiTaskDataset]]:
    """``data`` and ``dataset`` of a victim; a split is opened when it is first asked for."""
    held: dict[str, MultiTaskDataset] = {}

    def dataset(split: str) -> MultiTaskDataset:
        if split not in held:
            held[split] = open_split(split)
        return held[split]

    def data(split: str, limit: int | None = None) -> Arrays:
        return dataset(split).arrays(limit)

    return data, dataset


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


def _of_the_paper(name: str, root: str | Path | None, checkpoint: str | Path | None) -> Victim:
    """MTAN or Split on NYUv2 or Cityscapes, or the small network that memorised a folder in NYUv2's layout."""
    paper = PAPER_DATA[name]
    if root is None or checkpoint is None:
        raise ValueError(
            f"Victim {name!r} should have `root`, the folder of {paper.title}, and `checkpoint`, weights of MTAN or "
            f"Split trained on it. Found root={root!r}, checkpoint={checkpoint!r}."
        )
    metadata = _metadata(checkpoint)
    if (metadata.get("victim"), metadata.get("memorised")) == ("nyuv2", "true") and name == "nyuv2":
        return _memorised(root, checkpoint, metadata)
    splits = [split for split in ("val", "train") if (Path(root) / split).is_dir()]
    image, _ = paper.open(root, splits[0] if splits else "val").sample(0)
    network = load_network(checkpoint, paper.heads)
    data, dataset = _readers(lambda split: paper.open(root, "val" if split == "test" else split))
    description = f"{type(network).__name__} on {paper.title}, weights of {checkpoint}"
    return Victim(
        name, _ready(network), paper.tasks(), image.shape, (-1.0, 1.0), data, description, paper.eps, metadata,
        paper.class_names, dataset,
    )  # fmt: skip


def _metadata(checkpoint: str | Path) -> dict[str, str]:
    """What a safetensors file says about itself; nothing of files of other kinds, which have no such place."""
    try:
        return read_metadata(checkpoint)
    except ValueError:
        return {}


def _memorised(root: str | Path, checkpoint: str | Path, metadata: Mapping[str, str]) -> Victim:
    try:
        size = (int(metadata["height"]), int(metadata["width"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{checkpoint}: expected `height` and `width` in its metadata. Found {metadata}.") from error
    model = RoomsNet()
    load_weights(model, checkpoint)
    data, dataset = _readers(lambda split: NYUv2(root, "val" if split == "test" else split, size))
    description = f"memorised victim: a small net trained on the {metadata.get('train_size', '?')} images it is shown"
    return Victim(
        "nyuv2", _ready(model), scene_tasks(), (3, *size), (-1.0, 1.0), data, description, _SCENE_EPS, metadata,
        PAPER_DATA["nyuv2"].class_names, dataset,
    )  # fmt: skip


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
    low, high = (float(bound) for bound in (returned[4] if len(returned) == 5 else (0.0, 1.0)))
    if not low < high:
        raise ValueError(f"{name} should return clip_values (least, greatest). Found ({low:g}, {high:g}).")
    source = as_source(x if y is None else (x, y), checked)
    inputs, _ = source.read(slice(0, 1))
    if inputs.ndim < 2:
        raise ValueError(f"{name} should return inputs (N, ...). Found one of shape {inputs.shape[1:]}.")
    if y is not None:
        _check_range(name, source, low, high)

    def data(split: str, limit: int | None = None) -> Arrays:
        return source.read(slice(0, len(source) if limit is None else limit))

    scale = high - low
    eps = {"linf": (2 / 255 * scale, 4 / 255 * scale, 8 / 255 * scale)}
    return Victim(
        name, model.eval(), checked, inputs.shape[1:], (low, high), data, f"model of {name}", MappingProxyType(eps),
        dataset=lambda split: x if y is None else (x, y),
    )  # fmt: skip


def _check_range(name: str, source: Source, low: float, high: float) -> None:
    """Raise unless all inputs lie in the range; they are looked at a few at a time."""
    for first in range(0, len(source), _AT_ONCE):
        inputs, _ = source.read(slice(first, first + _AT_ONCE))
        least, greatest = np.min(inputs), np.max(inputs)
        if least < low or greatest > high:
            raise ValueError(
                f"{name} should return inputs in [{low:g}, {high:g}], or their range as a fifth value. Found values "
                f"from {least:g} to {greatest:g}."
            )
