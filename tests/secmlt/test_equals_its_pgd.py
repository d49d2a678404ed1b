"""With one task the attacks are secml-torch's native PGD; what differs is bounded, and why it does is shown."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from art_mtl import tasks

pytest.importorskip("secmlt")
from secmlt.adv.evasion.pgd import PGD
from secmlt.models.data_processing import MeanStdNormalization
from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier
from secmlt.trackers import (
    GradientNormTracker,
    GradientsTracker,
    LossTracker,
    PerturbationNormTracker,
    PredictionTracker,
    SampleTracker,
    ScoresTracker,
)

from art_mtl.secmlt import MinMaxMultiTaskPGD, MultiTaskPGD

JOBS = [tasks.classification("digit", 5)]
STEPS = 10
TRACKERS = (
    LossTracker, ScoresTracker, PredictionTracker, SampleTracker, GradientsTracker, PerturbationNormTracker,
    GradientNormTracker,
)  # fmt: skip


def inputs(loader: DataLoader) -> Tensor:
    return torch.cat([x for x, _ in loader])


def on_a_grid(loader: DataLoader) -> DataLoader:
    """The same with pixels that are multiples of 1/256, of which float32 makes sums without rounding."""
    x, y = loader.dataset.tensors
    return DataLoader(TensorDataset((256 * x).round() / 256, y), batch_size=loader.batch_size)


def host_attack(norm, eps, step, target=None, steps=STEPS + 1, **options):
    # Its T steps look at T iterates, the start among them, and return the best one: the last step is never looked at.
    return PGD(norm, eps, steps, step, random_start=False, y_target=target, backend="native", **options)


def our_attack(norm, eps, step, target=None, make=MultiTaskPGD, **options):
    return make(
        JOBS, perturbation_model=norm, epsilon=eps, num_steps=STEPS, step_size=step, y_target=target, keep="best",
        projection="ball-then-box", **options,
    )  # fmt: skip


@pytest.mark.parametrize("make", [MultiTaskPGD, MinMaxMultiTaskPGD])
@pytest.mark.parametrize("target", [None, 2])
def test_linf_is_the_same_bit_for_bit_where_sums_are_exact(make, target, classifier, digits):
    digits = on_a_grid(digits)
    expected = inputs(host_attack("linf", 8 / 256, 2 / 256, target)(classifier, digits))
    found = inputs(our_attack("linf", 8 / 256, 2 / 256, target, make)(classifier, digits))
    assert torch.equal(found, expected) and (found - inputs(digits)).abs().max() == 8 / 256


@pytest.mark.parametrize("target", [None, 2])
def test_linf_elsewhere_differs_by_rounding(target, classifier, digits):
    """The host adds a perturbation to the inputs; here iterates are kept. Both round once a step."""
    expected = inputs(host_attack("linf", 8 / 255, 2 / 255, target)(classifier, digits))
    found = inputs(our_attack("linf", 8 / 255, 2 / 255, target)(classifier, digits))
    assert not torch.equal(found, expected) and (found - expected).abs().max() <= 2**-23


@pytest.mark.parametrize("target", [None, 2])
@pytest.mark.parametrize("eps", [0.5, 1.0])
def test_l2_is_the_same_to_rounding_in_its_order_of_projections(eps, target, classifier, digits):
    expected = inputs(host_attack("l2", eps, eps / 4, target)(classifier, digits))
    found = inputs(our_attack("l2", eps, eps / 4, target)(classifier, digits))
    assert (found - expected).abs().max() <= 1e-6
    exact = inputs(MultiTaskPGD(JOBS, perturbation_model="l2", epsilon=eps, step_size=eps / 4)(classifier, digits))
    assert (exact - expected).abs().max() > 1e-3, "the box is active, so the Euclidean projection must differ"


def test_of_l1_the_step_differs_as_the_hosts_moves_one_sample_of_a_batch_only(classifier, digits):
    x = inputs(digits)
    moved = (inputs(host_attack("l1", 3.0, 1.0, steps=2)(classifier, digits)) != x).flatten(1).any(1)
    assert moved.sum() == len(digits)  # one sample of each batch
    one_pixel = MultiTaskPGD(
        JOBS, perturbation_model="l1", epsilon=3.0, num_steps=1, step_size=1.0, l1_step="one-pixel"
    )
    assert (inputs(one_pixel(classifier, digits)) != x).flatten(1).any(1).all()


@pytest.mark.parametrize("target", [None, 2])
def test_its_own_trackers_hold_the_same(target, classifier, digits):
    digits = on_a_grid(digits)
    theirs, ours = ([kind() for kind in TRACKERS] for _ in range(2))
    host_attack("linf", 8 / 256, 2 / 256, target, trackers=theirs)(classifier, digits)
    our_attack("linf", 8 / 256, 2 / 256, target, trackers=ours)(classifier, digits)
    for one, other in zip(theirs, ours, strict=True):
        of_gradients = isinstance(one, (GradientsTracker, GradientNormTracker))
        # The host tells of a gradient one step late, and of its last step, which changes nothing.
        expected = one.get()[..., 1:] if of_gradients else one.get()[..., :-1]
        assert torch.equal(other.get(), expected) and other.get().shape[-1] == STEPS and len(other.get()) == 24


def test_a_wrapper_with_preprocessing_is_the_same(classifier, digits):
    digits = on_a_grid(digits)
    wrapped = BasePyTorchClassifier(classifier, preprocessing=MeanStdNormalization([0.5] * 3, [0.25] * 3))
    expected = inputs(host_attack("linf", 8 / 256, 2 / 256)(wrapped, digits))
    found = inputs(our_attack("linf", 8 / 256, 2 / 256)(wrapped, digits))
    assert torch.equal(found, expected)
    assert not torch.equal(found, inputs(our_attack("linf", 8 / 256, 2 / 256)(classifier, digits)))


def test_the_loader_is_as_that_of_the_host(classifier, digits):
    theirs = host_attack("linf", 8 / 256, 2 / 256)(classifier, digits)
    ours = our_attack("linf", 8 / 256, 2 / 256)(classifier, digits)
    assert (ours.batch_size, len(ours), len(ours.dataset)) == (theirs.batch_size, len(theirs), len(theirs.dataset))
    for (x, y), (other, labels) in zip(ours, theirs, strict=True):
        assert x.shape == other.shape and torch.equal(y, labels)


def test_it_may_begin_an_attack_of_the_host(classifier, digits):
    """As an initialiser, which an attack may be there."""
    begun = host_attack("linf", 8 / 256, 2 / 256, steps=1)
    begun.initializer = MultiTaskPGD(JOBS, epsilon=8 / 256, num_steps=4)
    found, start = inputs(begun(classifier, digits)), inputs(begun.initializer(classifier, digits))
    assert torch.allclose(found, start, atol=1e-6) and not torch.equal(found, inputs(digits))
