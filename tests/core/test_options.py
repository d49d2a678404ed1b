"""The options of every host: each passes its own check, is documented and written once, and needs no torch."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import fields

import pytest
from typing_extensions import is_typeddict

from art_mtl.core.assembly import make_method
from art_mtl.core.method import Method
from art_mtl.core.options import METHOD_PARTS, Option, describe, table

HOSTS = ["core", "attacks", "torchattacks"]


def groups(host):
    """The groups of options that a host can unpack."""
    if host == "torchattacks":
        pytest.importorskip("torchattacks")
    found = vars(importlib.import_module(f"art_mtl.{host}.options")).values()
    return [group for group in found if is_typeddict(group)]


@pytest.mark.parametrize("host", HOSTS)
def test_every_default_passes_its_check(host):
    for name, option in table(*groups(host)).items():
        option.check(name, option.default)


@pytest.mark.parametrize("host", HOSTS)
def test_every_option_is_documented_in_whole_sentences(host):
    for name, option in table(*groups(host)).items():
        assert option.doc.endswith(".") and option.doc == " ".join(option.doc.split()), name
        assert option.kind and "typing" not in option.kind, name


@pytest.mark.parametrize("host", HOSTS)
def test_no_option_is_written_twice(host):
    """A name stands for one option, whichever group it comes from; a host's own word hides none of the core's."""
    written = {}
    for group in groups(host):
        for name, hint in group.__annotations__.items():
            assert written.setdefault(name, hint.__metadata__[0]) is hint.__metadata__[0], name


@pytest.mark.parametrize("host", HOSTS[1:])
def test_the_table_of_a_host_is_every_option_that_its_classes_take(host):
    groups(host)
    module = importlib.import_module(f"art_mtl.{host}")
    classes = [getattr(module, name) for name in module.__all__]
    known = importlib.import_module(f"art_mtl.{host}.options").OPTIONS
    taken = {name for cls in classes for name in getattr(cls, "options", ())}
    assert taken == set(known)
    for name in set(known) & set(table(*groups("core"))):
        assert known[name] == table(*groups("core"))[name], f"{name} differs from that of the core"


def test_what_an_option_sets_is_there():
    known = {field.name for field in fields(Method)}
    numbers = {}
    for name, option in METHOD_PARTS.items():
        part, _, number = (option.sets or "").partition(".")
        assert not part or part in known, name
        if number:
            numbers[name] = number
    weighting = make_method("minmax", (), gamma=0.25, weight_step=0.5).weighting
    assert {number: getattr(weighting, number) for number in numbers.values()} == {"gamma": 0.25, "weight_step": 0.5}


def test_documentation_is_wrapped_with_its_kind():
    option = Option(3, lambda name, found: None, "Word " * 40 + "end.", kind="int")
    lines = describe({"steps": option}).splitlines()
    assert lines[0].startswith("        steps (int): Word Word") and lines[1].startswith("            Word")
    assert max(map(len, lines)) <= 120 and " ".join(" ".join(lines).split()).endswith("Word end.")


@pytest.mark.parametrize("module", ["options", "methods", "checks"])
def test_they_need_no_torch(module):
    lines = f"import sys, art_mtl.core.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0
