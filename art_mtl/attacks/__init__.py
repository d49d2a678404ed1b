"""Attacks for ART: drop-ins for :class:`art.attacks.evasion.ProjectedGradientDescent` on multi-task models."""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.attacks.ensemble import MultiTaskAutoAttack
from art_mtl.attacks.fitted import MultiTaskPatch, UniversalMultiTaskPGD
from art_mtl.attacks.pgd import (
    MinMaxMultiTaskPGD,
    MultiTaskAutoPGD,
    MultiTaskPGD,
    StealthyMultiTaskPGD,
    WorstTaskPGD,
)

__all__ = [
    "MinMaxMultiTaskPGD",
    "MultiTaskAutoAttack",
    "MultiTaskAutoPGD",
    "MultiTaskPGD",
    "MultiTaskPatch",
    "StealthyMultiTaskPGD",
    "UniversalMultiTaskPGD",
    "WorstTaskPGD",
]
