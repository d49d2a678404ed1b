"""Predictions, losses, gradients and activations, and the state that they leave behind."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels

CONTAINERS = ["dict", "tuple", "list", "namedtuple", "dataclass", "namespace"]
FORMS = ["container", "dict", "rows", "object array", "structured"]


def by_hand(model, x, y):
    """Per-sample losses of every task in plain torch, the model in evaluation mode."""
    out = copy.deepcopy(model).eval()(x)
    label = {name: torch.as_tensor(y[name]) for name in y.names}
    functional = torch.nn.functional
    pixels = functional.cross_entropy(out["seg"], label["seg"], ignore_index=-1, reduction="none").sum((1, 2))
    measured = (label["depth"] != 0).float()
    return {
        "seg": pixels / (label["seg"] != -1).sum((1, 2)),
        "kind": functional.cross_entropy(out["kind"], label["kind"], reduction="none"),
        "depth": ((out["depth"] - label["depth"]).abs() * measured).sum((1, 2, 3)) / measured.sum((1, 2, 3)),
        "tags": functional.binary_cross_entropy_with_logits(
            out["tags"], label["tags"].to(x.dtype), reduction="none"
        ).mean(1),
        "age": (out["age"] - label["age"]).abs().mean(1),
    }


@pytest.mark.parametrize("container", CONTAINERS)
def test_outputs_are_found_in_any_container(make, net, x, container):
    reference = copy.deepcopy(net).eval()(torch.from_numpy(x))
    net.container = container
    predicted = make(net).predict(x, batch_size=4)
    assert predicted.names == ("seg", "kind", "depth", "tags", "age") and len(predicted) == len(x)
    for name, tensor in reference.items():
        np.testing.assert_allclose(predicted[name], tensor.detach(), atol=1e-5)


def test_tensors_predict_as_arrays_do(make, x):
    estimator = make()
    from_array, from_tensor = estimator.predict(x), estimator.predict(torch.from_numpy(x))
    for name in from_array.names:
        np.testing.assert_array_equal(from_array[name], from_tensor[name])


def test_losses_are_those_of_plain_torch(make, net, x, y):
    expected = by_hand(net, torch.from_numpy(x), y)
    estimator = make(net)
    losses = estimator.compute_losses(x, y)
    for name, values in expected.items():
        np.testing.assert_allclose(losses[name], values.detach(), rtol=1e-4)
    total = torch.stack(list(expected.values())).sum(0).detach().numpy()
    np.testing.assert_allclose(estimator.compute_loss(x, y), total, rtol=1e-4)
    np.testing.assert_allclose(estimator.compute_loss(x, y, reduction="sum"), total.sum(), rtol=1e-4)
    np.testing.assert_allclose(estimator.compute_loss(x, y, reduction="mean"), total.mean(), rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_plain_autograd(make, net, x, y, form_of, form):
    inputs = torch.from_numpy(x).requires_grad_()
    total = sum(values.sum() for values in by_hand(net, inputs, y).values())
    (expected,) = torch.autograd.grad(total, inputs)
    found = make(net).loss_gradient(x, form_of(y, form))
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.abs().max() > 0.01


def test_gradient_agrees_with_finite_differences(make, net, x, y):
    estimator = make(net.double(), preprocessing=(0.3, 0.5))
    estimator.set_params(tasks=[task for task in estimator.tasks if task.name != "tags"])
    y = MultiTaskLabels({task.name: y[task.name] for task in estimator.tasks})
    wide, step = x[:2].astype(np.float64), 1e-6
    gradient = estimator.loss_gradient(wide, y[:2])
    assert gradient.dtype == np.float64
    for position in [(0, 0, 0, 0), (0, 2, 4, 5), (1, 1, 7, 3), (1, 0, 2, 2)]:
        up, down = wide.copy(), wide.copy()
        up[position] += step
        down[position] -= step
        difference = estimator.compute_loss(up, y[:2], "sum") - estimator.compute_loss(down, y[:2], "sum")
        assert gradient[position] == pytest.approx(difference / (2 * step), rel=1e-4, abs=1e-8)


def test_gradient_of_a_sample_does_not_depend_on_its_batch(make, x, y):
    estimator = make()
    alone = np.concatenate([estimator.loss_gradient(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(estimator.loss_gradient(x, y), alone, atol=1e-6)


def test_tensor_in_tensor_out(make, x, y):
    estimator = make()
    tensor = torch.from_numpy(x)
    gradient = estimator.loss_gradient(tensor, y)
    assert isinstance(gradient, torch.Tensor) and not gradient.requires_grad and not tensor.requires_grad
    np.testing.assert_array_equal(gradient, estimator.loss_gradient(x, y))
    tensor.requires_grad_()
    (through_loss,) = torch.autograd.grad(estimator.compute_loss(tensor, y, "sum"), tensor)
    np.testing.assert_allclose(through_loss, gradient, atol=1e-6)


def test_raw_outputs_as_labels_are_decoded(make, x):
    estimator = make()
    raw, own = estimator.predict(x), estimator.own_labels(x)
    np.testing.assert_array_equal(own["seg"], raw["seg"].argmax(1))
    np.testing.assert_array_equal(own["kind"], raw["kind"].argmax(1))
    np.testing.assert_array_equal(own["tags"], raw["tags"] > 0)
    np.testing.assert_array_equal(own["depth"], raw["depth"])
    np.testing.assert_array_equal(estimator.loss_gradient(x, raw), estimator.loss_gradient(x, own))


def test_missing_labels_do_not_count(make, x, y):
    estimator = make()
    absent = np.array([True, False, False, True, True, True])
    sparse = MultiTaskLabels({name: y[name] for name in y.names}, {"kind": absent})
    full, found = estimator.compute_losses(x, y), estimator.compute_losses(x, sparse)
    np.testing.assert_array_equal(found["kind"], np.where(absent, full["kind"], 0))
    assert estimator.compute_losses(x, sparse, "mean")["kind"] == pytest.approx(full["kind"][absent].mean())
    # A batch that ART cut out of it may hold no label of a task at all.
    batch = estimator.compute_losses(x[1:3], sparse[1:3])
    assert batch["kind"].tolist() == [0, 0] and (batch["seg"] > 0).all()
    assert np.isfinite(estimator.loss_gradient(x[1:3], sparse[1:3])).all()


CALLS = {
    "predict": lambda e, x, y: e.predict(x),
    "own_labels": lambda e, x, y: e.own_labels(x),
    "loss_gradient": lambda e, x, y: e.loss_gradient(x, y),
    "compute_loss": lambda e, x, y: e.compute_loss(x, y),
    "get_activations": lambda e, x, y: e.get_activations(x, "trunk.2"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_model_is_given_back_as_it_was(make, net, x, y, state_of, call):
    estimator = make(net)
    before = state_of(net)
    call(estimator, x, y)
    assert state_of(net) == before
    net.fail = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        call(estimator, x, y)
    assert state_of(net) == before


def test_parameters_are_not_differentiated(make, net, x, y):
    seen = []
    net.flat.register_forward_hook(lambda module, inputs, output: seen.append(module.weight.requires_grad))
    make(net).loss_gradient(x, y)
    assert seen == [False] and net.flat.weight.requires_grad


def test_training_mode_is_used_when_asked_for(make, x, y):
    estimator = make()
    assert not np.array_equal(estimator.predict(x, training_mode=True)["kind"], estimator.predict(x)["kind"])
    clean = estimator.loss_gradient(x, y)
    assert not np.array_equal(estimator.loss_gradient(x, y, training_mode=True), clean)


def test_forward_tasks_changes_no_mode(make, net, x):
    estimator = make(net.train())
    first, second = (estimator.forward_tasks(torch.from_numpy(x)) for _ in range(2))
    assert net.training and first[0].requires_grad and not torch.equal(first[1], second[1])


@pytest.mark.parametrize("layer", ["trunk.2", "dense", "trunk"])
def test_activations_are_those_of_a_hook(make, net, x, layer):
    seen = []
    twin = copy.deepcopy(net).eval()
    twin.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    twin(torch.from_numpy(x))
    estimator = make(net)
    found = estimator.get_activations(x, layer, batch_size=4)
    np.testing.assert_allclose(found, seen[0], atol=1e-6)
    np.testing.assert_array_equal(found, estimator.get_activations(x, estimator.layer_names.index(layer), batch_size=4))
    tensor = torch.from_numpy(x).requires_grad_()
    framework = estimator.get_activations(tensor, layer, framework=True)
    assert torch.autograd.grad(framework.square().sum(), tensor)[0].abs().sum() > 0


def test_activations_survive_an_in_place_layer(x):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(inplace=True), torch.nn.Flatten())
    estimator = PyTorchMultiTaskEstimator(model, tasks.regression("r"), (3, 8, 8), device_type="cpu")
    np.testing.assert_array_equal(estimator.get_activations(x, "0"), model[0](torch.from_numpy(x)).detach())


BAD_INPUTS = [
    (lambda x: (x * 255).astype(np.uint8), TypeError, "should be floats.*uint8"),
    (lambda x: torch.from_numpy(x).bool(), TypeError, "should be floats.*bool"),
    (lambda x: x.tolist(), TypeError, "NumPy array or a torch tensor. Found list"),
    (lambda x: x[0], ValueError, r"shape \(N, 3, 8, 8\). Found \(3, 8, 8\)"),
    (lambda x: x[:, :, :7], ValueError, r"shape \(N, 3, 8, 8\). Found \(6, 3, 7, 8\)"),
    (lambda x: x[:0], ValueError, "at least one sample"),
    (lambda x: np.where(np.arange(6).reshape(6, 1, 1, 1) == 4, np.float32("nan"), x), ValueError, "index 4"),
]


@pytest.mark.parametrize(("spoil", "error", "message"), BAD_INPUTS)
def test_bad_inputs_are_named(make, x, y, spoil, error, message):
    estimator = make()
    for call in (estimator.predict, lambda bad: estimator.loss_gradient(bad, y), lambda bad: estimator.fit(bad, y)):
        estimator.set_params(optimizer=torch.optim.SGD(estimator.model.parameters(), lr=0.1))
        with pytest.raises(error, match=message):
            call(spoil(x))


def test_bad_calls_are_named(make, x, y):
    estimator = make()
    cases = [
        (lambda: estimator.predict(x, batch_size=0), ValueError, "`batch_size` should be a positive integer. Found 0"),
        (lambda: estimator.compute_loss(x, y, "max"), ValueError, "`reduction` should be one of"),
        (lambda: estimator.loss_gradient(x, y[:3]), ValueError, "6 samples.*Found 3"),
        (lambda: estimator.labels({"seg": y["seg"]}, 6), ValueError, "missing:.*kind"),
        (lambda: estimator.get_activations(x, "nowhere"), ValueError, "should be one of"),
        (lambda: estimator.get_activations(x, 99), ValueError, r"index in \[0,"),
        (lambda: estimator.get_activations(x, 1.5), TypeError, "name or an index"),
        (lambda: estimator.forward_tasks(torch.zeros(2, 3, 4, 4)), ValueError, r"Found \(2, 3, 4, 4\)"),
        (lambda: estimator.task_view("colour"), ValueError, "should be one of the tasks"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_bad_models_are_named(x):
    def estimator(function, task):
        model = torch.nn.Module()
        model.forward = function
        return PyTorchMultiTaskEstimator(model, [task], (3, 8, 8), device_type="cpu")

    kind = tasks.classification("kind", 3)
    y = np.zeros(6, dtype=int)
    with pytest.raises(ValueError, match=r"shape \(6, 3\) to fit its labels. Found \(6, 2\)"):
        estimator(lambda x: x.mean((2, 3))[:, :2], kind).loss_gradient(x, y)
    with pytest.raises(ValueError, match="one entry for each of 6 samples"):
        estimator(lambda x: x.mean((2, 3))[:1], kind).predict(x)
    with pytest.raises(ValueError, match="part for task 'kind'"):
        estimator(lambda x: {"other": x}, kind).predict(x)
    with pytest.raises(ValueError, match="depend differentiably"):
        estimator(lambda x: x.mean((2, 3)).detach(), kind).loss_gradient(x, y)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(make, net, x, y):
    host, device = make(copy.deepcopy(net)), make(net, device_type="gpu", preprocessing=(0.0, 1.0))
    assert device.device.type == "cuda" and device.own_labels(x)["seg"].shape == (6, 8, 8)
    expected = host.predict(x)
    for name, values in device.predict(x).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-3)
    np.testing.assert_allclose(device.loss_gradient(x, y), host.loss_gradient(x, y), atol=1e-3)
    on_device = device.loss_gradient(torch.from_numpy(x).cuda(), y)
    assert on_device.is_cuda
