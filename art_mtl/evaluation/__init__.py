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
    from art_mtl.evaluation.callbacks import Callback, RunPlan, UnitReport
    from art_mtl.evaluation.compare import Comparison, compare_runs
    from art_mtl.evaluation.diagnosis import Check, Diagnosis, diagnose, diagnosis_table
    from art_mtl.evaluation.experiment import Experiment
    from art_mtl.evaluation.report.gallery import Gallery
    from art_mtl.evaluation.report.layout import to_rich, to_text
    from art_mtl.evaluation.report.measure_table import make_measure_table
    from art_mtl.evaluation.report.tables import make_table, to_csv, to_html, to_latex, to_markdown
    from art_mtl.evaluation.report.write import Background, write_page, write_report
    from art_mtl.evaluation.reproduction.comparison_table import comparison_table, write_comparison
    from art_mtl.evaluation.reproduction.paper_tables import paper_tables, reproduce
    from art_mtl.evaluation.results import AttackResult, Block, Difference, Environment, Results, TaskResult
    from art_mtl.evaluation.run import Run
    from art_mtl.evaluation.runner import evaluate
    from art_mtl.evaluation.trackers import MLflowCallback, TensorBoardCallback, TrackerCallback, WandbCallback
    from art_mtl.zoo.victims import Victim, load_victim, victim_names

_HOMES = {
    "Callback": "art_mtl.evaluation.callbacks",
    "RunPlan": "art_mtl.evaluation.callbacks",
    "UnitReport": "art_mtl.evaluation.callbacks",
    "Comparison": "art_mtl.evaluation.compare",
    "compare_runs": "art_mtl.evaluation.compare",
    "comparison_table": "art_mtl.evaluation.reproduction.comparison_table",
    "write_comparison": "art_mtl.evaluation.reproduction.comparison_table",
    "Check": "art_mtl.evaluation.diagnosis",
    "Diagnosis": "art_mtl.evaluation.diagnosis",
    "diagnose": "art_mtl.evaluation.diagnosis",
    "diagnosis_table": "art_mtl.evaluation.diagnosis",
    "Experiment": "art_mtl.evaluation.experiment",
    "paper_tables": "art_mtl.evaluation.reproduction.paper_tables",
    "reproduce": "art_mtl.evaluation.reproduction.paper_tables",
    "Gallery": "art_mtl.evaluation.report.gallery",
    "Background": "art_mtl.evaluation.report.write",
    "write_page": "art_mtl.evaluation.report.write",
    "write_report": "art_mtl.evaluation.report.write",
    "AttackResult": "art_mtl.evaluation.results",
    "Block": "art_mtl.evaluation.results",
    "Difference": "art_mtl.evaluation.results",
    "Environment": "art_mtl.evaluation.results",
    "Results": "art_mtl.evaluation.results",
    "TaskResult": "art_mtl.evaluation.results",
    "Run": "art_mtl.evaluation.run",
    "evaluate": "art_mtl.evaluation.runner",
    "make_measure_table": "art_mtl.evaluation.report.measure_table",
    "make_table": "art_mtl.evaluation.report.tables",
    "to_csv": "art_mtl.evaluation.report.tables",
    "to_html": "art_mtl.evaluation.report.tables",
    "to_latex": "art_mtl.evaluation.report.tables",
    "to_markdown": "art_mtl.evaluation.report.tables",
    "to_rich": "art_mtl.evaluation.report.layout",
    "to_text": "art_mtl.evaluation.report.layout",
    "MLflowCallback": "art_mtl.evaluation.trackers",
    "TensorBoardCallback": "art_mtl.evaluation.trackers",
    "TrackerCallback": "art_mtl.evaluation.trackers",
    "WandbCallback": "art_mtl.evaluation.trackers",
    "Victim": "art_mtl.zoo.victims",
    "load_victim": "art_mtl.zoo.victims",
    "victim_names": "art_mtl.zoo.victims",
}

__all__ = [
    "Background",
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
    "MLflowCallback",
    "Results",
    "Run",
    "RunPlan",
    "TaskResult",
    "TensorBoardCallback",
    "TrackerCallback",
    "UnitReport",
    "Victim",
    "WandbCallback",
    "compare_runs",
    "comparison_table",
    "diagnose",
    "diagnosis_table",
    "evaluate",
    "load_victim",
    "make_measure_table",
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
    "write_page",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
