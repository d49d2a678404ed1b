"""Multi-task models behind the estimator interface of the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.estimators.pytorch import PyTorchMultiTaskEstimator

__all__ = ["PyTorchMultiTaskEstimator"]
