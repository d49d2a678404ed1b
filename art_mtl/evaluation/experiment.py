"""One evaluation as a frozen set of options: checked when it is made, written as YAML, and read back. Neither torch nor
NumPy is imported here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from art_mtl.core import checks
from art_mtl.core.chunks import DEFAULT_CHUNK
from art_mtl.yaml_files import read_yaml, unknown_key

Norm = Literal["linf", "l2", "l1"]
Schedule = Literal["published", "linear", "cosine", "restarts"]
Split = Literal["test", "train"]
Protocol = Literal["pooled", "auto-lambda"]
Device = Literal["auto", "cpu", "gpu"]

FORMAT, VERSION = "art_mtl.experiment", 1
CONFIG = "experiment.yaml"
"""The file of a run's folder from which the run can be made again."""
LIVE = "live:"
"""How entries begin that stand for objects that a file cannot hold."""
_COMMENT = "# Run it again: art-mtl benchmark --config THIS_FILE. Every option can be overridden on the command line.\n"
_PATHS = ("root", "checkpoint", "tasks", "data")
_NORMS: Mapping[float, Norm] = {math.inf: "linf", 2.0: "l2", 1.0: "l1"}
_DEEPEST = 2  # The mapping, and lists in it.
_LINE = 120
_SMALL = 12
"""People write 1/3, not 85/255; but 5/255, not 1/51."""
_SHORT = 10
"""A decimal of at most so many characters is shown as it is."""

__all__ = [
    "CONFIG",
    "LIVE",
    "Device",
    "Experiment",
    "Norm",
    "Protocol",
    "Schedule",
    "Split",
    "fraction",
    "name_norm",
    "parse_eps",
    "parse_radii",
    "split_measures",
]


def _radius(name: str, found: Any) -> None:
    if isinstance(found, bool) or not isinstance(found, (str, int, float)):
        raise TypeError(f"Parameter `{name}` should be a list of radii. Found {found!r} in it.")
    parse_eps(found)


def _preparation(name: str, found: Any) -> None:
    checks.text(name, found)
    if found != "exact":  # torch is imported for those only that will need it
        from art_mtl.prepared.settings import Preparation

        Preparation.parse(found)


def _measures(name: str, found: Any) -> None:
    checks.text(name, found)
    split_measures(found)


def split_measures(text: str) -> tuple[str, tuple[str, ...]]:
    """The task and the names of ``TASK=NAME,NAME``.

    Raises:
        ValueError: It has another form.

    Examples:
        >>> split_measures("seg=pixel-accuracy,f1-macro")
        ('seg', ('pixel-accuracy', 'f1-macro'))
    """
    task, _, names = text.rpartition("=")
    found = tuple(name.strip() for name in names.split(","))
    if not task or not all(found):
        raise ValueError(f"Parameter `measures` should be such as seg=pixel-accuracy,f1-macro. Found {text!r}.")
    return task, found


@dataclass(frozen=True)
class Experiment:
    """Which attacks run on which model and data, and with what settings: all that decides the numbers of a run.

    Attributes:
        victim: The model with its data: rooms, rooms-robust, rooms-detection, digits, multilabel, nyuv2, cityscapes,
            PATH.py:function, or a model file (PATH.onnx, .pt, .pt2) with --tasks and --data.
        attacks: Names that `art-mtl list` shows; "all" is every method that is not on request.
        norm: Norms of the perturbation. None given: those of the radii, or the victim's.
        eps: Radii in the scale of the model's input, such as 2/255 for every norm, or l2:1.0 for one. None given: the
            victim's.
        steps: T, gradient steps of an attack.
        schedule: Step schedules of the baselines, a row each. "restarts" is linear, the best iterate of several random
            starts. The attacks worst-*, single:*, stealthy:* and auto-* have their own.
        restarts: Random starts of the schedule "restarts".
        limit: First samples of the data. None: all.
        split: Which data.
        batch_size: Samples at a time; "auto" measures what fits.
        chunk: Samples that are read, attacked and stored together, and share weights.
        prepare: What the gradient steps run on: exact, or fp32, bf16 or fp16, which
            ,memory-efficient and ,compile and ,graphs may follow.
        seed: Of everything that is random.
        protocol: How errors are averaged: over all valid places of the data set, or first over batches of 4.
        device: Where the model runs; "auto" takes a GPU where there is one.
        threads: CPU threads of torch. None: torch's own number.
        root: Folder of the victim's data (nyuv2, cityscapes).
        checkpoint: Weights of the victim.
        tasks: The tasks.yaml of a model file; `art-mtl inspect` proposes one.
        data: The table of labels of a model file, a CSV file.
        keep_adversarial: Keep all adversarial inputs.
        measures: Shown beside the metric of a task, TASK=NAME,NAME for each: seg=pixel-accuracy,f1-macro.

    Raises:
        TypeError: An option is of a wrong type.
        ValueError: An option is out of its range, or a radius has a norm that is not asked for.

    Examples:
        >>> experiment = Experiment("digits", ("equal", "worst-task"), eps=("0.05", "l2:1"), limit=64)
        >>> experiment.radii
        {'linf': (0.05,), 'l2': (1.0,)}
        >>> Experiment(steps=0)
        Traceback (most recent call last):
        ValueError: Parameter `steps` should be an integer of at least 1. Found 0.
    """

    victim: str = "rooms"
    attacks: Annotated[tuple[str, ...], checks.each(checks.text, empty=False)] = ("all",)
    norm: tuple[Annotated[Norm, checks.norm], ...] = ()
    eps: tuple[Annotated[str, _radius], ...] = ()
    steps: int = 10
    schedule: Annotated[tuple[Schedule, ...], checks.each(checks.of_type(Schedule), empty=False)] = ("published",)
    restarts: int = 2
    limit: int | None = None
    split: Split = "test"
    batch_size: int | Literal["auto"] = 32
    chunk: int = DEFAULT_CHUNK
    prepare: Annotated[str, _preparation] = "exact"
    seed: Annotated[int, checks.integer(0)] = 0
    protocol: Protocol = "pooled"
    device: Device = "auto"
    threads: int | None = None
    root: Path | None = None
    checkpoint: Path | None = None
    keep_adversarial: bool = False
    tasks: Path | None = None
    data: Path | None = None
    measures: tuple[Annotated[str, _measures], ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _CHECKS[name](name, value)
        for name in ("attacks", "schedule", "measures"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "norm", tuple(map(name_norm, self.norm)))
        object.__setattr__(self, "eps", tuple(e if isinstance(e, str) else repr(float(e)) for e in self.eps))
        for name in _PATHS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        parse_radii(self.eps, self.norm)

    @property
    def radii(self) -> dict[str, tuple[float, ...]] | None:
        """Radii by norm; None where the victim's are to be used."""
        return parse_radii(self.eps, self.norm)

    @property
    def victim_options(self) -> dict[str, Any]:
        """What :func:`~art_mtl.zoo.victims.load_victim` is told beside the name."""
        return {**{name: getattr(self, name) for name in _PATHS}, "limit": self.limit}

    @property
    def live(self) -> tuple[str, ...]:
        """Entries that stand for objects, which cannot be made again from their names."""
        return tuple(name for name in (self.victim, *self.attacks, *self.measures) if name.startswith(LIVE))

    def check_names(self) -> None:
        """Raise ValueError if an entry stands for an object: such an experiment runs from Python only."""
        if self.live:
            raise ValueError(
                "An experiment that runs from a file should name its victim, attacks and measures. Found objects, "
                f"which only the program that made them has: {', '.join(map(repr, self.live))}."
            )

    def to_yaml(self) -> str:
        """This as a YAML document, which :meth:`from_yaml` reads."""
        import yaml

        document: dict[str, Any] = {"format": FORMAT, "version": VERSION}
        for name, value in vars(self).items():
            plain = str(value) if isinstance(value, Path) else value
            document[name] = list(plain) if isinstance(plain, tuple) else plain
        layout: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "allow_unicode": True, "width": _LINE}
        text: str = yaml.safe_dump(document, **layout)
        return _COMMENT + text

    @classmethod
    def from_yaml(cls, path: str | Path) -> Experiment:
        """What a file of :meth:`to_yaml` says; options that it leaves out have their defaults.

        Args:
            path: Of the file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no YAML, or of another format or version; a key is unknown or comes twice; a value is of a
                wrong type or out of its range; or it uses tags or aliases. The message has the file and the line.
        """
        return cls(**_read(Path(path)))


def name_norm(norm: Any) -> Norm:
    """ "linf", "l2" or "l1" for what any host calls it.

    Raises:
        TypeError: Neither a number nor a word.
        ValueError: Any other norm.

    Examples:
        >>> name_norm("Linf"), name_norm(2)
        ('linf', 'l2')
    """
    return _NORMS[checks.parse_norm(norm)]


def parse_eps(text: str | float) -> tuple[str | None, float]:
    """A radius, with its norm if it has one.

    Args:
        text: "8/255", "0.05", "l2:1.0" or "linf:4/255"; or a number.

    Raises:
        ValueError: Anything else.

    Examples:
        >>> parse_eps("l2:1.5"), parse_eps("51/255")
        (('l2', 1.5), (None, 0.2))
    """
    norm, colon, number = str(text).rpartition(":")
    match = re.fullmatch(r"\s*([^/\s_]+)\s*(?:/\s*([^/\s_]+)\s*)?", number)
    try:
        own = name_norm(norm) if colon else None
        if match is None:
            raise ValueError
        value = float(match[1]) / (1.0 if match[2] is None else float(match[2]))
        if not 0 < value < float("inf"):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            "Parameter `eps` should be a positive radius such as 8/255 or 0.05, or one with its norm such as l2:1.0. "
            f"Found {text!r}."
        ) from None
    return own, value


def parse_radii(eps: Sequence[str | float], norms: Sequence[str] = ()) -> dict[str, tuple[float, ...]] | None:
    """Radii by norm: those that have a norm go to it, plain ones to every norm that is asked for.

    Args:
        eps: As :func:`parse_eps` takes them.
        norms: Asked for; without any, those that radii have, and plain ones are of L∞.

    Returns:
        None where no radius is given.

    Raises:
        ValueError: A radius is none, or has a norm that is not asked for.

    Examples:
        >>> parse_radii(["l2:1", 0.1])
        {'l2': (1.0,), 'linf': (0.1,)}
    """
    if not eps:
        return None
    read = [parse_eps(text) for text in eps]
    radii: dict[str, tuple[float, ...]] = dict.fromkeys(norms or [norm or "linf" for norm, _ in read], ())
    for own, value in read:
        if own is not None and own not in radii:
            raise ValueError(f"Parameter `eps` should have radii of {', '.join(radii)}. Found one of {own}.")
        for norm in [own] if own is not None else norms or ["linf"]:
            radii[norm] += (value,)
    return radii


def fraction(value: float) -> str:
    """A radius as people write it: short decimals, grey levels of 255, other fractions of small numbers.

    Examples:
        >>> fraction(8 / 255), fraction(1 / 510), fraction(0.05), fraction(5.0), fraction(1 / 3)
        ('8/255', '0.5/255', '0.05', '5', '1/3')
    """
    if len(repr(float(value))) <= _SHORT:
        return f"{value:.{_SHORT}g}"
    near, levels = Fraction(value).limit_denominator(1000), round(2 * 255 * value)
    is_near = math.isclose(float(near), value, rel_tol=1e-12)
    if abs(levels - 2 * 255 * value) < 1e-6 and not (is_near and near.denominator <= _SMALL):
        return f"{levels / 2:g}/255"
    return str(near) if is_near else f"{value:.6g}"


_CHECKS = {name: checks.of_type(hint) for name, hint in get_type_hints(Experiment, include_extras=True).items()}


def _read(path: Path) -> dict[str, Any]:
    """The options that a file gives, each checked."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    known = [*head, *(field.name for field in fields(Experiment))]
    document = read_yaml(path, "an experiment", _DEEPEST)
    for key, value in document.values.items():
        where = document.where(key)
        if key not in known:
            raise ValueError(f"{where}: {unknown_key('an experiment', key, known)}")
        if key in head and repr(value) != repr(head[key]):
            raise ValueError(f"{where}: Expected {key} {head[key]!r}. Found {value!r}.")
        if key not in head:
            try:
                _CHECKS[key](key, value)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{where}: {error}") from None
    found = dict(document.values)
    missing = [key for key in head if found.pop(key, None) is None]
    if missing:
        raise ValueError(f"{path}: Expected `format: {FORMAT}` and `version: {VERSION}`. Found no {missing[0]}.")
    try:
        parse_radii(found.get("eps", ()), found.get("norm", ()))
    except ValueError as error:
        raise ValueError(f"{document.where('eps')}: {error}") from None
    return found
