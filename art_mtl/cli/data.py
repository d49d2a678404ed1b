"""``art-mtl data``: prepare the paper's data, check a folder of it, render a stand-in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from tyro.conf import Positional, arg, subcommand

from art_mtl.cli.console import console, say
from art_mtl.cli.options import Flag, Group, Maybe, QuietCommand, Seed, Size

if TYPE_CHECKING:
    import rich.table

    from art_mtl.data import TableDataset
    from art_mtl.data.check import Check, SplitCheck, TaskCheck
    from art_mtl.data.prepare import Prepared
    from art_mtl.evaluation.report.figure import Figure
    from art_mtl.zoo.task_file import TaskFile

_Progress = Callable[[int, int], None]
_RESUMABLE = "interrupted; what is finished stays, and the same command goes on from there."


@dataclass(frozen=True, kw_only=True)
class _Making(QuietCommand):
    """A command that makes a folder of data.

    Attributes:
        target: Folder to make, or to go on with.
        size: Height and width.
        processes: Processes at a time. Default: all CPUs.
    """

    title: ClassVar[str]
    """Of the progress bar."""

    target: Annotated[Path, arg(name="to", metavar="DIR")]
    size: Size = (288, 384)
    processes: Maybe[int] = None

    @abstractmethod
    def make(self, **told: Any) -> Prepared:
        """Make the folder, told its ``size``, ``processes`` and ``progress``."""

    def run(self, command_line: str) -> None:
        """Make the folder, and say what is in it."""
        with _resumable(), _bar(self.title, self.quiet) as progress:
            made = self.make(size=self.size, processes=self.processes, progress=progress)
        _print_summary(made)


@dataclass(frozen=True, kw_only=True)
class _Preparing(_Making):
    """A command that reads downloads.

    Attributes:
        source: Folder of the downloads.
    """

    source: Annotated[Path, arg(name="from", metavar="DIR")]


@dataclass(frozen=True, kw_only=True)
class PrepareNYUv2(_Preparing):
    """Prepare NYUv2.

    Needs nyu_depth_v2_labeled.mat, splits.mat, classMapping40.mat and class13Mapping.mat; what is missing is listed
    with where it is published. Normals are computed from depth.
    """

    title: ClassVar[str] = "nyuv2"

    def make(self, **told: Any) -> Prepared:
        """Prepare the downloads."""
        from art_mtl.data.prepare import prepare_nyuv2

        return prepare_nyuv2(self.source, self.target, **told)


@dataclass(frozen=True, kw_only=True)
class PrepareCityscapes(_Preparing):
    """Prepare Cityscapes.

    Needs leftImg8bit, gtFine, disparity and gtFinePanopticParts, unpacked; what is missing is listed with where it is
    published.

    Attributes:
        images: Which pictures, such as leftImg8bit_foggy_beta_0.02.
        partly: Leave out frames of which a file is missing.
    """

    title: ClassVar[str] = "cityscapes"

    size: Size = (256, 512)
    images: str = "leftImg8bit"
    partly: Flag = False

    def make(self, **told: Any) -> Prepared:
        """Prepare the downloads."""
        from art_mtl.data.prepare import prepare_cityscapes

        return prepare_cityscapes(self.source, self.target, images=self.images, partly=self.partly, **told)


@dataclass(frozen=True, kw_only=True)
class Render(_Making):
    """Render rooms in the layout of NYUv2, as a stand-in.

    Furnished rooms with exact labels, for trials and timing where NYUv2 is not at hand.

    Attributes:
        train: Training samples.
        val: Validation samples.
    """

    title: ClassVar[str] = "rooms"

    train: int = 795
    val: int = 654
    seed: Seed = 0

    def make(self, **told: Any) -> Prepared:
        """Render the rooms."""
        from art_mtl.data.prepare import render_rooms

        return render_rooms(self.target, train=self.train, val=self.val, seed=self.seed, **told)


@dataclass(frozen=True, kw_only=True)
class CheckData(QuietCommand):
    """Verify a folder, or a table of labels, and draw a contact sheet.

    Reads every sample, compares sizes and checksums with MANIFEST.json, draws some samples with all their labels.

    Attributes:
        folder: The folder to check, or a table of labels, a CSV file.
        tasks: The tasks.yaml that says what the columns of a table are.
        sheet: Picture to draw. Default: contact-sheet-DIR.png, here.
        samples: Samples of each split on the sheet.
        no_sheet: Draw none.
    """

    folder: Annotated[Positional[Path], arg(metavar="DIR|LABELS.csv")]
    tasks: Path | None = None
    sheet: Maybe[Path] = None
    samples: int = 6
    no_sheet: Flag = False

    def run(self, command_line: str) -> None:
        """Print what was found; draw the sheet where nothing is wrong."""
        if self.folder.is_file() or (self.tasks is not None and not self.folder.exists()):
            self._check_table()
            return
        if self.tasks is not None:
            raise ValueError(f"Parameter `tasks` should be left out for a folder. Found {str(self.tasks)!r}.")
        from art_mtl.data.check import check

        with _bar("check", self.quiet) as progress:
            found = check(self.folder, progress)
        drawn = found.splits and not self.no_sheet and not found.faults
        sheet = _draw_sheet(found, self) if drawn else None
        screen = console()
        for title, table in _tables(found):
            screen.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
            screen.print(table)
            screen.print()
        for warning in found.warnings:
            say(f"warning: {warning}")
        if sheet is not None:
            say(f"contact sheet: {sheet}")
        for fault in found.faults:
            say(f"fault: {fault}")
        if found.faults:
            raise ValueError(f"{found.folder}: expected sound data. Found {len(found.faults)} faults, told above.")
        sums = "no MANIFEST.json, so no checksums" if found.manifest is None else "all checksums as in MANIFEST.json"
        say(f"{found.folder} is sound: every sample reads and holds what it should; {sums}")

    def _check_table(self) -> None:
        """The same for a table of labels; its bad rows are an error, with their lines."""
        from rich.table import Table

        from art_mtl.zoo.file_victims import open_table
        from art_mtl.zoo.task_file import read_task_file

        if self.tasks is None:
            raise ValueError(f"Parameter `tasks` should be the tasks.yaml of {self.folder}. Found None.")
        spec = read_task_file(self.tasks)
        found = open_table(self.folder, spec)
        shown = Table(box=None)
        for heading in ("task", "kind", "labels", "of"):
            shown.add_column(heading, justify="left" if heading in ("task", "kind") else "right")
        missing = dict.fromkeys((task.name for task in spec.tasks), 0)
        for i in range(len(found)):
            for name, label in found[i][1].items():
                missing[name] += label is None
        for task in spec.tasks:
            shown.add_row(task.name, task.kind, str(len(found) - missing[task.name]), str(len(found)))
        path = None if self.no_sheet or not isinstance(found.images, str) else _draw_table(found, spec, self)
        console().print(shown)
        if path is not None:
            say(f"contact sheet: {path}")
        say(f"{self.folder} is sound: {len(found)} rows read and hold what they should")


@dataclass(frozen=True, kw_only=True)
class Prepare(Group):
    """Turn the official downloads into the folders that training reads."""

    command: Annotated[PrepareNYUv2, subcommand("nyuv2")] | Annotated[PrepareCityscapes, subcommand("cityscapes")]


@dataclass(frozen=True, kw_only=True)
class Data(Group):
    """Prepare, check and render data."""

    command: (
        Annotated[Prepare, subcommand("prepare")]
        | Annotated[CheckData, subcommand("check")]
        | Annotated[Render, subcommand("render")]
    )


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


def _draw_sheet(found: Check, options: CheckData) -> Path:
    """Draw samples spread over each split; where the picture is."""
    from art_mtl.evaluation.report.contact import contact_figure, samples_of, styles_of

    folder = found.folder.resolve()
    path: Path = options.sheet or Path(f"contact-sheet-{folder.name}.png")
    views = []
    for split in found.splits:
        views += samples_of(found.data.open(found.folder, split), found.data.tasks(), options.samples, f"{split} ")
    figure = contact_figure(views, styles_of(found.data), f"{folder.name}: {_described(found)}")
    return _saved(figure, path)


def _draw_table(found: TableDataset, spec: TaskFile, options: CheckData) -> Path | None:
    """Draw samples of a table; where the picture is, None where no row has every label."""
    from art_mtl.evaluation.report.contact import contact_figure, samples_of
    from art_mtl.evaluation.report.drawn_samples import TaskStyle

    views = samples_of(found, spec.tasks, options.samples, "row ", spec.input.range)
    if not views:
        return None
    styles = [TaskStyle(task, class_names=tuple(spec.class_names.get(task.name, ()))) for task in spec.tasks]
    path = options.sheet or Path(f"contact-sheet-{options.folder.stem}.png")
    return _saved(contact_figure(views, styles, options.folder.name), path)


def _saved(figure: Figure, path: Path) -> Path:
    """Write a picture; where it is."""
    from art_mtl.files import staged_folder

    with staged_folder(path.parent) as stage:
        figure.savefig(stage / path.name, format="png", metadata={"Software": "art-mtl"})
    return path
