"""What an adversarial input must be, whatever attack made it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

NORMS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
_RELATIVE_SLACK = 1e-4
_AT_ONCE = 32
"""Samples that are checked at a time: in double precision a whole data set takes a lot of memory."""


def norm_name(norm: Any) -> str | None:
    """ "linf", "l2" or "l1" for what ART, torchattacks or this package call a norm; None for anything else.

    Examples:
        >>> norm_name(np.inf), norm_name(2), norm_name("Linf"), norm_name("inf"), norm_name(None)
        ('linf', 'l2', 'linf', 'linf', None)
    """
    text = str(norm).lower().removeprefix("l").removesuffix(".0")
    return f"l{text}" if f"l{text}" in NORMS else None


def check_perturbation(name: str, attack: Any, x: Array, x_adv: Array, clip_values: Any) -> float:
    """Check that adversarial inputs are what the attack promised.

    Rounding is forgiven: 0.01 % of ε and what float32 makes of the inputs' own size.

    Args:
        name: Of the attack, for messages.
        attack: Its ``norm`` and ``eps``, if it has both, are its promise. ``eps`` is a number, or an array
            broadcastable to ``x``.
        x: Clean inputs, ``(N, ...)``.
        x_adv: Adversarial inputs.
        clip_values: Least and greatest value of an input, numbers or arrays broadcastable to it; None if unbounded.

    Returns:
        The largest norm of a perturbation, in the attack's norm (L∞ where it does not say).

    Raises:
        ValueError: Another shape, NaN or infinity, outside ``clip_values``, or outside the ball.
    """
    if x_adv.shape != x.shape:
        raise ValueError(f"Attack {name!r} should return inputs of shape {x.shape}. Found {x_adv.shape}.")
    norm = norm_name(getattr(attack, "norm", None))
    eps = getattr(attack, "eps", None)
    promised = norm is not None and isinstance(eps, (int, float, np.ndarray, np.number))
    radius = np.broadcast_to(np.asarray(eps if promised else np.inf, dtype=np.float64), x.shape)
    bounds = None if clip_values is None else [np.broadcast_to(np.asarray(bound), x.shape) for bound in clip_values]
    largest = 0.0
    for first in range(0, len(x), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        finite = np.isfinite(x_adv[part]).reshape(len(x[part]), -1).all(1)
        if not finite.all():
            sample = first + int(np.argmin(finite))
            raise ValueError(
                f"Attack {name!r} should return finite inputs. Found NaN or infinity, first in sample {sample}."
            )
        _check_range(name, x_adv[part], None if bounds is None else [bound[part] for bound in bounds])
        if norm is not None and promised:
            _check_ball(name, norm, radius[part], x[part], x_adv[part])
        sizes = _norms(x_adv[part].astype(np.float64) - x[part], norm or "linf")
        largest = max(largest, float(sizes.max()))
    return largest


def _check_range(name: str, x_adv: Array, clip_values: Any) -> None:
    if clip_values is None:
        return
    low, high = (np.asarray(bound, dtype=np.float64) for bound in clip_values)
    slack = 1e-6 * np.maximum(1.0, np.maximum(abs(low), abs(high)))
    if (x_adv < low - slack).any() or (x_adv > high + slack).any():
        raise ValueError(
            f"Attack {name!r} should return inputs inside `clip_values`, [{low.min():g}, {high.max():g}]. "
            f"Found values in [{x_adv.min():g}, {x_adv.max():g}]."
        )


def _check_ball(name: str, norm: str, radius: Array, x: Array, x_adv: Array) -> None:
    difference = x_adv.astype(np.float64) - x
    # Rounding of each input's float32 value, accumulated in the norm.
    rounding = np.finfo(np.float32).eps * max(1.0, float(np.max(abs(x))))
    if norm == "linf":
        excess = abs(difference) - radius * (1 + _RELATIVE_SLACK) - rounding
        sample = np.unravel_index(int(excess.argmax()), excess.shape)
        found, allowed = float(abs(difference[sample])), float(radius[sample])
        too_far = bool(excess.max() > 0)
    else:
        sizes, radii = _norms(difference, norm), radius.reshape(len(x), -1).max(1)
        rounding *= x[0].size ** (1 / NORMS[norm])
        excess = sizes - radii * (1 + _RELATIVE_SLACK) - rounding
        worst = int(excess.argmax())
        found, allowed = float(sizes[worst]), float(radii[worst])
        too_far = bool(excess[worst] > 0)
    if too_far:
        raise ValueError(
            f"Attack {name!r} should stay within eps = {allowed:.6g} ({norm}). Found a perturbation of {found:.6g}."
        )


def _norms(difference: Array, norm: str) -> Array:
    flat = difference.reshape(len(difference), -1)
    return np.asarray(np.linalg.norm(flat, ord=NORMS[norm], axis=1))
