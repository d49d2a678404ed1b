"""The command ``art-mtl``: benchmark a victim, show and compare runs, reproduce the paper, prepare data, train victims,
list what there is.

One module a command. Each command is a frozen dataclass, of which ``tyro`` makes the parser, and has ``run``. What is
slow to import (torch, ART, matplotlib, pandas) is imported in ``run``.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from art_mtl.cli.interruption import Interruption

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        0; 2 for what the user got wrong, told in one line; 130 if interrupted; 141 if nobody reads what is printed.
    """
    with Interruption() as interruption:
        status, message = 130, "interrupted."
        try:
            from art_mtl.cli.command_line import execute

            status = execute(argv)
        except KeyboardInterrupt as stop:
            message = str(stop) or message
        except Exception:
            if not interruption.happened:
                raise
        interruption.ignore(for_good=argv is None)
        if status == 130 or interruption.happened:
            from art_mtl.cli.console import say

            say(message)
            if argv is None:
                _leave(130)
            return 130
        return status


def _leave(status: int) -> NoReturn:
    """End the process as at its end, with this status; Python's own may be that of a process that SIGINT has killed."""
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(status)
