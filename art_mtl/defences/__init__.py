"""Training defences with ART's names.

Examples:
    >>> from art_mtl.defences import MultiTaskAdversarialTrainer
"""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.defences.trainer import MultiTaskAdversarialTrainer

__all__ = ["MultiTaskAdversarialTrainer"]
