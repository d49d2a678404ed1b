"""The attack loop and its parts. Torch only: knows neither host."""

from __future__ import annotations

from art_mtl.core.families import family_names
from art_mtl.core.loop import Threat, attack
from art_mtl.core.method import Method
from art_mtl.core.methods import METHODS, ON_REQUEST, make_method, method_names
from art_mtl.core.model import frozen
from art_mtl.core.problem import Carry, Problem, StepRecord

__all__ = [
    "METHODS",
    "ON_REQUEST",
    "Carry",
    "Method",
    "Problem",
    "StepRecord",
    "Threat",
    "attack",
    "family_names",
    "frozen",
    "make_method",
    "method_names",
]
