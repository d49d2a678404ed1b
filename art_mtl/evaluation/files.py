"""Files that are written whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all; an existing one is replaced.

    Args:
        path: Of the file.
        text: Its content.
    """
    path = Path(path)
    with staged_folder(path.parent) as stage:
        (stage / path.name).write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def staged_folder(folder: str | Path) -> Iterator[Path]:
    """Lend an empty folder; on success, move every file that was put there into ``folder``.

    While files are being made nothing in ``folder`` changes, and a failure leaves it as it was. Each file then arrives
    by one atomic rename. Files of other names that ``folder`` holds already stay.

    Args:
        folder: Where the files are to go; made, with its parents, if needed.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "report"
        >>> with staged_folder(target) as stage:
        ...     size = (stage / "table.md").write_text("| a |")
        >>> (target / "table.md").read_text()
        '| a |'
    """
    folder = Path(folder)
    home = _nearest_existing(folder)
    # Beside the target, because a rename is atomic only within one file system.
    stage = Path(tempfile.mkdtemp(prefix=".art-mtl-", dir=home))
    try:
        yield stage
        for source in sorted(path for path in stage.rglob("*") if path.is_file()):
            target = folder / source.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _nearest_existing(folder: Path) -> Path:
    for candidate in (folder, *folder.resolve().parents):
        if candidate.is_dir():
            return candidate
        if candidate.exists():
            raise NotADirectoryError(f"A folder should be made at {str(folder)!r}. Found a file at {str(candidate)!r}.")
    raise FileNotFoundError(f"A folder should be made at {str(folder)!r}. Found none above it.")
