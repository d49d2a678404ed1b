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
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING

from art_mtl.cli.console import PROGRAM, all_shown, log_shown, say, show_warning, unread
from art_mtl.core.checks import perhaps
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
            say(f"error: {_in_options(str(error), arguments)}")
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

    from art_mtl.cli.commands import COMMANDS, union_of_commands
    from art_mtl.cli.options import REGISTRY, Group

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            read: Command | Group = tyro.cli(
                union_of_commands(experiment),
                prog=PROGRAM,
                args=list(_one_by_one(arguments)),
                config=(OmitArgPrefixes, OmitSubcommandPrefixes),
                registry=REGISTRY,
            )
    except SystemExit:
        words = [PROGRAM, *arguments[:1]] if arguments and arguments[0] in COMMANDS else [PROGRAM]
        reason = _reason(told.getvalue())
        raise ValueError(f"{reason} (see {shlex.join([*words, '--help'])}){_near(reason, arguments)}") from None
    while isinstance(read, Group):
        read = read.command
    read.check()
    return read


def _near(reason: str, arguments: Sequence[str]) -> str:
    """What may have been meant by the name of a command, or by the first option, that a message of ``tyro`` refuses."""
    from art_mtl.cli.commands import COMMANDS, option_names

    if arguments and arguments[0] not in COMMANDS:
        return perhaps(arguments[0], COMMANDS)
    unknown = re.match(r"Unrecognized options: .*?--([\w-]+)", reason)
    if unknown is None:
        return ""
    options = [option[2:] for option in option_names(COMMANDS[arguments[0]]).values()]
    return perhaps(unknown[1], options).replace("'", "'--", 1)


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


def _in_options(message: str, arguments: Sequence[str]) -> str:
    """A message that names parameters as one that names the options of the command: ```restart=True``` as --restart.

    What is said of a line of a file stays, as its keys have the names of parameters.
    """
    from art_mtl.cli.commands import COMMANDS, option_names

    if not arguments or arguments[0] not in COMMANDS or ", line " in message:
        return message
    names = option_names(COMMANDS[arguments[0]])

    def option(found: re.Match[str]) -> str:
        if found["name"] not in names:
            return found[0]
        return f"{'Option ' if found['parameter'] else ''}{names[found['name']]}"

    return re.sub(r"(?P<parameter>Parameter )?`(?P<name>\w+)(=\w*)?`", option, message)


def _reason(box: str) -> str:
    """What a message of ``tyro`` says between its title and the next rule."""
    lines = (line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:])
    return " ".join(takewhile(lambda line: not _is_rule(line), dropwhile(_is_rule, lines)))


def _is_rule(line: str) -> bool:
    return bool(line) and not set(line) - set("─-")


def _check_alone(command: Command) -> None:
    """Raise if ``torchrun`` started several processes of a command that knows nothing of it."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1" and not command.with_torchrun:
        raise ValueError(
            f"`torchrun` should start {PROGRAM} train only. Found WORLD_SIZE={size}. For several devices write: "
            f"{PROGRAM} benchmark ... --ray local"
        )
