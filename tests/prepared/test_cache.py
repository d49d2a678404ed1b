"""A prepared copy never outlives what it was copied from."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl.prepared import Preparation, PreparedCache
from art_mtl.prepared.signature import differences, signature

HOW = Preparation()


class Config:
    def __init__(self):
        self.gain, self.inner = 1.0, types.SimpleNamespace(shift=0.0)


class Hook:
    def __init__(self):
        self.factor = 1.0

    def __call__(self, module, inputs, output):
        return output * self.factor


class Net(nn.Module):
    """Reads attributes of every kind."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.rest = nn.ModuleList([nn.Identity(), nn.Identity()])
        self.scale, self.flip, self.mode = 1.0, False, "plain"
        self.gains, self.named, self.config = [1.0, [1.0]], {"shift": 0.0}, Config()
        self.array, self.tensor = np.ones(1, np.float32), torch.ones(4, 1, 1)
        self.partial = functools.partial(torch.mul, other=1.0)
        self.hidden = [nn.Dropout(0.0)]
        self.register_buffer("offset", torch.zeros(1))

    def forward(self, x):
        hidden = self.act(self.norm(self.conv(x))) * self.scale * self.gains[0] * self.gains[1][0]
        for module in self.rest:
            hidden = module(hidden)
        hidden = self.partial(hidden) * self.tensor * float(self.array[0]) + self.named["shift"] + self.offset
        hidden = hidden * self.config.gain + self.config.inner.shift
        hidden = torch.flip(hidden, [3]) if self.flip else hidden
        return hidden if self.mode == "plain" else -hidden


def _hook(net):
    net.act.register_forward_hook(lambda module, inputs, output: output + 1)


def _no_grad(change):
    def run(net):
        with torch.no_grad():
            change(net)

    return run


def _train(net):
    net.norm.num_batches_tracked = None  # Then only the statistics move, which torch counts as no change of theirs.
    net.train()(torch.rand(4, 3, 5, 5))
    net.eval()


CHANGES = {
    "module without tensors": lambda net: setattr(net, "act", nn.Tanh()),
    "attribute of a module without tensors": lambda net: setattr(net, "act", nn.LeakyReLU(0.5)),
    "module in a list": lambda net: net.rest.insert(1, nn.Tanh()),
    "order of modules": lambda net: setattr(net, "rest", nn.ModuleList([nn.Tanh(), nn.Identity()])),
    "class of a module": lambda net: setattr(net.act, "__class__", nn.Tanh),
    "hook": _hook,
    "pre-hook": lambda net: net.act.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,)),
    "hook of the whole": lambda net: net.register_forward_hook(lambda module, inputs, output: -output),
    "float": lambda net: setattr(net, "scale", 2.0),
    "bool": lambda net: setattr(net, "flip", True),
    "string": lambda net: setattr(net, "mode", "other"),
    "entry of a list": lambda net: net.gains.__setitem__(0, 3.0),
    "entry of an inner list": lambda net: net.gains[1].__setitem__(0, 3.0),
    "entry of a dict": lambda net: net.named.update(shift=1.0),
    "attribute of an object": lambda net: setattr(net.config, "gain", 2.0),
    "attribute of an object's object": lambda net: setattr(net.config.inner, "shift", 2.0),
    "array": lambda net: net.array.fill(2),
    "tensor": lambda net: setattr(net, "tensor", torch.full((4, 1, 1), 2.0)),
    "tensor in place": lambda net: net.tensor.mul_(2),
    "partial": lambda net: setattr(net, "partial", functools.partial(torch.mul, other=3.0)),
    "forward": lambda net: setattr(net, "forward", types.MethodType(lambda self, x: self.conv(x), net)),
    "parameter": lambda net: setattr(net.conv, "weight", nn.Parameter(torch.ones(4, 3, 3, 3))),
    "parameter of another shape": lambda net: setattr(net.conv, "weight", nn.Parameter(torch.ones(4, 3, 1, 1))),
    "parameter in place": _no_grad(lambda net: net.conv.weight.mul_(2)),
    "parameter by data": lambda net: net.conv.weight.data.mul_(2),
    "one entry by data": lambda net: net.conv.weight.data[1, 2, 0, 1].add_(0.5),
    "entries by data, swapped": lambda net: net.conv.weight.data.copy_(net.conv.weight.data.flip(0)),
    "parameter by NumPy": lambda net: net.conv.bias.detach().numpy().__iadd__(1),
    "bias taken away": lambda net: setattr(net.conv, "bias", None),
    "buffer": lambda net: setattr(net, "offset", torch.ones(1)),
    "buffer by data": lambda net: net.norm.running_mean.data.add_(1),
    "statistics": _train,
    "eps": lambda net: setattr(net.norm, "eps", 1.0),
}


@pytest.fixture
def net():
    net = Net().eval()
    nn.init.normal_(net.norm.running_mean)
    return net


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(net, name):
    cache, x = PreparedCache(), torch.rand(2, 3, 5, 5)
    first = cache(net, x, HOW)
    torch.testing.assert_close(first(x), net(x), rtol=1e-4, atol=1e-5)
    before = net(x).detach()
    CHANGES[name](net)
    assert before.shape != net(x).shape or not torch.allclose(before, net(x), atol=1e-3), "no change at all"
    second = cache(net, x, HOW)
    assert second is not first
    torch.testing.assert_close(second(x), net(x), rtol=1e-4, atol=1e-5)
    assert cache(net, x, HOW) is second


def test_hooks_of_objects_with_a_state(net):
    hook, cache, x = Hook(), PreparedCache(), torch.rand(2, 3, 5, 5)
    handle = net.act.register_forward_hook(hook)
    first = cache(net, x, HOW)
    hook.factor = 2.0
    torch.testing.assert_close(cache(net, x, HOW)(x), net(x), rtol=1e-4, atol=1e-5)
    first = cache(net, x, HOW)
    handle.remove()
    net.act.register_forward_hook(hook)
    assert cache(net, x, HOW) is first
    net.act._forward_hooks.clear()
    assert cache(net, x, HOW) is not first


def test_what_changes_nothing_keeps_the_copy(net):
    cache, x = PreparedCache(), torch.rand(2, 3, 5, 5)
    net.nan, net.lstm = float("nan"), nn.LSTM(1, 1)
    first = cache(net, x, HOW)
    same = [
        lambda: net.train(),
        lambda: net.requires_grad_(False),
        lambda: net.eval(),
        lambda: net(x.clone().requires_grad_()).sum().backward(),
        lambda: setattr(net.lstm, "dropout", 0.5),  # Has no part in evaluation mode.
        lambda: setattr(net, "nan", float("nan")),
        lambda: setattr(net, "scale", 1.0),
    ]
    for change in same:
        change()
        assert cache(net, x, HOW) is first


class Writes(nn.Module):
    """Its forward writes attributes, as for statistics, or features that are looked at later."""

    def __init__(self):
        super().__init__()
        self.layer, self.gain, self.calls, self.shapes = nn.Linear(3, 2), 1.0, 0, []

    def forward(self, x):
        self.calls += 1
        self.shapes.append(tuple(x.shape))
        self.features = self.layer(x).detach()
        return self.layer(x) * self.gain


def test_what_the_forward_itself_writes_does_not_count():
    net, cache, x = Writes(), PreparedCache(), torch.rand(2, 3)
    first = cache(net, x, HOW)
    assert net.calls == 0 and net.shapes == []
    net(x), net(torch.rand(5, 3))
    assert cache(net, x, HOW) is first
    net.gain = 2.0
    second = cache(net, x, HOW)
    assert second is not first
    torch.testing.assert_close(second(x), net(x))


def test_the_forward_may_fail_on_the_example():
    net, cache = nn.Linear(3, 2), PreparedCache()
    assert cache(net, torch.rand(2, 5), HOW) is cache(net, torch.rand(2, 5), HOW)


def test_a_wrapped_model_is_the_model_inside(net):
    cache, x = PreparedCache(), torch.rand(2, 3, 5, 5)
    wrapped = nn.DataParallel(net)
    first = cache(wrapped, x, HOW)
    net.scale = 2.0
    assert cache(wrapped, x, HOW) is not first


def test_a_model_made_in_inference_mode_can_be_kept():
    with torch.inference_mode():
        net = nn.Linear(3, 2)
    cache, x = PreparedCache(), torch.rand(2, 3, requires_grad=True)
    first = cache(net, x, HOW)
    assert cache(net, x, HOW) is first and torch.autograd.grad(first(x).sum(), x)[0].abs().sum() > 0
    with torch.inference_mode():
        net.weight.mul_(2)
    torch.testing.assert_close(cache(net, x, HOW)(x), net(x.detach()))


def test_threads_may_ask_at_once(net):
    cache, x, start = PreparedCache(), torch.rand(2, 3, 5, 5), threading.Barrier(4)

    def ask(number):
        start.wait(10)
        return cache(net, x, HOW if number % 2 else Preparation(memory_efficient=True))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert found[0] is found[2] and found[1] is found[3] and found[0] is not found[1]


def test_a_copied_cache_is_an_empty_one(net):
    cache, x = PreparedCache(), torch.rand(2, 3, 5, 5)
    first = cache(net, x, HOW)
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert twin(net, x, HOW) is not first and cache(net, x, HOW) is first


# --- signatures ---

TENSORS = {
    "float": torch.rand(3, 5, 7),
    "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "slice": torch.rand(8, 9)[1:, ::2],
    "odd": torch.rand(11).half()[3:],
    "one": torch.tensor(1.5),
    "double": torch.rand(8, 16, dtype=torch.float64),
    "bf16": torch.rand(64, 4).bfloat16(),
    "bool": torch.rand(100) > 0.5,
    "bytes": torch.arange(250, dtype=torch.uint8),
    "complex": torch.rand(5, 3, dtype=torch.complex64),
    "conjugate": torch.rand(5, 3, dtype=torch.complex64).conj(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_entry_of_a_tensor_counts(name):
    tensor = TENSORS[name]
    net = nn.Module()
    net.kept = tensor.clone(memory_format=torch.preserve_format)
    assert differences(signature(net), signature(net)) == set()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        before = signature(net)
        flat = net.kept.data.view(-1) if net.kept.is_contiguous() else net.kept.data
        index = tuple(int(torch.randint(side, (), generator=generator)) for side in flat.shape)
        flat[index] = ~flat[index] if tensor.dtype == torch.bool else flat[index] + 1
        assert differences(before, signature(net)) == {("kept",)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [2**14, 2**20, 1021 * 64, 12345])
def test_changes_of_every_entry_alike_count(dtype, size):
    """By powers of two, whose sums of bits are apt to vanish modulo 2^64."""
    net = nn.Module()
    net.kept = torch.randn(size, dtype=dtype)
    seen = [signature(net)]
    for change in (lambda t: t.mul_(2), lambda t: t.neg_(), lambda t: t.div_(4), lambda t: t.copy_(t.flip(0))):
        change(net.kept.data)
        assert all(differences(before, signature(net)) for before in seen)
        seen.append(signature(net))


def test_tensors_without_numbers_of_their_own():
    net = nn.Module()
    net.sparse, net.meta, net.empty = torch.eye(3).to_sparse(), torch.empty(3, device="meta"), torch.empty(0, 3)
    assert differences(signature(net), signature(net)) == set()
    before = signature(net)
    net.sparse = torch.eye(4).to_sparse()
    net.me = net
    assert len(differences(before, signature(net))) == 1 + 1


def test_models_may_be_built_on_a_default_device_and_dtype(net):
    expected = signature(net)
    with torch.device("meta"):
        assert differences(expected, signature(net)) == set()
        torch.testing.assert_close(PreparedCache()(net, torch.ones(1, 3, 5, 5, device="cpu"), HOW).folded, 1)
