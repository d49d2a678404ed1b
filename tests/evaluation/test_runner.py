"""The runner: metrics against outside references, checks of what attacks return, what it tells about the steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics
from art.estimators.classification import PyTorchClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, mean_absolute_error

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MinMaxMultiTaskPGD, MultiTaskAutoAttack, MultiTaskAutoPGD, MultiTaskPGD, WorstTaskPGD
from art_mtl.core import METHODS
from art_mtl.core.methods import descriptions, spec_of
from art_mtl.evaluation import Callback, evaluate
from art_mtl.evaluation.checks import check_perturbation
from art_mtl.evaluation.grid import GridCell, make_attack, plan_grid, plan_radii
from art_mtl.evaluation.step_recorder import seeded
from art_mtl.zoo.victims import Victim

SIZE = 7
pytestmark = pytest.mark.filterwarnings("ignore:Task 'kind' has no valid label:RuntimeWarning")


class Net(torch.nn.Module):
    """Segmentation into 3 classes, depth, a class and two values."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.head = torch.nn.Linear(3 * 6 * 8, 6)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dense, flat = self.conv(x), self.head(x.flatten(1))
        return {"seg": 3 * dense[:, :3], "depth": 1 + dense[:, 3:], "kind": 3 * flat[:, :4], "pose": flat[:, 4:]}


@pytest.fixture
def estimator() -> PyTorchMultiTaskEstimator:
    return PyTorchMultiTaskEstimator(
        Net(),
        tasks=[
            tasks.segmentation("seg", num_classes=3),
            tasks.depth("depth"),
            tasks.classification("kind", num_classes=4),
            tasks.regression("pose"),
        ],
        input_shape=(3, 6, 8),
        clip_values=(-1.0, 1.0),
        device_type="cpu",
    )


@pytest.fixture
def data(estimator: PyTorchMultiTaskEstimator) -> tuple[np.ndarray, MultiTaskLabels]:
    """Labels near the model's own answers, with invalid pixels; sample 2 has no class."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (SIZE, 3, 6, 8)).astype(np.float32)
    raw = estimator.predict(x)
    seg = raw["seg"].argmax(1)
    seg[:, 0] = rng.integers(-1, 3, seg[:, 0].shape)
    depth = np.where(rng.random((SIZE, 1, 6, 8)) < 0.1, 0, raw["depth"] + 0.1).astype(np.float32)
    kind = raw["kind"].argmax(1)
    kind[0] = (kind[0] + 1) % 4
    present = np.arange(SIZE) != 2
    labels = MultiTaskLabels({"seg": seg, "depth": depth, "kind": kind, "pose": raw["pose"] + 0.2}, {"kind": present})
    return x, labels


def reference_iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    matrix = confusion_matrix(truth, predicted, labels=range(3)).astype(float)
    hit = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return float((hit[union > 0] / union[union > 0]).mean())


def reference_metrics(estimator: PyTorchMultiTaskEstimator, x: np.ndarray, y: MultiTaskLabels) -> list[float]:
    raw = estimator.predict(x)
    seg, depth, present = np.asarray(y["seg"]), np.asarray(y["depth"]), y.present("kind")
    return [
        reference_iou(seg[seg >= 0], raw["seg"].argmax(1)[seg >= 0]),
        mean_absolute_error(depth[depth != 0], raw["depth"][depth != 0]),
        accuracy_score(np.asarray(y["kind"])[present], raw["kind"].argmax(1)[present]),
        mean_absolute_error(y["pose"], raw["pose"]),
    ]


def reference_deltas(attacked: list[float], clean: list[float]) -> list[float]:
    higher = [True, False, True, False]
    return [(m - b) / b if up else (b - m) / m for m, b, up in zip(attacked, clean, higher, strict=True)]


@pytest.mark.parametrize("batch_size", [2, 100])
def test_metrics_and_degradations_agree_with_scikit_learn(estimator, data, batch_size) -> None:
    x, y = data
    attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=3, verbose=False)
    results = evaluate(estimator, {"mine": attack}, data, batch_size=batch_size, progress=False).results
    clean = reference_metrics(estimator, x, y)
    attacked = reference_metrics(estimator, attack.generate(x, y), y)
    deltas = reference_deltas(attacked, clean)
    row = results["mine"]
    assert [task.clean for task in results.tasks] == pytest.approx(clean, rel=1e-5)
    assert row.values == pytest.approx(attacked, rel=1e-5)
    assert row.deltas == pytest.approx(deltas, rel=1e-4)
    assert row.delta_mtl == pytest.approx(np.mean(deltas), rel=1e-4)
    assert row.delta_wor == pytest.approx(max(deltas), rel=1e-4)
    assert (row.norm, row.eps, row.steps, row.samples, row.method) == ("linf", 0.1, 3, SIZE, "equal")
    assert row.perturbation == pytest.approx(0.1, rel=1e-5)


def test_per_sample_figures_are_those_of_the_sample_alone(estimator, data) -> None:
    x, y = data
    attack = MultiTaskPGD(estimator, "equal", eps=0.2, max_iter=3, verbose=False)
    row = evaluate(estimator, {"mine": attack}, data, progress=False).results["mine"]
    x_adv = attack.generate(x, y)
    for i in (1, 3, 6):
        alone = slice(i, i + 1)
        attacked = reference_metrics(estimator, x_adv[alone], y[alone])
        assert row.sample_values[i] == pytest.approx(attacked, rel=1e-5)
        expected = reference_deltas(attacked, reference_metrics(estimator, x[alone], y[alone]))
        assert row.sample_deltas[i] == pytest.approx(expected, rel=1e-4)


def test_what_is_undefined_for_a_sample_is_none(estimator, data) -> None:
    attack = MultiTaskPGD(estimator, "equal", eps=0.05, max_iter=1, verbose=False)
    results = evaluate(estimator, [attack], data, progress=False).results
    row = results["equal"]
    assert results.tasks[2].sample_clean[2] is None
    assert row.sample_values[2][2] is None and row.sample_deltas[2][2] is None  # no label
    assert row.sample_values[0][2] is not None and row.sample_deltas[0][2] is None  # wrong when clean
    least = [min(0.0, max(d for d in deltas if d is not None)) for deltas in row.sample_deltas]
    assert row.least_degradation == pytest.approx(np.mean(least))


def test_a_clean_score_of_zero_is_warned_of_and_left_out(estimator, data) -> None:
    x, y = data
    wrong = (estimator.predict(x)["kind"].argmax(1) + 1) % 4
    y = MultiTaskLabels({**{name: y[name] for name in y.names}, "kind": wrong})
    attack = MultiTaskPGD(estimator, "equal", eps=0.05, max_iter=1, verbose=False)
    with pytest.warns(RuntimeWarning, match="'kind' is 0 on clean inputs"):
        row = evaluate(estimator, [attack], (x, y), progress=False).results["equal"]
    assert row.deltas[2] is None
    defined = [delta for delta in row.deltas if delta is not None]
    assert len(defined) == 3 and row.delta_wor == max(defined)


def test_every_form_of_data_gives_the_same(estimator, data) -> None:
    x, y = data
    rows = [
        (torch.tensor(x[i]), {n: (torch.as_tensor(y[n][i]) if y.present(n)[i] else None) for n in y.names})
        for i in range(SIZE)
    ]
    attack = WorstTaskPGD(estimator, eps=0.05, max_iter=2, verbose=False)
    arrays = evaluate(estimator, [attack], data, limit=4, progress=False).results
    mapped = evaluate(estimator, [attack], rows, limit=4, progress=False).results
    assert arrays.samples == 4
    assert arrays.tasks == mapped.tasks
    assert arrays["worst-task"].sample_deltas == mapped["worst-task"].sample_deltas


def test_weights_and_losses_of_every_step_are_means_over_all_batches(estimator, data) -> None:
    x, y = data
    records = []
    attack = MinMaxMultiTaskPGD(estimator, eps=0.1, max_iter=4, batch_size=3, verbose=False, weight_step=1.0)
    attack.observer = records.append
    watching = Callback()
    watching.losses_every = 1
    row = evaluate(estimator, [attack], data, callbacks=[watching], progress=False).results["minmax"]
    assert attack.observer == records.append  # put back, and told as well
    assert len(records) == 4 * 3
    weights = np.stack([np.concatenate([r.weights for r in records if r.step == t]).mean(0) for t in range(4)])
    losses = np.stack([np.concatenate([r.losses for r in records if r.step == t]).mean(0) for t in range(4)])
    np.testing.assert_allclose(np.array(row.weights), weights, rtol=1e-5)
    np.testing.assert_allclose(np.array(row.losses), losses, rtol=1e-5)


def test_the_observer_is_put_back_after_a_failure(estimator, data) -> None:
    class Broken:
        observer = None

        def generate(self, x, y=None):
            raise RuntimeError("no")

    attack = Broken()
    with pytest.raises(RuntimeError, match="no"):
        evaluate(estimator, [attack], data, progress=False)
    assert attack.observer is None


def test_art_s_own_attack_is_taken(estimator, data) -> None:
    from art.attacks.evasion import FastGradientMethod

    attack = FastGradientMethod(estimator, norm=np.inf, eps=0.05)
    row = evaluate(estimator, [attack], data, progress=False).results["FastGradientMethod"]
    assert (row.norm, row.eps, row.weights) == ("linf", 0.05, None)
    assert row.perturbation == pytest.approx(0.05, rel=1e-4)
    assert row.delta_mtl < 0


class Returns:
    """An attack that returns what it is told to."""

    norm, eps = np.inf, 0.1

    def __init__(self, change) -> None:
        self.change = change

    def generate(self, x, y=None):
        return self.change(x.copy())


def outlier(x: np.ndarray) -> np.ndarray:
    x[1, 0, 0, 0] += 0.15 if x[1, 0, 0, 0] < 0 else -0.15
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-1], r"should return inputs of shape \(7, 3, 6, 8\). Found \(6, 3, 6, 8\)"),
        (lambda x: np.where(x == x.max(), np.nan, x), "should return finite inputs. Found NaN"),
        (lambda x: x + np.float32(3), r"inside `clip_values`, \[-1, 1\]. Found"),
        (outlier, r"within eps = 0.1 \(linf\). Found a perturbation of 0.15"),
    ],
)
def test_a_broken_promise_is_an_error_that_names_the_attack(estimator, data, change, message) -> None:
    with pytest.raises(ValueError, match=f"Attack 'bad'.*{message}"):
        evaluate(estimator, {"bad": Returns(change)}, data, progress=False)


@pytest.mark.parametrize(("norm", "order"), [(2, 2), (1, 1), ("L2", 2)])
def test_norms_are_checked_per_sample(norm, order) -> None:
    rng = np.random.default_rng(0)
    x, delta = np.zeros((3, 4, 5)), rng.normal(size=(3, 4, 5))
    delta /= np.linalg.norm(delta.reshape(3, -1), ord=order, axis=1)[:, None, None]
    attack = Returns(None)
    attack.norm, attack.eps = norm, np.array([1.0, 2.0, 0.5]).reshape(3, 1, 1)
    assert check_perturbation("a", attack, x, x + delta * attack.eps, None) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="within eps = 0.5"):
        check_perturbation("a", attack, x, x + delta * np.array([1.0, 2.0, 0.6]).reshape(3, 1, 1), None)


@pytest.mark.parametrize("sample", [0, 40, 69])
def test_every_sample_of_a_large_set_is_checked(sample) -> None:
    x = np.zeros((70, 2, 3))
    attack = Returns(None)
    attack.norm, attack.eps = np.inf, np.linspace(0.1, 0.5, 70).reshape(70, 1, 1)
    bounds = (np.full((2, 3), -1.0), np.full((2, 3), 1.0))
    fine = x + attack.eps
    assert check_perturbation("a", attack, x, fine, bounds) == pytest.approx(0.5)
    for bad, message in (
        (np.nan, f"first in sample {sample}"),
        (2.0, "inside `clip_values`"),
        (0.9, f"within eps = {attack.eps[sample, 0, 0]:.6g} .*perturbation of 0.9"),
    ):
        spoilt = fine.copy()
        spoilt[sample, 1, 2] = bad
        with pytest.raises(ValueError, match=message):
            check_perturbation("a", attack, x, spoilt, bounds)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 255.0)])
def test_the_range_is_kept_to_rounding(bounds) -> None:
    """A millionth of the range is forgiven, ten millionths are not."""
    low, high = bounds
    x = np.full((2, 3), (low + high) / 2)
    attack = Returns(None)
    attack.eps = None
    for end, sign in ((low, -1), (high, 1)):
        size = max(1.0, abs(end))
        check_perturbation("a", attack, x, np.full_like(x, end + sign * 0.5e-6 * size), bounds)
        with pytest.raises(ValueError, match="inside `clip_values`"):
            check_perturbation("a", attack, x, np.full_like(x, end + sign * 1e-5 * max(abs(low), high)), bounds)


def test_names(estimator, data) -> None:
    attacks = [MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False) for _ in range(2)]
    with pytest.raises(ValueError, match="distinct names.*equal"):
        evaluate(estimator, attacks, data, progress=False)
    with pytest.raises(TypeError, match="An attack should be a name, or an object of art_mtl"):
        evaluate(estimator, {"x": object()}, data, progress=False)
    named = dict(zip("ab", attacks, strict=True))
    assert [attack.name for attack in evaluate(estimator, named, data, progress=False)] == ["a", "b"]


def test_a_seed_makes_random_starts_repeat_and_leaves_the_generators_alone(estimator, data) -> None:
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, num_random_init=1, verbose=False)
    torch.manual_seed(3)
    np.random.seed(3)
    expected = (torch.rand(1), np.random.rand())
    torch.manual_seed(3)
    np.random.seed(3)
    runs = [
        evaluate(estimator, [attack], data, seed=5, progress=False).results["equal"].sample_values for _ in range(2)
    ]
    assert (torch.rand(1), np.random.rand()) == expected
    assert runs[0] == runs[1]
    assert evaluate(estimator, [attack], data, seed=6, progress=False).results["equal"].sample_values != runs[0]


def test_progress_is_shown(estimator, data, capsys) -> None:
    attack = MultiTaskPGD(estimator, eps=0.1, max_iter=1, verbose=False)
    evaluate(estimator, [attack], data)
    assert "equal, linf 0.1" in capsys.readouterr().err


def test_the_torchmetrics_of_the_task_are_used(estimator, data) -> None:
    x, y = data
    metric = torchmetrics.classification.MulticlassJaccardIndex(num_classes=3, ignore_index=-1)
    metric.update(torch.as_tensor(estimator.predict(x)["seg"]), torch.as_tensor(y["seg"]))
    assert evaluate(estimator, "equal", data, eps=[0.1], steps=1, progress=False).results.tasks[0].clean == float(
        metric.compute()
    )


def test_grid() -> None:
    two = [tasks.depth("a"), tasks.depth("b")]
    cells = plan_grid(two, ["all"], {"linf": [0.1, 0.2], "l2": [1]}, ["published", "linear"])
    block = [cell for cell in cells if (cell.norm, cell.eps) == ("l2", 1)]
    assert [cell.name for cell in block[:4]] == ["single:a", "single:b", "equal", "equal + linear step"]
    assert block[-1] == GridCell("worst-task", "l2", 1)
    assert len(block) == 2 + 2 * 6 + 1 and len(cells) == 3 * len(block)
    with pytest.raises(ValueError, match="'equol'. Perhaps 'equal'"):
        plan_grid(two, ["equol"], {"l2": [1]})
    with pytest.raises(ValueError, match="`schedule` should be one of published, linear, cosine, restarts. Found"):
        plan_grid(two, ["equal"], {"l2": [1]}, ["constant"])


def test_every_cell_of_the_grid_makes_an_attack_of_its_name(estimator) -> None:
    for cell in plan_grid(estimator.tasks, ["all"], {"l2": [0.5]}, ["published", "linear"]):
        attack = make_attack(estimator, cell, steps=3, batch_size=2)
        assert (getattr(attack, "shown_as", attack.name), attack.eps, attack.norm, attack.max_iter) == (
            cell.method,
            0.5,
            2.0,
            3,
        )
        assert attack.schedule == ("linear" if spec_of(cell.method).is_reference else cell.schedule)


def test_restarts_give_baselines_our_step_two_starts_and_their_best_iterate(estimator) -> None:
    cells = plan_grid(estimator.tasks, ["equal", "worst-task"], {"l2": [0.5]}, ["restarts"])
    assert [cell.name for cell in cells] == ["equal + linear step, best of 2", "worst-task"]
    baseline, ours = (make_attack(estimator, cell, steps=3, batch_size=2) for cell in cells)
    assert (baseline.schedule, baseline.keep, baseline.num_random_init, baseline.max_iter) == ("linear", "best", 2, 3)
    assert (ours.schedule, ours.keep, ours.num_random_init) == (None, None, 0)


def test_the_ensemble_and_auto_pgd_are_cells_too(estimator) -> None:
    names = ["auto-pgd", "auto-attack", "auto-attack-fast"]
    cells = plan_grid(estimator.tasks, names, {"l2": [0.5]}, ["published", "linear"])
    assert [cell.name for cell in cells] == names
    auto, standard, fast = (make_attack(estimator, cell, steps=3, batch_size=2) for cell in cells)
    assert isinstance(auto, MultiTaskAutoPGD) and auto.max_iter == 3
    assert isinstance(standard, MultiTaskAutoAttack) and (standard.version, fast.version) == ("standard", "fast")


def test_every_method_is_described() -> None:
    families = {f"{family}:<task>" for family in ("single", "stealthy", "smta")} | {"jd:<aggregator>"}
    assert set(METHODS) | families | {"auto-pgd", "auto-attack", "auto-attack-fast"} == set(descriptions())
    assert descriptions()["auto-pgd"] == "worst-task under Auto-PGD's rule; not in 'all'"


def test_radii() -> None:
    victim = Victim("v", torch.nn.Identity(), [], (1,), (0.0, 1.0), lambda split, limit: None, eps={"linf": (0.1,)})
    assert plan_radii(victim) == {"linf": (0.1,)}
    assert plan_radii(victim, eps=[0.2, 0.2]) == {"linf": (0.2,)}
    assert plan_radii(victim, ["l2", "linf"], [1]) == {"l2": (1.0,), "linf": (1.0,)}
    for norms, eps, message in (
        (["l2"], None, "radii for l2"),
        (["l7"], None, "`norm` should be one of linf, l2, l1. Found"),
        (["l2"], {"l2": [1], "linf": [1]}, "should have radii of l2. Found one of linf"),
        (None, [-1.0], "positive and finite. Found -1"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_radii(victim, norms, eps)


def test_a_stock_classifier_is_a_model_of_one_task():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    classifier = PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), input_shape=(1, 4, 4), nb_classes=3, clip_values=(0, 1), device_type="cpu"
    )
    x = np.random.default_rng(0).uniform(size=(8, 1, 4, 4)).astype(np.float32)
    y = classifier.predict(x).argmax(1)
    sweep = [WorstTaskPGD(classifier, eps=eps, max_iter=3, verbose=False) for eps in (0.1, 0.5)]
    results = evaluate(classifier, sweep, (x, y), progress=False).results
    assert [task.name for task in results.tasks] == ["classification"]
    assert [attack.eps for attack in results.attacks] == [0.1, 0.5]
    assert results.attacks[1].delta_wor <= results.attacks[0].delta_wor <= 0 and results.attacks[1].delta_wor < 0
    with pytest.raises(ValueError, match="distinct names"):
        evaluate(classifier, [sweep[0], sweep[0]], (x, y), progress=False)
    targeted = WorstTaskPGD(classifier, eps=0.1, targeted=True, verbose=False)
    with pytest.raises(ValueError, match="untargeted"):
        evaluate(classifier, [targeted], (x, y), progress=False)
    with pytest.raises(TypeError, match="What is evaluated should be .* Found Sequential"):
        evaluate(net, [sweep[0]], (x, y), progress=False)


def test_seeding_leaves_the_other_gpus_of_a_host_alone(monkeypatch) -> None:
    """Without a list of devices, torch warns on a host of eight and looks at the generator of each."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    states = {3: torch.tensor([7])}
    seeded_gpus = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: seeded_gpus.append((device, state.item())))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded_gpus.append(("seed", seed)))
    before = torch.random.get_rng_state()
    with seeded(5):
        first = torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert seeded_gpus == [("seed", 5), (3, 7)]
    assert torch.equal(first, torch.rand(3, generator=torch.Generator().manual_seed(5)))
