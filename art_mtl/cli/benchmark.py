"""``art-mtl benchmark``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from art_mtl.cli.common import PROGRAM, VICTIMS, add_command, batch_size, console, count, preparation, say, seed

_NORMS = ("linf", "l2", "l1")


def add(commands: Any) -> None:
    """Make the command known."""
    command = add_command(
        commands,
        "benchmark",
        help="attack a victim with every method and compare the degradation",
        description="Attack a victim with a grid of methods, norms and radii (in the scale of the model's input).",
    )
    add = command.add_argument
    add("--victim", default="rooms", help=f"{VICTIMS}; default: %(default)s")
    add(
        "--methods", nargs="+", default=["all"], metavar="NAME", help=f"names that '{PROGRAM} list' shows; default: all"
    )
    add("--norm", nargs="+", choices=_NORMS, metavar="NORM", help="of linf, l2, l1; default: the victim's")
    add("--eps", nargs="+", type=eps_argument, default=[], metavar="EPS",
        help="such as 2/255 4/255, for every --norm, or l2:1.0 linf:4/255; default: the victim's")  # fmt: skip
    add("--steps", type=count, default=10, help="default: %(default)s")
    add("--schedule", nargs="+", choices=("published", "linear", "cosine", "restarts"),
        default=["published"],
        help="steps of the baselines, a row each; 'restarts': linear, the best iterate of --restarts random starts; "
        "worst-*, single:*, stealthy:* and auto-* have their own; default: published")  # fmt: skip
    add("--restarts", type=count, default=2, help="of the schedule 'restarts'; default: %(default)s")
    add("--limit", type=count, help="first samples of the test data; default: all")
    add("--batch-size", type=batch_size, default=32, metavar="N", help="or auto, which measures; default: %(default)s")
    add("--prepare", type=preparation, default="exact", metavar="HOW",
        help="attacks run on: exact, or fp32|bf16|fp16[,memory-efficient][,compile][,graphs]")  # fmt: skip
    add("--seed", type=seed, default=0, help="default: %(default)s")
    add("--protocol", choices=("pooled", "auto-lambda"), default="pooled",
        help="errors averaged over the data set, or first over batches of 4; default: %(default)s")  # fmt: skip
    add("--root", type=Path, help="folder of the victim's data (nyuv2, cityscapes)")
    add("--checkpoint", type=Path, help="weights of the victim")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="default: %(default)s")
    add("--threads", type=count, metavar="N", help="CPU threads; default: all")
    add("--ray", metavar="local|auto|ADDRESS", help="share the work out over this host's devices, or a Ray cluster's")
    add("--chunk", type=count, default=256, metavar="N",
        help="samples that are read, attacked and stored together and share weights; default: %(default)s")  # fmt: skip
    add("--out", type=Path, metavar="DIR",
        help="keep the run here, to go on if interrupted, and its report: tables, JSON, pictures")  # fmt: skip
    add("--restart", action="store_true", help="throw away the run that --out holds")
    add("--force", action="store_true", help="write to --out even if it holds other files")
    add(
        "--diagnose",
        action="store_true",
        help="check the strongest attack of every norm and radius for signs of failure (20 times its time)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_benchmark)


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


def _benchmark(options: argparse.Namespace) -> None:
    radii = parse_radii(options.eps, options.norm)
    from art_mtl.evaluation import benchmark, load_victim, make_table, to_rich, write_report
    from art_mtl.evaluation.report import check_folder, gallery_of

    if options.out is not None:
        check_folder(options.out, options.force)
    victim = load_victim(options.victim, root=options.root, checkpoint=options.checkpoint)
    gallery = gallery_of(victim, options.limit, options.device) if options.out is not None else None
    results = benchmark(
        victim,
        options.methods,
        norms=options.norm,
        eps=radii,
        steps=options.steps,
        schedules=options.schedule,
        restarts=options.restarts,
        limit=options.limit,
        batch_size=options.batch_size,
        seed=options.seed,
        device=options.device,
        command=options.command_line,
        progress=not options.quiet,
        listener=gallery,
        protocol=options.protocol,
        chunk=options.chunk,
        store=options.out,
        restart=options.restart,
        threads=options.threads,
        ray=options.ray,
        prepare=options.prepare,
    )
    console().print(to_rich(make_table(results)))
    if options.out is not None:
        written = write_report(options.out, results, gallery)
        say(f"{len(written)} files in {options.out}; start with {options.out / 'report.md'}")
    if options.diagnose:
        from art_mtl.cli.diagnose import diagnose_benchmark

        diagnose_benchmark(results, victim, options)


def eps_argument(text: str) -> tuple[str | None, float]:
    """An argument that :func:`parse_eps` understands."""
    try:
        return parse_eps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
