"""What a search is given, without a host: a call on a :class:`tests.conftest.Case`."""

from __future__ import annotations

import math
from typing import Any

import pytest
from torch import Tensor

from art_mtl.core import Method
from art_mtl.core.batch import AttackBatch
from art_mtl.core.config import AttackConfig
from art_mtl.core.engine import Callbacks, Engine, RunSetup


def _setup(
    case: Any,
    method: Method,
    norm: float = math.inf,
    eps: float | Tensor = 0.1,
    *,
    mask: Tensor | None = None,
    own_labels: bool = False,
    first_step: Tensor | None = None,
    callbacks: Callbacks | None = None,
    **options: Any,
) -> RunSetup:
    threat, device = case.threat(norm, eps, mask), case.x.device
    config = AttackConfig(method=method.name, norm=norm, eps=eps, **options)
    targets, kept = tuple(case.targets), tuple(range(len(case.tasks)))
    engine = Engine()
    return RunSetup(
        forward=case.forward,
        exact=case.forward,
        tasks=tuple(case.tasks),
        method=method,
        batch=AttackBatch(case.x, targets, threat.eps, threat.bounds, first_step, mask, own_labels, kept),
        config=config,
        run_config=config.run_config(case.tasks, own_labels, device),
        device=device,
        engine=engine,
        session=engine.session,
        callbacks=Callbacks() if callbacks is None else callbacks,
    )


@pytest.fixture(scope="session")
def make_setup():
    """``(case, method, norm, eps, **options of AttackConfig) -> RunSetup``; labels are the case's."""
    return _setup
