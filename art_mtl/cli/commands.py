"""The commands by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tyro.conf import Positional, subcommand

from art_mtl.cli.bench import Bench
from art_mtl.cli.benchmark import Benchmark
from art_mtl.cli.compare import Compare
from art_mtl.cli.data import Data
from art_mtl.cli.diagnose import Diagnose
from art_mtl.cli.inspect import Inspect
from art_mtl.cli.listing import List
from art_mtl.cli.reproduce import Reproduce
from art_mtl.cli.show import Show
from art_mtl.cli.train import Train
from art_mtl.evaluation.experiment import Experiment

COMMANDS: Mapping[str, type] = {
    "benchmark": Benchmark,
    "show": Show,
    "compare": Compare,
    "diagnose": Diagnose,
    "inspect": Inspect,
    "bench": Bench,
    "reproduce": Reproduce,
    "data": Data,
    "train": Train,
    "list": List,
}


_POSITIONAL = get_args(Positional[int])[1]


def option_names(kind: Any) -> dict[str, str]:
    """The parameters of a command, or of all commands of a group, as options: ``{"batch_size": "--batch-size", …}``."""
    if not is_dataclass(kind):  # a union of commands, each with an annotation
        parts = get_args(kind)[:1] if get_origin(kind) is Annotated else get_args(kind)
        return {name: option for part in parts for name, option in option_names(part).items()}
    names: dict[str, str] = {}
    hints = get_type_hints(kind, include_extras=True)
    for name in (field.name for field in fields(kind)):
        hint = hints[name]
        told = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        inner = get_args(hint)[0] if told else hint
        if is_dataclass(inner) or name == "command":
            names |= option_names(hint if name == "command" else inner)
        elif _POSITIONAL not in told:
            own = next((one.name for one in told if getattr(one, "name", None)), name)
            names[name] = f"--{own.replace('_', '-')}"
    return names


def union_of_commands(experiment: Experiment | None = None) -> Any:
    """All commands as ``tyro`` reads them.

    Args:
        experiment: Has the defaults of ``benchmark``; None for those of the class.
    """
    defaults: dict[str, Any] = {}
    if experiment is not None:
        defaults["benchmark"] = {"default": Benchmark(experiment=experiment)}
    read = [Annotated[kind, subcommand(name, **defaults.get(name, {}))] for name, kind in COMMANDS.items()]
    return reduce(or_, read)
