"""Anybody's table of labels: a spreadsheet with a row a sample, pictures and labels by path or as numbers."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from art_mtl.data._base import check_count
from art_mtl.data._files import check_size, nearest, pillow, read_array, shrink
from art_mtl.files import regular_file
from art_mtl.tasks import Task, check_tasks

__all__ = ["Column", "TableDataset"]

Array = NDArray[Any]
Sample = tuple[NDArray[np.float32], dict[str, Any]]

_MOST_FAULTS = 20
_MISSING = ("", "nan", "na", "n/a", "none", "null")
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".npy", ".json", ".csv", ".txt")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_BOX_COLUMNS = 5
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Column:
    """Where a table has the label of a task.

    Attributes:
        names: Of its columns. One holds a number, a class or a path; several hold the numbers of a vector.
        classes: Names of classes that a cell may hold in place of their numbers, in order.
        scale: What numbers are multiplied by, those in files too: 0.001 for millimetres where metres are meant.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class _Row:
    """One row of the table: its line in the file, and its cells by column."""

    line: int
    cells: Mapping[str, str]


class TableDataset(Dataset[Sample]):
    """The samples of a CSV file, for attacks and evaluations: ``dataset[i] -> (input, {task name: label or None})``.

    The first line names the columns, which commas, semicolons, tabs or bars separate. A cell of a label holds a number,
    the name of a class, or the path of a file: a mask or map as a picture or ``.npy``, boxes as ``.json``
    (``{"boxes": [[x1, y1, x2, y2], …], "labels": […]}``), as ``.csv`` (x1, y1, x2, y2, class; no heading) or as
    ``.txt`` (class, centre x, centre y, width, height in shares of the picture). Boxes, and the points of keypoints,
    are in pixels of the picture on disk, and are resized with it. An empty cell, or NaN, is a missing label.

    All rows are read when the data set is made, so that every fault is told before work begins.

    Args:
        path: Of the CSV file.
        tasks: Whose labels it has.
        images: Column of the pictures' paths; or columns of numbers, for a model of numbers.
        columns: By task, where its labels are: a name, a list of names, or a :class:`Column`; None: each in the column
            of its own name.
        folder: That paths begin at; None for the folder of the file.
        channels: Of a picture: 1, 3 or 4.
        size: Height and width that pictures and their labels are resized to; None keeps the size on disk.
        value_range: Black and white of a picture in the scale of the model's input.
        given: Inputs that are not attacked, by name: columns, as of labels.
        pack: Makes one input of the inputs by name, as :meth:`art_mtl.models.SeveralInputs.pack_sample` does; needed
            with ``given``.
        input_name: What ``pack`` calls the input of ``images``.
        bad_rows: "error", or "leave out" to go on without them after a warning.
        limit: First rows to take; None for all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A column is missing, there are no rows, or rows are bad. The message has the line in the file of up
            to 20 of them.

    Examples:
        >>> import tempfile
        >>> from art_mtl import tasks
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> size = path.write_text("width,height,kind\\n0.5,0.25,cat\\n0.75,1,\\n")
        >>> jobs = [tasks.classification("kind", 2)]
        >>> kind = Column(("kind",), classes=("dog", "cat"))
        >>> table = TableDataset(path, jobs, images=["width", "height"], columns={"kind": kind})
        >>> table[0], table[1]
        ((array([0.5 , 0.25], dtype=float32), {'kind': 1}), (array([0.75, 1.  ], dtype=float32), {'kind': None}))
    """

    def __init__(
        self,
        path: str | Path,
        tasks: Sequence[Task],
        images: str | Sequence[str] = "image",
        columns: Mapping[str, str | Sequence[str] | Column] | None = None,
        *,
        folder: str | Path | None = None,
        channels: int = 3,
        size: tuple[int, int] | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        given: Mapping[str, str | Sequence[str] | Column] | None = None,
        pack: Callable[[Mapping[str, Array]], Array] | None = None,
        input_name: str = "image",
        bad_rows: str = "error",
        limit: int | None = None,
    ) -> None:
        check_size(size)
        if channels not in _MODES:
            raise ValueError(f"Parameter `channels` should be one of {list(_MODES)}. Found {channels!r}.")
        if bad_rows not in ("error", "leave out"):
            raise ValueError(f"Parameter `bad_rows` should be 'error' or 'leave out'. Found {bad_rows!r}.")
        if limit is not None:
            check_count("limit", limit)
        self.path = regular_file(path, "a table (CSV)")
        self.folder = self.path.parent if folder is None else Path(folder)
        self.tasks, self.channels, self.size, self.value_range = check_tasks(tasks), channels, size, value_range
        self.images = images if isinstance(images, str) else tuple(images)
        if given and pack is None:
            raise ValueError("Parameter `pack` should say how the inputs in `given` become one. Found None.")
        self.pack, self.input_name = pack, input_name
        told = {name: _as_column(column) for name, column in (columns or {}).items()}
        unknown = set(told) - {task.name for task in self.tasks}
        if unknown:
            raise ValueError(f"Parameter `columns` should name tasks. Found {sorted(unknown)}.")
        self.columns = {task.name: told.get(task.name, Column((task.name,))) for task in self.tasks}
        self.given = {name: _as_column(column) for name, column in (given or {}).items()}
        self._left_out: list[str] = []
        self._rows = self._read(bad_rows == "leave out", limit)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """The input, float32, ``(C, H, W)`` or ``(D,)``, and the label of each task; None where there is none.

        Raises:
            IndexError: If the index is out of range.
            ValueError: A file has changed since, and cannot be read.
        """
        return self.sample(index)

    def sample(self, index: int) -> Sample:
        """See :meth:`__getitem__`."""
        row = self._rows[index]
        try:
            return self._load(row)
        except (ValueError, OSError) as error:
            raise ValueError(self._fault(row.line, error)) from error

    def line(self, index: int) -> int:
        """The line of a sample in the file."""
        return self._rows[index].line

    @property
    def left_out(self) -> tuple[str, ...]:
        """What was wrong with the rows that were left out."""
        return tuple(self._left_out)

    # --- reading ---

    def _read(self, lenient: bool, limit: int | None) -> list[_Row]:
        """The rows, each looked at once."""
        kept: list[_Row] = []
        faults: list[str] = []
        shape: tuple[int, ...] | None = None
        for row, trouble in self._parsed():
            if limit is not None and len(kept) >= limit:
                break
            try:
                if trouble is not None:
                    raise ValueError(trouble)
                inputs, _ = self._load(row)
                if inputs.shape != (shape or inputs.shape):
                    raise ValueError(
                        f"expected an input of shape {shape}, as on line {kept[0].line}. Found {inputs.shape}; give "
                        "`size`"
                    )
                shape = inputs.shape
            except (ValueError, OSError) as error:
                faults.append(self._fault(row.line, error))
                if len(faults) == _MOST_FAULTS and not lenient:
                    break
                continue
            kept.append(row)
        if faults and (not lenient or not kept):
            raise ValueError(f"{self.path}: expected rows that can be read. Found {self._listed(faults)}")
        if faults:
            warnings.warn(
                f"{self.path}: {len(faults)} row(s) are left out: {self._listed(faults)}", RuntimeWarning, stacklevel=4
            )
        if not kept:
            raise ValueError(f"{self.path}: expected a row a sample below the names of the columns. Found none.")
        self._left_out = faults
        return kept

    @staticmethod
    def _listed(faults: Sequence[str]) -> str:
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        return "; ".join(faults[:_MOST_FAULTS]) + more + "."

    def _fault(self, line: int, error: Exception) -> str:
        return f"line {line}: {str(error).rstrip('.')}"

    def _parsed(self) -> list[tuple[_Row, str | None]]:
        """The rows as text, each with what is wrong with it."""
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                head = file.readline()
                file.seek(0)
                reader = csv.reader(file, delimiter=max(_DELIMITERS, key=head.count))
                names = [name.strip() for name in next(reader, [])]
                self._check_names(names)
                found = []
                for cells in reader:
                    if any(cell.strip() for cell in cells):
                        fits = len(cells) == len(names)
                        trouble = None if fits else f"expected {len(names)} cells. Found {len(cells)}"
                        row = _Row(reader.line_num, dict(zip(names, map(str.strip, cells), strict=False)))
                        found.append((row, trouble))
                return found
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: expected a table in UTF-8. Found a fault: {error.reason}.") from error
        except csv.Error as error:
            raise ValueError(f"{self.path}, line {reader.line_num}: expected a table (CSV). Found: {error}.") from error

    def _check_names(self, names: Sequence[str]) -> None:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{self.path}, line 1: expected each column once. Found {twice} repeated.")
        images = [self.images] if isinstance(self.images, str) else self.images
        labels = [name for column in (*self.columns.values(), *self.given.values()) for name in column.names]
        missing = [name for name in dict.fromkeys([*images, *labels]) if name not in names]
        if missing:
            raise ValueError(
                f"{self.path}, line 1: expected the column(s) {', '.join(map(repr, missing))}. "
                f"Found {', '.join(map(repr, names)) or 'none'}."
            )

    def _load(self, row: _Row) -> Sample:
        inputs, disk = self._input(row)
        labels = {}
        for task in self.tasks:
            label = self._value(row, self.columns[task.name], disk)
            if task.kind == "keypoints" and label is not None:
                label = self._resized_points(np.asarray(label, np.float32), disk)
            if isinstance(label, dict):
                label = task.from_pixels(label, disk and (self.size or disk))
            labels[task.name] = label
            if label is not None:
                self._check_label(task, label, self.columns[task.name])
        if self.pack is not None:
            inputs = self.pack({**{name: self._given(row, name, disk) for name in self.given}, self.input_name: inputs})
        return inputs, labels

    def _resized_points(self, points: Array, disk: tuple[int, int] | None) -> Array:
        """Points (x, y), ``(2P,)`` or ``(P, 2 or 3)``, in pixels of the resized picture."""
        if self.size is None or disk is None:
            return points
        ratio = np.array([self.size[1] / disk[1], self.size[0] / disk[0]], np.float32)
        if points.ndim == 1:
            return np.asarray((points.reshape(-1, 2) * ratio).ravel())
        return np.concatenate([points[:, :2] * ratio, points[:, 2:]], axis=1)

    def _check_label(self, task: Task, label: Any, column: Column) -> None:
        """Raise unless a label is one of its task."""
        column_of_one: Any = np.asarray(label)[None] if not isinstance(label, dict) else np.empty(1, object)
        if isinstance(label, dict):
            column_of_one[0] = label
        try:
            task.targets(column_of_one)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {', '.join(map(repr, column.names))}: {error}") from error

    def _input(self, row: _Row) -> tuple[NDArray[np.float32], tuple[int, int] | None]:
        """The input of a row, and the size of its picture on disk."""
        if not isinstance(self.images, str):
            return np.array([_number(name, row.cells[name]) for name in self.images], np.float32), None
        cell = row.cells[self.images]
        if not cell:
            raise ValueError(f"expected a picture in column {self.images!r}. Found an empty cell")
        path = self.folder / cell
        if path.suffix.lower() == ".npy":
            array = read_array(regular_file(path, "an array"))
            found = np.asarray(array[None] if array.ndim == 2 else array, np.float32)
            if found.ndim == 3 and found.shape[0] != self.channels:
                raise ValueError(f"{path}: expected an array ({self.channels}, H, W). Found shape {found.shape}")
            return found, (found.shape[-2], found.shape[-1]) if found.ndim == 3 else None
        image = _fractions(_pixels(path, _MODES[self.channels]))
        disk = (image.shape[-2], image.shape[-1])
        low, high = self.value_range
        resized = image if self.size in (None, disk) else shrink(image, self.size or disk)
        return np.asarray(low + (high - low) * resized, np.float32), disk

    def _given(self, row: _Row, name: str, disk: tuple[int, int] | None) -> Array:
        value = self._value(row, self.given[name], disk)
        if value is None or isinstance(value, dict):
            raise ValueError(f"expected the input {name!r} of each sample. Found an empty cell")
        return np.asarray(value, np.float32)

    def _value(self, row: _Row, column: Column, disk: tuple[int, int] | None) -> Any:
        """What the cells of a row hold; None where that is nothing."""
        if len(column.names) > 1:
            cells = [row.cells[name] for name in column.names]
            if all(cell.lower() in _MISSING for cell in cells):
                return None
            numbers = [
                np.nan if cell.lower() in _MISSING else _number(name, cell)
                for name, cell in zip(column.names, cells, strict=True)
            ]
            return np.array(numbers, np.float32) * np.float32(column.scale)
        name, cell = column.names[0], row.cells[column.names[0]]
        if cell in column.classes:
            return column.classes.index(cell)
        if cell.lower() in _MISSING:
            return None
        if cell.lower().endswith(_ENDINGS):
            return self._from_file(self.folder / cell, disk, column.scale)
        if column.classes and not cell.lstrip("-").isdigit():
            raise ValueError(f"column {name!r}: expected one of {list(column.classes)}. Found {cell!r}")
        number = _number(name, cell)
        if column.scale == 1 and cell.lstrip("-").isdigit():
            return int(cell)
        return number * column.scale

    def _from_file(self, path: Path, disk: tuple[int, int] | None, scale: float) -> Any:
        """A mask, a map, a vector or boxes, at the size that pictures are resized to."""
        ending = path.suffix.lower()
        regular_file(path, "a file of labels")
        if ending in (".json", ".csv", ".txt"):
            boxes = _boxes(path, disk)
            if self.size is not None and disk is not None:
                ratio = np.array([self.size[1] / disk[1], self.size[0] / disk[0]] * 2, np.float32)
                boxes["boxes"] = boxes["boxes"] * ratio
            return boxes
        array = read_array(path) if ending == ".npy" else _pixels(path, None)
        if array.dtype == bool:
            array = array.astype(np.int64)
        if array.ndim >= 2 and disk is not None and array.shape[-2:] != disk and ending != ".npy":
            raise ValueError(
                f"{path}: expected the size of the picture, {disk[0]}x{disk[1]}. "
                f"Found {array.shape[-2]}x{array.shape[-1]}"
            )
        if self.size is not None and array.ndim >= 2 and array.shape[-2:] == disk:
            array = nearest(array, self.size)
        return array if scale == 1 else np.asarray(array * np.float32(scale), np.float32)


def _as_column(column: str | Sequence[str] | Column) -> Column:
    if isinstance(column, Column):
        return column
    return Column((column,) if isinstance(column, str) else tuple(column))


def _number(name: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"column {name!r}: expected a number. Found {cell!r}") from None


def _pixels(path: Path, mode: str | None) -> Array:
    """The pixels of a picture: ``(H, W)``, or ``(C, H, W)`` of several channels.

    Args:
        path: Of the file.
        mode: Of Pillow's, that it is converted to; None for labels, which are taken as they are.
    """
    image = pillow()
    regular_file(path, "a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image.DecompressionBombWarning)
            with image.open(path, formats=_FORMATS) as picture:
                picture.load()
                # Grey of 16 bits would be cut off at 255.
                plain = mode is None or picture.mode == mode or picture.mode.startswith("I")
                pixels = np.asarray(picture if plain else picture.convert(mode))
    except (image.DecompressionBombWarning, image.DecompressionBombError, MemoryError) as error:
        raise ValueError(f"{path}: expected a picture. Found far too many pixels") from error
    except (OSError, SyntaxError, ValueError, UserWarning) as error:
        raise ValueError(f"{path}: expected a picture. Found a file that cannot be read as one ({error})") from error
    if mode is not None and pixels.ndim == 2 and mode != "L":
        pixels = np.repeat(pixels[..., None], len(mode), axis=2)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if pixels.ndim == 3 else pixels


def _fractions(pixels: Array) -> NDArray[np.float32]:
    """Pixels ``(C, H, W)`` in [0, 1]."""
    greatest = 255 if pixels.dtype == np.uint8 else 65535
    found: NDArray[np.float32] = np.asarray(pixels, np.float32) / np.float32(greatest)
    return found[None] if found.ndim == 2 else found


def _boxes(path: Path, disk: tuple[int, int] | None) -> dict[str, Array]:
    """The boxes of a picture, in its pixels, and their classes."""
    try:
        rows = _box_rows(path)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: expected boxes with their classes. Found a fault: {error}") from error
    if path.suffix.lower() == ".txt":
        if disk is None:
            raise ValueError(f"{path}: expected boxes in pixels, as there is no picture. Found shares of one")
        size = np.array([disk[1], disk[0]], np.float32)
        centre, extent = rows[:, 1:3] * size, rows[:, 3:5] * size
        return {
            "boxes": np.concatenate([centre - extent / 2, centre + extent / 2], 1),
            "labels": rows[:, 0].astype(np.int64),
        }
    return {"boxes": rows[:, :4], "labels": rows[:, 4].astype(np.int64)}


def _box_rows(path: Path) -> NDArray[np.float32]:
    """The numbers of a file of boxes, ``(M, 5)``."""
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".json":
        read = json.loads(text)
        pairs = zip(read["boxes"], read["labels"], strict=True)
        lines = [[*box, label] for box, label in pairs]
    else:
        lines = [line.replace(",", " ").split() for line in text.splitlines() if line.strip()]
    found = np.array(lines, np.float32).reshape(len(lines), -1)
    if len(lines) and found.shape[1] != _BOX_COLUMNS:
        raise ValueError(f"{found.shape[1]} numbers a box")
    return np.asarray(found.reshape(len(lines), _BOX_COLUMNS))
