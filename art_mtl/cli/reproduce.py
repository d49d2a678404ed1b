"""``art-mtl reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from art_mtl.cli.console import NOTHING_KEPT, say_written, show_table
from art_mtl.cli.options import Device, Limit, Protocol, Seed, Steps, WritingCommand

if TYPE_CHECKING:
    from art_mtl.evaluation.reproduction.paper_tables import PaperTable

_TABLES = ("I", "II", "III", "IV")


@dataclass(frozen=True, kw_only=True)
class Reproduce(WritingCommand):
    """Run the paper's Tables I to IV again and print measured beside printed figures.

    Tables I and III (NYUv2), II and IV (Cityscapes) of Guo et al. (ICASSP 2025).

    Attributes:
        table: Which tables.
        data: Only the tables of this data set.
        root: Folder of the data; for tables of both data sets nyuv2=DIR cityscapes=DIR.
        checkpoint: Weights of MTAN or Split; for tables of both data sets nyuv2=FILE cityscapes=FILE.
        attacks: Names that `art-mtl list` shows. None given: the paper's rows in the authors' form, minmax, worst-task.
        split: Which data.
        batch_size: Samples at a time; 4 is the paper's.
    """

    table: tuple[Literal["I", "II", "III", "IV", "all"], ...]
    data: Literal["nyuv2", "cityscapes"] | None = None
    root: tuple[str, ...]
    checkpoint: tuple[str, ...]
    protocol: Protocol = "auto-lambda"
    attacks: tuple[str, ...] = ()
    limit: Limit = None
    split: Literal["val", "train"] = "val"
    batch_size: int = 4
    steps: Steps = 10
    seed: Seed = 0
    device: Device = "auto"

    def run(self, command_line: str) -> None:
        """Run the tables one by one; each is printed and written as soon as it is there."""
        from art_mtl.evaluation.grid import check_device, plan_grid
        from art_mtl.evaluation.reproduction.paper_tables import REPRODUCED, paper_tables

        check_device(self.device)
        tables = _chosen([paper_tables()[name] for name in _TABLES], self)
        names = list(dict.fromkeys(table.data.name for table in tables))
        roots = _by_data("root", self.root, names)
        checkpoints = _by_data("checkpoint", self.checkpoint, names)
        for name in names:
            _check_data(name, roots[name], checkpoints[name], self.split)
        for table in tables:
            plan_grid(table.data.tasks(), self.attacks or REPRODUCED, {table.norm: table.eps})
            _check_out(table, self)
        written: list[str] = []
        try:
            for name in names:
                own = [table for table in tables if table.data.name == name]
                _run(name, roots[name], checkpoints[name], own, self, command_line, written)
        except KeyboardInterrupt:
            if not written:
                raise
            raise KeyboardInterrupt(f"interrupted; written before: {', '.join(written)}.") from None


def _chosen(tables: Sequence[PaperTable], options: Reproduce) -> list[PaperTable]:
    asked = [table for table in tables if "all" in options.table or table.name in options.table]
    chosen = [table for table in asked if options.data in (None, table.data.name)]
    if not chosen:
        own, found = [table.name for table in tables if table.data.name == options.data], " ".join(options.table)
        raise ValueError(
            f"Parameter `table` should be {' or '.join(own)}, the tables of {options.data}. Found {found}."
        )
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
        raise ValueError(f"Parameter `{argument}` should be {expected}{plain}. Found {' '.join(given)}.")
    return found


def _check_data(name: str, root: Path, checkpoint: Path, split: str) -> None:
    """Raise unless the data can be opened and the checkpoint is there."""
    from art_mtl.data.paper import PAPER_DATA

    PAPER_DATA[name].open(root, split)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"Parameter `checkpoint` should be a file of weights. Found none at {checkpoint}.")


def _check_out(table: PaperTable, options: Reproduce) -> None:
    from art_mtl.evaluation.report.write import check_folder

    if options.out is not None:
        check_folder(_folder(table, options.out), options.force)


def _folder(table: PaperTable, out: Path) -> Path:
    return out / f"table-{table.name}"


def _run(
    name: str,
    root: Path,
    checkpoint: Path,
    tables: Sequence[PaperTable],
    options: Reproduce,
    command_line: str,
    written: list[str],
) -> None:
    """The tables of one data set, each printed and written as soon as it is there; ``written`` gets their folders."""
    from art_mtl.evaluation import load_victim
    from art_mtl.evaluation.report.gallery import gallery_of
    from art_mtl.evaluation.reproduction.comparison_table import comparison_table, write_comparison
    from art_mtl.evaluation.reproduction.paper_tables import REPRODUCED, reproduce
    from art_mtl.evaluation.run_time import RunTime

    victim = load_victim(name, root=root, checkpoint=checkpoint)
    for table in tables:
        gallery = None
        if options.out is not None:
            gallery = gallery_of(victim, options.limit, options.device, options.split)
        results = reproduce(
            table.name,
            victim,
            options.attacks or REPRODUCED,
            protocol=options.protocol,
            split=options.split,
            limit=options.limit,
            batch_size=options.batch_size,
            steps=options.steps,
            seed=options.seed,
            device=options.device,
            command=command_line,
            progress=not options.quiet,
            callbacks=[
                *([] if gallery is None else [gallery]),
                *([] if options.quiet else [RunTime("" if options.out else NOTHING_KEPT)]),
            ],
        )
        folder = None if options.out is None else _folder(table, options.out)
        if folder is not None:
            files = write_comparison(folder, results, table, gallery)
            written.append(str(folder))
        show_table(comparison_table(results, table), "terminal")
        if folder is not None:
            say_written(files, "comparison.md")
