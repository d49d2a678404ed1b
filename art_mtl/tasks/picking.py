"""Which part of a model's output belongs to a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

OutputPicker = str | int | Callable[[Any], Any] | None
"""None (the task's name in a mapping or as an attribute, its position in a sequence), a key, an index, a callable."""


def check_picker(name: str, picker: object) -> None:
    """Raise TypeError unless ``picker``, of the task ``name``, is an :data:`OutputPicker`."""
    fits = picker is None or callable(picker) or (isinstance(picker, (str, int)) and not isinstance(picker, bool))
    if not fits:
        raise TypeError(
            f"Parameter `output` of task {name!r} should be None, a key, an index or a callable. "
            f"Found {type(picker).__name__}."
        )


def pick(outputs: Any, name: str, picker: OutputPicker, position: int, count: int | None) -> Any:
    """The part of a model's output that belongs to one task.

    Args:
        outputs: A tensor (models of one output), mapping, list, tuple, named tuple, dataclass or any object with
            attributes.
        name: Of the task.
        picker: Its ``output``.
        position: Its place in the list of tasks, used for sequences.
        count: How many tasks there are; None where it is not known.

    Raises:
        ValueError: There is no such part; or a sequence has more parts than there are tasks, and ``picker`` does not
            say which.
    """
    try:
        return _pick(outputs, name, picker, position, count)
    except (KeyError, IndexError, AttributeError) as error:
        raise ValueError(
            f"The model's output should have a part for task {name!r} (output={picker!r}, position {position}). "
            f"Found {describe(outputs)}."
        ) from error


def _pick(outputs: Any, name: str, picker: OutputPicker, position: int, count: int | None) -> Any:
    if callable(picker):
        return picker(outputs)
    if isinstance(outputs, Mapping):
        return outputs[name if picker is None else picker]
    if isinstance(outputs, Tensor):
        if picker is not None or position > 0:
            raise IndexError("a single tensor has no parts")
        return outputs
    if isinstance(picker, str):
        return getattr(outputs, picker)
    if isinstance(picker, int):
        return outputs[picker]
    if not isinstance(outputs, (list, tuple)) or name in getattr(outputs, "_fields", ()):
        return getattr(outputs, name)
    if count is not None and len(outputs) > count:
        tasks = "1 task" if count == 1 else f"{count} tasks"
        raise ValueError(
            f"The model's output should have one part for each task, or task {name!r} an `output`. "
            f"Found {len(outputs)} outputs for {tasks}; say which with output=."
        )
    return outputs[position]


def describe(outputs: Any) -> str:
    """An output for a message.

    Examples:
        >>> describe({"seg": 0})
        "a mapping with the keys ['seg']"
    """
    if isinstance(outputs, Mapping):
        return f"a mapping with the keys {list(outputs)}"
    if isinstance(outputs, (list, tuple)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return type(outputs).__name__
