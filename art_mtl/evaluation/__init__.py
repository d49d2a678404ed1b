"""Evaluate attacks: run them, measure the degradation of every task, and report it.

What is named here is imported when it is asked for.

Examples:
    >>> from art_mtl.evaluation import evaluate
    >>> run = evaluate("digits", ["equal", "worst-task"], eps=[0.05], limit=64)  # doctest: +SKIP
    >>> run.report("results/digits")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from art_mtl.evaluation.callbacks import Callback, UnitReport
    from art_mtl.evaluation.compare import Comparison, compare_runs
    from art_mtl.evaluation.comparison import comparison_table, write_comparison
    from art_mtl.evaluation.diagnosis import Check, Diagnosis, diagnose, diagnosis_table
    from art_mtl.evaluation.experiment import Experiment
    from art_mtl.evaluation.paper import paper_tables, reproduce
    from art_mtl.evaluation.report import Gallery, write_report
    from art_mtl.evaluation.results import AttackResult, Block, Difference, Environment, Results, TaskResult
    from art_mtl.evaluation.run import Run
    from art_mtl.evaluation.runner import evaluate
    from art_mtl.evaluation.tables import make_table, to_csv, to_html, to_latex, to_markdown, to_rich, to_text
    from art_mtl.evaluation.victims import Victim, load_victim, victim_names

_HOMES = {
    "Callback": "callbacks",
    "UnitReport": "callbacks",
    "Comparison": "compare",
    "compare_runs": "compare",
    "comparison_table": "comparison",
    "write_comparison": "comparison",
    "Check": "diagnosis",
    "Diagnosis": "diagnosis",
    "diagnose": "diagnosis",
    "diagnosis_table": "diagnosis",
    "Experiment": "experiment",
    "paper_tables": "paper",
    "reproduce": "paper",
    "Gallery": "report",
    "write_report": "report",
    "AttackResult": "results",
    "Block": "results",
    "Difference": "results",
    "Environment": "results",
    "Results": "results",
    "TaskResult": "results",
    "Run": "run",
    "evaluate": "runner",
    "make_table": "tables",
    "to_csv": "tables",
    "to_html": "tables",
    "to_latex": "tables",
    "to_markdown": "tables",
    "to_rich": "tables",
    "to_text": "tables",
    "Victim": "victims",
    "load_victim": "victims",
    "victim_names": "victims",
}

__all__ = [
    "AttackResult",
    "Block",
    "Callback",
    "Check",
    "Comparison",
    "Diagnosis",
    "Difference",
    "Environment",
    "Experiment",
    "Gallery",
    "Results",
    "Run",
    "TaskResult",
    "UnitReport",
    "Victim",
    "compare_runs",
    "comparison_table",
    "diagnose",
    "diagnosis_table",
    "evaluate",
    "load_victim",
    "make_table",
    "paper_tables",
    "reproduce",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "to_text",
    "victim_names",
    "write_comparison",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"art_mtl.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
