"""``art-mtl list``."""

from __future__ import annotations

from dataclasses import dataclass

from art_mtl.cli.console import PROGRAM, console
from art_mtl.cli.options import Command

_TASK_KINDS = (
    "segmentation", "classification", "multilabel", "depth", "disparity", "surface_normals", "regression", "custom",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """List the attacks, tasks and victims that there are."""

    def run(self, command_line: str) -> None:
        """Print the lists."""
        import rich.markup
        import rich.table

        from art_mtl import tasks
        from art_mtl.evaluation.grid import DESCRIPTIONS
        from art_mtl.evaluation.victims import VICTIM_SPECS

        own = f"a net that '{PROGRAM} train nyuv2' made"
        victims = {name: spec.description for name, spec in VICTIM_SPECS.items()}
        victims["nyuv2"] = f"MTAN or Split on NYUv2, or {own}; needs --root, --checkpoint"
        victims["cityscapes"] = "MTAN or Split on Cityscapes; needs --root, --checkpoint"
        victims["PATH.py:function"] = "your own: returns (model, tasks, x, y) or a Victim"
        groups = {
            "attacks": dict(DESCRIPTIONS),
            "tasks (art_mtl.tasks)": {kind: _summary(getattr(tasks, kind)) for kind in _TASK_KINDS},
            "victims": victims,
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
