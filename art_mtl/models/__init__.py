"""Multi-task networks. Each returns a dict from task name to raw output."""

from __future__ import annotations

from art_mtl.models.checkpoints import load_weights, read_metadata, save_weights
from art_mtl.models.small import DigitsNet, RoomsNet

__all__ = ["DigitsNet", "RoomsNet", "load_weights", "read_metadata", "save_weights"]
