"""``art-mtl reproduce``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.cli.common import PROGRAM, add_command, console, count, say, seed

if TYPE_CHECKING:
    from art_mtl.evaluation.paper import PaperTable

_TABLES = ("I", "II", "III", "IV")
_DATA = ("nyuv2", "cityscapes")


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "reproduce",
        help="run the paper's Tables I to IV again and print measured beside printed figures",
        description="Run Tables I and III (NYUv2), II and IV (Cityscapes) of Guo et al. (ICASSP 2025) again.",
    )
    add = command.add_argument
    add("--table", nargs="+", choices=(*_TABLES, "all"), required=True, metavar="TABLE", help="I, II, III, IV or all")
    add("--data", choices=_DATA, help="only the tables of this data set; default: the data of the tables")
    add("--root", nargs="+", required=True, metavar="DIR",
        help="folder of the data; for tables of both data sets nyuv2=DIR cityscapes=DIR")  # fmt: skip
    add("--checkpoint", nargs="+", required=True, metavar="FILE",
        help="weights of MTAN or Split; for tables of both data sets nyuv2=FILE cityscapes=FILE")  # fmt: skip
    add("--protocol", choices=("auto-lambda", "pooled"), default="auto-lambda",
        help="how errors are averaged; default: %(default)s, the paper's")  # fmt: skip
    add("--methods", nargs="+", metavar="NAME",
        help=f"of '{PROGRAM} list'; default: the paper's rows in the authors' form, minmax, worst-task")  # fmt: skip
    add("--limit", type=count, help="first samples, for a trial; default: all")
    add("--split", choices=("val", "train"), default="val", help="default: %(default)s")
    add("--batch-size", type=count, default=4, help="default: %(default)s, the paper's")
    add("--steps", type=count, default=10, help="default: %(default)s, the paper's")
    add("--seed", type=seed, default=0, help="default: %(default)s")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    add("--out", type=Path, metavar="DIR", help="write here, a folder a table: Markdown, CSV, LaTeX, JSON, pictures")
    add("--force", action="store_true", help="write to --out even if it holds other files")
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> None:
    from art_mtl.evaluation.grid import check_device, plan_grid
    from art_mtl.evaluation.paper import REPRODUCED, paper_tables

    check_device(options.device)
    tables = _chosen([paper_tables()[name] for name in _TABLES], options)
    names = list(dict.fromkeys(table.data.name for table in tables))
    roots = _by_data("--root", options.root, names)
    checkpoints = _by_data("--checkpoint", options.checkpoint, names)
    for name in names:
        _check_data(name, roots[name], checkpoints[name], options.split)
    for table in tables:
        plan_grid(table.data.tasks(), options.methods or REPRODUCED, {table.norm: table.eps})
        _check_out(table, options)
    written: list[str] = []
    try:
        for name in names:
            own = [table for table in tables if table.data.name == name]
            _run(name, roots[name], checkpoints[name], own, options, written)
    except KeyboardInterrupt:
        if not written:
            raise
        raise KeyboardInterrupt(f"interrupted; written before: {', '.join(written)}.") from None


def _chosen(tables: Sequence[PaperTable], options: argparse.Namespace) -> list[PaperTable]:
    asked = [table for table in tables if "all" in options.table or table.name in options.table]
    chosen = [table for table in asked if options.data in (None, table.data.name)]
    if not chosen:
        own, found = [table.name for table in tables if table.data.name == options.data], " ".join(options.table)
        raise ValueError(f"argument --table: expected {' or '.join(own)}, the tables of {options.data}; found {found}")
    return chosen


def _by_data(argument: str, given: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """A path for each data set, from "PATH" or from "NAME=PATH" for each."""
    if len(given) == len(names) == 1 and not given[0].startswith(f"{names[0]}="):
        return {names[0]: Path(given[0])}
    pairs = [text.partition("=") for text in given]
    found = {name: Path(path) for name, equals, path in pairs if equals and path}
    if sorted(found) != sorted(names) or len(found) < len(given):
        plain = " or one path" if len(names) == 1 else ""
        expected = " ".join(f"{name}=PATH" for name in names)
        raise ValueError(f"argument {argument}: expected {expected}{plain}; found {' '.join(given)}")
    return found


def _check_data(name: str, root: Path, checkpoint: Path, split: str) -> None:
    """Raise unless the data can be opened and the checkpoint is there."""
    from art_mtl.data.paper import PAPER_DATA

    PAPER_DATA[name].open(root, split)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"argument --checkpoint: expected a file of weights at {checkpoint}; found none")


def _check_out(table: PaperTable, options: argparse.Namespace) -> None:
    from art_mtl.evaluation.report import check_folder

    if options.out is not None:
        check_folder(_folder(table, options), options.force)


def _folder(table: PaperTable, options: argparse.Namespace) -> Path:
    folder: Path = options.out / f"table-{table.name}"
    return folder


def _run(
    name: str,
    root: Path,
    checkpoint: Path,
    tables: Sequence[PaperTable],
    options: argparse.Namespace,
    written: list[str],
) -> None:
    """The tables of one data set, each printed and written as soon as it is there; ``written`` gets their folders."""
    from art_mtl.evaluation import load_victim, to_rich
    from art_mtl.evaluation.comparison import comparison_table, write_comparison
    from art_mtl.evaluation.paper import REPRODUCED, reproduce
    from art_mtl.evaluation.report import gallery_of

    victim = load_victim(name, root=root, checkpoint=checkpoint)
    for table in tables:
        gallery = None
        if options.out is not None:
            gallery = gallery_of(victim, options.limit, options.device, options.split)
        results = reproduce(
            table.name,
            victim,
            options.methods or REPRODUCED,
            protocol=options.protocol,
            split=options.split,
            limit=options.limit,
            batch_size=options.batch_size,
            steps=options.steps,
            seed=options.seed,
            device=options.device,
            command=options.command_line,
            progress=not options.quiet,
            listener=gallery,
        )
        console().print(to_rich(comparison_table(results, table)))
        if options.out is not None:
            folder = _folder(table, options)
            files = len(write_comparison(folder, results, table, gallery))
            written.append(str(folder))
            say(f"{files} files in {folder}; start with {folder / 'comparison.md'}")
