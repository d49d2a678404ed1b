"""What ``--help`` prints: options in groups, with their defaults, and examples.

It is made of the commands' dataclasses alone, in as many columns as the terminal has, and imports nothing that is slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from art_mtl.cli.commands import COMMANDS
from art_mtl.cli.console import PROGRAM, two_columns
from art_mtl.cli.declarations import commands, options, split_words
from art_mtl.cli.options import Group
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
    "show": {"What is shown": ("results", "format"), "What is kept": ("out",)},
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
        "Its report as one page to send:": "show results/digits --out digits.html",
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

__all__ = ["COMMAND_GROUPS", "EXAMPLES", "OPTION_GROUPS", "help_text"]


def help_text(arguments: Sequence[str]) -> str:
    """The help that a command line asks for.

    Args:
        arguments: After the program's name.
    """
    (words, _), width = split_words(arguments), screen_width()
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
    own = {option.name: option for option in options(kind)}
    shown = [one.usage for one in own.values() if one.is_positional]
    shown += [one.usage for one in own.values() if one.is_required and not one.is_positional]
    yield from ("", " ".join([f"Usage: {PROGRAM} {words}", *shown, "[options]"]))
    groups = dict(OPTION_GROUPS.get(words, {}))
    grouped = {name for names in groups.values() for name in names}
    rows = {name: (one.usage, one.text) for name, one in own.items()} | {"help": ("--help", "Show this.")}
    groups[_OTHER] = (*(name for name in own if name not in grouped), "help")
    for title, names in groups.items():
        yield from ("", title)
        yield from two_columns(dict(rows[name] for name in names))


def _description(kind: type) -> list[str]:
    """The paragraphs of a docstring before its attributes."""
    text = (kind.__doc__ or "").partition("Attributes:")[0]
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]


def _summary(kind: type) -> str:
    return _description(kind)[0]
