"""The attack loop and its parts. Torch only: it knows no host. What is named here is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from art_mtl.core.assembly import make_method
    from art_mtl.core.context import BatchContext, RunningStatistics, StepRecord
    from art_mtl.core.lending import frozen
    from art_mtl.core.loop import attack
    from art_mtl.core.method import Method
    from art_mtl.core.methods import METHODS, MethodSpec, family_names, method_names
    from art_mtl.core.threat import RunConfig, ThreatModel

_HOMES = {
    "METHODS": "methods",
    "BatchContext": "context",
    "Method": "method",
    "MethodSpec": "methods",
    "RunConfig": "threat",
    "RunningStatistics": "context",
    "StepRecord": "context",
    "ThreatModel": "threat",
    "attack": "loop",
    "family_names": "methods",
    "frozen": "lending",
    "make_method": "assembly",
    "method_names": "methods",
}

__all__ = [
    "METHODS",
    "BatchContext",
    "Method",
    "MethodSpec",
    "RunConfig",
    "RunningStatistics",
    "StepRecord",
    "ThreatModel",
    "attack",
    "family_names",
    "frozen",
    "make_method",
    "method_names",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"art_mtl.core.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
