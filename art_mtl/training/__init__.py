"""Train victims: the paper's networks on NYUv2 or Cityscapes, and the small ones that come with the package.

Examples:
    >>> from art_mtl.training import ProgressBar, Recipe, train_network
    >>> with ProgressBar("mtan") as bar:  # doctest: +SKIP
    ...     result = train_network("nyuv2", "data/nyuv2", "runs/mtan", recipe=Recipe(epochs=200), progress=bar)
"""

from __future__ import annotations

from art_mtl.training.embedded import TrainingResult, memorise, train
from art_mtl.training.measure import clean_metrics, mean_log_quality, paper_units
from art_mtl.training.network import NetworkResult, train_network
from art_mtl.training.progress import ProgressBar, Step
from art_mtl.training.recipe import Cosine, Recipe
from art_mtl.training.trainer import EpochResult

__all__ = [
    "Cosine",
    "EpochResult",
    "NetworkResult",
    "ProgressBar",
    "Recipe",
    "Step",
    "TrainingResult",
    "clean_metrics",
    "mean_log_quality",
    "memorise",
    "paper_units",
    "train",
    "train_network",
]
