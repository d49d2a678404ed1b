"""Evaluator attacks: run them, measure the degradation to every task, and report it.

Examples:
    >>> from art_mtl.evaluation import benchmark, load_victim
    >>> victim = load_victim("digits")  # doctest: +SKIP
    >>> results = benchmark(victim, ["equal", "worst-task"], eps=[0.05], limit=64)  # doctest: +SKIP
    >>> results.to_json("results.json")  # doctest: +SKIP
"""

from __future__ import annotations

import art_mtl.estimators.art_import  # noqa: F401
from art_mtl.evaluation.compare import Comparison, compare_runs
from art_mtl.evaluation.comparison import comparison_table, write_comparison
from art_mtl.evaluation.diagnosis import Check, Diagnosis, diagnose, diagnosis_table
from art_mtl.evaluation.grid import benchmark
from art_mtl.evaluation.paper import paper_tables, reproduce
from art_mtl.evaluation.report import Gallery, write_report
from art_mtl.evaluation.results import AttackResult, Block, Difference, Environment, Results, TaskResult
from art_mtl.evaluation.runner import evaluate
from art_mtl.evaluation.runs import RunState, read_run
from art_mtl.evaluation.tables import make_table, to_csv, to_latex, to_markdown, to_rich
from art_mtl.evaluation.victims import Victim, load_victim, victim_names

__all__ = [
    "AttackResult",
    "Block",
    "Check",
    "Comparison",
    "Diagnosis",
    "Difference",
    "Environment",
    "Gallery",
    "Results",
    "RunState",
    "TaskResult",
    "Victim",
    "benchmark",
    "compare_runs",
    "comparison_table",
    "diagnose",
    "diagnosis_table",
    "evaluate",
    "load_victim",
    "make_table",
    "paper_tables",
    "read_run",
    "reproduce",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_rich",
    "victim_names",
    "write_comparison",
    "write_report",
]
