"""Models that are wrapped, recurrent, random or write to their inputs, and those that cannot be prepared."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import distributed, nn

from art_mtl.core import frozen
from art_mtl.prepared import Preparation, prepare


def _net():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    nn.init.normal_(net[1].running_mean, std=0.1)
    return net.eval()


@pytest.fixture
def x():
    return torch.rand(2, 3, 5, 5)


@pytest.fixture
def group(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": nn.parallel.DistributedDataParallel,
    "both": lambda net: nn.DataParallel(nn.parallel.DistributedDataParallel(net)),
    "compiled": torch.compile,
    "inside": lambda net: nn.Sequential(nn.Identity(), nn.parallel.DistributedDataParallel(net)),
    "inside an inside": lambda net: nn.Sequential(nn.DataParallel(nn.Sequential(nn.DataParallel(net)))),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("how", ["fp32", "bf16,memory-efficient"])
def test_wrapped_models_are_unwrapped(group, x, wrapper, how):
    net = _net()
    wrapped = WRAPPERS[wrapper](net)
    before = [(type(m), m.training) for m in wrapped.modules()]
    fast = prepare(wrapped, x, how)
    assert fast.folded == 1 and not [m for m in fast.modules() if "Parallel" in type(m).__name__]
    torch.testing.assert_close(fast(x), net(x), rtol=0.05, atol=0.05 if "bf16" in how else 1e-5)
    assert [(type(m), m.training) for m in wrapped.modules()] == before and net[0].weight.requires_grad


def test_what_is_shared_through_a_wrapper_still_is(x):
    net = _net()
    model = nn.Identity()
    model.one, model.other = net, nn.DataParallel(net)
    inner = prepare(model, x, Preparation(fold=False))._inner
    assert inner.one is inner.other and inner.one is not net


def test_hooks_on_a_wrapper_are_named(x):
    wrapped = nn.DataParallel(_net())
    wrapped.register_forward_hook(lambda module, inputs, output: output + 1)
    with pytest.raises(ValueError, match="on the model, not on its wrapper. Found hooks on DataParallel"):
        prepare(wrapped, x)


UNCOPYABLE = {
    "traced": lambda net, x: torch.jit.trace(net, x),
    "scripted": lambda net, x: torch.jit.script(net),
    "loaded": lambda net, x: torch.jit.freeze(torch.jit.script(net)),
    "exported": lambda net, x: torch.export.export(net, (x,)).module(),
    "inside": lambda net, x: nn.Sequential(torch.jit.trace(net, x)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", UNCOPYABLE)
def test_compiled_graphs_are_refused_in_words(x, kind):
    model = UNCOPYABLE[kind](_net(), x)
    with pytest.raises(ValueError, match=r"attack it as it is \('exact'\).* Found .* which is (traced|exported)"):
        prepare(model, x)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, AttributeError, NotImplementedError, ValueError, KeyError])
def test_whatever_copying_raises_is_put_in_words(x, error):
    class Net(nn.Linear):
        def __deepcopy__(self, memo):
            raise error("not twice")

    with pytest.raises(ValueError, match="copyable by `copy.deepcopy`.*not twice"):
        prepare(nn.Sequential(Net(3, 2)), x)


def test_symbolically_traced_models_can_be_prepared(x):
    traced = torch.fx.symbolic_trace(_net())
    assert prepare(traced, x).folded == 1


# --- recurrent ---


class Recurrent(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.layer, self.drop = lstm(4, 3, num_layers=2, dropout=0.5, batch_first=True), nn.Dropout()

    def forward(self, x):
        return self.drop(self.layer(x)[0])


@pytest.mark.parametrize("how", ["fp32", "fp32,memory-efficient", "bf16"])
def test_recurrent_layers_can_be_differentiated(ruled_lstm, how):
    net, x = Recurrent(ruled_lstm).eval(), torch.randn(5, 7, 4)
    fast = prepare(net, x, how)
    leaf = x.clone().requires_grad_()
    out = fast.train()(leaf)
    torch.autograd.grad(out.sum(), leaf)
    with frozen(net, evaluate=True):
        tolerance = 0.1 if how == "bf16" else 0
        torch.testing.assert_close(out.detach(), net(x), rtol=tolerance, atol=tolerance)
    assert not net.layer.training and net.layer.dropout == 0.5
    with frozen(fast):
        torch.autograd.grad(fast(leaf).sum(), leaf)


# --- inputs and random numbers ---


class InPlace(nn.Module):
    """Normalises its inputs in place, as many image models do."""

    def __init__(self):
        super().__init__()
        self.net = _net()

    def forward(self, x):
        return self.net(x.sub_(0.5).div_(0.25))


@pytest.mark.parametrize("how", ["fp32", "fp32,memory-efficient", "bf16", "fp16"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_a_model_that_writes_to_its_inputs(x, how, channels_last):
    net = InPlace()
    example = x.to(memory_format=torch.channels_last) if channels_last else x.clone()
    fast = prepare(net, example, how)
    assert torch.equal(example, x) and fast.folded == 1
    leaf = example.clone().requires_grad_()
    out = fast(leaf)
    assert torch.equal(leaf, x) and torch.autograd.grad(out.sum(), leaf)[0].abs().sum() > 0
    tolerance = 1e-5 if "fp32" in how else 0.1
    torch.testing.assert_close(out.detach(), net.net((x - 0.5) / 0.25).detach(), rtol=tolerance, atol=tolerance)


def test_half_precision_inputs_are_copied_too(x):
    fast, half = prepare(InPlace(), x, "bf16"), x.bfloat16()
    kept = half.clone()
    fast(half)
    assert torch.equal(half, kept)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = _net()

    def forward(self, x):
        return self.net(x + torch.randn_like(x))


def test_a_random_model_is_folded_and_the_random_state_is_left(x):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert prepare(Noisy(), x).folded == 1
    torch.manual_seed(3)
    net = Noisy()
    before = torch.get_rng_state()
    prepare(net, x, "bf16")
    assert torch.equal(before, torch.get_rng_state())


def test_inside_inference_mode_and_of_a_model_made_there(x):
    net = _net()
    with torch.inference_mode():
        inner, fast = copy.deepcopy(net), prepare(net, torch.rand(2, 3, 5, 5))
        leaf = x.clone()
    for model in (fast, prepare(inner, leaf)):
        point = x.clone().requires_grad_()
        assert torch.autograd.grad(model(point).sum(), point)[0].abs().sum() > 0
        torch.testing.assert_close(model(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_forward_of_one_layers_own_is_kept(x):
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    net[1].forward = torch.neg
    torch.testing.assert_close(prepare(net, x, "fp32,memory-efficient")(x), net(x))
