"""Checks of what a user gives: what was expected, what was found. Imports no torch, and NumPy when it is needed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from art_mtl.near_names import perhaps

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Check = Callable[[str, Any], None]
"""``(name of the option, value)``; raises a TypeError or a ValueError that names both."""

AUTO = "auto"
"""Takes the place of a batch size that is to be measured."""


def nothing(name: str, found: Any) -> None:
    """Takes every value."""


def integer(least: int) -> Check:
    """Checks for an integer of at least ``least``; TypeError where it is no integer at all.

    Examples:
        >>> integer(1)("steps", 0)
        Traceback (most recent call last):
        ValueError: Parameter `steps` should be an integer of at least 1. Found 0.
    """

    def check(name: str, found: Any) -> None:
        _whole(found, least, f"Parameter `{name}` should be an integer of at least {least}. Found {found!r}.")

    return check


def _whole(found: Any, least: int, expected: str) -> None:
    """Raise with these words unless ``found`` is an integer of at least ``least``."""
    if isinstance(found, bool) or not isinstance(found, numbers.Integral):
        raise TypeError(expected)
    if int(found) < least:
        raise ValueError(expected)


def number(least: float, above: bool = False, below: float = math.inf) -> Check:
    """Checks for a finite number of at least ``least`` (``above`` it), and below ``below``."""

    def check(name: str, found: Any) -> None:
        how = f" above {least}" if above else f" of at least {least}" if least > -math.inf else ""
        how += f" and below {below}" if below < math.inf else ""
        expected = f"Parameter `{name}` should be a finite number{how}. Found {found!r}."
        if isinstance(found, bool) or not isinstance(found, numbers.Real):
            raise TypeError(expected)
        value = float(found)
        if not math.isfinite(value) or value < least or (above and value == least) or value >= below:
            raise ValueError(expected)

    return check


def one_of(*options: str) -> Check:
    """Checks for one of some words; TypeError where it is no word at all."""

    def check(name: str, found: Any) -> None:
        expected = f"Parameter `{name}` should be one of {', '.join(options)}. Found {found!r}."
        if not isinstance(found, str):
            raise TypeError(expected)
        if found not in options:
            raise ValueError(f"{expected}{perhaps(found, options)}")

    return check


def text(name: str, found: Any) -> None:
    """Raise unless ``found`` is a string that is not empty."""
    if not isinstance(found, str) or not found:
        raise TypeError(f"Parameter `{name}` should be a name. Found {found!r}.")


def path(name: str, found: Any) -> None:
    """Raise unless ``found`` is a path."""
    if not isinstance(found, (str, Path)):
        raise TypeError(f"Parameter `{name}` should be a path. Found {found!r}.")


def each(check: Check, empty: bool = True) -> Check:
    """Checks for a list whose entries pass ``check``."""

    def run(name: str, found: Any) -> None:
        if not isinstance(found, (list, tuple)):
            raise TypeError(f"Parameter `{name}` should be a list. Found {found!r}.")
        if not found and not empty:
            raise ValueError(f"Parameter `{name}` should have at least one entry. Found none.")
        for entry in found:
            check(name, entry)

    return run


def of_type(hint: Any) -> Check:
    """The check that a type stands for; one in ``Annotated`` comes before it.

    An int is one of at least 1, a float is positive, a str is not empty, and ``int | Literal["auto"]`` is a batch size.

    Examples:
        >>> of_type(Literal["linf", "l2"] | None)("norm", "l7")
        Traceback (most recent call last):
        ValueError: Parameter `norm` should be one of linf, l2. Found 'l7'.
        >>> of_type(Annotated[int, integer(0)])("seed", 0)
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((one for one in arguments[1:] if isinstance(one, FunctionType)), None) or of_type(arguments[0])
    if origin is Literal:
        return one_of(*arguments)
    if origin is tuple:
        return each(of_type(arguments[0]))
    if NoneType in arguments:
        rest = [one for one in arguments if one is not NoneType]
        return optional(of_type(rest[0]) if len(rest) == 1 else batch_size)
    if arguments:
        return batch_size
    own: dict[Any, Check] = {int: integer(1), float: number(0, above=True), bool: flag, str: text, Path: path}
    return own.get(hint, nothing)


def flag(name: str, found: Any) -> None:
    """Raise unless ``found`` is a bool."""
    if isinstance(found, bool):
        return
    import numpy as np

    if not isinstance(found, np.bool_):
        raise TypeError(f"Parameter `{name}` should be a bool. Found {found!r}.")


def flag_of_art(name: str, found: Any) -> None:
    """:func:`flag`, where ART raises a ValueError for a wrong type."""
    try:
        flag(name, found)
    except TypeError as error:
        raise ValueError(str(error)) from None


def optional(check: Check) -> Check:
    """Takes None beside what ``check`` takes."""

    def run(name: str, found: Any) -> None:
        if found is not None:
            check(name, found)

    return run


def parse_norm(norm: Any) -> float:
    """``math.inf``, 2.0 or 1.0 from what any host calls it.

    Raises:
        TypeError: Neither a number nor a word.
        ValueError: Any other norm.

    Examples:
        >>> parse_norm("Linf"), parse_norm(2)
        (inf, 2.0)
    """
    names = {"inf": math.inf, "linf": math.inf, "l2": 2.0, "2": 2.0, "l1": 1.0, "1": 1.0}
    if isinstance(norm, str) and norm.lower() in names:
        return names[norm.lower()]
    if isinstance(norm, numbers.Real) and norm in (math.inf, 2, 1):
        return float(norm)
    expected = f"Parameter `norm` should be infinity, 2 or 1 ('Linf', 'L2', 'L1'). Found {norm!r}."
    raise (ValueError if isinstance(norm, (str, numbers.Real)) else TypeError)(expected)


def norm(name: str, found: Any) -> None:
    """Raise unless :func:`parse_norm` knows it."""
    parse_norm(found)


def host_array(value: Any) -> npt.NDArray[np.float64]:
    """A number, an array or a tensor of any device as an array."""
    import numpy as np

    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=np.float64)


def radius(name: str, found: Any) -> None:
    """Raise unless ``found`` is a number, an array or a tensor, positive and finite throughout."""
    import numpy as np

    if isinstance(found, bool) or not (isinstance(found, (numbers.Real, np.ndarray)) or hasattr(found, "detach")):
        raise TypeError(f"Parameter `{name}` should be a number or an array. Found {type(found).__name__}.")
    array = host_array(found)
    if array.size == 0 or not np.isfinite(array).all() or not (array > 0).all():
        raise ValueError(f"Parameter `{name}` should be positive and finite. Found {found}.")


def single_radius(name: str, found: Any) -> None:
    """Raise unless ``found`` is one positive number for all samples."""
    import numpy as np

    radius(name, found)
    if host_array(found).size != 1:
        raise ValueError(f"Parameter `{name}` should be one number for all samples. Found shape {np.shape(found)}.")


def radius_of_norm(name: str, found: Any, p: float) -> None:
    """Raise where a radius has a value for each pixel and the norm needs one for each sample."""
    array = host_array(found)
    if p != math.inf and array.size > 1 and (array.ndim < 2 or array[0].size > 1):
        raise ValueError(
            f"Parameter `{name}` should be one number a sample, shape (N, 1, ..., 1), for L{p:g}; "
            f"one a pixel is for L-infinity. Found shape {array.shape}."
        )


def same_kind(name: str, found: Any, other: str, radius: Any) -> None:
    """Raise unless a step size is a number where the radius is one, and an array of its shape where that is one.

    Raises:
        TypeError: A number beside an array, as in ART.
        ValueError: Arrays of different shapes.
    """
    import numpy as np

    if np.ndim(found) != np.ndim(radius) and 0 in (np.ndim(found), np.ndim(radius)):
        raise TypeError(
            f"Parameters `{name}` and `{other}` should be both numbers or both arrays. "
            f"Found shapes {np.shape(found)} and {np.shape(radius)}."
        )
    if np.shape(found) != np.shape(radius):
        raise ValueError(
            f"Parameter `{name}` should have the shape of `{other}`, {np.shape(radius)}. Found {np.shape(found)}."
        )


def seed(name: str, found: Any) -> None:
    """Raise unless ``found`` is None or an integer of at least 0."""
    if found is not None:
        _whole(found, 0, f"Parameter `{name}` should be None or an integer of at least 0. Found {found!r}.")


def batch_size(name: str, found: Any) -> None:
    """Raise unless ``found`` is an integer of at least 1 or "auto"."""
    if isinstance(found, str) and found == AUTO:
        return
    _whole(found, 1, f"Parameter `{name}` should be an integer of at least 1, or 'auto'. Found {found!r}.")


fixed_batch_size = integer(1)
"""Checks for an integer of at least 1: where a batch is a step, it cannot be measured."""


def bounds(name: str, found: Any) -> None:
    """Raise unless ``found`` is a smaller and a larger value, numbers or tensors."""
    import numpy as np

    pair = isinstance(found, (tuple, list)) and len(found) == 2
    if not pair or not all(isinstance(b, (numbers.Real, np.ndarray)) or hasattr(b, "detach") for b in found):
        raise TypeError(f"Parameter `{name}` should be two numbers or tensors. Found {found!r}.")
    lower, upper = (host_array(bound) for bound in found)
    try:
        np.broadcast_shapes(lower.shape, upper.shape)
    except ValueError:
        raise ValueError(
            f"Parameter `{name}` should be two values whose shapes can be broadcast to each other. "
            f"Found shapes {lower.shape} and {upper.shape}."
        ) from None
    # A NaN is not smaller than anything.
    if not (lower < upper).all():
        raise ValueError(f"Parameter `{name}` should be a smaller and a larger value. Found {found}.")


def finite_bounds(name: str, found: Any) -> None:
    """Raise unless ``found`` is a smaller and a larger value, both finite."""
    import numpy as np

    bounds(name, found)
    if not all(np.isfinite(host_array(bound)).all() for bound in found):
        raise ValueError(f"A patch needs finite `{name}`, between which its content lies. Found {found}.")


def names_of_tasks(name: str, found: Any) -> None:
    """Raise unless ``found`` is a name or a sequence of names."""
    if not isinstance(found, Sequence) or not all(isinstance(n, str) for n in found):
        raise TypeError(f"Parameter `{name}` should be the name of a task, or a list of some. Found {found!r}.")


def weighting(*words: str) -> Check:
    """Checks for one of some words, or one weight of at least 0 for each task, not all 0."""

    def check(name: str, found: Any) -> None:
        if isinstance(found, str):
            one_of(*words)(name, found)
            return
        _known_weights(name, found, f"one of {', '.join(words)}, or a list of one weight for each task")

    return check


def task_weights(found: Any) -> tuple[float, ...]:
    """One weight for each task from a list, an array or a tensor, which may hold a graph.

    Examples:
        >>> import numpy as np
        >>> task_weights(np.array([1, 0.5]))
        (1.0, 0.5)
    """
    return tuple(float(host_array(weight)) for weight in found)


def _known_weights(name: str, found: Any, expected: str) -> None:
    import numpy as np

    several = isinstance(found, Sequence) or (hasattr(found, "tolist") and len(np.shape(_detached(found))) == 1)
    if not several or not all(_is_number(weight) for weight in found):
        raise TypeError(f"Parameter `{name}` should be {expected}. Found {_described(found)}.")
    weights = task_weights(found)
    if not weights or not all(math.isfinite(w) and w >= 0 for w in weights) or sum(weights) == 0:
        raise ValueError(f"Parameter `{name}` should be weights ≥ 0, not all 0. Found {weights}.")


def _detached(value: Any) -> Any:
    return value.detach() if hasattr(value, "detach") else value


def _is_number(value: Any) -> bool:
    import numpy as np

    return isinstance(value, numbers.Real) or (hasattr(value, "tolist") and np.shape(_detached(value)) == ())


def _described(value: Any) -> str:
    """A value in a message: an array by its shape, a number or a dict by its type, a list as it is."""
    if hasattr(value, "tolist"):
        return f"shape {tuple(value.shape)}"
    return repr(value) if isinstance(value, Sequence) else type(value).__name__


def preparation(name: str, found: Any) -> None:
    """Raise unless :meth:`art_mtl.prepared.Preparation.parse` takes it."""
    if found is not None:
        from art_mtl.prepared import Preparation

        Preparation.parse(found)


def callables(name: str, found: Any) -> None:
    """Raise unless ``found`` is a sequence of callables."""
    if not isinstance(found, Sequence) or not all(callable(part) for part in found):
        raise TypeError(f"Parameter `{name}` should be a list of callables. Found {found!r}.")


def objects(kind: type) -> Check:
    """Checks for an object of a class, or a list of some."""

    def check(name: str, found: Any) -> None:
        if not all(isinstance(one, kind) for one in (found if isinstance(found, (list, tuple)) else [found])):
            raise TypeError(f"Parameter `{name}` should be a {kind.__name__}, or a list of some. Found {found!r}.")

    return check


def pair_of_integers(least: int) -> Check:
    """Checks for two integers of at least ``least``."""

    def check(name: str, found: Any) -> None:
        expected = f"Parameter `{name}` should be two integers of at least {least}. Found {found!r}."
        if not isinstance(found, (tuple, list)):
            raise TypeError(expected)
        for value in found:
            _whole(value, least, expected)
        if len(found) != 2:
            raise ValueError(expected)

    return check


def shorten(indices: Sequence[int]) -> str:
    """Sample numbers for a message.

    Examples:
        >>> shorten([3, 5])
        '[3, 5]'
    """
    more = f" and {len(indices) - 10} more" if len(indices) > 10 else ""
    return f"{list(indices[:10])}{more}"
