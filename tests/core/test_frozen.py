from __future__ import annotations

import copy

import pytest
import torch

from art_mtl.core import frozen


@pytest.fixture
def net():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 2))
    net.train()
    net[1].eval()  # modes differ from module to module
    net[0].bias.requires_grad_(False)
    net(torch.randn(5, 3)).sum().backward()
    net[3].weight.grad = None
    return net


def _state(net):
    return {
        "modes": [m.training for m in net.modules()],
        "learning": [p.requires_grad for p in net.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in net.parameters()],
        "values": copy.deepcopy(net.state_dict()),
        "hooks": [len(m._forward_hooks) for m in net.modules()],
        "rng": torch.get_rng_state(),
    }


def _same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def _use(net):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    torch.autograd.grad(net(x).sum(), x)


def test_everything_is_as_before(net):
    before = _state(net)
    with frozen(net):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        _use(net)
    assert _same(before, _state(net))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_also_after_an_exception(net, error):
    before = _state(net)
    with pytest.raises(error), frozen(net):
        _use(net)
        raise error
    assert _same(before, _state(net))


def test_modes_can_be_left_alone(net):
    modes = [m.training for m in net.modules()]
    with frozen(net, evaluate=False):
        assert [m.training for m in net.modules()] == modes
        assert not any(p.requires_grad for p in net.parameters())
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
