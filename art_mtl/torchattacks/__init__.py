"""Attacks for torchattacks: drop-ins for :class:`torchattacks.PGD` on multi-task models. Needs the extra
``torchattacks``.
"""

from __future__ import annotations

try:
    import torchattacks  # noqa: F401
except ImportError as error:
    raise ImportError(
        "art_mtl.torchattacks needs the package torchattacks. Install it with: pip install '.[torchattacks]'"
    ) from error

from art_mtl.torchattacks.ensemble import MultiTaskAutoAttack
from art_mtl.torchattacks.fitted import MultiTaskPatch, UniversalMultiTaskPGD
from art_mtl.torchattacks.multiattack import MultiAttack
from art_mtl.torchattacks.pgd import (
    MinMaxMultiTaskPGD,
    MultiTaskAutoPGD,
    MultiTaskPGD,
    StealthyMultiTaskPGD,
    WorstTaskPGD,
)

__all__ = [
    "MinMaxMultiTaskPGD",
    "MultiAttack",
    "MultiTaskAutoAttack",
    "MultiTaskAutoPGD",
    "MultiTaskPGD",
    "MultiTaskPatch",
    "StealthyMultiTaskPGD",
    "UniversalMultiTaskPGD",
    "WorstTaskPGD",
]
