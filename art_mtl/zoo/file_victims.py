"""A victim from a model file, a ``tasks.yaml`` and a table of labels: no code of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from art_mtl.data.table import Column, TableDataset
from art_mtl.models import SeveralInputs
from art_mtl.structure import map_tensors
from art_mtl.tasks.picking import describe, pick
from art_mtl.zoo.model_files import load_model_file, settle_batch
from art_mtl.zoo.ports import ModelFile, Port
from art_mtl.zoo.task_file import OutputSpec, TaskFile, read_task_file

__all__ = ["AdaptedModel", "open_table", "read_victim"]

_LEVELS = (2, 4, 8)
_TOLERANCE = 1e-3
"""Share of the greatest output by which a converted network may differ from its file."""


class AdaptedModel(nn.Module):
    """A network of somebody else's as the tasks expect it: ``(B, C, H, W)`` in, a dict of outputs by task out.

    Args:
        network: Takes its inputs by position.
        outputs: Where its output has each task.
        ports: Its inputs.
        attacked: Which of them is normalised and attacked, by place.
        layout: "NCHW" or "NHWC": where it expects the channels.
        mean: Subtracted from that input; a number, or one a channel.
        std: What the difference is divided by.

    Examples:
        >>> net = AdaptedModel(nn.Flatten(), [OutputSpec("logits")], [Port("image")], layout="NHWC", mean=0.5, std=0.5)
        >>> net(torch.ones(2, 3, 1, 2))["logits"].shape
        torch.Size([2, 6])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        outputs: Sequence[OutputSpec],
        ports: Sequence[Port],
        attacked: int = 0,
        layout: str = "NCHW",
        mean: Any = 0.0,
        std: Any = 1.0,
    ) -> None:
        super().__init__()
        self.network, self.attacked, self.layout = network, attacked, layout
        self.outputs, self.ports = tuple(outputs), tuple(ports)
        for name, value in (("mean", mean), ("std", std)):
            tensor = torch.tensor(value, dtype=torch.float32)
            self.register_buffer(name, tensor.view(1, -1, 1, 1) if tensor.ndim else tensor, persistent=False)

    def network_inputs(self, *inputs: Tensor) -> list[Tensor]:
        """What the network gets to see."""
        found = list(inputs)
        x = (found[self.attacked].float() - self.mean) / self.std
        found[self.attacked] = x.permute(0, 2, 3, 1).contiguous() if self.layout == "NHWC" else x
        return [x.to(port.dtype) for x, port in zip(found, self.ports, strict=True)]

    def forward(self, *inputs: Tensor) -> dict[str, Any]:
        """The part of the output that belongs to each task, by its name."""
        raw = self.network(*self.network_inputs(*inputs))
        return {spec.name: _part(raw, spec, place, len(self.outputs)) for place, spec in enumerate(self.outputs)}


def _part(raw: Any, spec: OutputSpec, place: int, count: int) -> Any:
    """A task's part of an output, channels first."""
    if isinstance(spec.output, dict):
        found: Any = {key: _follow(raw, path, spec, place, count) for key, path in spec.output.items()}
    else:
        found = _follow(raw, spec.output, spec, place, count)
    return map_tensors(found, _channels_first) if spec.layout == "NHWC" else found


def _channels_first(tensor: Tensor) -> Tensor:
    return tensor.movedim(-1, 1) if tensor.ndim > 2 else tensor


def _follow(raw: Any, path: Any, spec: OutputSpec, place: int, count: int) -> Any:
    """What a path of names and indices leads to."""
    if path is None:
        return pick(raw, spec.name, None, place, count)
    for key in path if isinstance(path, list) else [path]:
        if isinstance(key, int) and isinstance(raw, Mapping):
            raw = list(raw.values())
        try:
            raw = pick(raw, spec.name, key, place, count)
        except ValueError as error:
            raise ValueError(
                f"Task {spec.name!r} should have an output {path!r} in what the model returns. Found {describe(raw)}."
            ) from error
    return raw


def open_table(data: str | Path, spec: TaskFile, folder: str | Path | None = None, **more: Any) -> TableDataset:
    """The table of labels that a ``tasks.yaml`` describes.

    Args:
        data: The CSV file.
        spec: What its columns are.
        folder: That paths in it begin at; None for what the description says.
        **more: Arguments of :class:`art_mtl.data.TableDataset`.
    """
    own = None if spec.table.folder is None else Path(data).parent / spec.table.folder
    if "pack" not in more and spec.given:
        more["pack"] = _first(spec)
    return TableDataset(
        data,
        spec.tasks,
        spec.table.images,
        spec.columns,
        folder=own if folder is None else folder,
        channels=spec.input.channels,
        size=spec.input.size,
        value_range=spec.input.range,
        given={one.name: Column(one.columns, scale=one.scale) for one in spec.given},
        input_name=_attacked(spec),
        bad_rows=spec.table.bad_rows,
        **more,
    )


def _attacked(spec: TaskFile) -> str:
    return spec.input.name or "image"


def _first(spec: TaskFile) -> Any:
    """Packs the attacked input alone, for a look at the data."""
    return lambda inputs: inputs[_attacked(spec)]


def read_victim(
    model: str | Path,
    tasks: str | Path,
    data: str | Path,
    *,
    folder: str | Path | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """What a victim is made of: arguments of :meth:`art_mtl.zoo.victims.Victim.of`.

    The network runs once on the first samples, so that what does not fit is told before work begins.

    Args:
        model: An ONNX, TorchScript or ``torch.export`` file.
        tasks: The ``tasks.yaml``.
        data: The table of labels, a CSV file.
        folder: That paths in the table begin at.
        limit: First rows of the table; None for all.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file cannot be read, or they do not fit together; the message says what was expected.
    """
    spec = read_task_file(tasks)
    file = load_model_file(model, lambda known: _wanted(spec.outputs, known))
    if file.outputs:
        spec = replace(spec, outputs=_named(spec.outputs, file.outputs))
    ports = file.inputs or tuple(Port(name) for name in (_attacked(spec), *(one.name for one in spec.given)))
    spec, ports = _match_inputs(spec, ports, tasks)
    shapes: dict[str, tuple[int, ...]] = {}

    def note(inputs: Mapping[str, Any]) -> Any:
        shapes.update({name: np.shape(value) for name, value in inputs.items()})
        return inputs[_attacked(spec)]

    open_table(data, spec, folder, pack=note, limit=1)
    names = [port.name for port in ports]
    adapted = AdaptedModel(
        file.module, spec.outputs, ports, names.index(_attacked(spec)), spec.input.layout, spec.input.mean,
        spec.input.std,
    )  # fmt: skip
    low, high = spec.input.range
    bounds: tuple[Any, Any] = low, high
    packed = SeveralInputs(adapted, {name: shapes[name] for name in names}, _attacked(spec)) if len(ports) > 1 else None
    if packed is not None:
        bounds = packed.bounds(low, high)
    table = open_table(data, spec, folder, pack=None if packed is None else packed.pack_sample, limit=limit)
    x = torch.from_numpy(np.stack([table[index % len(table)][0] for index in range(2)]))
    _try(adapted, [x] if packed is None else packed.unpack(x), file, Path(model))
    _check_outputs(adapted if packed is None else packed, spec, table, x)
    return {
        "model": (adapted if packed is None else packed).requires_grad_(False),
        "tasks": list(spec.tasks),
        "x": table,
        "bounds": bounds,
        "eps": {"linf": [level / 255 * (high - low) for level in _LEVELS]},
        "name": Path(model).stem,
        "description": f"model of {Path(model).name} on {Path(data).name}",
        "class_names": spec.class_names,
    }


def _wanted(outputs: Sequence[OutputSpec], known: Sequence[str]) -> list[str]:
    """Names of the outputs that the tasks need."""
    found = []
    for spec in _named(outputs, known):
        paths = spec.output.values() if isinstance(spec.output, dict) else [spec.output]
        found += [str(path[0] if isinstance(path, list) else path) for path in paths]
    return found


def _named(outputs: Sequence[OutputSpec], known: Sequence[str]) -> tuple[OutputSpec, ...]:
    """The same with a name for each output, where it is told by its place or by the name of its task."""

    def name(spec: OutputSpec, path: Any, place: int) -> Any:
        if isinstance(path, list):
            return [name(spec, path[0], place), *path[1:]]
        if isinstance(path, str) or (path is None and spec.name in known):
            return spec.name if path is None else path
        if path is None and len(known) != len(outputs):
            raise ValueError(
                f"Task {spec.name!r} should say by `output` which of the model's outputs is its own. "
                f"Found {', '.join(map(repr, known))}."
            )
        index = place if path is None else path
        if not -len(known) <= index < len(known):
            raise ValueError(f"Task {spec.name!r} should have an output of {list(known)}. Found index {index}.")
        return known[index]

    found = []
    for place, spec in enumerate(outputs):
        if isinstance(spec.output, dict):
            path: Any = {key: name(spec, one, place) for key, one in spec.output.items()}
        else:
            path = name(spec, spec.output, place)
        found.append(replace(spec, output=path))
    return tuple(found)


def _match_inputs(spec: TaskFile, ports: Sequence[Port], where: str | Path) -> tuple[TaskFile, tuple[Port, ...]]:
    """The description with the name of the attacked input, and the inputs in the model's order."""
    names = [port.name for port in ports]
    given = [one.name for one in spec.given]
    left = [name for name in names if name not in given]
    attacked = spec.input.name or (left[0] if len(left) == 1 else None)
    if attacked is None or sorted([attacked, *given]) != sorted(names):
        raise ValueError(
            f"{where}: expected the model's input(s) {', '.join(map(repr, names))}, one as `input: {{name: …}}`, the "
            f"others under `given`. Found {attacked!r}, and {given} given."
        )
    named = msgspec.structs.replace(spec.input, name=attacked)
    return replace(spec, input=named), tuple(ports)


def _try(adapted: AdaptedModel, inputs: Sequence[Tensor], file: ModelFile, path: Path) -> None:
    """Run the network once, as many samples at a time as it takes; raise for what does not fit."""
    seen = adapted.network_inputs(*inputs)
    adapted.eval()
    try:
        adapted.network = settle_batch(file, seen)
    except Exception as error:  # of whatever kind a network raises
        shapes = ", ".join(str(tuple(one.shape)) for one in seen)
        text = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{path}: expected a model that takes inputs of shape {shapes}; `input` of tasks.yaml says size, channels "
            f"and layout. Found an error: {text}"
        ) from error
    _compare(file, seen, path)


def _check_outputs(whole: nn.Module, spec: TaskFile, table: TableDataset, x: Tensor) -> None:
    """Raise unless each task finds an output that fits its labels."""
    with torch.no_grad():
        outputs = whole(x)
    rows = [table[index % len(table)][1] for index in range(len(x))]
    for place, task in enumerate(spec.tasks):
        output = task.select(outputs, place, len(spec.tasks))
        task.check_size(output, len(x))
        labels = [row[task.name] for row in rows]
        if all(label is not None and not isinstance(label, dict) for label in labels):
            task.check_output(output, task.targets(np.stack([np.asarray(label) for label in labels])))


def _compare(file: ModelFile, inputs: Sequence[Tensor], path: Path) -> None:
    """Raise unless the network computes what its file defines."""
    if file.reference is None:
        return
    size = (file.inputs[0].shape or (None,))[0] or 1
    one = [torch.cat([x[:1]] * size) for x in inputs]
    with torch.no_grad():
        found = file.module(*one)
    named = {port.name: x.numpy() for port, x in zip(file.inputs, one, strict=True)}
    for name, expected in zip(file.outputs, file.reference(named) or [], strict=False):
        got = found[name].numpy()
        scale = np.abs(expected).max() if expected.size else 0.0
        if got.shape != expected.shape or not np.allclose(got, expected, rtol=0, atol=_TOLERANCE * scale):
            raise ValueError(
                f"{path}: expected a converted network that computes what the file defines. Found another output "
                f"{name!r}: an operator of the file means something that onnx2torch does not do. Export the model "
                "with another version of the operators (opset)."
            )
