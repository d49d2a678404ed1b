"""What ``--help`` prints: options in groups, with their defaults, and examples.

It is made of the commands' dataclasses alone, in as many columns as the terminal has, and imports nothing that is slow.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

from art_mtl.cli.commands import COMMANDS
from art_mtl.cli.console import PROGRAM, two_columns
from art_mtl.cli.options import ENTRY, METAVARS, Group
from art_mtl.evaluation.report.layout import screen_width, wrap
from art_mtl.version import __version__

_OTHER = "Other"

COMMAND_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Attack and measure": ("benchmark", "show", "compare", "diagnose", "inspect", "list"),
    "Repeat the paper": ("reproduce",),
    "Make models and data": ("train", "data"),
    "Measure the cost": ("bench",),
}

_VICTIM = ("victim", "root", "checkpoint", "tasks", "data", "split", "limit")
_HOW = ("batch_size", "chunk", "prepare", "device", "threads", "seed", "protocol")
_SHOWN = ("format", "quiet")
OPTION_GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "benchmark": {
        "Model and data": _VICTIM,
        "Attacks": ("attacks", "norm", "eps", "steps", "schedule", "restarts"),
        "What is kept": ("out", "restart", "repair", "force", "accept", "keep_adversarial", "config"),
        "How it runs": (*_HOW, "ray"),
        "What is shown": ("measures", "diagnose", "quiet"),
    },
    "show": {"What is shown": ("results", "format")},
    "compare": {"Runs": ("folders",), "Figures": ("metrics", "resamples", "seed"), "What is shown": ("format",)},
    "diagnose": {
        "Attack of a run": ("folder", "attack", "norm", "eps"),
        "A new attack": ("steps", "schedule", "restarts", "prepare"),
        "Model and data": ("victim", "root", "checkpoint", "tasks", "data", "limit"),
        "How it runs": ("queries", "batch_size", "device", "seed"),
        "What is shown and kept": ("format", "out", "quiet"),
    },
    "bench": {
        "What is measured": ("victim", "batch", "steps", "variants", "prepare"),
        "Tables": ("sweep", "activations", "time_to_degradation", "degradation"),
        "How it runs": ("rounds", "device"),
    },
    "reproduce": {
        "What is repeated": ("table", "data", "attacks", "steps", "protocol"),
        "Model and data": ("root", "checkpoint", "split", "limit"),
        "How it runs": ("batch_size", "device", "seed"),
        "What is kept and shown": ("out", "force", "quiet"),
    },
    "train": {
        "What is trained": ("victim", "data", "model", "root", "out"),
        "Recipe": ("epochs", "batch_size", "lr", "augment", "crop", "precision", "trunk", "limit", "seed"),
        "How it runs": ("device", "workers", "validate_every", "checkpoint_minutes", "tensorboard"),
    },
    "data prepare nyuv2": {"Folders": ("from", "to"), "How it runs": ("size", "processes", "quiet")},
    "data prepare cityscapes": {
        "Folders": ("from", "to"),
        "How it runs": ("images", "partly", "size", "processes", "quiet"),
    },
    "data render": {"What is made": ("to", "train", "val", "size", "seed"), "How it runs": ("processes", "quiet")},
    "inspect": {"What is looked at": ("model", "input"), "What is kept": ("out",)},
    "data check": {"What is checked": ("folder", "tasks"), "What is drawn": ("sheet", "samples", "no_sheet"),
                   "How it runs": ("quiet",)},
}  # fmt: skip

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "": {
        "What there is:": "list",
        "Attack a small victim, and keep what is found:": (
            "benchmark --victim digits --attacks equal worst-task --limit 64 --out results/digits"
        ),
    },
    "benchmark": {
        "Two attacks on a small victim:": (
            "benchmark --victim digits --attacks equal worst-task --limit 64 --out results/digits"
        ),
        "Radii of two norms:": "benchmark --victim rooms --attacks equal worst-task --eps 4/255 l2:1 --limit 8",
        "A model of your own:": "benchmark --victim examples/own_model.py:victim --eps 0.15 --limit 32",
        "A run again, with other steps:": (
            "benchmark --config results/digits/experiment.yaml --steps 20 --out results/digits-20"
        ),
    },
    "show": {
        "The table of a run, also while it goes on:": "show results/digits",
        "The same for a spreadsheet, with all columns:": "show results/digits --format csv",
    },
    "compare": {"What twice the steps changed:": "compare results/digits results/digits-20 --metrics"},
    "diagnose": {
        "An attack of a run:": "diagnose results/digits --attack worst-task --limit 32 --queries 50",
        "A new attack:": "diagnose --victim digits --attack minmax --eps 0.1 --limit 32 --queries 50",
    },
    "inspect": {"A tasks.yaml for a model:": "inspect net.pt2 --out tasks.yaml"},
    "bench": {"What a step costs:": "bench --victim digits --batch 4 --rounds 3 --variants minmax worst-task"},
    "reproduce": {
        "Tables I and III:": "reproduce --table I III --root nyuv2 --checkpoint mtan.pth --out results/paper",
    },
    "train": {
        "A small victim:": "train digits --epochs 1 --out digits.safetensors",
        "One of the paper's networks:": "train --data nyuv2 --root nyuv2 --model mtan --out runs/mtan",
    },
    "list": {"What there is:": "list"},
    "data": {"A stand-in for NYUv2:": "data render --to furnished --train 4 --val 2 --size 48x64"},
    "data render": {"A small stand-in for NYUv2:": "data render --to furnished --train 4 --val 2 --size 48x64"},
    "data check": {"Whether a folder is sound:": "data check furnished --samples 1"},
    "data prepare": {"From the official downloads:": "data prepare nyuv2 --from downloads --to nyuv2"},
    "data prepare nyuv2": {"From the official downloads:": "data prepare nyuv2 --from downloads --to nyuv2"},
    "data prepare cityscapes": {"In fog:": (
        "data prepare cityscapes --from downloads --to fog --images leftImg8bit_foggy_beta_0.02"
    )},
}  # fmt: skip
"""By command, what an example is for, and its words after the program's name."""

__all__ = ["COMMAND_GROUPS", "EXAMPLES", "OPTION_GROUPS", "commands", "flags", "help_text"]


@dataclass(frozen=True)
class _Option:
    """One option.

    Attributes:
        name: That of the field, or of ``arg(name=…)``.
        usage: As it is written on the command line.
        text: What it is, with its default.
    """

    name: str
    usage: str
    text: str


def commands() -> dict[str, type]:
    """All commands by their words: "benchmark", "data prepare nyuv2", …, groups of commands too; "" is the program."""
    return {"": Group, **dict(_below(COMMANDS))}


def flags(words: str) -> set[str]:
    """The options of a command, as they are written on the command line."""
    found = [name for option in _options(commands()[words]) for name in option.usage.replace(" | ", " ").split()]
    return {name for name in found if name.startswith("--")}


def help_text(arguments: Sequence[str]) -> str:
    """The help that a command line asks for.

    Args:
        arguments: After the program's name.
    """
    words, width = "", screen_width()
    for argument in arguments:
        if f"{words} {argument}".strip() not in commands():
            break
        words = f"{words} {argument}".strip()
    kind = commands()[words]
    lines = list(_program(width) if not words else _command(words, kind, width))
    if EXAMPLES.get(words):
        lines += ["", "Examples"]
    for title, example in EXAMPLES.get(words, {}).items():
        lines += [f"  {title}", f"    {PROGRAM} {example}"]
    return "\n".join(lines)


def _program(width: int) -> Iterator[str]:
    yield from wrap(f"Adversarial robustness of multi-task models. Version {__version__}.", width)
    yield from ("", f"Usage: {PROGRAM} COMMAND [options]")
    for title, names in COMMAND_GROUPS.items():
        yield from ("", title)
        yield from two_columns({name: _summary(COMMANDS[name]) for name in names})
    yield from ("", *wrap(f"{PROGRAM} COMMAND --help shows the options and examples of a command.", width))


def _command(words: str, kind: type, width: int) -> Iterator[str]:
    for number, text in enumerate(_description(kind)):
        yield from ([""] if number else [])
        yield from wrap(text, width)
    if issubclass(kind, Group):
        below = {name: _summary(one) for name, one in commands().items() if name.rpartition(" ")[0] == words}
        yield from ("", f"Usage: {PROGRAM} {words} COMMAND [options]", "", "Commands")
        yield from two_columns(below)
        return
    options = {option.name: option for option in _options(kind)}
    usages = [option.usage for option in options.values() if not option.usage.startswith("--")]
    required = [option.usage for option in options.values() if option.usage[:2] == "--" and _REQUIRED in option.text]
    yield from ("", " ".join([f"Usage: {PROGRAM} {words}", *usages, *required, "[options]"]))
    groups = dict(OPTION_GROUPS.get(words, {}))
    grouped = {name for names in groups.values() for name in names}
    groups[_OTHER] = tuple(name for name in options if name not in grouped)
    options["help"] = _Option("help", "--help", "Show this.")
    groups[_OTHER] += ("help",)
    for title, names in groups.items():
        yield from ("", title)
        yield from two_columns({options[name].usage: options[name].text for name in names})


_REQUIRED = "Required."


def _options(kind: Any) -> Iterator[_Option]:
    """The options of a dataclass, those of dataclasses in it too."""
    if issubclass(kind, Group):
        return
    hints, texts = get_type_hints(kind, include_extras=True), _documented(kind)
    for field in fields(kind):
        hint, notes = _bare(hints[field.name])
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _options(hint)
            continue
        name = next((one.name for one in notes if getattr(one, "name", None)), field.name)
        text = next((one.help for one in notes if getattr(one, "help", None)), texts.get(field.name, ""))
        metavar = next((one.metavar for one in notes if getattr(one, "metavar", None)), None) or _metavar(hint)
        flag = f"--{name.replace('_', '-')}"
        if any(note in get_args(Positional[int])[1:] for note in notes):
            required = field.default is MISSING
            usage = metavar if required or metavar.startswith("[") else f"[{metavar}]"
        elif hint is bool:
            usage, required = (f"{flag} | --no-{flag[2:]}" if field.default else flag), False
        else:
            usage, required = f"{flag} {metavar}", field.default is MISSING
        default = _REQUIRED if required else _default(field.default)
        yield _Option(name, usage, " ".join(filter(None, [re.sub(r"\bNone( given)?: ", "Default: ", text), default])))


def _bare(hint: Any) -> tuple[Any, list[Any]]:
    """A type without ``Annotated`` and ``| None``, and what was annotated."""
    notes: list[Any] = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        notes += more
    if get_origin(hint) in (Union, types.UnionType):
        parts = [one for one in get_args(hint) if one is not types.NoneType]
        hint = parts[0] if len(parts) == 1 else Union[tuple(parts)]  # noqa: UP007, made of values
    return hint, notes


def _metavar(hint: Any) -> str:
    if hint in METAVARS:
        return METAVARS[hint]
    if get_origin(hint) is Annotated:
        return _metavar(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"{_metavar(get_args(hint)[0])} ..."
    if get_origin(hint) is Union:
        return "|".join(map(_metavar, get_args(hint)))
    return "VALUE"


def _default(value: Any) -> str:
    """A default, as a sentence; of an option that may be left out its own text says what happens then."""
    if value is None or value is False or value == ():
        return ""
    shown = {True: "yes"}.get(value) if isinstance(value, bool) else None
    if isinstance(value, tuple):
        shown = ("x" if all(isinstance(one, int) for one in value) else " ").join(map(str, value))
    return f"Default: {shown or value}."


def _documented(kind: type) -> dict[str, str]:
    """What docstrings say of the fields of a dataclass, those of its bases too."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= {name: " ".join(text.split()) for name, text in ENTRY.findall(base.__doc__ or "")}
    return found


def _description(kind: type) -> list[str]:
    """The paragraphs of a docstring before its attributes."""
    text = (kind.__doc__ or "").partition("Attributes:")[0]
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]


def _summary(kind: type) -> str:
    return _description(kind)[0]


def _below(named: Mapping[str, type], before: str = "") -> Iterator[tuple[str, type]]:
    for name, kind in named.items():
        yield f"{before}{name}", kind
        if issubclass(kind, Group):
            hint = get_type_hints(kind, include_extras=True)["command"]
            inner = {notes[0].name: one for one, notes in map(_bare, get_args(hint))}
            yield from _below(inner, f"{before}{name} ")
