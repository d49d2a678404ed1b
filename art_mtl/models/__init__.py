"""Multi-task networks. Each returns a dict from task name to raw output."""

from __future__ import annotations

from art_mtl.models.checkpoints import (
    load_checkpoint,
    load_embedded,
    load_weights,
    read_metadata,
    read_state_dict,
    save_weights,
)
from art_mtl.models.mtan import MTAN
from art_mtl.models.paper import NETWORKS, load_network, network_from_state_dict
from art_mtl.models.several_inputs import SeveralInputs
from art_mtl.models.small import DigitsNet, MultiLabelNet, RoomsDetectionNet, RoomsNet
from art_mtl.models.split import Split

__all__ = [
    "MTAN",
    "NETWORKS",
    "DigitsNet",
    "MultiLabelNet",
    "RoomsDetectionNet",
    "RoomsNet",
    "SeveralInputs",
    "Split",
    "load_checkpoint",
    "load_embedded",
    "load_network",
    "load_weights",
    "network_from_state_dict",
    "read_metadata",
    "read_state_dict",
    "save_weights",
]
