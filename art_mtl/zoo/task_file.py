"""``tasks.yaml``: what a model file takes and returns, and which columns of a table hold its data."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from art_mtl import tasks
from art_mtl.data.table import Column
from art_mtl.files import regular_file
from art_mtl.tasks import Task, check_tasks
from art_mtl.tasks.installed import InstalledKind, installed
from art_mtl.yaml_files import Document, Place, read_yaml, unknown_key

__all__ = ["FORMAT", "VERSION", "Given", "InputSpec", "OutputSpec", "TableSpec", "TaskFile", "read_task_file"]

FORMAT, VERSION = "art_mtl.tasks", 1
Layout = Literal["NCHW", "NHWC"]
_DEEPEST = 6
_WHAT = "a description of tasks"
Output = str | int | list[str | int] | dict[str, str | int | list[str | int]] | None


class InputSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The input that is attacked.

    Attributes:
        name: Which of several inputs; None for the first.
        channels: Of a picture: 1, 3 or 4.
        size: Height and width that pictures are resized to; None for their own.
        range: Black and white of a picture, as the attack sees them: ε is in this scale.
        layout: Where the model expects the channels.
        mean: Subtracted from the input before the model sees it; one number, or one a channel.
        std: What the difference is divided by.
    """

    name: str | None = None
    channels: Literal[1, 3, 4] = 3
    size: tuple[int, int] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    layout: Layout = "NCHW"
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0


class Given(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An input that is not attacked.

    Attributes:
        name: The model's name of it.
        columns: Of the table: numbers, or one column of files.
        scale: What its values are multiplied by.
    """

    name: str
    columns: tuple[str, ...]
    scale: float = 1.0


class TableSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the table has what.

    Attributes:
        images: Column of the pictures, or columns of numbers for a model of numbers.
        folder: That paths in the table begin at; None for the folder of the table.
        bad_rows: "error", or "leave out" for a warning that lists them.
    """

    images: str | tuple[str, ...] = "image"
    folder: str | None = None
    bad_rows: Literal["error", "leave out"] = "error"


class _TaskHead(msgspec.Struct, frozen=True):
    """What every task has beside the parameters of its kind."""

    kind: str
    name: str
    output: Output = None
    layout: Layout = "NCHW"
    columns: str | tuple[str, ...] | None = None
    classes: tuple[str, ...] = ()
    scale: float = 1.0


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The whole file."""

    format: str
    version: int
    tasks: list[dict[str, Any]]
    input: InputSpec = InputSpec()
    given: tuple[Given, ...] = ()
    data: TableSpec = TableSpec()


@dataclass(frozen=True)
class OutputSpec:
    """Where a model's output has the part of a task.

    Attributes:
        name: Of the task.
        output: A name, an index, a path of both, or a mapping of such; None for the task's name or position.
        layout: "NHWC" where the channels come last.
    """

    name: str
    output: Output = None
    layout: str = "NCHW"


@dataclass(frozen=True)
class TaskFile:
    """What a ``tasks.yaml`` says.

    Attributes:
        tasks: In order.
        outputs: One each.
        columns: Where the table has the labels of each task, by name.
        input: What is attacked.
        given: Inputs that are not.
        table: Where the table has the rest.
        class_names: By task, names of its classes, where there are some.
    """

    tasks: tuple[Task, ...]
    outputs: tuple[OutputSpec, ...]
    columns: Mapping[str, Column]
    input: InputSpec = InputSpec()
    given: tuple[Given, ...] = ()
    table: TableSpec = TableSpec()
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def kinds() -> dict[str, Callable[..., Task]]:
    """The kinds of task that a file can name: those of this package that need no code, and those of others."""
    own = {name: getattr(tasks, name) for name in tasks.__all__ if name.islower() and name != "custom"}
    made = {name: make for name, make in own.items() if {"name", "output"} <= set(_parameters(make))}
    return {**made, **installed()}


def read_task_file(path: str | Path) -> TaskFile:
    """Read and check a ``tasks.yaml``; see the documentation of models for its keys.

    Args:
        path: Of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or a key or a value is none that is known; the message has the file and the line.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "tasks.yaml"
        >>> size = path.write_text('''format: art_mtl.tasks
        ... version: 1
        ... tasks:
        ... - {kind: classification, name: digit, num_classes: 10, output: logits}
        ... ''')
        >>> read_task_file(path).tasks[0].num_classes
        10
    """
    document = read_yaml(path, _WHAT, _DEEPEST)
    found = _converted(document, document.values, _File, ())
    for key, expected in (("format", FORMAT), ("version", VERSION)):
        if document.values[key] != expected:
            raise ValueError(f"{document.where(key)}: Expected {key} {expected!r}. Found {document.values[key]!r}.")
    _check_input(document, found.input)
    if not found.tasks:
        raise ValueError(f"{document.where('tasks')}: Expected at least one task. Found none.")
    made, heads = [], []
    for index, entry in enumerate(found.tasks):
        heads.append(_converted(document, entry, _TaskHead, ("tasks", index)))
        made.append(_make_task(document, index, entry, heads[-1].kind))
    try:
        checked = check_tasks(made)
    except ValueError as error:
        raise ValueError(f"{document.where('tasks')}: {error}") from None
    return TaskFile(
        tasks=checked,
        outputs=tuple(OutputSpec(head.name, head.output, head.layout) for head in heads),
        columns={head.name: Column(_names(head), head.classes, head.scale) for head in heads},
        input=found.input,
        given=found.given,
        table=found.data,
        class_names={head.name: head.classes for head in heads if head.classes},
    )


def _names(head: _TaskHead) -> tuple[str, ...]:
    """The columns of a task's labels; without any, one of its own name."""
    if head.columns is None:
        return (head.name,)
    return (head.columns,) if isinstance(head.columns, str) else tuple(head.columns)


def _parameters(make: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(make).parameters)


def _converted(document: Document, values: Any, kind: Any, place: Place) -> Any:
    """Values as the kind that they should be; errors have the line."""
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        inner = tuple(
            int(index) if index else key for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path.rstrip("`"))
        )
        unknown = re.search(r"unknown field `(.+)`", text)
        if unknown is not None:
            where = document.where(*place, *inner, unknown[1])
            known = _fields_at(kind, inner)
            raise ValueError(f"{where}: {unknown_key(_WHAT, unknown[1], known)}") from None
        key = ".".join(str(part) for part in (*place, *inner))
        at = f" as `{key}`" if key else ""
        raise ValueError(f"{document.where(*place, *inner)}: {text.replace(', got', f'{at}. Found')}.") from None


def _fields_at(kind: Any, place: Place) -> Sequence[str]:
    """The keys that a mapping at a place of the file may have."""
    inner = {"input": InputSpec, "given": Given, "data": TableSpec}
    found = inner.get(str(place[0]), kind) if place else kind
    return [one.name for one in msgspec.structs.fields(found)]


def _make_task(document: Document, index: int, entry: Mapping[str, Any], kind: str) -> Task:
    """The task of one entry."""
    known = kinds()
    if kind not in known:
        raise ValueError(
            f"{document.where('tasks', index, 'kind')}: Expected a kind of task, one of {', '.join(known)}. "
            f"Found {kind!r}."
        )
    own = [one.name for one in msgspec.structs.fields(_TaskHead)]
    given = {key: value for key, value in entry.items() if key not in own}
    if not isinstance(known[kind], InstalledKind):
        takes = [name for name in _parameters(known[kind]) if name not in ("name", "output")]
        for key in given:
            if key not in takes:
                where = document.where("tasks", index, key)
                raise ValueError(f"{where}: {unknown_key(f'a task of kind {kind!r}', key, [*own, *takes])}")
    if isinstance(given.get("anchors"), str):
        given["anchors"] = _anchors(document, index, given["anchors"])
    try:
        return known[kind](entry["name"], **given)
    except (TypeError, ValueError) as error:
        named = re.search(r"Parameter `(\w+)`", str(error))
        place = ("tasks", index, named[1]) if named and named[1] in entry else ("tasks", index)
        raise ValueError(f"{document.where(*place)}: {error}") from None


def _anchors(document: Document, index: int, name: str) -> Any:
    """The array of a file beside the description."""
    path = Path(document.path).parent / name
    try:
        return np.load(regular_file(path, "an array of anchors"), allow_pickle=False)
    except (OSError, ValueError) as error:
        where = document.where("tasks", index, "anchors")
        raise ValueError(f"{where}: Expected a .npy file of anchors. Found {' '.join(str(error).split())}") from None


def _check_input(document: Document, spec: InputSpec) -> None:
    """Raise for numbers that are none of a picture's."""
    low, high = spec.range
    if not -float("inf") < low < high < float("inf"):
        raise ValueError(f"{document.where('input', 'range')}: Expected [least, greatest]. Found [{low}, {high}].")
    if spec.size is not None and min(spec.size) < 1:
        raise ValueError(f"{document.where('input', 'size')}: Expected [height, width]. Found {list(spec.size)}.")
    for name in ("mean", "std"):
        value = getattr(spec, name)
        if isinstance(value, tuple) and len(value) != spec.channels:
            raise ValueError(
                f"{document.where('input', name)}: Expected one number, or {spec.channels}, one a channel. "
                f"Found {len(value)}."
            )
    if min(spec.std if isinstance(spec.std, tuple) else [spec.std]) <= 0:
        raise ValueError(f"{document.where('input', 'std')}: Expected positive numbers. Found {spec.std}.")
