"""A command line, from its words to the exit status."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import fields
from typing import TYPE_CHECKING

from art_mtl.cli.console import PROGRAM, all_shown, log_shown, say, show_warning, unread
from art_mtl.version import __version__

if TYPE_CHECKING:
    from art_mtl.cli.options import Command
    from art_mtl.evaluation.experiment import Experiment

_USER_ERRORS = (ValueError, TypeError, OSError, ImportError)

__all__ = ["execute"]


def execute(argv: Sequence[str] | None) -> int:
    """Run a command; what the user got wrong is told in one line.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        The exit status; see :func:`art_mtl.cli.main`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with all_shown(), warnings.catch_warnings(), log_shown():
        warnings.simplefilter("default", RuntimeWarning)
        warnings.showwarning = show_warning
        try:
            _run(arguments)
            sys.stdout.flush()
        except _USER_ERRORS as error:
            broken = unread()
            if isinstance(error, BrokenPipeError) and broken:
                return 141
            if "--debug" in arguments:
                raise
            from art_mtl.cli.arguments import in_options

            say(f"error: {in_options(str(error), arguments)}")
            return 2
    return 0


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"{PROGRAM} {__version__}")
    elif {"-h", "--help"} & set(arguments):
        from art_mtl.cli.help import help_text

        print(help_text(arguments))
    else:
        command = _parse(arguments)
        _check_alone(command)
        command.run(shlex.join([PROGRAM, *arguments]))


def _parse(arguments: list[str]) -> Command:
    """The command with its options.

    Options are read twice where ``--config`` names a file: those of the command line win over those of the file.
    """
    from art_mtl.cli.benchmark import Benchmark
    from art_mtl.evaluation.experiment import Experiment

    command = _command(arguments)
    if isinstance(command, Benchmark) and command.config is not None:
        command = _command(arguments, Experiment.from_yaml(command.config))
    return command


def _command(arguments: list[str], experiment: Experiment | None = None) -> Command:
    """What ``tyro`` makes of the arguments.

    Args:
        arguments: Of the command line.
        experiment: Has the defaults of ``benchmark``; None for those of the class.

    Raises:
        ValueError: They are no command.
    """
    import tyro
    from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes

    from art_mtl.cli.arguments import check_words
    from art_mtl.cli.commands import union_of_commands
    from art_mtl.cli.options import REGISTRY, Group

    check_words(arguments)
    try:
        with redirect_stderr(io.StringIO()):
            read: Command | Group = tyro.cli(
                union_of_commands(experiment),
                prog=PROGRAM,
                args=list(_one_by_one(arguments)),
                config=(OmitArgPrefixes, OmitSubcommandPrefixes),
                registry=REGISTRY,
            )
    except SystemExit:
        raise ValueError(f"{PROGRAM} should be told what --help shows. Found {shlex.join(arguments)}.") from None
    while isinstance(read, Group):
        read = read.command
    read.check()
    return read


def _one_by_one(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the entries of lists that commas separate, ``--eps 2/255,4/255``, one by one."""
    from art_mtl.evaluation.experiment import Experiment

    lists = {f"--{field.name}" for field in fields(Experiment) if isinstance(field.default, tuple)}
    in_list = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if argument.startswith("--"):
            in_list = option in lists
        if not in_list or (argument.startswith("--") and not equals):
            yield argument
            continue
        if option in lists:
            yield option
        for entry in re.split(r",(?![^(]*\))", value if option in lists else argument):
            if entry:
                yield entry


def _check_alone(command: Command) -> None:
    """Raise if ``torchrun`` started several processes of a command that knows nothing of it."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1" and not command.with_torchrun:
        raise ValueError(
            f"`torchrun` should start {PROGRAM} train only. Found WORLD_SIZE={size}. For several devices write: "
            f"{PROGRAM} benchmark ... --ray local"
        )
