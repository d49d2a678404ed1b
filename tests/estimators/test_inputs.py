"""Inputs of every dtype, layout and place are taken, computed by one rule, and never written to."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from torch import nn

from art_mtl import tasks
from art_mtl.core.forward import MicroBatching
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.estimators.checks import host_tensor

CALLS = {
    "predict": lambda e, x, y: e.predict(x)["kind"],
    "predict in training mode": lambda e, x, y: e.predict(x, training_mode=True)["seg"].shape,
    "own_labels": lambda e, x, y: e.own_labels(x)["kind"],
    "loss_gradient": lambda e, x, y: e.loss_gradient(x, y),
    "compute_loss": lambda e, x, y: e.compute_loss(x, y),
    "compute_losses": lambda e, x, y: e.compute_losses(x, y)["depth"],
    "get_activations": lambda e, x, y: e.get_activations(x, "trunk.2"),
    "framework": lambda e, x, y: e.get_activations(x, "trunk.2", framework=True),
    "prepared": lambda e, x, y: e.forward_prepared("fp32", torch.as_tensor(x, device="cpu"))(
        torch.as_tensor(x, device="cpu")
    )[1],
    "_apply_preprocessing": lambda e, x, y: e._apply_preprocessing(x, None)[0],
}


def _equal(found, expected):
    if isinstance(found, tuple):
        return found == expected
    found, expected = (np.asarray(v.detach() if isinstance(v, torch.Tensor) else v) for v in (found, expected))
    return found.dtype == expected.dtype and np.array_equal(found, expected)


# --- nothing is written to ---


class InPlace(PreprocessorPyTorch):
    def __init__(self):
        super().__init__(device_type="cpu", apply_fit=True, apply_predict=True)

    def forward(self, x, y=None):
        return x.clamp_(0.2, 0.8), y


class InPlaceOnTheHost(Preprocessor):
    def __call__(self, x, y=None):
        x *= 0.5
        return x, y

    def estimate_gradient(self, x, grad):
        return grad * 0.5


@pytest.fixture
def writing(net):
    """The small victim, which normalises its input in place first, and the same without doing so."""
    twin = copy.deepcopy(net)
    forward = type(net).forward
    net.forward = lambda x: forward(net, x.sub_(0.1).mul_(2))
    twin.forward = lambda x: forward(twin, (x - 0.1) * 2)
    return net, twin


@pytest.mark.parametrize("defences", [None, InPlace(), InPlaceOnTheHost()], ids=["none", "torch", "NumPy"])
@pytest.mark.parametrize("call", [name for name in CALLS if name != "prepared"])
@pytest.mark.parametrize("form", ["array", "tensor", "channels last"])
def test_a_model_that_writes_to_its_input_changes_nobody_elses(make, writing, x, y, call, form, defences):
    model, twin = writing
    given = x if form == "array" else torch.from_numpy(x.copy())
    if form == "channels last":
        given = given.to(memory_format=torch.channels_last)
    kept = given.copy() if form == "array" else given.clone()
    settings = {"preprocessing_defences": defences}
    found = CALLS[call](make(model, **settings), given, y)
    assert (given == kept).all()
    assert _equal(found, CALLS[call](make(twin, **settings), given, y)) or "training" in call


def test_a_leaf_passes_through_such_a_model(make, writing, x, y):
    model, twin = writing
    gradients = []
    for estimator in (make(model.eval()), make(twin.eval())):
        leaf = torch.from_numpy(x.copy()).requires_grad_()
        outputs = estimator.forward_tasks(leaf)
        gradients += torch.autograd.grad(sum(output.square().sum() for output in outputs), leaf)
        gradients += torch.autograd.grad(estimator.compute_loss(leaf, y, "sum"), leaf)
        assert torch.equal(leaf, torch.from_numpy(x))
    assert torch.equal(gradients[0], gradients[2]) and torch.equal(gradients[1], gradients[3])


def test_training_on_arrays_and_tensors_leaves_them(make, writing, x, y):
    for given in (x, torch.from_numpy(x.copy())):
        model = writing[0]
        estimator = make(model, optimizer=torch.optim.SGD(model.parameters(), 0.01), preprocessing_defences=InPlace())
        kept = given.copy() if isinstance(given, np.ndarray) else given.clone()
        estimator.fit(given, y, batch_size=6, nb_epochs=2)
        assert (given == kept).all()


def test_a_second_try_with_less_memory_starts_from_the_same_inputs(make, writing, x, monkeypatch):
    model, twin = writing
    inner, calls = model.forward, []

    def short(inputs):
        calls.append(len(inputs))
        outputs = inner(inputs)
        if len(inputs) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return outputs

    model.forward = short
    found = make(model).predict(x)
    assert calls == [6, 3, 3] and MicroBatching().size is None
    np.testing.assert_allclose(found["kind"], make(twin).predict(x)["kind"], atol=1e-6)


# --- layouts, byte orders, dtypes ---

FORMS = {
    "flipped": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "flipped in all": lambda x: np.ascontiguousarray(x[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1],
    "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "swapped and flipped": lambda x: np.ascontiguousarray(x[:, ::-1]).astype(">f4")[:, ::-1],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "Fortran": lambda x: np.asfortranarray(x),
    "transposed": lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "strided": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "unaligned": lambda x: np.frombuffer(b"_" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "subclass": lambda x: x.view(type("Named", (np.ndarray,), {})),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("call", [name for name in CALLS if "training" not in name and name != "prepared"])
def test_arrays_of_every_layout_give_the_same(make, net, x, y, form, call):
    estimator, other = make(net), FORMS[form](x)
    assert np.array_equal(other, x) and form not in ("read-only", "unaligned") or not other.flags.writeable
    found, expected = CALLS[call](estimator, other, y), CALLS[call](estimator, x, y)
    if call == "loss_gradient" and "swapped" in form:
        assert found.dtype == other.dtype  # As the inputs.
        found = found.astype(np.float32)
    assert _equal(found, expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_host_tensors(form, dtype):
    array = FORMS[form]((np.random.default_rng(0).uniform(size=(2, 3, 4, 5)) * 7).astype(dtype)).astype
    array = FORMS[form]((np.random.default_rng(0).uniform(size=(2, 3, 4, 5)) * 7).astype(np.float32))
    if form not in ("swapped and flipped",):
        array = FORMS[form](np.asarray(array).astype(dtype))
    found = host_tensor(array)
    assert found.is_contiguous() and found.device.type == "cpu" and found.shape == array.shape
    np.testing.assert_array_equal(found.numpy(), array)
    assert found.numpy().dtype == array.dtype.newbyteorder("=")
    kept = array.copy()
    found.zero_()
    np.testing.assert_array_equal(array, kept)


def test_host_tensors_of_tensors_and_of_extended_precision():
    leaf = torch.rand(2, 3).t().requires_grad_()
    found = host_tensor(leaf)
    assert torch.equal(found, leaf) and found.is_contiguous() and not found.requires_grad
    found.zero_()
    assert leaf.abs().sum() > 0
    assert host_tensor(np.array([1.5], np.longdouble)).dtype == torch.float64
    assert host_tensor(np.array(2.5)).shape == ()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [torch.float32, torch.float64, torch.bfloat16])
def test_one_rule_for_every_dtype(dtype, weights):
    """Computed in float32, or float64 for such a model; the model gets its own; gradients come in the inputs'."""
    seen = []

    class Sees(PreprocessorPyTorch):
        def __init__(self):
            super().__init__(device_type="cpu", apply_fit=True, apply_predict=True)

        def forward(self, x, y=None):
            seen.append(x.dtype)
            return x, y

    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).to(weights)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].dtype))
    estimator = PyTorchMultiTaskEstimator(
        model, tasks.classification("k", 3), (3, 2, 2), preprocessing_defences=Sees(), device_type="cpu"
    )
    x, y = torch.rand(4, 3, 2, 2).to(dtype), np.arange(4) % 3
    estimator.predict(x)
    gradient = estimator.loss_gradient(x, y)
    wide = torch.float64 if weights == torch.float64 else torch.float32
    assert set(seen) == {wide, weights} and gradient.dtype == dtype
    if dtype != torch.bfloat16:
        array = x.numpy()
        assert estimator.loss_gradient(array, y).dtype == array.dtype
        assert torch.equal(torch.from_numpy(estimator.loss_gradient(array, y)), gradient)
    same = x.to(wide)
    assert torch.equal(estimator.loss_gradient(same, y).to(dtype), gradient)


class OnlyBuffers(nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("matrix", torch.rand(12, 3).to(dtype))

    def forward(self, x):
        return x.flatten(1) @ self.matrix


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_without_parameters_computes_in_the_dtype_of_its_buffers(dtype):
    estimator = PyTorchMultiTaskEstimator(
        OnlyBuffers(dtype), tasks.classification("k", 3), (3, 2, 2), device_type="cpu"
    )
    assert estimator.loss_gradient(np.ones((2, 3, 2, 2), np.float32), np.array([0, 1])).shape == (2, 3, 2, 2)


# --- torch's defaults ---


@pytest.fixture(params=["meta", torch.float64, torch.float16, torch.bfloat16], ids=str)
def default(request):
    """Torch's default device or dtype; the device "meta", which holds no data, stands for any other."""
    if request.param == "meta":
        with torch.device("meta"):
            yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def expected(make, net, x, y):
    """What every call gives, found before torch's defaults are changed."""
    settings = {"preprocessing": (0.4, 0.2), "clip_values": (0.0, 1.0)}
    return {name: call(make(copy.deepcopy(net), **settings), x, y) for name, call in CALLS.items()}, settings


@pytest.mark.parametrize("call", [name for name in CALLS if "training" not in name])
def test_torchs_defaults_change_nothing(make, net, x, y, expected, call, default):
    values, settings = expected
    estimator = make(net, **settings)
    assert _equal(CALLS[call](estimator, x, y), values[call])
    assert host_tensor(x).device.type == "cpu" and host_tensor(x).dtype == torch.float32


@pytest.fixture
def trained(make, net, x, y):
    model = copy.deepcopy(net).eval()
    torch.manual_seed(0)
    make(model, optimizer=torch.optim.SGD(model.parameters(), 0.1)).fit(
        x, y, batch_size=4, nb_epochs=2, training_mode=False
    )
    return model


def test_torchs_defaults_do_not_change_training(make, net, x, y, trained, default):
    torch.manual_seed(0)
    make(net, optimizer=torch.optim.SGD(net.parameters(), 0.1)).fit(
        x, y, batch_size=4, nb_epochs=2, training_mode=False
    )
    for found, wanted in zip(net.parameters(), trained.parameters(), strict=True):
        assert torch.equal(found, wanted)
