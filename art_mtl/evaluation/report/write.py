"""A report on disk: results, tables, pictures and a page that ties them together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from art_mtl.core.methods import spec_of
from art_mtl.evaluation.experiment import Experiment
from art_mtl.evaluation.report import escape
from art_mtl.evaluation.report.gallery import ShowsSamples
from art_mtl.evaluation.report.glossary import glossary
from art_mtl.evaluation.report.measure_table import make_measure_table
from art_mtl.evaluation.report.page import page_html
from art_mtl.evaluation.report.plots import degradation_figure, tasks_figure, weighted, weights_figure
from art_mtl.evaluation.report.tables import (
    describe_eps,
    fraction,
    make_table,
    to_csv,
    to_latex,
    to_markdown,
)
from art_mtl.evaluation.results import Block, Results
from art_mtl.evaluation.store import DATABASE, OWN_FILES
from art_mtl.files import staged_folder, write_text

if TYPE_CHECKING:
    from art_mtl.evaluation.diagnosis import Diagnosis
    from art_mtl.evaluation.report.figure import Figure

PAGE = "report.html"
"""Name of the page in the folder of a report."""
_TABLES = ("table.csv", "table.md", "table.tex")
_OWN_FIGURES = re.compile(r"(degradation|(example|tasks|weights)-[\w.+-]+)\.png")

__all__ = [
    "PAGE",
    "Background",
    "check_folder",
    "check_report_path",
    "origin",
    "remove_stale",
    "show",
    "write_figures",
    "write_page",
    "write_report",
]


@dataclass(frozen=True)
class Background:
    """What a report tells beside the results.

    Attributes:
        gallery: Samples to show; None for no example pictures.
        experiment: What was asked for, if that is known.
        diagnoses: Of the attacks.
        folder: Of the run, if it has one.
    """

    gallery: ShowsSamples | None = None
    experiment: Experiment | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    folder: Path | None = None


def write_page(path: str | Path, results: Results, background: Background = Background()) -> Path:
    """Write a report as one file of HTML, whole or not at all; an existing file is replaced.

    It holds its styles, its script and its pictures, so that it can be sent, and opened without a network.

    Args:
        path: Of the file; its folder is made if needed.
        results: What was found.
        background: What else there is to tell.

    Returns:
        The file.

    Raises:
        ValueError: There is a folder of that name.
        ImportError: jinja2 is missing.
        OSError: The file cannot be written, or the disk is full; what was there before stays.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"Parameter `path` should be the name of a file for the page. Found the folder {str(path)!r}.")
    write_text(path, _html(results, background))
    return path


def _html(results: Results, background: Background) -> str:
    return page_html(results, background.gallery, background.experiment, background.diagnoses, background.folder)


def write_report(folder: str | Path, results: Results, background: Background = Background()) -> list[Path]:
    """Write a report, whole or not at all.

    ``results.json`` (everything, exact), ``table.csv`` (unscaled, with a column Δ a task), ``table.md``, ``table.tex``,
    ``figures/*.png``, ``report.md`` and the page ``report.html``. Figures of an earlier report that this one lacks are
    removed.

    Args:
        folder: Where; made if needed.
        results: What was found.
        background: What else there is to tell.

    Returns:
        The files, in the folder.

    Raises:
        ImportError: jinja2 is missing.
        OSError: The folder cannot be written, or the disk is full; what was there before stays.
    """
    folder = Path(folder)
    table = make_table(results)
    with staged_folder(folder) as stage:
        figures = write_figures(stage / "figures", results, background.gallery)
        texts = {
            "table.csv": to_csv(make_table(results, deltas=True)),
            "table.md": _both_tables(results) + "\n",
            "table.tex": to_latex(table),
            PAGE: _html(results, background),
            "report.md": _page(results, _both_tables(results), figures),
            "results.json": results.to_json_text(),
        }
        for name, text in texts.items():
            (stage / name).write_text(text, encoding="utf-8", newline="\n")
        written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    remove_stale(folder / "figures", {path.name for path in written})
    return [folder / path for path in written]


def _both_tables(results: Results) -> str:
    """The table, and that of the further measures where there are any."""
    found = to_markdown(make_table(results))
    if not results.measures:
        return found
    further = make_measure_table(results)
    return f"{found}\n\n{escape.markdown(further.caption)}\n\n{to_markdown(further)}"


def check_folder(
    folder: str | Path,
    force: bool = False,
    name: str = "out",
    advice: str = "`force=True` writes there all the same",
) -> None:
    """Raise unless a run and its report may be written here: nothing there, an empty folder, an earlier run or report,
    or ``force``.

    Raises:
        ValueError: Something else is there.
    """
    folder = Path(folder)
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise ValueError(f"Parameter `{name}` should be a folder. Found a file at {str(there)!r}.")
    if force or not folder.exists() or _is_report(folder) or (folder / DATABASE).exists():
        return
    if all(path.name in OWN_FILES for path in folder.iterdir()):
        return
    raise ValueError(
        f"Parameter `{name}` should be a new or empty folder, or hold an earlier run or report. Found other files in "
        f"{str(folder)!r}; {advice}."
    )


def check_report_path(path: str | Path, own: Path | None = None, name: str = "path") -> bool:
    """Raise unless a report may be written here, as one page or into a folder.

    Args:
        path: Where.
        own: Folder of the run, if it has one.
        name: Of the parameter, for messages.

    Returns:
        Whether it is a page.

    Raises:
        ValueError: A new folder would have a name with an ending of two to five letters, as other kinds of files have;
            or something else is there.
    """
    path = Path(path)
    if path.suffix.lower() in (".html", ".htm"):
        return True
    if re.fullmatch(r"\.[A-Za-z]{2,5}", path.suffix) and not path.is_dir():
        raise ValueError(
            f"Parameter `{name}` should be a page, whose name ends in .html, or a folder. Found {str(path)!r}; make "
            "the folder first if it is to have this name."
        )
    if own is None or path.resolve() != own.resolve():
        check_folder(path, name=name, advice="choose another one, or a page: report.html")
    return False


def _is_report(folder: Path) -> bool:
    results = folder / "results.json"
    if not results.is_file():
        return False
    with results.open(encoding="utf-8", errors="replace") as file:
        return f'"format": "{Results.layout.format}"' in file.read(200)


def write_figures(folder: Path, results: Results, gallery: ShowsSamples | None) -> list[tuple[str, str]]:
    """Save every figure of a report in a new folder; names and captions, in the order of the page."""
    folder.mkdir(parents=True)
    saved = []
    for name, caption, figure in _figures(results, gallery):
        figure.savefig(folder / name, metadata={"Software": "art-mtl"})
        saved.append((name, caption))
    return saved


def _figures(results: Results, gallery: ShowsSamples | None) -> Iterator[tuple[str, str, Figure]]:
    if any(attack.norm is not None and attack.eps is not None for attack in results.attacks):
        caption = (
            "Degradation against ε, with 95 % intervals: the lower, the stronger the attack. Thick: methods of this "
            "package. Dotted: the single-task reference."
        )
        yield "degradation.png", caption, degradation_figure(results)
    for block in results.blocks():
        where = describe_eps(block.norm, block.eps, results.clip_values)
        if any(not spec_of(a.method).is_reference and a.delta_wor is not None for a in block.attacks):
            yield f"tasks-{_slug(block)}.png", f"{where}: degradation of every task.", tasks_figure(results, block)
        if gallery is not None and gallery.shows(block):
            caption = f"{where}: input, perturbation and predictions under the strongest attack."
            yield f"example-{_slug(block)}.png", caption, gallery.figure(results, block)
        if weighted(block):
            yield (
                f"weights-{_slug(block)}.png",
                f"{where}: mean task weights over the steps.",
                weights_figure(results, block),
            )


def _slug(block: Block) -> str:
    eps = "eps" if block.eps is None else fraction(block.eps)
    return re.sub(r"[^\w.+-]", "_", f"{block.norm or 'norm'}-{eps}")


def remove_stale(figures: Path, written: set[str]) -> None:
    """Remove figures of an earlier report that are not among those written now."""
    for path in figures.glob("*.png"):
        if path.name not in written and _OWN_FIGURES.fullmatch(path.name):
            path.unlink()


def _page(results: Results, table: str, figures: Sequence[tuple[str, str]]) -> str:
    lines = [
        f"# {escape.markdown(results.victim)}: degradation by multi-task attacks",
        "",
        *origin(results),
        table,
        "",
        *_legend(results),
        "",
    ]
    lines += show(figures)
    lines += [
        "Files: " + ", ".join(f"[{name}]({name})" for name in (PAGE, "results.json", *_TABLES)) + ".",
        "",
    ]
    return "\n".join(lines)


def origin(results: Results) -> list[str]:
    """Lines of a page that say by which command, when and where results were made."""
    where = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in where.packages.items())
    command = escape.plain(results.command or "")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", command)), default=0))
    shown = [f"{fence}sh", command, fence, ""] if command else []
    made = f"{results.samples} samples; {where.date}; device {where.device}; seed {where.seed}."
    return [*shown, escape.markdown(made), escape.markdown(f"Versions: {versions}."), ""]


def show(figures: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of a page that show figures of given names and captions."""
    shown = [(name, escape.markdown(caption)) for name, caption in figures]
    return [line for name, caption in shown for line in (f"![{caption}](figures/{name})", "", caption, "")]


def _legend(results: Results) -> list[str]:
    return [f"- {escape.markdown(term)}: {escape.markdown(meaning)}" for term, meaning in glossary(results)]
