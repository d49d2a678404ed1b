"""Where and when an evaluation ran."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from art_mtl.evaluation.results import Environment
from art_mtl.version import __version__

_PACKAGES = ("adversarial-robustness-toolbox", "numpy", "torch", "torchmetrics")


def describe(device: str, seed: int | None) -> Environment:
    """The versions that matter for a result, the device, the time and the seed.

    Args:
        device: That the model runs on.
        seed: That every attack starts from; None if none is set.
    """
    packages = {"art-mtl": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Environment(packages, device, date, seed)
