"""Prepared models compute what the model computes, and never touch it."""

from __future__ import annotations

import copy
import logging
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from art_mtl.models import DigitsNet, RoomsNet
from art_mtl.prepared import Preparation, PreparedCache, prepare, saved_activations


def moved_statistics(net):
    """Batch norms that do something."""
    g = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.randn(module.num_features, generator=g) / 5)
            module.running_var.copy_(torch.rand(module.num_features, generator=g) + 0.5)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=g)
            nn.init.uniform_(module.bias, -0.5, 0.5, generator=g)
    return net.eval()


def block(*others, inputs=3, outputs=4):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), *others)


def look(net, x):
    """Outputs in order and the gradient of the sum of their squares."""
    leaf = x.clone().requires_grad_(True)
    outputs = net(leaf)
    outputs = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    (gradient,) = torch.autograd.grad(sum(output.square().sum() for output in outputs), leaf)
    return [output.detach() for output in outputs], gradient


@pytest.fixture(params=["rooms", "digits"])
def victim(request):
    net, shape = {"rooms": (RoomsNet(), (2, 3, 32, 48)), "digits": (DigitsNet(), (3, 1, 28, 28))}[request.param]
    return moved_statistics(net), torch.rand(shape)


def test_folded_computes_the_same(victim, caplog):
    net, x = victim
    fast = prepare(net, x)
    assert fast.folded > 5 and fast.unfolded == () and not caplog.records
    assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    for one, other in zip(*(look(n, x + 0.1)[0] for n in (fast, net)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    one, other = (look(n, x)[1] for n in (fast, net))
    assert nn.functional.cosine_similarity(one.flatten(), other.flatten(), 0) > 1 - 1e-6


def test_the_users_model_is_not_touched(victim):
    net, x = victim
    net.train()
    before, modules = copy.deepcopy(net.state_dict()), [(type(m), m.training) for m in net.modules()]
    look(prepare(net, x, "bf16,memory-efficient"), x)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [(type(m), m.training) for m in net.modules()] == modules
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("channels_last", [False, True])
def test_lean_is_the_same_bit_for_bit_and_keeps_less(victim, channels_last):
    net, x = victim
    how = Preparation(channels_last=channels_last)
    plain, memory_efficient = (
        prepare(net, x, how),
        prepare(net, x, Preparation(channels_last=channels_last, memory_efficient=True)),
    )
    (outputs, gradient), (expected, expected_gradient) = look(memory_efficient, x), look(plain, x)
    assert all(torch.equal(one, other) for one, other in zip(outputs, expected, strict=True))
    assert torch.equal(gradient, expected_gradient)
    kept = [
        saved_activations(lambda n=n: n(x.clone().requires_grad_(True)), n.parameters())
        for n in (net, plain, memory_efficient)
    ]
    assert kept[1] < 0.7 * kept[0] and kept[2] < 0.5 * kept[1]


def test_a_lean_relu_treats_nan_and_zero_as_the_plain_one():
    net = nn.Sequential(nn.ReLU())
    x = torch.tensor([[-1.0, 0.0, float("nan"), 2.0]])
    torch.testing.assert_close(
        look(prepare(net, x, "fp32,memory-efficient"), x), look(net, x), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("precision, error", [("bf16", 0.05), ("fp16", 0.01)])
def test_half_precision_comes_back_in_full(victim, precision, error):
    net, x = victim
    narrow = prepare(net, x, precision)
    outputs, gradient = look(narrow, x)
    expected, expected_gradient = look(net, x)
    assert gradient.dtype == x.dtype
    for one, other in zip(outputs, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() < error * other.abs().max()
    assert nn.functional.cosine_similarity(gradient.flatten(), expected_gradient.flatten(), 0) > 0.98


def test_fp16_gradients_neither_vanish_nor_depend_on_their_scale(victim):
    net, x = victim
    narrow = prepare(net, x, "fp16")

    def gradient(scale):
        leaf = x.clone().requires_grad_(True)
        outputs = narrow(leaf).values()
        return torch.autograd.grad(scale * sum(output.sum() for output in outputs), leaf)[0]

    torch.testing.assert_close(gradient(2.0**-40) * 2.0**40, gradient(1.0), rtol=0, atol=0)


# --- what is folded and what is not ---


class Branched(nn.Module):
    """The convolution's output goes to the batch norm and past it."""

    def __init__(self, past):
        super().__init__()
        self.conv, self.norm, self.past = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), past

    def forward(self, x):
        seen = self.conv(x)
        return self.past(self.norm(seen), seen)


class Twice(nn.Module):
    """One convolution, two batch norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.one(self.conv(x)) * self.other(self.conv(x))


class Untraceable(nn.Module):
    """Its forward decides by values, which symbolic tracing refuses."""

    def __init__(self):
        super().__init__()
        self.body = block(nn.ReLU())

    def forward(self, x):
        return self.body(x) if x.sum() > -1e9 else x


class Recurring(nn.Module):
    """One pair that runs twice."""

    def __init__(self):
        super().__init__()
        self.body = block(nn.ReLU(), inputs=3, outputs=3)

    def forward(self, x):
        return self.body(self.body(x))


def hooked():
    net = block()
    net[0].register_forward_hook(lambda module, inputs, output: output * 2)
    return net


KEPT = {
    "added to": lambda: Branched(lambda normed, seen: normed + seen),
    "returned": lambda: Branched(lambda normed, seen: {"a": normed, "b": seen}),
    "two norms": Twice,
    "hook": hooked,
    "weight norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
    "no statistics": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
    "activation between": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
}
FOLDED = {
    "block": lambda: block(nn.ReLU(inplace=True)),
    "shape looked at": lambda: Branched(lambda normed, seen: normed.reshape(seen.shape) + seen.size(0) + seen.dim()),
    "untraceable": Untraceable,
    "recurring": Recurring,
    "no affine": lambda: nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.BatchNorm2d(3, affine=False)),
    "one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 3, groups=1), nn.BatchNorm1d(4)),
}


def _moved(net):
    if any(getattr(m, "running_mean", 0) is None or getattr(m, "weight", 0) is None for m in net.modules()):
        return net.eval()
    return moved_statistics(net)


@pytest.mark.parametrize("name", KEPT)
def test_a_norm_stays_where_folding_would_be_wrong(name, caplog):
    net, x = _moved(KEPT[name]()), torch.rand(2, 3, 5, 6)
    with caplog.at_level(logging.WARNING):
        kept = prepare(net, x)
    assert kept.folded == 0 and kept.unfolded
    assert len(caplog.records) == 1 and "unfolded" in caplog.text
    torch.testing.assert_close(look(kept, x), look(net, x))


@pytest.mark.parametrize("name", FOLDED)
def test_a_norm_goes_where_folding_is_right(name):
    net, x = _moved(FOLDED[name]()), torch.rand(2, 3, 5, 6)
    fast = prepare(net, x)
    assert fast.folded == 1 and not fast.unfolded
    torch.testing.assert_close(look(fast, x + 0.2), look(net, x + 0.2), rtol=1e-4, atol=1e-5)


def test_a_fold_is_not_refused_for_the_rounding_of_a_gpu():
    """TF32 convolutions, a GPU's default, have ten bits: here they are rounded as these are."""

    class OnAGpu(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = block()

        def forward(self, x):
            out = self.body(x)
            if not torch.backends.cudnn.allow_tf32:
                return out
            noise = torch.rand(out.shape, generator=torch.Generator().manual_seed(int(1e6 * out.sum().abs())))
            return out * (1 + 0.01 * noise)

    assert torch.backends.cudnn.allow_tf32
    net, x = moved_statistics(OnAGpu()), torch.rand(2, 3, 5, 6)
    assert prepare(net, x).folded == 1
    assert torch.backends.cudnn.allow_tf32, "the switch is as it was"


def test_a_fold_that_changes_the_outputs_is_undone(caplog):
    class Peeks(nn.Module):
        """Uses the convolution's weight beside the convolution, which watching its outputs does not show."""

        def __init__(self):
            super().__init__()
            self.body = block()

        def forward(self, x):
            return self.body(x) * self.body[0].weight.sum()

    net, x = moved_statistics(Peeks()), torch.rand(2, 3, 5, 6)
    kept = prepare(net, x)
    assert kept.folded == 0 and "changes its outputs" in caplog.text
    torch.testing.assert_close(kept(x), net(x))


def test_a_forward_that_breaks_when_watched_works_unfolded(caplog):
    class Counts(nn.Module):
        """Looks for its batch norm by type."""

        def __init__(self):
            super().__init__()
            self.body = block()

        def forward(self, x):
            assert isinstance(self.body[1], nn.BatchNorm2d)
            return self.body(x)

    net, x = moved_statistics(Counts()), torch.rand(2, 3, 5, 6)
    assert prepare(net, x).folded == 0
    assert len(caplog.records) == 1 and "cannot be watched" in caplog.text


def test_outputs_of_every_structure_pass_half_precision():
    Pair = namedtuple("Pair", "a b")

    @dataclass
    class Output:
        a: torch.Tensor
        note: str

    class Net(nn.Module):
        def __init__(self, wrap):
            super().__init__()
            self.wrap, self.layer = wrap, nn.Linear(3, 2)

        def forward(self, x):
            return self.wrap(self.layer(x))

    x = torch.rand(2, 3)
    assert prepare(Net(lambda y: Pair(y, y)), x, "bf16")(x).b.dtype == torch.float32
    out = prepare(Net(lambda y: Output(y, "text")), x, "bf16")(x)
    assert out.a.dtype == torch.float32 and out.note == "text"
    assert [y.dtype for y in prepare(Net(lambda y: [y, y.argmax(1)]), x, "bf16")(x)] == [torch.float32, torch.int64]


# --- settings, errors, cache ---


@pytest.mark.parametrize(
    "text", ["fp64", "bf16,leaner", "memory-efficient", "", "bf16,memory-efficient,memory-efficient"]
)
def test_unknown_settings(text):
    with pytest.raises(ValueError, match="Parameter `prepare` should be"):
        Preparation.parse(text)


def test_errors():
    x = torch.rand(1, 3)
    with pytest.raises(ValueError, match="'graphs' needs a model on CUDA"):
        prepare(nn.Linear(3, 3), x, "fp32,graphs")
    with pytest.raises(ValueError, match="'exact' is the model itself"):
        prepare(nn.Linear(3, 3), x, "exact")
    with pytest.raises(TypeError, match="torch.nn.Module"):
        prepare(lambda y: y, x)
    with pytest.raises(TypeError, match="Parameter `prepare`"):
        Preparation.parse(3)
    with pytest.raises(ValueError, match="Parameter `precision`"):
        Preparation(precision="int8")
    net = nn.Linear(3, 3)
    net.extra = net(x)  # A tensor with a graph.
    with pytest.raises(ValueError, match="copyable"):
        prepare(net, x)
    with pytest.raises(ValueError, match="one entry for each of 1 samples"):
        prepare(nn.Sequential(nn.Linear(3, 3), nn.Flatten(0)), x, "fp16")(x.requires_grad_())


def test_the_copy_is_kept_until_the_model_changes():
    net, x, how = moved_statistics(block()), torch.rand(1, 3, 5, 6), Preparation()
    cache = PreparedCache()
    first = cache(net, x, how)
    assert cache(net, x, how) is first
    changes = [
        lambda: net[1].running_mean.add_(1),
        lambda: net.load_state_dict(copy.deepcopy(net.state_dict())),
        lambda: setattr(net[0], "bias", nn.Parameter(torch.ones(4))),
        lambda: torch.optim.SGD(net.parameters(), 0.1).step(),
    ]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    net[0].bias.grad = None
    for change in changes:
        with torch.no_grad():
            change()
        assert cache(net, x, how) is not first
        first = cache(net, x, how)
        torch.testing.assert_close(first(x), net(x), rtol=1e-4, atol=1e-5)
    assert cache(net, x, Preparation(memory_efficient=True)) is not first and cache(net, x, how) is first


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor", "ignore:Guards may run slower on Python 3.13.0")
def test_compiled(monkeypatch):
    """With the compiler's own front end; code generation is torch's business."""
    inner = torch.compile
    asked = []

    def without_backend(model, **options):
        asked.append(options)
        return inner(model, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", without_backend)
    net, x = moved_statistics(block(nn.ReLU())), torch.rand(1, 3, 5, 6)
    fast = prepare(net, x, "fp32,memory-efficient,compile")
    torch.testing.assert_close(look(fast, x), look(net, x), rtol=1e-4, atol=1e-5)
    assert asked == [{}]
