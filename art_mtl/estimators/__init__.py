"""Multi-task models behind the estimator interface of the Adversarial Robustness Toolbox (ART)."""

from __future__ import annotations

from art_mtl.estimators.pytorch import PyTorchMultiTaskEstimator

__all__ = ["PyTorchMultiTaskEstimator"]
