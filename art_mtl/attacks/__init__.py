"""Attacks for ART: drop-ins for :class:`art.attacks.evasion.ProjectedGradientDescent` on multi-task models."""

from __future__ import annotations

from art_mtl.attacks.minmax import MinMaxMultiTaskPGD
from art_mtl.attacks.multi_task_pgd import MultiTaskPGD
from art_mtl.attacks.worst_task import WorstTaskPGD

__all__ = ["MinMaxMultiTaskPGD", "MultiTaskPGD", "WorstTaskPGD"]
