"""Subclasses that users write: the same attack under another name, with the options of its base."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator

SHAPE = (3, 4, 4)
EXTRA = {
    "StealthyMultiTaskPGD": {"attacked": ["k"]},
    "MultiTaskPatch": {"size": (2, 2)},
    "MultiTaskAutoAttack": {"version": "fast"},
}
"""What a class cannot be made without."""
PAIRS = [
    (host, kind)
    for host, more in (
        ("attacks", ("MultiTaskAutoAttack", "UniversalMultiTaskPGD", "MultiTaskPatch")),
        ("torchattacks", ("MultiTaskAutoAttack", "UniversalMultiTaskPGD", "MultiTaskPatch")),
        ("secmlt", ()),
    )
    for kind in (
        "MultiTaskPGD", "MinMaxMultiTaskPGD", "WorstTaskPGD", "MultiTaskAutoPGD", "StealthyMultiTaskPGD", *more
    )
]  # fmt: skip
"""Every class of every host."""


class Host:
    """A class of a host, and what it takes first."""

    def __init__(self, name: str, kind: str, net: Any, jobs: Any) -> None:
        if name != "attacks":
            pytest.importorskip(name)
        self.module: ModuleType = importlib.import_module(f"art_mtl.{name}")
        self.known: type = getattr(self.module, kind)
        self.victim: Callable[[], tuple[Any, ...]] = {
            "attacks": lambda: (PyTorchMultiTaskEstimator(net, jobs, SHAPE, (0, 1), device_type="cpu"),),
            "torchattacks": lambda: (net, jobs),
            "secmlt": lambda: (jobs,),
        }[name]
        self.extra: dict[str, Any] = EXTRA.get(kind, {})
        self.eps = "epsilon" if name == "secmlt" else "eps"

    def make(self, known: Any, **options: Any) -> Any:
        return known(*self.victim(), **{**self.extra, **options})


@pytest.fixture(params=PAIRS, ids=".".join)
def host(request, net, jobs) -> Host:
    return Host(*request.param, net, jobs)


def settings(attack: Any) -> dict[str, Any]:
    return {name: getattr(attack, name) for name in type(attack).option_table}


def test_a_bare_subclass_is_the_same_attack(host):
    class Mine(host.known):
        """Mine."""

    class Younger(Mine):
        """Its child."""

    theirs = host.make(host.known)
    for known in (Mine, Younger):
        ours = host.make(known)
        assert ours.name == theirs.name and settings(ours) == settings(theirs)
        assert list(known.options) == list(host.known.options) and known.decided == host.known.decided
        assert repr(ours) == repr(theirs).replace(host.known.__name__, known.__name__, 1)


@pytest.mark.parametrize("method", ["equal", "minmax", "worst-task"])
def test_a_bare_subclass_takes_the_method_that_it_is_given(net, jobs, method):
    host = Host("secmlt", "MultiTaskPGD", net, jobs)

    class Mine(host.known):
        """Mine."""

    assert Mine(jobs, method=method).name == method


# --- with an __init__ of their own ---


def passes_keywords(known):
    class Mine(known):
        def __init__(self, *first, flavour="plain", **options):
            super().__init__(*first, **options)
            self.flavour = flavour

    return Mine


def typed_loosely(known):
    class Mine(known):
        def __init__(self, *first: Any, flavour: str = "plain", **options: Any) -> None:
            super().__init__(*first, **options)
            self.flavour = flavour

    return Mine


@pytest.mark.parametrize("write", [passes_keywords, typed_loosely])
def test_plain_keywords_take_the_options_of_the_base(host, write):
    known = write(host.known)
    ours = host.make(known, flavour="odd", seed=4) if "seed" in host.known.options else host.make(known, flavour="odd")
    theirs = host.make(host.known, seed=4) if "seed" in host.known.options else host.make(host.known)
    assert ours.flavour == "odd" and ours.name == theirs.name and settings(ours) == settings(theirs)
    assert set(known.options) == set(host.known.options)
    assert {name: o.default for name, o in known.options.items()} == {
        name: o.default for name, o in host.known.options.items()
    }
    assert set(known.__signature__.parameters) == {*host.known.__signature__.parameters, "flavour"}
    with pytest.raises(TypeError, match="Mine has no option `epps`"):
        host.make(known, epps=0.1)


def test_a_subclass_that_takes_no_options_keeps_them_as_attributes(host):
    extra = host.extra

    class Mine(host.known):
        def __init__(self, *first):
            super().__init__(*first, **extra)
            if host.eps in type(self).options:
                setattr(self, host.eps, 0.1)

    ours = Mine(*host.victim())
    if host.eps in host.known.options:
        theirs = host.make(host.known, **{host.eps: 0.1})
        assert repr(ours) == repr(theirs).replace(host.known.__name__, "Mine", 1)
        assert settings(ours) == settings(theirs)
        with pytest.raises(ValueError, match=f"`{host.eps}`"):
            setattr(ours, host.eps, -1)
        with pytest.raises(ValueError, match=f"`{host.eps}`"):
            ours.set_params(**{host.eps: -1})
        ours.set_params(**{host.eps: 0.2})
        assert getattr(ours, host.eps) == 0.2 and f"{host.eps}=0.2" in repr(ours)
    with pytest.raises(ValueError, match="has no option `epps`"):
        ours.set_params(epps=0.1)


def test_a_subclass_shows_what_differs_from_its_own_defaults(front, net, jobs):
    class Mine(front.module.MultiTaskPGD):
        def __init__(self, *first, eps=0.2, seed=3, **options):
            super().__init__(*first, eps=eps, seed=seed, **options)

    ours = Mine(*front.victim(net, jobs))
    assert ours.seed == 3 and ours.eps == 0.2 and "seed" not in repr(ours)
    assert "seed=None" in repr(Mine(*front.victim(net, jobs), seed=None))


def test_a_subclass_attacks_as_its_base_does(front, net, jobs, data):
    class Mine(front.module.WorstTaskPGD):
        def __init__(self, model, *others, **options):
            super().__init__(model, *others, **options)

    quiet = {"verbose": False} if front.name == "art" else {}
    ours, theirs = (
        known(*front.victim(net, jobs), **front.options(eps=0.2, steps=3), **quiet)
        for known in (Mine, front.module.WorstTaskPGD)
    )
    assert torch.equal(front.run(ours, *data), front.run(theirs, *data))


def test_those_that_take_an_option_are_named_once(host):
    class Mine(host.known):
        """Mine."""

    class Twin(host.known):
        """Of the same name."""

    Twin.__name__ = "Mine"
    with pytest.raises(TypeError) as caught:
        host.make(Mine, version=1) if "version" not in host.known.options else host.make(Mine, gamma=1)
    named = str(caught.value).split("Those that take it: ")[-1].rstrip(".").split(", ")
    assert len(named) == len(set(named))
