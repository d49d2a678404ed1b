"""Evaluate attacks: run them, measure the degradation of every task, and report it.

What is named here is imported when it is asked for.

Examples:
    >>> from art_mtl.evaluation import benchmark, load_victim
    >>> victim = load_victim("digits")  # doctest: +SKIP
    >>> results = benchmark(victim, ["equal", "worst-task"], eps=[0.05], limit=64)  # doctest: +SKIP
    >>> results.to_json("results.json")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from art_mtl.evaluation.callbacks import Callback, UnitReport
    from art_mtl.evaluation.comparison import comparison_table, write_comparison
    from art_mtl.evaluation.diagnosis import Check, Diagnosis, diagnose, diagnosis_table
    from art_mtl.evaluation.experiment import Experiment
    from art_mtl.evaluation.grid import benchmark
    from art_mtl.evaluation.paper import paper_tables, reproduce
    from art_mtl.evaluation.report import Gallery, write_report
    from art_mtl.evaluation.results import AttackResult, Block, Environment, Results, TaskResult
    from art_mtl.evaluation.run import Run
    from art_mtl.evaluation.runner import evaluate
    from art_mtl.evaluation.runs import RunState, compare_runs, read_run
    from art_mtl.evaluation.tables import make_table, to_csv, to_latex, to_markdown, to_rich
    from art_mtl.evaluation.victims import Victim, load_victim, victim_names

_HOMES = {
    "UnitReport": "callbacks",
    "Run": "run",
    "Callback": "callbacks",
    "AttackResult": "results",
    "Block": "results",
    "Check": "diagnosis",
    "Diagnosis": "diagnosis",
    "Environment": "results",
    "Experiment": "experiment",
    "Gallery": "report",
    "Results": "results",
    "RunState": "runs",
    "TaskResult": "results",
    "Victim": "victims",
    "benchmark": "grid",
    "compare_runs": "runs",
    "comparison_table": "comparison",
    "diagnose": "diagnosis",
    "diagnosis_table": "diagnosis",
    "evaluate": "runner",
    "load_victim": "victims",
    "make_table": "tables",
    "paper_tables": "paper",
    "read_run": "runs",
    "reproduce": "paper",
    "to_csv": "tables",
    "to_latex": "tables",
    "to_markdown": "tables",
    "to_rich": "tables",
    "victim_names": "victims",
    "write_comparison": "comparison",
    "write_report": "report",
}

__all__ = [
    "UnitReport",
    "Run",
    "Callback",
    "AttackResult",
    "Block",
    "Check",
    "Diagnosis",
    "Environment",
    "Experiment",
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"art_mtl.evaluation.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
