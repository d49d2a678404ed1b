"""Construction, parameters, bounds, copies, training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from art.defences.postprocessor import Rounded
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch

from art_mtl import tasks
from art_mtl.estimators import PyTorchMultiTaskEstimator
from art_mtl.labels import MultiTaskLabels

BAD_ARGUMENTS = [
    ({"model": lambda x: x}, TypeError, "`model` should be a torch.nn.Module. Found function"),
    ({"tasks": []}, ValueError, "at least one task"),
    ({"tasks": ["seg"]}, TypeError, "Task objects. Found str"),
    ({"input_shape": 3}, TypeError, "`input_shape` should be a tuple"),
    ({"input_shape": (3, 0, 8)}, ValueError, "positive integers"),
    ({"input_shape": (3, 8.0, 8)}, ValueError, "positive integers"),
    ({"clip_values": 1.0}, TypeError, "pair"),
    ({"clip_values": (1.0, 0.0)}, ValueError, "min < max"),
    ({"clip_values": (float("nan"), 1.0)}, ValueError, "min < max"),
    ({"clip_values": (np.zeros(5), np.ones(5))}, ValueError, "broadcast to input_shape"),
    ({"optimizer": "adam"}, TypeError, "`optimizer`.*Found str"),
    ({"channels_first": 1}, TypeError, "`channels_first` should be a bool"),
    ({"preprocessing_defences": [abs]}, TypeError, "ART Preprocessor"),
    ({"postprocessing_defences": Rounded()}, ValueError, "`postprocessing_defences` should be None"),
    ({"preprocessing": 0.5}, TypeError, "pair"),
    ({"preprocessing": (0.5, 0.0)}, ValueError, "not 0"),
    ({"preprocessing": (np.zeros(3), 1.0)}, ValueError, "one shape"),
    ({"device_type": "cuda"}, ValueError, "'cpu' or 'gpu'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_named_and_change_nothing(make, wrong, error, message):
    good = make()
    with pytest.raises(error, match=message):
        PyTorchMultiTaskEstimator(**{**good.get_params(), **wrong})
    before = good.get_params()
    with pytest.raises(error, match=message):
        good.set_params(**{"clip_values": (-9, 9), **wrong})
    assert all(good.get_params()[name] is value for name, value in before.items())


def test_unknown_parameters_are_named(make):
    with pytest.raises(ValueError, match="Found \\['loss'\\]"):
        make().set_params(loss=None)


def test_every_parameter_is_readable_and_goes_round(make, x):
    estimator = make(preprocessing=(0.4, 0.2), optimizer=None)
    twin = PyTorchMultiTaskEstimator(**estimator.get_params())
    assert set(estimator.get_params()) == set(estimator.estimator_params)
    estimator.set_params(**estimator.get_params())
    np.testing.assert_array_equal(estimator.predict(x)["seg"], twin.predict(x)["seg"])


def test_set_params_keeps_the_standardisation_in_torch(make, x):
    estimator = make()
    other = make(estimator.model, preprocessing=(0.4, 0.2))
    assert estimator.all_framework_preprocessing
    estimator.set_params(preprocessing=(0.4, 0.2))
    assert isinstance(estimator.preprocessing, StandardisationMeanStdPyTorch) and estimator.all_framework_preprocessing
    np.testing.assert_array_equal(estimator.predict(x)["kind"], other.predict(x)["kind"])
    estimator.set_params(device_type="gpu")
    assert estimator.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert estimator.preprocessing.device == estimator.device == next(estimator.model.parameters()).device


def test_set_params_changes_what_it_names(make):
    estimator = make()
    optimizer = torch.optim.SGD(estimator.model.parameters(), lr=0.1)
    estimator.set_params(clip_values=(-1, 2), optimizer=optimizer, tasks=list(reversed(estimator.tasks)))
    assert estimator.clip_values.tolist() == [-1, 2] and estimator.optimizer is optimizer
    assert [task.name for task in estimator.tasks] == ["age", "tags", "depth", "kind", "seg"]


def test_bounds_may_be_arrays(make):
    low = np.array([0.0, -1.0, 0.0]).reshape(3, 1, 1)
    bounds = make(clip_values=(low, 1.0)).clip_values
    assert bounds.shape == (2, 3, 1, 1) and bounds.dtype == np.float32
    assert make(clip_values=(0, 1)).clip_values.shape == (2,) and make(clip_values=None).clip_values is None


def test_repr_names_every_parameter(make):
    text = repr(make(preprocessing=(0.4, 0.2)))
    assert text.startswith("PyTorchMultiTaskEstimator(model=Net, ")
    assert "depth('depth')" in text and "clip_values=(0.0, 1.0)" in text and "input_shape=(3, 8, 8)" in text


def test_it_does_not_pose_as_a_classifier(make):
    from art.estimators.classification.classifier import ClassifierMixin

    estimator = make()
    assert not isinstance(estimator, ClassifierMixin) and not hasattr(estimator, "nb_classes")


def test_preprocessing_leaves_labels_alone(make, x, y):
    estimator = make(preprocessing=(0.5, 0.25))
    found, labels = estimator._apply_preprocessing(x, {"anything": 1}, fit=False)
    np.testing.assert_allclose(found, (x - 0.5) / 0.25, atol=1e-6)
    assert labels == {"anything": 1}


@pytest.mark.parametrize("verbose", [False, True])
def test_fit_lowers_the_loss_and_gives_modes_back(make, net, x, y, capfd, verbose):
    estimator = make(net, optimizer=torch.optim.Adam(net.parameters(), lr=0.02))
    modes = [module.training for module in net.modules()]
    before = estimator.compute_losses(x, y, "mean")
    estimator.fit(x, y, batch_size=4, nb_epochs=30, verbose=verbose)
    after = estimator.compute_losses(x, y, "mean")
    assert all(after[name] < before[name] for name in ("kind", "depth", "tags", "age"))
    assert [module.training for module in net.modules()] == modes
    assert ("Epochs" in capfd.readouterr().err) == verbose


def test_one_step_of_fit_is_that_of_plain_torch(make, x, y):
    estimator, reference = make(), make()
    reference.model.load_state_dict(estimator.model.state_dict())
    estimator.set_params(optimizer=torch.optim.SGD(estimator.model.parameters(), lr=0.1))
    present = np.array([True, True, False, False, False, False])
    sparse = MultiTaskLabels({name: y[name] for name in y.names}, {"kind": present})
    estimator.fit(x, sparse, batch_size=6, nb_epochs=1, training_mode=False)

    model = reference.model.eval()
    out = model(torch.from_numpy(x))
    pairs = zip(reference.tasks, reference.targets(y, 6), strict=True)
    losses = [task.loss(out[task.name], target) for task, target in pairs]
    total = sum(loss.mean() for loss in losses) - losses[1].mean() + losses[1][:2].mean()
    total.backward()
    for found, parameter in zip(estimator.model.parameters(), model.parameters(), strict=True):
        expected = parameter - 0.1 * parameter.grad
        torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-4)


def test_fit_follows_its_settings(make, x, y):
    estimator = make()
    with pytest.raises(ValueError, match="needs an optimizer"):
        estimator.fit(x, y)
    optimizer = torch.optim.SGD(estimator.model.parameters(), lr=0.1)
    estimator.set_params(optimizer=optimizer)
    sizes = []
    estimator.model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    estimator.fit(x, y, batch_size=4, nb_epochs=2, drop_last=True, scheduler=scheduler)
    assert sizes == [4, 4] and optimizer.param_groups[0]["lr"] == 0.025
    estimator.fit(x, y, batch_size=4, nb_epochs=1)
    assert sizes == [4, 4, 4, 2]
    with pytest.raises(ValueError, match="`nb_epochs` should be a positive integer"):
        estimator.fit(x, y, nb_epochs=0)


def test_modes_come_back_when_training_breaks(make, net, x, y):
    estimator = make(net.eval(), optimizer=torch.optim.SGD(net.parameters(), lr=0.1))
    net.fail = True
    with pytest.raises(RuntimeError, match="broken on purpose"):
        estimator.fit(x, y)
    assert not any(module.training for module in net.modules())


OPTIMIZERS = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "Adam": lambda groups: torch.optim.Adam(groups, lr=0.1),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.3),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_clone_starts_afresh(make, net, x, y, kind):
    groups = [{"params": net.trunk.parameters()}, {"params": net.flat.parameters(), "lr": 0.01}]
    estimator = make(net, optimizer=OPTIMIZERS[kind](groups), preprocessing=(0.4, 0.2), clip_values=(-1, 2))
    estimator.fit(x, y, nb_epochs=2)
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    clone = estimator.clone_for_refitting()
    assert type(clone.optimizer).__name__ == kind and not clone.optimizer.state and estimator.optimizer.state
    assert [group["lr"] for group in clone.optimizer.param_groups] == [0.1, 0.01]
    assert repr(clone) == repr(estimator) and not torch.equal(clone.model.flat.weight, net.flat.weight)
    trained = clone.model.flat.weight.clone()
    clone.fit(x, y, nb_epochs=2)
    assert not torch.equal(clone.model.flat.weight, trained)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_a_clone_needs_no_optimizer(make):
    assert make().clone_for_refitting().optimizer is None


def test_one_task_may_come_alone(x):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3))
    estimator = PyTorchMultiTaskEstimator(model, tasks.classification("kind", 3), (3, 8, 8), device_type="cpu")
    assert estimator.loss_gradient(x, np.zeros(6, dtype=int)).shape == x.shape


# --- arguments of ART's own estimators ---

WRONG = {
    "loss": "`loss`: each task has a loss of its own.*tasks.custom",
    "nb_classes": r"`nb_classes`: a task knows its classes.*tasks.classification\(name, nb_classes\)",
    "output": "`output`: a task says which output is its own",
    "attack_losses": "`attack_losses`: each task has a loss of its own",
    "use_amp": "`use_amp`: attacks run in half precision.*`prepare`",
    "device": "`device`: say `device_type`",
    "clip_value": r"`clip_value`; did you mean `clip_values`\?",
    "preprocessing_defenses": r"`preprocessing_defenses`; did you mean `preprocessing_defences`\?",
    "zzz": "`zzz`; it has model, clip_values",
}


@pytest.mark.parametrize("name", WRONG)
def test_unknown_arguments_name_the_class_and_what_replaces_them(make, name):
    good = make().get_params()
    with pytest.raises(TypeError, match=f"^PyTorchMultiTaskEstimator has no parameter {WRONG[name]}"):
        PyTorchMultiTaskEstimator(**good, **{name: 1})
    with pytest.raises(ValueError, match=f"Found \\['{name}'\\]" + WRONG[name].split("`", 2)[2]):
        make().set_params(**{name: 1})


def test_missing_arguments_name_the_class(net):
    with pytest.raises(TypeError, match=r"^PyTorchMultiTaskEstimator.__init__\(\) missing.*'input_shape'"):
        PyTorchMultiTaskEstimator(net, [tasks.depth("depth")])

    class Mine(PyTorchMultiTaskEstimator):
        pass

    with pytest.raises(TypeError, match="^Mine has no parameter `loss`"):
        Mine(net, [tasks.depth("depth")], (3, 8, 8), loss=None)


@pytest.mark.parametrize("loss", [torch.nn.CrossEntropyLoss(), torch.nn.functional.cross_entropy])
def test_arts_order_of_arguments_is_recognised(net, loss):
    with pytest.raises(TypeError, match="`tasks` should hold art_mtl.Task objects. Found .*; each task has a loss"):
        PyTorchMultiTaskEstimator(net, loss, (3, 8, 8), 10)


# --- batches that cannot be trained on ---


class Pools(torch.nn.Module):
    """Batch norm of maps, and of vectors if it pools first."""

    def __init__(self, vectors):
        super().__init__()
        self.conv, self.maps, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 3)
        self.vectors = torch.nn.BatchNorm1d(4) if vectors else torch.nn.Identity()

    def forward(self, x):
        return self.head(self.vectors(self.maps(self.conv(x)).mean((2, 3))))


def trainee(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return PyTorchMultiTaskEstimator(
        model, tasks.classification("k", 3), (3, 8, 8), optimizer=optimizer, device_type="cpu"
    )


@pytest.mark.parametrize(
    ("size", "batch_size", "message"),
    [
        (5, 4, "`drop_last` should be True, as batch norm.*'vectors'. Found 5 samples in batches of 4"),
        (3, 1, "`batch_size` should be at least 2.*'vectors'. Found 3 samples in batches of 1"),
        (1, 8, "`x` should hold at least 2 samples.*'vectors'"),
    ],
)
def test_a_batch_of_one_that_batch_norm_does_not_take_is_named_before_any_work(x, size, batch_size, message, state_of):
    estimator, y = trainee(Pools(vectors=True)), np.arange(size) % 3
    before, random = state_of(estimator.model), torch.get_rng_state()
    with pytest.raises(ValueError, match=f"Parameter {message}"):
        estimator.fit(x[:size], y, batch_size=batch_size, nb_epochs=2)
    assert state_of(estimator.model) == before and torch.equal(random, torch.get_rng_state())
    assert [len(m._forward_pre_hooks) for m in estimator.model.modules()] == [0] * 5


def test_batches_of_one_that_can_be_trained_on_are(x):
    y = np.arange(5) % 3
    maps, vectors = Pools(vectors=False), Pools(vectors=True)
    kept = Pools(vectors=True)
    kept.train = lambda mode=True: torch.nn.Module.train(kept, mode) and kept.vectors.eval() and kept
    for model, settings in (
        (maps, {}),
        (maps, {"batch_size": 1}),
        (vectors, {"drop_last": True}),
        (vectors, {"training_mode": False}),
        (vectors, {"batch_size": 5}),
        (kept, {}),
    ):
        weight = model.head.weight.detach().clone()
        trainee(model).fit(x[:5], y, **{"batch_size": 4, "nb_epochs": 1, **settings})
        assert not torch.equal(weight, model.head.weight)


def test_batch_norm_without_statistics_works_by_the_batch_whatever_the_mode(x):
    model = Pools(vectors=True)
    model.vectors = torch.nn.BatchNorm1d(4, track_running_stats=False)
    for mode in (True, False):
        with pytest.raises(ValueError, match="`drop_last` should be True"):
            trainee(model).fit(x[:5], np.arange(5) % 3, batch_size=4, training_mode=mode)


def test_no_batch_at_all_is_named(x):
    with pytest.raises(ValueError, match="`batch_size` should be at most 5.*`drop_last` leaves out.*Found 8"):
        trainee(Pools(vectors=False)).fit(x[:5], np.arange(5) % 3, batch_size=8, drop_last=True)
