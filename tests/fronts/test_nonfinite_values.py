"""Infinite gradients and outputs, and outputs without any gradient: what is attacked, and what is said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from art_mtl import tasks

BOTH = [tasks.classification("k", 4), tasks.regression("v")]
ONE_CLASS = [tasks.classification("k", 4)]
KINDS = {
    "MultiTaskPGD": {},
    "MinMaxMultiTaskPGD": {},
    "WorstTaskPGD": {},
    "MultiTaskAutoPGD": {},
    "UniversalMultiTaskPGD": {},
}


# --- gradients ---


class Gamma(nn.Module):
    """Undoes a gamma curve, whose slope at black is infinite."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(48, 4)

    def forward(self, x):
        return {"k": self.layer(x.pow(1 / 2.2).flatten(1))}


@pytest.fixture
def black():
    """Images two of which have a black pixel."""
    x = torch.from_numpy(np.random.default_rng(0).uniform(0.3, 0.7, (6, 3, 4, 4)).astype(np.float32))
    x[[1, 4], 0, 0, 0] = 0
    return x, {"k": np.arange(6) % 4}


def ascend(net, x, labels, norm, size, steps):
    """A plain loop that leaves out gradients that are not finite, as ART leaves out NaN; no bound is reached."""
    moved = x.clone()
    for _ in range(steps):
        leaf = moved.clone().requires_grad_(True)
        nn.functional.cross_entropy(net(leaf)["k"], torch.from_numpy(labels), reduction="sum").backward()
        gradient = torch.where(leaf.grad.isfinite(), leaf.grad, 0.0)
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        moved = (moved + size * (gradient.sign() if norm == np.inf else gradient / length)).clamp(0, 1)
    return moved


WITHOUT_SLOPE = r"gradient of sample\(s\) \[1, 4\] has NaN or infinite entries; these were set to 0"


@pytest.mark.parametrize("norm", [np.inf, 2])
def test_an_infinite_gradient_entry_is_left_out_and_the_rest_attacked(front, black, norm):
    net, (x, y) = Gamma(), black
    expected = ascend(net, x, y["k"], norm, 0.02, 4)
    with pytest.warns(RuntimeWarning, match=WITHOUT_SLOPE) as caught:
        found = front.attack("MultiTaskPGD", net, ONE_CLASS, x, y, eps=0.1, step_size=0.02, steps=4, norm=norm)
    assert len(caught) == 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (found[[1, 4], 0, 0, 0] == 0).all() and (found != x).flatten(1).sum(1).min() >= 47


@pytest.mark.parametrize("kind", KINDS)
def test_so_does_every_attack(front, black, kind):
    net, (x, y) = Gamma(), black
    with pytest.warns(RuntimeWarning, match="has NaN or infinite entries") as caught:
        found = front.attack(kind, net, ONE_CLASS, x, y, eps=0.1, steps=4)
    assert len(caught) == 1 and found.isfinite().all()
    assert ((found - x).abs() > 0.05).flatten(1).sum(1).min() > 20


# --- outputs ---


class Cliff(nn.Module):
    """The sum of the inputs, infinite above a threshold."""

    def __init__(self, threshold=10.8):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        total = x.flatten(1).sum(1)
        return {"v": torch.where(total > self.threshold, float("inf"), total)}


NUMBER = [tasks.regression("v")]


@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("MultiTaskPGD", {"keep": "best"}),
        ("MultiTaskPGD", {"keep": "best", "objective": "degradation"}),
        ("WorstTaskPGD", {"keep": "best"}),
        ("WorstTaskPGD", {"weight_scope": "sample"}),
    ],
)
def test_the_best_iterate_is_the_best_of_those_with_finite_loss(front, kind, options, steps):
    """From 4.8 the sum rises by 2.4 a step: the third iterate is beyond the cliff, also where it is the last one."""
    x, y = torch.full((2, 3, 4, 4), 0.1), {"v": np.zeros(2, np.float32)}
    settings = {"eps": 0.5, "step_size": 0.05, "schedule": "constant", "decay": 0.0, "steps": steps, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model's output was not finite")
        found = front.attack(kind, Cliff(), NUMBER, x, y, **settings)
    torch.testing.assert_close(found, x + 2 * 0.05)


@pytest.mark.parametrize("kind", ["MultiTaskAutoPGD", "MultiTaskAutoAttack"])
def test_nor_is_it_infinite_by_a_rule_that_goes_back_to_it(front, kind):
    x, y = torch.full((2, 3, 4, 4), 0.1), {"v": np.zeros(2, np.float32)}
    options = {"version": "fast"} if kind == "MultiTaskAutoAttack" else {"steps": 10}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model's output was not finite")
        found = front.attack(kind, Cliff(), NUMBER, x, y, eps=0.5, **options)
    assert Cliff()(found)["v"].isfinite().all()


@pytest.mark.parametrize("method", ["equal", "worst-image"])
def test_nor_is_that_of_the_best_restart(front, method):
    x, y = torch.full((4, 3, 4, 4), 0.1), {"v": np.zeros(4, np.float32)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The model's output was not finite")
        found = front.attack("MultiTaskPGD", Cliff(9.6), NUMBER, x, y, method, eps=0.15, steps=4, restarts=4, seed=0)
    assert Cliff(9.6)(found)["v"].isfinite().all()


class Edge(nn.Module):
    """The sum of the inputs, infinite where they are farther from ``clean`` than every other random start is."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, x):
        far = (x - self.clean).abs().flatten(1).mean(1) > 0.05
        return {"v": torch.where(far, float("inf"), x.flatten(1).sum(1))}


def test_more_restarts_are_never_worse_where_the_last_iterate_is_not_finite(front):
    """One that ends beyond the edge is worth what its last finite iterate is, which a clean image does not beat."""
    x, y = (
        torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2,
        {"v": np.zeros(6, np.float32)},
    )
    found = []
    for restarts in (2, 4, 8):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model's output was not finite")
            settings = {"eps": 0.1, "steps": 1, "restarts": restarts, "seed": 0}
            adversarial = front.attack("MultiTaskPGD", Edge(x), NUMBER, x, y, "equal", **settings)
        found.append(Edge(x)(adversarial)["v"])
    assert all(sums.isfinite().all() for sums in found)
    assert (found[1] >= found[0]).all() and (found[2] >= found[1]).all() and (found[1] > x.flatten(1).sum(1)).any()


def test_nor_does_an_ensemble_keep_what_has_no_finite_output(front, monkeypatch):
    """One step ends beyond the cliff, which only the measurement of the results can see."""
    from art_mtl.core.searches.ensemble_members import VERSIONS, Budget

    monkeypatch.setitem(VERSIONS, "fast", Budget(steps=1, queries=2, ranks=0, per_image=False))
    x, y = torch.full((2, 3, 4, 4), 0.1), {"v": np.zeros(2, np.float32)}
    x[1] = 0.02
    net = Cliff(4.8 + 1)
    for selection in ("sample", "population"):
        settings = {"eps": 0.1, "version": "fast", "selection": selection}
        found = front.attack("MultiTaskAutoAttack", net, NUMBER, x, y, **settings)
        assert net(found)["v"].isfinite().all()
        torch.testing.assert_close(found[1], x[1] + 0.1)


def test_nor_do_several_attacks_together(for_torchattacks):
    x, y = torch.full((2, 3, 4, 4), 0.1), {"v": np.zeros(2, np.float32)}
    net = Cliff(4.8 + 1)
    far, near = (
        for_torchattacks.make("MultiTaskPGD", net, NUMBER, eps=eps, step_size=eps, steps=1) for eps in (0.1, 0.02)
    )
    assert net(far(x, y))["v"].isinf().all(), "alone it cannot know"
    for members in ([far, near], [near, far]):
        torch.testing.assert_close(for_torchattacks.module.MultiAttack(members)(x, y), x + 0.02)


class Holed(nn.Module):
    """A class and a number, which is NaN on samples whose first pixel is dark."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.k, self.v = nn.Linear(48, 4), nn.Linear(48, 1)

    def forward(self, x):
        flat = x.flatten(1)
        return {"k": self.k(flat), "v": torch.where(flat[:, 0] < 0.2, float("nan"), self.v(flat)[:, 0])}


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("method", ["equal", "minmax", "worst-task", "worst-image"])
def test_an_output_without_a_label_ends_nothing(front, method, keep):
    """Sample 2 has no label of the number, sample 4 has one: only there the output that is not finite counts."""
    x = torch.from_numpy(np.random.default_rng(0).uniform(0.5, 0.7, (6, 3, 4, 4)).astype(np.float32))
    x[[2, 4], 0, 0, 0] = 0
    y = {"k": np.arange(6) % 4, "v": [0.0, 0.0, None, 0.0, 0.0, 0.0]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = front.attack("MultiTaskPGD", Holed(), BOTH, x, y, method, eps=0.1, steps=4, keep=keep)
    said = [str(warning.message) for warning in caught if "not finite" in str(warning.message)]
    assert len(said) == 1 and "[4]" in said[0]
    moved = ((found - x).abs() > 0.02).flatten(1).sum(1)
    assert moved[4] == 0 and moved[[0, 1, 2, 3, 5]].min() > 20


# --- no gradient ---


class Cut(nn.Module):
    """A class, and a number by a head that is cut off from the inputs."""

    def __init__(self, cut="detach"):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.cut = nn.Linear(48, 4), nn.Linear(48, 1), cut

    def forward(self, x):
        x = x.flatten(1)
        if self.cut == "no_grad":
            with torch.no_grad():
                return {"k": self.a(x), "v": self.b(x)}
        v = self.b(x)
        return {"k": self.a(x), "v": v.detach() if self.cut == "detach" else v.round() if self.cut == "round" else v}


SAYS = r"output of the task\(s\) \['v'\] does not depend on the inputs .*differentiable.*no robustness.*diagnose"


@pytest.mark.parametrize("kind", [*KINDS, "MultiTaskPatch"])
def test_a_head_without_a_gradient_is_named(front, data, kind):
    options = {"size": (2, 2)} if kind == "MultiTaskPatch" else {"eps": 0.1}
    with pytest.warns(RuntimeWarning, match=SAYS) as caught:
        found = front.attack(kind, Cut(), BOTH, *data, steps=3, **options)
    assert len(caught) == 1 and not torch.equal(found, data[0]), "the other task is attacked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        front.attack(kind, Cut("not at all"), BOTH, *data, steps=3, **options)


def test_so_it_is_where_no_other_task_is_attacked(front, data):
    with pytest.warns(RuntimeWarning, match=SAYS):
        found = front.attack("MultiTaskPGD", Cut(), BOTH, *data, "single:v", eps=0.1, steps=3)
    assert torch.equal(found, data[0])


def test_a_gradient_that_is_0_everywhere_is_told(front, data):
    """Rounding has a slope, which is 0."""
    says = "The gradient was 0 at every step for all samples.*no robustness.*diagnose"
    with pytest.warns(RuntimeWarning, match=says) as caught:
        front.attack("MultiTaskPGD", Cut("round"), BOTH, *data, "single:v", eps=0.1, steps=3)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("UniversalMultiTaskPGD", {"eps": 0.1}),
        ("MultiTaskPatch", {"size": (2, 2)}),
        ("MultiTaskPatch", {"size": (2, 2), "shared": False}),
    ],
)
def test_so_it_is_of_one_perturbation_for_all(front, data, kind, options):
    rounded = [tasks.regression("v")]
    with pytest.warns(RuntimeWarning, match="The gradient was 0 at every step for all samples") as caught:
        front.attack(kind, Cut("round"), rounded, data[0], {"v": data[1]["v"]}, steps=3, **options)
    assert len(caught) == 1


def test_an_ensemble_that_queries_is_not_said_to_have_done_nothing(front, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rounded = [tasks.regression("v")]
        front.attack(
            "MultiTaskAutoAttack", Cut("round"), rounded, data[0], {"v": data[1]["v"]}, eps=0.3, version="fast"
        )


def test_a_model_without_any_gradient_is_refused(front, data):
    with pytest.raises(ValueError, match="outputs do not depend on its inputs by anything differentiable"):
        front.attack("MultiTaskPGD", Cut("no_grad"), BOTH, *data, eps=0.1, steps=3)
