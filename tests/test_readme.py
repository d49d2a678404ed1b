"""The README's blocks run, given what a reader brings: a model, inputs and labels (smaller than the example's)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


class Net(torch.nn.Module):
    """The three dense tasks of the README's example."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 17, 3, padding=1)

    def forward(self, x):
        out = self.conv(x)
        normal = torch.nn.functional.normalize(out[:, 14:], dim=1)
        return {"seg": out[:, :13], "depth": 2 + out[:, 13:14], "normal": normal}


@pytest.fixture(scope="module")
def reader():
    """What the blocks take for granted."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 3, 24, 32)).astype(np.float32)
    normal = rng.normal(size=(2, 3, 24, 32)).astype(np.float32)
    y = {
        "seg": rng.integers(0, 13, (2, 24, 32)),
        "depth": rng.uniform(1, 5, (2, 24, 32)).astype(np.float32),
        "normal": normal / np.linalg.norm(normal, axis=1, keepdims=True),
    }
    tensors = {name: torch.from_numpy(array) for name, array in y.items()}
    return {"model": Net(), "x": x, "y": y, "images": torch.from_numpy(x), "labels": tensors}


def test_the_blocks_run_one_after_another(reader, capsys):
    pytest.importorskip("torchattacks")
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        smaller = block.replace("(3, 288, 384)", "(3, 24, 32)")
        exec(compile(smaller, str(README), "exec"), reader)
    for before, after in [(reader["x"], reader["x_adv"]), (reader["x"], reader["adv_images"].numpy())]:
        moved = abs(after - before)
        assert 0 < moved.max() <= 8 / 255 + 1e-6 and abs(after).max() <= 1
    assert float(capsys.readouterr().out.splitlines()[-1]) < 0
