"""Prepared models: a private copy of a model that computes the same, cheaper. Torch only."""

from __future__ import annotations

from art_mtl.prepared.activations import saved_activations
from art_mtl.prepared.cache import PreparedCache
from art_mtl.prepared.prepare import PreparedModel, prepare
from art_mtl.prepared.settings import Preparation

__all__ = ["Preparation", "PreparedCache", "PreparedModel", "prepare", "saved_activations"]
