"""Runs that cannot be lost: streamed, stored chunk by chunk, resumed, shared out over devices.

A run is attacks × *chunks*, parts of ``chunk`` neighbouring samples that know nothing of each other. Each of these
units is computed once, by whichever worker takes it, and stored whole.
"""

from __future__ import annotations

from art_mtl.evaluation.runs.reading import stored_batch_size
from art_mtl.evaluation.runs.records import PICTURED
from art_mtl.evaluation.runs.run import run_attacks
from art_mtl.evaluation.runs.store import DATABASE, OWN_FILES, holds_run

__all__ = [
    "DATABASE",
    "OWN_FILES",
    "PICTURED",
    "holds_run",
    "run_attacks",
    "stored_batch_size",
]
