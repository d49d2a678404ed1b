"""The ART-facing classes: host contract, arguments, bad input."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.estimator import BaseEstimator
from art.exceptions import EstimatorError
from art.summary_writer import SummaryWriter

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.core import METHODS

CLASSES = (MultiTaskPGD, MinMaxMultiTaskPGD, WorstTaskPGD)
SHAPE = (3, 8, 8)


class Net(torch.nn.Module):
    """Segmentation, depth, one class, one number; counts its forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
        self.dense = torch.nn.Conv2d(8, 5, 1)
        self.flat = torch.nn.Linear(8, 5)
        self.flat.weight.data *= 20
        self.forwards = 0
        self.fail_at = math.inf
        self.poison = None

    def forward(self, x):
        self.forwards += 1
        if self.forwards >= self.fail_at:
            raise RuntimeError("out of order")
        features = self.drop(torch.tanh(self.trunk(x)))
        dense, flat = self.dense(features), self.flat(features.mean((2, 3)))
        if self.poison is not None:
            flat = torch.where((torch.arange(len(x)) == self.poison)[:, None], float("nan"), flat)
        return {"seg": dense[:, :4], "depth": dense[:, 4:].exp(), "digit": flat[:, :4], "ink": flat[:, 4:]}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def estimator(net):
    jobs = [
        tasks.segmentation("seg", 4),
        tasks.depth("depth"),
        tasks.classification("digit", 4),
        tasks.regression("ink"),
    ]
    return PyTorchMultiTaskEstimator(net, jobs, input_shape=SHAPE, clip_values=(0, 1), device_type="cpu")


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(6, *SHAPE)).astype(np.float32)
    y = {
        "seg": rng.integers(-1, 4, (6, 8, 8)),
        "depth": rng.uniform(0.5, 2, (6, 1, 8, 8)).astype(np.float32),
        "digit": rng.integers(0, 4, 6),
        "ink": rng.normal(size=(6, 1)).astype(np.float32),
    }
    return x, y


def losses(estimator, x, y):
    return {name: values.mean() for name, values in estimator.compute_losses(x, y).items()}


def metrics(estimator, x, y):
    targets = estimator.targets(estimator.labels(y, len(x)), len(x))
    with torch.no_grad():
        estimator.model.eval()
        outputs = estimator.forward_tasks(torch.from_numpy(x))
        estimator.model.train()
    items = zip(estimator.tasks, outputs, targets, strict=True)
    return {task.name: task.metric.value(task.statistics(o, t).sum(0)).item() for task, o, t in items}


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("norm, eps", [(np.inf, 0.05), ("inf", 0.05), (2, 0.5), (1, 3.0)])
def test_degradations_the_losses_within_the_ball_and_changes_nothing_else(make, norm, eps, estimator, net, data):
    x, y = data
    x_before, y_before = x.copy(), {name: values.copy() for name, values in y.items()}
    net.train()
    net.drop.eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    rng_state, np_state = torch.get_rng_state(), np.random.get_state()[1].copy()

    found = make(estimator, norm=norm, eps=eps, max_iter=8, verbose=False).generate(x, y)

    assert isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == x.shape
    order = np.inf if norm == "inf" else norm
    assert np.linalg.norm((found - x).reshape(6, -1), order, axis=1).max() <= eps * (1 + 1e-5)
    assert found.min() >= 0 and found.max() <= 1
    before, after = losses(estimator, x, y), losses(estimator, found, y)
    assert sum(after.values()) > sum(before.values())
    assert np.array_equal(x, x_before) and all(np.array_equal(y[name], y_before[name]) for name in y)
    assert net.training and net.trunk.training and not net.drop.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(rng_state, torch.get_rng_state()) and np.array_equal(np_state, np.random.get_state()[1])


@pytest.mark.parametrize("make", CLASSES)
def test_an_exception_in_the_model_leaves_it_as_it_was(make, estimator, net, data):
    x, y = data
    net.train()
    net.fail_at = 3
    with pytest.raises(RuntimeError, match="out of order"):
        make(estimator, eps=0.1, max_iter=8, verbose=False).generate(x, y)
    assert all(module.training for module in net.modules())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert not net._forward_hooks and not net.trunk._forward_hooks


@pytest.mark.parametrize(
    "make, arguments, extra",
    [
        (MinMaxMultiTaskPGD, {}, 0),
        (MinMaxMultiTaskPGD, {"variant": "official"}, 0),
        (WorstTaskPGD, {}, 0),
        (WorstTaskPGD, {"weight_scope": "sample"}, 1),
        (MultiTaskPGD, {"method": "normalize", "num_random_init": 1}, 1),
        (MultiTaskPGD, {"method": "equal", "num_random_init": 1}, 0),
    ],
)
def test_costs_t_forwards_and_what_the_rules_add(make, arguments, extra, estimator, net, data):
    x, y = data
    make(estimator, eps=0.1, max_iter=7, verbose=False, **arguments).generate(x, y)
    assert net.forwards == 7 + extra
    net.forwards = 0
    make(estimator, eps=0.1, max_iter=7, batch_size=2, verbose=False, **arguments).generate(x, y)
    assert net.forwards == 3 * (7 + extra)


@pytest.mark.parametrize("make", CLASSES)
def test_without_labels_every_task_is_degraded(make, estimator, data):
    x, _ = data
    own = estimator.own_labels(x)
    found = make(estimator, eps=0.3, max_iter=10, verbose=False).generate(x)
    before, after = metrics(estimator, x, own), metrics(estimator, found, own)
    assert before == {"seg": 1, "depth": 0, "digit": 1, "ink": 0}
    assert after["seg"] < 1 and after["depth"] > 1e-3 and after["digit"] < 1 and after["ink"] > 1e-3
    again = make(estimator, eps=0.3, max_iter=10, verbose=False).generate(x)
    assert np.array_equal(found, again), "the noise that starts it is seeded"


def test_regression_only_models_without_labels(net, data):
    x, _ = data
    estimator = PyTorchMultiTaskEstimator(
        net, [tasks.regression("ink"), tasks.depth("depth")], input_shape=SHAPE, clip_values=(0, 1), device_type="cpu"
    )
    own = estimator.own_labels(x)
    for make in CLASSES:
        found = make(estimator, eps=0.05, max_iter=10, verbose=False).generate(x)
        assert all(value > 1e-3 for value in losses(estimator, found, own).values())


@pytest.mark.parametrize("method", list(METHODS))
def test_targeted_comes_nearer_to_the_targets(method, estimator, data):
    x, y = data
    found = MultiTaskPGD(estimator, method, eps=0.1, max_iter=10, targeted=True, verbose=False).generate(x, y)
    before, after = losses(estimator, x, y), losses(estimator, found, y)
    assert sum(after.values()) < sum(before.values())


def test_all_label_forms_give_the_same(estimator, data):
    x, y = data
    attack = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=3, verbose=False)
    expected = attack.generate(x, y)
    rows = [{name: values[i] for name, values in y.items()} for i in range(len(x))]
    objects = np.empty(len(x), dtype=object)
    objects[:] = rows
    dtype = [(name, values.dtype, values.shape[1:]) for name, values in y.items()]
    structured = np.zeros(len(x), dtype=dtype)
    for name, values in y.items():
        structured[name] = values
    one_hot = {**y, "digit": np.eye(4)[y["digit"]]}
    tensors = {name: torch.from_numpy(values) for name, values in y.items()}
    for form in (MultiTaskLabels(y), rows, objects, structured, one_hot, tensors):
        assert np.array_equal(expected, attack.generate(x, form))


def test_missing_labels_are_out_of_play_with_one_warning(estimator, data):
    x, y = data
    rows = [{name: values[i] for name, values in y.items()} for i in range(len(x))]
    rows[2]["depth"] = None
    del rows[4]["depth"]
    seen = []
    attack = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=4, verbose=False)
    attack.observer = seen.append
    with pytest.warns(RuntimeWarning, match=r"'depth' has no valid label on sample\(s\) \[2, 4\]") as caught:
        found = attack.generate(x, rows)
    assert len(caught) == 1 and np.isfinite(found).all()
    for record in seen:
        assert (record.weights[[2, 4], 1] == 0).all()
        torch.testing.assert_close(record.weights.sum(1), torch.ones(6))
    without = {name: values for name, values in rows[2].items() if name != "depth"}
    three = PyTorchMultiTaskEstimator(
        estimator.model,
        [task for task in estimator.tasks if task.name != "depth"],
        input_shape=SHAPE,
        clip_values=(0, 1),
        device_type="cpu",
    )
    alone = MinMaxMultiTaskPGD(three, eps=0.1, max_iter=4, verbose=False).generate(x[2:3], [without])
    np.testing.assert_allclose(found[2:3], alone, atol=1e-6)


def test_a_sample_with_nan_outputs_ends_feasibly_with_one_warning(estimator, net, data):
    x, y = data
    expected = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=4, verbose=False).generate(x, y)
    net.poison = 3
    with pytest.warns(RuntimeWarning, match=r"not finite for sample\(s\) \[3\]") as caught:
        found = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=4, verbose=False).generate(x, y)
    assert len(caught) == 1
    assert np.array_equal(found[3], x[3])
    others = [0, 1, 2, 4, 5]
    assert np.array_equal(found[others], expected[others])


def test_one_warning_names_all_samples_of_all_batches(estimator, net, data):
    x, y = data
    net.poison = 1
    with pytest.warns(RuntimeWarning, match=r"sample\(s\) \[1, 3, 5\]") as caught:
        MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=2, batch_size=2, verbose=False).generate(x, y)
    assert len(caught) == 1


def test_a_container_may_be_a_batch_without_any_label_of_a_task(estimator, data):
    x, y = data
    labels = MultiTaskLabels(y, {"ink": np.array([True] * 4 + [False] * 2)})
    with pytest.warns(RuntimeWarning, match="'ink' has no valid label"):
        for make in CLASSES:
            found = make(estimator, eps=0.1, max_iter=3, verbose=False).generate(x[4:], labels[4:])
            assert np.isfinite(found).all() and not np.array_equal(found, x[4:])


def test_eps_per_sample_and_per_pixel(estimator, data):
    x, y = data
    per_sample = np.linspace(0.01, 0.06, 6, dtype=np.float32).reshape(6, 1, 1, 1)
    arguments = {"max_iter": 6, "batch_size": 4, "verbose": False}
    found = MultiTaskPGD(estimator, eps=per_sample, eps_step=per_sample / 2, **arguments).generate(x, y)
    size = np.abs(found - x).max((1, 2, 3))
    np.testing.assert_allclose(size, per_sample.ravel(), rtol=1e-4)
    per_pixel = np.zeros((8, 8), dtype=np.float32) + 0.01
    per_pixel[:4] = 0.05
    found = MultiTaskPGD(estimator, eps=per_pixel, max_iter=6, verbose=False).generate(x, y)
    assert np.abs(found - x)[:, :, 4:].max() <= 0.01 + 1e-7 < np.abs(found - x)[:, :, :4].max()
    found = MultiTaskPGD(estimator, norm=2, eps=10 * per_sample, max_iter=6, verbose=False).generate(x, y)
    assert (np.linalg.norm((found - x).reshape(6, -1), axis=1) <= 10 * per_sample.ravel() * (1 + 1e-5)).all()


def test_random_eps_keeps_eps_and_stays_below_it(estimator, data):
    x, y = data
    attack = MultiTaskPGD(estimator, eps=0.1, eps_step=0.05, max_iter=4, random_eps=True, verbose=False)
    np.random.seed(0)
    sizes = {round(float(np.abs(attack.generate(x, y) - x).max()), 6) for _ in range(4)}
    assert len(sizes) == 4 and max(sizes) <= 0.1 + 1e-6 and attack.eps == 0.1


def test_restarts_are_never_worse_than_the_first(estimator, data):
    x, y = data
    for method in ("equal", "minmax"):
        arguments = {"method": method, "eps": 0.1, "max_iter": 3, "seed": 5, "verbose": False}
        one = MultiTaskPGD(estimator, num_random_init=1, **arguments).generate(x, y)
        five = MultiTaskPGD(estimator, num_random_init=5, **arguments).generate(x, y)
        assert not np.array_equal(one, five)
        if method == "equal":
            total = [sum(estimator.compute_losses(found, y).values()) for found in (one, five)]
            assert (total[1] >= total[0] - 1e-5).all() and (total[1] > total[0] + 1e-5).any()


def test_random_start_draws_from_torch_unless_seeded(estimator, data):
    x, y = data
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=2, num_random_init=1, verbose=False)
    torch.manual_seed(3)
    first = attack.generate(x, y)
    second = attack.generate(x, y)
    torch.manual_seed(3)
    assert np.array_equal(first, attack.generate(x, y)) and not np.array_equal(first, second)
    seeded = MultiTaskPGD(estimator, eps=0.1, max_iter=2, num_random_init=1, seed=4, verbose=False)
    state = torch.get_rng_state()
    assert np.array_equal(seeded.generate(x, y), seeded.generate(x, y))
    assert torch.equal(state, torch.get_rng_state())


def test_worst_task_shares_weights_over_batches_and_forgets_between_calls(estimator, data):
    x, y = data
    seen = []
    attack = WorstTaskPGD(estimator, eps=0.1, max_iter=4, batch_size=3, verbose=False)
    attack.observer = seen.append
    first = attack.generate(x, y)
    assert np.array_equal(first, attack.generate(x, y))
    for record in seen:
        torch.testing.assert_close(record.weights.sum(1), torch.ones(3))
        assert (record.weights == record.weights[0]).all()
    alone = WorstTaskPGD(estimator, eps=0.1, max_iter=4, batch_size=3, weight_group=3, verbose=False)
    pieces = [alone.generate(x[part], {name: v[part] for name, v in y.items()}) for part in (slice(0, 3), slice(3, 6))]
    assert np.array_equal(alone.generate(x, y), np.concatenate(pieces)), "chunks know nothing of each other"
    assert not np.array_equal(first[3:], pieces[1]), "within a chunk the second batch knows of the first"


class Writer(SummaryWriter):
    """Records what it is told."""

    def __init__(self):
        self.calls, self.resets = [], 0

    def update(self, batch_id, global_step, **kwargs):
        self.calls.append((batch_id, global_step, kwargs))

    def reset(self):
        self.resets += 1


def test_summary_writer_gets_losses_and_weights_of_every_step(estimator, net, data):
    x, y = data
    writer = Writer()
    attack = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=3, batch_size=4, summary_writer=writer, verbose=False)
    attack.generate(x, y)
    assert net.forwards == 2 * 3, "logging costs no forward pass"
    assert [call[:2] for call in writer.calls] == [(b, t) for b in (0, 1) for t in (0, 1, 2)] and writer.resets == 1
    logged = writer.calls[0][2]
    expected = estimator.compute_losses(x[:4], {name: v[:4] for name, v in y.items()})
    for name in y:
        np.testing.assert_allclose(logged["losses"][name], expected[name], rtol=1e-5)
        np.testing.assert_allclose(logged["weights"][name], 0.25)


def test_tensorboard_files_are_written(estimator, data, tmp_path):
    pytest.importorskip("tensorboardX")
    x, y = data
    attack = WorstTaskPGD(estimator, eps=0.1, max_iter=3, summary_writer=str(tmp_path), verbose=False)
    attack.generate(x, y)
    attack.summary_writer.summary_writer.close()
    folders = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()]
    for kind in ("loss", "weight"):
        assert any(kind in folder and "depth" in folder for folder in folders), folders
    attack.set_params(summary_writer=False)
    assert attack.summary_writer is None


@pytest.mark.parametrize("make", CLASSES)
def test_art_conventions(make, estimator, data):
    attack = make(estimator, verbose=False)
    assert set(ProjectedGradientDescent.attack_params) <= set(make.attack_params)
    assert all(hasattr(attack, name) for name in make.attack_params)
    assert "norm=inf, eps=0.3, max_iter=100" in repr(attack)
    attack.set_params(eps=0.1, max_iter=2, norm=2)
    assert "norm=2, eps=0.1, max_iter=2" in repr(attack)
    assert attack.eps == 0.1 and attack.max_iter == 2
    with pytest.raises(ValueError, match="max_iter"):
        attack.set_params(max_iter=0, eps=0.7)
    assert attack.max_iter == 2 and attack.eps == 0.1
    with pytest.raises(ValueError, match=f"{make.__name__} has no option `epsilon`. Perhaps `eps`?"):
        attack.set_params(epsilon=0.1)
    assert not hasattr(attack, "epsilon")
    assert issubclass(BaseEstimator, make._estimator_requirements[0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"eps": 0}, "`eps`.*positive"),
        ({"eps": -0.1}, "`eps`.*positive"),
        ({"eps": float("nan")}, "`eps`.*finite"),
        ({"eps": np.array([])}, "`eps`"),
        ({"norm": 2, "eps": np.full((3, 8, 8), 0.1)}, "`eps`.*one number a sample"),
        ({"eps_step": 0.0}, "`eps_step`"),
        ({"eps": np.full((6, 1, 1, 1), 0.1), "eps_step": np.full((1, 1, 1), 0.1)}, "`eps_step`.*shape"),
        ({"norm": 3}, "`norm`"),
        ({"norm": "l7"}, "`norm`"),
        ({"max_iter": 0}, "`max_iter`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"num_random_init": -1}, "`num_random_init`"),
        ({"targeted": "yes"}, "`targeted`"),
        ({"verbose": 3}, "`verbose`"),
        ({"decay": -1.0}, "`decay`"),
        ({"schedule": "exponential"}, "`schedule`"),
        ({"keep": "worst"}, "`keep`"),
        ({"projection": "none"}, "`projection`"),
        ({"l1_step": "all"}, "`l1_step`"),
        ({"weight_scope": "epoch"}, "`weight_scope`"),
        ({"weight_group": 0}, "`weight_group`"),
        ({"objective": "log-loss"}, "`objective`"),
        ({"weighting": "equal"}, "`weighting`"),
        ({"weighting": (1.0,)}, "`weighting`"),
        ({"gamma": 1.0}, "`gamma`.*'equal'"),
        ({"decay": np.inf}, "`decay`.*finite number"),
        ({"weighting": (np.nan, 1.0, 1.0, 1.0)}, "`weighting`"),
        ({"norm": 2, "eps": np.full(6, 0.1)}, "`eps`.*one number a sample"),
        ({"objective": "population", "weight_scope": "sample"}, "objective=population.*'dataset'.*'sample'"),
    ],
)
def test_bad_arguments_are_named(arguments, message, estimator):
    with pytest.raises(ValueError, match=message):
        MultiTaskPGD(estimator, **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"max_iter": 2.5}, "`max_iter`.*integer.*2.5"),
        ({"norm": np.array([1, 2])}, "`norm`"),
        ({"seed": 1.5}, "`seed`"),
        ({"weight_group": 2.5}, "`weight_group`.*integer"),
        ({"max_iter": "ten"}, "`max_iter`.*integer.*'ten'"),
        ({"max_iter": True}, "`max_iter`.*integer.*True"),
        ({"num_random_init": 1.0}, "`num_random_init`.*integer.*1.0"),
        ({"method": "minmax", "gamma": "1"}, "`gamma`.*finite number.*'1'"),
        ({"eps": "0.1"}, "`eps`.*str"),
        ({"eps": True}, "`eps`.*bool"),
        ({"eps_step": [0.1]}, "`eps_step`.*list"),
        ({"eps_step": np.full((6, 1, 1, 1), 0.1)}, r"`eps_step` and `eps`.*\(6, 1, 1, 1\) and \(\)"),
        ({"eps": np.full((6, 1, 1, 1), 0.1), "eps_step": 0.1}, r"`eps_step` and `eps`.*\(\) and \(6, 1, 1, 1\)"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(arguments, message, estimator):
    with pytest.raises(TypeError, match=message):
        MultiTaskPGD(estimator, **arguments)


def test_bad_names_are_named(estimator):
    with pytest.raises(ValueError, match="`method`.*Found 'minimax'.*'minmax'"):
        MultiTaskPGD(estimator, "minimax")
    with pytest.raises(ValueError, match="single:depht.*'seg', 'depth', 'digit', 'ink'"):
        MultiTaskPGD(estimator, "single:depht")
    with pytest.raises(ValueError, match="`variant` should be one of paper, official. Found 'published'"):
        MinMaxMultiTaskPGD(estimator, "published")
    with pytest.raises(EstimatorError, match="MultiTaskPGD requires an estimator .*PyTorchMultiTaskEstimator.*Linear"):
        MultiTaskPGD(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="`method`.*0.1"):
        MultiTaskPGD(estimator, 0.1)


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda x, y: (x[0], y), ValueError, "`x`.*shape"),
        (lambda x, y: (x[:0], y), ValueError, "`x`.*at least one sample"),
        (lambda x, y: (x[:, :2], y), ValueError, "`x`.*shape"),
        (lambda x, y: ((255 * x).astype(np.uint8), y), TypeError, "`x`.*uint8"),
        (lambda x, y: (2 * x, y), ValueError, "`clip_values`"),
        (lambda x, y: (np.where(x > 0.5, np.nan, x), y), ValueError, "`x`.*finite"),
        (lambda x, y: (torch.from_numpy(x), y), TypeError, "`x`.*Tensor"),
        (lambda x, y: (x, {**y, "dept": y["depth"]}), ValueError, "unknown: .*dept"),
        (lambda x, y: (x, {n: v for n, v in y.items() if n != "ink"}), ValueError, "missing: .*ink"),
        (lambda x, y: (x, {n: v[:3] for n, v in y.items()}), ValueError, "6 samples"),
        (lambda x, y: (x, {**y, "seg": y["seg"] + 1}), ValueError, "'seg'.*\\[0, 3\\]"),
        (lambda x, y: (x, {**y, "seg": y["seg"][:, 0]}), ValueError, "'seg'.*shape"),
        (lambda x, y: (x, {**y, "seg": y["seg"] + 0.5}), TypeError, "'seg'.*fractions"),
        (lambda x, y: (x, {**y, "depth": np.where(y["depth"] > 1, np.inf, y["depth"])}), ValueError, "'depth'.*inf"),
        (lambda x, y: (x, {**y, "depth": 0 * y["depth"]}), ValueError, "'depth'.*at least one sample"),
        (lambda x, y: (x, {**y, "depth": (y["depth"], np.zeros(6, bool))}), ValueError, "'depth'.*at least one"),
        (lambda x, y: (x, 7), TypeError, "Labels of the tasks"),
        (lambda x, y: (x, {**y, "depth": y["depth"][:, :, :4]}), ValueError, "output for task 'depth'"),
    ],
)
def test_bad_inputs_are_named_before_any_work(change, error, message, estimator, net, data):
    x, y = change(*data)
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        warnings.simplefilter("error")
        MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=3, verbose=False).generate(x, y)
    assert net.forwards <= 1 and all(p.requires_grad for p in net.parameters())


def test_targeted_needs_labels_and_generate_knows_its_keywords(estimator, data):
    x, y = data
    with pytest.raises(ValueError, match="target labels"):
        MultiTaskPGD(estimator, targeted=True).generate(x)
    with pytest.raises(TypeError, match="'masks'"):
        MultiTaskPGD(estimator).generate(x, y, masks=None)
    with pytest.raises(ValueError, match="`mask`.*finite"):
        MultiTaskPGD(estimator).generate(x, y, mask=np.full(x.shape, np.nan))
    with pytest.raises(ValueError, match="`mask`.*broadcastable"):
        MultiTaskPGD(estimator).generate(x, y, mask=np.ones((5, 5)))


def test_array_clip_values(net, data):
    x, y = data
    low, high = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    high[0], low[1] = 0.6, 0.3
    estimator = PyTorchMultiTaskEstimator(
        net,
        [tasks.segmentation("seg", 4), tasks.regression("ink")],
        input_shape=SHAPE,
        clip_values=(low, high),
        device_type="cpu",
    )
    x = np.clip(x, low, high)
    for norm, eps in ((np.inf, 0.3), (2, 3.0), (1, 20.0)):
        found = WorstTaskPGD(estimator, norm=norm, eps=eps, max_iter=5, verbose=False).generate(
            x, {name: y[name] for name in ("seg", "ink")}
        )
        assert (found >= low).all() and (found <= high).all() and not np.array_equal(found, x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("make", CLASSES)
def test_cuda_equals_cpu(make, net, estimator, data):
    import copy

    x, y = data
    on_gpu = PyTorchMultiTaskEstimator(
        copy.deepcopy(net), list(estimator.tasks), input_shape=SHAPE, clip_values=(0, 1), device_type="gpu"
    )
    assert on_gpu.device.type == "cuda"
    arguments = {"norm": 2, "eps": 0.5, "max_iter": 3, "verbose": False}
    cpu = make(estimator, **arguments).generate(x, y)
    np.testing.assert_allclose(cpu, make(on_gpu, **arguments).generate(x, y), atol=1e-3)
