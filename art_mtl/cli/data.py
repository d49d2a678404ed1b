"""``art-mtl data``: prepare the paper's data, check a folder of it, render a stand-in."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_mtl.cli.common import add_command, console, count, say, seed

if TYPE_CHECKING:
    import rich.table

    from art_mtl.data.check import Check, SplitCheck, TaskCheck
    from art_mtl.data.prepare import Prepared

_Progress = Callable[[int, int], None]
_SIZE = re.compile(r"([1-9][0-9]*)[x×]([1-9][0-9]*)")
_RESUMABLE = "interrupted; what is finished stays, and the same command goes on from there."


def add(commands: Any) -> None:
    """Make the commands known."""
    data = add_command(commands, "data", help="prepare, check and render data").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    prepare = add_command(data, "prepare", help="from the official downloads to the folders that training reads")
    sets = prepare.add_subparsers(title="data sets", required=True, metavar="DATA")
    _add_nyuv2(sets)
    _add_cityscapes(sets)
    _add_check(data)
    _add_render(data)


def _add_nyuv2(sets: Any) -> None:
    command = add_command(
        sets,
        "nyuv2",
        help="NYUv2",
        description="Needs nyu_depth_v2_labeled.mat, splits.mat, classMapping40.mat and class13Mapping.mat; what is "
        "missing is listed with where it is published. Normals are computed from depth.",
    )
    _add_source(command)
    _add_making(command, "288x384")
    command.set_defaults(run=_prepare_nyuv2)


def _add_cityscapes(sets: Any) -> None:
    command = add_command(
        sets,
        "cityscapes",
        help="Cityscapes",
        description="Needs leftImg8bit, gtFine, disparity and gtFinePanopticParts, unpacked; what is missing is "
        "listed with where it is published.",
    )
    _add_source(command)
    _add_making(command, "256x512")
    command.add_argument(
        "--images", default="leftImg8bit", metavar="NAME",
        help="which pictures, such as leftImg8bit_foggy_beta_0.02; default: %(default)s",
    )  # fmt: skip
    command.add_argument("--partly", action="store_true", help="leave out frames of which a file is missing")
    command.set_defaults(run=_prepare_cityscapes)


def _add_check(data: Any) -> None:
    command = add_command(
        data,
        "check",
        help="verify a folder and draw a contact sheet",
        description="Reads every sample, compares sizes and checksums with MANIFEST.json, draws some samples with all "
        "their labels.",
    )
    command.add_argument("folder", type=Path, metavar="DIR")
    command.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="the contact sheet; default: contact-sheet-DIR.png, here"
    )
    command.add_argument("--samples", type=count, default=6, help="of each split on the sheet; default: %(default)s")
    command.add_argument("--no-sheet", action="store_true", help="draw none")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_check)


def _add_render(data: Any) -> None:
    command = add_command(
        data,
        "render",
        help="rendered rooms in the layout of NYUv2, as a stand-in",
        description="Furnished rooms with exact labels, for trials and timing where NYUv2 is not at hand.",
    )
    _add_making(command, "288x384")
    command.add_argument("--train", type=count, default=795, help="training samples; default: %(default)s")
    command.add_argument("--val", type=count, default=654, help="validation samples; default: %(default)s")
    command.add_argument("--seed", type=seed, default=0, help="default: %(default)s")
    command.set_defaults(run=_render)


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from", dest="source", type=Path, required=True, metavar="DIR", help="folder of the downloads"
    )


def _add_making(command: argparse.ArgumentParser, size: str) -> None:
    add = command.add_argument
    add("--to", dest="target", type=Path, required=True, metavar="DIR", help="folder to make, or to go on with")
    add("--size", type=_size, default=_size(size), metavar="HxW", help=f"height and width; default: {size}")
    add("--processes", type=count, metavar="N", help="at a time; default: all CPUs")
    add("--quiet", action="store_true", help="no progress bar")


def _size(text: str) -> tuple[int, int]:
    """An argument such as 288x384."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected height and width, such as 288x384; found {text!r}")
    return int(match[1]), int(match[2])


def _prepare_nyuv2(options: argparse.Namespace) -> None:
    from art_mtl.data.prepare import prepare_nyuv2

    with _resumable(), _bar("nyuv2", options.quiet) as progress:
        made = prepare_nyuv2(options.source, options.target, size=options.size, processes=options.processes,
                             progress=progress)  # fmt: skip
    _print_summary(made)


def _prepare_cityscapes(options: argparse.Namespace) -> None:
    from art_mtl.data.prepare import prepare_cityscapes

    with _resumable(), _bar("cityscapes", options.quiet) as progress:
        made = prepare_cityscapes(
            options.source,
            options.target,
            size=options.size,
            images=options.images,
            partly=options.partly,
            processes=options.processes,
            progress=progress,
        )
    _print_summary(made)


def _render(options: argparse.Namespace) -> None:
    from art_mtl.data.prepare import render_rooms

    with _resumable(), _bar("rooms", options.quiet) as progress:
        made = render_rooms(
            options.target,
            size=options.size,
            train=options.train,
            val=options.val,
            seed=options.seed,
            processes=options.processes,
            progress=progress,
        )
    _print_summary(made)


@contextmanager
def _resumable() -> Iterator[None]:
    """Say of Ctrl-C what it means here."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_RESUMABLE) from None


@contextmanager
def _bar(title: str, quiet: bool) -> Iterator[_Progress | None]:
    """A progress bar on standard error, or nothing."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn(), TimeElapsedColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_summary(made: Prepared) -> None:
    splits = ", ".join(f"{split} {number}" for split, number in made.manifest.counts.items())
    size = sum(entry.bytes for entry in made.manifest.files.values())
    kept = f" ({made.kept} from before, verified)" if made.kept else ""
    say(
        f"{made.folder} is complete: {splits} samples, {len(made.manifest.files)} files{kept}, {size / 1e6:,.1f} MB, "
        f"checksums verified; {made.seconds:.0f} s"
    )


def _check(options: argparse.Namespace) -> None:
    from art_mtl.data.check import check

    with _bar("check", options.quiet) as progress:
        found = check(options.folder, progress)
    screen = console()
    for title, table in _tables(found):
        screen.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
        screen.print(table)
        screen.print()
    for warning in found.warnings:
        say(f"warning: {warning}")
    if found.splits and not options.no_sheet and not found.faults:
        say(f"contact sheet: {_draw_sheet(found, options)}")
    for fault in found.faults:
        say(f"fault: {fault}")
    if found.faults:
        raise ValueError(f"{found.folder}: expected sound data. Found {len(found.faults)} faults, told above.")
    sums = "no MANIFEST.json, so no checksums" if found.manifest is None else "all checksums as in MANIFEST.json"
    say(f"{found.folder} is sound: every sample reads and holds what it should; {sums}")


def _tables(found: Check) -> Iterator[tuple[str, rich.table.Table]]:
    from rich.table import Table

    table = Table(box=None)
    for heading in ("split", "samples", "official", "size", "task", "from", "to", "not valid"):
        table.add_column(heading, justify="left" if heading in ("split", "task") else "right")
    for split, result in found.splits.items():
        for row, (name, task) in enumerate(result.tasks.items()):
            table.add_row(*(_first(split, result) if row == 0 else [""] * 4), name, *_range(task))
    yield f"{found.folder}: {_described(found)}", table
    for name, names in found.data.class_names.items():
        shares = {split: result.tasks[name].class_shares for split, result in found.splits.items()}
        table = Table(box=None)
        table.add_column("class")
        for split in shares:
            table.add_column(split, justify="right")
        for i, title in enumerate(names):
            table.add_row(title, *(f"{share[i]:.1%}" if share.size else "-" for share in shares.values()))
        yield f"{name}: share of the labelled pixels", table


def _described(found: Check) -> str:
    if found.manifest is not None and found.manifest.data == "rooms":
        return f"rendered rooms in the layout of {found.data.title}"
    return found.data.title


def _first(split: str, result: SplitCheck) -> list[str]:
    return [split, str(result.samples), str(result.official), f"{result.size[0]}x{result.size[1]}"]


def _range(task: TaskCheck) -> list[str]:
    if not task.valid:
        return ["-", "-", f"{task.invalid_share:.1%}"]
    if task.vectors:
        return ["length", f"{task.least:.3f} to {task.greatest:.3f}", f"{task.invalid_share:.1%}"]
    return [f"{task.least:.4g}", f"{task.greatest:.4g}", f"{task.invalid_share:.1%}"]


def _draw_sheet(found: Check, options: argparse.Namespace) -> Path:
    """Draw samples spread over each split; where the picture is."""
    from art_mtl.evaluation.contact import contact_figure, samples_of, styles_of
    from art_mtl.files import staged_folder

    folder = found.folder.resolve()
    path: Path = options.sheet or Path(f"contact-sheet-{folder.name}.png")
    views = []
    for split in found.splits:
        views += samples_of(found.data.open(found.folder, split), found.data.tasks(), options.samples, f"{split} ")
    figure = contact_figure(views, styles_of(found.data), f"{folder.name}: {_described(found)}")
    with staged_folder(path.parent) as stage:
        figure.savefig(stage / path.name, format="png", metadata={"Software": "art-mtl"})
    return path
