"""The batch size of a whole benchmark, where it is to be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from art_mtl.core.batch_size import AUTO, check_batch_size

if TYPE_CHECKING:
    from art_mtl.estimators import PyTorchMultiTaskEstimator
    from art_mtl.evaluation.victims import Victim
    from art_mtl.prepared import Preparation

MOST = 64
"""Samples that a measured batch holds at most."""


def settle_batch_size(
    asked: int | str,
    estimator: PyTorchMultiTaskEstimator,
    victim: Victim,
    split: str,
    limit: int | None,
    prepare: Preparation | str | None,
) -> int:
    """The number itself, or what is measured for "auto": once, before the first attack, for all of them.

    Args:
        asked: Samples a batch, or "auto".
        estimator: The victim's.
        victim: Whose data are attacked.
        split: Of these data.
        limit: First samples that are attacked; None for all.
        prepare: What the attacks run on.

    Raises:
        ValueError: Neither a whole number of at least 1 nor "auto".
    """
    check_batch_size(asked)
    if asked != AUTO:
        return int(asked)
    from art_mtl.attacks.batching import Batching
    from art_mtl.core import frozen

    x = torch.from_numpy(victim.data(split, MOST if limit is None else min(MOST, limit))[0])
    forward = estimator.forward_prepared(prepare, x)
    with frozen(estimator.model):
        return Batching().size(asked, forward, x, None, estimator.device)
