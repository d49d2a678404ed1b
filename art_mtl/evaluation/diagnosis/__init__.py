"""Failure diagnostics: laws that every sound attack obeys on every sound model, checked one by one."""

from __future__ import annotations

from art_mtl.evaluation.diagnosis.laws import LAWS, Law
from art_mtl.evaluation.diagnosis.records import Check, Diagnosis, diagnosis_table
from art_mtl.evaluation.diagnosis.run import diagnose

__all__ = ["LAWS", "Check", "Diagnosis", "Law", "diagnose", "diagnosis_table"]
