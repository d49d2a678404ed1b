"""The models that attacks are run against: those that come with the package, the paper's, and those of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from art_mtl import tasks
from art_mtl.data import (
    PAPER_DATA,
    THINGS,
    MultiDigits,
    MultiLabelDigits,
    MultiTaskDataset,
    NYUv2,
    Rooms,
    RoomsDetection,
)
from art_mtl.data.sources import Arrays, Source, as_arrays, as_source, check_one_form, check_one_sample
from art_mtl.entry_points import declared, label, package_of
from art_mtl.files import regular_file
from art_mtl.models import (
    DigitsNet,
    MultiLabelNet,
    RoomsDetectionNet,
    RoomsNet,
    load_embedded,
    load_network,
    load_weights,
    read_metadata,
)
from art_mtl.near_names import perhaps
from art_mtl.tasks import Task, check_tasks
from art_mtl.zoo import user_code
from art_mtl.zoo.file_victims import read_victim
from art_mtl.zoo.model_files import SUFFIXES, is_model_file

__all__ = ["ENTRY_POINTS", "VICTIM_SPECS", "VictimSpec", "Victim", "load_victim", "victim_descriptions", "victim_names"]

ENTRY_POINTS = "art_mtl.victims"
"""Group of entry points by which other packages add victims: each names a function without arguments that returns a
:class:`Victim` or a :class:`VictimSpec`. The entry's name is the victim's.
"""
_FORMS = (
    "a Victim, a VictimSpec, (model, tasks, x, y), (model, tasks, x, y, bounds) or (model, tasks, data set or "
    "DataLoader)"
)

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
    """A trained model with its tasks and the data to attack it on.

    Attributes:
        name: what it is called in results.
        model: in evaluation mode, its parameters frozen.
        tasks: what it does, one output each.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input, numbers or arrays; ``eps`` is in this scale.
        data: (split, limit) to the first ``limit`` samples (None: all) of "train" or "test", as
            (inputs (N, *input_shape), labels). They may stay in memory for the next call.
        description: one line for people.
        eps: by norm ("linf", "l2"), the sizes of perturbation to attack it with.
        metadata: what its weights say about themselves, clean metrics among it.
        class_names: by task, names of its classes, where they have names.
        dataset: split to the map-style data set behind ``data``, of which runs read one chunk after another, or to
            ``(x, y)`` with arrays that may lie on disk; None where there is nothing but ``data``.
    """

    name: str
    model: nn.Module
    tasks: list[Task]
    input_shape: tuple[int, ...]
    clip_values: tuple[Any, Any]
    data: Reader
    description: str = ""
    eps: Mapping[str, tuple[float, ...]] = field(default_factory=_nothing)
    metadata: Mapping[str, str] = field(default_factory=dict)
    class_names: Names = field(default_factory=_nothing)
    dataset: Callable[[str], Any] | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        tasks: Task | Sequence[Task],
        x: Any,
        y: Any = None,
        *,
        bounds: tuple[Any, Any] = (0.0, 1.0),
        train: Any = None,
        eps: Mapping[str, Sequence[float]] | None = None,
        name: str = "model",
        description: str = "",
        class_names: Names | None = None,
    ) -> Victim:
        """A victim from a model and data.

        Args:
            model: a trained network; it is put in evaluation mode.
            tasks: what it does.
            x: test inputs ``(N, ...)``, which may be a :class:`numpy.memmap`; or, with ``y`` None, ``(x, y)``, a
                map-style data set whose ``[i]`` is ``(input, labels)``, a ``DataLoader``, whose data set and collate
                are used, or an iterable, which is read once.
            y: labels in any form that :meth:`MultiTaskLabels.of` takes.
            bounds: least and greatest value of an input: numbers, or arrays that broadcast to it.
            train: training data in one of the forms of ``x``; None where there are none.
            eps: by norm, radii in the scale of the inputs; None for L∞ of 2, 4 and 8 grey levels.
            name: what it is called in results.
            description: one line for people.
            class_names: by task, names of its classes.

        Raises:
            TypeError: the model is no module, ``tasks`` are no tasks, or the data have another form.
            ValueError: ``bounds`` are no range, inputs lie outside of it, or the labels do not fit.

        Examples:
            >>> from art_mtl import tasks
            >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
            >>> x, y = np.zeros((5, 1, 2, 2)), {"kind": [0, 1, 2, 0, 1]}
            >>> victim = Victim.of(net, tasks.classification("kind", 3), x, y)
            >>> victim.input_shape, len(victim.source())
            ((1, 2, 2), 5)
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"Parameter `model` should be a torch.nn.Module. Found {type(model).__name__}.")
        if not isinstance(tasks, (Task, Sequence)):
            raise TypeError(f"Parameter `tasks` should be a list of tasks. Found {type(tasks).__name__}.")
        checked = list(check_tasks([tasks] if isinstance(tasks, Task) else tasks))
        check_one_form(x, y)
        low, high = _range(bounds)
        given = {"test": x if y is None else (x, y), **({} if train is None else {"train": train})}
        given = {split: list(data) if isinstance(data, Iterator) else data for split, data in given.items()}
        sources = {split: as_source(data, checked) for split, data in given.items()}
        first = sources["test"].read(slice(0, 1))
        shape = first[0].shape[1:]
        if not shape:
            raise ValueError("Parameter `x` should be inputs (N, ...). Found numbers alone.")
        if not isinstance(given["test"], (tuple, DataLoader)):
            check_one_sample(first, checked)
        for split, data in given.items():
            if isinstance(data, tuple):
                _check_range(sources[split], low, high)
        dataset = partial(_of_split, name, given)
        width = float(np.max(high) - np.min(low))
        radii = {"linf": [levels / 255 * width for levels in (2, 4, 8)]} if eps is None else eps
        return cls(
            name, model.eval(), checked, shape, (low, high),
            partial(_arrays_of, dataset, checked), description,
            MappingProxyType({norm: tuple(map(float, values)) for norm, values in radii.items()}),
            class_names=class_names or _nothing(), dataset=dataset,
        )  # fmt: skip

    def source(self, split: str = "test", limit: int | None = None) -> Source:
        """The data, read part by part.

        Args:
            split: "train" or "test".
            limit: first samples to take; None for all.

        Raises:
            ValueError: a split that the victim has no data of.
        """
        if self.dataset is None:
            return as_source(self.data(split, limit), self.tasks)
        return as_source(self.dataset(split), self.tasks, limit)


@dataclass(frozen=True)
class VictimSpec:
    """How a victim is made when it is asked for.

    Attributes:
        name: its name.
        description: one line for people.
        build: makes the network, untrained.
        tasks: makes its tasks.
        dataset: (split, size or None) to the data set.
        input_shape: shape of one input.
        clip_values: least and greatest value of an input.
        eps: by norm, the sizes of perturbation to attack it with.
        class_names: by task, names of its classes, where they have names.
        weights: a safetensors file; None for those that this package has under ``name``.
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
    weights: str | Path | None = None

    def load(self, checkpoint: str | Path | None = None) -> Victim:
        """The victim, on the CPU.

        Args:
            checkpoint: weights to use in place of its own.

        Raises:
            FileNotFoundError: there are no weights.
            ValueError: the weights do not fit.
        """
        model = self.build()
        file = self.weights if checkpoint is None else checkpoint
        metadata = load_embedded(model, self.name) if file is None else load_weights(model, file)
        data, dataset = _readers(lambda split: self.dataset(split, None))
        return Victim(
            self.name, _ready(model), self.tasks(), self.input_shape, self.clip_values, data, self.description,
            self.eps, metadata, self.class_names, dataset,
        )  # fmt: skip


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


def _rooms_detection(split: str, size: int | None) -> MultiTaskDataset:
    return RoomsDetection(split, size)


def _rooms_detection_tasks() -> list[Task]:
    return [*scene_tasks(), tasks.detection("detection", num_classes=len(THINGS), image_size=(96, 128))]


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
        "rooms-detection": replace(
            _ROOMS,
            name="rooms-detection",
            description="the same with boxes of objects (segmentation, depth, normals, detection), 3x96x128 in [-1, 1]",
            build=RoomsDetectionNet,
            tasks=_rooms_detection_tasks,
            dataset=_rooms_detection,
            class_names=MappingProxyType({**_ROOMS.class_names, "detection": THINGS}),
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


def _installed() -> dict[str, EntryPoint]:
    """The victims of other packages by name; nothing of them is imported."""
    return declared(ENTRY_POINTS, (*VICTIM_SPECS, *PAPER_DATA))


def victim_names() -> tuple[str, ...]:
    """Names that :func:`load_victim` knows; "nyuv2" and "cityscapes" need the user's own data and checkpoint. Those of
    other packages come last.

    Examples:
        >>> victim_names()[:5]
        ('digits', 'rooms', 'rooms-robust', 'rooms-detection', 'multilabel')
    """
    return (*VICTIM_SPECS, *PAPER_DATA, *_installed())


def victim_descriptions() -> dict[str, str]:
    """One line for people about every victim, and about one's own."""
    packages = {name: package_of(entry) for name, entry in _installed().items()}
    return {
        **{name: spec.description for name, spec in VICTIM_SPECS.items()},
        "nyuv2": "MTAN or Split on NYUv2, or a net that 'art-mtl train nyuv2' made; needs --root, --checkpoint",
        "cityscapes": "MTAN or Split on Cityscapes; needs --root, --checkpoint",
        **{name: f"of the package {package}" for name, package in packages.items()},
        "PATH.py:function": f"your own: returns {_FORMS}",
        "PATH.onnx, .pt, .pt2": "a model file of ONNX, TorchScript or torch.export; needs --tasks, --data",
    }


def load_victim(
    victim: str,
    *,
    root: str | Path | None = None,
    checkpoint: str | Path | None = None,
    tasks: str | Path | None = None,
    data: str | Path | None = None,
    limit: int | None = None,
) -> Victim:
    """A victim by name, or from a file of the user's.

    ``"digits"``, ``"rooms"``, ``"rooms-robust"`` and ``"multilabel"`` come with their weights. ``"nyuv2"`` and
    ``"cityscapes"`` are the paper's networks, MTAN or Split: which of them a checkpoint holds is told by its keys, be
    it one of Auto-Lambda or of ``art-mtl train --data``. ``"nyuv2"`` also takes the small network of ``art-mtl train
    nyuv2``. Names of other packages come from entry points, see :data:`ENTRY_POINTS`. ``"PATH.py:function"`` imports
    the file and calls the function without arguments. It returns a :class:`Victim`, a :class:`VictimSpec`, ``(model,
    tasks, x, y)`` with labels ``y`` in any form that :meth:`MultiTaskLabels.of` takes, or the same with the ``(least,
    greatest)`` value of an input as a fifth; without a fifth, inputs are in [0, 1]. In place of ``x, y`` it may return
    a map-style data set whose ``[i]`` is ``(input, dict of labels)``, or a ``DataLoader``; with a fifth part, the
    fourth is None. See :meth:`Victim.of`. ``"PATH.onnx"``, ``".pt"`` and ``".pt2"`` are model files of ONNX,
    TorchScript and ``torch.export``; nothing in them is executed as Python.

    Args:
        victim: one of :func:`victim_names`, ``"PATH.py:function"``, or the path of a model file.
        root: folder of the data; "nyuv2" and "cityscapes" only, and the folder of the paths in ``data``.
        checkpoint: weights to use; needed for "nyuv2" and "cityscapes", replaces the embedded weights of the others.
        tasks: of a model file: the ``tasks.yaml`` that says what it takes and returns.
        data: of a model file: the table of its labels, a CSV file.
        limit: of a model file: first rows of the table to read; None for all.

    Returns:
        The victim, on the CPU. Its test data are the ``val`` folder for "nyuv2" and "cityscapes".

    Raises:
        ValueError: If the name is unknown, if an argument is missing or does not apply, if the weights do not fit or
            are those for the other data set, or if a user's function is not in its file or fails.
        TypeError: If a user's function, or one of another package, returns something else.
        ImportError: If a user's file, or another package, cannot be imported.
        FileNotFoundError: If a file is missing.

    Examples:
        >>> victim = load_victim("digits")
        >>> x, y = victim.data("test", 4)
        >>> x.shape, y.names
        ((4, 1, 28, 28), ('left', 'right', 'sum'))
    """
    name = victim
    if is_model_file(name):
        _refuse(name, checkpoint=checkpoint)
        return _from_files(name, tasks, data, root, limit)
    _refuse(name, tasks=tasks, data=data)
    if name in PAPER_DATA:
        return _of_the_paper(name, root, checkpoint)
    if name not in VICTIM_SPECS and ".py:" in name:
        _refuse(name, root=root, checkpoint=checkpoint)
        return _from_parts(name, user_code.call(name))
    if name in VICTIM_SPECS:
        _refuse(name, root=root)
        return VICTIM_SPECS[name].load(checkpoint)
    entry = _installed().get(name)
    if entry is None:
        raise ValueError(
            f"Parameter `victim` should be one of {', '.join(victim_names())}, PATH.py:function or the path of a "
            f"model file ({', '.join(SUFFIXES)}). Found {name!r}.{perhaps(name, victim_names())}"
        )
    _refuse(name, root=root)
    return _from_entry(entry, checkpoint)


def _from_files(
    name: str, tasks: str | Path | None, data: str | Path | None, root: str | Path | None, limit: int | None
) -> Victim:
    """A victim from a model file, a description of its tasks and a table of labels."""
    if tasks is None or data is None:
        raise ValueError(
            f"Victim {name!r} should have `tasks`, a tasks.yaml (`art-mtl inspect {name}` proposes one), and `data`, a "
            f"table of labels (CSV). Found tasks={tasks!r}, data={data!r}."
        )
    return Victim.of(**read_victim(name, tasks, data, folder=root, limit=limit))


def _from_entry(entry: EntryPoint, checkpoint: str | Path | None) -> Victim:
    """A victim of another package, under the name of its entry."""
    where = label(entry)
    try:
        made = entry.load()()
    except Exception as error:
        raise ImportError(f"{where} should make a victim. Found {type(error).__name__}: {error}") from error
    if isinstance(made, VictimSpec):
        if checkpoint is None and made.weights is None:
            raise ValueError(f"{where} should have `weights`, or Parameter `checkpoint` be given. Found neither.")
        return replace(made.load(checkpoint), name=entry.name)
    if not isinstance(made, Victim):
        raise TypeError(f"{where} should make a Victim or a VictimSpec. Found {type(made).__name__}.")
    _refuse(entry.name, checkpoint=checkpoint)
    return replace(made, name=entry.name)


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
    regular_file(checkpoint, "weights")
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
    """A victim from what a user's function returned; errors name the file."""
    if isinstance(returned, Victim):
        return returned
    if isinstance(returned, VictimSpec):
        return returned.load()
    if (
        not isinstance(returned, tuple)
        or not 3 <= len(returned) <= 5
        or (len(returned) == 3 and hasattr(returned[2], "shape"))
    ):
        parts = ", ".join(type(part).__name__ for part in returned) if isinstance(returned, tuple) else ""
        found = f"a tuple of {len(returned)}: ({parts})" if parts else type(returned).__name__
        raise TypeError(f"{name} should return {_FORMS}. Found {found}.")
    more = {"bounds": returned[4]} if len(returned) == 5 else {}
    try:
        return Victim.of(*returned[:4], name=name, description=f"model of {name}", **more)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} should return {_FORMS}. {error}") from error


def _arrays_of(dataset: Callable[[str], Any], tasks: Sequence[Task], split: str, limit: int | None = None) -> Arrays:
    """The first samples of a split."""
    return as_arrays(dataset(split), tasks, limit)


def _of_split(name: str, given: Mapping[str, Any], split: str) -> Any:
    """The data of a split.

    Raises:
        ValueError: There are none.
    """
    if split not in given:
        raise ValueError(
            f"Victim {name!r} should have data of split={split!r}. Found {' and '.join(given)} data; give others by "
            "Victim.of(…, train=…)."
        )
    return given[split]


def _range(bounds: Any) -> tuple[Any, Any]:
    """Least and greatest value of an input, as floats or arrays.

    Raises:
        ValueError: It is no range.
    """
    try:
        low, high = (np.asarray(bound, dtype=np.float32) if np.ndim(bound) else float(bound) for bound in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"Parameter `bounds` should be (least, greatest). Found {bounds!r}.") from None
    if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high)) and np.all(low < high)):
        raise ValueError(f"Parameter `bounds` should be (least, greatest), finite. Found {_shown(low, high)}.")
    return low, high


def _shown(*bounds: Any) -> str:
    """Bounds on one line."""
    return str([np.asarray(bound).tolist() for bound in bounds])


def _check_range(source: Source, low: Any, high: Any) -> None:
    """Raise unless all inputs lie in the range; they are looked at a few at a time."""
    for first in range(0, len(source), _AT_ONCE):
        inputs, _ = source.read(slice(first, first + _AT_ONCE))
        if not (np.all(low <= inputs) and np.all(inputs <= high)):
            raise ValueError(
                f"Parameter `x` should be inputs in {_shown(low, high)}, or `bounds` be their range. Found values from "
                f"{np.min(inputs):g} to {np.max(inputs):g}."
            )
