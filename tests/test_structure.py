"""Whatever a model returns comes back as the same kind of thing, with every tensor in it changed."""

from __future__ import annotations

import types
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from art_mtl.prepared import prepare
from art_mtl.structure import map_tensors, tensors_in


class ModelOutput(OrderedDict):
    """As the class of this name in `transformers`: an ordered dict of those fields that are not None."""

    def __post_init__(self):
        for f in fields(self):
            if getattr(self, f.name) is not None:
                self[f.name] = getattr(self, f.name)

    def __setattr__(self, name, value):
        if name in [f.name for f in fields(self)] and value is not None:
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __getitem__(self, key):
        return dict(self.items())[key] if isinstance(key, str) else tuple(self.values())[key]

    def refuse(self, *args, **kwargs):
        raise TypeError("not on a model output")

    update = pop = setdefault = __delitem__ = refuse

    def __reduce__(self):
        kind, _, *rest = super().__reduce__()
        return kind, tuple(getattr(self, f.name) for f in fields(self)), *rest


@dataclass
class Output(ModelOutput):
    a: Any = None
    loss: Any = None
    b: Any = None
    hidden: Any = None


class Pair(NamedTuple):
    a: Any
    b: Any


class Checked(Pair):
    """A named tuple whose constructor asks for more than its parts."""

    def __new__(cls, a, b, *, really):
        return super().__new__(cls, a, b)


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    note: str = "text"
    none: Any = None


@dataclass
class Unset:
    a: Any
    later: Any = field(init=False)


@dataclass
class Computed:
    """Its constructor changes what it is given, so calling it again would be wrong."""

    a: Any

    def __post_init__(self):
        self.a = self.a + 1


class Slots:
    __slots__ = ("__mine", "unset", "a")

    def __init__(self, a):
        self.a, self.__mine = a, a

    @property
    def mine(self):
        return self.__mine


class AttributeDict(dict):
    """The usual few lines by which keys become attributes."""

    def __init__(self, **entries):
        super().__init__(entries)
        self.__dict__ = self


class Named(dict):
    def __init__(self, name, a):
        super().__init__(a=a)
        self.name, self.extra = name, [a]


class Listed(list):
    def __init__(self, *parts):
        super().__init__(parts)
        self.first = parts[0]


class Loop:
    def __init__(self, a):
        self.a, self.me = a, self


# Name to (how to make it of a tensor, how to find the tensors in it).
KINDS = {
    "model output": (lambda x: Output(a=x, b=x + 1), lambda o: [o.a, o["a"], o[0], o.b, o["b"], o[1]]),
    "model output, nested": (
        lambda x: Output(a=Output(a=x), hidden=(x, (x, None))),
        lambda o: [o.a.a, o["a"]["a"], o.hidden[0], o["hidden"][1][0]],
    ),
    "ordered": (lambda x: OrderedDict(b=x, a=x), lambda o: list(o.values())),
    "default": (lambda x: defaultdict(list, a=[x]), lambda o: o["a"]),
    "counter": (lambda x: Counter(a=x), lambda o: [o["a"]]),
    "user dict": (lambda x: UserDict(a=x), lambda o: [o["a"]]),
    "proxy": (lambda x: types.MappingProxyType({"a": x}), lambda o: [o["a"]]),
    "own dict": (lambda x: AttributeDict(a=x), lambda o: [o.a, o["a"]]),
    "constructor of a dict": (lambda x: Named("n", x), lambda o: [o["a"], o.extra[0]]),
    "list": (lambda x: Listed(x, x), lambda o: [o[0], o[1], o.first]),
    "deque": (lambda x: deque([x], maxlen=3), list),
    "set": (lambda x: {x}, list),
    "named tuple": (lambda x: Pair(x, [x]), lambda o: [o.a, o.b[0]]),
    "constructor of a tuple": (lambda x: Checked(x, x, really=True), list),
    "plain named tuple": (lambda x: namedtuple("P", "a")(x), list),
    "torch's own tuple": (lambda x: torch.sort(x), lambda o: [o.values]),
    "packed": (lambda x: nn.utils.rnn.pack_sequence([x]), lambda o: [o.data]),
    "frozen": (lambda x: Frozen(x), lambda o: [o.a]),
    "unset": (lambda x: Unset(x), lambda o: [o.a]),
    "computed": (lambda x: Computed(x), lambda o: [o.a]),
    "slots": (lambda x: Slots(x), lambda o: [o.a, o.mine]),
    "namespace": (lambda x: types.SimpleNamespace(a=x, n=types.SimpleNamespace(b=x)), lambda o: [o.a, o.n.b]),
    "distribution": (
        lambda x: torch.distributions.Normal(x, x.abs() + 1),
        lambda o: [o.loc, o.scale, o.mean, o.base_dist.loc if hasattr(o, "base_dist") else o.loc],
    ),
    "loop": (lambda x: Loop(x), lambda o: [o.a]),
}


class Net(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap, self.layer = wrap, nn.Linear(3, 2)

    def forward(self, x):
        return self.wrap(self.layer(x))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["bf16", "fp16"])
def test_nothing_leaves_in_half_precision_and_everything_keeps_its_kind(kind, how):
    wrap, find = KINDS[kind]
    if kind == "packed":
        inner = wrap
        wrap = lambda x: inner(x[0])  # noqa: E731
    net, x = Net(wrap), torch.rand(2, 3)
    expected, found = net(x), prepare(net, x, how)(x)
    assert type(found) is type(expected) or kind == "plain named tuple"
    for one, other in zip(find(found), find(expected), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other.detach(), rtol=0.05, atol=0.05)
    if kind != "loop":  # Its reference to itself stays.
        assert {t.dtype for t in tensors_in(found)} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_given_is_left_alone_and_what_is_not_changed_is_the_same(kind):
    wrap, find = KINDS[kind]
    value = wrap(torch.ones(2))
    before = find(value)
    changed = map_tensors(value, lambda tensor: tensor + 1)
    assert all(one is other for one, other in zip(find(value), before, strict=True))
    for one, other in zip(find(changed), before, strict=True):
        torch.testing.assert_close(one, other + 1)
    assert map_tensors(value, lambda tensor: tensor) is value


def test_fields_that_are_none_stay_and_are_no_entries():
    value = map_tensors(Output(a=torch.ones(1)), lambda tensor: tensor * 2)
    assert list(value) == ["a"] and value.loss is None and value.hidden is None
    value.loss = torch.zeros(1)  # It still does what its class does.
    assert list(value) == ["a", "loss"]


def test_a_tensor_in_two_places_of_a_model_output_is_one_tensor():
    value = map_tensors(Output(a=torch.ones(1), b=[torch.ones(1)]), lambda tensor: tensor * 2)
    assert value.a is value["a"] and value.b is value["b"]
    assert len(tensors_in(value)) == 2


def test_what_is_beside_the_tensors_stays():
    x = torch.ones(1)
    kept = map_tensors(Frozen(x, note="n"), torch.neg)
    assert (kept.note, kept.none) == ("n", None)
    assert map_tensors(Named("n", x), torch.neg).name == "n"
    assert map_tensors(defaultdict(list, a=x), torch.neg)["new"] == []
    assert map_tensors(deque([x], maxlen=3), torch.neg).maxlen == 3
    assert not hasattr(map_tensors(Unset(x), torch.neg), "later")
    own = map_tensors(AttributeDict(a=x), torch.neg)
    own.b = 1
    assert own["b"] == 1
    net = nn.Linear(1, 1)
    assert map_tensors({"a": x, "net": net, "size": x.shape}, torch.neg)["net"] is net


def test_tensors_come_in_order():
    a, b, c = (torch.tensor(float(i)) for i in range(3))
    found = tensors_in({"x": [a, (b,)], "y": types.SimpleNamespace(z=c, n=1)})
    assert all(isinstance(t, Tensor) for t in found) and [t.item() for t in found] == [0, 1, 2]
