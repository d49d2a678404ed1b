"""Every example runs, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from art_mtl.evaluation import evaluate, load_victim

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
ARGUMENTS = {"claims.py": ["r"]}
PUBLISHED = ["equal", "normalize", "dgba", "alternate", "minmax", "minmax-official"]
CLAIMED = {"10": (4, ["all"]), "5": (2, ["worst-task"]), "20": (8, PUBLISHED), "image": (4, ["worst-image"])}
"""Runs that the claims are read from: steps, here fewer than their names say, and methods."""
SAYS = {
    "art_in_ten_lines.py": "least degraded task: -",
    "art_own_attacks.py": "FastGradientMethod",
    "claims.py": "share of the single-task reference",
    "evaluation.py": "twenty − ten",
    "own_model.py": "Δ_Wor -",
    "secmlt_in_ten_lines.py": "left: loss",
    "torchattacks_in_ten_lines.py": "% still right",
    "watch.py": "worst-task: Δ_Wor -",
}


def test_every_example_is_known():
    assert {path.name for path in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    if path.name == "claims.py":
        for run, (steps, methods) in CLAIMED.items():
            results = evaluate(load_victim("digits"), methods, eps=[0.05], steps=steps, limit=8, progress=False).results
            results.to_json(tmp_path / f"r-{run}" / "results.json")
    host = path.name.partition("_")[0]
    if host in ("secmlt", "torchattacks"):
        pytest.importorskip(host)
    ran = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(path), *ARGUMENTS.get(path.name, [])],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert SAYS[path.name] in ran.stdout
