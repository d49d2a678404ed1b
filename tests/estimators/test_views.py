"""One head as a stock ART estimator, and a stock ART classifier as a model of one task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AdversarialPatchPyTorch,
    AutoProjectedGradientDescent,
    FastGradientMethod,
    ProjectedGradientDescent,
)
from art.defences.postprocessor import Rounded
from art.defences.preprocessor import FeatureSqueezing
from art.estimators.classification import PyTorchClassifier
from art.estimators.regression.pytorch import PyTorchRegressor

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator


@pytest.mark.parametrize("container", ["dict", "tuple", "namedtuple", "dataclass"])
def test_a_view_sees_its_head_in_any_container(make, net, x, container):
    net.container = container
    estimator = make(net, preprocessing=(0.4, 0.2))
    view = estimator.task_view("kind")
    assert type(view) is PyTorchClassifier and view.nb_classes == 3 and view.input_shape == (3, 8, 8)
    np.testing.assert_allclose(view.predict(x), estimator.predict(x)["kind"], atol=1e-6)
    assert next(view.model.parameters()) is next(net.parameters())


def test_a_views_loss_is_the_tasks(make, x, y):
    estimator = make()
    view = estimator.task_view("kind")
    labels = np.eye(3, dtype=np.float32)[y["kind"]]
    np.testing.assert_allclose(
        view.compute_loss(x, labels, reduction="none"), estimator.compute_losses(x, y)["kind"], atol=1e-5
    )


def test_a_view_keeps_defences(make, x):
    estimator = make(preprocessing_defences=FeatureSqueezing((0, 1), bit_depth=2), preprocessing=(0.4, 0.2))
    np.testing.assert_allclose(estimator.task_view("kind").predict(x), estimator.predict(x)["kind"], atol=1e-5)


def test_attacks_on_classifiers_run_through_a_view(make, x):
    estimator = make()
    own = estimator.own_labels(x)
    view, before = estimator.task_view("kind"), estimator.compute_losses(x, own, "mean")["kind"]
    attacks = [
        ProjectedGradientDescent(view, eps=0.4, eps_step=0.1, max_iter=6, num_random_init=2, verbose=False),
        AutoProjectedGradientDescent(view, eps=0.4, eps_step=0.1, max_iter=6, nb_random_init=2, verbose=False),
    ]
    for attack in attacks:
        x_adv = attack.generate(x, y=own["kind"])
        assert np.abs(x_adv - x).max() <= 0.4 + 1e-5
        assert estimator.compute_losses(x_adv, own, "mean")["kind"] > before + 0.01


def test_a_patch_runs_through_a_view(make, x, y):  # needs torchvision, as ART's attack does
    pytest.importorskip("torchvision")
    estimator = make()
    attack = AdversarialPatchPyTorch(
        estimator.task_view("kind"),
        rotation_max=0.0,
        scale_min=0.5,
        scale_max=0.6,
        learning_rate=0.2,
        max_iter=10,
        batch_size=6,
        patch_shape=(3, 8, 8),
        patch_type="square",
        targeted=False,
        verbose=False,
    )
    attack.generate(x, y["kind"])
    patched = attack.apply_patch(x, scale=0.6)
    before = estimator.compute_losses(x, y, "mean")["kind"]
    assert estimator.compute_losses(patched, y, "mean")["kind"] > before


def test_a_regression_is_seen_as_a_regressor(make, x, y):
    estimator = make()
    view = estimator.task_view("age")
    assert type(view) is PyTorchRegressor
    np.testing.assert_allclose(view.predict(x), estimator.predict(x)["age"], atol=1e-6)
    x_adv = FastGradientMethod(view, eps=0.05).generate(x, y=y["age"][:, 0])
    assert estimator.compute_losses(x_adv, y, "sum")["age"] > estimator.compute_losses(x, y, "sum")["age"]


@pytest.mark.parametrize("name", ["seg", "depth", "tags"])
def test_heads_that_art_has_no_estimator_for_are_errors(make, name):
    with pytest.raises(ValueError, match=f"Task '{name}'.*ART has no estimator"):
        make().task_view(name)


def test_a_regression_of_several_values_is_an_error(x):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    estimator = PyTorchMultiTaskEstimator(model, tasks.regression("box"), (3, 8, 8), device_type="cpu")
    with pytest.raises(ValueError, match="one value a sample.*Found shape"):
        estimator.task_view("box").predict(x)


def _classifier(loss, log_probabilities=False, **kwargs):
    last = [torch.nn.LogSoftmax(1)] if log_probabilities else []
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3), *last)
    settings = {"clip_values": (0, 1), "preprocessing": (0.4, 0.2), "device_type": "cpu", **kwargs}
    return PyTorchClassifier(model, loss, (3, 8, 8), 3, **settings)


@pytest.mark.parametrize("kind", ["cross-entropy", "nll"])
def test_a_classifier_becomes_a_model_of_one_task(x, y, kind):
    loss = torch.nn.NLLLoss(reduction="sum") if kind == "nll" else torch.nn.CrossEntropyLoss(reduction="sum")
    classifier = _classifier(loss, log_probabilities=kind == "nll")
    estimator = PyTorchMultiTaskEstimator.from_classifier(classifier)
    assert estimator.model is classifier.model and [task.name for task in estimator.tasks] == ["classification"]
    assert estimator.clip_values.tolist() == [0, 1] and estimator.all_framework_preprocessing
    np.testing.assert_allclose(estimator.predict(x)["classification"], classifier.predict(x), atol=1e-6)
    one_hot = np.eye(3, dtype=np.float32)[y["kind"]]
    for labels in (y["kind"], one_hot, {"classification": y["kind"]}):
        np.testing.assert_allclose(estimator.loss_gradient(x, labels), classifier.loss_gradient(x, one_hot), atol=1e-5)


def test_classifiers_of_another_kind_are_errors(make):
    cases = [
        (make(), TypeError, "ART's PyTorchClassifier. Found PyTorchMultiTaskEstimator"),
        (_classifier(torch.nn.MultiMarginLoss()), ValueError, "Found MultiMarginLoss"),
        (_classifier(torch.nn.CrossEntropyLoss(label_smoothing=0.1)), ValueError, "label smoothing"),
        (_classifier(torch.nn.CrossEntropyLoss(weight=torch.ones(3))), ValueError, "class weights"),
        (_classifier(torch.nn.CrossEntropyLoss(), postprocessing_defences=Rounded()), ValueError, "postprocessing"),
    ]
    for classifier, error, message in cases:
        with pytest.raises(error, match=message):
            PyTorchMultiTaskEstimator.from_classifier(classifier)
