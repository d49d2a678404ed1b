"""Outputs in half precision: losses, scores and statistics are reduced in single."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD

SIZE = (288, 384)
"""As large as the paper's: 110592 pixels, whose number float16 cannot hold."""
KINDS = [
    (tasks.segmentation("t", 5), (5, *SIZE)),
    (tasks.depth("t"), (1, *SIZE)),
    (tasks.surface_normals("t"), (3, *SIZE)),
    (tasks.classification("t", 1000), (1000,)),
    (tasks.multilabel("t", 70000), (70000,)),
    (tasks.regression("t"), (70000,)),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("task", "shape"), KINDS, ids=[task.kind for task, _ in KINDS])
def test_every_figure_is_that_of_the_same_numbers_in_single_precision(task, shape, dtype):
    half = (3 * torch.randn(2, *shape)).to(dtype)
    target = task.targets(task.decode(torch.randn(2, *shape)))
    low, high = task.check_output(half, target), task.check_output(half.float(), target)
    for figure in (task.loss, task.score, task.statistics, lambda *a: task.pool(*a)[0]):
        found = figure(low, target)
        assert found.dtype in (torch.float32, torch.float64) and torch.isfinite(found).all()
        assert torch.equal(found, figure(high, target))


def test_a_map_of_one_loss_has_that_loss():
    """Equal logits of 5 classes: ln 5 at each pixel; in float16 the sum of 110592 of them is infinite."""
    task = tasks.segmentation("seg", 5)
    target = task.targets(np.zeros((1, *SIZE), np.int64))
    found = task.loss(task.check_output(torch.zeros(1, 5, *SIZE, dtype=torch.float16), target), target)
    assert found.item() == pytest.approx(np.log(5), rel=1e-6)


class Half(nn.Module):
    """``autocast``: weights in single precision, outputs in half."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 1)

    def forward(self, x):
        with torch.autocast("cpu", torch.float16):
            return {"seg": self.conv(x)}


@pytest.mark.parametrize("model", [Half(), nn.Sequential(nn.Conv2d(3, 5, 1)).half()], ids=["autocast", "half()"])
def test_a_model_of_half_precision_is_attacked(model):
    task = tasks.segmentation("seg", 5)
    estimator = PyTorchMultiTaskEstimator(model, [task], (3, *SIZE), clip_values=(0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(size=(1, 3, *SIZE)).astype(np.float32)
    y = estimator.own_labels(x)
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=2, verbose=False)
    before, after = (estimator.compute_losses(z, y)["seg"] for z in (x, attack.generate(x, y)))
    assert np.isfinite(after).all() and (after > before + 0.01).all()
