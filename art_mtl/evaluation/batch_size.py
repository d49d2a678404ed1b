"""The batch size of a whole benchmark, where it is to be measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from art_mtl.core import checks
from art_mtl.core.batch_size import measure_batch_size
from art_mtl.core.checks import AUTO
from art_mtl.data.sources import Source
from art_mtl.evaluation.reading import stored_batch_size

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.prepared import Preparation

MOST = 64
"""Samples that a measured batch holds at most."""


def settle_batch_size(
    asked: int | str,
    estimator: PyTorchMultiTaskEstimator,
    source: Source,
    prepare: Preparation | str | None,
    store: str | Path | None = None,
    restart: bool = False,
) -> int:
    """The number itself, or what is measured for "auto": once, before the first attack, for all of them.

    A run that goes on keeps the size that was measured when it began.

    Args:
        asked: Samples a batch, or "auto".
        estimator: The victim's.
        source: The data that are attacked.
        prepare: What the attacks run on.
        store: Folder of the run; None where nothing is kept.
        restart: The run that ``store`` holds will be thrown away.

    Raises:
        ValueError: Neither a whole number of at least 1 nor "auto".
    """
    checks.batch_size("batch_size", asked)
    if asked != AUTO:
        return int(asked)
    kept = None if store is None or restart else stored_batch_size(store)
    return _measured(estimator, source, prepare) if kept is None else kept


def _measured(estimator: PyTorchMultiTaskEstimator, source: Source, prepare: Preparation | str | None) -> int:
    from art_mtl.core import frozen

    x = torch.from_numpy(source.read(slice(0, min(MOST, len(source))))[0])
    forward = estimator.forward_prepared(prepare, x)
    with frozen(estimator.model):
        return measure_batch_size(forward, x, estimator.device).size
