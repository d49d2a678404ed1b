"""Both protocols of metrics against plain re-derivations and outside references, where they differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchmetrics
from sklearn.metrics import confusion_matrix, mean_absolute_error

from art_mtl import MultiTaskLabels, PyTorchMultiTaskEstimator, tasks
from art_mtl.attacks import MultiTaskPGD
from art_mtl.evaluation import Results, evaluate, make_table, to_markdown
from art_mtl.evaluation.measure import batch_average, protocol_labels
from art_mtl.evaluation.report.layout import to_text
from art_mtl.zoo.victims import Victim

SIZE, CLASSES = 10, 4


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv2d(3, CLASSES + 1 + 3 + 1, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        seg, depth, normals, disparity = self.conv(x).split([CLASSES, 1, 3, 1], 1)
        normals = torch.nn.functional.normalize(normals, dim=1)
        return {"seg": seg, "depth": 2 + depth, "normals": normals, "disparity": 3 + disparity}


@pytest.fixture
def estimator() -> PyTorchMultiTaskEstimator:
    return PyTorchMultiTaskEstimator(
        Net(),
        tasks=[
            tasks.segmentation("seg", CLASSES),
            tasks.depth("depth"),
            tasks.surface_normals("normals"),
            tasks.disparity("disparity"),
        ],
        input_shape=(3, 6, 8),
        clip_values=(-1.0, 1.0),
        device_type="cpu",
    )


@pytest.fixture
def data() -> tuple[np.ndarray, MultiTaskLabels]:
    """From one valid pixel an image to all of them; the batches of 4 are 0-3, 4-7 and 8-9. Some normals sum to 0."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (SIZE, 3, 6, 8)).astype(np.float32)
    hole = rng.random((SIZE, 1, 6, 8)) < np.linspace(0, 0.97, SIZE)[rng.permutation(SIZE), None, None, None]
    hole[:, :, 5, 7] = False
    normals = rng.standard_normal((SIZE, 3, 6, 8))
    normals[:, :, :2] = np.array([1.0, -1.0, 0.0])[:, None, None]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    depth, disparity = rng.uniform(0.5, 9, (2, SIZE, 1, 6, 8))
    y = {
        "seg": np.where(hole[:, 0], -1, rng.integers(0, CLASSES, (SIZE, 6, 8))),
        "depth": np.where(hole, 0, depth).astype(np.float32),
        "normals": np.where(hole, 0, normals).astype(np.float32),
        "disparity": np.where(hole, -1, disparity).astype(np.float32),
    }
    return x, MultiTaskLabels(y)


def plain(raw: MultiTaskLabels, y: MultiTaskLabels, protocol: str) -> list[float]:
    """mIoU of one confusion matrix; then each error, pixel by pixel with NumPy."""
    seg = np.asarray(y["seg"])
    matrix = confusion_matrix(seg[seg != -1], raw["seg"].argmax(1)[seg != -1], labels=range(CLASSES))
    hit = np.diag(matrix)
    found = [float((hit / (matrix.sum(0) + matrix.sum(1) - hit)).mean())]
    for name in ("depth", "normals", "disparity"):
        truth, output = np.asarray(y[name], np.float64), np.asarray(raw[name], np.float64)
        if name == "normals":
            error = np.degrees(np.arccos(np.clip((truth * output).sum(1), -1, 1)))
            valid = np.asarray(y[name]).sum(1) != 0 if protocol == "auto-lambda" else (truth != 0).any(1)
        else:
            error = np.abs(truth - output)[:, 0]
            valid = truth[:, 0] != (-1 if name == "disparity" else 0)
        if protocol == "pooled":
            found.append(float(error[valid].mean()))
            continue
        weighted = 0.0
        for first in range(0, SIZE, 4):
            batch = slice(first, first + 4)
            weighted += error[batch][valid[batch]].mean() * len(error[batch])
        found.append(weighted / SIZE)
    return found


@pytest.mark.parametrize("batch_size", [3, 4, 100])
@pytest.mark.parametrize("protocol", ["pooled", "auto-lambda"])
def test_metrics_are_those_of_a_plain_re_derivation(estimator, data, protocol, batch_size) -> None:
    x, y = data
    attack = MultiTaskPGD(estimator, "equal", eps=0.1, max_iter=2, verbose=False)
    results = evaluate(estimator, [attack], data, batch_size=batch_size, protocol=protocol, progress=False).results
    x_adv = attack.generate(x, protocol_labels(estimator.tasks, y, protocol))
    clean = plain(estimator.predict(x), y, protocol)
    attacked = plain(estimator.predict(x_adv), y, protocol)
    assert [task.clean for task in results.tasks] == pytest.approx(clean, rel=1e-5)
    assert results["equal"].values == pytest.approx(attacked, rel=1e-5)
    deltas = [(attacked[0] - clean[0]) / clean[0], *((b - m) / m for m, b in zip(attacked[1:], clean[1:], strict=True))]
    assert results["equal"].deltas == pytest.approx(deltas, rel=1e-4, abs=1e-6)
    other = plain(estimator.predict(x), y, "pooled" if protocol == "auto-lambda" else "auto-lambda")
    assert other[0] == clean[0]
    assert min(abs(a / b - 1) for a, b in zip(other[1:], clean[1:], strict=True)) > 0.001, "the protocols do differ"


def test_pooled_is_what_scikit_learn_and_torchmetrics_say(estimator, data) -> None:
    x, y = data
    raw, depth = estimator.predict(x), np.asarray(y["depth"])
    results = evaluate(estimator, "equal", data, eps=[0.1], steps=1, progress=False).results
    expected = mean_absolute_error(depth[depth != 0], raw["depth"][depth != 0])
    assert results.tasks[1].clean == pytest.approx(expected, rel=1e-6)
    metric = torchmetrics.MeanAbsoluteError()
    for i in range(SIZE):
        metric.update(torch.tensor(raw["depth"][i][depth[i] != 0]), torch.tensor(depth[i][depth[i] != 0]))
    assert results.tasks[1].clean == pytest.approx(float(metric.compute()), rel=1e-6)


def test_auto_lambda_is_torchmetrics_batch_by_batch(estimator, data) -> None:
    x, y = data
    raw, depth = estimator.predict(x), np.asarray(y["depth"])
    mean = torchmetrics.MeanMetric()
    for first in range(0, SIZE, 4):
        batch = slice(first, first + 4)
        valid = depth[batch] != 0
        own = torchmetrics.MeanAbsoluteError()
        own.update(torch.tensor(raw["depth"][batch][valid]), torch.tensor(depth[batch][valid]))
        mean.update(own.compute(), len(valid))
    results = evaluate(estimator, "equal", data, eps=[0.1], steps=1, protocol="auto-lambda", progress=False).results
    assert results.tasks[1].clean == pytest.approx(float(mean.compute()), rel=1e-5)


def test_a_batch_without_a_valid_place_does_not_count() -> None:
    metric = tasks.depth("d").metric
    statistics = torch.tensor([[8.0, 4.0]] * 4 + [[0.0, 0.0]] * 4 + [[3.0, 1.0]])
    assert batch_average(metric.value, statistics).item() == pytest.approx((2 * 4 + 3 * 1) / 5)
    assert batch_average(metric.value, torch.zeros(4, 2)).isnan()


class Recorder:
    """An attack that keeps the labels that it is given."""

    def generate(self, x: np.ndarray, y: MultiTaskLabels | None = None) -> np.ndarray:
        self.y = y
        return x


def test_attack_and_metrics_agree_about_what_counts(estimator, data) -> None:
    x, y = data
    before = y.copy()
    recorder = Recorder()
    evaluate(estimator, [recorder], data, protocol="auto-lambda", progress=False)
    lost = (np.asarray(y["normals"]).sum(1) == 0) & np.asarray(y["normals"]).any(1)
    seen = np.asarray(recorder.y["normals"])
    assert lost.sum() > 20 and not seen.any(1)[lost].any()
    np.testing.assert_array_equal(np.where(lost[:, None], 0, y["normals"]), seen)
    evaluate(estimator, [recorder], data, progress=False)
    for name in y.names:
        np.testing.assert_array_equal(recorder.y[name], before[name])
        np.testing.assert_array_equal(y[name], before[name]), "the user's labels stay"


def test_results_and_tables_say_the_protocol(estimator, data) -> None:
    for protocol, words in (("pooled", "pooled over the data set"), ("auto-lambda", "protocol auto-lambda")):
        results = evaluate(
            estimator, "equal", data, eps=[0.1], steps=1, protocol=protocol, limit=4, progress=False
        ).results
        assert Results.from_json_text(results.to_json_text()).protocol == protocol
        assert words in make_table(results).caption and words in to_text(make_table(results), width=400)
    assert to_markdown(make_table(results)).startswith("| method |")


def test_an_unknown_protocol_is_named_before_any_work(estimator, data) -> None:
    class Never:
        def generate(self, x, y=None):
            raise AssertionError

    with pytest.raises(ValueError, match=r"`protocol` should be one of pooled, auto-lambda. Found 'mean'"):
        evaluate(estimator, [Never()], data, protocol="mean", progress=False)
    victim = Victim("v", Net(), estimator.tasks, (3, 6, 8), (-1.0, 1.0), lambda split, limit: data)
    with pytest.raises(ValueError, match="`protocol`"):
        evaluate(victim, ["equal"], eps=[0.1], protocol="mean", progress=False)


def test_a_benchmark_takes_protocol_and_split(estimator, data) -> None:
    asked = []

    def read(split: str, limit: int | None) -> tuple[np.ndarray, MultiTaskLabels]:
        asked.append(split)
        return data

    victim = Victim("v", Net(), list(estimator.tasks), (3, 6, 8), (-1.0, 1.0), read)
    found = evaluate(
        victim, ["equal"], eps=[0.1], steps=1, protocol="auto-lambda", split="train", progress=False
    ).results
    expected = plain(estimator.predict(data[0]), data[1], "auto-lambda")
    assert [task.clean for task in found.tasks] == pytest.approx(expected, rel=1e-5)
    assert asked == ["train"] and found.protocol == "auto-lambda"
