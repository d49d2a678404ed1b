"""The command ``art-mtl``: benchmark a victim, show and compare runs, reproduce the paper, prepare data, train victims,
list what there is.

One module a command; each has ``add``, which makes its command known to the parser. What is slow to import (ART,
matplotlib, scikit-learn) is imported where it is used.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence

from art_mtl.cli import bench, benchmark, compare, data, diagnose, listing, reproduce, show, train
from art_mtl.cli.benchmark import parse_eps, parse_radii
from art_mtl.cli.common import PROGRAM, Parser, logs_told, one_line, say, show_warning
from art_mtl.version import __version__

_COMMANDS = (benchmark, show, compare, diagnose, bench, reproduce, data, train, listing)
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
    with warnings.catch_warnings(), logs_told():
        warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = show_warning
        try:
            options.run(options)
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted; nothing was written.")
            return 130
        except _USER_ERRORS as error:
            if options.debug:
                raise
            say(f"error: {one_line(error)}")
            return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=PROGRAM, description="Adversarial robustness of multi-task models.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser
