"""Inside ``torch.inference_mode`` an attack is what it is under ``no_grad``."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from art_mtl.core import RunConfig, attack, make_method
from art_mtl.core.inference import normal_tensors, outside_inference_mode
from art_mtl.core.lending import check_differentiable


def run(case, x, targets):
    method = make_method("minmax", case.tasks)
    return attack(case.forward, x, case.tasks, targets, method, case.threat(math.inf, 0.1), RunConfig(3))


def test_an_attack_inside_is_that_outside(dense_case):
    case = dense_case(batch=2)
    expected = run(case, case.x, case.targets)
    with torch.inference_mode():
        x, targets = case.x.clone(), [target.map(torch.Tensor.clone) for target in case.targets]
        assert x.is_inference() and targets[0].valid.is_inference()
        with outside_inference_mode():
            found = run(case, *normal_tensors((x, targets)))
        assert torch.is_inference_mode_enabled()
    assert torch.equal(found, expected) and not found.is_inference()


@pytest.mark.parametrize("grad", [True, False])
def test_elsewhere_the_mode_of_gradients_stays(grad):
    with torch.set_grad_enabled(grad):
        with outside_inference_mode():
            assert torch.is_grad_enabled() == grad
        assert torch.is_grad_enabled() == grad


def test_the_mode_returns_after_an_error():
    with torch.inference_mode():
        with pytest.raises(KeyError), outside_inference_mode():
            raise KeyError
        assert torch.is_inference_mode_enabled()


def test_normal_tensors_are_themselves():
    x = torch.ones(2)
    assert normal_tensors([x])[0] is x


@pytest.mark.parametrize("make, name", [(lambda: torch.nn.Linear(3, 2), "weight"), (lambda: buffered(), "shift")])
def test_weights_made_inside_are_named(make, name):
    with torch.inference_mode():
        model = make()
    with pytest.raises(ValueError, match=f"outside torch.inference_mode.*'{name}'.*deepcopy"):
        check_differentiable(model)
    check_differentiable(make())
    mended = copy.deepcopy(model)
    check_differentiable(mended)
    x = torch.ones(1, 3, requires_grad=True)
    assert torch.autograd.grad(mended(x).sum(), x)[0].shape == (1, 3)


def buffered():
    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.ones(3))

        def forward(self, x):
            return x * self.shift

    return Shifted()
