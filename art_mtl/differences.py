"""What an earlier run was told, and what this one is: the settings that differ, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

__all__ = ["both_sides", "check_same", "differences", "each_once", "instead_of"]

_MISSING = "nothing"
_LISTED = 12
_LONGEST = 200


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by their dotted name: what is stored, and what was asked for. A group of settings that
    one of the two lacks is named once.

    Examples:
        >>> differences({"seed": 0, "sizes": {"chunk": 8}}, {"seed": 1, "sizes": {"chunk": 8}, "limit": 4})
        {'seed': (0, 1), 'limit': ('nothing', 4)}
        >>> differences({}, {"sizes": {"chunk": 8, "batch": 4}})
        {'sizes': ('nothing', '2 settings')}
    """
    return dict(_differing(stored, json.loads(json.dumps(asked)), ""))  # tuples as they come back from JSON


def _differing(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in dict.fromkeys([*there, *here]):
        pair = there.get(name, _MISSING), here.get(name, _MISSING)
        if isinstance(pair[0], Mapping) and isinstance(pair[1], Mapping):
            yield from _differing(*pair, f"{prefix}{name}.")
        elif pair[0] != pair[1]:
            yield f"{prefix}{name}", (_counted(pair[0]), _counted(pair[1]))


def _counted(value: Any) -> Any:
    """A value; of a group of settings their number."""
    count = len(_flat(value)) if isinstance(value, Mapping) else 0
    return f"{count} setting{'s' * (count != 1)}" if isinstance(value, Mapping) else value


def check_same(
    stored: Mapping[str, Any],
    asked: Mapping[str, Any],
    holder: str,
    advice: str,
    accept: Collection[str] = (),
    fixed: Collection[str] = (),
) -> list[str]:
    """Raise unless what is stored was made with the settings that are asked for.

    Args:
        stored: JSON values, in mappings of any depth.
        asked: Likewise.
        holder: What holds the former: "results/a holds a run".
        advice: What to do, a sentence.
        accept: Names, or the first parts of names, of settings that may differ.
        fixed: Names of settings that may not, whatever ``accept`` says: what is stored could not be told apart.

    Returns:
        The names that differ and are accepted.

    Raises:
        ValueError: Another setting differs; the message lists both values. Or ``accept`` has a name of none.

    Examples:
        >>> check_same({"seed": 0}, {"seed": 1}, "o1 holds a run", "Use another folder.")
        Traceback (most recent call last):
            ...
        ValueError: o1 holds a run with seed=0; you asked for seed=1. Use another folder.
    """
    found = differences(stored, asked)
    for one in accept:
        if not any(_is_part(name, one) for name in (*_flat(stored), *_flat(asked))):
            raise ValueError(f"What is accepted should be a name of {list(asked)}. Found {one!r}.")
    accepted = [name for name in found if name not in fixed and any(_is_part(name, one) for one in accept)]
    refused = {name: pair for name, pair in found.items() if name not in accepted}
    if refused:
        there, here = both_sides(refused)
        raise ValueError(f"{holder} with {there}; you asked for {here}. {advice}")
    return accepted


def each_once(found: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Differences, each once: what several members of a group have in common goes by the first and last part of its
    name.

    Examples:
        >>> each_once({"seed": (0, 1), "attacks.equal.max_iter": (10, 5), "attacks.minmax.max_iter": (10, 5)})
        {'seed': (0, 1), 'attacks.*.max_iter': (10, 5)}
        >>> each_once({"attacks.equal.max_iter": (10, 5), "attacks.minmax.max_iter": (10, 4)})
        {'attacks.equal.max_iter': (10, 5), 'attacks.minmax.max_iter': (10, 4)}
    """
    counts = Counter((_kind(name), repr(pair)) for name, pair in found.items())
    return {_kind(name) if counts[_kind(name), repr(pair)] > 1 else name: pair for name, pair in found.items()}


def _kind(name: str) -> str:
    """What members of a group have in common: its first and last part."""
    return f"{name.partition('.')[0]}.*.{name.rpartition('.')[2]}" if "." in name else name


def both_sides(found: Mapping[str, tuple[Any, Any]]) -> tuple[str, str]:
    """The values of each side in words, each once, what is long cut short.

    Examples:
        >>> both_sides({"seed": (0, 1), "steps": (10, 20)})
        ('seed=0, steps=10', 'seed=1, steps=20')
    """
    once = each_once(found)
    there, here = (_listed({name: pair[side] for name, pair in once.items()}) for side in range(2))
    return there, here


def instead_of(found: Mapping[str, tuple[Any, Any]], names: Mapping[str, str]) -> str:
    """What the second side has instead of the first, each once.

    Args:
        found: What :func:`differences` found.
        names: What a setting is called, by its name, of a member of a group by the first and last part of it.

    Examples:
        >>> instead_of({"seed": (0, 1), "attacks.equal.max_iter": (10, 5)}, {"attacks.*.max_iter": "--steps"})
        'seed 1 instead of 0, --steps 5 instead of 10'
    """
    once = each_once(found)
    shown = [
        f"{names.get(_kind(name), name)} {_short(here)} instead of {_short(there)}"
        for name, (there, here) in list(once.items())[:_LISTED]
    ]
    return ", ".join(shown) + _more(len(once))


def _is_part(name: str, of: str) -> bool:
    return name == of or name.startswith(f"{of}.")


def _listed(values: Mapping[str, Any]) -> str:
    shown = [f"{name}={_short(value)}" for name, value in list(values.items())[:_LISTED]]
    return ", ".join(shown) + _more(len(values))


def _more(count: int) -> str:
    return f" and {count - _LISTED} more" if count > _LISTED else ""


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat
