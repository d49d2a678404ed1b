"""``variant="official"`` on MTAN, bit for bit the loop that the authors published, written out plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MinMaxMultiTaskPGD
from art_mtl.models import MTAN

SIZE, STEPS = (8, 16), 10
EPS = {math.inf: 8 / 255, 2.0: 1.5}


@pytest.fixture(scope="module")
def victim():
    """MTAN as it looks after training: its running statistics are those of the images."""
    torch.manual_seed(0)
    x = 2 * torch.rand(4, 3, *SIZE) - 1
    x[:, :, :2] = x[:, :, :2].sign()  # on the edge of the box
    model = MTAN({"segmentation": 13, "depth": 1, "normals": 3}).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # average, of this one batch
    with torch.no_grad():
        model(x)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last), x  # a third of the time


@pytest.fixture(scope="module")
def labels():
    g = torch.Generator().manual_seed(1)
    hole = torch.rand(3, 4, *SIZE, generator=g) < 0.2
    hole[0, 2, :5] = True  # images with different numbers of valid pixels
    normals = F.normalize(torch.randn(4, 3, *SIZE, generator=g), dim=1)
    return {
        "segmentation": torch.randint(0, 13, (4, *SIZE), generator=g).masked_fill(hole[0], -1),
        "depth": (0.5 + 9 * torch.rand(4, 1, *SIZE, generator=g)).masked_fill(hole[1][:, None], 0),
        "normals": normals.masked_fill(hole[2][:, None], 0),
    }


def batch_means(outputs, labels):
    """L_i of the batch: sums over the valid pixels, image after image, divided by their number."""
    elements = [
        F.cross_entropy(outputs["segmentation"], labels["segmentation"], ignore_index=-1, reduction="none"),
        (outputs["depth"] - labels["depth"]).abs().sum(1) * (labels["depth"] != 0).any(1),
        (outputs["normals"] - labels["normals"]).abs().sum(1) * (labels["normals"] != 0).any(1),
    ]
    valid = [labels["segmentation"] != -1, (labels["depth"] != 0).any(1), (labels["normals"] != 0).any(1)]
    images = [each.flatten(1).sum(1) for each in elements]
    sums = [a + b + c + d for a, b, c, d in images]
    return torch.stack(sums) / torch.stack([v.sum() for v in valid])


def simplex(v):
    """Sort-based; the greatest is taken off first, which changes rounding alone."""
    v = v - v.max()
    ordered = v.sort(descending=True).values
    thresholds = (ordered.cumsum(0) - 1) / torch.arange(1, len(v) + 1)
    return (v - thresholds[(ordered > thresholds).sum() - 1]).clamp(min=0)


def published(model, x, labels, norm, eps):
    """The loop: δ and w from the same forward, relative losses of batch means, scale to the ball, clamp to the box."""
    start = batch_means(model(x), labels)
    adv, w, history = x, torch.full((3,), 1 / 3), []
    for _ in range(STEPS):
        adv = adv.detach().requires_grad_(True)
        r = (batch_means(model(adv), labels) - start) / start
        (g,) = torch.autograd.grad((w * r).sum(), adv)
        history.append(w)
        adv = adv.detach()
        if norm == math.inf:
            delta = (adv + 0.25 * eps * g.sign() - x).clamp(-eps, eps)
        else:
            delta = adv + 0.2 * eps * (g / (g.flatten(1).norm(dim=1) + 1e-10).view(-1, 1, 1, 1)) - x
            delta = delta * (eps / delta.flatten(1).norm(dim=1)).clamp(max=1).view(-1, 1, 1, 1)
        adv = (x + delta).clamp(-1, 1)
        w = simplex(w - (1 / 30) * (r.detach() + 1.0 * (w - 1 / 3)))
    return adv, torch.stack(history)


@pytest.mark.parametrize("norm", list(EPS))
def test_official_variant_is_the_published_loop_bit_for_bit(victim, labels, norm):
    model, x = victim
    task_list = [tasks.segmentation("segmentation", 13), tasks.depth("depth"), tasks.surface_normals("normals")]
    estimator = PyTorchMultiTaskEstimator(
        model, tasks=task_list, input_shape=(3, *SIZE), clip_values=(-1.0, 1.0), device_type="cpu"
    )
    attack = MinMaxMultiTaskPGD(
        estimator, variant="official", norm=norm, eps=EPS[norm], max_iter=STEPS, batch_size=4, verbose=False
    )
    seen = []
    attack.observer = seen.append
    found = attack.generate(x.numpy(), {name: label.numpy() for name, label in labels.items()})

    expected, history = published(model, x, labels, norm, torch.tensor(EPS[norm]))
    weights = torch.stack([record.weights for record in seen])
    assert torch.equal(weights, history[:, None].expand(-1, 4, -1))
    np.testing.assert_array_equal(found, expected.numpy())
    assert (history[-1] - 1 / 3).abs().max() > 0.02  # the weights did move
    assert (expected - x).abs().max() > EPS[norm] / 10


def test_the_losses_of_the_loop_are_the_protocols_batch_means(victim, labels):
    outputs = {name: output.double() for name, output in victim[0](victim[1]).items()}
    expected = [F.cross_entropy(outputs["segmentation"], labels["segmentation"], ignore_index=-1)]
    for name in ("depth", "normals"):
        mask = (labels[name].sum(1, keepdim=True) != 0).double()
        total = ((outputs[name] - labels[name]).abs() * mask).sum()
        expected.append(total / mask.count_nonzero())
    torch.testing.assert_close(batch_means(outputs, labels), torch.stack(expected), rtol=1e-12, atol=0)
