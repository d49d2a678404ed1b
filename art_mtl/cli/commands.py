"""The commands by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any

from tyro.conf import subcommand

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
