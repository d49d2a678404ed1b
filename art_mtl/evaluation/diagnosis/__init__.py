"""Eleven sanity checks for unreliable attacks."""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.evaluation.diagnosis.records import Check, Diagnosis, diagnosis_table
from art_mtl.evaluation.diagnosis.run import diagnose
from art_mtl.evaluation.diagnosis.sanity_checks import SANITY_CHECKS, SanityCheck

__all__ = ["SANITY_CHECKS", "Check", "Diagnosis", "SanityCheck", "diagnose", "diagnosis_table"]
