"""The folder of a training run: settings, checkpoint, weights, history. Every file is there whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from art_mtl.data.prepare.manifest import sweep, write_whole
from art_mtl.differences import check_same
from art_mtl.files import locked
from art_mtl.models import save_weights

__all__ = ["BEST", "CHECKPOINT", "HISTORY", "LAST", "LOGS", "SETTINGS", "RunFolder", "State"]

SETTINGS, CHECKPOINT, HISTORY = "settings.json", "checkpoint.pt", "history.json"
BEST, LAST, LOGS = "best.safetensors", "last.safetensors", "logs"
_FORMAT = "art_mtl.training"
_VERSION = 1
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass
class State:
    """Where a run stands. With the settings, all that is needed to go on as if nothing had happened.

    Attributes:
        epoch: epochs completed.
        step: steps taken in the epoch after them.
        sums: by task, its losses added up over those steps.
        history: what each completed epoch came to: JSON values, one mapping an epoch.
        best: number of the epoch, from 1, whose weights are the best so far; None before the first validation.
        model: its ``state_dict``.
        optimiser: its ``state_dict``.
        scaler: the gradient scaler's ``state_dict``; empty except with fp16.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: int | None = None
    model: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """A run on disk.

    Args:
        path: of the folder; made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def held(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Keep the folder for this run.

        Args:
            settings: what decides the run's result, as JSON values in at most two levels.

        Raises:
            ValueError: There is something else in the folder, or a run with other settings.
            BlockingIOError: Another process is training in it.
            OSError: The disk is full.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"Parameter `out` should be a folder. Found a file at {str(self.path)!r}.")
        strangers = [] if not self.path.is_dir() else sorted(item.name for item in self.path.iterdir())
        if strangers and not (self.path / SETTINGS).is_file() and any(not name.startswith(".") for name in strangers):
            raise ValueError(
                f"Parameter `out` should be a new or empty folder, or hold an earlier run of the same training. Found "
                f"other files in {str(self.path)!r}, such as {strangers[-1]!r}."
            )
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self._sweep()
            if (self.path / SETTINGS).is_file():
                self._compare(settings)
            else:
                document = {"format": _FORMAT, "version": _VERSION, **settings}
                self._write(SETTINGS, (json.dumps(document, indent=1) + "\n").encode())
            yield

    def load(self) -> State | None:
        """Where an interrupted run stood; None where it had not come to its first checkpoint.

        Raises:
            ValueError: The checkpoint is damaged.
        """
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        try:
            document = torch.load(path, map_location="cpu", weights_only=True)
            document["history"] = json.loads(document["history"])
            return State(**document)
        except (RuntimeError, ValueError, KeyError, TypeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path}: expected the checkpoint of an interrupted run. Found it damaged ({_first_line(error)}). "
                f"Delete {self.path} to train from the start, or take {LAST} as it is."
            ) from error

    def save(self, state: State) -> None:
        """Write the checkpoint; until it is whole the one before stays.

        Raises:
            ValueError: A weight is NaN or infinite.
            OSError: The disk is full.
        """
        check_finite(state.model, "the checkpoint before it stays")
        document = {**vars(state), "history": json.dumps(state.history)}
        buffer = io.BytesIO()
        torch.save(document, buffer)
        self._write(CHECKPOINT, buffer.getvalue())

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Write what each completed epoch came to, for people and scripts."""
        self._write(HISTORY, (json.dumps(history, indent=1) + "\n").encode())

    def write_weights(self, name: str, model: nn.Module, metadata: Mapping[str, str]) -> None:
        """Write :data:`BEST` or :data:`LAST`."""
        with _telling_of_a_full_disk(self.path / name):
            save_weights(model, self.path / name, metadata)

    def _write(self, name: str, content: bytes) -> None:
        with _telling_of_a_full_disk(self.path / name):
            write_whole(self.path / name, content)

    def _sweep(self) -> None:
        """Delete what a killed run left half-written."""
        sweep(self.path)
        for name in (BEST, LAST):
            for leftover in self.path.glob(f".{name}.*"):
                leftover.unlink()

    def _compare(self, settings: Mapping[str, Any]) -> None:
        path = self.path / SETTINGS
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != _FORMAT or found.pop("version") != _VERSION:
                raise ValueError("another format")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path}: expected the settings of a training run of version {_VERSION}. Found something else. Choose "
                "another folder."
            ) from error
        check_same(
            found,
            settings,
            f"{self.path} holds a training run",
            "Use another folder, or give the settings that it was begun with.",
        )


def check_finite(weights: Mapping[str, Any], consequence: str) -> None:
    """Raise ValueError if a weight is NaN or infinite."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"Training should keep every weight finite. Found NaN or infinity in {name!r}; {consequence}. Lower "
                "the learning rate."
            )


@contextmanager
def _telling_of_a_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"The disk is full: {path} could not be written, and what was there before stays. Make room, then run the "
            "same command again; it goes on from the last checkpoint",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
