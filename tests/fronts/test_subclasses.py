"""Subclasses that users write: the same attack under another name, with the options of its base."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

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
