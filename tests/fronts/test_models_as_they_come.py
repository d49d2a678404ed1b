"""Models in the forms that people have them in give what the plain network gives, everywhere."""

import io
from collections import OrderedDict

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from torch import nn

from art_mtl import PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD, WorstTaskPGD
from art_mtl.evaluation import Victim, evaluate
from art_mtl.evaluation.diagnosis.gradients import unexplained
from art_mtl.evaluation.diagnosis.search import Grey, Noise, QuerySearch, grey_radius
from art_mtl.evaluation.diagnosis.surrogate import make_surrogate
from art_mtl.evaluation.grid import make_estimator
from art_mtl.models import SeveralInputs
from art_mtl.torchattacks import WorstTaskPGD as TorchWorstTaskPGD

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning", "ignore:The .grad attribute:UserWarning"
)
X = np.random.default_rng(0).uniform(size=(6, 3, 6, 6)).astype(np.float32)
Y = {"kind": np.arange(6) % 4, "depth": np.full((6, 6, 6), 2.0, np.float32)}
TASKS = [tasks.classification("kind", 4), tasks.depth("depth")]
EPS = 0.05


class Net(nn.Module):
    """Two heads and a batch norm; ``form`` makes what it returns of the outputs."""

    def __init__(self, form=lambda kind, depth: (kind, depth)):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.kind, self.depth = nn.Linear(8, 4), nn.Conv2d(8, 1, 1)
        self.form = form
        self.eval()

    def forward(self, x):
        hidden = torch.relu(self.norm(self.first(4 * x - 2)))
        return self.form(self.kind(hidden.mean((2, 3))), self.depth(hidden) + 2)


class ModelOutput(OrderedDict):
    """As that of transformers: a mapping whose entries are attributes, and which is indexed by number too."""

    def __getitem__(self, key):
        return OrderedDict.__getitem__(self, key) if isinstance(key, str) else tuple(self.values())[key]


def loaded(script):
    file = io.BytesIO()
    torch.jit.save(script, file)
    file.seek(0)
    return torch.jit.load(file)


EXAMPLE = torch.rand(2, 3, 6, 6)
BATCH = torch.export.Dim("batch")
FORMS = {
    "ModelOutput": lambda: Net(lambda kind, depth: ModelOutput(kind=kind, hidden=(kind, depth), depth=depth)),
    "TorchScript": lambda: loaded(torch.jit.trace(Net(), EXAMPLE)),
    "torch.export": lambda: torch.export.export(Net(), (EXAMPLE,), dynamic_shapes=({0: BATCH},)).module(),
    "torch.compile": lambda: torch.compile(Net(), backend="eager"),
    "DataParallel": lambda: nn.DataParallel(Net()),
    "both": lambda: nn.DataParallel(torch.compile(Net(), backend="eager")),
}
NESTED = {
    "lists": (
        lambda kind, depth: [[kind], [None, {"maps": [depth]}]],
        (lambda o: o[0][0], lambda o: o[1][1]["maps"][0]),
    ),
    "surplus": (lambda kind, depth: (depth.mean(1), kind, depth), (1, 2)),
}


def art(model, told=TASKS, x=X, **more):
    estimator = PyTorchMultiTaskEstimator(model, told, x.shape[1:], clip_values=(0, 1), device_type="cpu")
    return WorstTaskPGD(estimator, eps=EPS, max_iter=4, verbose=False, **more).generate(x, Y)


def torchattacks(model, told=TASKS):
    return TorchWorstTaskPGD(model, told, eps=EPS, steps=4)(torch.tensor(X), Y).numpy()


def same_everywhere(model, told=TASKS):
    np.testing.assert_allclose(art(model, told), art(Net()), atol=1e-6)
    np.testing.assert_allclose(torchattacks(model, told), torchattacks(Net()), atol=1e-6)
    asked = {"eps": [EPS], "steps": 3, "progress": False}
    found = evaluate((model, told), ["worst-task"], (X, Y), **asked)["worst-task"]
    expected = evaluate((Net(), TASKS), ["worst-task"], (X, Y), **asked)["worst-task"]
    assert found.values == pytest.approx(expected.values, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_wrapped_or_stored_model_is_the_plain_one(form):
    model = FORMS[form]()
    if form == "torch.export":  # its `eval` raises, and a Victim puts models into evaluation mode
        np.testing.assert_allclose(art(model), art(Net()), atol=1e-6)
        np.testing.assert_allclose(torchattacks(model), torchattacks(Net()), atol=1e-6)
        return
    same_everywhere(model)


@pytest.mark.parametrize("form", NESTED)
def test_nested_and_surplus_outputs_are_picked(form):
    make, (kind, depth) = NESTED[form]
    same_everywhere(Net(make), [tasks.classification("kind", 4, output=kind), tasks.depth("depth", output=depth)])


def test_surplus_outputs_need_output():
    with pytest.raises(ValueError, match="'kind' an `output`. Found 3 outputs for 2 tasks; say which with output="):
        art(Net(NESTED["surplus"][0]))
    with pytest.raises(ValueError, match="'kind' an `output`. Found 3 outputs for 2 tasks; say which with output="):
        torchattacks(Net(NESTED["surplus"][0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    """The ball is kept in float32, whatever the network computes in."""
    net = Net().to(dtype)
    for found in (art(net), torchattacks(net)):
        assert found.dtype == np.float32 and 0 < np.abs(found - X).max() <= EPS + 1e-6
        with torch.no_grad():
            clean, depth = Net()(torch.tensor(X))
            kind, moved = Net()(torch.tensor(found))
        loss = nn.functional.cross_entropy
        assert loss(kind, torch.tensor(Y["kind"])) > loss(clean, torch.tensor(Y["kind"]))
        assert (moved - 2).abs().mean() > (depth - 2).abs().mean()


class Both(nn.Module):
    """A picture beside depth of its size, or a table."""

    def __init__(self, shape):
        super().__init__()
        self.net = Net()
        torch.manual_seed(1)
        self.more = nn.Linear(int(np.prod(shape)), 4)

    def forward(self, image, other):
        kind, depth = self.net(image)
        return kind + self.more(other.flatten(1)), depth


@pytest.mark.parametrize("shape", [(1, 6, 6), (5,)], ids=["RGB-D", "table"])
def test_of_several_inputs_one_is_attacked(shape):
    other = 7 * np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)
    model = Both(shape).eval()
    packed = SeveralInputs(model, {"image": (3, 6, 6), "other": shape}, "image")
    x = packed.pack(image=X, other=other)
    assert packed.input_shape == ((4, 6, 6) if len(shape) == 3 else (113,))
    with torch.no_grad():
        own = {"kind": packed(torch.tensor(x))[0].argmax(1).numpy(), "depth": Y["depth"]}
    victim = Victim.of(packed, TASKS, x, own, bounds=packed.bounds(0, 1), eps={"linf": [EPS]})

    class Given(nn.Module):
        """The same for these samples, of the picture alone."""

        def forward(self, image):
            return model(image, torch.tensor(other))

    estimator = PyTorchMultiTaskEstimator(
        packed, TASKS, packed.input_shape, clip_values=packed.bounds(0, 1), device_type="cpu"
    )
    found = WorstTaskPGD(estimator, eps=EPS, max_iter=4, verbose=False).generate(x, Y)
    parts = [part.numpy() for part in packed.unpack(torch.tensor(found))]
    np.testing.assert_array_equal(parts[1], other)
    np.testing.assert_allclose(parts[0], art(Given()), atol=1e-6)
    again = TorchWorstTaskPGD(packed, TASKS, eps=EPS, steps=4, bounds=packed.bounds(0, 1))(torch.tensor(x), Y)
    np.testing.assert_array_equal(packed.unpack(again)[1].numpy(), other)
    run = evaluate(victim, ["worst-task", "equal"], steps=3, progress=False, keep_adversarial=True)
    for name in ("worst-task", "equal"):
        np.testing.assert_array_equal(packed.unpack(torch.tensor(run.adversarial(name)))[1].numpy(), other)


def test_a_random_start_and_other_norms_leave_given_inputs_alone():
    packed = SeveralInputs(Both((5,)).eval(), {"image": (3, 6, 6), "other": (5,)}, "image")
    x = packed.pack(image=X, other=np.ones((6, 5)))
    estimator = PyTorchMultiTaskEstimator(
        packed, TASKS, packed.input_shape, clip_values=packed.bounds(0, 1), device_type="cpu"
    )
    for norm, eps in (("inf", EPS), (2, 1.0), (1, 5.0)):
        attack = MultiTaskPGD(estimator, eps=eps, norm=norm, max_iter=3, num_random_init=2, verbose=False)
        found = attack.generate(x, Y, mask=np.ones(packed.input_shape))
        np.testing.assert_array_equal(found[:, -5:], x[:, -5:])
        assert np.abs(found - x).max() > 0


def packed_with_table():
    """A model of a picture and a table, its estimator, and inputs whose table an ART attack would change."""
    packed = SeveralInputs(Both((5,)).eval(), {"image": (3, 6, 6), "other": (5,)}, "image")
    x = packed.pack(image=X, other=np.full((6, 5), 3.0))
    clip_values = packed.bounds(0, 1)
    return packed, x, PyTorchMultiTaskEstimator(packed, TASKS, (113,), clip_values=clip_values, device_type="cpu")


def test_the_gradient_of_given_inputs_is_0():
    packed, x, estimator = packed_with_table()
    gradient = estimator.loss_gradient(x, Y)
    assert (gradient[:, -5:] == 0).all() and (gradient[:, :-5] != 0).any()
    for attack in (FastGradientMethod(estimator, eps=EPS), ProjectedGradientDescent(estimator, eps=EPS, verbose=False)):
        found = attack.generate(x, estimator.labels(Y, 6))
        np.testing.assert_array_equal(found[:, -5:], x[:, -5:])
        assert np.abs(found - x).max() > 0.9 * EPS


class Shift:
    """An attack of nobody's, which changes everything."""

    norm, eps = np.inf, EPS

    def generate(self, x, y):
        return x + np.float32(EPS) * np.where(x > 0.5, -1, 1)


def test_evaluations_leave_given_inputs_alone():
    packed, x, estimator = packed_with_table()
    victim = Victim.of(packed, TASKS, x, Y, bounds=packed.bounds(0, 1))
    attacks = {"own": Shift(), "ART": ProjectedGradientDescent(make_estimator(victim, "cpu"), eps=EPS, verbose=False)}
    run = evaluate(victim, attacks, progress=False, keep_adversarial=True)
    for name in attacks:
        found = run.adversarial(name)
        np.testing.assert_array_equal(found[:, -5:], x[:, -5:])
        assert np.abs(found - x).max() > 0.9 * EPS


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_probes_of_the_diagnosis_leave_given_inputs_alone(norm):
    packed, x, estimator = packed_with_table()
    eps = {"linf": EPS, "l2": 1.0, "l1": 5.0}[norm]
    probes = [Noise(estimator, norm, eps, seed=0), Grey(estimator)]
    if norm != "l1":
        probes.append(QuerySearch(estimator, "kind", norm, eps, queries=5, batch_size=4, seed=0))
    for probe in probes:
        found = probe.generate(x, estimator.labels(Y, 6))
        np.testing.assert_array_equal(found[:, -5:], x[:, -5:])
        assert (found[:, :-5] != x[:, :-5]).any()
    assert (Grey(estimator).generate(x)[:, :-5] == 0.5).all()
    assert grey_radius(estimator, norm) == pytest.approx(0.5 * 108 ** {"linf": 0, "l2": 0.5, "l1": 1}[norm])


def test_gradients_are_probed_where_inputs_are_attacked():
    class Rounded(nn.Module):
        def forward(self, image, table):
            return image.flatten(1).sum(1, keepdim=True) + table.round().sum(1, keepdim=True)

    packed = SeveralInputs(Rounded(), {"image": (1, 2, 2), "table": (5,)}, "image")
    estimator = PyTorchMultiTaskEstimator(packed, [tasks.regression("sum")], (9,), device_type="cpu")
    x = packed.pack(image=np.zeros((4, 1, 2, 2)), table=np.full((4, 5), 0.5))
    shares = unexplained(estimator, x, "linf", 0.1, batch_size=4, seed=0)
    assert shares["sum"] < 1e-6, "rounding is a matter of the table, which is not attacked"
    surrogate = make_surrogate(estimator, x, estimator.labels({"sum": np.zeros((4, 1))}, 4), 0.1, 4, 0)
    assert surrogate.attackable is packed.attackable
    found = MultiTaskPGD(surrogate, eps=0.1, max_iter=2, verbose=False).generate(x, {"sum": np.zeros((4, 1))})
    np.testing.assert_array_equal(found[:, 4:], x[:, 4:])


def test_a_surrogate_adds_no_noise_to_given_inputs():
    class Table(nn.Module):
        def forward(self, image, table):
            return table.sum(1, keepdim=True) + 0 * image.sum()

    packed = SeveralInputs(Table(), {"image": (1, 2, 2), "table": (5,)}, "image")
    estimator = PyTorchMultiTaskEstimator(packed, [tasks.regression("sum")], (9,), device_type="cpu")
    x = packed.pack(image=np.zeros((4, 1, 2, 2)), table=np.ones((4, 5)))
    surrogate = make_surrogate(estimator, x, estimator.labels({"sum": np.zeros((4, 1))}, 4), 0.1, 4, 0)
    assert (surrogate.predict(x)["sum"] == 5).all()


def test_wrong_inputs_are_told():
    with pytest.raises(ValueError, match="`attacked` should name some of the inputs"):
        SeveralInputs(nn.Identity(), {"image": (3, 6, 6)}, "picture")
    packed = SeveralInputs(nn.Identity(), {"image": (3, 6, 6), "other": (5,)}, "image")
    with pytest.raises(ValueError, match=r"Expected the inputs \['image', 'other'\]. Found \['image'\]"):
        packed.pack(image=X)
    with pytest.raises(ValueError, match=r"'other' should have shape \(N, \*\(5,\)\). Found \(6, 4\)"):
        packed.pack(image=X, other=np.ones((6, 4)))
