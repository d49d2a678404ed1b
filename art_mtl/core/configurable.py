"""Attacks whose options are attributes: checked when they are set, shown by ``repr``, documented in one place."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, get_args

from typing_extensions import is_typeddict

from art_mtl.core.checks import nothing
from art_mtl.core.options import Option, describe, table
from art_mtl.near_names import nearest

_SECTIONS = ("    Args:", "    Attributes:", "    Raises:", "    Examples:")
_RAISES = """    Raises:
        TypeError: An option of a wrong type, or an unknown one.
        ValueError: An option out of its range, or options that do not go together; the message names them."""


def arguments(found: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor by name, from its ``locals()``; those that it unpacks as ``options`` among them.

    Examples:
        >>> arguments({"self": None, "eps": 0.1, "options": {"seed": 1}})
        {'eps': 0.1, 'seed': 1}
    """
    given = {name: value for name, value in found.items() if name not in ("self", "__class__", "options")}
    return {**given, **found.get("options", {})}


class Configurable:
    """Base of the attacks of every host.

    A class takes the options that its ``__init__`` names, those of its ``**options: Unpack[...]`` included. To set one
    later is the same as to have given it: it is checked, takes effect at the next call and is shown by ``repr``. What a
    class decides itself is refused in words that say who takes it.

    A subclass keeps the options of its base, whatever its own ``__init__`` takes; plain ``**kwargs`` take what the base
    takes.

    A preset may be data alone: ``decided = {"method": "minmax"}`` decides the option ``method``, and ``defaults`` says
    which others begin with another value. The section of arguments in the docstring of a class is completed by those
    that it does not name, with the documentation of the host.

    Attributes:
        options: Name to option, of the options that the class takes, in the order of its signature.
        option_table: Every option of the host.
    """

    options: ClassVar[Mapping[str, Option]] = {}
    option_table: ClassVar[Mapping[str, Option]] = {}
    host_arguments: ClassVar[Mapping[str, str]] = {}
    """What a class of the host takes beside its options, to the documentation."""
    decided: ClassVar[Mapping[str, Any]] = {}
    """Options that the class decides, with their values."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Values that options of the class begin with, where they are not the host's."""
    other_names: ClassVar[Mapping[str, str]] = {}
    """What other libraries call an option, to its name here; for messages."""
    _always_shown: ClassVar[tuple[str, ...]] = ()
    _own_arguments: ClassVar[tuple[str, ...]] = ()
    _classes: ClassVar[list[type[Configurable]]] = []

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        base = next(known for known in cls.__mro__[1:] if issubclass(known, Configurable))
        signature = _full_signature(cls, base)
        names = list(signature.parameters)
        named = {name: _with_default(cls, signature, name) for name in names if name in cls.option_table}
        cls.options = {**{name: o for name, o in base.options.items() if name not in cls.decided}, **named}
        cls._own_arguments = tuple(name for name in names if name not in cls.option_table)
        cls.__signature__ = signature  # type: ignore[attr-defined]
        if cls.__doc__ and cls.options:
            cls.__doc__ = _with_arguments(cls, cls.__doc__)
        if not cls.__name__.startswith("_"):
            cls._classes.append(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        for name in kwargs:
            if name not in cls.options and name not in cls._own_arguments:
                raise TypeError(cls._unknown(name))
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.option_table:
            if name not in self.options:
                raise AttributeError(self._unknown(name))
            self._check_option(name, value)
        self._store(name, value)

    def __repr__(self) -> str:
        shown = [name for name in self.options if name in self._always_shown or self._differs(name)]
        return f"{type(self).__name__}({', '.join(f'{name}={_short(getattr(self, name))}' for name in shown)})"

    def set_params(self, **options: Any) -> None:
        """Set options, after the same checks as in the constructor; all of them or none.

        Raises:
            ValueError: An unknown name or a value that will not do; nothing is changed then.
            TypeError: A value of a wrong type; likewise.
        """
        unknown = [name for name in options if name not in self.options]
        if unknown:
            raise ValueError(self._unknown(unknown[0]))
        before = dict(self.__dict__)
        try:
            for name, value in options.items():
                setattr(self, name, value)
            self._check_params()
        except BaseException:
            # As they are kept, since a host may keep more of an option than it shows.
            for name in [name for name in self.__dict__ if name not in before]:
                del self.__dict__[name]
            self.__dict__.update(before)
            raise

    def _configure(self, **given: Any) -> None:
        """Take every option of the host, each checked by itself, then all together."""
        for name, option in self.option_table.items():
            option = self.options.get(name, option)
            value = self.decided.get(name, given.get(name, option.default))
            option.check(name, value)
            self._store(name, value)
        self._check_params()

    def _check_option(self, name: str, value: Any) -> None:
        """Raise where a value that is set later will not do by itself."""
        self.options[name].check(name, value)

    def _store(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)

    def _check_params(self) -> None:
        """Raise where options that are right by themselves do not go together."""

    def _differs(self, name: str) -> bool:
        value, default = getattr(self, name), self.options[name].default
        if value is None and not default:
            return False
        return not _same(value, default)

    @classmethod
    def _unknown(cls, name: str) -> str:
        """What to say of an option that the class does not take."""
        known = [known for known in cls._classes if name in known.options and _host(known) == _host(cls)]
        if takers := dict.fromkeys(taker.__name__ for taker in known):
            return f"{cls.__name__} decides `{name}` or has no use for it. Those that take it: {', '.join(takers)}."
        meant = cls.other_names.get(name, nearest(name, cls.options))
        hint = "" if meant is None else f" Perhaps {meant}?"
        return f"{cls.__name__} has no option `{name}`.{hint} Its options are {list(cls.options)}."


def _host(cls: type) -> list[str]:
    return cls.__module__.split(".")[:2]


def _full_signature(cls: type[Configurable], base: type[Configurable]) -> inspect.Signature:
    """The signature of a class with the options that it unpacks as keywords of their own, without what it decides.

    Keywords that name no group of options are those of the base, to which they are passed on.
    """
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
    stars = {parameter.kind: parameter for parameter in parameters if parameter.kind in _STARS}
    found = [parameter for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    if inspect.Parameter.VAR_KEYWORD in stars:
        groups = [group for group in get_args(stars[inspect.Parameter.VAR_KEYWORD].annotation) if is_typeddict(group)]
        names = {parameter.name for parameter in parameters}
        if groups:
            found += [_keyword(cls, name, option.default) for name, option in table(*groups).items()]
        elif "__signature__" in vars(base):
            passed = [p for p in inspect.signature(base).parameters.values() if p.name not in names]
            in_place = inspect.Parameter.VAR_POSITIONAL in stars and all(p.default is p.empty for p in parameters)
            found = [parameter for parameter in found if parameter.kind not in _STARS]
            found += passed if in_place else [_keyword(cls, p.name, p.default) for p in passed]
    kept = [parameter for parameter in found if parameter.name not in cls.decided]
    return inspect.Signature(sorted(kept, key=lambda parameter: parameter.kind))


_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _keyword(cls: type[Configurable], name: str, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=cls.defaults.get(name, default))


def _with_default(cls: type[Configurable], signature: inspect.Signature, name: str) -> Option:
    """The option, with the default that the signature of the class gives it."""
    option, default = cls.option_table[name], signature.parameters[name].default
    if default is inspect.Parameter.empty or default is option.default:
        return option
    return replace(option, default=default)


def _with_arguments(cls: type[Configurable], text: str) -> str:
    """A docstring, its section of arguments completed by those that it does not name, and what is raised behind."""
    parts = textwrap.indent(inspect.cleandoc(text), "    ").split("\n\n")
    at = next((i for i, part in enumerate(parts) if part.startswith(_SECTIONS)), len(parts))
    if not "".join(parts[at : at + 1]).startswith("    Args:"):
        parts.insert(at, "    Args:")
    head, *own = parts[at].split("\n")
    host = {name: Option(None, nothing, doc) for name, doc in cls.host_arguments.items() if name in cls._own_arguments}
    first, last = (
        [describe({name: option}) for name, option in group.items() if f"\n        {name}:" not in parts[at]]
        for group in (host, cls.options)
    )
    parts[at] = "\n".join([head, *first, *own, *last])
    if not any(part.startswith("    Raises:") for part in parts):
        parts.insert(at + 1, _RAISES)
    return "\n\n".join(parts).lstrip()


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default, part by part; an array is none, whatever it holds."""
    if isinstance(value, (list, tuple)) and isinstance(default, (list, tuple)):
        return len(value) == len(default) and all(map(_same, value, default))
    return value is default or (not getattr(value, "shape", ()) and bool(value == default))


def _short(value: Any) -> str:
    """A value as ``repr`` shows it: no contents of arrays, no addresses of functions."""
    if getattr(value, "shape", ()):
        return f"{type(value).__name__.lower()} of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_short(part) for part in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if callable(value):
        return getattr(value, "__qualname__", type(value).__name__)
    shown = repr(value)
    return type(value).__name__ if " at 0x" in shown else shown
