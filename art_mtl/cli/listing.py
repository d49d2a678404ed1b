"""``art-mtl list``."""

from __future__ import annotations

import argparse
from typing import Any

from art_mtl.cli.common import add_command, console

_TASK_KINDS = (
    "segmentation", "classification", "multilabel", "depth", "disparity", "surface_normals", "regression", "custom",
)  # fmt: skip


def add(commands: Any) -> None:
    """Make the command known."""
    add_command(commands, "list", help="methods, tasks and victims").set_defaults(run=_list)


def _list(options: argparse.Namespace) -> None:
    import rich.table

    from art_mtl import tasks
    from art_mtl.core.methods import descriptions
    from art_mtl.evaluation.victims import victim_descriptions

    groups = {
        "methods": descriptions(),
        "tasks (art_mtl.tasks)": {kind: _summary(getattr(tasks, kind)) for kind in _TASK_KINDS},
        "victims": victim_descriptions(),
    }
    screen = console()
    for title, rows in groups.items():
        table = rich.table.Table(title=title, box=None, show_header=False, title_justify="left", title_style="bold")
        for name, text in rows.items():
            table.add_row(rich.markup.escape(name), rich.markup.escape(text.replace("``", "")))
        screen.print(table)
        screen.print()


def _summary(documented: object) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split())
