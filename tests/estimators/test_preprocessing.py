"""Defences in torch and in NumPy: values, gradients through both, limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.defences.preprocessor import (
    CutoutPyTorch,
    FeatureSqueezing,
    GaussianAugmentation,
    LabelSmoothing,
    SpatialSmoothing,
    ThermometerEncoding,
)
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator


class TorchSquare(PreprocessorPyTorch):
    def __init__(self, **kwargs):
        super().__init__(device_type="cpu", **kwargs)

    def forward(self, x, y=None):
        return x**2, y


class TorchRound(TorchSquare):
    """Flat almost everywhere; its estimate is 3 x."""

    def forward(self, x, y=None):
        return torch.round(x), y

    def estimate_forward(self, x, y=None):
        return 3 * x


class NumpySquare(Preprocessor):
    def __call__(self, x, y=None):
        return x**2, y

    def estimate_gradient(self, x, grad):
        return 2 * x * grad


class NumpyWriter(Preprocessor):
    """Writes into what it is given."""

    def __call__(self, x, y=None):
        x *= 0.5
        return x, y


@pytest.mark.parametrize("square", [TorchSquare, NumpySquare])
@pytest.mark.parametrize("standard", ["torch", "numpy"])
def test_the_gradient_is_exact_through_torch_and_numpy(make, net, x, y, square, standard):
    mean, std = np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1), np.float32([0.5, 0.6, 0.7]).reshape(3, 1, 1)
    pair = (mean, std) if standard == "torch" else StandardisationMeanStd(mean, std)
    estimator = make(net, preprocessing_defences=square(), preprocessing=pair)

    inputs = torch.from_numpy(x).requires_grad_()
    plain = make(net).forward_tasks
    with torch.enable_grad():
        net.eval()
        outputs = plain((inputs**2 - torch.from_numpy(mean)) / torch.from_numpy(std))
        triples = zip(estimator.tasks, outputs, estimator.targets(y, len(x)), strict=True)
        (expected,) = torch.autograd.grad(sum(task.loss(o, t).sum() for task, o, t in triples), inputs)
    np.testing.assert_allclose(estimator.loss_gradient(x, y), expected, atol=1e-5)
    np.testing.assert_allclose(estimator.predict(x)["kind"], outputs[1].detach(), atol=1e-5)
    assert expected.abs().max() > 0.01


def test_any_mixture_and_order_will_do(make, net, x, y):
    mixed = make(net, preprocessing_defences=[NumpySquare(), TorchSquare(), NumpySquare()])
    torch_only = make(net, preprocessing_defences=[TorchSquare(), TorchSquare(), TorchSquare()])
    np.testing.assert_allclose(mixed.loss_gradient(x, y), torch_only.loss_gradient(x, y), atol=1e-6)
    assert np.abs(mixed.loss_gradient(x, y)).max() > 0.01


@pytest.mark.parametrize(
    "defence",
    [
        FeatureSqueezing(clip_values=(0, 1), bit_depth=3),
        SpatialSmoothing(window_size=3, channels_first=True, clip_values=(0, 1)),
        GaussianAugmentation(sigma=0.0, augmentation=False, apply_predict=True),
        TorchSquare(),
    ],
    ids=lambda defence: type(defence).__name__,
)
def test_values_and_gradients_are_those_of_arts_own_classifier(x, defence):
    def model():
        torch.manual_seed(3)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))

    settings = {"preprocessing_defences": defence, "preprocessing": (0.4, 0.3), "device_type": "cpu"}
    ours = PyTorchMultiTaskEstimator(model(), tasks.classification("kind", 3), (3, 8, 8), **settings)
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    if not isinstance(defence, PreprocessorPyTorch):
        # ART's torch standardisation would pass on the float64 of FeatureSqueezing, which its classifier cannot take.
        settings["preprocessing"] = StandardisationMeanStd(0.4, 0.3)
    theirs = PyTorchClassifier(model(), loss, (3, 8, 8), 3, **settings)
    label = np.array([0, 1, 2, 0, 1, 2])
    np.testing.assert_allclose(ours.predict(x)["kind"], theirs.predict(x), atol=1e-6)
    found, expected = ours.loss_gradient(x, label), theirs.loss_gradient(x, np.eye(3, dtype=np.float32)[label])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found).max() > 0.01


def test_a_torch_defence_keeps_its_value_and_takes_its_estimates_gradient(make, net, x, y):
    estimator = make(net, preprocessing_defences=TorchRound())
    np.testing.assert_array_equal(estimator.predict(x)["kind"], make(net).predict(np.round(x))["kind"])
    np.testing.assert_allclose(estimator.loss_gradient(x, y), 3 * make(net).loss_gradient(np.round(x), y), atol=1e-6)


def test_inputs_are_not_written_to(make, x, y):
    estimator, before = make(preprocessing_defences=NumpyWriter()), x.copy()
    estimator.predict(torch.from_numpy(x))
    estimator.loss_gradient(torch.from_numpy(x), y)
    np.testing.assert_array_equal(x, before)


def test_a_read_only_or_flipped_array_will_do(make, x):
    frozen = x[:, :, ::-1]
    frozen.flags.writeable = False
    np.testing.assert_array_equal(make().predict(frozen)["kind"].shape, (6, 3))


def test_fit_applies_what_is_for_training(make, net, x, y):
    seen = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    defences = [TorchSquare(apply_fit=True, apply_predict=False), CutoutPyTorch(2, channels_first=True, verbose=False)]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    estimator = make(net, preprocessing_defences=defences, optimizer=optimizer, preprocessing=(0.0, 2.0))
    estimator.predict(x)
    np.testing.assert_allclose(seen[-1], x / 2, atol=1e-6)
    estimator.fit(x, y, batch_size=6, nb_epochs=1)
    holes = seen[-1] == 0
    assert holes.flatten(1).any(1).all()
    assert sorted(seen[-1][~holes].tolist())[-1] == pytest.approx((x**2 / 2).max(), abs=0.02)


def test_defences_that_change_labels_or_sample_counts_are_errors(make, net, x, y):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    doubling = make(net, preprocessing_defences=GaussianAugmentation(ratio=1.0), optimizer=optimizer)
    with pytest.raises(ValueError, match="GaussianAugmentation turning 6 samples into 12"):
        doubling.fit(x, y)
    smoothing = make(net, preprocessing_defences=LabelSmoothing(apply_fit=True), optimizer=optimizer)
    with pytest.raises(ValueError, match="Labels `y` cannot be None"):
        smoothing.fit(x, y)


def test_gradients_of_a_wrong_shape_are_errors(x):
    class Thin(Preprocessor):
        def __call__(self, x, y=None):
            return x[:, :1], y

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    kind = tasks.classification("kind", 3)
    estimator = PyTorchMultiTaskEstimator(model, kind, (3, 8, 8), preprocessing_defences=Thin(), device_type="cpu")
    with pytest.raises(ValueError, match="`estimate_gradient` of Thin should return the shape"):
        estimator.loss_gradient(x, np.zeros(6, dtype=int))


def test_a_defence_may_change_the_shape(x):
    coding = ThermometerEncoding(clip_values=(0, 1), num_space=4, channels_first=True)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 192, 3))
    kind = tasks.classification("kind", 3)
    estimator = PyTorchMultiTaskEstimator(
        model, kind, (3, 8, 8), preprocessing_defences=coding, preprocessing=(0.1, 0.5), device_type="cpu"
    )
    assert np.abs(estimator.loss_gradient(x, np.zeros(6, dtype=int))).max() > 0
