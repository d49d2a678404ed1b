"""What a method is stands in one place: nothing else asks for names, and other packages add methods and victims."""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

import art_mtl
from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskAutoAttack, MultiTaskAutoPGD, WorstTaskPGD
from art_mtl.cli import main
from art_mtl.core.methods import FAMILIES, METHODS, PRESETS, MethodSpec, installed, registry, spec_of
from art_mtl.evaluation import Run, compare_runs, evaluate, load_victim, make_table, to_markdown, victim_names
from art_mtl.evaluation.grid import GridCell, make_attack, make_estimator
from art_mtl.evaluation.report.plots import degradation_figure, method_colour, tasks_figure
from art_mtl.metrics import read_metric

ROOT = Path(art_mtl.__file__).parent
NAMES = {*METHODS, *FAMILIES, *PRESETS}
QUESTIONS = ("startswith", "endswith", "removeprefix", "partition", "fullmatch", "match")


def compared(source: str) -> list[tuple[int, str]]:
    """Lines that compare with the name of a method, or look for it in a name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.AST] = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts += [node.pattern] if isinstance(node, ast.match_case) else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in QUESTIONS:
            parts += node.args
        words = [inner.value for part in parts for inner in ast.walk(part) if isinstance(inner, ast.Constant)]
        found += [(node.lineno, word) for word in words if isinstance(word, str) and word.partition(":")[0] in NAMES]
    return found


@pytest.mark.parametrize("folder", ["evaluation", "cli", "profiling"])
def test_no_name_of_a_method_is_compared(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    assert {str(path): found for path in files if (found := compared(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "a.method == 'worst-task'",
        "a.method.startswith('single:')",
        "a.method.startswith(('single:', 'stealthy:'))",
        "a.method in ('x', 'auto-pgd')",
    ],
)
def test_a_comparison_would_be_found(line):
    assert compared(f"x = {line}") and not compared("x = a.method == b.method or a.name.startswith('x:')")


# --- what the registry says ---


def test_what_rows_are_called_is_known_by_the_registry():
    """Names of attack objects, too: the class alone, or with a method that it is given."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    job = tasks.classification("a", 3)
    estimator = PyTorchMultiTaskEstimator(net, tasks=[job], input_shape=(1, 2, 2), clip_values=(0, 1))
    quiet = {"eps": 0.1, "verbose": False}
    made = {
        "worst-task": WorstTaskPGD(estimator, **quiet),
        "auto-pgd": MultiTaskAutoPGD(estimator, **quiet),
        "auto-attack": MultiTaskAutoAttack(estimator, **quiet),
        "auto-attack-fast": MultiTaskAutoAttack(estimator, version="fast", **quiet),
    }
    assert {name: spec_of(attack.name).name for name, attack in made.items()} == {name: name for name in made}
    assert len({method_colour(attack.name) for attack in made.values()}) == len(made), "no two are drawn alike"
    assert MultiTaskAutoPGD(estimator, "equal", **quiet).name == "auto-pgd:equal"


def test_foreign_attacks_are_neutral():
    spec = spec_of("SomeAttack")
    assert (spec.name, spec.title, spec.role, spec.colour) == ("SomeAttack", "SomeAttack", "foreign", None)
    assert not (spec.own_schedule or spec.is_ours or spec.is_reference)
    assert spec.gradient_evaluations(10, 3) is None
    for name in ("", ":", "equal:x", "worst-task(weighting=uniform)"):
        assert spec_of(name).role == "foreign"


# All but the ensemble of 100 steps, of which the fast version is a part.
@pytest.mark.parametrize(
    "spec", [spec for spec in registry().values() if spec.name != "auto-attack"], ids=lambda spec: spec.name
)
def test_every_attack_of_the_registry_runs_at_its_cost(spec):
    """Counted by a model: backward passes of each sample."""
    if spec.member == "aggregator":
        pytest.importorskip("torchjd")

    class Net(torch.nn.Module):
        passes = 0

        def forward(self, x):
            if x.requires_grad:
                x.register_hook(self.count)
            return {"a": x.flatten(1)[:, :3], "b": x.sum((1, 2, 3))}

        def count(self, gradient):
            self.passes += len(gradient)

    net = Net()
    jobs = [tasks.classification("a", 3), tasks.regression("b")]
    estimator = PyTorchMultiTaskEstimator(net, tasks=jobs, input_shape=(1, 2, 2), clip_values=(0, 1), device_type="cpu")
    x = np.random.default_rng(0).uniform(0.2, 0.8, (4, 1, 2, 2)).astype(np.float32)
    attack = make_attack(estimator, GridCell(spec.names(jobs)[0], "linf", 0.05), 3, 4)
    attack.generate(x, {"a": x.reshape(4, -1)[:, :3].argmax(1), "b": x.sum((1, 2, 3)) + 0.1})
    if spec.role == "ensemble":
        assert spec.cost == "up to 20 (2 + K), and 200 queries" and 20 < net.passes / 4 <= 20 * (2 + len(jobs))
    else:
        assert net.passes == attack.evaluations.gradients == 4 * spec.gradient_evaluations(3, len(jobs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "rival"}, "role of method 'x' should be one of .*Found 'rival'"),
        ({"colour": "red"}, "'#rrggbb'. Found"),
    ],
)
def test_a_wrong_entry_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MethodSpec(**{"name": "x", "build": "a:b", "role": "baseline", "description": "y", **changes})


# --- a package of others ---

PACKAGE = """
import torch
from art_mtl import tasks
from art_mtl.core import Method, MethodSpec
from art_mtl.core.weightings import Fixed

SPEC = MethodSpec("tiny", "tiny_attack:build", "baseline", "their attack", title="Tiny", colour="#123456")
TAKEN = MethodSpec("equal", "tiny_attack:build", "baseline", "another equal")

def build(request):
    return Method("tiny", weighting=Fixed(tuple(1.0 + k for k, _ in enumerate(request.tasks))))

class Net(torch.nn.Module):
    def forward(self, x):
        return {"a": x.flatten(1)[:, :3], "b": x.sum((1, 2, 3))}

def victim():
    from art_mtl.evaluation import Victim
    x = torch.linspace(0, 1, 32).reshape(8, 1, 2, 2)
    y = {"a": [2] * 8, "b": x.sum((1, 2, 3)) + 0.1}
    return Victim.of(Net(), [tasks.classification("a", 3), tasks.regression("b")], x, y, eps={"linf": [0.1]})

def spec():
    from art_mtl.zoo.victims import VICTIM_SPECS
    from dataclasses import replace
    return replace(VICTIM_SPECS["digits"], description="theirs", weights=WEIGHTS)

def unweighted():
    from dataclasses import replace
    return replace(spec(), weights=None)

def broken():
    raise OSError("no data")

number = lambda: 3
WEIGHTS = None
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs a package with entry points, for one test."""

    def install(points: str, extra: str = "") -> None:
        (tmp_path / "tiny_attack.py").write_text(PACKAGE + extra)
        about = tmp_path / "tiny_attack-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-attack\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(textwrap.dedent(points))
        monkeypatch.syspath_prepend(tmp_path)
        installed.cache_clear()

    yield install
    installed.cache_clear()
    sys.modules.pop("tiny_attack", None)


def test_a_method_and_a_victim_of_another_package_run_in_the_benchmark(package, capsys):
    package("""
        [art_mtl.methods]
        tiny = tiny_attack:SPEC
        [art_mtl.victims]
        tinies = tiny_attack:victim
    """)  # fmt: skip
    assert victim_names()[-1] == "tinies"
    victim = load_victim("tinies")
    assert (victim.name, dict(victim.eps)) == ("tinies", {"linf": (0.1,)})
    results = evaluate(victim, ["all"], steps=2, schedule=["published", "linear"], device="cpu", progress=False).results
    names = [attack.name for attack in results.attacks]
    assert names[-2:] == ["tiny", "tiny + linear step"] and "single:a" in names
    assert results["tiny"].delta_wor is not None and results.victim == "tinies"
    assert "| tiny | baseline |" in to_markdown(make_table(results))
    labels = [label.get_text() for label in degradation_figure(results).axes[0].get_yticklabels()]
    assert {"tiny", "single-task reference"} <= set(labels) and not any(label.startswith("single:") for label in labels)
    bars = [label.get_text() for label in tasks_figure(results, next(results.blocks())).axes[0].get_yticklabels()]
    assert any(label.startswith("tiny ") for label in bars) and method_colour("tiny") == "#123456"
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "their attack" in shown and "of the package tiny-attack" in " ".join(shown.split())


def test_a_victim_may_be_a_recipe_with_its_weights(package, tmp_path):
    weights = ROOT / "models" / "weights" / "digits.safetensors"
    package("""
        [art_mtl.victims]
        theirs = tiny_attack:spec
        bare = tiny_attack:unweighted
        broken = tiny_attack:broken
        number = tiny_attack:number
    """, f"WEIGHTS = {str(weights)!r}\n")  # fmt: skip
    victim = load_victim("theirs")
    assert victim.name == "theirs" and victim.data("test", 2)[0].shape == (2, 1, 28, 28)
    assert load_victim("bare", checkpoint=weights).name == "bare"
    for name, error, message in (
        ("bare", ValueError, "'tiny_attack:unweighted'.*should have `weights`.*Found neither"),
        ("broken", ImportError, "'tiny_attack:broken'.*should make a victim. Found OSError: no data"),
        ("number", TypeError, "'tiny_attack:number'.*should make a Victim or a VictimSpec. Found int"),
        ("none", ValueError, "one of digits.*theirs, bare, broken, number, PATH.py:function or .*Found 'none'"),
    ):
        with pytest.raises(error, match=message):
            load_victim(name)


@pytest.mark.parametrize(
    ("points", "ask", "message"),
    [
        ("[art_mtl.methods]\nequal = tiny_attack:TAKEN", registry, "name of its own. Found 'equal', which is taken"),
        ("[art_mtl.victims]\nrooms = tiny_attack:victim", victim_names, "name of its own. Found 'rooms', which is"),
    ],
)
def test_a_name_that_is_taken_is_refused(package, points, ask, message):
    package(points)
    with pytest.raises(ValueError, match=message):
        ask()


def test_a_package_that_cannot_be_imported_is_named(package):
    package("[art_mtl.methods]\ntiny = tiny_attack:SPEC", "import no_such_module\n")
    with pytest.raises(
        ImportError, match="'tiny_attack:SPEC' of 'art_mtl.methods'.*ModuleNotFoundError.*no_such_module"
    ):
        registry()


METRIC = """
from dataclasses import replace
from art_mtl import losses
from art_mtl.metrics import Bound, mean_of

def scaled_mean(sums, places):
    return sums[..., 0] / sums[..., 1] * 10**places

def scaled(places, fails=0):
    if fails:
        raise OSError("not\\ntoday")
    found = mean_of("theirs", losses.absolute_error, higher_is_better=False)
    document = {"metric": "scaled", "places": places}
    return replace(found, value=Bound(scaled_mean, places=places), document=document, bounds=(0.0, 10.0))

def unsized(places):
    return replace(scaled(places), size=None)

def task():
    return tasks.custom("b", loss=losses.absolute_error, metric=scaled(0))
"""


def test_a_metric_of_another_package_is_read_from_a_stored_run(package, tmp_path, monkeypatch):
    """Figures are those of the live run; a package that is not imported yet is, by its entry point and no other way."""
    package("[art_mtl.metrics]\nscaled = tiny_attack:scaled", METRIC)
    import tiny_attack

    x = np.random.default_rng(0).uniform(0.2, 0.8, (8, 3)).astype(np.float32)
    own = [tasks.classification("a", 3), tiny_attack.task()]
    model = PyTorchMultiTaskEstimator(Both(), own, (3,), clip_values=(0, 1), device_type="cpu")
    labels = {"a": model.predict(x)["a"].argmax(1), "b": x.sum(1, keepdims=True) + 0.1}
    attacks = [WorstTaskPGD(model, eps=0.1, max_iter=2, verbose=False)]
    live = evaluate(model, attacks, (x, labels), out=tmp_path / "run", seed=0, progress=False).results
    sys.modules.pop("tiny_attack")
    stored = Run.read(tmp_path / "run")
    assert "tiny_attack" in sys.modules and stored.results.attacks == live.attacks
    compared = compare_runs([tmp_path / "run"] * 2, ["one", "two"], metrics=True)
    [own] = [one for one in compared.figures if (one.figure, one.run) == ("b", "one")]
    assert own.value == live.attacks[0].values[1] and own.interval is not None


def test_what_is_no_metric_of_an_installed_package_is_refused(package):
    points = "scaled = tiny_attack:scaled\nunsized = tiny_attack:unsized\nnumber = tiny_attack:number\ngone = gone:gone"
    package(f"[art_mtl.metrics]\n{points}", METRIC)
    assert read_metric({"metric": "scaled", "places": 2}).value(torch.tensor([3.0, 4.0])) == 75
    for document, message in (
        ({"metric": "tiny_attack:scaled", "places": 1}, "one of .*'f1'.*'scaled'.*Found 'tiny_attack:scaled'"),
        ({"metric": "scaled", "places": "os"}, "size 'places' of a stored metric should be in 0..4096. Found 'os'"),
        ({"metric": "scaled"}, "'tiny_attack:scaled' of 'art_mtl.metrics' should make a Metric of {}. Found TypeError"),
        ({"metric": "scaled", "places": 1, "fails": 1}, "Found OSError: not today$"),
        ({"metric": "unsized", "places": 1}, "a Metric that states its `size`"),
        ({"metric": "number"}, "a Metric that states its `size`. Found int"),
        ({"metric": "gone"}, "Found ImportError: Entry point 'gone:gone'"),
    ):
        with pytest.raises(ValueError, match=message):
            read_metric(document)


def test_a_metric_of_another_package_may_not_take_a_name(package):
    package("[art_mtl.metrics]\naccuracy = tiny_attack:scaled", METRIC)
    with pytest.raises(ValueError, match="Found 'accuracy', which is taken by art_mtl"):
        read_metric({"metric": "theirs"})


class Both(torch.nn.Module):
    """A class and a value of 3 numbers."""

    def forward(self, x):
        return {"a": 9 * x, "b": x.sum(1, keepdim=True)}


def test_auto_pgd_and_worst_task_are_two_rows():
    victim = load_victim("digits")
    estimator = make_estimator(victim, "cpu")
    attacks = [WorstTaskPGD(estimator, eps=0.1, max_iter=2, verbose=False)]
    attacks += [MultiTaskAutoPGD(estimator, eps=0.1, max_iter=2, verbose=False)]
    results = evaluate(estimator, attacks, victim.data("test", 8), progress=False).results
    assert [attack.name for attack in results.attacks] == ["worst-task", "auto-pgd:worst-task"]
    out = to_markdown(make_table(results))
    assert "| worst-task | ours |" in out and "| auto-pgd:worst-task | ours |" in out
