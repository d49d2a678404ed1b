"""The registry of methods: every entry builds what it says, and other packages can add theirs."""

from __future__ import annotations

import sys
import textwrap

import pytest

from art_mtl import tasks
from art_mtl.core import make_method
from art_mtl.core.method import Method
from art_mtl.core.methods import AGGREGATORS, FAMILIES, METHODS, family_names, find_method, installed, method_names
from art_mtl.core.options import METHOD_PARTS
from art_mtl.core.weightings import least

JOBS = (tasks.segmentation("seg", 3), tasks.depth("deep"))
SPECS = [*METHODS.values(), *FAMILIES.values()]
EVERY_NAME = [*METHODS, "single:seg", "stealthy:deep", "smta:seg", *(f"jd:{name}" for name in AGGREGATORS)]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package whose entry point ``art_mtl.methods`` names ``their_attack:<object>``; gone afterwards."""
    installed.cache_clear()

    def install(points, source):
        (tmp_path / "their_attack.py").write_text(textwrap.dedent(source))
        about = tmp_path / "their_attack-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-attack\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[art_mtl.methods]\n{points}\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    installed.cache_clear()
    sys.modules.pop("their_attack", None)


# --- what is there ---


@pytest.mark.parametrize("name", EVERY_NAME)
def test_every_method_is_built_under_its_name(name):
    if name.startswith("jd:"):
        pytest.importorskip("torchjd")
    method = make_method(name, JOBS)
    assert isinstance(method, Method) and method.name == name


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_entry_is_complete(spec):
    assert spec.role in ("baseline", "ours", "reference", "ensemble")
    assert spec.description and "\n" not in spec.description and not spec.description.endswith(".")
    assert set(spec.options) | set(spec.decides) <= set(METHOD_PARTS)
    assert spec.member in ((None,) if spec.name in METHODS else ("task", "aggregator"))
    assert find_method(f"{spec.name}:seg" if spec.member else spec.name, JOBS) == (spec, "seg" if spec.member else "")


def test_names_are_those_of_the_entries():
    assert method_names() == [*METHODS] and method_names(JOBS)[:2] == ["single:seg", "single:deep"]
    by_task = [f"{family}:{name}" for family in ("stealthy", "smta") for name in ("seg", "deep")]
    assert family_names(JOBS) == [*by_task, *(f"jd:{name}" for name in AGGREGATORS)]
    assert not {*METHODS} & {*FAMILIES}


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.options], ids=lambda spec: spec.name)
def test_options_of_one_method_are_refused_by_the_others(spec):
    values = {"attacked": ["seg"], "preserved": ["deep"], "tolerance": 0.1, "penalty": 2.0}
    for option in spec.options:
        with pytest.raises(ValueError, match=f"`{option}` belongs to the method.*'{spec.name}'.*Found method 'minmax'"):
            make_method("minmax", JOBS, **{option: values[option]})


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.decides], ids=lambda spec: spec.name)
def test_what_a_method_decides_is_refused(spec):
    values = {"objective": "loss", "weighting": "uniform"}
    for option in spec.decides:
        with pytest.raises(ValueError, match=f"'{spec.name}:seg' has a {option} of its own; leave `{option}` out"):
            make_method(f"{spec.name}:seg", JOBS, **{option: values[option]})


# --- unknown names ---


@pytest.mark.parametrize(
    ("name", "hint"),
    [("worst-tsk", "worst-task"), ("single", "single:seg"), ("singel:deep", "single:deep"), ("jd:mgd", None)],
)
def test_unknown_names_get_the_nearest_one(name, hint):
    said = "should be one of" if hint is None else f"should be one of.*Found '{name}'. Perhaps '{hint}'\\?"
    with pytest.raises(ValueError, match=said):
        make_method(name, JOBS)


def test_a_name_like_no_other_gets_no_hint():
    with pytest.raises(ValueError, match=r"Found 'zzz'\.$"):
        make_method("zzz", JOBS)


@pytest.mark.parametrize("name", [None, 3, ["equal"]])
def test_what_is_no_name_is_a_wrong_type(name):
    with pytest.raises(TypeError, match="`method` should be a name, one of"):
        make_method(name, JOBS)


# --- of other packages ---


def test_another_package_adds_a_method(package):
    package("theirs = their_attack:SPEC", """
        from art_mtl.core import Method, MethodSpec
        from art_mtl.core.weightings import Fixed, least

        SPEC = MethodSpec("theirs", "their_attack:build", "baseline", "their attack")

        def build(request):
            assert request.member == ""
            weights = tuple(1.0 + k for k, _ in enumerate(request.tasks))
            return Method("theirs", weighting=Fixed(weights), selection_score=least)
    """)  # fmt: skip
    assert method_names()[-1] == "theirs" and installed()["theirs"].description == "their attack"
    method = make_method("theirs", JOBS)
    assert method.name == "theirs" and method.weighting.weights == (1.0, 2.0)
    exchanged = make_method("theirs", JOBS, schedule="linear", weighting="uniform")
    assert exchanged.name == "theirs(weighting=uniform)"
    assert (method.selection_score, exchanged.selection_score) == (least, None), (
        "what is compared goes with the weighting"
    )
    with pytest.raises(ValueError, match="Perhaps 'theirs'"):
        make_method("their", JOBS)


def test_an_entry_point_that_is_no_method_is_named(package):
    package("theirs = their_attack:SPEC", "SPEC = 'a string'")
    with pytest.raises(
        TypeError, match="'their_attack:SPEC' of 'art_mtl.methods' should be a MethodSpec. Found 'a str"
    ):
        method_names()
