"""Attacks for ART: drop-ins for :class:`art.attacks.evasion.ProjectedGradientDescent` on multi-task models."""

from __future__ import annotations

from art_mtl.attacks.pgd import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD

__all__ = ["MinMaxMultiTaskPGD", "MultiTaskPGD", "WorstTaskPGD"]
