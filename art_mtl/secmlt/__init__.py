"""Attacks for secml-torch: drop-ins for its native PGD on multi-task models. Needs the extra ``secmlt``."""

try:
    import secmlt  # noqa: F401
except ImportError as error:
    raise ImportError("art_mtl.secmlt needs secml-torch. Install it with: pip install '.[secmlt]'") from error

from art_mtl.secmlt.pgd import MinMaxMultiTaskPGD, MultiTaskAutoPGD, MultiTaskPGD, StealthyMultiTaskPGD, WorstTaskPGD
from art_mtl.secmlt.trackers import TaskLossTracker, TaskWeightTracker

__all__ = ["MinMaxMultiTaskPGD", "MultiTaskAutoPGD", "MultiTaskPGD", "StealthyMultiTaskPGD", "TaskLossTracker",
           "TaskWeightTracker", "WorstTaskPGD"]  # fmt: skip
