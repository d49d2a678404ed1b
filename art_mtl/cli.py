"""The command ``art-mtl``: benchmark a victim, print results again, train the victims, list what there is."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from art_mtl.version import __version__

# What is slow to import (ART, matplotlib, scikit-learn) is imported where it is used.
if TYPE_CHECKING:
    from rich.console import Console

    from art_mtl.evaluation import Gallery, Victim

PROGRAM = "art-mtl"
_NORMS = ("linf", "l2", "l1")
_FORMATS = ("terminal", "csv", "markdown", "latex")
_TRAINABLE = ("rooms", "digits", "nyuv2")
_TASK_KINDS = (
    "segmentation", "classification", "multilabel", "depth", "disparity", "surface_normals", "regression", "custom",
)  # fmt: skip
_NARROWEST = 150
_USER_ERRORS = (ValueError, TypeError, OSError, ImportError)

__all__ = ["main", "parse_eps", "parse_radii"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        0; 2 for what the user got wrong, told in one line; 130 if interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    options.command_line = shlex.join([PROGRAM, *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = _show_warning
        try:
            options.run(options)
        except KeyboardInterrupt:
            _say("interrupted; nothing was written.")
            return 130
        except _USER_ERRORS as error:
            if options.debug:
                raise
            _say(f"error: {_one_line(error)}")
            return 2
    return 0


def parse_eps(text: str) -> tuple[str | None, float]:
    """A radius, with its norm if it carries one.

    Args:
        text: "8/255", "0.05", "l2:1.0" or "linf:4/255".

    Raises:
        ValueError: Anything else.

    Examples:
        >>> parse_eps("l2:1.5"), parse_eps("51/255")
        (('l2', 1.5), (None, 0.2))
    """
    norm, colon, number = text.rpartition(":")
    match = re.fullmatch(r"\s*([^/\s]+)\s*(?:/\s*([^/\s]+)\s*)?", number)
    try:
        if match is None or (colon and norm not in _NORMS):
            raise ValueError
        value = float(match[1]) / (1.0 if match[2] is None else float(match[2]))
        if not 0 < value < float("inf"):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            f"expected a positive radius such as 8/255 or 0.05, or one with its norm such as l2:1.0; found {text!r}"
        ) from None
    return norm or None, value


def parse_radii(
    eps: Sequence[tuple[str | None, float]], norms: Sequence[str] | None
) -> dict[str, tuple[float, ...]] | None:
    """Radii by norm: those that carry a norm go to it, plain ones to every norm that is asked for.

    Args:
        eps: From :func:`parse_eps`.
        norms: Asked for; None for those that radii carry, plain ones then being of L∞.

    Returns:
        None where no radius is given.

    Raises:
        ValueError: A radius carries a norm that was not asked for.

    Examples:
        >>> parse_radii([("l2", 1.0), (None, 0.1)], None)
        {'l2': (1.0,), 'linf': (0.1,)}
    """
    if not eps:
        return None
    carried = [norm for norm, _ in eps if norm is not None]
    plain = ["linf"] if len(carried) < len(eps) else []
    chosen = list(dict.fromkeys(norms or [*carried, *plain]))
    for norm in carried:
        if norm not in chosen:
            raise ValueError(f"argument --eps: expected radii of the norms asked for, {chosen}; found one of {norm!r}")
    open_to_all = norms or plain
    return {
        norm: tuple(value for own, value in eps if own == norm or (own is None and norm in open_to_all))
        for norm in chosen
    }


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, no usage."""
        _say(f"error: {message} (see {self.prog} --help)")
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=PROGRAM, description="Adversarial robustness of multi-task models.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_benchmark(commands)
    show = _add_command(commands, "show", help="print the table of results again")
    show.add_argument("results", metavar="RESULTS.json", type=Path)
    show.add_argument("--format", choices=_FORMATS, default="terminal", help="default: %(default)s")
    show.set_defaults(run=_show)
    _add_train(commands)
    _add_command(commands, "list", help="methods, tasks and victims").set_defaults(run=_list)
    return parser


def _add_command(commands: Any, name: str, **texts: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, **texts)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command


def _add_benchmark(commands: Any) -> None:
    command = _add_command(
        commands,
        "benchmark",
        help="attack a victim with every method and compare the damage",
        description="Attack a victim with a grid of methods, norms and radii (in the scale of the model's input).",
    )
    add = command.add_argument
    add("--victim", default="rooms", help="rooms, digits, nyuv2 or PATH.py:function; default: %(default)s")
    add(
        "--methods", nargs="+", default=["all"], metavar="NAME", help=f"names that '{PROGRAM} list' shows; default: all"
    )
    add("--norm", nargs="+", choices=_NORMS, metavar="NORM", help="of linf, l2, l1; default: the victim's")
    add("--eps", nargs="+", type=_eps_argument, default=[], metavar="EPS",
        help="such as 2/255 4/255, for every --norm, or l2:1.0 linf:4/255; default: the victim's")  # fmt: skip
    add("--steps", type=_count, default=10, help="default: %(default)s")
    add("--schedule", nargs="+", choices=("published", "linear", "cosine"), default=["published"],
        help="steps of the rivals, a row each; worst-task and single:* have their own; default: published")  # fmt: skip
    add("--limit", type=_count, help="first samples of the test data; default: all")
    add("--batch-size", type=_count, default=32, help="default: %(default)s")
    add("--seed", type=_seed, default=0, help="default: %(default)s")
    add("--root", type=Path, help="folder of the victim's data (nyuv2)")
    add("--checkpoint", type=Path, help="weights of the victim")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    add("--out", type=Path, metavar="DIR", help="write a report here: JSON, CSV, Markdown, LaTeX, pictures")
    add("--force", action="store_true", help="write to --out even if it holds other files")
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_benchmark)


def _add_train(commands: Any) -> None:
    command = _add_command(commands, "train", help="train a victim from scratch")
    add = command.add_argument
    add("victim", choices=_TRAINABLE)
    add("--out", type=Path, required=True, metavar="FILE.safetensors", help="where to write the weights")
    add("--root", type=Path, help="folder of NYUv2; nyuv2 only")
    add("--epochs", type=_count, help="default: the recipe's")
    add("--seed", type=_seed, default=0, help="default: %(default)s")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="default: %(default)s")
    command.set_defaults(run=_train)


def _benchmark(options: argparse.Namespace) -> None:
    from art_mtl.evaluation import benchmark, load_victim, make_table, to_rich, write_report
    from art_mtl.evaluation.report import check_folder

    radii = parse_radii(options.eps, options.norm)
    if options.out is not None:
        check_folder(options.out, options.force)
    victim = load_victim(options.victim, root=options.root, checkpoint=options.checkpoint)
    gallery = None if options.out is None else _gallery(victim, options)
    results = benchmark(
        victim,
        options.methods,
        norms=options.norm,
        eps=radii,
        steps=options.steps,
        schedules=options.schedule,
        limit=options.limit,
        batch_size=options.batch_size,
        seed=options.seed,
        device=options.device,
        command=options.command_line,
        progress=not options.quiet,
        listener=gallery,
    )
    _console().print(to_rich(make_table(results)))
    if options.out is not None:
        written = write_report(options.out, results, gallery)
        _say(f"{len(written)} files in {options.out}; start with {options.out / 'report.md'}")


def _gallery(victim: Victim, options: argparse.Namespace) -> Gallery | None:
    """Keeps examples of a victim whose inputs are pictures."""
    from art_mtl.evaluation import Gallery
    from art_mtl.evaluation.grid import make_estimator

    shape = victim.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3):
        return None
    names = {}
    if victim.name in ("rooms", "nyuv2"):
        from art_mtl.data import CLASSES

        names["segmentation"] = tuple(CLASSES)
    x, y = victim.data("test", options.limit)
    return Gallery(make_estimator(victim, options.device), x, y, names)


def _show(options: argparse.Namespace) -> None:
    from art_mtl.evaluation import Results, make_table, to_csv, to_latex, to_markdown, to_rich

    results = Results.from_json(options.results)
    table = make_table(results)
    if options.format == "terminal":
        _console().print(to_rich(table))
    elif options.format == "csv":
        sys.stdout.write(to_csv(make_table(results, deltas=True)))
    else:
        sys.stdout.write(to_latex(table) if options.format == "latex" else to_markdown(table) + "\n")


def _train(options: argparse.Namespace) -> None:
    from art_mtl.evaluation.training import ProgressBar, memorise, train

    if options.out.is_dir():
        raise ValueError(f"argument --out: expected a file; found the folder {str(options.out)!r}")
    settings: dict[str, Any] = {"seed": options.seed, "epochs": options.epochs}
    settings["device"] = "cuda" if options.device == "gpu" else "cpu"
    if options.victim == "nyuv2":
        if options.root is None:
            raise ValueError("argument --root: expected the folder of NYUv2 for victim nyuv2; found none")
        with ProgressBar(options.victim) as bar:
            result = memorise(options.root, options.out, progress=bar, **settings)
    else:
        if options.root is not None:
            raise ValueError(f"argument --root: expected none for victim {options.victim}; found {str(options.root)!r}")
        with ProgressBar(options.victim) as bar:
            result = train(options.victim, options.out, progress=bar, **settings)
    metrics = ", ".join(f"{name} {value:.4f}" for name, value in result.test.items())
    _say(f"wrote {result.path} after {result.epochs} epochs, {result.seconds:.0f} s; held-out metrics: {metrics}")


def _list(options: argparse.Namespace) -> None:
    import rich.table

    from art_mtl import tasks
    from art_mtl.evaluation.grid import DESCRIPTIONS
    from art_mtl.evaluation.victims import BLUEPRINTS

    victims = {name: blueprint.description for name, blueprint in BLUEPRINTS.items()}
    victims["nyuv2"] = f"a net that '{PROGRAM} train nyuv2' made; needs --root and --checkpoint"
    victims["PATH.py:function"] = "your own: returns (model, tasks, x, y) or a Victim"
    groups = {
        "methods": dict(DESCRIPTIONS),
        "tasks (art_mtl.tasks)": {kind: _summary(getattr(tasks, kind)) for kind in _TASK_KINDS},
        "victims": victims,
    }
    console = _console()
    for title, rows in groups.items():
        table = rich.table.Table(title=title, box=None, show_header=False, title_justify="left", title_style="bold")
        for name, text in rows.items():
            table.add_row(rich.markup.escape(name), rich.markup.escape(text.replace("``", "")))
        console.print(table)
        console.print()


def _summary(documented: object) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split())


def _eps_argument(text: str) -> tuple[str | None, float]:
    try:
        return parse_eps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    return _integer(text, least=1)


def _seed(text: str) -> int:
    return _integer(text, least=0)


def _integer(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}; found {text!r}")
    return int(text)


def _console() -> Console:
    """For standard output; wide where that is a file, so that tables do not wrap."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_NARROWEST)


def _say(message: str) -> None:
    print(f"{PROGRAM}: {message}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    _say(f"warning: {_one_line(message)}")


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


if __name__ == "__main__":
    sys.exit(main())
