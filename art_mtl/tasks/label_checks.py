"""Checks that several kinds of label share; every error names the task, what was expected and what was found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(name: str, y: Any) -> Tensor:
    """A tensor without a graph; arrays are copied, as flipped, read-only and byte-swapped ones are fine as labels.

    Raises:
        TypeError: The labels are no numbers.
        ValueError: They have no one shape.
    """
    if isinstance(y, Tensor):
        return y.detach()
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise ValueError(
            f"The labels of task {name!r} should have one shape for all samples. Found {type(y).__name__}: {error}"
        ) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(f"The labels of task {name!r} should be numbers. Found {array.dtype}.")
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def masked_places(y: Any) -> Tensor | None:
    """Where a NumPy masked array is masked, boolean, of its shape; None for anything else."""
    return torch.from_numpy(np.ma.getmaskarray(y).copy()) if isinstance(y, np.ma.MaskedArray) else None


def masked_samples(name: str, masked: Tensor, present: Tensor) -> Tensor:
    """Which samples are masked, ``(N,)``, for kinds in whose layout nothing stands for one missing number.

    Raises:
        ValueError: A sample that is present is masked in part.
    """
    rows = masked.flatten(1) if masked.ndim > 1 else masked[:, None]
    partly = rows.any(1) & ~rows.all(1) & present
    if bool(partly.any()):
        raise ValueError(
            f"The labels of task {name!r} should be NaN or masked for whole samples. Found {int(partly.sum())} "
            f"sample(s) of which only a part is, first at index {int(partly.nonzero()[0])}."
        )
    return rows.any(1)


def check_present(name: str, y: Tensor, present: np.ndarray | Tensor | None) -> Tensor:
    """Which of the samples have a label, ``(N,)``, boolean, beside ``y``.

    Raises:
        ValueError: ``y`` is a single number, or the mask is of another shape or dtype.
    """
    if y.ndim == 0:
        raise ValueError(f"The labels of task {name!r} should have one entry a sample. Found a single number.")
    ones = torch.ones(len(y), dtype=torch.bool, device=y.device)
    mask = ones if present is None else torch.as_tensor(present, device=y.device)
    if mask.dtype != torch.bool or tuple(mask.shape) != (len(y),):
        raise ValueError(
            f"The mask of present labels of task {name!r} should be boolean, of shape ({len(y)},) or that of the "
            f"labels. Found {mask.dtype} of shape {tuple(mask.shape)}."
        )
    return mask


def check_finite(name: str, y: Tensor) -> None:
    """Raise ValueError where a label is infinite, or NaN."""
    if y.is_floating_point() and not torch.isfinite(y).all():
        bad = (~torch.isfinite(y)).flatten(1).any(1) if y.ndim > 1 else ~torch.isfinite(y)
        first = bad.nonzero()[0].item()
        raise ValueError(
            f"The labels of task {name!r} should be finite. Found NaN or infinity in {int(bad.sum())} sample(s), "
            f"first at index {first}; mark missing labels with None, a mask of present samples or the value that the "
            "task does not count."
        )


def one_hot_classes(name: str, y: Tensor) -> tuple[Tensor, Tensor]:
    """Classes of one-hot rows, probabilities or logits ``(N, C, *S)``, and which rows name one, both ``(N, *S)``.

    Where all numbers are 0 or 1, rows without a 1 name no class, rather than class 0.

    Raises:
        ValueError: All numbers are 0 or 1, and a row has several 1s.
    """
    numbers = y.byte() if y.dtype == torch.bool else y
    classes = numbers.argmax(1)
    named = torch.ones_like(classes, dtype=torch.bool)
    if ((numbers == 0) | (numbers == 1)).all():
        ones = numbers.sum(1)
        if (ones > 1).any():
            raise ValueError(
                f"The labels of task {name!r} should have one 1 in each row, if they are one-hot. Found rows with "
                f"{int(ones.max())}."
            )
        named = ones == 1
    return classes, named


def integers(name: str, y: Tensor) -> Tensor:
    """Class numbers as int64.

    Raises:
        TypeError: They are fractions, booleans or complex.
    """
    if y.is_complex() or y.dtype == torch.bool:
        raise TypeError(f"The labels of task {name!r} should be class numbers. Found dtype {y.dtype}.")
    if y.is_floating_point() and not (y == y.round()).all():
        raise TypeError(f"The labels of task {name!r} should be class numbers. Found fractions, dtype {y.dtype}.")
    return y.long()


def check_classes(name: str, classes: Tensor, num_classes: int, also: str = "") -> None:
    """Raise ValueError where a class is not in [0, ``num_classes``)."""
    if classes.numel() == 0:
        return
    least, greatest = (int(extreme) for extreme in torch.aminmax(classes))
    if least < 0 or greatest >= num_classes:
        raise ValueError(
            f"The labels of task {name!r} should be classes in [0, {num_classes - 1}]{also}. "
            f"Found [{least}, {greatest}]."
        )


def check_shape(name: str, output: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless the output has this shape."""
    if tuple(output.shape) != expected:
        raise output_error(name, str(expected), output)


def check_count(argument: str, found: int, least: int) -> int:
    """A number of classes or labels.

    Raises:
        ValueError: It is no integer of at least ``least``.
    """
    if isinstance(found, bool) or not isinstance(found, (int, np.integer)) or found < least:
        raise ValueError(f"Parameter `{argument}` should be an integer of at least {least}. Found {found!r}.")
    return int(found)


def check_ignored(name: str, found: Any) -> int | tuple[int, ...]:
    """One label that does not count, or several.

    Raises:
        TypeError: They are no integers.
    """
    several = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if not several or not all(isinstance(mark, (int, np.integer)) and not isinstance(mark, bool) for mark in several):
        raise TypeError(
            f"Parameter `ignore_index` of task {name!r} should be an integer, -1 where every place counts, or several. "
            f"Found {found!r}."
        )
    return int(several[0]) if len(several) == 1 else tuple(map(int, several))


def all_ignored(marks: int | Sequence[int]) -> tuple[int, ...]:
    """What :func:`check_ignored` has found, as a tuple."""
    return (marks,) if isinstance(marks, int) else tuple(marks)


def is_ignored(y: Tensor, marks: int | Sequence[int]) -> Tensor:
    """Where a label is one of those that do not count.

    Examples:
        >>> is_ignored(torch.tensor([0, 254, 255]), (254, 255))
        tensor([False,  True,  True])
    """
    found = torch.zeros_like(y, dtype=torch.bool)
    for mark in all_ignored(marks):
        found |= y == mark
    return found


def check_choice(name: str, argument: str, found: object, choices: Collection[str]) -> None:
    """Raise ValueError unless an argument of a task is one of the choices."""
    if found not in choices:
        raise ValueError(f"Parameter `{argument}` of task {name!r} should be one of {list(choices)}. Found {found!r}.")


def is_number(found: object) -> bool:
    """Whether this is a real number that is finite, and no boolean.

    Examples:
        >>> is_number(0.5), is_number(True), is_number("0.5"), is_number(float("nan"))
        (True, False, False, False)
    """
    return (
        isinstance(found, (int, float, np.integer, np.floating))
        and type(found) is not bool
        and bool(np.isfinite(found))
    )


def check_positive(name: str, argument: str, found: Any) -> float:
    """A positive number.

    Raises:
        ValueError: It is none.
    """
    if not is_number(found) or found <= 0:
        raise ValueError(f"Parameter `{argument}` of task {name!r} should be positive. Found {found!r}.")
    return float(found)


def check_share(name: str, argument: str, found: Any) -> float:
    """A number between 0 and 1, without these.

    Raises:
        ValueError: It is none.
    """
    if not is_number(found) or not 0 < found < 1:
        raise ValueError(f"Parameter `{argument}` of task {name!r} should be between 0 and 1. Found {found!r}.")
    return float(found)


def check_image_size(name: str, found: Any) -> tuple[float, float] | None:
    """Height and width of an image in the unit of labels; None stays None.

    Raises:
        ValueError: It is something else.
    """
    if found is None:
        return None
    sides = tuple(found) if isinstance(found, (tuple, list)) else ()
    if len(sides) != 2 or not all(is_number(side) and side > 0 for side in sides):
        raise ValueError(
            f"Parameter `image_size` of task {name!r} should be None or a height and a width. Found {found!r}."
        )
    return float(sides[0]), float(sides[1])


def output_error(name: str, expected: str, output: Tensor) -> ValueError:
    """An output that does not fit its labels."""
    return ValueError(
        f"The model's output for task {name!r} should have shape {expected} to fit its labels. "
        f"Found {tuple(output.shape)}."
    )


def shape_error(name: str, expected: str, y: Tensor) -> ValueError:
    """Labels of another shape."""
    return ValueError(f"The labels of task {name!r} should have shape {expected}. Found {tuple(y.shape)}.")
