"""``art-mtl list``."""

from __future__ import annotations

from dataclasses import dataclass

from art_mtl.cli.console import two_columns
from art_mtl.cli.options import Command


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the attacks, tasks and victims that there are."""

    def run(self, command_line: str) -> None:
        """Print the lists."""
        from art_mtl import tasks
        from art_mtl.core.methods import descriptions
        from art_mtl.zoo.task_file import kinds
        from art_mtl.zoo.victims import victim_descriptions

        made = {**kinds(), "custom": tasks.custom}
        groups = {
            "attacks": descriptions(),
            "tasks (art_mtl.tasks)": {kind: _summary(make) for kind, make in made.items()},
            "victims": victim_descriptions(),
        }
        for title, rows in groups.items():
            shown = two_columns({name: text.replace("``", "") for name, text in rows.items()})
            print("\n".join([title, *shown, ""]))


def _summary(documented: object) -> str:
    """First paragraph of a docstring, on one line."""
    return " ".join((documented.__doc__ or "").split("\n\n")[0].split())
