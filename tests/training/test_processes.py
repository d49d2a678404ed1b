"""Runs in processes of their own: killed and started again, and several that train one network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from art_mtl.models import read_metadata
from art_mtl.training.folder import RunFolder
from art_mtl.training.process_group import ProcessGroup, assemble

TINY = Path(__file__).with_name("tiny.py")


def launch(arguments: list[str], **environment: str) -> subprocess.Popen[str]:
    """Python with one thread and this copy of the package."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TINY.parents[2]), **environment},
    )


def test_killed_at_any_moment_a_run_ends_with_the_same_weights(
    tiny: ModuleType, photographs: Path, tmp_path: Path
) -> None:
    """kill -9 while steps, checkpoints and weights are being written; then the same command again."""
    settings: dict[str, Any] = {"network": "noisy", "recipe": {"epochs": 40, "batch_size": 2}, "checkpoint_minutes": 0}
    tiny.run(photographs, tmp_path / "whole", **settings)
    out = tmp_path / "run"
    process = launch([str(TINY), str(photographs), str(out), json.dumps(settings)])
    assert process.stdout is not None
    while int(process.stdout.readline()) < 31:  # of 120
        continue
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    state = RunFolder(out).load()
    assert state is not None
    reached = 3 * state.epoch + state.step
    assert 31 <= reached < 120, "it was going on when it was killed"
    assert tiny.run(photographs, out, **settings).resumed == reached
    for name in ("last.safetensors", "best.safetensors"):
        tensors, expected = load_file(out / name), load_file(tmp_path / "whole" / name)
        assert all(torch.equal(tensor, expected[key]) for key, tensor in tensors.items())
        assert read_metadata(out / name) == read_metadata(tmp_path / "whole" / name)
    assert (out / "history.json").read_bytes() == (tmp_path / "whole" / "history.json").read_bytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


TWO = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, {folder!r})
import tiny
from art_mtl.training.trainer import Trainer

torch.set_num_threads(1)
photographs, out, rank = Path({photographs!r}), Path({out!r}), os.environ["RANK"]
run = Trainer.run

def spy(self):
    run(self)
    torch.save(self.model.state_dict(), out / f"{{self.metadata['model']}}-{{rank}}.pt")

Trainer.run = spy
tiny.run(photographs, out / "tiny", recipe={recipe!r}, progress=lambda step: print(step.step))
os.environ["MASTER_PORT"] = "{port}"  # a group of one's own for several runs
torch.distributed.init_process_group("gloo")
tiny.run(photographs, out / "noisy", network="noisy", recipe={{"epochs": 2}})
try:
    tiny.run(photographs, out / "noisy", recipe={{"epochs": 3}})
except ValueError as error:
    print(error)
torch.distributed.destroy_process_group()
"""


def test_two_processes_train_as_one(tiny: ModuleType, photographs: Path, tmp_path: Path) -> None:
    """With the variables that torchrun sets. Batches of three, so that the shares differ."""
    recipe = {"epochs": 4, "batch_size": 3, "rate": 0.05}
    tiny.run(photographs, tmp_path / "one", recipe=recipe)
    paths = {"folder": str(TINY.parent), "photographs": str(photographs), "out": str(tmp_path)}
    script = TWO.format(**paths, recipe=recipe, port=free_port())
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [launch(["-c", script], RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)]
    told = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told

    one, two = (load_file(tmp_path / name / "last.safetensors") for name in ("one", "tiny"))
    for key, tensor in one.items():
        torch.testing.assert_close(two[key], tensor, rtol=1e-4, atol=1e-6)
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "tiny")]
    for expected, entry in zip(*histories, strict=True):
        assert entry["losses"] == pytest.approx(expected["losses"], rel=1e-4)
        assert entry["metrics"] == pytest.approx(expected["metrics"], rel=1e-3)
    for network in ("tiny", "noisy"):
        first, second = (torch.load(tmp_path / f"{network}-{rank}.pt", weights_only=True) for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), "parameters and running figures"

    lines = [text.splitlines() for text, _ in told]
    assert lines[0][:-1] == [str(step) for step in range(1, 9)], "the first process tells of its steps"
    assert (
        lines[1] == lines[0][-1:]
        and "model=noisy, recipe.epochs=2; you asked for model=tiny, recipe.epochs=3" in lines[1][0]
    )


def test_alone_without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with assemble("cpu") as team:
        assert team == ProcessGroup(0, 1, torch.device("cpu")) and team.is_first
        assert team.by_first(lambda: 3) == 3
        numbers = torch.ones(2)
        assert team.total(numbers) is numbers
        net = torch.nn.Linear(1, 1)
        assert team.wrap(net) is net


def test_half_of_torchrun_s_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with (
        pytest.raises(ValueError, match="Found no LOCAL_RANK, MASTER_ADDR, MASTER_PORT. Start .* with torchrun"),
        assemble("cpu"),
    ):
        pass
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE should be a whole number. Found 'two'"), assemble("cpu"):
        raise AssertionError("it should not have begun")
