"""Auto-PGD and the ensemble for torchattacks: host contract, and the same bits as the ART classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from art_mtl import PyTorchMultiTaskEstimator, attacks, tasks
from art_mtl.core.searches.ensemble_members import VERSIONS, Budget

torchattacks = pytest.importorskip("torchattacks")

from art_mtl.torchattacks import MultiAttack, MultiTaskAutoAttack, MultiTaskAutoPGD  # noqa: E402

JOBS = [tasks.segmentation("seg", 4), tasks.depth("depth"), tasks.classification("digit", 4)]
NORMS = {"Linf": (math.inf, 0.05), "L2": (2, 0.5), "L1": (1, 3.0)}
CLASSES = (MultiTaskAutoPGD, MultiTaskAutoAttack)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(VERSIONS, "fast", Budget(steps=4, queries=8, ranks=1, per_image=True))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
        self.dense = torch.nn.Conv2d(8, 5, 1)
        self.flat = torch.nn.Linear(8, 4)
        self.flat.weight.data *= 20
        self.fail = False

    def forward(self, x):
        if self.fail:
            raise RuntimeError("out of order")
        features = self.drop(torch.tanh(self.trunk(x)))
        dense = self.dense(features)
        return dense[:, :4], dense[:, 4:].exp(), self.flat(features.mean((2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(1)
    return torch.rand(5, 3, 8, 8, generator=g), {
        "seg": torch.randint(-1, 4, (5, 8, 8), generator=g),
        "depth": torch.rand(5, 1, 8, 8, generator=g) + 0.5,
        "digit": torch.randint(0, 4, (5,), generator=g),
    }


def make(kind, net, **arguments):
    extra = {"version": "fast"} if kind is MultiTaskAutoAttack else {"steps": 6}
    return kind(net, JOBS, **{**extra, **arguments})


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", CLASSES)
def test_gives_the_same_bits_as_for_art(kind, norm, net, data):
    x, y = data
    order, eps = NORMS[norm]
    estimator = PyTorchMultiTaskEstimator(net, JOBS, input_shape=(3, 8, 8), clip_values=(0, 1), device_type="cpu")
    extra = {"version": "fast"} if kind is MultiTaskAutoAttack else {"max_iter": 6}
    art = getattr(attacks, kind.__name__)(estimator, norm=order, eps=eps, verbose=False, **extra)
    net.train()
    net.drop.eval()
    state = torch.get_rng_state()
    atk = make(kind, net, norm=norm, eps=eps)
    adv = atk(x, y)
    assert net.training and not net.drop.training and torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert np.array_equal(adv.numpy(), art.generate(x.numpy(), {name: v.numpy() for name, v in y.items()}))
    assert (adv - x).flatten(1).norm(order, dim=1).max() <= eps * (1 + 1e-5) and not torch.equal(adv, x)
    if kind is MultiTaskAutoAttack:
        assert np.array_equal(atk.report.winner, art.report.winner)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_leaves_everything_as_it_was(kind, net, data):
    x, y = data
    net.train()
    atk = make(kind, net)
    atk.set_normalization_used([0.5] * 3, [0.25] * 3)
    net.fail = True
    with pytest.raises(RuntimeError, match="out of order"):
        atk((x - 0.5) / 0.25, y)
    assert all(module.training for module in net.modules()) and atk._normalization_applied is True


@pytest.mark.parametrize("kind", CLASSES)
def test_normalised_images_and_no_labels(kind, net, data):
    x, _ = data
    plain = make(kind, net, eps=0.1)(x)
    mean, std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25)

    class Denormalising(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, inputs):
            return self.net(inputs * std + mean)

    atk = make(kind, Denormalising().eval(), eps=0.1)
    atk.set_normalization_used([0.5] * 3, [0.25] * 3)
    adv = atk((x - mean) / std)
    torch.testing.assert_close(adv * std + mean, plain, rtol=0, atol=2e-2)
    assert ((adv * std + mean - x).abs() <= 0.1 + 1e-6).all()


def test_saves_loads_and_prints_its_report(net, data, tmp_path, capsys):
    x, y = data
    atk = make(MultiTaskAutoAttack, net, verbose=True)
    assert repr(atk).startswith("MultiTaskAutoAttack") and atk.report is None
    atk.save([(x, y)], tmp_path / "adv.pt", verbose=False)
    assert capsys.readouterr().out.splitlines()[-1].startswith("ensemble")
    (inputs, labels), *rest = atk.load(tmp_path / "adv.pt", batch_size=5)
    assert torch.equal(inputs, atk(x, y)) and torch.equal(labels["digit"], y["digit"]) and not rest


def test_members_of_a_multi_attack(net, data):
    x, y = data
    atk = MultiAttack([make(kind, net, eps=0.1) for kind in CLASSES])
    assert (atk(x, y) - x).abs().max() <= 0.1 + 1e-6


def test_the_ensemble_has_no_targets(net):
    with pytest.raises(ValueError, match="Targeted mode is not supported"):
        make(MultiTaskAutoAttack, net).set_mode_targeted_by_label()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -1}, "`eps` should be positive"),
        ({"version": "slow"}, "`version` should be one of"),
        ({"selection": "mean"}, "`selection` should be one of"),
        ({"bounds": (1, 0)}, "`bounds` should be a smaller and a larger value"),
        ({"norm": "L3"}, "`norm` should be infinity, 2 or 1"),
    ],
)
def test_bad_arguments(arguments, message, net):
    with pytest.raises(ValueError, match=message):
        make(MultiTaskAutoAttack, net, **arguments)
    with pytest.raises(TypeError, match="`seed` should be None or an integer"):
        make(MultiTaskAutoAttack, net, seed=0.5)


@pytest.mark.parametrize("argument", ["alpha", "decay", "schedule", "keep", "l1_step"])
def test_auto_pgd_leaves_no_step_to_choose(argument, net):
    with pytest.raises(TypeError, match=f"MultiTaskAutoPGD decides `{argument}`.*Those that take it: .*WorstTaskPGD"):
        make(MultiTaskAutoPGD, net, **{argument: 0.1})


@pytest.mark.parametrize("shape", [(-1, 1, 1, 1), (-1, 3, 8, 8)])
def test_bounds_and_radii_of_each_sample_leave_with_it(shape, net, data):
    """Where samples leave before the next member, their bounds and radii do: each result keeps to its own."""

    class Digit(torch.nn.Module):
        def forward(self, images):
            return net(images)[2]

    upper = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0]).view(-1, 1, 1, 1)
    lower = -torch.tensor([0.0, 0.5, 0.0, 0.5, 1.0]).view(-1, 1, 1, 1)
    eps = torch.tensor([1.0, 0.001, 0.7, 0.002, 3.0]).view(-1, 1, 1, 1)
    x = lower + data[0] * (upper - lower)
    bounds = lower.expand(shape).clone(), upper.expand(shape).clone()
    atk = MultiTaskAutoAttack(Digit(), [JOBS[2]], eps=eps, bounds=bounds, version="fast")
    adv = atk(x, {"digit": net(x)[2].argmax(1)})
    assert atk.report.attacked[0] == 5 > atk.report.attacked[-1] > 0
    assert (adv >= lower).all() and (adv <= upper).all()
    moved = (adv - x).abs().amax((1, 2, 3))
    torch.testing.assert_close(moved[[1, 3]], eps.view(-1)[[1, 3]], rtol=1e-3, atol=0)
    assert (moved <= eps.view(-1) + 1e-6).all() and (adv > 1).any()


@pytest.mark.parametrize("kind", CLASSES)
def test_images_outside_the_bounds(kind, net, data):
    x, y = data
    with pytest.raises(ValueError, match="within `bounds`"):
        make(kind, net)(x + 1, y)
    with pytest.raises(TypeError, match="`images` should be a torch.Tensor"):
        make(kind, net).forward(x.numpy(), y)
