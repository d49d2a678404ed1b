"""Attacks for torchattacks: drop-ins for :class:`torchattacks.PGD` on multi-task models. Needs the extra
``art-mtl[torchattacks]``.
"""

from __future__ import annotations

try:
    import torchattacks  # noqa: F401
except ImportError as error:
    raise ImportError(
        "art_mtl.torchattacks needs the package torchattacks. Install it with: pip install 'art-mtl[torchattacks]'"
    ) from error

from art_mtl.torchattacks.auto import MultiTaskAutoAttack, MultiTaskAutoPGD
from art_mtl.torchattacks.multiattack import MultiAttack
from art_mtl.torchattacks.pgd import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.torchattacks.shared import MultiTaskPatch, UniversalMultiTaskPGD
from art_mtl.torchattacks.stealthy import StealthyMultiTaskPGD

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
