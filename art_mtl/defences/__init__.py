"""Adversarial training: ART's trainer for several tasks, and the attack alone for training loops of one's own.

Examples:
    >>> from art_mtl.defences import MultiTaskAdversarialTrainer, TrainingAttack
"""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.defences.trainer import MultiTaskAdversarialTrainer
from art_mtl.defences.training_attack import TrainingAttack

__all__ = ["MultiTaskAdversarialTrainer", "TrainingAttack"]
