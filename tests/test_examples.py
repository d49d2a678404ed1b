"""Every example runs, as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {
    "art_in_ten_lines.py": "least damaged task: -",
    "art_own_attacks.py": "FastGradientMethod",
    "own_model.py": "Δ_Wor -",
    "torchattacks_in_ten_lines.py": "% still right",
}


def test_every_example_is_known():
    assert {path.name for path in EXAMPLES} == set(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, tmp_path):
    if path.name.startswith("torchattacks"):
        pytest.importorskip("torchattacks")
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(path)],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert SAYS[path.name] in run.stdout
