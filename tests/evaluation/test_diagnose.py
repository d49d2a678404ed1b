"""Failure diagnostics: planted faults are caught, a healthy model passes, and the parts keep their laws."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchattacks
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch.nn import functional

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import WorstTaskPGD
from art_mtl.cli import main
from art_mtl.data.sources import as_arrays
from art_mtl.evaluation import (
    AttackResult,
    Diagnosis,
    Environment,
    Experiment,
    Results,
    TaskResult,
    diagnose,
    diagnosis_table,
    evaluate,
    load_victim,
    to_markdown,
)
from art_mtl.evaluation.checks import NORMS
from art_mtl.evaluation.diagnosis import SANITY_CHECKS
from art_mtl.evaluation.diagnosis.diagnosis_context import DiagnosisContext
from art_mtl.evaluation.diagnosis.gradients import disagreement, task_gradients, unexplained
from art_mtl.evaluation.diagnosis.records import FAILURE, Check
from art_mtl.evaluation.diagnosis.search import Grey, Noise, QuerySearch, grey_radius
from art_mtl.evaluation.diagnosis.surrogate import StraightThrough, make_surrogate
from art_mtl.evaluation.grid import GridCell, make_attack, make_estimator
from art_mtl.evaluation.statistics import resampled_metrics
from art_mtl.labels import MultiTaskLabels

TASKS = [tasks.classification("kind", 4), tasks.classification("side", 3), tasks.regression("tilt")]
SAMPLES = 32


class Net(torch.nn.Module):
    """Two classes and a value from 8 × 8 pixels, with one of several faults."""

    def __init__(self, fault: str | None = None) -> None:
        super().__init__()
        self.fault = fault
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.heads = torch.nn.ModuleList(torch.nn.Linear(8 * 64, size, bias=False) for size in (4, 3, 1))
        for weight in self.parameters():
            weight.data = torch.randn(weight.shape, generator=generator) / weight[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.fault == "quantised":
            x = torch.round(7 * x) / 7
        if self.fault == "no_grad":
            with torch.no_grad():
                x = torch.round(7 * x) / 7
        hidden = torch.tanh(2 * self.conv(2 * x - 1)).flatten(1)
        if self.fault == "dropout":
            hidden = functional.dropout(hidden, 0.3, training=True)
        if self.fault == "batch":
            hidden = hidden + hidden.mean(0)
        kind, side, tilt = (head(hidden) for head in self.heads)
        if self.fault == "detached":
            side = side.detach()
        return {"kind": (8000 if self.fault == "saturated" else 8) * kind, "side": 8 * side, "tilt": tilt}


def make(fault: str | None = None, net: torch.nn.Module | None = None) -> PyTorchMultiTaskEstimator:
    return PyTorchMultiTaskEstimator(
        Net(fault) if net is None else net, TASKS, input_shape=(1, 8, 8), clip_values=(0, 1), device_type="cpu"
    )


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, MultiTaskLabels]:
    """What the healthy net says of random inputs, its value off by 0.02."""
    x = np.random.default_rng(0).uniform(size=(SAMPLES, 1, 8, 8)).astype(np.float32)
    own = make().own_labels(x)
    return x, MultiTaskLabels({"kind": own["kind"], "side": own["side"], "tilt": own["tilt"] + 0.02})


def attack_on(estimator: PyTorchMultiTaskEstimator, **settings) -> WorstTaskPGD:
    return WorstTaskPGD(estimator, **{"eps": 0.1, "max_iter": 4, "verbose": False, **settings})


def diagnosis_context(estimator, attack, data) -> DiagnosisContext:
    x, y = as_arrays(data, estimator.tasks)
    return DiagnosisContext(estimator, attack, x, y, batch_size=16, seed=0, tolerance=0.01)


def diagnose_fault(fault: str | None, data) -> Diagnosis:
    estimator = make(fault)
    return diagnose(estimator, attack_on(estimator), *data, queries=60, victim=str(fault))


# --- planted faults ---


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (None, ()),
        ("quantised", ("gradient", "differentiable", "huge-eps", "black-box", "transfer")),
        ("detached", ("gradient", "differentiable", "black-box", "transfer")),
        ("dropout", ("deterministic", "differentiable")),
        ("saturated", ("gradient", "reference")),
        ("batch", ("deterministic",)),
        ("no_grad", ("gradient", "differentiable")),
    ],
)
def test_a_planted_fault_is_caught_and_a_healthy_net_passes(fault, caught, data) -> None:
    found = diagnose_fault(fault, data)
    assert found.failed == caught
    assert [check.name for check in found.checks] == list(SANITY_CHECKS)
    for check in found.checks:
        if check.status != "not applicable":
            assert (check.status == "fail") == (check.figure > check.threshold)
            assert (check.status == "pass") <= (check.name == "differentiable" or check.at_most <= FAILURE)


def test_the_embedded_digits_pass_everything() -> None:
    victim = load_victim("digits")
    estimator = make_estimator(victim, "cpu")
    attack = make_attack(estimator, GridCell("worst-task", "linf", 0.1), steps=10, batch_size=64)
    found = diagnose(estimator, attack, *victim.data("test", 64), queries=20, batch_size=64)
    assert [check.status for check in found.checks] == ["pass"] * len(SANITY_CHECKS)
    assert found.delta_wor < -0.5


def test_four_samples_and_two_steps_prove_nothing() -> None:
    """A pass would need a failure that could be seen; only what does not depend on samples is decided."""
    victim = load_victim("digits")
    estimator = make_estimator(victim, "cpu")
    attack = make_attack(estimator, GridCell("worst-task", "linf", 0.1), steps=2, batch_size=64)
    found = diagnose(estimator, attack, *victim.data("test", 4), queries=20, batch_size=64)
    assert found.failed == () and set(found.inconclusive) == set(SANITY_CHECKS) - {"deterministic", "differentiable"}
    table = diagnosis_table(found)
    assert "Checks: 2 passed, 0 failed, 9 inconclusive." in table.caption
    assert (
        "noise: A failure of 100 points cannot be excluded with 4 samples: diagnose with more of them." in table.notes
    )
    assert Diagnosis.from_json_text(found.to_json_text()) == found


def test_a_check_passes_only_where_a_failure_would_have_been_seen() -> None:
    def status(figure: float, margin: float) -> str:
        return Check.of("noise", figure, 0.01 + margin, "", margin).status

    assert status(0.0, FAILURE) == "pass" and status(0.0, FAILURE + 0.01) == "inconclusive"
    assert status(-0.5, 0.6) == "pass", "far from failing, although the margin is wide"
    assert status(0.5, 0.4) == "fail" and status(0.3, 0.4) == "inconclusive"
    nothing = Check.of("noise", 0.0, math.inf, "", math.inf)
    assert (nothing.status, nothing.threshold, nothing.at_most) == ("inconclusive", None, None)


def test_what_cannot_be_attacked_at_all_is_said_so(data) -> None:
    found = diagnose_fault("no_grad", data)
    assert found.delta_wor is None
    assert found["more-steps"].status == "not applicable"
    assert "no task has a gradient" in found["more-steps"].seen


class Scripted:
    """Goes as far along the gradient of the healthy net as it is told to, by ε and the number of steps."""

    attack_params = ("norm", "eps", "max_iter")
    norm = np.inf

    def __init__(self, strength, eps: float = 0.3, max_iter: int = 4) -> None:
        self.strength, self.eps, self.max_iter = strength, eps, max_iter

    def set_params(self, **changes) -> None:
        vars(self).update(changes)

    def generate(self, x, y=None):
        step = self.strength(self.eps, self.max_iter) * np.sign(make().loss_gradient(x, y))
        return np.clip(x + step, 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("strength", "caught"),
    [
        (lambda eps, steps: eps, set()),
        (lambda eps, steps: eps * (4 / steps) ** 2, {"more-steps"}),
        (lambda eps, steps: 0.02 if steps == 4 and eps < 0.5 else eps, {"convergence"}),
        (lambda eps, steps: 0.3 if eps == 0.3 else 0.005, {"larger-eps", "huge-eps"}),
        (lambda eps, steps: 0 if eps == 0.5 else eps, {"huge-eps"}),
        (lambda eps, steps: 0, {"noise", "huge-eps"}),
    ],
)
def test_an_attack_that_breaks_a_law_is_caught_by_that_law(strength, caught, data) -> None:
    found = diagnose(make(), Scripted(strength), *data, queries=5)
    expected = {"more-steps", "convergence", "larger-eps", "huge-eps", "noise"}
    assert expected & set(found.failed) == caught
    assert found["transfer"].status == "not applicable"


# --- attacks from elsewhere ---


def test_attacks_of_art_are_varied_on_copies(data) -> None:
    estimator = make("quantised")
    attack = ProjectedGradientDescent(estimator, eps=0.1, eps_step=0.05, max_iter=4, batch_size=16, verbose=False)
    before, inner = dict(vars(attack)), dict(vars(attack._attack))
    found = diagnose(estimator, attack, *data, queries=60)
    assert found.failed == ("gradient", "differentiable", "huge-eps", "black-box", "transfer")
    assert (found.attack, found.steps, found.eps) == ("ProjectedGradientDescent", 4, 0.1)
    assert dict(vars(attack)) == before and dict(vars(attack._attack)) == inner
    lab = diagnosis_context(estimator, attack, data)
    wide = lab.with_eps(0.2)
    assert (wide._attack.eps, wide._attack.eps_step, attack._attack.eps) == (0.2, 0.1, 0.1)
    assert wide._attack.estimator is estimator and lab.vary(make())._attack.estimator is not estimator


def test_what_an_attack_lacks_is_not_applicable(data) -> None:
    class Whitens:
        def generate(self, x, y=None):
            return np.ones_like(x)

    estimator = make()
    found = diagnose(estimator, Whitens(), *data, queries=10)
    skipped = [check.name for check in found.checks if check.status == "not applicable"]
    assert skipped == [
        "more-steps",
        "convergence",
        "larger-eps",
        "huge-eps",
        "noise",
        "reference",
        "black-box",
        "transfer",
    ]
    single = diagnose(estimator, FastGradientMethod(estimator, eps=0.1), *data, queries=10)
    assert single["more-steps"].status == "not applicable" and single["larger-eps"].status == "pass"


def test_objects_of_other_hosts_are_taken_as_in_an_evaluation(data) -> None:
    """A stock attack of torchattacks, and ART's on a stock classifier: to the last bit what an evaluation found."""
    x, _ = data
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    y = net(torch.from_numpy(x)).argmax(1).numpy()
    classifier = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (1, 8, 8), 4, clip_values=(0, 1))
    for attack in (torchattacks.PGD(net, 0.1, steps=2, random_start=False), FastGradientMethod(classifier, eps=0.1)):
        direct = diagnose(classifier, attack, x, y, queries=5)
        run = evaluate(classifier, [attack], (x, y), progress=False)
        assert direct.delta_wor == run.results.attacks[0].delta_wor < 0
        assert direct.checks == run.diagnose(direct.attack, queries=5).checks
    with pytest.raises(TypeError, match="An attack should be a name, or an object of .* Found str"):
        diagnose(classifier, "equal", x, y)


# --- parts ---


def test_excess_is_the_difference_with_the_error_of_a_paired_bootstrap(data) -> None:
    """One accuracy on N samples: the difference of two of its Δ has a standard error known in closed form."""
    x, _ = data
    estimator = PyTorchMultiTaskEstimator(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4)), TASKS[:1], (1, 8, 8), clip_values=(0, 1)
    )
    y = {"kind": estimator.predict(x)["kind"].argmax(1)}
    lab = diagnosis_context(estimator, attack_on(estimator), (x, y))
    strong, weak = lab.run("strong", attack_on(estimator, eps=0.2)), lab.run("weak", attack_on(estimator, eps=0.02))
    hits = [
        estimator.predict(attack_on(estimator, eps=e).generate(x, y))["kind"].argmax(1) == y["kind"]
        for e in (0.2, 0.02)
    ]
    difference = hits[1].astype(float) - hits[0]
    excess = lab.excess(strong, weak)
    assert excess.value == pytest.approx(difference.mean()) and 0 < excess.value < 1
    # Student's 0.99865 quantile with 31 degrees of freedom, and N − 1 for N, make 3.3 of three errors.
    assert excess.margin == pytest.approx(3.31 * difference.std(ddof=1) / math.sqrt(SAMPLES), rel=0.1)
    assert excess.limit == pytest.approx(0.01 + excess.margin)
    never_differs = 1 - 0.00135 ** (1 / SAMPLES)
    assert lab.excess(weak, weak).limit == pytest.approx(0.01 + never_differs, rel=0.01)
    back = lab.excess(weak, strong, task=0)
    assert (back.value, back.margin) == (-excess.value, excess.margin)


@pytest.mark.parametrize("protocol", ["pooled", "auto-lambda"])
def test_the_very_attack_that_ran_is_diagnosed(protocol: str, data) -> None:
    """In the same chunks, by the same protocol, from the same seeds: to the last bit what an evaluation found."""
    estimator = make()
    attack = attack_on(estimator, weight_group=8, num_random_init=1, eps=0.05)
    results = evaluate(
        estimator, [attack], data, chunk=8, batch_size=16, seed=3, protocol=protocol, progress=False
    ).results
    x, y = as_arrays(data, TASKS)

    def deltas(*settings: Any) -> tuple[float, ...]:
        lab = DiagnosisContext(estimator, attack, x, y, 16, 3, 0.01, *settings)
        return tuple(lab.direct.deltas.tolist())

    assert deltas(protocol, 8) == results.attacks[0].deltas
    assert deltas(protocol, None) != results.attacks[0].deltas


def test_every_run_of_a_check_is_in_chunks_prepared_and_restarted_as_the_attack(data, monkeypatch) -> None:
    made, seen, averaged = [], [], set()

    def recorded(estimator, cell, steps, batch_size, chunk=None, *, prepare=None):
        made.append(attack := make_attack(estimator, cell, steps, batch_size, chunk, prepare=prepare))
        assert (chunk, prepare) == (8, "exact")
        return attack

    generate = WorstTaskPGD.__mro__[1].generate

    def counted(self, x, y=None, **others):
        seen.append((len(x), self.num_random_init, self.prepare))
        return generate(self, x, y, **others)

    def resampled(scales, parts):
        averaged.add(tuple(scale.averages_batches for scale in scales))
        return resampled_metrics(scales, parts)

    monkeypatch.setattr("art_mtl.evaluation.diagnosis.diagnosis_context.make_attack", recorded)
    monkeypatch.setattr("art_mtl.evaluation.diagnosis.diagnosis_context.resampled_metrics", resampled)
    monkeypatch.setattr(WorstTaskPGD.__mro__[1], "generate", counted)
    estimator = make()
    attack = attack_on(estimator, num_random_init=2, prepare="exact", max_iter=1)
    found = diagnose(estimator, attack, *data, queries=5, chunk=8, protocol="auto-lambda")
    assert (found.chunk, found.protocol) == (8, "auto-lambda")
    assert averaged == {(False, False, True)}, "batches of 4 are averaged over, of the value"
    assert [one.num_random_init for one in made] == [2, 2, 2]
    assert set(seen) == {(8, 2, "exact")}
    # The attack, 2 and 4 times its steps and ε, half the box, the surrogate, and each task alone: in 4 chunks each.
    assert len(seen) == 4 * (1 + 2 + 2 + 1 + 1 + 3)


def test_gradients_are_those_of_a_linear_net(data) -> None:
    x, _ = data
    slopes = torch.tensor([[1.0, -2.0], [0.0, 0.0]])

    class Linear(torch.nn.Module):
        def forward(self, inputs):
            return list((inputs.flatten(1)[:, :2] @ slopes.T).unbind(1))

    two = [tasks.custom(name, loss=lambda output, target: output) for name in ("a", "b")]
    estimator = PyTorchMultiTaskEstimator(Linear(), two, (1, 8, 8), device_type="cpu")
    first, second = task_gradients(estimator, x, MultiTaskLabels({"a": np.zeros(32), "b": np.zeros(32)}), 10)
    assert (first.connected, first.lost, first.constant) == (True, 0.0, True)
    assert (second.connected, second.lost) == (True, 1.0)


def test_a_gradient_too_small_or_not_finite_is_lost(data) -> None:
    x, _ = data

    class Odd(torch.nn.Module):
        def forward(self, inputs):
            scale = torch.ones(len(inputs))
            scale[0], scale[1] = 1e-40, math.inf
            return scale * inputs.sum((1, 2, 3))

    task = tasks.custom("a", loss=lambda output, target: output)
    estimator = PyTorchMultiTaskEstimator(Odd(), [task], (1, 8, 8), device_type="cpu")
    (found,) = task_gradients(estimator, x[:8], MultiTaskLabels({"a": np.zeros(8)}), 8)
    assert found.lost == 2 / 8


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_gradient_half_as_long_leaves_a_quarter_unexplained(norm, data) -> None:
    x, _ = data

    class Half(torch.nn.Module):
        def forward(self, inputs):
            return (inputs.detach() + inputs).flatten(1) / 2

    def share(net) -> float:
        estimator = PyTorchMultiTaskEstimator(net, [tasks.regression("a")], (1, 8, 8), (0, 1), device_type="cpu")
        return unexplained(estimator, x, norm, 0.5, 16, seed=0)["a"]

    assert share(Half()) == pytest.approx(0.25, rel=1e-3)
    assert share(torch.nn.Flatten()) < 1e-6


def test_finite_differences_stay_inside_the_box(data) -> None:
    class Watched(torch.nn.Module):
        low, high = math.inf, -math.inf

        def forward(self, inputs):
            seen = inputs.detach()
            self.low, self.high = min(self.low, float(seen.min())), max(self.high, float(seen.max()))
            return inputs.flatten(1)

    net = Watched()
    estimator = PyTorchMultiTaskEstimator(net, [tasks.regression("a")], (1, 8, 8), (0, 1), device_type="cpu")
    unexplained(estimator, np.round(data[0]), "linf", 0.2, 16, seed=0)
    assert net.low >= 0 and net.high <= 1


def test_disagreement_tells_noise_from_batches(data) -> None:
    x, _ = data
    assert disagreement(make(), x, 16) == pytest.approx((0, 0), abs=1e-6)
    repeated, mixed = disagreement(make("batch"), x, 16)
    assert repeated == 0 and mixed > 0.01
    assert disagreement(make("dropout"), x, 16)[0] > 0.1


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.8), ("l1", 4.0)])
def test_noise_and_search_stay_in_the_ball_and_reach_its_edge(norm, eps, data) -> None:
    x, y = data
    estimator = make()
    radii = np.where(np.arange(SAMPLES) % 2, eps, eps / 2).reshape(-1, 1, 1, 1).astype(np.float32)
    noise = Noise(estimator, norm, radii, seed=0).generate(x)
    attacked = [noise]
    if norm != "l1":
        search = QuerySearch(estimator, "tilt", norm, radii, queries=20, batch_size=10, seed=0)
        attacked.append(search.generate(x, y))
    for found in attacked:
        length = np.linalg.norm((found - x).reshape(SAMPLES, -1), ord=NORMS[norm], axis=1)
        assert (length <= radii.ravel() * (1 + 1e-4)).all() and found.min() >= 0 and found.max() <= 1
        assert np.median(length / radii.ravel()) > 0.8  # the box takes the rest


def test_the_search_finds_the_optimum_of_a_linear_net_by_outputs_alone() -> None:
    """|a · x| has its greatest change ε Σ|a| at the corner that the signs of a point to."""
    slopes = torch.tensor([1.0, -2.0, 3.0, -4.0, 0.5, 1.5])
    calls = []

    class Linear(torch.nn.Module):
        def forward(self, x):
            calls.append(len(x))
            assert not torch.is_grad_enabled()
            return x @ slopes

    estimator = PyTorchMultiTaskEstimator(Linear(), [tasks.regression("a")], (6,), (0, 1), device_type="cpu")
    x = np.full((4, 6), 0.5, dtype=np.float32)
    y = MultiTaskLabels({"a": (x @ slopes.numpy())[:, None]})
    search = QuerySearch(estimator, "a", "linf", 0.1, queries=300, batch_size=4, seed=0)
    gain = estimator.compute_losses(search.generate(x, y), y)["a"]
    assert gain == pytest.approx(0.1 * float(slopes.abs().sum()), rel=1e-4)
    assert len(calls) == 300 + 1


def test_grey_is_within_its_radius_of_everything(data) -> None:
    x, _ = data
    low = np.linspace(0, 0.4, 64, dtype=np.float32).reshape(1, 8, 8)
    estimator = PyTorchMultiTaskEstimator(Net(), TASKS, (1, 8, 8), clip_values=(low, 1.0), device_type="cpu")
    grey = Grey(estimator).generate(x)
    for norm, order in NORMS.items():
        corner = np.linalg.norm((grey[0] - low).ravel().astype(np.float64), ord=order)
        assert grey_radius(estimator, norm) == pytest.approx(corner, rel=1e-6)


def test_the_surrogate_has_the_gradient_that_rounding_and_detaching_hide(data) -> None:
    x, y = data
    x, y = x[:8], y[:8]
    for fault in ("quantised", "detached", "no_grad"):
        estimator = make(fault)
        surrogate = make_surrogate(estimator, x, y, noise=0.0, batch_size=8, seed=0)
        assert all(g.connected and g.lost == 0 for g in task_gradients(surrogate, x, y, 8))
        outputs, expected = surrogate.predict(x), estimator.predict(x)
        np.testing.assert_allclose(outputs["tilt"], expected["tilt"], rtol=1e-5)
    cooled = make_surrogate(make("saturated"), x, y, noise=0.0, batch_size=8, seed=0).predict(x)
    hot = make("saturated").predict(x)
    assert np.abs(cooled["kind"]).max() < 10 < np.abs(hot["kind"]).max()
    np.testing.assert_array_equal(cooled["kind"].argmax(1), hot["kind"].argmax(1))


def test_straight_through_ends_with_its_block() -> None:
    x = torch.tensor([0.7], requires_grad=True)
    with StraightThrough():
        assert x.round().requires_grad and x.detach().requires_grad
    assert not x.detach().requires_grad
    assert torch.autograd.grad(x.round(), x)[0] == 0


def test_the_model_leaves_as_it_came(data) -> None:
    net = Net()
    net.train()
    estimator = make(net=net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = diagnose(estimator, attack_on(estimator, max_iter=1), *data, queries=5)
    assert found.checks
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_the_same_seed_gives_the_same_diagnosis(data) -> None:
    estimator = make()
    first, second = (diagnose(estimator, attack_on(estimator, max_iter=1), *data, queries=5, seed=3) for _ in range(2))
    assert first.checks == second.checks


# --- records, tables, errors, command ---


def test_json_round_trip_and_tables(data, tmp_path: Path) -> None:
    found = diagnose_fault("detached", data)
    path = tmp_path / "diagnosis.json"
    found.to_json(path)
    assert Diagnosis.from_json(path) == found
    text = to_markdown(diagnosis_table(found))
    assert "| **gradient** | **fail** | 100.00 | 1.00 | no gradient of side anywhere |" in text
    assert SANITY_CHECKS["gradient"].advice in text and SANITY_CHECKS["noise"].advice not in text
    assert found["reference"].status == "not applicable" and "| reference | not applicable | – | – |" in text
    assert "Checks: 5 passed, 4 failed, 1 inconclusive, 1 not applicable." in diagnosis_table(found).caption
    with pytest.raises(KeyError, match="no check 'luck'"):
        found["luck"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Found a fault"),
        ('{"format": "art_mtl.results"}', "format 'art_mtl.diagnosis'"),
        ('{"format": "art_mtl.diagnosis", "version": 9}', "it is of version 9, not 2"),
        ('{"format": "art_mtl.diagnosis", "version": [1]}', r"it is of version \[1\], not 2"),
        ('{"format": "art_mtl.diagnosis", "version": 2, "checks": [{}]}', "missing required field"),
        ('{"format": "art_mtl.diagnosis", "version": 2, "victim": 1}', r"Expected `str`, got `int` - at `\$.victim`"),
    ],
)
def test_other_documents_are_refused(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        Diagnosis.from_json_text(text)


def test_bad_arguments(data) -> None:
    x, y = data
    estimator = make()
    attack = attack_on(estimator)
    other = PyTorchMultiTaskEstimator(Net(), [TASKS[0]], (1, 8, 8), clip_values=(0, 1), device_type="cpu")
    for error, message, arguments in (
        (ValueError, "`queries` should be an integer of at least 2. Found 1", {"queries": 1}),
        (ValueError, "`batch_size` should be an integer of at least 1. Found 0", {"batch_size": 0}),
        (ValueError, "`tolerance` should be finite and at least 0. Found -1", {"tolerance": -1}),
        (ValueError, r"`surrogate` should have the tasks \['kind', 'side', 'tilt'\]", {"surrogate": other}),
        (TypeError, "Found Net", {"surrogate": Net()}),
        (ValueError, "`attack` should be made for the model", {"attack": attack_on(make())}),
        (ValueError, "untargeted", {"attack": attack_on(estimator, targeted=True)}),
        (TypeError, "`generate", {"attack": object()}),
        (TypeError, "What is evaluated should be .* Found Net", {"estimator": Net()}),
        (ValueError, "should name the tasks", {"y": {"kind": y["kind"]}}),
    ):
        with pytest.raises(error, match=message):
            diagnose(**{"estimator": estimator, "attack": attack, "x": x, "y": y, **arguments})


def test_a_given_surrogate_is_used(data) -> None:
    victim, twin = make("quantised"), make()
    found = diagnose(victim, attack_on(victim, max_iter=2), *data, queries=5, surrogate=twin)
    assert found["transfer"].status == "fail" and "made on the surrogate" in found["transfer"].seen


VICTIM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from test_diagnose import Net, TASKS, make

def detached():
    x = np.random.default_rng(0).uniform(size=(16, 1, 8, 8)).astype(np.float32)
    y = make().own_labels(x)
    return Net("detached"), TASKS, x, {{"kind": y["kind"], "side": y["side"], "tilt": y["tilt"] + 0.02}}

def healthy():
    return Net(), *detached()[1:]
"""


def run(arguments: list[str]) -> None:
    """The command; errors are raised."""
    assert main([*arguments, "--debug"]) == 0


@pytest.fixture
def victim(tmp_path: Path) -> str:
    (tmp_path / "tiny.py").write_text(VICTIM)
    return f"{tmp_path / 'tiny.py'}:detached"


@pytest.fixture
def healthy(victim: str) -> str:
    return victim.replace(":detached", ":healthy")


def test_the_command(victim: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "found.json"
    common = ["--victim", victim, "--eps", "0.1", "--steps", "2", "--device", "cpu", "--quiet"]
    run(["diagnose", *common, "--queries", "5", "--out", str(out), "--format", "markdown"])
    captured = capsys.readouterr()
    assert "no gradient of side anywhere" in captured.out and "gradient, differentiable" in captured.err
    found = Diagnosis.from_json(out)
    assert (found.attack, found.norm, found.eps, found.steps, found.samples) == ("worst-task", "linf", 0.1, 2, 16)
    run(["diagnose", *common, "--queries", "5", "--format", "json"])
    assert Diagnosis.from_json_text(capsys.readouterr().out).checks == found.checks


def test_benchmark_with_diagnose(victim: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    common = ["--victim", victim, "--eps", "0.1", "--steps", "1", "--device", "cpu", "--quiet", "--out", str(out)]
    run(["benchmark", *common, "--attacks", "equal", "--diagnose"])
    captured = capsys.readouterr()
    assert "differentiable" in captured.out and re.search("warning: .*differentiable", captured.err)
    found = Diagnosis.from_json(out / "diagnosis-linf-0.1.json")
    assert found.attack == "equal" and "gradient" in found.failed


def test_the_strongest_of_a_block_is_no_reference() -> None:
    """By the greatest degradation of the least degraded task, of every norm and radius."""

    def attack(name: str, norm: str, eps: float, delta_wor: float | None) -> AttackResult:
        deltas = (delta_wor,)
        return AttackResult(name, name, norm, eps, None, 1, (0.5,), deltas, delta_wor, delta_wor, None, ((0.5,),),
                            (deltas,), eps, 1.0, 1)  # fmt: skip

    attacks = (
        attack("single:a", "linf", 0.1, -0.9),
        attack("equal", "linf", 0.1, -0.1),
        attack("worst-task", "linf", 0.1, -0.3),
        attack("minmax", "linf", 0.1, None),
        attack("minmax", "l2", 0.1, -0.4),
        attack("equal", "l2", 0.1, -0.2),
        attack("single:a", "l1", 0.1, -0.2),
    )
    task = TaskResult("a", "classification", "accuracy", True, 100.0, "", 1.0, (1.0,))
    results = Results("toy", (task,), attacks, (0.0, 1.0), Environment({}, "cpu", "now", 0))
    assert [block.strongest for block in results.blocks()] == [attacks[2], attacks[4], None]


@pytest.fixture
def diagnosed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``diagnose`` is called with, its attack by ``attack_params``; it finds nothing."""
    calls: list[dict[str, Any]] = []

    def fake(estimator, attack, x, y, **settings) -> Diagnosis:
        params = {name: getattr(attack, name) for name in attack.attack_params if name not in ("estimator", "verbose")}
        calls.append({"class": type(attack).__name__, **params, "samples": len(x), **settings})
        return Diagnosis("toy", "a", "linf", 0.1, 1, 1, -0.5, (0.0, 1.0), (), Environment({}, "cpu", "now", 0), None)

    monkeypatch.setattr("art_mtl.evaluation.diagnosis.diagnose", fake)
    return calls


@pytest.mark.parametrize(
    ("attack", "options", "expected"),
    [
        ("worst-task", [], {"class": "MultiTaskPGD", "method": "worst-task", "weight_group": 8}),
        ("single:kind", [], {"class": "MultiTaskPGD", "objective": "population", "weight_group": 8}),
        (
            "equal + linear step, best of 3",
            ["--schedule", "restarts", "--restarts", "3"],
            {"class": "MultiTaskPGD", "num_random_init": 3, "schedule": "linear", "keep": "best"},
        ),
        ("auto-pgd", [], {"class": "MultiTaskAutoPGD"}),
        ("auto-attack-fast", [], {"class": "MultiTaskAutoAttack", "version": "fast"}),
    ],
)
def test_the_command_diagnoses_the_very_attack_that_ran(
    healthy: str, tmp_path: Path, diagnosed, attack, options, expected
) -> None:
    """By ``diagnose RUN`` and by ``benchmark --diagnose``: of every kind of row, with all of its settings."""
    out = tmp_path / "out"
    name = attack.partition(" ")[0]
    settings = ["--eps", "0.1", "0.2", "--steps", "2", "--chunk", "8", "--prepare", "fp32", "--seed", "5"]
    settings += ["--protocol", "auto-lambda", "--batch-size", "4", "--limit", "12"]
    where = ["--victim", healthy, "--device", "cpu", "--quiet"]
    reference = ["equal"] if name.startswith("single:") else []
    run(["benchmark", *where, "--out", str(out), *settings, *options, "--attacks", name, *reference, "--diagnose"])
    by_benchmark = diagnosed.copy()
    diagnosed.clear()
    run(["diagnose", str(out), "--attack", attack, "--eps", "0.2", *where])
    [found] = diagnosed
    common = {"eps": 0.2, "batch_size": 4, "samples": 12, "seed": 5, "protocol": "auto-lambda"}
    for key, value in {**common, **expected}.items():
        assert found[key] == value, key
    assert str(found["prepare"]) == "fp32" and found.get("max_iter", 2) == 2
    own = {"command", "progress", "queries"}  # of the call; its default is the same
    if not reference:
        assert [call["eps"] for call in by_benchmark] == [0.1, 0.2]
        assert {k: v for k, v in by_benchmark[1].items() if k not in own} == {
            k: v for k, v in found.items() if k not in own
        }


def test_the_command_diagnoses_the_strongest_attack(healthy: str, diagnosed) -> None:
    """Whichever ran first: ``worst-task`` by its table, Δ_Wor −75 % beside −58 %."""
    where = ["--victim", healthy, "--device", "cpu", "--quiet", "--limit", "12", "--eps", "0.1", "--steps", "3"]
    for names in (["equal", "worst-task"], ["worst-task", "equal"]):
        run(["benchmark", *where, "--attacks", *names, "--diagnose"])
    assert [call["method"] for call in diagnosed] == ["worst-task", "worst-task"]


def test_the_options_of_a_new_attack_reach_it(healthy: str, diagnosed) -> None:
    options = "--attack equal --eps l2:0.5 --steps 3 --schedule restarts --restarts 4 --limit 5 --seed 7 --queries 9"
    run(["diagnose", "--victim", healthy, *options.split(), "--batch-size", "2", "--prepare", "fp32"])
    [found] = diagnosed
    expected = {"norm": 2, "eps": 0.5, "max_iter": 3, "num_random_init": 4, "samples": 5, "seed": 7, "queries": 9}
    assert {name: found[name] for name in expected} == expected
    assert found["batch_size"] == 2 and str(found["prepare"]) == "fp32"


def test_nothing_that_a_folder_names_is_executed(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(): pass\n")
    (tmp_path / "experiment.yaml").write_text(Experiment(f"{evil}:f").to_yaml())
    with pytest.raises(ValueError, match="`victim` should be given again: .*evil.py"):
        run(["diagnose", str(tmp_path)])
    assert not (tmp_path / "ran").exists()


def test_what_a_run_does_not_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(Experiment("digits", ("equal",), eps=("0.1",), limit=8).to_yaml())
    for arguments, message in (
        (["--attack", "minmax"], "`attack` should be one of equal. Found 'minmax'."),
        (["--attack", "eqal"], "`attack` should be one of equal. Found 'eqal'. Perhaps 'equal'?"),
        (["--attack", "equal", "--eps", "0.2"], "`eps` should be of a row of equal: linf 0.1. Found '0.2'"),
        (["--attack", "equal", "--norm", "l2"], "`norm` should be of a row of equal: linf 0.1. Found 'l2'"),
        (["--attack", "equal", "--steps", "3"], "Options of a new attack should be left out .* Found steps"),
    ):
        with pytest.raises(ValueError, match=message):
            run(["diagnose", str(tmp_path), *arguments])
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere/experiment.yaml"):
        run(["diagnose", str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "all"], "`attack` should name one attack. Found 'all'"),
        (["--attack", "minimax"], "Perhaps 'minmax'"),
        (["--norm", "l2", "--eps", "linf:0.1"], r"`eps` should have radii of l2. Found one of linf"),
        (["--norm", "l1"], "should give radii for l1"),
        (["--queries", "1"], "`queries` should be an integer of at least 2. Found 1"),
        (["--out", "."], "`out` should be a file. Found the folder"),
    ],
)
def test_bad_arguments_of_the_command(victim: str, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(["diagnose", "--victim", victim, *arguments])


def test_errors_are_averaged_by_the_protocol() -> None:
    """Two batches of which one has a single valid place: its error counts as much as that of all the others."""
    estimator = PyTorchMultiTaskEstimator(
        torch.nn.Identity(), [tasks.depth("d")], (1, 2, 2), clip_values=(0, 9), device_type="cpu"
    )
    x = np.full((8, 1, 2, 2), 4, dtype=np.float32)
    y = x + np.repeat([1, 3], 4).reshape(8, 1, 1, 1).astype(np.float32)
    y[4:] = 0
    y[4, 0, 0, 0] = 7
    labels = MultiTaskLabels({"d": y})
    found = [
        DiagnosisContext(estimator, attack_on(estimator), x, labels, 8, 0, 0.01, protocol)._clean.value.item()
        for protocol in ("pooled", "auto-lambda")
    ]
    assert found == pytest.approx([(16 * 1 + 3) / 17, (1 + 3) / 2])
