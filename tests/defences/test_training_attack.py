"""The attack for training loops of one's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from art_mtl import tasks
from art_mtl.defences import TrainingAttack


def test_one_step_on_a_linear_model_is_the_closed_form():
    """The loss |w·x| rises fastest along the sign of w: one step of 2 ε ends in that corner of the ball."""
    net = nn.Linear(3, 1, bias=False)
    net.weight.data = torch.tensor([[0.5, -2.0, 1.0]])
    task, x = tasks.regression("y"), torch.full((4, 3), 0.5)
    attack = TrainingAttack(eps=0.1, step_size=0.2, steps=1, bounds=(0.0, 1.0))
    found = attack(net, x, [task], [task.targets(torch.full((4, 1), -9.0))], torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, x + 0.1 * net.weight.sign())


@pytest.mark.parametrize("training", [True, False])
def test_the_model_in_training_is_left_as_it_was(training):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)).train(training)
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    task, random = tasks.regression("y"), torch.get_rng_state()
    attack = TrainingAttack(eps=0.1, step_size=0.05, steps=3, bounds=(0.0, 1.0))
    attack(net, torch.rand(5, 3, generator=torch.Generator().manual_seed(0)), [task], [task.targets(torch.zeros(5, 1))],
           torch.Generator().manual_seed(0))  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes and torch.equal(random, torch.get_rng_state())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_it_starts_at_a_random_point_of_the_ball():
    """With a step of next to nothing the result is the start: uniform in the ball, another for another generator."""
    net, task = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1)), tasks.regression("y")
    x = torch.full((32, 1, 8, 8), 0.5)
    hostile = TrainingAttack(eps=0.1, step_size=1e-6, steps=1, bounds=(0.0, 1.0))
    found = [
        hostile(net, x, [task], [task.targets(torch.zeros(32, 1))], torch.Generator().manual_seed(seed)) - x
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2], atol=1e-3)
    shares = found[0].flatten().sort().values / 0.1
    expected = torch.linspace(-1, 1, len(shares))
    assert (shares - expected).abs().max() < 0.1  # Kolmogorov-Smirnov: 2.2/√2048 ≈ 0.05 in a million of draws
