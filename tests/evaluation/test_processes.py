"""Runs in processes of their own: killed, and measured for memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parents[2])}
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the scripts fork")


def python(script: str, *arguments: str) -> str:
    """What a script of this folder prints."""
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_killed_runs_go_on() -> None:
    """Tables, figures and results byte for byte; no stored unit is worked twice. More: see the script."""
    assert "2 runs killed" in python("kills.py", "--count", "2")


def test_memory_does_not_grow_with_the_data() -> None:
    """6,000 samples are 94 MiB; what is kept of each is its figures."""
    few, many = (int(line.split()[1]) for line in python("memory.py", "100", "6000").splitlines())
    assert many < few + 60
