"""What ART asks of every attack: its check of estimators, the arguments that it refuses, its own names and defaults."""

from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from art.estimators.estimator import BaseEstimator, LossGradientsMixin
from art.exceptions import EstimatorError
from art.summary_writer import SummaryWriter

from art_mtl import PyTorchMultiTaskEstimator, attacks, tasks

EXTRA = {"StealthyMultiTaskPGD": {"attacked": "k"}, "MultiTaskPatch": {"size": (2, 2)}}
KINDS = attacks.__all__
STEPPING = ("MultiTaskPGD", "MinMaxMultiTaskPGD", "WorstTaskPGD", "StealthyMultiTaskPGD")
"""Those that take every argument of ART's own attack."""


def make(kind, estimator, **arguments):
    return getattr(attacks, kind)(estimator, **{**EXTRA.get(kind, {}), **arguments})


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4))


@pytest.fixture
def classifier(net):
    return PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (3, 4, 4), 4, clip_values=(0, 1), device_type="cpu")


@pytest.fixture
def estimator(net):
    return PyTorchMultiTaskEstimator(net, [tasks.classification("k", 4)], (3, 4, 4), (0, 1), device_type="cpu")


@pytest.fixture
def data():
    return np.random.default_rng(0).uniform(size=(6, 3, 4, 4)).astype(np.float32), {"k": np.arange(6) % 4}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """ART makes the folder of a summary writer before it looks at what it was given."""
    monkeypatch.chdir(tmp_path)


# --- the estimator ---


class NoEstimator:
    """Has nothing of an estimator."""


class NoGradients(BaseEstimator):
    """An estimator that gives no gradients of a loss."""

    estimator_params = BaseEstimator.estimator_params
    input_shape = (3, 4, 4)

    def __init__(self):
        super().__init__(model=None, clip_values=(0, 1))

    def predict(self, x, **kwargs):
        return x

    def fit(self, x, y, **kwargs):
        pass


class Foreign(LossGradientsMixin, NoGradients):
    """One that ART's own attack takes, of another framework."""

    def loss_gradient(self, x, y, **kwargs):
        return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make_wrong", [lambda: NoEstimator, NoEstimator, NoGradients, lambda: torch.nn.Linear(2, 2)])
def test_an_estimator_of_another_class_is_arts_own_error(kind, make_wrong):
    wrong = make_wrong()
    with pytest.raises(EstimatorError) as theirs:
        ProjectedGradientDescent(wrong)
    with pytest.raises(EstimatorError) as ours:
        make(kind, wrong)
    assert set(theirs.value.class_expected_list) <= set(ours.value.class_expected_list)
    assert BaseEstimator in ours.value.class_expected_list and LossGradientsMixin in ours.value.class_expected_list
    assert ours.value.this_class is getattr(attacks, kind) and ours.value.classifier_given is wrong
    assert isinstance(ours.value, TypeError) and str(ours.value).startswith(f"{kind} requires an estimator")


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_another_framework_is_told_which_will_do(kind):
    ProjectedGradientDescent(Foreign())
    with pytest.raises(EstimatorError, match="PyTorchMultiTaskEstimator.* or .*PyTorchClassifier"):
        make(kind, Foreign())


@pytest.mark.parametrize("kind", KINDS)
def test_a_stock_classifier_and_our_estimator_are_taken(kind, classifier, estimator):
    extra = {"attacked": "class"} if kind == "StealthyMultiTaskPGD" else {}
    for known in (classifier, estimator):
        task = PyTorchMultiTaskEstimator.from_classifier(classifier).tasks[0].name if known is classifier else "k"
        attack = make(kind, known, **({"attacked": task} if extra else {}))
        assert isinstance(attack.estimator, PyTorchMultiTaskEstimator)
        assert attack.is_estimator_valid(known, attack._estimator_requirements)


# --- the arguments ---

ONES = np.ones((6, 1, 1, 1))
WRONG = [
    {"norm": 0},
    {"norm": -2},
    {"norm": "3/2"},
    {"eps": -1},
    {"eps": -0.3, "eps_step": 0.1},
    {"eps": -ONES, "eps_step": ONES},
    {"eps": "1", "eps_step": 0.1},
    {"eps": 1, "eps_step": "0.1"},
    {"eps": np.array([-1])},
    {"eps_step": np.array([-1])},
    {"eps": 1, "eps_step": ONES},
    {"eps": ONES, "eps_step": 1},
    {"eps": ONES, "eps_step": 0.1},
    {"eps": [0.3], "eps_step": [0.1]},
    {"eps_step": 0},
    {"eps_step": -1},
    {"eps": ONES, "eps_step": -ONES},
    {"eps": ONES, "eps_step": 0 * ONES},
    {"eps": ONES, "eps_step": np.ones((6, 1, 1))},
    {"eps": np.ones(3), "eps_step": np.ones(2)},
    {"targeted": "true"},
    {"targeted": 1},
    {"targeted": None},
    {"num_random_init": 1.0},
    {"num_random_init": "1"},
    {"num_random_init": None},
    {"num_random_init": -1},
    {"batch_size": -1},
    {"batch_size": 0},
    {"max_iter": -1},
    {"max_iter": "1"},
    {"verbose": "true"},
    {"verbose": 1},
    {"summary_writer": 3},
]


def shown(arguments):
    return ", ".join(
        f"{name}={np.shape(value) if np.ndim(value) else repr(value)}" for name, value in arguments.items()
    )


@pytest.mark.parametrize("arguments", WRONG, ids=shown)
@pytest.mark.parametrize("kind", STEPPING)
def test_what_art_refuses_is_refused_by_the_same_exception(kind, arguments, classifier, estimator):
    with pytest.raises((ValueError, TypeError)) as theirs:
        ProjectedGradientDescent(classifier, **arguments)
    with pytest.raises(theirs.type) as ours:
        make(kind, estimator, **arguments)
    assert any(name in str(ours.value) for name in arguments), "the message names the argument"
    attack = make(kind, estimator)
    before = repr(attack)
    with pytest.raises(theirs.type):
        attack.set_params(**arguments)
    assert repr(attack) == before


@pytest.mark.parametrize("kind", KINDS)
def test_so_do_the_others_where_they_take_it(kind, classifier, estimator):
    known = set(getattr(attacks, kind).attack_params)
    tried = [arguments for arguments in WRONG if set(arguments) <= known]
    assert len(tried) >= 4
    for arguments in tried:
        with pytest.raises((ValueError, TypeError)) as theirs:
            ProjectedGradientDescent(classifier, **arguments)
        with pytest.raises((ValueError, TypeError)) as ours:
            make(kind, estimator, **arguments)
        single = kind == "UniversalMultiTaskPGD" and np.ndim(arguments.get("eps", 0)) > 0
        assert isinstance(ours.value, theirs.type) or single, arguments


@pytest.mark.parametrize("kind", STEPPING)
def test_the_arguments_are_arts_in_name_order_and_default(kind):
    theirs = inspect.signature(ProjectedGradientDescent).parameters
    ours = inspect.signature(getattr(attacks, kind)).parameters
    assert set(theirs) <= set(ours)
    assert [name for name in ours if name in theirs][:4] == list(theirs)[:4]
    for name, parameter in theirs.items():
        if name not in ("estimator", "eps_step"):
            assert ours[name].default == parameter.default
    assert set(ProjectedGradientDescent.attack_params) <= set(getattr(attacks, kind).attack_params)


# --- the summary writer ---


class Quiet(SummaryWriter):
    """Logs nothing."""

    def __init__(self):
        """Opens no file."""

    def update(self, *args, **kwargs):
        pass

    def reset(self):
        pass


@pytest.mark.parametrize("make_writer", [lambda: False, lambda: None, Quiet])
@pytest.mark.parametrize("kind", ["MultiTaskPGD", "MultiTaskPatch"])
def test_a_failed_set_params_leaves_the_summary_writer(kind, make_writer, estimator, data):
    attack = make(kind, estimator, max_iter=2, summary_writer=make_writer(), verbose=False)
    kept, expected = attack.summary_writer, attack.generate(*data)
    with pytest.raises(ValueError, match="`max_iter`"):
        attack.set_params(summary_writer=Quiet(), max_iter=-1)
    assert attack.summary_writer is kept
    with pytest.raises(ValueError, match="`summary_writer` should be .* Found 3"):
        attack.summary_writer = 3
    assert attack.summary_writer is kept
    attack.reset()
    np.testing.assert_array_equal(attack.generate(*data), expected)


def test_the_summary_writer_can_be_given_back(estimator, data, tmp_path):
    attack = make("MultiTaskPGD", estimator, max_iter=2, verbose=False)
    attack.summary_writer = attack.summary_writer
    attack.set_params(summary_writer=None)
    assert attack.generate(*data).shape == data[0].shape
    attack = make("MultiTaskPGD", estimator, max_iter=2, summary_writer=str(tmp_path), verbose=False)
    attack.summary_writer = attack.summary_writer
    with pytest.raises(ValueError, match="`eps`"):
        attack.set_params(summary_writer=False, eps=-1)
    assert copy.copy(attack).summary_writer is not attack.summary_writer, "a copy has one of its own"
    attack.set_params(summary_writer=None)
    assert attack.summary_writer is None


# --- calls ---


def test_random_eps_draws_anew_at_every_call_with_a_seed_too(estimator, data):
    """The whole ε is reached, so a call shows its draw; ART draws from a normal distribution cut to (0, ε]."""

    def sizes(attack, calls):
        return [round(float(np.abs(attack.generate(*data) - data[0]).max()), 6) for _ in range(calls)]

    settings = {"eps": 0.2, "eps_step": 0.2, "max_iter": 2, "random_eps": True, "verbose": False}
    attack = attacks.MultiTaskPGD(estimator, seed=0, **settings)
    drawn = sizes(attack, 5)
    assert len(set(drawn)) == 5 and min(drawn) > 0 and max(drawn) <= 0.2
    assert (attack.eps, attack.eps_step) == (0.2, 0.2)
    attack.reset()
    assert sizes(attack, 5) == drawn, "reset() starts over"
    assert sizes(attacks.MultiTaskPGD(estimator, seed=0, **settings), 5) == drawn
    assert not set(sizes(attacks.MultiTaskPGD(estimator, seed=1, **settings), 5)) & set(drawn)


def test_random_eps_of_an_array_draws_each_of_its_radii(estimator, data):
    eps = np.full((6, 1, 1, 1), 0.2)
    attack = attacks.MultiTaskPGD(estimator, eps=eps, eps_step=eps, max_iter=2, random_eps=True, seed=0, verbose=False)
    found = np.abs(attack.generate(*data) - data[0]).max((1, 2, 3))
    assert len(set(found.round(6))) == 6 and found.max() <= 0.2 + 1e-6 and (attack.eps == 0.2).all()


def test_a_batch_size_measured_on_one_image_is_measured_again(estimator, data, monkeypatch):
    monkeypatch.setattr("art_mtl.core.batch_size._seconds", lambda forward, x: 1 + len(x) / 100)
    x, y = data
    attack = attacks.MultiTaskPGD(estimator, batch_size="auto", max_iter=1, verbose=False)
    assert attack.measured is None
    for samples, size in ((1, 1), (3, 3), (2, 3), (6, 6), (1, 6)):
        attack.generate(x[:samples], {"k": y["k"][:samples]})
        assert attack.measured.size == size


def test_one_that_ended_for_another_reason_is_kept(estimator, data, monkeypatch):
    calls = []
    monkeypatch.setattr("art_mtl.core.batch_size._seconds", lambda forward, x: calls.append(len(x)) or 0.01 * len(x))
    x, y = data
    attack = attacks.MultiTaskPGD(estimator, batch_size="auto", max_iter=1, verbose=False)
    attack.generate(x[:3], {"k": y["k"][:3]})
    assert (attack.measured.size, attack.measured.reason) == (1, "gain")
    measured = len(calls)
    attack.generate(x, y)
    assert len(calls) == measured
    with pytest.raises(ValueError, match="`eps`"):
        attack.set_params(prepare="fp32", eps=-1)
    assert attack.measured.size == 1, "nothing was changed"
    attack.prepare = "fp32"
    assert attack.measured is None, "another model has another best size"
