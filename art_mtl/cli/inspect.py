"""``art-mtl inspect``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from art_mtl.cli.console import say
from art_mtl.cli.options import Command, Maybe, Shape


@dataclass(frozen=True, kw_only=True)
class Inspect(Command):
    """Run a model once and propose a tasks.yaml for it.

    The outputs, their shapes and likely kinds, with comments on what is not sure. Nothing of a model file is executed
    as Python; a PATH.py:function is imported and called.

    Attributes:
        model: A model file (PATH.onnx, .pt, .pt2), or PATH.py:function that returns a module.
        input: Shape of one sample of the input, where the file does not tell.
        out: File to write. Default: standard output.
    """

    model: Annotated[Positional[str], arg(metavar="FILE")]
    input: Maybe[Shape] = None
    out: Path | None = None

    def run(self, command_line: str) -> None:
        """Print or write the proposal."""
        from art_mtl.files import write_text
        from art_mtl.zoo.inspection import propose

        text = propose(self.model, self.input)
        if self.out is None:
            sys.stdout.write(text)
            return
        if self.out.exists():
            raise ValueError(f"Parameter `out` should be a new file. Found {str(self.out)!r}.")
        write_text(self.out, text)
        say(f"{self.out} is written; check what is marked with a question mark")
