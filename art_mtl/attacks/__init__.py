"""Attacks for ART: drop-ins for :class:`art.attacks.evasion.ProjectedGradientDescent` on multi-task models."""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.attacks.auto_attack import MultiTaskAutoAttack
from art_mtl.attacks.auto_pgd import MultiTaskAutoPGD
from art_mtl.attacks.minmax import MinMaxMultiTaskPGD
from art_mtl.attacks.multi_task_pgd import MultiTaskPGD
from art_mtl.attacks.patch import MultiTaskPatch
from art_mtl.attacks.stealthy import StealthyMultiTaskPGD
from art_mtl.attacks.universal import UniversalMultiTaskPGD
from art_mtl.attacks.worst_task import WorstTaskPGD

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
