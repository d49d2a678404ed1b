"""With one task the attacks *are* the hosts' PGD: bit for bit in L∞, in each host's order of projections in L2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import (
    ProjectedGradientDescentNumpy,
)
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
    ProjectedGradientDescentPyTorch,
)
from art.estimators.classification import PyTorchClassifier

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD

torchattacks = pytest.importorskip("torchattacks")
from art_mtl import torchattacks as ours_for_torchattacks  # noqa: E402

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


@pytest.fixture(params=[(0.0, 1.0), (-1.0, 1.0)], ids=["unit box", "centred box"])
def host(request):
    """A stock ART classifier with inputs, a fifth of which lie on the edge of the box, and labels."""
    low, high = request.param
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 64, 5)
    )
    classifier = PyTorchClassifier(
        net,
        torch.nn.CrossEntropyLoss(),
        input_shape=(3, 8, 8),
        nb_classes=5,
        clip_values=(low, high),
        device_type="cpu",
    )
    rng = np.random.default_rng(0)
    x = (low + (high - low) * np.clip(rng.uniform(-0.1, 1.1, (16, 3, 8, 8)), 0, 1)).astype(np.float32)
    return net, classifier, x, rng.integers(0, 5, 16), (low, high)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("reference", [ProjectedGradientDescentPyTorch, ProjectedGradientDescentNumpy])
def test_linf_equals_both_art_loops_bit_for_bit(host, reference, targeted):
    net, classifier, x, labels, box = host
    arguments = {"norm": np.inf, "eps": EPS, "eps_step": STEP, "max_iter": STEPS, "verbose": False}
    arguments["targeted"] = targeted
    expected = reference(classifier, **arguments).generate(x, np.eye(5, dtype=np.float32)[labels])
    assert np.array_equal(expected, MultiTaskPGD(classifier, **arguments).generate(x, np.eye(5)[labels]))
    estimator = PyTorchMultiTaskEstimator(
        net, [tasks.classification("digit", 5)], input_shape=(3, 8, 8), clip_values=box, device_type="cpu"
    )
    assert np.array_equal(expected, MinMaxMultiTaskPGD(estimator, **arguments).generate(x, {"digit": labels}))


@pytest.mark.parametrize("host", [(0.0, 1.0)], indirect=True)  # the only box that torchattacks knows
def test_linf_equals_torchattacks_bit_for_bit(host):
    net, _, x, labels, _ = host
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)
    expected = torchattacks.PGD(net, eps=EPS, alpha=STEP, steps=STEPS, random_start=False)(images, targets)
    atk = ours_for_torchattacks.MultiTaskPGD(net, [tasks.classification("digit", 5)], eps=EPS, alpha=STEP, steps=STEPS)
    assert torch.equal(expected, atk(images, {"digit": targets}))


@pytest.mark.parametrize("eps", [0.5, 1.0])
def test_l2_equals_art_in_its_order_of_projections(host, eps):
    _, classifier, x, labels, _ = host
    arguments = {"norm": 2, "eps": eps, "eps_step": eps / 4, "max_iter": STEPS, "verbose": False}
    expected = ProjectedGradientDescent(classifier, **arguments).generate(x, np.eye(5, dtype=np.float32)[labels])
    found = MultiTaskPGD(classifier, projection="box-then-ball", **arguments).generate(x, labels)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    exact = MultiTaskPGD(classifier, **arguments).generate(x, labels)
    assert np.abs(exact - expected).max() > 1e-4, "the box is active, so the Euclidean projection must differ"


@pytest.mark.parametrize("host", [(0.0, 1.0)], indirect=True)
@pytest.mark.parametrize("eps", [0.5, 1.0])
def test_l2_equals_torchattacks_in_its_order_of_projections(host, eps):
    net, _, x, labels, _ = host
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)
    expected = torchattacks.PGDL2(net, eps=eps, alpha=eps / 4, steps=STEPS, random_start=False)(images, targets)
    atk = ours_for_torchattacks.MultiTaskPGD(
        net,
        [tasks.classification("digit", 5)],
        eps=eps,
        alpha=eps / 4,
        steps=STEPS,
        norm="L2",
        projection="ball-then-box",
    )
    assert torch.allclose(expected, atk(images, {"digit": targets}), atol=2e-6)


@pytest.mark.parametrize("norm", [1, 2])
def test_momentum_equals_art(host, norm):
    _, classifier, x, labels, _ = host
    arguments = {"norm": norm, "eps": 2.0, "eps_step": 0.3, "max_iter": 6, "decay": 0.7, "verbose": False}
    expected = ProjectedGradientDescent(classifier, **arguments).generate(x, np.eye(5, dtype=np.float32)[labels])
    step = {"l1_step": "one-pixel"} if norm == 1 else {}
    found = MultiTaskPGD(classifier, projection="box-then-ball", **step, **arguments).generate(x, labels)
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_mask_equals_art(host):
    _, classifier, x, labels, _ = host
    mask = np.zeros((3, 8, 8), dtype=np.float32)
    mask[:, 2:5] = 1
    arguments = {"eps": EPS, "eps_step": STEP, "max_iter": STEPS, "verbose": False}
    one_hot = np.eye(5, dtype=np.float32)[labels]
    expected = ProjectedGradientDescent(classifier, **arguments).generate(x, one_hot, mask=mask)
    found = MultiTaskPGD(classifier, **arguments).generate(x, labels, mask=mask)
    assert np.array_equal(expected, found)
    assert np.array_equal(found[:, :, 0], x[:, :, 0])


def test_a_classifier_with_another_loss_is_refused():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    classifier = PyTorchClassifier(net, torch.nn.MSELoss(), input_shape=(4,), nb_classes=2, device_type="cpu")
    with pytest.raises(ValueError, match="CrossEntropyLoss"):
        MultiTaskPGD(classifier)
