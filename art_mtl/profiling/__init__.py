"""What a step costs, beside what it can cost and what it costs elsewhere: ``art-mtl bench``."""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.profiling.activations import measure_activations
from art_mtl.profiling.degradation import degradation_by_preparation, time_to_degradation
from art_mtl.profiling.subject import SUBJECTS, Subject, load_subject
from art_mtl.profiling.sweep import sweep
from art_mtl.profiling.timing import Ratio, compare
from art_mtl.profiling.variants import LIMIT, make_variants

__all__ = [
    "LIMIT",
    "SUBJECTS",
    "Ratio",
    "Subject",
    "compare",
    "degradation_by_preparation",
    "load_subject",
    "make_variants",
    "measure_activations",
    "sweep",
    "time_to_degradation",
]
