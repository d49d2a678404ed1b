"""The attack loop and its parts. Torch only: knows neither host."""

from __future__ import annotations

from art_mtl.core.context import BatchContext, RunningStatistics, StepRecord
from art_mtl.core.families import family_names
from art_mtl.core.lending import frozen
from art_mtl.core.loop import ThreatModel, attack
from art_mtl.core.method import Method
from art_mtl.core.methods import METHODS, ON_REQUEST, make_method, method_names

__all__ = [
    "METHODS",
    "ON_REQUEST",
    "RunningStatistics",
    "Method",
    "BatchContext",
    "StepRecord",
    "ThreatModel",
    "attack",
    "family_names",
    "frozen",
    "make_method",
    "method_names",
]
